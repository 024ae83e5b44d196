"""A small neural network over the ranking columns, beside the ranker's trees: what it scores and why.

Trees cut columns in steps; a network weighs them smoothly. It costs a request a fifth of a millisecond, so it is
computed here, in compiled loops whose sums run in one order whatever the batch: training, serving and backfill get the
same bits. `models.networkfit` trains it.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from models.errors import ArtifactMismatch
from models.ports import FloatMatrix, FloatVector

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

BUCKET_BITS: Final = 20
"""Low bits of a float32 that a bucket of values shares: eight buckets from a power of two to the next."""
LANES: Final = 16
"""Units that are summed up side by side."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How each column's values become comparable: by piecewise linear curves, close to their normal quantiles.

    A value's bucket is found from its bits, without a search. ``least``, ``most`` [columns]: the range that training
    saw, to which values are cut. ``low`` [columns]: bucket of ``least``; ``starts`` [columns + 1]: bounds of a column's
    buckets in ``curve`` [buckets, 2]: a value x of a bucket becomes curve[bucket, 0] + curve[bucket, 1] x. A column
    that training saw only one value of, or none, becomes 0.
    """

    least: Floats
    most: Floats
    low: Ints
    starts: Ints
    curve: Floats

    def apply(self, matrix: FloatMatrix, rows: npt.NDArray[np.int64]) -> Floats:
        """Scaled values float32 [len(rows), columns] of some rows of a matrix [n, columns]; NaN stays NaN."""
        scaled = np.empty((len(rows), matrix.shape[1]), np.float32)
        _scale_rows(matrix, rows, *self.arrays, scaled)
        return scaled

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.least, self.most, self.low, self.starts, self.curve


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Two hidden layers of rectified units over scaled columns; scores are comparable within one request only.

    ``value``, ``absent`` [columns, first]: what a column's scaled value, or its being NaN, adds to the first layer.
    ``tells`` [columns]: whether NaN adds anything. ``first`` [first]: the first layer's bias; ``between`` [first,
    second] and ``second``: the second layer's weights and bias; ``last`` [second]: the weights of the score, which has
    no bias, for none would change an order.
    """

    scale: Scale
    value: Floats
    absent: Floats
    tells: npt.NDArray[np.bool_]
    first: Floats
    between: Floats
    second: Floats
    last: Floats

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        """Scores [n] of rows [n, columns], float32."""
        scores = np.empty(len(matrix), np.float64)
        rows = np.ascontiguousarray(matrix, np.float32)
        _score(rows, *self.scale.arrays, *self._layers, scores)
        return scores

    def shares(self, matrix: FloatMatrix) -> npt.NDArray[np.float64]:
        """Contributions [n, columns + 1] to the scores; the last is the score of a row with every column in its middle.

        They add up to the score. After DeepLIFT's rescale rule (Shrikumar et al., "Learning Important Features Through
        Propagating Activation Differences", ICML 2017): a unit passes on how it differs from that row, in proportion.
        """
        rows = np.ascontiguousarray(matrix, np.float32)
        scaled = self.scale.apply(rows, np.arange(len(rows)))
        shares = np.empty((len(rows), rows.shape[1] + 1))
        _explain(scaled, self.value, self.absent, self.first, self.between, self.second, self.last, shares)
        return shares

    @property
    def _layers(self) -> tuple[npt.NDArray[Any], ...]:
        return self.value, self.absent, self.tells, self.first, self.between, self.second, self.last

    def save(self, path: Path) -> None:
        """Write one file of plain arrays."""
        scale = {f"scale_{part.name}": getattr(self.scale, part.name) for part in fields(Scale)}
        layers = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "scale"}
        np.savez_compressed(path, allow_pickle=False, **scale, **layers)

    @classmethod
    def load(cls, path: Path, columns: int) -> Self:
        """Raises ArtifactMismatch where the file is damaged or is a network of other columns."""
        try:
            with np.load(path, allow_pickle=False) as held:
                scale = Scale(*(held[f"scale_{part.name}"] for part in fields(Scale)))
                # In C order, whoever wrote them: `_add_products` goes by addresses.
                layers = (np.ascontiguousarray(held[part.name]) for part in fields(cls) if part.name != "scale")
                network = cls(scale, *layers)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ArtifactMismatch(f"{path} is no network ({error}). Run: tandem train") from error
        if len(network.value) != columns:
            raise ArtifactMismatch(f"{path} scores {len(network.value)} columns, not {columns}. Run: tandem train")
        return network


