"""Training pairs from plain texts: a query made of each text, and the text that answers it, as a collection.

Three kinds, all without a label. `title`: the title asks for its text (which then comes without it). `sentence`: a
sentence asks for the text that it was taken out of, the inverse cloze task (Lee et al. 2019, "Latent Retrieval for
Weakly Supervised Open Domain Question Answering"). `crop`: a run of words asks for the text that still holds it, as
independent cropping does (Izacard et al. 2022, Contriever), so that shared words count.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.models.checkpoints import new_folder
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Job
from harness.runtime.hashing import digest
from harness.training.data import corpora
from harness.training.recipe_data import Pseudo

FOLDER, SPLIT = "pseudo-queries", "train"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])")
_SHORTEST = 3  # words of a sentence or a crop; a text must keep twice as many


def collection(pseudo: Pseudo, places: Sequence[str], cache: Path, job: Job) -> Path:
    """A folder in BEIR layout with one query of each text of `pseudo.corpora`, made once and found again.

    `places` says where each of the corpora lies.
    Raises InputError for a corpus that is not there or holds nothing to make a query of.
    """
    key = digest(
        [
            pseudo.model_dump(mode="json"),
            [corpora.stamp(part, place) for part, place in zip(pseudo.corpora, places, strict=True)],
        ]
    )
    place = cache / FOLDER / key
    if place.is_dir():
        return place
    with new_folder.whole(place) as new:
        _write(new, pseudo, places, job)
    return place


def _write(new: Path, pseudo: Pseudo, places: Sequence[str], job: Job) -> None:
    (new / "qrels").mkdir()
    count = 0
    parts = zip(pseudo.corpora, places, strict=True)
    texts = (text for part, place in parts for text in corpora.documents(part, place))
    with (
        (new / "corpus.jsonl").open("w") as corpus,
        (new / "queries.jsonl").open("w") as queries,
        (new / "qrels" / f"{SPLIT}.tsv").open("w") as qrels,
        job.phase("pseudo-queries", None, "texts") as meter,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for number, document in enumerate(texts):
            made = pair(document, pseudo, np.random.default_rng([pseudo.seed, number]))
            meter.advance(1)
            if made is None:
                continue
            query, left = made
            corpus.write(json.dumps({"_id": f"d{number}", "title": left.title, "text": left.text}) + "\n")
            queries.write(json.dumps({"_id": f"q{number}", "text": query}) + "\n")
            qrels.write(f"q{number}\td{number}\t1\n")
            count += 1
    if not count:
        names = ", ".join(part.name for part in pseudo.corpora)
        raise InputError(f"the corpora {names} hold no text to make a query of: all are too short, or lack a title.")


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
    if left.count(" ") + 1 < 2 * _SHORTEST:
        return None
    return _run(found[taken].split(), words, draw), Document(document.doc_id, document.title, left)


def _crop(document: Document, words: int, draw: np.random.Generator) -> tuple[str, Document] | None:
    found = document.text.split()
    if len(found) < 2 * _SHORTEST:
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
    for part in pseudo.corpora:
        yield f"pseudo-queries ({kinds}) of {part.shown}"
