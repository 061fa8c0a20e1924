"""The one tie rule on many rows at once: a sort of 64-bit numbers instead of one of strings."""

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
_LOW = np.uint64(32)
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd, and far from any pattern of ids


def best_first(
    rows_query: npt.NDArray[np.integer], doc_ids: npt.NDArray[np.bytes_], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.intp]:
    """Return the order [R] of rows by query, then by (score, document id), both descending.

    `rows_query` [R] holds numbers from 0 up, below 2^32; `scores` [R] are finite, and -0.0 equals 0.0. Query and score
    make one number to sort by; ids are compared among the rows alone that tie in it.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum makes -0.0 positive
    # a float's bits, read as a number, grow with its size; so: negative ones as they are, the others turned round
    falling = np.where(bits >> np.uint32(31), bits, bits ^ np.uint32(0x7FFFFFFF))
    keys = (rows_query.astype(np.uint64) << _LOW) | falling
    order = np.argsort(keys)  # not stable, which does no harm: equal keys are put in order below
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    if same.any():
        tied = np.flatnonzero(np.concatenate((same, [False])) | np.concatenate(([False], same)))
        rows = order[tied]
        # ascending by id within descending key, then the whole reversed
        order[tied] = rows[np.lexsort((doc_ids[rows], ~keys[tied]))[::-1]]
    return order


def repeated(rows_query: npt.NDArray[np.integer], doc_ids: npt.NDArray[np.bytes_]) -> int | None:
    """Return a row [R] whose document another row of the same query has too; None where there is none."""
    if not _fingerprints_meet(rows_query, doc_ids):
        return None
    order = np.lexsort((doc_ids, rows_query))
    doc_ids, rows_query = doc_ids[order], rows_query[order]
    same = (doc_ids[1:] == doc_ids[:-1]) & (rows_query[1:] == rows_query[:-1])
    return int(order[int(np.flatnonzero(same)[0])]) if same.any() else None


def _fingerprints_meet(rows_query: npt.NDArray[np.integer], doc_ids: npt.NDArray[np.bytes_]) -> bool:
    """Whether two rows have one fingerprint of 64 bits. Equal rows have, so False is certain; True may be chance."""
    words = -(-doc_ids.itemsize // 8)
    letters = np.ascontiguousarray(doc_ids, dtype=f"S{8 * words}").view(np.uint64).reshape(-1, words)
    prints = rows_query.astype(np.uint64) * _MIX[0]
    for column in range(words):
        prints = (prints ^ letters[:, column]) * _MIX[1]  # wraps around, as it should
        prints ^= prints >> _LOW
    prints.sort()
    return bool((prints[1:] == prints[:-1]).any())
