"""Whether a corpus has the documents that somebody else names."""

from collections.abc import Sequence

import numpy as np

from harness.retrievers.types import Corpus, Job


class KnownIds:
    """The ids of a corpus, to ask which of some it lacks: 8 bytes each, by Python's 64-bit hash."""

    def __init__(self, corpus: Corpus, job: Job) -> None:
        with job.phase("read ids", corpus.count, "documents") as meter:
            self._hashes = np.empty(corpus.count, dtype=np.int64)
            for number, doc in enumerate(corpus.documents()):
                self._hashes[number] = hash(doc.doc_id)
                meter.advance()
        self._hashes.sort()

    def lacks(self, doc_ids: Sequence[str]) -> list[str]:
        """Those of `doc_ids` that the corpus has not."""
        wanted = np.fromiter((hash(doc_id) for doc_id in doc_ids), np.int64, len(doc_ids))
        places = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return [doc_ids[int(place)] for place in np.flatnonzero(self._hashes[places] != wanted)]
