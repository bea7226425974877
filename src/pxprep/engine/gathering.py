"""The values between two bounds, of all blocks of an image, and how many lie around them.

What is gathered from blocks is merged. Meanwhile values are let go that can no longer be at a
wanted rank: so what is held is limited, however wide the bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..aliases import Block, DType
from .kernels.brackets import find_rows, gather_rows, join_rows, trim_rows

# So many values may be held for each quantile, however few are enough.
LEAST_HELD = 1 << 12
# If nothing is known of where a quantile lies, first so many values are gathered. They tell enough
# for GROWTH times as many, and so on.
FIRST_VALUES = 1 << 12
GROWTH = 4
# Where more room is needed, it grows at least by this factor.
ROOM = 1.5
# What every statistic counts beside its numbers: values, and which of them are negative, and
# infinite ones. Fields of the types of its results.
COUNT_FIELDS = [(name, np.int64) for name in ("counted", "negative", "infinite")]


class Bounds(NamedTuple):
    """Two bounds for each channel: its quantile lies between them, as far as samples tell.

    Both have the shape (c,).

    If several quantiles are wanted, the bounds of all channels for the first one come first, then
    those for the second one, in the same two arrays.
    """

    low: Block
    high: Block


class Limits(NamedTuple):
    """How many values are enough for each quantile, and how many may be held for all together.

    Every wanted rank is among the `enough[:, 0]` largest, and also among the `enough[:, 1]`
    smallest, of the values that are counted; int64, shape (quantile, 2).
    """

    enough: Block
    most: int


@dataclass(frozen=True, eq=False)
class Gathered:
    """For each quantile, what lies between two bounds of the values of a channel.

    Attributes
    ----------
    tally
        How many values are counted, negative, infinite, below the lower bound, equal to it, and
        equal to the upper bound if that is another; shape (quantile, 6), int64.
    bounds
        The lower and the upper bounds, in the type of the values; shape (quantile, 2).
    inside
        The values between the bounds, in any order: those for the first quantile come first.
    ends
        Where those for each quantile end.
    """

    tally: Block
    bounds: Block
    inside: Block
    ends: Block

    @property
    def n_inside(self) -> Block:
        """How many values lie between the bounds of each quantile."""
        return np.diff(self.ends, prepend=0)

    def quantiles(self, q: Block) -> Block | None:
        """The quantiles `q`, shape (quantile,); None if one of them lies outside its bounds."""
        values = np.empty(len(q))
        is_found = find_rows(self.inside.copy(), self.ends, self.bounds, self.tally, q, values)
        return values if is_found else None


class Gatherer:
    """Gathers the values between bounds, which narrow as more values are known.

    Parameters
    ----------
    bounds
        The bounds to begin with.
    limits
        How many values are enough.
    zeros
        Whether zeros are counted.
    dtype
        Float type of the values.
    """

    def __init__(self, bounds: Bounds, limits: Limits, zeros: bool, dtype: DType) -> None:
        self.bounds = np.stack(bounds, axis=1).astype(dtype)
        self._enough, self._zeros = limits.enough, zeros
        n = len(self.bounds)
        self._tally = np.zeros((n, 6), np.int64)
        self._n_inside = np.zeros(n, np.int64)
        self._inside = np.empty((n, 0), dtype)

    @property
    def n_held(self) -> int:
        """How many values are held for all quantiles."""
        return int(self._n_inside.sum())

    def take(self, values: Block) -> None:
        """Take values, axes (c, ...)."""
        lines, step = _as_lines(values, self._inside.dtype)
        size = values[0].size
        starts = np.arange(len(self.bounds)) % len(values) * step
        self._make_room(size + 1)
        begin, n = 0, FIRST_VALUES if np.isinf(self.bounds).all(axis=1).any() else size
        while begin < size:
            some = lines, starts + begin, min(n, size - begin)
            gather_rows(*some, self._zeros, self._tally, self.bounds, self._inside, self._n_inside)
            begin, n = begin + n, GROWTH * n
            self._trim(LEAST_HELD if begin >= size else 0)

    def add(self, part: Gathered) -> None:
        """Add what was gathered elsewhere, where the bounds were the same in the beginning."""
        self._make_room(int(part.n_inside.max()))
        added = part.inside, part.ends, part.tally, part.bounds
        join_rows(*added, self._tally, self.bounds, self._inside, self._n_inside)
        self._trim(LEAST_HELD)

    def gathered(self) -> Gathered:
        """What was gathered so far; nothing more may be taken."""
        rows = zip(self._inside, self._n_inside.tolist(), strict=True)
        inside = np.concatenate([row[:n] for row, n in rows])
        return Gathered(self._tally, self.bounds, inside, np.cumsum(self._n_inside))

    def _trim(self, least: int) -> None:
        """Let go of values that cannot be wanted, if more than `least` are held for a quantile."""
        if self._n_inside.max() > least:
            trim_rows(self._enough, self._tally, self.bounds, self._inside, self._n_inside)

    def _make_room(self, n: int) -> None:
        held, before = int(self._n_inside.max()), self._inside
        if held + n > before.shape[1]:
            room = max(held + n, int(ROOM * before.shape[1]))
            self._inside = np.empty((len(before), room), before.dtype)
            self._inside[:, :held] = before[:, :held]


def merged(parts: Sequence[Gathered], limits: Limits) -> Gathered | None:
    """Merge what was gathered from several parts of an image; None if that is too much."""
    bounds = Bounds(*parts[0].bounds.T)
    gatherer = Gatherer(bounds, limits, zeros=False, dtype=parts[0].inside.dtype)
    for part in parts:
        gatherer.add(part)
    return gatherer.gathered() if gatherer.n_held <= limits.most else None


def _as_lines(values: Block, dtype: DType) -> tuple[Block, int]:
    """All values, axes (c, ...), in one line, and the step in it from a channel to the next one."""
    channels = values.reshape(len(values), -1).astype(dtype, copy=False)
    n, size = channels.shape
    stride, step = channels.strides
    if channels.flags.c_contiguous or step != dtype.itemsize or stride < size * step:
        lines, stride = np.ascontiguousarray(channels).reshape(-1), size * dtype.itemsize
    else:
        lines = as_strided(channels, ((n - 1) * stride // step + size,), (step,))
    lines.flags.writeable = False  # Numba would compile once more for what may be written to
    return lines, stride // dtype.itemsize
