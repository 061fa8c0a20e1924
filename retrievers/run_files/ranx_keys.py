"""The document ids of a ranx Run, which numba cuts where it hands them to Python.

ranx keeps ids as numpy's fixed-width texts. Of those numba drops, on the way to Python, a last letter whose code point
ends in a zero byte (一 is U+4E00, Ā is U+0100). Within compiled code they are whole, so they are copied there into an
array that numpy reads.
"""

from typing import Any

import numpy as np

from harness.retrievers.jit import njit


@njit()
def _copy(table: Any, ids: Any, scores: Any) -> None:
    """Keys [n] and values [n] of a typed dictionary."""
    for n, (key, value) in enumerate(table.items()):
        ids[n] = key
        scores[n] = value


def rows(found: Any) -> dict[str, dict[str, float]]:
    """{query id: {document id: score}} of a ranx Run, every id whole."""
    run = {}
    for query_id in found.run:
        table = found.run[query_id]
        ids = np.empty(len(table), dtype=f"<U{table._dict_type.key_type.count}")
        scores = np.empty(len(table), dtype=np.float64)
        _copy(table, ids, scores)
        run[str(query_id)] = dict(zip(ids.tolist(), scores.tolist(), strict=True))
    return run
