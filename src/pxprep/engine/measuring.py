"""Quantiles of images in memory, measured now.

Which way is the fastest depends on how many pixels there are, and of what type:

- few: their values are gathered, and the wanted ones found among them;
- integers of up to 16 bits: it is counted how often each occurs;
- floats: small tiles tell between which bounds a quantile lies, and one pass gathers what lies
  there; if the tiles have misled, digits are counted.

All ways give the same order statistics, to the last bit.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..aliases import Block, DType
from .blocks import float_dtype, key_bits
from .brackets import bracket, limits_of
from .cache import SAMPLE_SHARE
from .gathering import Bounds
from .kernels.counts import DIGIT_BITS
from .passes import ArrayChain, Chained, Pass, run
from .selection import Quantiles, begin_of, interpolate, refine, select_gathered
from .sinks import Count, Gather, Opened
from .sources import Area
from .windows import Pixels, Window

# Up to so many values of a channel are gathered as they are.
FEW = 1 << 16
# Rows and columns of a tile that is sampled; neighbours are alike, so tiles are many and small.
TILE = (32, 48)
LEAST_TILES = 4


class MaskedChain(NamedTuple):
    """An image, and the pixels of the mask of those that are measured, or None for all."""

    chain: Chained
    where: Pixels | None

    @classmethod
    def of(cls, image: Block | Chained, area: Area | None) -> "MaskedChain":
        """An array with axes (c, z, y, x), or a chain, and an area of it."""
        where = None if area is None else Pixels.of(area.whole())
        if isinstance(image, np.ndarray):
            image = ArrayChain(image, float_dtype(image.dtype))
        return cls(image, where)

    @property
    def n_values(self) -> int:
        """How many values each channel has."""
        return int(np.prod(self.chain.shape[1:]))


def measure_quantiles(
    images: Sequence[tuple[Block | Chained, Area | None]],
    q: Block,
    groups: Sequence[Sequence[int]],
    *,
    zeros: bool,
) -> list[list[Quantiles]]:
    """Quantiles of each group of images.

    Parameters
    ----------
    images
        Each an array with axes (c, z, y, x), or a chain, and the area of it that is measured.
    q
        Percent, shape (quantile, c).
    groups
        Positions of the images whose values are taken together; they have one dtype.
    zeros
        Whether zeros are counted.

    Returns
    -------
    list of list of Quantiles
        For each group and quantile; arrays of shape (c,).
    """
    parts = [MaskedChain.of(*image) for image in images]
    wanted = [_Wanted([parts[position] for position in group], q, zeros) for group in groups]
    found = _gather(wanted)
    pairs = list(zip(wanted, found, strict=True))
    counted = iter(_count([group for group, quantiles in pairs if quantiles is None]))
    return [
        next(counted) if quantiles is None else quantiles.apart(len(q)) for _, quantiles in pairs
    ]


class _Wanted(NamedTuple):
    """Quantiles of a group of images."""

    parts: Sequence[MaskedChain]
    q: Block
    zeros: bool

    @property
    def n_values(self) -> int:
        """How many values a channel has."""
        return sum(part.n_values for part in self.parts)

    @property
    def dtype(self) -> DType:
        """Of the values."""
        return self.parts[0].chain.dtype

    @property
    def n_digits(self) -> int:
        """How many digits have to be counted one after the other."""
        return key_bits(self.dtype) // DIGIT_BITS

    @property
    def is_gathered(self) -> bool:
        """Whether its values are worth a try to gather them: a bracket needs a sample."""
        is_at_hand = all(isinstance(part.chain, ArrayChain) for part in self.parts)
        return self.n_values <= FEW or (self.n_digits > 1 and (is_at_hand or len(self.parts) == 1))

    def counting(self, level: int, selections: Sequence[Block]) -> Count:
        """What counts a digit, given how far those before have brought each quantile."""
        prefixes, selects = None, [partial(begin_of(self.dtype), q=one) for one in self.q]
        if level > 0:
            prefixes = np.concatenate([selection["prefix"] for selection in selections], axis=1)
            selects = [partial(refine, selection=selection) for selection in selections]

        def select(counts: Block) -> list[Block]:
            # Both ranks of a quantile have a prefix, behind those of the quantile before.
            own = [
                counts if level == 0 else counts[:, 2 * n : 2 * n + 2] for n in range(len(selects))
            ]
            return [one(each) for one, each in zip(selects, own, strict=True)]

        return Count(prefixes, level, self.zeros, select)

    def settled(self, selection: Block) -> Quantiles:
        """A quantile, once all digits are known."""
        known = interpolate(selection, dtype=self.dtype)
        return Quantiles(*(known[name] for name in Quantiles._fields))

    def bounds(self, chain: Opened, where: Pixels | None) -> Bounds | None:
        """Between which values are gathered, by samples of the chain that is at hand, or of all.

        None if it is better to count.
        """
        flat = np.ravel(self.q)
        if self.n_values <= FEW:
            return Bounds(np.full(flat.size, -np.inf), np.full(flat.size, np.inf))
        n_bytes = self.n_values * len(self.q[0]) * self.parts[0].chain.float_type.itemsize
        each: Iterable[tuple[Any, Pixels | None]]
        each = self.parts if len(self.parts) > 1 else [(chain, where)]
        samples = [tile for own in each for tile in _sample(*own)]
        return bracket(samples, flat, self.zeros, n_bytes)


def _gather(groups: Sequence[_Wanted]) -> list[Quantiles | None]:
    """The quantiles of each group as far as they lie between bounds; else None.

    Several quantiles of a channel lie one behind the other.
    """
    sinks: list[Gather | None] = []
    for group in groups:
        flat, float_type = np.ravel(group.q), group.parts[0].chain.float_type
        limits = limits_of(flat, group.n_values, float_type.itemsize)
        gather = Gather(group.bounds, group.zeros, limits, partial(select_gathered, q=flat))
        sinks.append(gather if group.is_gathered else None)
    passes = [
        Pass(part.chain, sink, part.where)
        for group, sink in zip(groups, sinks, strict=True)
        if sink is not None
        for part in group.parts
    ]
    found = iter(run(passes))
    return [None if sink is None else next(found) for sink in sinks]


def _count(groups: Sequence[_Wanted]) -> list[list[Quantiles]]:
    """The quantiles of each group, digit after digit."""
    selections: list[list[Block]] = [[] for _ in groups]
    for level in range(max((group.n_digits for group in groups), default=0)):
        going_on = [n for n, group in enumerate(groups) if level < group.n_digits]
        sinks = [groups[n].counting(level, selections[n]) for n in going_on]
        passes = [
            Pass(part.chain, sink, part.where)
            for n, sink in zip(going_on, sinks, strict=True)
            for part in groups[n].parts
        ]
        for n, found in zip(going_on, run(passes), strict=True):
            selections[n] = found
    return [
        [group.settled(selection) for selection in own]
        for group, own in zip(groups, selections, strict=True)
    ]


def _sample(chain: Opened, where: Pixels | None) -> list[Block]:
    """The values of a few tiles, shape (c, ...); NaN outside the mask."""
    height, width = chain.program.height, chain.program.width
    rows, columns = min(TILE[0], height), min(TILE[1], width)
    n = max(LEAST_TILES, round(SAMPLE_SHARE * height * width / (rows * columns)))
    rng = np.random.default_rng(0)  # the same tiles in every run
    tiles = []
    for _ in range(n):
        top, left = (int(rng.integers(n + 1)) for n in (height - rows, width - columns))
        tile = Window(top, top + rows, left, left + columns)
        values = chain.values(tile)
        tiles.append(values if where is None else np.where(where.read(tile), values, np.nan))
    return tiles
