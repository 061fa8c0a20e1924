"""The one vector type: a document is a dense half and K lexical pairs, a query a dense half and all V weights.

====================================  ===  ============
system                                D    K
====================================  ===  ============
BERT, Condenser, RetroMAE, SimLM, …   768  0
SPLADE                                0    all non-zero
DupMAE                                384  384
====================================  ===  ============
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Half = npt.NDArray[np.float16]
TermIds = npt.NDArray[np.unsignedinteger[Any]]
Single = npt.NDArray[np.float32]


_NARROW = 1 << 16  # terms that 16 bits tell apart


def term_id_type(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """What holds the term ids of V terms: 16 bits up to 65,536 of them, as BERT's 30,522; 32 for XLM-R's 250,002."""
    return np.uint16 if vocabulary <= _NARROW else np.uint32


@dataclass(frozen=True, eq=False)
class HybridVectors:
    """N documents. A document's term ids ascend; pairs that it lacks are padded with id 0 and weight 0, anywhere.

    Raises ValueError for arrays of other types or that do not fit together.
    """

    dense: Half  # [N,D] float16
    term_ids: TermIds  # [N,K] uint16, or uint32: see `term_id_type`
    term_weights: Half  # [N,K] float16

    def __post_init__(self) -> None:
        shapes = {len(self.dense), len(self.term_ids), len(self.term_weights)}
        if self.dense.ndim != 2 or self.term_ids.shape != self.term_weights.shape or len(shapes) != 1:
            raise ValueError("dense [N,D], term_ids [N,K] and term_weights [N,K] must have one N and one K")
        if not self.dense.dtype == self.term_weights.dtype == np.float16:
            raise ValueError("dense and term_weights must be float16")
        if self.term_ids.dtype not in (np.uint16, np.uint32):
            raise ValueError(f"term_ids are {self.term_ids.dtype}; they must be uint16 or uint32")

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def width(self) -> int:
        """D."""
        return int(self.dense.shape[1])

    def broken(self) -> tuple[int, str] | None:
        """A document that holds a value that is not finite, and which half does; None where all are."""
        for name in ("dense", "term_weights"):
            wrong = ~np.isfinite(getattr(self, name)).all(axis=1)
            if wrong.any():
                return int(np.flatnonzero(wrong)[0]), name
        return None

    def take(self, rows: "npt.NDArray[np.integer] | slice[Any, Any, Any]") -> "HybridVectors":
        """The vectors at `rows`."""
        return HybridVectors(self.dense[rows], self.term_ids[rows], self.term_weights[rows])


@dataclass(frozen=True, eq=False)
class HybridQueries:
    """A block of Q queries; `lexical` has V = 0 columns where there is no lexical half.

    Raises ValueError for arrays of other types or that do not fit together.
    """

    dense: Single  # [Q,D] float32
    lexical: Single  # [Q,V] float32

    def __post_init__(self) -> None:
        if self.dense.ndim != 2 or self.lexical.ndim != 2 or len(self.dense) != len(self.lexical):
            raise ValueError("dense [Q,D] and lexical [Q,V] must have one Q")
        if self.dense.dtype != np.float32 or self.lexical.dtype != np.float32:
            raise ValueError("dense and lexical must be float32")

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def width(self) -> int:
        """D."""
        return int(self.dense.shape[1])

    def take(self, rows: "npt.NDArray[np.integer] | slice[Any, Any, Any]") -> "HybridQueries":
        """The queries at `rows`."""
        return HybridQueries(self.dense[rows], self.lexical[rows])


def bytes_per_document(dense: int, lexical: float, vocabulary: int = 0) -> tuple[float, float]:
    """What a document takes: (ours, the paper's counting).

    Ours: 16-bit values, and term ids as wide as `vocabulary` needs (`term_id_type`). The paper's: 32-bit values and
    ids of 15 bits, as BERT's 30,522 terms need (section 4.2, where CLS:384 with OT:260 is said to equal 768 values,
    3,072 bytes), or of as many as a larger vocabulary needs.
    """
    wide = np.dtype(term_id_type(vocabulary)).itemsize
    bits = max(15, (vocabulary - 1).bit_length())
    return 2.0 * dense + (2.0 + wide) * lexical, 4.0 * dense + lexical * (4.0 + bits / 8)
