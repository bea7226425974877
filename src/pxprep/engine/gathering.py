"""The values between two bounds, of all blocks of an image, and how many lie around them.

What is gathered from blocks is merged into one `Gathered` for each quantile. Meanwhile values are
let go that can no longer be at a wanted rank: so what is held is limited, however wide the bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from ..aliases import Block, Real
from .kernels.brackets import gather

# Values are let go once more are held than SPARE times as many as are enough, and more than
# LEAST_HELD.
SPARE = 1.5
LEAST_HELD = 1 << 10
# If nothing is known of where a quantile lies, first so many values are gathered. They tell enough
# for GROWTH times as many, and so on.
FIRST_VALUES = 1 << 12
GROWTH = 16
# What every statistic counts beside its numbers: values, and which of them are negative, and
# infinite ones. Fields of the types of its results.
COUNT_FIELDS = [(name, np.int64) for name in ("counted", "negative", "infinite")]
# What a `tally` counts.
COUNTED, NEGATIVE, INFINITE, BELOW, AT_LOW, AT_HIGH = range(6)


class Bounds(NamedTuple):
    """Two bounds for each channel: its quantile lies between them, as far as samples tell.

    Both have the shape (c,).

    If several quantiles are wanted, the bounds of all channels for the first one come first, then
    those for the second one, in the same two arrays.
    """

    low: Block
    high: Block


class Enough(NamedTuple):
    """So many values suffice.

    Every wanted rank is among the `top` largest, and also among the `bottom` smallest, of the
    values that are counted.
    """

    top: int
    bottom: int


class Limits(NamedTuple):
    """What is enough for each quantile, and how many values may be held for all together."""

    enough: tuple[Enough, ...]
    most: int


@dataclass(frozen=True, eq=False)
class Gathered:
    """What lies between two bounds of the values of a channel.

    Attributes
    ----------
    tally
        How many values are counted, negative, infinite, below the lower bound, equal to it, and
        equal to the upper bound if that is another.
    inside
        The values between the bounds, in any order.
    bounds
        The lower and the upper bound, in the type of the values.
    """

    tally: Block
    inside: Block
    bounds: tuple[Real, Real]

    @classmethod
    def of(
        cls, values: Block, bounds: tuple[Real, Real], zeros: bool, enough: Enough, scratch: Block
    ) -> "Gathered":
        """What lies between bounds of these values, as far as it may be wanted.

        `scratch` has room for one more value than there are.
        """
        found, flat = cls.nothing(bounds), np.ascontiguousarray(values, scratch.dtype).reshape(-1)
        size = FIRST_VALUES if np.isinf(bounds).all() else flat.size
        start = 0
        while start < flat.size:
            n = gather(flat[start : start + size], *found.bounds, zeros, found.tally, scratch)
            inside = np.concatenate([found.inside, scratch[:n]]) if start else scratch[:n].copy()
            found = cls(found.tally, inside, found.bounds).trimmed(enough)
            start, size = start + size, GROWTH * size
        return found

    @classmethod
    def nothing(cls, bounds: tuple[Real, Real]) -> "Gathered":
        """What is gathered where there are no values."""
        return cls(np.zeros(6, np.int64), np.empty(0, bounds[0].dtype), bounds)

    @classmethod
    def merged(cls, parts: Sequence["Gathered"], enough: Enough) -> "Gathered":
        """What lies between bounds of the values of all parts, as far as it may be wanted.

        Each part may have been trimmed to narrower bounds of its own. What lies outside those is
        not wanted: so the result has the highest lower and the lowest upper bound.
        """
        if len(parts) == 1:
            return parts[0].trimmed(enough)
        low = max(part.bounds[0] for part in parts)
        high = min(part.bounds[1] for part in parts)
        parts = [part.narrowed(low, high) for part in parts]
        tally = reduce(np.add, [part.tally for part in parts])
        inside = np.concatenate([part.inside for part in parts])
        return cls(tally, inside, (low, high)).trimmed(enough)

    def at(self, positions: Sequence[int]) -> list[Real]:
        """The values at these positions among those inside, as if they were sorted.

        A position below 0 gives the lower bound, a position behind the last value the upper bound.
        """
        n, (low, high) = self.inside.size, self.bounds
        among = [position for position in positions if 0 <= position < n]
        ordered = np.partition(self.inside, among) if among else self.inside
        return [
            low if position < 0 else high if position >= n else ordered[position]
            for position in positions
        ]

    def trimmed(self, enough: Enough) -> "Gathered":
        """Without the values that cannot be at a wanted rank, if there are many of those.

        A value cannot be at one if `enough.top` values lie above it, or `enough.bottom` below it:
        those that other parts hold can only add to these numbers.
        """
        n = self.inside.size
        if n <= LEAST_HELD:
            return self
        counted, *_, below, at_low, at_high = self.tally.tolist()
        above = counted - below - at_low - n - at_high
        # The positions, among those inside, of the values that become the new bounds: what may be
        # wanted lies between them or is one of them.
        first = max(n - (enough.top - above - at_high), -1)
        last = min(enough.bottom - below - at_low - 1, n)
        if n <= SPARE * (last - first):
            return self
        return self.narrowed(*self.at([first, last]))

    def narrowed(self, low: Real, high: Real) -> "Gathered":
        """The same between narrower bounds: values outside of them are only tallied."""
        if (low, high) == self.bounds:
            return self
        tally, inside = self.tally.copy(), self.inside
        if low > self.bounds[0]:
            tally[BELOW] += tally[AT_LOW] + np.count_nonzero(inside < low)
            tally[AT_LOW] = np.count_nonzero(inside == low)
            if low == self.bounds[1]:
                tally[AT_LOW] = tally[AT_HIGH]
        if high < self.bounds[1]:
            tally[AT_HIGH] = np.count_nonzero(inside == high)
        if low == high:
            tally[AT_HIGH] = 0
        return Gathered(tally, inside[(inside > low) & (inside < high)], (low, high))


def merge_lists(parts: Sequence[Sequence[Gathered]], limits: Limits) -> list[Gathered] | None:
    """Merge what was gathered from several parts of an image; None if that is too much.

    There is a `Gathered` for each quantile in each part, and in the result.
    """
    by_quantile = zip(*parts, limits.enough, strict=True)
    together = [Gathered.merged(each, enough) for *each, enough in by_quantile]
    return together if n_held(together) <= limits.most else None


def n_held(gathered: Sequence[Gathered]) -> int:
    """How many values are held for all quantiles."""
    return sum([each.inside.size for each in gathered])