def buckets(values: Floats) -> Ints:
    """The bucket of each value: ascending with the values, the same for all that share their highest bits."""
    # Zero with a sign is zero.
    bits = np.ascontiguousarray(values + np.float32(0.0), np.float32).view(np.int32)
    # Bits of negative numbers descend as numbers ascend.
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    return (ordered >> BUCKET_BITS).astype(np.int32)


def bucket_edges(bucket: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The least value of each bucket; ``bucket`` as from `buckets`."""
    ordered = (bucket << BUCKET_BITS).astype(np.int32)
    bits = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).astype(np.int32)
    return bits.view(np.float32).astype(np.float64)


@njit(cache=True, nogil=True)
def _scale_row(values, bits, least, most, low, starts, curve, scaled, lost):
    """Write the scaled values of one row, 0 for NaN, and to ``lost`` the columns that are NaN; returns how many."""
    count, zero = 0, np.float32(0.0)
    for column in range(len(values)):
        value = values[column]
        if value != value:
            scaled[column] = zero
            lost[count] = column
            count += 1
            continue
        at = starts[column]
        if value >= most[column]:
            value = most[column]
            at = starts[column + 1] - 1
        elif value <= least[column]:
            value = least[column]
        else:
            own = bits[column] if value != zero else np.int32(0)  # zero with a sign is zero
            ordered = own ^ np.int32(0x7FFFFFFF) if own < 0 else own
            at += (ordered >> BUCKET_BITS) - low[column]
        scaled[column] = curve[at, 0] + curve[at, 1] * value
    return count


@njit(cache=True, nogil=True)
def _scale_rows(matrix, rows, least, most, low, starts, curve, scaled):
    bits = matrix.view(np.int32)
    lost = np.empty(matrix.shape[1], np.int64)
    for at in range(len(rows)):
        row = rows[at]
        count = _scale_row(matrix[row], bits[row], least, most, low, starts, curve, scaled[at], lost)
        for place in range(count):
            scaled[at, lost[place]] = np.nan


@intrinsic
def _add_tile(_, inputs, weights, sums, n, units):  # noqa: ARG001 - numba gives their types
    """Add inputs [4, n] times the next LANES columns of weights [n, units] to as many of sums [4, units].

    Given their addresses. LLVM's own vectors: they stay in registers while the inputs go by, where numba's loops write
    and read every sum again for each few inputs (twice the time). Products and sums are instructions of their own, so
    that every machine gives the same bits, whatever the length of its vectors.
    """
    vector, many, word = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64), ir.IntType(32)
    nowhere = ir.Constant(vector, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)

    def generate(context, builder, _, addresses):
        *starts, n, units = addresses
        rows, weight, outs = (builder.inttoptr(start, ir.FloatType().as_pointer()) for start in starts)

        def vector_at(address):
            return builder.bitcast(address, vector.as_pointer())

        def row_of(matrix, row, width):
            return builder.gep(matrix, [builder.mul(width, ir.Constant(many, row))])

        targets = [vector_at(row_of(outs, row, units)) for row in range(4)]
        inputs = [row_of(rows, row, n) for row in range(4)]
        begun = [builder.load(target, align=4) for target in targets]
        before, loop, after = builder.block, *(builder.append_basic_block(name) for name in ("tile", "tile.end"))
        builder.branch(loop)
        builder.position_at_end(loop)
        at, here = builder.phi(many), builder.phi(weight.type)
        sums = [builder.phi(vector) for _ in range(4)]
        weights = builder.load(vector_at(here), align=4)
        added = []
        for row in range(4):
            value = builder.load(builder.gep(inputs[row], [at]))
            alone = builder.insert_element(nowhere, value, ir.Constant(word, 0))
            spread = builder.shuffle_vector(alone, nowhere, everywhere)
            added.append(builder.fadd(sums[row], builder.fmul(spread, weights)))
        onward, further = builder.add(at, ir.Constant(many, 1)), builder.gep(here, [units])
        firsts, laters = (ir.Constant(many, 0), weight, *begun), (onward, further, *added)
        for phi, first, later in zip((at, here, *sums), firsts, laters):
            phi.add_incoming(first, before)
            phi.add_incoming(later, loop)
        builder.cbranch(builder.icmp_signed("<", onward, n), loop, after)
        builder.position_at_end(after)
        for target, result in zip(targets, added):
            builder.store(result, target, align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp, types.intp, types.intp), generate


@njit(cache=True, nogil=True)
def _add_products(inputs, weights, sums):
    """Add inputs [4, n] times weights [n, units] to sums [4, units], in the order of the inputs; all in C order."""
    n, units = weights.shape
    tiled = units // LANES * LANES if n else 0
    values, weight, total = np.uintp(inputs.ctypes.data), np.uintp(weights.ctypes.data), np.uintp(sums.ctypes.data)
    for unit in range(0, tiled, LANES):
        _add_tile(values, weight + np.uintp(4 * unit), total + np.uintp(4 * unit), n, units)
    for at in range(n):
        for row in range(4):
            for unit in range(tiled, units):
                sums[row, unit] += inputs[row, at] * weights[at, unit]


@njit(cache=True, nogil=True)
def _score(rows, least, most, low, starts, curve, value, absent, tells, first, between, second, last, scores):
    bits = rows.view(np.int32)
    columns, units = value.shape
    deep = len(second)
    zero = np.float32(0.0)
    # Rows that are not there are scored with the last few: what was in the buffers, for nobody to read.
    scaled, lost = np.zeros((4, columns), np.float32), np.empty(columns, np.int64)
    one, two = np.zeros((4, units), np.float32), np.zeros((4, deep), np.float32)
    totals = np.empty(4)
    for start in range(0, len(rows), 4):
        count = min(4, len(rows) - start)
        for own in range(count):
            row, sums = start + own, one[own]
            absences = _scale_row(rows[row], bits[row], least, most, low, starts, curve, scaled[own], lost)
            sums[:] = first
            for place in range(absences):
                column = lost[place]
                if tells[column]:
                    weights = absent[column]
                    for unit in range(units):
                        sums[unit] += weights[unit]
            two[own] = second
        _add_products(scaled, value, one)
        for own in range(4):
            sums = one[own]
            for unit in range(units):
                sums[unit] = sums[unit] if sums[unit] > zero else zero
        _add_products(one, between, two)
        totals[:] = 0.0
        for unit in range(deep):
            for own in range(4):  # side by side: a sum waits for its last addend
                reached = two[own, unit] if two[own, unit] > zero else zero
                totals[own] += np.float64(reached) * np.float64(last[unit])
        for own in range(count):
            scores[start + own] = totals[own]


@njit(cache=True, nogil=True)
def _passed(usual, change):
    """Which share of a ``change`` of its input a rectified unit passes on, from ``usual``."""
    if abs(change) < 1e-12:
        return 1.0 if usual > 0.0 else 0.0  # where nothing changes, the slope
    return (max(usual + change, 0.0) - max(usual, 0.0)) / change


@njit(cache=True, nogil=True)
def _product(weights, values):
    """The sum of weights times values [n] in double precision, in an order of its own: by four, then the four."""
    n = len(values)
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n // 4 * 4
    for at in range(0, whole, 4):
        a += np.float64(weights[at]) * values[at]
        b += np.float64(weights[at + 1]) * values[at + 1]
        c += np.float64(weights[at + 2]) * values[at + 2]
        d += np.float64(weights[at + 3]) * values[at + 3]
    for at in range(whole, n):
        a += np.float64(weights[at]) * values[at]
    return (a + b) + (c + d)


@njit(cache=True, nogil=True)
def _explain(scaled, value, absent, first, between, second, last, shares):
    columns, units = value.shape
    deep = len(second)
    middle = second.astype(np.float64)
    for unit in range(units):
        for to in range(deep):
            middle[to] += max(np.float64(first[unit]), 0.0) * np.float64(between[unit, to])
    alone = 0.0
    for to in range(deep):
        alone += max(middle[to], 0.0) * np.float64(last[to])
    before, passed, further, worth = np.empty(units), np.empty(units), np.empty(deep), np.empty(units)
    for row in range(len(scaled)):
        before[:] = 0.0
        for column in range(columns):
            one = np.float64(scaled[row, column])
            if one != one:
                for unit in range(units):
                    before[unit] += np.float64(absent[column, unit])
            else:
                for unit in range(units):
                    before[unit] += one * np.float64(value[column, unit])
        further[:] = 0.0
        for unit in range(units):
            passed[unit] = _passed(np.float64(first[unit]), before[unit])
            onward = before[unit] * passed[unit]
            for to in range(deep):
                further[to] += onward * np.float64(between[unit, to])
        for to in range(deep):
            further[to] = _passed(middle[to], further[to]) * np.float64(last[to])
        # What a unit of each first-layer sum adds to the score.
        for unit in range(units):
            worth[unit] = passed[unit] * _product(between[unit], further)
        for column in range(columns):
            one = np.float64(scaled[row, column])
            lost = one != one
            shares[row, column] = _product(absent[column], worth) if lost else one * _product(value[column], worth)
        shares[row, columns] = alone
