"""Where in an image a quantile must lie, as far as samples of it tell, and what is held of that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..aliases import Block
from .gathering import Bounds, Limits
from .kernels.brackets import SPARE

# How far a bracket extends to either side, in standard deviations of the quantile's rank in the
# sample: SPREADS times the deviation that independent pixels would have, or TILE_SPREADS times the
# one that is seen between tiles, whichever is more. Where there is no room, LEAST_TILE_SPREADS
# times the latter must do.
SPREADS = 30.0
TILE_SPREADS = 5.0
LEAST_TILE_SPREADS = 2.0
# So many ranks more, for samples of few values.
SPARE_RANKS = 20
# If few tiles hold the tail, the spread between tiles underestimates the error. So a bracket
# extends at least by LEAST_SHARE of the sample to each side, and by as many values as
# LEAST_MARGIN_TILES tiles hold, but for this by no more than MOST_TILES_SHARE of the sample. Where
# there is no room, less must do.
LEAST_SHARE = 1 / 64
LEAST_MARGIN_TILES = 2
MOST_TILES_SHARE = 1 / 8
# So many bytes gathered values may take. A bracket may take the share ROOM of that, as far as its
# sample tells; if it would need more, digits are counted.
MOST_GATHERED = 128 << 20
ROOM = 0.8


class Margin(NamedTuple):
    """How many ranks a quantile's bracket is to extend to either side, in the sorted sample."""

    wanted: float
    least: float  # with less it is not worth trying
    rank: float  # the quantile's
    size: int  # how many values the sample has
    tail: float  # about how many of them are left once values that cannot be wanted are let go

    def ends(self, share: float) -> tuple[int, int]:
        """The ranks of both bounds with a share of the wanted margin; they may be out of range."""
        margin = share * self.wanted
        return int(np.floor(self.rank - margin)), int(self.rank + margin) + 1

    def held(self, share: float) -> float:
        """How many values of the sample are held at most with that share."""
        low, high = self.ends(share)
        return min(min(high, self.size) - max(low, 0), self.tail)


def bracket(samples: Sequence[Block], q: Block, zeros: bool, n_bytes: int) -> Bounds | None:
    """Bounds between which the quantile `q` of each channel must lie, as far as samples tell.

    They are wide on purpose: a quantile that lies elsewhere costs more passes than narrow bounds
    save. None if there is no sample, or if too much of an image of `n_bytes` would lie
    between them.
    """
    if not samples:
        return None
    n_sampled = sum(sample[0].size for sample in samples)
    margins, sorted_values = [], []
    for index, fraction in enumerate((q / 100).tolist()):
        tiles = _counted_values(samples, index, zeros)
        values = np.sort(np.concatenate(tiles))
        margins.append(_margin_of(tiles, values, n_sampled, fraction))
        sorted_values.append(values)
    # How many values of the sample stand for as many of the image as may be held.
    room = ROOM * MOST_GATHERED / n_bytes * sum(sample.size for sample in samples)
    share = 1.0
    # If there is not room for all margins, all shrink by the same share.
    while sum(margin.held(share) for margin in margins) > room:
        share *= 0.9
        if any(share * margin.wanted < margin.least for margin in margins):
            return None
    bounds = [
        _values_at(values, margin.ends(share))
        for values, margin in zip(sorted_values, margins, strict=True)
    ]
    return Bounds(*np.array(bounds, np.float64).T)


def _counted_values(samples: Sequence[Block], index: int, zeros: bool) -> list[Block]:
    """The values of each sample that are counted for the quantile at position `index`."""
    tiles = [sample[index % len(sample)].reshape(-1) for sample in samples]
    return [tile[np.isfinite(tile) & ((tile != 0) | zeros)] for tile in tiles]


def _margin_of(tiles: Sequence[Block], values: Block, n_sampled: int, fraction: float) -> Margin:
    """The margin of a quantile, given the counted values of each tile, and of all, sorted.

    `n_sampled` is how many pixels the tiles have, counted or not.
    """
    size = values.size
    of_pixels = SPREADS * np.sqrt(size * fraction * (1 - fraction))
    between_tiles = _deviation(tiles, values, fraction)
    share = max(LEAST_SHARE, min(LEAST_MARGIN_TILES / len(tiles), MOST_TILES_SHARE))
    return Margin(
        wanted=SPARE_RANKS + max(of_pixels, TILE_SPREADS * between_tiles, size * share),
        least=1 + max(of_pixels, LEAST_TILE_SPREADS * between_tiles),
        rank=(size - 1) * fraction,
        size=size,
        # Of all pixels: trimming does not know how many pixels of the image are counted.
        tail=SPARE * n_sampled * min(fraction, 1 - fraction),
    )


def _values_at(values: Block, ranks: tuple[int, int]) -> tuple[float, float]:
    """The sorted values at two ranks; infinite where a rank is out of range."""
    low, high = ranks
    return (
        values[min(low, values.size - 1)] if low > 0 and values.size else -np.inf,
        values[max(high, 0)] if high < values.size else np.inf,
    )


def _deviation(tiles: Sequence[Block], values: Block, fraction: float) -> float:
    """Standard deviation of how many sampled values lie below the quantile, as tiles differ in it.

    It is taken between tiles, as pixels are like their neighbours: so many tell less than as many
    independent ones would.
    """
    if len(tiles) < 2 or not values.size:
        return 0.0
    quantile = values[int((values.size - 1) * fraction)]
    below = np.array([np.count_nonzero(tile < quantile) for tile in tiles])
    sizes = np.array([tile.size for tile in tiles])
    differences = below - below.sum() / sizes.sum() * sizes
    return float(np.sqrt((differences**2).sum() * len(tiles) / (len(tiles) - 1)))


def limits_of(q: Block, n_values: int, itemsize: int) -> Limits:
    """Limits for quantiles of channels of which at most `n_values` values are counted.

    If n values are counted, the two ranks are floor((n - 1) * q / 100) and the next one. So both
    are among the (n - 1) * (1 - q / 100) + 2 largest values, and among the (n - 1) * q / 100 + 2
    smallest ones. Both numbers grow with n.
    """
    # Two more than that, as ranks are computed with floats, which are rounded.
    share = (q / 100)[:, np.newaxis]
    enough = ((n_values - 1) * np.hstack([1 - share, share])).astype(np.int64) + 4
    return Limits(enough, MOST_GATHERED // itemsize)
