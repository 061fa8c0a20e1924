"""The other loops of the search on CPUs, compiled by numba: rounding, pruning, final scores, order.

Arrays of float16 come as their bits (`kernels.half`). Where sums may be taken in any order, so that they are vectors'
sums, the decorator says so; float64 keeps what that changes far below float32.
"""

import numpy as np

from harness.retrievers.jit import njit
from harness.retrievers.search.kernels import half

ROOM = 46_000.0  # norm of a vector of integers; 46,000² and the roundings stay below 2³¹
_BINS = 1_024  # of a histogram
_AT_ONCE = 16_384  # documents
_ANY_ORDER = {"reassoc", "nsz", "contract"}


@njit(nogil=True, fastmath=_ANY_ORDER)
def _norms(bits):
    """Of one document's weights: sum of squares, greatest absolute value, number that are not zero."""
    squares, top, count = 0.0, np.float32(0), 0
    for j in range(len(bits)):
        value = abs(half(bits[j]))
        squares += np.float64(value) * np.float64(value)
        top = max(top, value)
        count += value != 0
    return squares, top, count


@njit(nogil=True, fastmath=_ANY_ORDER)
def _rounded(bits, scale, out):
    """Write the rounded weights; return the squares of what rounding took, and the sum of absolute values, over B."""
    lost, absolute = 0.0, 0.0
    for j in range(len(bits)):
        value = np.float64(half(bits[j])) * scale
        whole = np.rint(value)
        out[j] = np.int16(whole)
        lost += (value - whole) * (value - whole)
        absolute += abs(whole)
    return lost, absolute


@njit(nogil=True)
def round_weights(term_ids, bits, ids, weights, offsets, inverses):
    """Fill the arrays of a block; return the greatest ‖w‖, ‖w - b/B‖, ‖b/B‖₁ and term id + 1.

    The fifth number is 1 + the first document whose ids do not ascend, 0 where all do.
    """
    greatest = np.zeros(5)
    kept = term_ids.shape[1]
    at = 0
    for n in range(len(term_ids)):
        squares, top, count = _norms(bits[n])
        offsets[n] = at
        if count:
            # float32, as the kernel multiplies by it
            inverses[n] = np.float32(max(np.float64(top) / 32767.0, np.sqrt(squares) / ROOM) * (1 + 1e-6))
            scale = 1.0 / np.float64(inverses[n])
            if count == kept:
                lost, absolute = _rounded(bits[n], scale, weights[at : at + kept])
                ids[at : at + kept] = term_ids[n]
                greatest[3] = max(greatest[3], np.float64(term_ids[n].max()) + 1)
                at += kept
            else:
                start = at
                packed = np.empty(count, np.uint16)
                for j in range(kept):
                    if bits[n, j] & np.uint16(0x7FFF):
                        ids[at] = term_ids[n, j]
                        packed[at - start] = bits[n, j]
                        greatest[3] = max(greatest[3], np.float64(term_ids[n, j]) + 1)
                        at += 1
                lost, absolute = _rounded(packed, scale, weights[start:at])
            for j in range(offsets[n] + 1, at):
                if ids[j] <= ids[j - 1] and greatest[4] == 0:
                    greatest[4] = n + 1
            at += at & 1  # an even number of terms: the last is id 0 with weight 0
            greatest[0] = max(greatest[0], np.sqrt(squares))
            greatest[1] = max(greatest[1], np.sqrt(lost) / scale)
            greatest[2] = max(greatest[2], absolute / scale)
        offsets[n + 1] = at
    return greatest


@njit(nogil=True)
def tops(lexical, kept, norms, greatest):
    """For each query, at least the norm of its `kept` greatest |μ|, by a histogram's upper edges; and the greatest."""
    counts = np.zeros(_BINS, np.int32)
    for q in range(len(lexical)):
        top = _greatest(lexical[q])
        greatest[q] = top
        if top < np.float32(1e-30):  # a step of the histogram would overflow
            norms[q] = np.sqrt(np.float64(kept)) * top
            continue
        counts[:] = 0
        factor = np.float32(_BINS - 1) / top
        for v in range(lexical.shape[1]):
            counts[np.int32(abs(lexical[q, v]) * factor)] += 1
        left, squares = kept, 0.0
        for bin_ in range(_BINS - 1, -1, -1):
            taken = min(left, counts[bin_])
            edge = (bin_ + 1) / np.float64(factor)
            squares += taken * edge * edge
            left -= taken
            if left == 0:
                break
        norms[q] = np.sqrt(squares) * (1 + 1e-6)  # float32 moved a weight into the next bin at most by its rounding


