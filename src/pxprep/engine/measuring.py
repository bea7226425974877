"""Quantiles of images that are in memory or at hand, measured now.

Which way is the fastest depends on how many pixels there are, and of what type:

- few: their values are gathered, and the wanted ones found among them;
- integers of up to 16 bits: it is counted how often each occurs;
- floats: small tiles tell between which bounds a quantile lies, and one pass gathers what lies
  there; if the quantile turns out to lie elsewhere, digits are counted.

All ways give the same order statistics, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import numpy as np

from ..aliases import Block, DType
from .brackets import bracket, limits_of
from .cache import SAMPLE_BYTES, Sampling
from .digits import key_bits
from .gathering import SPARE, Bounds, Limits
from .kernels.counts import DIGIT_BITS
from .passes import ArrayChain, Chained, Pass, run
from .selection import Quantiles, begin, interpolate, refine, select_gathered
from .sinks import Count, Gather, Opened, SharedBounds, Sink
from .sources import Area
from .windows import Pixels

# If a channel has no more values than this, they are gathered without a look at samples. So are
# those of which one in TAIL, or fewer, are enough.
FEW = 1 << 16
TAIL = 64

# An image, and the pixels of the mask of those that are measured, or None for all.
MaskedChain = tuple[Chained, Pixels | None]


def as_chain_and_mask(image: Block | Chained, area: Area | None) -> MaskedChain:
    """An array with axes (c, z, y, x), or a chain, and the pixels of an area of it."""
    if isinstance(image, np.ndarray):
        image = ArrayChain(image)
    return image, None if area is None else Pixels.of(area.whole())


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
    parts = [as_chain_and_mask(*image) for image in images]
    asked = [_Group([parts[position] for position in group], q, zeros) for group in groups]
    sinks = [group.gathering() if group.is_gathered else None for group in asked]
    pairs = list(zip(asked, sinks, strict=True))
    passes = [each for group, sink in pairs if sink is not None for each in group.passes(sink)]
    results = iter(run(passes) if passes else [])
    gathered: list[Quantiles | None] = [None if sink is None else next(results) for sink in sinks]
    left = [group for group, one in zip(asked, gathered, strict=True) if one is None]
    counted = iter(_by_digits(left))
    return [next(counted) if one is None else one.apart(len(q)) for one in gathered]


@dataclass(frozen=True, eq=False)
class _Group:
    """The quantiles of a group of images, yet to be measured."""

    parts: Sequence[MaskedChain]
    q: Block
    zeros: bool

    @cached_property
    def n_values(self) -> int:
        """How many values a channel has."""
        return sum([prod(chain.shape[1:]) for chain, _ in self.parts])

    @cached_property
    def dtype(self) -> DType:
        """Type of the values."""
        return self.parts[0][0].dtype

    @property
    def n_digits(self) -> int:
        """How many digits have to be counted one after the other."""
        return key_bits(self.dtype) // DIGIT_BITS

    @property
    def is_gathered(self) -> bool:
        """Whether to try to gather the values: many of them can be if all images can be sampled."""
        if self.n_values <= FEW:
            return True
        are_in_memory = all(isinstance(chain, ArrayChain) for chain, _ in self.parts)
        return self.n_digits > 1 and (are_in_memory or len(self.parts) == 1)

    def passes(self, sink: Sink) -> list[Pass]:
        """A pass over each image; all share the sink."""
        return [Pass(chain, sink, where) for chain, where in self.parts]

    def gathering(self) -> Gather:
        """The sink that gathers values between bounds, and makes `Quantiles` of them, or None.

        Several quantiles lie one after the other: all channels of the first, then of the second.
        """
        select = partial(select_gathered, q=np.ravel(self.q))
        return Gather(SharedBounds(self.bounds), self.zeros, self._limits, select)

    @cached_property
    def _limits(self) -> Limits:
        return limits_of(np.ravel(self.q), self.n_values, self._itemsize)

    @property
    def _is_of_tails(self) -> bool:
        """Whether all quantiles lie so near an end that few values of each block can be wanted."""
        fewest = [min(enough) for enough in self._limits.enough]
        fit = SPARE * sum(fewest) <= self._limits.most
        return fit and TAIL * max(fewest) <= self.n_values

    @property
    def _itemsize(self) -> int:
        return int(self.parts[0][0].float_type.itemsize)

    def counting(self, level: int, selections: Sequence[Block]) -> Count:
        """The sink that counts a digit, given the selection of each quantile so far."""
        prefixes, selects = None, [partial(begin, q=one, dtype=self.dtype) for one in self.q]
        if level > 0:
            prefixes = np.concatenate([selection["prefix"] for selection in selections], axis=1)
            selects = [partial(refine, selection=selection) for selection in selections]

        def select(counts: Block) -> list[Block]:
            # A quantile has two ranks, and so two prefixes, after those of the quantile before.
            by_quantile = [
                counts if level == 0 else counts[:, 2 * n : 2 * n + 2] for n in range(len(selects))
            ]
            return [one(each) for one, each in zip(selects, by_quantile, strict=True)]

        return Count(prefixes, level, self.zeros, select, self.n_values)

    def bounds(self, opened: Opened, where: Pixels | None) -> Bounds | None:
        """The bounds between which values are gathered; None if it is better to count digits.

        They are chosen by samples: of this chain if there is one image, else of all images.
        """
        flat = np.ravel(self.q)
        if self.n_values <= FEW or self._is_of_tails:
            return Bounds(np.full(flat.size, -np.inf), np.full(flat.size, np.inf))
        n_bytes = self.n_values * len(self.q[0]) * self._itemsize
        sampled = [(opened, where)]
        if len(self.parts) > 1:
            sampled = [
                (one.opened, mask) for one, mask in self.parts if isinstance(one, ArrayChain)
            ]
        samples = [tile for each in sampled for tile in _sample(*each)]
        return bracket(samples, flat, self.zeros, n_bytes)


def _by_digits(groups: Sequence[_Group]) -> list[list[Quantiles]]:
    """The quantiles of each group, found by counting digit after digit."""
    selections: list[list[Block]] = [[] for _ in groups]
    for level in range(max((group.n_digits for group in groups), default=0)):
        going_on = [n for n, group in enumerate(groups) if level < group.n_digits]
        sinks = [groups[n].counting(level, selections[n]) for n in going_on]
        pairs = zip(going_on, sinks, strict=True)
        passes = [each for n, sink in pairs for each in groups[n].passes(sink)]
        for n, selected in zip(going_on, run(passes), strict=True):
            selections[n] = selected
    return [
        [Quantiles.of(interpolate(selection, dtype=group.dtype)) for selection in selected]
        for group, selected in zip(groups, selections, strict=True)
    ]


def _sample(opened: Opened, where: Pixels | None) -> list[Block]:
    """The values of a few tiles, shape (c, ...); NaN outside the mask."""
    chunks = [array for _, _, array in opened.pixels.pieces]
    samples = []
    for tile in Sampling(SAMPLE_BYTES, 1, rim=0).places((0, 0, 0), chunks):
        values = opened.values(tile)
        samples.append(values if where is None else np.where(where.read(tile), values, np.nan))
    return samples
