"""Run inside an environment that holds the wheel: it lists exactly the four packages, with their data."""

from importlib.metadata import files

names = {str(name) for name in files("dupmae-harness") or ()}
top = {name.split("/")[0] for name in names if not name.startswith("..") and ".dist-info" not in name}
if top != {"harness", "retrievers", "models", "reports"}:
    raise SystemExit(f"the wheel's packages are {sorted(top)}")
for needed in (
    "harness/data/mini/corpus.jsonl",
    "harness/data/mini/README.md",
    "reports/published/table1.csv",
    "reports/published/table2.csv",
    "reports/published/table3.csv",
    "harness/data/baselines/mini.yaml",
    "harness/data/baselines/mini.csv",
    "harness/recipes/ablation/small.yaml",
    "retrievers/log4j2.xml",
    "harness/__init__.pyi",
    "harness/py.typed",
):
    if needed not in names:
        raise SystemExit(f"the wheel lacks {needed}")
print(f"the wheel holds {len(names)} files in {', '.join(sorted(top))}")
