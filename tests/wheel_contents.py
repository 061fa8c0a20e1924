"""Run inside an environment that holds the wheel: it lists exactly the four packages, with their data."""

from importlib.metadata import files
from pathlib import Path

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
    "harness/data/cards/dupmae-mini.yaml",
    "harness/data/cards/retromae-mini.yaml",
    "retrievers/log4j2.xml",
    "harness/__init__.pyi",
    "harness/py.typed",
):
    if needed not in names:
        raise SystemExit(f"the wheel lacks {needed}")
# whatever model is packed in the checkout is in the wheel whole
weights = Path(__file__).resolve().parent.parent / "models" / "data"
packed = sorted(path.relative_to(weights.parent.parent).as_posix() for path in weights.rglob("*") if path.is_file())
if absent := [name for name in packed if name not in names]:
    raise SystemExit(f"the wheel lacks {', '.join(absent)}")
print(f"packaged models: {len(packed)} files")
print(f"the wheel holds {len(names)} files in {', '.join(sorted(top))}")
