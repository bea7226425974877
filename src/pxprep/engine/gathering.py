"""The values between two bounds, of all blocks of an image, and how many lie around them.

Each block's are merged into one `Gathered` for each quantile. On the way those are let go that can
no longer be at a wanted rank, so that what is held is bounded however wide the bounds are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..aliases import Block, Real
from .kernels.brackets import gather

# How many times as many values are held as are enough, and how many in any case, before the others
# are sought and let go.
SPARE = 1.5
LEAST_HELD = 1 << 12
# What a `tally` counts.
COUNTED, NEGATIVE, INFINITE, BELOW, AT_LOW, AT_HIGH = range(6)


class Bounds(NamedTuple):
    """Between which the quantile of each channel must lie, as far as samples tell; shape (c,).

    For several quantiles of each channel: (c,) after (c,), in one array.
    """

    low: Block
    high: Block


class Enough(NamedTuple):
    """How many of the largest, and of the smallest, values of an image hold the wanted ranks."""

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
        The lower and the upper one, in the type of the values.
    """

    tally: Block
    inside: Block
    bounds: tuple[Real, Real]

    @classmethod
    def of(cls, values: Block, bounds: tuple[Real, Real], zeros: bool, room: Block) -> "Gathered":
        """What lies there of these values; `room` has one place more than there are."""
        tally = np.zeros(6, np.int64)
        flat = np.ascontiguousarray(values, room.dtype).reshape(-1)
        n = gather(flat, *bounds, zeros, tally, room)
        return cls(tally, room[:n].copy(), bounds)

    @classmethod
    def nothing(cls, bounds: tuple[Real, Real]) -> "Gathered":
        """What lies there of no values."""
        return cls(np.zeros(6, np.int64), np.empty(0, bounds[0].dtype), bounds)

    @classmethod
    def merged(cls, parts: Sequence["Gathered"], enough: Enough) -> "Gathered":
        """What lies there of all the values together, as far as it may be wanted.

        Parts may have been trimmed to other bounds. What one has let go is not wanted: so the
        bounds are those that all have in common.
        """
        if len(parts) == 1:
            return parts[0].trimmed(enough)
        low = max(part.bounds[0] for part in parts)
        high = min(part.bounds[1] for part in parts)
        parts = [part.narrowed(low, high) for part in parts]
        tally = np.sum([part.tally for part in parts], axis=0)
        inside = np.concatenate([part.inside for part in parts])
        return cls(tally, inside, (low, high)).trimmed(enough)

    def at(self, places: Sequence[int]) -> list[Real]:
        """The values at these places among those inside, as if they were sorted.

        Before the first it is the lower bound, behind the last one the upper.
        """
        n, (low, high) = self.inside.size, self.bounds
        among = [place for place in places if 0 <= place < n]
        ordered = np.partition(self.inside, among) if among else self.inside
        return [low if place < 0 else high if place >= n else ordered[place] for place in places]

    def trimmed(self, enough: Enough) -> "Gathered":
        """Without the values that cannot be at a wanted rank, if there are many of them.

        A value with `enough.top` values above it, or `enough.bottom` below it, cannot be at a
        wanted rank, whatever the other parts hold.
        """
        n = self.inside.size
        counted, *_, below, at_low, at_high = self.tally.tolist()
        above = counted - below - at_low - n - at_high
        # The first and the last place that may be wanted: they become the bounds.
        first = max(n - (enough.top - above - at_high), -1)
        last = min(enough.bottom - below - at_low - 1, n)
        if n <= max(SPARE * (last - first), LEAST_HELD):
            return self
        return self.narrowed(*self.at([first, last]))

    def narrowed(self, low: Real, high: Real) -> "Gathered":
        """The same values between bounds that are not outside these ones."""
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


def merged(parts: Sequence[Sequence[Gathered]], limits: Limits) -> list[Gathered] | None:
    """Parts of an image, each a `Gathered` for each quantile, as one; None if that is too much."""
    several = zip(*parts, strict=True)
    together = [
        Gathered.merged(each, enough) for each, enough in zip(several, limits.enough, strict=True)
    ]
    return together if n_held(together) <= limits.most else None


def n_held(found: Sequence[Gathered]) -> int:
    """How many values are held for all quantiles."""
    return sum([each.inside.size for each in found])
