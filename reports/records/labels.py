"""What a record is called wherever it is shown."""

from typing import Any

from harness.reports.records.records import Manifest

_TOP_K = 1000  # where nothing else was asked for
_LONGEST = 40  # letters of an option's value


def label(manifest: Manifest) -> str:
    """Retriever, variant, and each option that is not its default: `bm25 (flat, k1=2, b=0.75)`.

    A retriever that is the URL of a service goes by its system, the model behind it.
    """
    name = manifest.system.system if "://" in manifest.system.retriever else manifest.system.retriever
    more = ", ".join(filter(None, [manifest.system.variant, *options(manifest)]))
    return f"{name} ({more})" if more else name


def options(manifest: Manifest) -> list[str]:
    """NAME=VALUE of each option that is not its default and that the variant does not say."""
    given = manifest.system.asked | ({} if manifest.top_k == _TOP_K else {"top_k": manifest.top_k})
    said = [f"{name}={_short(name, value)}" for name, value in given.items()]
    return [*said, *(["queries with text"] if manifest.data.rules.queries_with_text else [])]


def _short(name: str, value: Any) -> str:
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = str(value)
    if name.endswith("checkpoint"):  # of a path or a hub id the last word
        text = text.rstrip("/").rpartition("/")[2] or text
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
