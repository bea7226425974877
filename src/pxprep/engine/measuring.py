"""Quantiles of images in memory, measured now.

Which way is the fastest depends on how many pixels there are, and of what type:

- few: their values are gathered, and the wanted ones found among them;
- integers of up to 16 bits: it is counted how often each occurs;
- floats: small tiles tell between which bounds a quantile lies, and one pass gathers what lies
  there; if the tiles have misled, digits are counted.

All ways give the same order statistics, to the last bit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ..aliases import Block
from .blocks import float_dtype, key_bits
from .brackets import bracket, limits_of
from .cache import SAMPLE_SHARE
from .gathering import Bounds
from .kernels.counts import DIGIT_BITS
from .passes import ArrayChain, Count, Gather, Pass, run
from .selection import Quantiles, begin_of, interpolate, refine, select_gathered
from .sources import Area
from .windows import Pixels, Window

# Up to so many values of a channel are gathered as they are.
FEW = 1 << 16
# Rows and columns of a tile that is sampled; neighbours are alike, so tiles are many and small.
TILE = (32, 48)
LEAST_TILES = 4


class Part(NamedTuple):
    """An image, and the pixels of the mask of those that are measured, or None for all."""

    chain: ArrayChain
    where: Pixels | None

    @classmethod
    def of(cls, image: Block | ArrayChain, area: Area | None) -> "Part":
        """An array with axes (c, z, y, x), or a chain, and an area of it."""
        where = None if area is None else Pixels.of(area.whole())
        if not isinstance(image, ArrayChain):
            image = ArrayChain(image, float_dtype(image.dtype))
        return cls(image, where)

    @property
    def n_values(self) -> int:
        """How many values each channel has."""
        return int(np.prod(self.chain.shape[1:]))


def measure_quantiles(
    images: Sequence[tuple[Block | ArrayChain, Area | None]],
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
    parts = [Part.of(*image) for image in images]
    together = [[parts[position] for position in group] for group in groups]
    found = _gather([_Wanted(group, q, zeros) for group in together])
    return [
        _count(group, q, zeros) if quantiles is None else _split(quantiles, len(q))
        for group, quantiles in zip(together, found, strict=True)
    ]


class _Wanted(NamedTuple):
    """Quantiles of a group of images."""

    parts: Sequence[Part]
    q: Block
    zeros: bool

    @property
    def n_values(self) -> int:
        """How many values a channel has."""
        return sum(part.n_values for part in self.parts)

    @property
    def is_counted_at_once(self) -> bool:
        """Whether counting one digit is enough."""
        return key_bits(self.parts[0].chain.dtype) == DIGIT_BITS

    def bounds(self) -> Bounds | None:
        """Between which values are gathered; None if it is better to count."""
        flat = np.ravel(self.q)
        if self.n_values <= FEW:
            return Bounds(np.full(flat.size, -np.inf), np.full(flat.size, np.inf))
        if self.is_counted_at_once:
            return None
        n_bytes = self.n_values * len(self.q[0]) * self.parts[0].chain.float_type.itemsize
        samples = [tile for part in self.parts for tile in _sample(part)]
        return bracket(samples, flat, self.zeros, n_bytes)


def _gather(groups: Sequence[_Wanted]) -> list[Quantiles | None]:
    """The quantiles of each group as far as they lie between bounds; else None.

    Several quantiles of a channel lie one behind the other.
    """
    sinks: list[Gather | None] = []
    for group in groups:
        bounds, flat = group.bounds(), np.ravel(group.q)
        limits = limits_of(flat, group.n_values, group.parts[0].chain.float_type.itemsize)
        select = partial(select_gathered, q=flat)
        sinks.append(None if bounds is None else Gather(bounds, group.zeros, limits, select))
    passes = [
        Pass(part.chain, sink, part.where)
        for group, sink in zip(groups, sinks, strict=True)
        if sink is not None
        for part in group.parts
    ]
    found = iter(run(passes))
    return [None if sink is None else next(found) for sink in sinks]


def _count(parts: Sequence[Part], q: Block, zeros: bool) -> list[Quantiles]:
    """The quantiles of a group, digit after digit."""
    dtype = parts[0].chain.dtype
    selections = _select_digit(
        parts, None, 0, zeros, [partial(begin_of(dtype), q=one) for one in q]
    )
    for level in range(1, key_bits(dtype) // DIGIT_BITS):
        prefixes = np.concatenate([selection["prefix"] for selection in selections], axis=1)
        selects = [partial(refine, selection=selection) for selection in selections]
        selections = _select_digit(parts, prefixes, level, zeros, selects)
    settled = [interpolate(selection, dtype=dtype) for selection in selections]
    return [Quantiles(*(one[name] for name in Quantiles._fields)) for one in settled]


def _select_digit(
    parts: Sequence[Part],
    prefixes: Block | None,
    level: int,
    zeros: bool,
    selects: Sequence[Callable[[Block], Block]],
) -> list[Block]:
    """The selection of each quantile after one more digit."""

    def select(counts: Block) -> list[Block]:
        # Both ranks of a quantile have a prefix, behind those of the quantile before.
        own = [counts if level == 0 else counts[:, 2 * n : 2 * n + 2] for n in range(len(selects))]
        return [one(each) for one, each in zip(selects, own, strict=True)]

    sink = Count(prefixes, level, zeros, select)
    (selections,) = run([Pass(part.chain, sink, part.where) for part in parts])
    found: list[Block] = selections
    return found


def _sample(part: Part) -> list[Block]:
    """The values of a few tiles, shape (c, ...); NaN outside the mask."""
    height, width = part.chain.array.shape[2:]
    rows, columns = min(TILE[0], height), min(TILE[1], width)
    n = max(LEAST_TILES, round(SAMPLE_SHARE * height * width / (rows * columns)))
    rng = np.random.default_rng(0)  # the same tiles in every run
    tiles = []
    for _ in range(n):
        top, left = (int(rng.integers(n + 1)) for n in (height - rows, width - columns))
        tile = Window(top, top + rows, left, left + columns)
        values = part.chain.values(tile)
        tiles.append(
            values if part.where is None else np.where(part.where.read(tile), values, np.nan)
        )
    return tiles


def _split(found: Quantiles, n: int) -> list[Quantiles]:
    """Each of `n` quantiles that were found together."""
    return [Quantiles(*parts) for parts in zip(*(np.split(one, n) for one in found), strict=True)]
