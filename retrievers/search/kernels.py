"""The inner loops of the search on CPUs, compiled by numba when first used: no C toolchain.

One routine is written in LLVM's vector language, since no loop in Python reaches it: `_score`, the approximate scores
of one document for 64 queries at once. Queries lie in rows of 64 lanes, a row a term, so that a document term is a
multiply-add over one row: no gather, no scatter, no branch. Terms are taken two at a time: their rows are inter-
leaved, and one `pmaddwd` multiplies 16-bit lanes and adds each pair into 32 bits without loss (AVX-512, AVX2, SSE2;
elsewhere the same sum in plain 32-bit arithmetic).

64 lanes are Q below, rows are [V,64].
"""

import platform
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from harness.retrievers.jit import njit

LANES = 64  # queries of a group; a mask of them is one 64-bit word
_I16, _I32, _I64, _HALF, _FLOAT = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()
_ROW, _WIDE, _REAL = (ir.VectorType(kind, LANES) for kind in (_I16, _I32, _FLOAT))


def _instructions() -> str:
    """The widest multiply-add of pairs that this processor has."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "plain"
    found = llvmlite.binding.get_host_cpu_features()
    return "avx512" if found.get("avx512bw") else "avx2" if found.get("avx2") else "sse2"


PAIRS = {
    "avx512": ("llvm.x86.avx512.pmaddw.d.512", 32),
    "avx2": ("llvm.x86.avx2.pmadd.wd", 16),
    "sse2": ("llvm.x86.sse2.pmadd.wd", 8),
}
instructions = _instructions()


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _take(builder: Any, vector: Any, places: list[int], other: Any = None) -> Any:
    """The elements at `places` of `vector`, or of `vector` and `other` one behind the other."""
    mask = ir.Constant(ir.VectorType(_I32, len(places)), places)
    return builder.shuffle_vector(vector, vector if other is None else other, mask)


def _multiply_add(builder: Any, sums: list[Any], first: Any, second: Any, pair: Any) -> list[Any]:
    """Add w₀·first + w₁·second to `sums`, lane by lane; `pair` holds w₀ in its low 16 bits and w₁ in its high ones.

    Where pairs are multiplied at once, `sums` are pieces in the order in which interleaving leaves the lanes; `_lanes`
    puts them back.
    """
    if instructions == "plain":
        low = builder.sext(builder.trunc(pair, _I16), _I32)
        high = builder.ashr(pair, ir.Constant(_I32, 16))
        products = (
            builder.mul(builder.sext(row, _WIDE), _splat(builder, w, LANES))
            for row, w in ((first, low), (second, high))
        )
        return [builder.add(sums[0], builder.add(*products))]
    name, width = PAIRS[instructions]
    half = ir.VectorType(_I32, width // 2)
    words = ir.VectorType(_I16, width)
    multiply = cgutils.get_or_insert_function(builder.module, ir.FunctionType(half, [words, words]), name)
    weights = builder.bitcast(_splat(builder, pair, width // 2), words)
    found = []
    for number, places in enumerate(_interleaved(width)):
        start = number // 2 * width
        rows = [_take(builder, row, list(range(start, start + width))) for row in (first, second)]
        mixed = _take(
            builder, rows[0], [width * (n % 2) + place for n, place in enumerate(np.repeat(places, 2))], rows[1]
        )
        found.append(builder.add(sums[number], builder.call(multiply, [mixed, weights])))
    return found


def _interleaved(width: int) -> list[list[int]]:
    """For each piece of the sums, which of its register's `width` lanes it holds: what punpcklwd and punpckhwd take."""
    low = [lane + place for lane in range(0, width, 8) for place in range(4)]
    return [low, [place + 4 for place in low]] * (LANES // width)


def _lanes(builder: Any, sums: list[Any]) -> Any:
    """The sums of 64 lanes in order, as one vector."""
    if instructions == "plain":
        return sums[0]
    _, width = PAIRS[instructions]
    pieces = []
    for start in range(0, len(sums), 2):
        held = np.concatenate(_interleaved(width)[:2])
        pieces.append(_take(builder, sums[start], [int(p) for p in np.argsort(held)], sums[start + 1]))
    while len(pieces) > 1:
        size = pieces[0].type.count
        pieces = [_take(builder, a, list(range(2 * size)), b) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any = None) -> Any:
    """A pointer to element `place` of a contiguous array."""
    data = context.make_array(kind)(context, builder, array).data
    return data if place is None else builder.gep(data, [place])


@intrinsic
def _score(typingctx, rows, term_ids, weights, start, stop, inverse, scales, dense, place, least, out):
    """Write the approximate scores of a document for 64 queries to `out`, and return those at or above `least` as bits.

    rows [V,64] int16; term_ids, uint16 or uint32, and weights, int16, of which [start,stop) are the document's, an even
    number; inverse: float32, scales, least, out [64] float32; dense: flat, bfloat16 (as int16) or float32, from `place`
    on.
    """
    signature = types.uint64(rows, term_ids, weights, start, stop, inverse, scales, dense, place, least, out)

    def codegen(context, builder, signature, args):
        kinds = signature.args
        table = builder.bitcast(_at(context, builder, kinds[0], args[0]), _ROW.as_pointer())
        pairs = 1 if instructions == "plain" else 2 * LANES // PAIRS[instructions][1]
        piece = _WIDE if instructions == "plain" else ir.VectorType(_I32, LANES // pairs)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(piece, [0] * piece.count)) for _ in range(pairs)]
        with cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(_I64, 2), _I64) as (p, _):
            bits = 8 * context.get_abi_sizeof(context.get_value_type(kinds[1].dtype))  # of a term id
            ids, pair = (
                builder.load(
                    builder.bitcast(_at(context, builder, kinds[n], args[n], p), ir.IntType(size).as_pointer()),
                    align=size // 16,
                )
                for n, size in ((1, 2 * bits), (2, 32))
            )
            places = (
                builder.and_(ids, ir.Constant(ids.type, (1 << bits) - 1)),
                builder.lshr(ids, ir.Constant(ids.type, bits)),
            )
            both = [
                builder.load(builder.gep(table, [n if bits == 32 else builder.zext(n, _I64)]), align=2) for n in places
            ]
            new = _multiply_add(builder, [builder.load(s) for s in sums], both[0], both[1], pair)
            for slot, value in zip(sums, new, strict=True):
                builder.store(value, slot)
        lexical = builder.sitofp(_lanes(builder, [builder.load(s) for s in sums]), _REAL)

        def vector(n: int, kind: Any, place: Any = None) -> Any:
            pointer = builder.bitcast(_at(context, builder, kinds[n], args[n], place), kind.as_pointer())
            return builder.load(pointer, align=2 if kind is _ROW else 4)

        scale = builder.fmul(vector(6, _REAL), _splat(builder, args[5], LANES))
        if kinds[7].dtype == types.int16:
            wide = builder.shl(builder.zext(vector(7, _ROW, args[8]), _WIDE), ir.Constant(_WIDE, [16] * LANES))
            first = builder.bitcast(wide, _REAL)
        else:
            first = vector(7, _REAL, args[8])
        total = builder.fadd(builder.fmul(lexical, scale), first)
        builder.store(total, builder.bitcast(_at(context, builder, kinds[10], args[10]), _REAL.as_pointer()), align=4)
        return builder.bitcast(builder.fcmp_ordered(">=", total, vector(9, _REAL)), _I64)

    return signature, codegen


@intrinsic
def _lowest(typingctx, bits):
    """The place of the lowest bit that is set, of a word that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(bits), codegen


@intrinsic
def half(typingctx, bits):
    """The float32 whose float16 bits these are; numba has no float16 on CPUs."""

    def codegen(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], _HALF), _FLOAT)

    return types.float32(bits), codegen


@njit(nogil=True)
def scan(rows, term_ids, weights, offsets, inverses, scales, dense, least, first, counts, scores, places):
    """Score documents [n] for a group of 64 queries and append those at or above `least` to the queries' candidates.

    offsets [n+1] into term_ids and weights; inverses [n]; dense [n·64]: the dense halves' products; first: the row
    number of document 0; counts [64]; scores, places [64,C], C with room for n more.
    """
    found = np.empty(LANES, np.float32)
    for n in range(len(inverses)):
        start, stop = offsets[n], offsets[n + 1]
        bits = _score(rows, term_ids, weights, start, stop, inverses[n], scales, dense, n * LANES, least, found)
        while bits != np.uint64(0):
            lane = _lowest(bits)
            bits &= bits - np.uint64(1)
            at = counts[lane]
            scores[lane, at] = found[lane]
            places[lane, at] = first + n
            counts[lane] = at + 1
