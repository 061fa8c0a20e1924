"""The one loader: a user's name becomes the collections that it stands for."""

from pathlib import Path

from harness.datasets import loose_files
from harness.datasets.beir_folder import FolderSource, is_collection
from harness.datasets.dataset import Dataset
from harness.datasets.fields import Fields
from harness.datasets.hub.find import PREFIXES, find
from harness.datasets.ir_datasets_source import IrDatasetsSource, known_ids
from harness.datasets.qrels_file import PREFIX, QrelsSource
from harness.datasets.rules import (
    ALIASES,
    BEIR_18,
    BEIR_SYNONYMS,
    LICENSED,
    Rules,
    canonical,
    licensed_error,
    rules_for,
)
from harness.datasets.suites import SUITES, no_collection
from harness.datasets.survey import Source
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded, home

MINI = Path(__file__).parents[1] / "data" / "mini"


def names() -> list[str]:
    """The names of our own: the embedded collection, the aliases and BEIR's 18."""
    return ["mini", *ALIASES, *BEIR_18]


def resolve(
    name: str, titles: Path | None = None, queries_with_text: bool = False, fields: Fields | None = None
) -> list[Dataset]:
    """The collections behind a user's name: one, or the 12 forums of `beir/cqadupstack`.

    A name of ours or of `ir_datasets` comes before a folder (write `./name` for the folder). A folder under
    HARNESS_HOME/datasets/<name> stands in for any `beir/<name>`; it is where licensed collections go. A YAML file names
    loose files (docs, queries, qrels, and perhaps name). `fields` are those of a query or a document that are read.
    `hf:…` and `mteb:…` are of the Hugging Face hub.

    Raises InputError for a name that is none of these, with the nearest ones.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the dataset name {name!r} is not UTF-8. Rename the folder.") from error
    fields = fields or Fields()
    if (found := _marked(name, titles, queries_with_text, fields)) is not None:
        return [found]
    if name in SUITES:
        raise no_collection(name)
    if name.startswith((".", "/", "~")) or not _library_can_be_asked(name):
        folder = _folder(name, fields)
        if folder is not None:
            return [_of_folder(folder, titles, queries_with_text)]
    full = BEIR_SYNONYMS.get(name, name)
    dataset_id = canonical(full)
    rules = rules_for(dataset_id)
    if rules.mean_of:
        return [dataset for part in rules.mean_of for dataset in resolve(part, titles, queries_with_text, fields)]
    own = home() / "datasets" / full
    if full.startswith("beir/") and is_collection(own):
        return [Dataset(name, dataset_id, FolderSource(own, fields=fields), rules, titles, queries_with_text)]
    if full in LICENSED:
        raise licensed_error(name, own)
    if dataset_id not in known_ids():
        folder = _folder(name, fields)
        if folder is not None:
            return [_of_folder(folder, titles, queries_with_text)]
    source = IrDatasetsSource(dataset_id, names(), fields=fields)
    return [Dataset(name, dataset_id, source, rules, titles, queries_with_text)]


def _marked(name: str, titles: Path | None, queries_with_text: bool, fields: Fields) -> Dataset | None:
    """The collection of a name that says by itself where it is; None where it says nothing of the kind."""
    if name.startswith(PREFIXES):
        hub = find(name, fields)
        identity = (hub.name, hub.dataset_id, hub.source, hub.rules)
        return Dataset(*identity, titles, queries_with_text, hub.revision, hub.notes)
    if name.endswith((".yaml", ".yml")) and expanded(name).is_file():
        name = loose_files.described(expanded(name))
    source: Source
    if name == "mini":
        shown, source = name, FolderSource(MINI, fields=fields)
    elif name.startswith(PREFIX):
        source = QrelsSource(name.removeprefix(PREFIX))
        shown = Path(source.location).name
    elif name.startswith(loose_files.PREFIX):
        source = loose_files.LooseSource(name, fields)
        shown = source.name
    else:
        return None
    return Dataset(shown, name, source, Rules(), titles, queries_with_text)


def _library_can_be_asked(name: str) -> bool:
    """Whether ir_datasets can say if a name is its own; where its home cannot be used, it has no say in a folder."""
    try:
        return name in names() or bool(known_ids())
    except InputError:
        return False


def _of_folder(folder: FolderSource, titles: Path | None, queries_with_text: bool) -> Dataset:
    name = f"{folder.folder.name}/{folder.split}"
    return Dataset(name, str(folder.folder), folder, Rules(), titles, queries_with_text)


def _folder(name: str, fields: Fields) -> FolderSource | None:
    if not name.strip():
        return None
    path = expanded(name)
    if is_collection(path):
        return FolderSource(path, fields=fields)
    if is_collection(path.parent) and not path.is_dir():
        return FolderSource(path.parent, path.name, fields)
    if path.is_dir():
        raise InputError(f"the folder {path} has no corpus.jsonl (or .tsv, .csv, .parquet). BEIR layout needs it.")
    return None
