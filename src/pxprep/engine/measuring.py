"""Quantiles of images that are in memory or at hand, measured now.

Which way is the fastest depends on how many pixels there are, and of what type:

- integers of up to 16 bits: it is counted how often each occurs;
- few floats, or quantiles near 0 or 100 percent: values are gathered that may be wanted, and the
  wanted ones found among them;
- other floats: small tiles tell between which bounds a quantile lies, and one pass gathers what
  lies there; if the quantile turns out to lie elsewhere, digits are counted.

All ways give the same order statistics, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import numpy as np

from ..aliases import Block, DType
from .brackets import bracket, limits_of
from .cache import SAMPLE_BYTES, Sampling
from .digits import n_digits
from .gathering import Bounds, Limits
from .kernels.brackets import SPARE
from .passes import ArrayChain, Chained, Pass, run
from .selection import Quantiles, begin, interpolate, refine, select_gathered
from .sinks import Count, Gather, Opened, SharedBounds
from .sources import Area
from .windows import Pixels

# If a channel has no more values than this, they are gathered without a look at samples. Nor are
# samples looked at if, for each quantile, one value in TAIL or fewer is enough.
FEW = 1 << 17
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
    asked = [_Group(parts, group, q, zeros) for group in groups]
    sinks = {group: group.gathering() for group in asked if group.is_gathered}
    made = run(_passes(sinks))
    gathered = {group: made[sink] for group, sink in sinks.items() if made[sink] is not None}
    counted = _by_digits([group for group in asked if group not in gathered])
    return [
        gathered[group].apart(len(q)) if group in gathered else counted[group] for group in asked
    ]


@dataclass(frozen=True, eq=False)
class _Group:
    """The quantiles of a group of images, yet to be measured.

    Attributes
    ----------
    images
        All images.
    positions
        Which of them are in the group.
    q, zeros
        As for `measure_quantiles`.
    """

    images: Sequence[MaskedChain]
    positions: Sequence[int]
    q: Block
    zeros: bool

    @cached_property
    def parts(self) -> list[MaskedChain]:
        """The images of the group."""
        return [self.images[position] for position in self.positions]

    @cached_property
    def n_values(self) -> int:
        """How many values a channel has."""
        return sum([prod(chain.shape[1:]) for chain, _ in self.parts])

    @cached_property
    def dtype(self) -> DType:
        """Type of the values."""
        return self.parts[0][0].dtype

    @property
    def is_gathered(self) -> bool:
        """Whether to try to gather the values: many only where bounds can be chosen before."""
        are_in_memory = all(isinstance(chain, ArrayChain) for chain, _ in self.parts)
        can_begin = self._is_unbounded or are_in_memory or len(self.parts) == 1
        return n_digits(self.dtype) > 1 and can_begin

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
    def _is_unbounded(self) -> bool:
        """Whether values are gathered without bounds at first.

        So it is for few values, and if all quantiles lie so near an end that few can be wanted.
        """
        if self.n_values <= FEW:
            return True
        fewest = self._limits.enough.min(axis=1)
        fit = SPARE * fewest.sum() <= self._limits.most
        return bool(fit and TAIL * fewest.max() <= self.n_values)

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
        if self._is_unbounded:
            return Bounds(np.full(flat.size, -np.inf), np.full(flat.size, np.inf))
        n_bytes = self.n_values * len(self.q[0]) * self._itemsize
        sampled = [(opened, where)]
        if len(self.parts) > 1:
            sampled = [
                (one.opened, mask) for one, mask in self.parts if isinstance(one, ArrayChain)
            ]
        samples = [tile for each in sampled for tile in _sample(*each)]
        return bracket(samples, flat, self.zeros, n_bytes)


def _by_digits(groups: Sequence[_Group]) -> dict[_Group, list[Quantiles]]:
    """The quantiles of each group, found by counting digit after digit."""
    selections: dict[_Group, list[Block]] = {group: [] for group in groups}
    for level in range(max((n_digits(group.dtype) for group in groups), default=0)):
        going_on = [group for group in groups if level < n_digits(group.dtype)]
        sinks = {group: group.counting(level, selections[group]) for group in going_on}
        made = run(_passes(sinks))
        selections |= {group: made[sink] for group, sink in sinks.items()}
    return {
        group: [Quantiles.of(interpolate(selection, dtype=group.dtype)) for selection in selected]
        for group, selected in selections.items()
    }


def _passes(sinks: Mapping[_Group, Gather] | Mapping[_Group, Count]) -> list[Pass]:
    """A pass over each image, with the sinks of all groups that it is in."""
    passes: dict[int, Pass] = {}
    for group, sink in sinks.items():
        for position, (chain, where) in zip(group.positions, group.parts, strict=True):
            before = passes[position].sinks if position in passes else ()
            passes[position] = Pass(chain, (*before, sink), where)
    return [*passes.values()]


def _sample(opened: Opened, where: Pixels | None) -> list[Block]:
    """The values of a few tiles, shape (c, ...); NaN outside the mask."""
    chunks = [array for _, _, array in opened.pixels.pieces]
    samples = []
    for tile in Sampling(SAMPLE_BYTES, 1, rim=0).places((0, 0, 0), chunks):
        values = opened.values(tile)
        samples.append(values if where is None else np.where(where.read(tile), values, np.nan))
    return samples