@njit(nogil=True, fastmath={"nnan", "nsz"})
def _greatest(values):
    top = np.float32(0)
    for place in range(len(values)):
        top = max(top, abs(values[place]))
    return top


@njit(nogil=True)
def fill(lexical, factors, rows):
    """rows [V,64]: the queries' weights times their factors, rounded; a few terms of all queries at a time."""
    count, vocabulary = lexical.shape
    for start in range(0, vocabulary, 64):
        for q in range(count):
            for v in range(start, min(start + 64, vocabulary)):
                rows[v, q] = np.int16(np.rint(lexical[q, v] * factors[q]))


@njit(nogil=True)
def prune(counts, scores, places, lower, reach, k, keep):
    """Raise `lower` and drop candidates below it, of lanes with more than `keep`: see `compiled._Group.prune`."""
    bins = np.empty(_BINS, np.int32)
    for lane in range(len(counts)):
        count = counts[lane]
        if count <= keep or count < k:
            continue
        lower[lane] = max(lower[lane], _at_most_kth(scores[lane, :count], k, bins) - reach[lane])
        least = np.float32(lower[lane] - reach[lane])
        least -= abs(least) * np.float32(1e-6)  # float32 may have rounded it up
        at = 0
        for place in range(count):  # without a branch: half of them would be guessed wrongly
            score, row = scores[lane, place], places[lane, place]
            scores[lane, at], places[lane, at] = score, row
            at += score >= least
        counts[lane] = at


@njit(nogil=True, fastmath={"nnan", "nsz"})
def _at_most_kth(scores, k, bins):
    """A value that at least k of `scores` reach: the k-th greatest, or less by the width of a bin of a histogram."""
    low = high = scores[0]
    for place in range(1, len(scores)):
        low, high = min(low, scores[place]), max(high, scores[place])
    if not high - low > np.float32(1e-30):  # all alike, or nearly
        return np.float64(low)
    factor = np.float32(len(bins) - 1) / (high - low)
    bins[:] = 0
    for place in range(len(scores)):
        bins[np.int32((scores[place] - low) * factor)] += 1
    left, at = k, len(bins)
    while left > 0:
        at -= 1
        left -= bins[at]
    # a bin's lower edge, less what the three roundings to float32 can have moved
    span = np.float64(high) - np.float64(low)
    return np.float64(low) + span * (at / (len(bins) - 1) - 1e-6)


@njit(nogil=True, fastmath=_ANY_ORDER)
def _score(query, lexical, dense, term_ids, weights):
    total = 0.0
    for j in range(len(dense)):
        total += np.float64(half(dense[j])) * np.float64(query[j])
    for j in range(len(term_ids)):
        total += np.float64(half(weights[j])) * np.float64(lexical[term_ids[j]])
    return total


@njit(nogil=True)
def final(queries, lexical, dense, term_ids, weights, rows, starts, at, scores):
    """Some thousand documents, then the next, all queries in turn: documents leave memory once, queries stay cached."""
    for low in range(0, len(dense), _AT_ONCE):
        for q in range(len(at)):
            place = at[q]
            while place < starts[q + 1] and rows[place] < low + _AT_ONCE:
                row = rows[place]
                scores[place] = _score(queries[q], lexical[q], dense[row], term_ids[row], weights[row])
                place += 1
            at[q] = place


@njit(nogil=True)
def pack(scores, starts, keys):
    """Numbers that order as (score descending, place): the score's bits made to ascend, turned over, then the place."""
    bits = scores.view(np.int32)
    for q in range(len(keys)):
        for place in range(starts[q], starts[q + 1]):
            # 0.0 and -0.0 are equal
            value = np.int64(0) if scores[place] == 0 else np.int64(bits[place])
            ascending = value if value >= 0 else np.int64(-(2**31)) - value
            keys[q, place - starts[q]] = np.uint64((np.int64(2**31) - ascending) << np.int64(32) | np.int64(place))


@njit(nogil=True)
def unpack(keys, rows, scores, starts, k, taken, ranked, counts, ties):
    """Fill rows and scores of each query's k best and all that equal the last, their number, and whether some tie."""
    for q in range(len(keys)):
        count = 0
        for place in range(starts[q + 1] - starts[q]):
            at = np.int64(keys[q, place] & np.uint64(0xFFFFFFFF))
            if place and scores[at] == ranked[q, count - 1]:
                ties[q] = True
            elif place >= k:
                break
            taken[q, count], ranked[q, count] = rows[at], scores[at]
            count += 1
        counts[q] = count
