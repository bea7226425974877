"""Exact quantiles of any number of pixels, however they are cut into blocks.

Radix selection on sort keys: count the highest 16-bit digit of every pixel's key, see in which
digit the wanted rank falls, then count the next digit among the pixels that share it, and so on.
Small integers take one pass, float32 two, float64 four. A pass needs 65,536 counts per channel
and block, and counts add up in any order, so the answer does not depend on chunks, scheduler or
workers. For floats, one pass is enough if a sample tells where the quantile lies: see
`_in_one_pass`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..aliases import Array, Block, DType
from . import backends
from .blocks import key_bits
from .brackets import bracket, limits_of
from .gathering import Bounds
from .kernels.counts import DIGIT_BITS
from .measuring import measure_quantiles
from .selection import SELECTION, SETTLED, Quantiles, begin_of, interpolate, refine, select_gathered
from .sources import Area

# An image, and the pixels of it that are counted, or None for all.
MaskedImage = tuple[Array, Area | None]


def exact_quantiles(
    images: Sequence[Array],
    q: Block,
    groups: Sequence[Sequence[int]],
    *,
    zeros: bool = False,
    evaluate: Callable[[list[Array]], list[Array]] | None = None,
    areas: Sequence[Area | None] = (),
) -> Quantiles:
    """Quantile `q` of the finite pixels of each channel, for each group of images.

    Several quantiles are found in the passes that one takes.

    Parameters
    ----------
    images
        Arrays with axes (c, z, y, x), NumPy or Dask, or chains of operations on them, with the same
        number of channels; of one dtype where they share a group.
    q
        Percent, shape (c,), or (quantile, c) for several.
    groups
        Positions of the images whose pixels are taken together. An image may be in several groups:
        its pixels are read once for all of them.
    zeros
        Whether zeros are counted.
    evaluate
        Called with the small arrays that each pass ends in; computing them there lets Dask images
        go by block after block, instead of being held for the next pass. Default: stay lazy.
    areas
        For each image the pixels that are counted, or None for all; by default all of all images.

    Returns
    -------
    Quantiles
        `value` equals `numpy.quantile` of the counted values as float64, to the last bit.
    """
    each_alone = all(len(group) == 1 for group in groups)
    several, flat = np.atleast_2d(q), np.ravel(q)
    parts = list(zip(images, areas or [None] * len(images), strict=True))
    if not any(map(backends.is_lazy, (*images, *areas))):
        return _stacked(measure_quantiles(parts, several, groups, zeros=zeros), q.ndim)
    if evaluate is None:
        # Digits are counted unless the quantiles have been found in one pass by then.
        found = [_found_at_once(part, flat, zeros, len(images)) for part in parts if each_alone]
        return _stacked(_by_radix(parts, several, groups, zeros, found=found), q.ndim)
    if each_alone:
        alone = [parts[position] for (position,) in groups]
        at_once = _in_one_pass(alone, flat, zeros, evaluate)
    else:
        at_once = [None] * len(groups)
    left = [group for group, found in zip(groups, at_once, strict=True) if found is None]
    rest = iter(_by_radix(parts, several, left, zeros, evaluate=evaluate) if left else [])
    rows = [next(rest) if found is None else found.apart(len(several)) for found in at_once]
    return _stacked(rows, q.ndim)


def _stacked(rows: Sequence[Sequence[Quantiles]], ndim: int) -> Quantiles:
    """All groups together; of each the quantiles, of which there are several if `ndim` is 2."""
    firsts = [row[0] for row in rows]
    values = [np.stack([one.value for one in row]) if ndim == 2 else row[0].value for row in rows]
    _, *others = zip(*firsts, strict=True)
    return Quantiles(np.stack(values), *(np.stack(column) for column in others))


def _by_radix(
    parts: Sequence[MaskedImage],
    several: Block,
    groups: Sequence[Sequence[int]],
    zeros: bool,
    *,
    found: Sequence[Array | None] = (),
    evaluate: Callable[[list[Array]], list[Array]] | None = None,
) -> list[list[Quantiles]]:
    """The quantiles of each group, digit after digit; each of shape (c,).

    What is in `found`, for each image, is taken instead if it is not None when it is computed.
    """
    found = found or [None] * len(parts)
    # Each group and quantile has a selection of its own.
    n = len(several)
    wanted = [group for group in groups for _ in range(n)]
    dtypes = [parts[group[0]][0].dtype for group in wanted]
    groups_of: list[list[int]] = [[] for _ in parts]
    for number, group in enumerate(wanted):
        for position in group:
            groups_of[position].append(number)
    selections: list[Array] = [None] * len(wanted)
    for level in range(max(key_bits(dtype) // DIGIT_BITS for dtype in dtypes)):
        going_on = {
            number for number, dtype in enumerate(dtypes) if level < key_bits(dtype) // DIGIT_BITS
        }
        open_groups = [[number for number in mine if number in going_on] for mine in groups_of]
        counts = _count(parts, open_groups, selections, level, zeros, found, evaluate is None)
        for number, counted in counts.items():
            select, known = (
                (refine, selections[number])
                if level
                else (begin_of(dtypes[number]), several[number % n])
            )
            selections[number] = backends.per_channel(
                select, (counted, "cns"), (known, "c"), dtype=SELECTION
            )
        if evaluate is not None:
            selections = evaluate(selections)
    settled = [
        _settled(selection, dtypes[number], found[wanted[number][0]], number % n)
        for number, selection in enumerate(selections)
    ]
    return [settled[first : first + n] for first in range(0, len(settled), n)]


def _settled(selection: Array, dtype: DType, found: Array | None, position: int) -> Quantiles:
    """What was found in one pass, at that position, or else what the selection came to."""
    if found is None:
        settled = backends.per_channel(
            partial(interpolate, dtype=dtype), (selection, "c"), dtype=SETTLED
        )
    else:
        settled = backends.per_channel(
            partial(_either, dtype=dtype, position=position),
            (selection, "c"),
            (found, "k"),
            dtype=SETTLED,
        )
    return Quantiles(*(settled[name] for name in Quantiles._fields))


def _either(selection: Block, found: Block, *, dtype: DType, position: int) -> Block:
    if found[0] is None:
        return interpolate(selection, dtype=dtype)
    settled = np.empty(len(selection), SETTLED)
    own = slice(position * len(selection), (position + 1) * len(selection))
    for name in Quantiles._fields:
        settled[name] = getattr(found[0], name)[own]
    return settled


def _found_at_once(part: MaskedImage, q: Block, zeros: bool, n_images: int) -> Array | None:
    """The `Quantiles` of a lazy image, or None, as the only item of an array.

    `q` has the shape (c,); here and below, several quantiles lie one behind the other.
    """
    image, area = part
    if not backends.is_lazy(image) or key_bits(image.dtype) == DIGIT_BITS:
        return None
    choose = partial(bracket, q=q, zeros=zeros, n_bytes=image.nbytes)
    bounds = backends.chain_of(image).bounds(backends.sample_bytes(n_images), choose, area)
    return _gathered(part, bounds, q, zeros)


def _gathered(part: MaskedImage, bounds: Bounds | Array, q: Block, zeros: bool) -> Array:
    """The `Quantiles` of a lazy image as far as they lie between bounds; as above."""
    image, area = part
    limits = limits_of(q, int(np.prod(image.shape[1:])), int(image.dtype.itemsize))
    chain = backends.chain_of(image)
    return chain.gathered(bounds, zeros, limits, partial(select_gathered, q=q), area)


def _in_one_pass(
    parts: Sequence[MaskedImage],
    q: Block,
    zeros: bool,
    evaluate: Callable[[list[Array]], list[Array]],
) -> list[Quantiles | None]:
    """The quantiles of images of which a sample says where they lie; None where it does not.

    One pass gathers the values around that place and counts those below. Where the wanted ranks
    are among the values gathered, these are the exact order statistics; else it was in vain.
    """
    brackets = [_bracket_of(part, q, zeros) for part in parts]
    asked = [
        _gathered(part, bounds, q, zeros)
        for part, bounds in zip(parts, brackets, strict=True)
        if bounds is not None
    ]
    found = iter(evaluate(asked) if asked else [])
    return [None if bounds is None else next(found)[0] for bounds in brackets]


def _bracket_of(part: MaskedImage, q: Block, zeros: bool) -> Bounds | None:
    image, area = part
    if key_bits(image.dtype) == DIGIT_BITS:
        return None
    samples = backends.chain_of(image).samples(area) if backends.is_lazy(image) else []
    return bracket(samples, q, zeros, image.nbytes)


def _count(
    parts: Sequence[MaskedImage],
    groups_of: Sequence[Sequence[int]],
    selections: Sequence[Array],
    level: int,
    zeros: bool,
    found: Sequence[Array | None],
    lazily: bool,
) -> dict[int, Array]:
    """The counts of a digit for each group, each image read once, or not if `found` is not None."""
    counts: dict[int, Array] = {}
    for (image, area), groups, unless in zip(parts, groups_of, found, strict=True):
        if not groups:
            continue
        prefixes = None
        if level > 0:
            prefixes = np.concatenate([selections[number]["prefix"] for number in groups], axis=1)
            prefixes = backends.in_one_chunk(prefixes)
        chain = backends.chain_of(image)
        if lazily and backends.is_lazy(image) and key_bits(image.dtype) == DIGIT_BITS:
            # It comes with the look at the image that `bounds` takes, if somebody asks for those.
            each = chain.first_counts(zeros, backends.sample_bytes(len(parts)), area)
        else:
            each = chain.counts(prefixes, level, zeros, unless, area)
        for index, number in enumerate(groups):
            own = each if level == 0 else each[:, 2 * index : 2 * index + 2]
            counts[number] = counts[number] + own if number in counts else own
    return counts
