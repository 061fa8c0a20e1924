"""A toy collection whose words the small checkpoints know, and a run of it."""

from harness.runs.config import build
from harness.runs.runner import run

TEXTS = "red apples grow on trees|green pears|water runs to the sea|the bank is a river bank|money|fish|".split("|")
DOCS = [(f"d{number}", "a river" if number % 3 else "", text) for number, text in enumerate(TEXTS)]
QUERIES = [("q1", "what is a river bank"), ("q2", "apples")]
QRELS = {"test": [("q1", "d3", 2), ("q1", "d2", 1), ("q2", "d0", 1)]}


def go(tmp_path, folder, name, **options):
    config = {"retrievers": [{"name": name, "options": options}], "datasets": [str(folder)]}
    [outcome] = run(build({**config, "results": tmp_path / "results"}, "test"), ["test"])
    return outcome.record
