"""What training saw of the collections that are scored: a collection is zero-shot where that is nothing at all."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from harness.datasets.dataset import Dataset
from harness.reports.files import write_whole
from harness.reports.records.exposure import IN_DOMAIN, SEEN, ZERO_SHOT, Exposure
from harness.runtime.hashing import digest
from harness.training.context import Context
from harness.training.data import corpora
from harness.training.data.collections import opened
from harness.training.recipe_data import CorpusPart

_VERSION = 1  # of how texts are compared


def exposures(context: Context) -> dict[str, Exposure]:
    """What the stages of the recipe saw of each of its `data.evaluate`, {collection: `Exposure`}.

    In domain: its corpus is that of a collection whose queries are trained on, or on which something is chosen
    (`validate_on`, the halves' weights). Seen in part: a text of its documents, or of its queries, is word for word
    (but for case and space) one that a stage reads: of a corpus to pre-train on or to make pseudo-queries of, of a
    training collection's documents or queries. Zero-shot: none of that. What a base checkpoint had read before is not
    known here. A mean of collections is of none of the three; its parts are. The corpora are read for it once.

    Raises InputError as the stages do.
    """
    recipe, job = context.recipe, context.job
    trained = [*opened(map(recipe.place, _collections(context)), job)]
    found: dict[str, Exposure] = {}
    unknown: list[Dataset] = []
    for name in recipe.data.evaluate:
        for dataset in opened([recipe.place(name)], job):
            same = [other.name for other in trained if other.content_hash == dataset.content_hash]
            if not same:
                unknown.append(dataset)
                continue
            asked = {_key(q.text) for other in trained for q in other.queries}
            count = sum(_key(query.text) in asked for query in dataset.queries)
            words = f"its corpus is that of {', '.join(dict.fromkeys(same))}, which training learnt from or chose by"
            again = f"; {count:,} of its queries are word for word among those" if count else ""
            found[dataset.name] = Exposure(IN_DOMAIN, words + again)
    if unknown:
        parts = _parts(context)
        stamps = [[d.content_hash, d.queries_hash] for d in (*trained, *unknown)]
        place = job.cache / "exposure" / f"{digest([_VERSION, stamps, context.stamp(parts)])}.json"
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            made = _compare(context, unknown, trained, parts)
            write_whole(place, json.dumps({name: asdict(one) for name, one in made.items()}))
        read = json.loads(place.read_text())
        found |= {name: Exposure(**one) for name, one in read.items()}
    return found


def _collections(context: Context) -> list[str]:
    """The names of the collections whose queries a stage learns from or chooses by."""
    recipe = context.recipe
    names = [recipe.data.validate_on] if recipe.data.validate_on else []
    for stage in recipe.stages.values():
        names += [name for name in recipe.learns_from(stage) if name not in recipe.data.pseudo]
        names += recipe.chooses_by(stage)
    return list(dict.fromkeys(names))


def _parts(context: Context) -> tuple[CorpusPart, ...]:
    """The corpora that a stage reads, each once."""
    recipe = context.recipe
    parts: list[CorpusPart] = []
    for stage in recipe.stages.values():
        parts += recipe.texts(stage)
        for name in recipe.learns_from(stage):
            parts += recipe.data.pseudo[name].corpora if name in recipe.data.pseudo else ()
    return tuple(dict.fromkeys(parts))


def _compare(
    context: Context, wanted: Sequence[Dataset], trained: Sequence[Dataset], parts: Sequence[CorpusPart]
) -> dict[str, Exposure]:
    documents = [{_key(doc.text): 0 for doc in dataset.documents() if doc.text.strip()} for dataset in wanted]
    # a document counts once however often it was read, and as often as the collection has it
    for dataset, keys in zip(wanted, documents, strict=True):
        for doc in dataset.documents():
            if doc.text.strip():
                keys[_key(doc.text)] += 1
    queries = [[_key(query.text) for query in dataset.queries] for dataset in wanted]
    asked = {_key(query.text) for dataset in trained for query in dataset.queries}
    every = {key for keys in queries for key in keys}
    titles: set[bytes] = set()
    read: list[set[bytes]] = [set() for _ in wanted]
    with context.job.phase("what training saw", None, "texts") as meter:
        for title, text in _texts(context, trained, parts):
            key = _key(text)
            for keys, seen in zip(documents, read, strict=True):
                if key in keys:
                    seen.add(key)
            titles |= {_key(title)} & every
            meter.advance(1)
    found = {}
    for number, dataset in enumerate(wanted):
        docs = sum(documents[number][key] for key in read[number])
        own = sum(key in asked for key in queries[number])
        named = sum(key in titles for key in queries[number])
        found[dataset.name] = _exposure(docs, own, named)
    return found


def _exposure(documents: int, queries: int, titles: int) -> Exposure:
    # a query that happens to be the title of a text in a corpus is no query of the collection that was trained on
    chance = f"; {titles:,} of its queries happen to be titles of texts that it read" if titles else ""
    if documents or queries:
        words = f"{documents:,} of its documents and {queries:,} of its queries are word for word in what training read"
        return Exposure(SEEN, words + chance)
    return Exposure(ZERO_SHOT, f"no document and no query of it is in what training read{chance}")


def _texts(context: Context, trained: Iterable[Dataset], parts: Iterable[CorpusPart]) -> Iterator[tuple[str, str]]:
    for part in parts:
        for document in corpora.documents(part, context.recipe.place(part.name)):
            yield document.title, document.text
    for dataset in trained:
        for document in dataset.documents():
            yield document.title, document.text


def _key(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.lower().split()).encode(errors="surrogatepass"), digest_size=12).digest()
