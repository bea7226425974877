"""Where in an image a quantile must lie, as far as samples of it tell, and what is held of that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..aliases import Block
from .gathering import SPARE, Bounds, Enough, Limits

# How many standard deviations of a sample's rank a bracket extends to either side: as if pixels did
# not know of each other, and as the tiles of the sample differ. Fewer of the latter must do where
# more would not fit.
SPREADS = 30.0
TILE_SPREADS = 5.0
LEAST_TILE_SPREADS = 2.0
# And how many ranks beyond that, for samples of few values.
SPARE_RANKS = 20
# If few tiles hold the tail, the spread between tiles underestimates the error. So a bracket
# reaches at least the first share of the sample to each side, or as much as so many tiles, up to
# the other share.
LEAST_SHARE = 1 / 64
LEAST_TILES = 2
MOST_TILES_SHARE = 1 / 8
# Bytes that gathered values may take, and how much of that a bracket may take by its sample; where
# more would be needed, digits are counted.
MOST_GATHERED = 128 << 20
ROOM = 0.8


class Margin(NamedTuple):
    """How far from a quantile's rank in a sample its bracket is to extend."""

    wanted: float
    least: float  # less is not worth a try
    rank: float
    size: int  # how many values the sample has
    tail: float  # about as many as may be held, if they are trimmed

    def ends(self, share: float) -> tuple[int, int]:
        """The ranks of the bounds, if a share of the margin must do; they may be outside."""
        margin = share * self.wanted
        return int(np.floor(self.rank - margin)), int(self.rank + margin) + 1

    def held(self, share: float) -> float:
        """How many values of the sample are held then at most."""
        low, high = self.ends(share)
        return min(min(high, self.size) - max(low, 0), self.tail)


def bracket(samples: Sequence[Block], q: Block, zeros: bool, n_bytes: int) -> Bounds | None:
    """Bounds between which the quantile `q` of each channel must lie, as far as samples tell.

    Wide on purpose: a bracket that misses costs more passes than a narrow one saves. None if
    there is no sample, or if too much of an image of so many bytes lies between them.
    """
    if not samples:
        return None
    n_sampled = sum(sample[0].size for sample in samples)
    margins, counted = [], []
    for index, fraction in enumerate((q / 100).tolist()):
        tiles = _counted(samples, index, zeros)
        values = np.sort(np.concatenate(tiles))
        margins.append(_margin(tiles, values, n_sampled, fraction))
        counted.append(values)
    # How many values of the sample stand for what may be held of the image.
    room = ROOM * MOST_GATHERED / n_bytes * sum(sample.size for sample in samples)
    share = 1.0
    # Those who want more get more, and all give way alike.
    while sum(margin.held(share) for margin in margins) > room:
        share *= 0.9
        if any(share * margin.wanted < margin.least for margin in margins):
            return None
    bounds = [
        _values_at(values, margin.ends(share))
        for values, margin in zip(counted, margins, strict=True)
    ]
    return Bounds(*np.array(bounds, np.float64).T)


def _counted(samples: Sequence[Block], index: int, zeros: bool) -> list[Block]:
    """The values of each sample that are counted for the quantile at that position."""
    tiles = [sample[index % len(sample)].reshape(-1) for sample in samples]
    return [tile[np.isfinite(tile) & ((tile != 0) | zeros)] for tile in tiles]


def _margin(tiles: Sequence[Block], values: Block, n_sampled: int, fraction: float) -> Margin:
    """That of a quantile, given the values of each tile, and those of all tiles, sorted.

    `n_sampled` is how many pixels the tiles have; what is not counted takes no room.
    """
    size = values.size
    alone = SPREADS * np.sqrt(size * fraction * (1 - fraction))
    together = _deviation(tiles, values, fraction)
    few = min(LEAST_TILES / len(tiles), MOST_TILES_SHARE)
    return Margin(
        wanted=SPARE_RANKS + max(alone, TILE_SPREADS * together, size * max(LEAST_SHARE, few)),
        least=1 + max(alone, LEAST_TILE_SPREADS * together),
        rank=(size - 1) * fraction,
        size=size,
        # Trimming does not know how many pixels of the image are counted.
        tail=SPARE * n_sampled * min(fraction, 1 - fraction),
    )


def _values_at(values: Block, ranks: tuple[int, int]) -> tuple[float, float]:
    """The sorted values at two ranks; infinite where there are none."""
    low, high = ranks
    return (
        values[min(low, values.size - 1)] if low > 0 and values.size else -np.inf,
        values[max(high, 0)] if high < values.size else np.inf,
    )


def _deviation(tiles: Sequence[Block], values: Block, fraction: float) -> float:
    """Standard deviation of how many of the sorted values lie below their quantile.

    That of the tiles: pixels are like their neighbours, so that they say less than they promise.
    """
    if len(tiles) < 2 or not values.size:
        return 0.0
    quantile = values[int((values.size - 1) * fraction)]
    below = np.array([np.count_nonzero(tile < quantile) for tile in tiles])
    sizes = np.array([tile.size for tile in tiles])
    odds = below - below.sum() / sizes.sum() * sizes
    return float(np.sqrt((odds**2).sum() * len(tiles) / (len(tiles) - 1)))


def limits_of(q: Block, n_values: int, itemsize: int) -> Limits:
    """Limits for the quantiles of channels of which at most so many values are counted.

    If `n` are, the ranks are floor((n - 1) * q / 100) and the next, so that (n - 1) * (1 - q / 100)
    + 2 values from the top hold both, and (n - 1) * q / 100 + 2 from the bottom. Both grow with n.
    """
    # Two more than that, as ranks are found by floats that are rounded.
    enough = [
        Enough(int((n_values - 1) * (1 - share)) + 4, int((n_values - 1) * share) + 4)
        for share in (q / 100).tolist()
    ]
    return Limits(tuple(enough), MOST_GATHERED // itemsize)
