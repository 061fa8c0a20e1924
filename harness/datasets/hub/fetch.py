"""Where a repository lies: a folder that was named, a copy under HARNESS_HOME, or the cache of huggingface_hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.hub.files import README, declared, patterns
from harness.datasets.hub.name import QRELS_SUFFIX, HubName
from harness.datasets.hub.source import subsets
from harness.datasets.missing import MissingCollection
from harness.retrievers.errors import InputError
from harness.retrievers.places import home, prepare

_OURS = ("corpus", "queries", "query", "qrels", "default")  # configurations that are read
_BY_NAMES = ("corpus*", "quer*", "qrels*", "default/*", "test*", "train*", "dev*", "val*")  # where none is declared
_PATIENCE = 20  # seconds to wait for the hub's first word
_DOWNLOADS = Path(".cache", "huggingface", "download")  # what `hf download --local-dir` leaves of each file


@dataclass(frozen=True)
class Located:
    """A repository's folder, and the commit that it is of, as far as that is known."""

    folder: Path
    revision: str | None
    notes: tuple[str, ...] = ()  # what to warn of


def locate(name: HubName) -> Located:
    """Find a repository here, or fetch what is read of it.

    Raises MissingCollection, which says what to fetch and where to put it, where it is neither here nor to be had;
    InputError for a copy that is of another revision than was asked for.
    """
    if name.folder is not None:
        return Located(name.folder, _downloaded_revision(name.folder))
    if name.revision is not None and (exact := name.place.with_name(f"{name.place.name}@{name.revision}")).is_dir():
        return Located(exact, _downloaded_revision(exact) or name.revision)
    if name.place.is_dir():
        return _copy(name)
    return _fetched(name)


def second(name: HubName) -> Located | None:
    """The repository of a collection's judgments, NAME-qrels, beside a folder or on the hub; None where there is none.

    A revision is of the first repository alone.
    """
    if name.folder is not None:
        beside = name.folder.with_name(f"{name.folder.name}{QRELS_SUFFIX}")
        return Located(beside, _downloaded_revision(beside)) if beside.is_dir() else None
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return locate(HubName(f"{name.repo}{QRELS_SUFFIX}", None, ()))
    except MissingCollection as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):  # the hub has none, rather than that there is no hub
            return None
        raise


def _copy(name: HubName) -> Located:
    """A copy under HARNESS_HOME. What `hf download` fetched says its commit, what was brought otherwise does not."""
    place, asked = name.place, name.revision
    own = _downloaded_revision(place)
    if asked is None or (own is not None and own.startswith(asked)):
        return Located(place, own)
    if own is not None and _is_commit(asked):
        raise InputError(
            f"{place} is revision {own} of {name.repo}, and {asked} was asked for. Fetch that into {place}@{asked}: "
            f"{_download(name, f'{place}@{asked}')}."
        )
    what = f"the copy in {place} is taken as revision {asked}"
    return Located(place, own, (f"{what}; {f'it says that it is {own}' if own else 'it does not say which it is'}",))


def _is_commit(revision: str) -> bool:
    return len(revision) >= 7 and all(letter in "0123456789abcdef" for letter in revision)


def _downloaded_revision(folder: Path) -> str | None:
    """The commit that `hf download --local-dir` noted of the files; None where it did not, or of several."""
    found = set()
    for path in (folder / _DOWNLOADS).rglob("*.metadata"):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        found.update(lines[:1])
    return found.pop() if len(found) == 1 else None


def _fetched(name: HubName) -> Located:
    """Have huggingface_hub fetch the README, and then the files that it names or that are usual.

    Variables such as HF_HUB_OFFLINE, HF_HOME and HF_TOKEN count. Without a network what its cache has is taken.
    """
    prepare()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def snapshot(revision: str | None, wanted: Sequence[str]) -> Path:
        where = {"repo_type": "dataset", "revision": revision, "local_files_only": commit is None}
        return Path(snapshot_download(name.repo, allow_patterns=list(wanted), **where))

    commit, offline = None, ""
    try:
        commit, offline = _commit(name)
        folder = snapshot(commit or name.revision, [README])
        wanted = _wanted(folder, name.parts)
        folder = snapshot(folder.name, [README, *(wanted or _BY_NAMES)])
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise _missing(name, offline or _words(error)) from error
    if absent := [glob for glob in wanted if not any(folder.glob(glob))]:  # without a network nobody looks
        raise _missing(name, f"what its cache has of it lacks {absent[0]}")
    return Located(folder, folder.name)


def _commit(name: HubName) -> tuple[str | None, str]:
    """The commit that a revision is now; without a network None, and why. It is asked once, and does not wait long."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().dataset_info(name.repo, revision=name.revision, timeout=_PATIENCE).sha), ""
    except HfHubHTTPError:  # an answer
        raise
    except Exception as error:  # offline mode, and whatever the library's client says of a network
        return None, _words(error)


def _wanted(folder: Path, parts: Sequence[str]) -> list[str]:
    """Globs of the configurations that are read: of a repository with subsets, those of the one that was named.

    None where the README declares none.
    """
    entries = declared(folder)
    prefix = f"{parts[0]}-" if parts and parts[0] in subsets(list(entries)) else ""
    return [glob for own in _OURS if (entry := entries.get(f"{prefix}{own}")) for glob in patterns(entry)]


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _missing(name: HubName, why: str) -> MissingCollection:
    at = f"@{name.revision}" if name.revision else ""
    reason = why if len(why) <= 120 else f"{why[:119]}…"
    every = [name]
    if name.repo.casefold().startswith("beir/") and not name.repo.endswith(QRELS_SUFFIX):
        every.append(HubName(f"{name.repo}{QRELS_SUFFIX}", None, ()))
    how = " and ".join(f"`{_download(one, one.place)}`" for one in every)
    return MissingCollection(
        f"hf:{name.repo}{at} is not here and could not be fetched from the Hugging Face hub ({reason}). Where there is "
        f"a network run {how}, and bring what that leaves to the same place here (HARNESS_HOME is {home()}).",
        how,
    )


def _download(name: HubName, where: object) -> str:
    revision = f" --revision {name.revision}" if name.revision else ""
    return f"hf download --repo-type dataset {name.repo}{revision} --local-dir {where}"
