"""Run inside an environment that holds the wheel: it holds one package, `harness`, with its data."""

from importlib.metadata import files
from pathlib import Path

names = {str(name) for name in files("dupmae-harness") or ()}
top = {name.split("/")[0] for name in names if not name.startswith("..") and ".dist-info" not in name}
if top != {"harness"}:
    raise SystemExit(f"the wheel's packages are {sorted(top)}")
for needed in (
    "harness/data/mini/corpus.jsonl",
    "harness/data/mini/README.md",
    "harness/reports/paper/data/table1.csv",
    "harness/reports/paper/data/table2.csv",
    "harness/reports/paper/data/table3.csv",
    "harness/data/baselines/mini.yaml",
    "harness/data/baselines/mini.csv",
    "harness/recipes/ablation/small.yaml",
    "harness/data/engines/elasticsearch.yaml",
    "harness/data/engines/opensearch.yaml",
    "harness/data/engines/solr.yaml",
    "harness/data/engines/vespa.yaml",
    "harness/data/cards/dupmae-mini.yaml",
    "harness/data/cards/retromae-mini.yaml",
    "harness/retrievers/lexical/log4j2.xml",
    "harness/retrievers/neural/catalog.yaml",
    "harness/__init__.pyi",
    "harness/py.typed",
):
    if needed not in names:
        raise SystemExit(f"the wheel lacks {needed}")
# whatever model is packed in the checkout is in the wheel whole
weights = Path(__file__).resolve().parents[2] / "models" / "data"
packed = [f"harness/models/data/{path.relative_to(weights)}" for path in sorted(weights.rglob("*")) if path.is_file()]
if absent := [name for name in packed if name not in names]:
    raise SystemExit(f"the wheel lacks {', '.join(absent)}")
print(f"packaged models: {len(packed)} files")
print(f"the wheel holds {len(names)} files in {', '.join(sorted(top))}")
