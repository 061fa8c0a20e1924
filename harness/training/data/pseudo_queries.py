"""Training pairs from plain texts: a query made of each text, and the text that answers it, as a collection.

Three kinds, all without a label. `title`: the title asks for its text (which then comes without it). `sentence`: a
sentence asks for the text that it was taken out of, the inverse cloze task (Lee et al. 2019, "Latent Retrieval for
Weakly Supervised Open Domain Question Answering"). `crop`: a run of words asks for the text that still holds it, as
independent cropping does (Izacard et al. 2022, Contriever), so that shared words count. Or a language model writes the
queries (`data.written_queries`), or they are the user's own, without answers, and a retriever's first result is taken
for one.

A round trip leaves out what is no query of its text: a retriever searches the texts for each query, and where the
query's own is not among the best, the query goes (Alberti et al. 2019; Dai et al. 2022, Promptagator).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.datasets.loader import resolve
from harness.models.checkpoints import hub, new_folder
from harness.retrievers.errors import InputError
from harness.retrievers.mining import searched
from harness.retrievers.registry import Retriever
from harness.retrievers.types import Document
from harness.runs.config import RetrieverSpec, make_retriever
from harness.runtime.hashing import digest
from harness.runtime.job import HarnessJob
from harness.training.data import corpora
from harness.training.data.written_queries import queries
from harness.training.recipe_data import CorpusPart, Pseudo, RoundTrip

FOLDER, SPLIT = "pseudo-queries", "train"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])")
_SHORTEST = 3  # words of a sentence or a crop
LEAST_WORDS = 2 * _SHORTEST  # of a text that is to answer one


def collection(
    pseudo: Pseudo, places: Sequence[str], job: HarnessJob, asked: str | None = None, apart: Path | None = None
) -> Path:
    """A folder in BEIR layout with the queries of the texts of `pseudo.corpora`, made once and found again.

    `places` says where each of the corpora lies, `asked` where the file of queries, `apart` the pairs of whose queries
    none may be among these. A model that writes or searches counts by its bytes, not by its name. Raises InputError
    for what is not there or holds nothing to make a query of, CheckpointError for a writer that cannot write.
    """
    stamps = [corpora.stamp(part, place) for part, place in zip(pseudo.corpora, places, strict=True)]
    more = [corpora.stamp(CorpusPart(name=asked), asked)] if asked else []
    if pseudo.writer is not None:
        more.append(["writer", hub.content_hash(hub.locate(pseudo.writer.model))])
    retriever = None
    if pseudo.round_trip is not None:
        retriever = make_retriever(RetrieverSpec(name=pseudo.round_trip.retriever, options=pseudo.round_trip.options))
        retriever.check()
        more.append(["round trip", retriever.fingerprint()])
    if apart is not None:
        more.append(["apart", apart.name])
    key = digest([pseudo.model_dump(mode="json", exclude_none=True), stamps, *more])
    place = job.cache / FOLDER / key
    if place.is_dir():
        return place
    with new_folder.whole(place) as new:
        (new / "qrels").mkdir()
        _write(new, pseudo, places, asked, _queries_of(apart) if apart else frozenset(), job)
        if pseudo.round_trip is not None and retriever is not None:
            _keep(new, pseudo.round_trip, retriever, asked, _named(pseudo), job)
    return place


def _queries_of(folder: Path) -> frozenset[str]:
    with (folder / "queries.jsonl").open() as lines:
        return frozenset(json.loads(line)["text"] for line in lines)


def _write(
    new: Path, pseudo: Pseudo, places: Sequence[str], asked: str | None, apart: frozenset[str], job: HarnessJob
) -> None:
    """All queries but those that are kept apart; those that nothing answers yet have a judgment of grade 0."""
    parts = zip(pseudo.corpora, places, strict=True)
    texts = (text for part, place in parts for text in corpora.documents(part, place))
    questions, judgments = [], []
    with (new / "corpus.jsonl").open("w") as corpus:
        for number, (document, made) in enumerate(_made(texts, pseudo, job)):
            if made is None and not asked:
                continue
            corpus.write(json.dumps({"_id": f"d{number}", "title": document.title, "text": document.text}) + "\n")
            for place, query in enumerate(query for query in made or () if query not in apart):
                name = f"q{number}" + (f"-{place}" if place else "")
                questions.append((name, query))
                judgments.append((name, f"d{number}", 1))
    if asked:
        own = (document.joined.strip() for document in corpora.documents(CorpusPart(name=asked), asked))
        questions = [(f"q{number}", query) for number, query in enumerate(dict.fromkeys(filter(None, own)))]
        judgments = [(name, "d0", 0) for name, _ in questions]
    if not questions:
        of = f"the corpora {_named(pseudo)}"
        if asked:
            raise InputError(f"{asked} holds no query.")
        if pseudo.writer is not None:
            raise InputError(f"{of}: {pseudo.writer.model} wrote no query for any text. Name another model.")
        raise InputError(f"{of} hold no text to make a query of: all are too short, or lack a title.")
    _store(new, questions, judgments)


def _made(texts: Iterator[Document], pseudo: Pseudo, job: HarnessJob) -> Iterator[tuple[Document, list[str] | None]]:
    """Each document, or what is left of it, and its queries; None where there are none."""
    if pseudo.writer is not None:
        documents = list(texts)
        for document, written in zip(documents, queries(pseudo.writer, documents, pseudo.seed, job), strict=True):
            yield document, written or None
        return
    with job.phase("pseudo-queries", None, "texts") as meter:
        for number, document in enumerate(texts):
            made = None if pseudo.asked else pair(document, pseudo, np.random.default_rng([pseudo.seed, number]))
            meter.advance(1)
            yield (document, None) if made is None else (made[1], [made[0]])


def _store(new: Path, questions: Iterable[tuple[str, str]], judgments: Iterable[tuple[str, str, int]]) -> None:
    lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in questions]
    (new / "queries.jsonl").write_text("".join(lines))
    rows = ["query-id\tcorpus-id\tscore\n", *(f"{name}\t{doc_id}\t{grade}\n" for name, doc_id, grade in judgments)]
    (new / "qrels" / f"{SPLIT}.tsv").write_text("".join(rows))


def _keep(new: Path, trip: RoundTrip, retriever: Retriever, asked: str | None, named: str, job: HarnessJob) -> None:
    """Leave the queries whose text a retriever finds; of questions nobody has answered, all, with their first result.

    Raises InputError where none is left.
    """
    [dataset] = resolve(str(new), queries_with_text=True)
    dataset.open(job)
    with job.lent(False):
        run = searched(retriever, dataset, dataset.queries, 1 if asked else trip.within, job)
    questions, judgments = [], []
    for number, query in enumerate(dataset.queries):
        found = [doc_id.decode() for doc_id in run.rows(number)[0]]
        right = found[:1] if asked else [one for one in dataset.qrels[query.query_id] if one in found]
        if right:
            questions.append((query.query_id, query.text))
            judgments.append((query.query_id, right[0], 1))
    of = f"{len(questions):,} of {len(dataset.queries):,} queries"
    if not questions:
        raise InputError(
            f"{named}: {of} find their own text among the best {trip.within:,} by {trip.retriever}. Raise "
            "round_trip.within, or name another retriever."
        )
    if asked:
        job.note(f"{asked}: {of} answered by the first result of {trip.retriever}")
    else:
        job.note(f"{named}: {of} kept, by the round trip through {trip.retriever}")
    _store(new, questions, judgments)


def _named(pseudo: Pseudo) -> str:
    return ", ".join(part.name for part in pseudo.corpora)


def pair(document: Document, pseudo: Pseudo, draw: np.random.Generator) -> tuple[str, Document] | None:
    """A query of the text, and what is left of the text to answer it; None where it is too short for any kind.

    The kind is drawn by its share; a text that cannot have it (no title, one sentence) has the next one instead.
    """
    kinds = [kind for kind, share in pseudo.kinds.items() if share > 0]
    shares = np.array([pseudo.kinds[kind] for kind in kinds])
    first = int(draw.choice(len(kinds), p=shares / shares.sum()))
    for kind in kinds[first:] + kinds[:first]:
        made = _MAKE[kind](document, pseudo.words, draw)
        if made is not None:
            return made
    return None


def _title(document: Document, _words: int, _draw: np.random.Generator) -> tuple[str, Document] | None:
    title, text = document.title.strip(), document.text.strip()
    return (title, Document(document.doc_id, "", text)) if title and text else None


def _sentence(document: Document, words: int, draw: np.random.Generator) -> tuple[str, Document] | None:
    found = [part for part in _SENTENCE.split(document.text.strip()) if part]
    fit = [number for number, part in enumerate(found) if part.count(" ") + 1 >= _SHORTEST]
    if len(found) < 2 or not fit:
        return None
    taken = fit[int(draw.integers(len(fit)))]
    left = " ".join(part for number, part in enumerate(found) if number != taken)
    if left.count(" ") + 1 < LEAST_WORDS:
        return None
    return _run(found[taken].split(), words, draw), Document(document.doc_id, document.title, left)


def _crop(document: Document, words: int, draw: np.random.Generator) -> tuple[str, Document] | None:
    found = document.text.split()
    if len(found) < LEAST_WORDS:
        return None
    most = min(words, len(found) // 2)
    return _run(found, int(draw.integers(_SHORTEST, most + 1)), draw), document


def _run(words: list[str], most: int, draw: np.random.Generator) -> str:
    """At most so many words in a row, from anywhere."""
    start = int(draw.integers(max(1, len(words) - most + 1)))
    return " ".join(words[start : start + most])


_MAKE = {"title": _title, "sentence": _sentence, "crop": _crop}


def names(pseudo: Pseudo) -> Iterator[str]:
    """What a checkpoint says that it was fine-tuned on."""
    kinds = ", ".join(kind for kind, share in pseudo.kinds.items() if share > 0)
    if pseudo.writer is not None:
        kinds = f"written by {pseudo.writer.model}"
    elif pseudo.asked is not None:
        kinds = f"of {pseudo.asked}"
    for part in pseudo.corpora:
        yield f"pseudo-queries ({kinds}) of {part.shown}"
