"""What a retriever goes by in folders, tables, tags and pictures: a word, also where its name is a path or a URL."""

import re
from collections.abc import Iterable
from pathlib import PurePath

# the families of names before records said what they go by; a folder, an id, an index, a file or a URL follows
FAMILIES = ("hf:", "st:", "lucene:", "search:", "http://", "https://")
RERANKED = "+rerank"  # behind the name of what is re-ranked


def slug(name: str) -> str:
    """`name` as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def short(name: str, families: Iterable[str] = FAMILIES) -> str:
    """The last part of what follows a family's prefix, as a word: `hf:/x/my-model` is `my-model`; other names as is.

    Of a URL it is the last part of the model behind `#`, of a YAML file its name without the ending.
    """
    family = next((one for one in families if name.startswith(one)), None)
    if family is None:
        return name
    more = RERANKED if name.endswith(RERANKED) else ""
    rest = name.removeprefix(family).removesuffix(more)
    if "://" in family:
        rest = rest.partition("#")[2]
    return slug(re.sub(r"\.ya?ml$", "", PurePath(rest).name)) + more


def aliases(whole: str, called: str | None) -> set[str]:
    """The folders' names that a retriever's records are asked for by: what it is called, and a path or URL's own."""
    word = short(whole)
    return {slug(called or word)} | ({slug(whole)} if word != whole else set())
