"""Which value a quantile is, from counts of digits or from gathered values: pure functions.

The sort key of a value (see `kernels.counts`) is cut into 16-bit digits. The highest digit is
counted over all values, which tells the digit of the value at the wanted rank. The next digit is
counted over the values that share that one, and so on until the whole key is known.
"""

from typing import NamedTuple

import numpy as np

from ..aliases import Array, Block, DType
from .digits import bit_constants, integer_offset, n_digits
from .gathering import COUNT_FIELDS, Gathered
from .kernels.counts import DIGIT_BITS, INFINITE_SLOT, N_DIGITS, RUN

# How far the selection of one channel has come. A quantile lies between the values at two
# neighbouring ranks, `weight` of the way from the first to the second. For each of the two,
# `prefix` has the digits of its key that are known, and `rank` is its rank among the values whose
# keys begin with those digits. `counted`, `negative` and `infinite` are as in `Quantiles`.
SELECTION = np.dtype(
    [
        *COUNT_FIELDS,
        ("rank", np.int64, (2,)),
        ("prefix", np.uint64, (2,)),
        ("weight", np.float64),
    ]
)
# The fields of `Quantiles`.
SETTLED = np.dtype([("value", np.float64), *COUNT_FIELDS])


class Quantiles(NamedTuple):
    """Quantiles of each channel, and what the pixels were; NumPy or lazy, shape (group, c).

    For several quantiles of each channel `value` has the shape (group, quantile, c).
    """

    value: Array  # float64, NaN where nothing was counted
    counted: Array  # int64, pixels that the quantile is of
    negative: Array  # int64, how many of them are below zero
    infinite: Array  # int64, pixels that are missing because they are infinite

    @classmethod
    def of(cls, settled: Array) -> "Quantiles":
        """The quantiles that an array of the type `SETTLED` holds."""
        return cls(*(settled[name] for name in cls._fields))

    def apart(self, n: int) -> "list[Quantiles]":
        """The `n` quantiles, one by one, that lie one after the other in these arrays."""
        if n == 1:
            return [self]
        return [
            Quantiles(*parts) for parts in zip(*(np.split(one, n) for one in self), strict=True)
        ]


def select_gathered(gathered: Gathered, q: Block) -> Quantiles | None:
    """The quantile of each channel from what was gathered; None if any lies outside its bounds."""
    values = gathered.quantiles(q)
    return None if values is None else Quantiles(values, *gathered.tally.T[: len(COUNT_FIELDS)])


def begin(counts: Block, q: Block, *, dtype: DType) -> Block:
    """The selection after the first digit of values of a type."""
    # The digit at which 0 and more begin.
    zero = integer_offset(dtype) if n_digits(dtype) == 1 else N_DIGITS // 2
    sums = _sums_of_runs(counts)[:, 0]
    selection = np.zeros(len(counts), SELECTION)
    selection["counted"] = sums.sum(axis=1)
    selection["negative"] = counts[:, 0, :zero].sum(axis=1, dtype=np.int64)
    selection["infinite"] = counts[:, 0, INFINITE_SLOT:].sum(axis=1)  # integers have no such slot
    selection["rank"], selection["weight"] = _ranks(selection["counted"], q)
    return _take_digits(counts, sums[:, np.newaxis], selection)


def _ranks(counted: Block, q: Block) -> tuple[Block, Block]:
    """The two ranks between which each quantile lies, shape (c, 2), and its weight, shape (c,).

    The weight says how far it is from the first rank to the second: 0 is the first.
    """
    last = np.maximum(counted - 1, 0)
    # The virtual index and weight of numpy.quantile, in its arithmetic.
    position = last * (q / 100)
    below = np.floor(position).astype(np.int64)
    return np.stack([below, np.minimum(below + 1, last)], axis=1), position - below


def refine(counts: Block, selection: Block) -> Block:
    """The selection after one more digit."""
    return _take_digits(counts, _sums_of_runs(counts), selection.copy())


def _runs(counts: Block) -> Block:
    """The counts of digits, cut into runs: shape (c, n, run, RUN)."""
    return counts[:, :, :N_DIGITS].reshape(*counts.shape[:2], -1, RUN)


def _sums_of_runs(counts: Block) -> Block:
    """The sum of each run of counts.

    It tells in which run a rank falls, so that only that run is searched.
    """
    return _runs(counts).sum(axis=3, dtype=np.int64)


def _take_digits(counts: Block, sums: Block, selection: Block) -> Block:
    """Append to each prefix the digit in which its rank falls. Changes `selection`.

    `sums` are those of runs of `counts`.
    """
    rank = selection["rank"]
    run, below_run = _falls_in(np.broadcast_to(sums, (*rank.shape, sums.shape[-1])), rank)
    channel = np.arange(len(counts))[:, np.newaxis]
    prefix = np.arange(rank.shape[1]) % counts.shape[1]  # both ranks may have the same
    within, below = _falls_in(_runs(counts)[channel, prefix, run], rank - below_run)
    digit = run * RUN + within
    selection["rank"] = rank - below_run - below
    selection["prefix"] = (selection["prefix"] << np.uint64(DIGIT_BITS)) | digit.astype(np.uint64)
    return selection


def _falls_in(counts: Block, rank: Block) -> tuple[Block, Block]:
    """The positions along the last axis at which ranks fall, and the sum of the counts before."""
    ends = np.cumsum(counts, axis=-1, dtype=np.int64)
    before = np.concatenate([np.zeros_like(ends[..., :1]), ends[..., :-1]], axis=-1)
    # In a channel without any counted pixel no position is right: the last one will do.
    last = ends.shape[-1] - 1
    position = np.minimum((ends <= rank[..., np.newaxis]).sum(axis=-1, keepdims=True), last)
    return position[..., 0], np.take_along_axis(before, position, axis=-1)[..., 0]


def interpolate(selection: Block, *, dtype: DType) -> Block:
    """The `SETTLED` of each channel, once all digits are known; `dtype` is that of the values."""
    low, high = _decode(selection["prefix"], dtype).astype(np.float64).T
    settled = np.empty(len(selection), SETTLED)
    value = _between(low, high, selection["weight"])
    settled["value"] = np.where(selection["counted"] > 0, value, np.nan)
    for name, _ in COUNT_FIELDS:
        settled[name] = selection[name]
    return settled


def _between(low: Block, high: Block, weight: Block) -> Block:
    # As numpy.quantile does: from the nearer end.
    with np.errstate(over="ignore", invalid="ignore"):
        step = high - low
        value: Block = np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)
        return value


def _decode(keys: Block, dtype: DType) -> Block:
    """The values whose sort keys are `keys`."""
    if n_digits(dtype) == 1:
        return keys.astype(np.int64) - integer_offset(dtype)
    floats = np.dtype(f"f{2 * n_digits(dtype)}")
    sign, _, ones = bit_constants(floats)
    keys = keys.astype(sign.dtype)
    values: Block = np.where(keys & sign, keys ^ sign, keys ^ ones).view(floats)
    return values
