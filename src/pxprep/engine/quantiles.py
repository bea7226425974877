"""Exact quantiles of any number of pixels, however they are cut into blocks.

Radix selection on sort keys: count the highest 16-bit digit of every pixel's key, see in which
digit the wanted rank falls, then count the next digit among the pixels that share it, and so on.
Small integers take one pass, float32 two, float64 four. A pass needs 65,536 counts per channel
and block, and counts add up in any order, so the answer does not depend on chunks, scheduler or
workers. For floats one pass is enough if a sample tells where the quantile lies: see
`_in_one_pass`.

This module measures lazy images; those in memory or at hand are left to `measuring`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from ..aliases import Array, Block, DType
from ..errors import ParameterError
from . import backends
from .blocks import float_dtype, is_of_pixels
from .brackets import bracket, limits_of
from .chains import Chain
from .digits import n_digits
from .gathering import Bounds
from .measuring import measure_quantiles
from .selection import SELECTION, SETTLED, Quantiles, begin, interpolate, refine, select_gathered
from .sources import Area

# An image, and the area of it that is measured, or None for all.
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

    Several quantiles take no more passes than one does.

    Parameters
    ----------
    images
        Arrays with axes (c, z, y, x), NumPy or Dask, or chains of operations on them, with the same
        number of channels; of one dtype where they share a group.
    q
        Percent, shape (c,), or (quantile, c) for several.
    groups
        Positions of the images whose pixels are taken together. An image may be in several groups:
        a pass reads it once for all of them.
    zeros
        Whether zeros are counted.
    evaluate
        Called with the small lazy arrays in which a pass ends, to compute them: then Dask images
        are read anew in each pass, block by block, and not held for the next. None: stay lazy.
    areas
        For each image the area that is measured, or None for all of it; by default all of each.

    Returns
    -------
    Quantiles
        `value` equals `numpy.quantile` of the counted values as float64, to the last bit. Integers
        of more than 16 bits are rounded to float32 first.

    Raises
    ------
    ParameterError
        If an image is no such array, has other axes or no pixels, `q` has another shape or is no
        percentage, or a group is empty, has a position where no image is, or images of several
        dtypes.
    """
    q = np.asarray(q, np.float64)
    _check(images, q, groups)
    each_alone = all(len(group) == 1 for group in groups)
    percents, flat = np.atleast_2d(q), np.ravel(q)
    parts = list(zip(images, areas or [None] * len(images), strict=True))
    if not any(map(backends.is_lazy, (*images, *areas))):
        return _stacked(measure_quantiles(parts, percents, groups, zeros=zeros), q.ndim)
    if evaluate is None:
        # Digits are counted only if, when computed, the quantiles were not found in one pass.
        found = []
        if each_alone:
            found = [_lazily_in_one_pass(part, flat, zeros, len(images)) for part in parts]
        return _stacked(_by_radix(parts, percents, groups, zeros, found=found), q.ndim)
    if each_alone:
        alone = [parts[position] for (position,) in groups]
        at_once = _in_one_pass(alone, flat, zeros, evaluate)
    else:
        at_once = [None] * len(groups)
    left = [group for group, one in zip(groups, at_once, strict=True) if one is None]
    rest = iter(_by_radix(parts, percents, left, zeros, evaluate=evaluate) if left else [])
    rows = [next(rest) if one is None else one.apart(len(percents)) for one in at_once]
    return _stacked(rows, q.ndim)


def _check(images: Sequence[Array], q: Block, groups: Sequence[Sequence[int]]) -> None:
    """Raise ParameterError unless these are what `exact_quantiles` takes."""
    if not all(map(_is_image, images)):
        came = [f"{type(image).__name__} of {getattr(image, 'dtype', '?')}" for image in images]
        raise ParameterError(
            f"images must be NumPy or Dask arrays, such as image.data, of integers, bool or floats "
            f"of at most 64 bits, none of them masked; got {came}"
        )
    shapes = [image.shape for image in images]
    if any(len(shape) != 4 or 0 in shape for shape in shapes):
        raise ParameterError(
            f"images must have the axes (c, z, y, x) and at least one pixel, got shapes {shapes}"
        )
    if q.ndim not in (1, 2) or any(q.shape[-1] != shape[0] for shape in shapes):
        raise ParameterError(
            f"q must have the shape (c,), or (quantile, c) for several quantiles, as images have "
            f"the channels c; got shape {q.shape} for images of shapes {shapes}"
        )
    if not ((q >= 0) & (q <= 100)).all():
        raise ParameterError(f"q must be percentages, 0 to 100, got {q.tolist()}")
    positions = set(range(len(shapes)))
    if not groups or not all(len(group) and positions.issuperset(group) for group in groups):
        raise ParameterError(
            f"groups must be lists of positions of images, 0 to {len(shapes) - 1}, got {groups!r}"
        )
    for group in groups:
        if len({images[position].dtype for position in group}) > 1:
            dtypes = [str(images[position].dtype) for position in group]
            raise ParameterError(
                f"the images of a group must have one dtype, got {dtypes}: convert them first, "
                f"as with image.astype(numpy.float64)"
            )


def _is_image(image: Array) -> bool:
    """Whether it is an array that can be measured, or a chain of operations on one."""
    kind = backends.kind_of(image)
    is_plain = isinstance(kind, np.ndarray | Chain) and not isinstance(kind, np.ma.MaskedArray)
    return is_plain and is_of_pixels(kind.dtype)


def _stacked(rows: Sequence[Sequence[Quantiles]], ndim: int) -> Quantiles:
    """The quantiles of all groups, stacked; each row holds those of one group.

    If `ndim`, that of q, is 1, there is one quantile, and no axis for it.
    """
    firsts = [row[0] for row in rows]
    values = [np.stack([one.value for one in row]) if ndim == 2 else row[0].value for row in rows]
    _, *others = zip(*firsts, strict=True)
    return Quantiles(np.stack(values), *(np.stack(column) for column in others))


def _by_radix(
    parts: Sequence[MaskedImage],
    percents: Block,
    groups: Sequence[Sequence[int]],
    zeros: bool,
    *,
    found: Sequence[Array | None] = (),
    evaluate: Callable[[list[Array]], list[Array]] | None = None,
) -> list[list[Quantiles]]:
    """The quantiles of each group, found by counting digit after digit; each of shape (c,).

    `found` has for each image the box of `_lazily_in_one_pass`: if its item is not None when it is
    computed, the quantiles in it are taken, and nothing is counted.
    """
    found = found or [None] * len(parts)
    # Each group and quantile has a selection of its own; `position` is that of a selection.
    n = len(percents)
    groups_of = [group for group in groups for _ in range(n)]
    dtypes = [parts[group[0]][0].dtype for group in groups_of]
    selections_of: list[list[int]] = [[] for _ in parts]  # those that need an image
    for position, group in enumerate(groups_of):
        for image in group:
            selections_of[image].append(position)
    selections: list[Array] = [None] * len(groups_of)
    for level in range(max(n_digits(dtype) for dtype in dtypes)):
        going_on = [level < n_digits(dtype) for dtype in dtypes]
        unsettled = [
            [position for position in positions if going_on[position]]
            for positions in selections_of
        ]
        counts = _count(parts, unsettled, selections, level, zeros, found, evaluate is None)
        for position, counted in counts.items():
            begins = partial(begin, dtype=dtypes[position]), percents[position % n]
            select, so_far = (refine, selections[position]) if level > 0 else begins
            selections[position] = backends.per_channel(
                select, (counted, "cns"), (so_far, "c"), dtype=SELECTION
            )
        if evaluate is not None:
            selections = evaluate(selections)
    settled = [
        _settled(selection, dtypes[position], found[groups_of[position][0]], position % n)
        for position, selection in enumerate(selections)
    ]
    return [settled[first : first + n] for first in range(0, len(settled), n)]


def _settled(selection: Array, dtype: DType, found: Array | None, position: int) -> Quantiles:
    """The quantile at `position` of those found in one pass, or else what the selection gives."""
    either = partial(_either, dtype=dtype, position=position)
    boxes = [] if found is None else [(found, "k")]
    return Quantiles.of(backends.per_channel(either, (selection, "c"), *boxes, dtype=SETTLED))


def _either(selection: Block, found: Block | None = None, *, dtype: DType, position: int) -> Block:
    if found is None or found[0] is None:
        return interpolate(selection, dtype=dtype)
    settled = np.empty(len(selection), SETTLED)
    wanted = slice(position * len(selection), (position + 1) * len(selection))
    for name in Quantiles._fields:
        settled[name] = getattr(found[0], name)[wanted]
    return settled


def _lazily_in_one_pass(part: MaskedImage, q: Block, zeros: bool, n_images: int) -> Array | None:
    """A lazy box (an array of one item) with the `Quantiles` of an image; None if it is no use.

    The item is None if the quantiles turn out to lie outside the bounds that samples gave. Here and
    below `q` has one axis: all channels of the first quantile, then those of the second.
    """
    image, area = part
    if not backends.is_lazy(image) or n_digits(image.dtype) == 1:
        return None
    choose = partial(bracket, q=q, zeros=zeros, n_bytes=_float_bytes(image))
    bounds = backends.chain_of(image).bounds(backends.sample_bytes(n_images), choose, area)
    return _gathered(part, bounds, q, zeros)


def _gathered(part: MaskedImage, bounds: Bounds | Array, q: Block, zeros: bool) -> Array:
    """A lazy box with the `Quantiles` of an image, or with None if one lies outside the bounds."""
    image, area = part
    limits = limits_of(q, prod(image.shape[1:]), float_dtype(image.dtype).itemsize)
    chain = backends.chain_of(image)
    return chain.gathered(bounds, zeros, limits, partial(select_gathered, q=q), area)


def _in_one_pass(
    parts: Sequence[MaskedImage],
    q: Block,
    zeros: bool,
    evaluate: Callable[[list[Array]], list[Array]],
) -> list[Quantiles | None]:
    """The quantiles of each image, if a sample tells where they lie; else None.

    One pass gathers the values between the bounds that the sample gives, and counts those below. If
    the wanted ranks are among the gathered values, the quantiles are exact; if not, the pass was in
    vain, and the result is None, too.
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
    if n_digits(image.dtype) == 1:
        return None
    samples = backends.chain_of(image).samples(area) if backends.is_lazy(image) else []
    return bracket(samples, q, zeros, _float_bytes(image))


def _float_bytes(image: Array) -> int:
    """How many bytes an image has as the floats that are gathered of it."""
    return int(prod(image.shape)) * float_dtype(image.dtype).itemsize


def _count(
    parts: Sequence[MaskedImage],
    unsettled: Sequence[Sequence[int]],
    selections: Sequence[Array],
    level: int,
    zeros: bool,
    found: Sequence[Array | None],
    lazily: bool,
) -> dict[int, Array]:
    """The counts of a digit for each selection, by its position.

    `unsettled` are the positions of the selections that need each image. An image is read once for
    all of them, and not at all if what `found` has for it is not None when it is computed.
    """
    counts: dict[int, Array] = {}
    for (image, area), positions, box in zip(parts, unsettled, found, strict=True):
        if not positions:
            continue
        prefixes = None
        if level > 0:
            prefixes = np.concatenate([selections[one]["prefix"] for one in positions], axis=1)
            prefixes = backends.in_one_chunk(prefixes)
        chain = backends.chain_of(image)
        if lazily and backends.is_lazy(image) and n_digits(image.dtype) == 1:
            # These counts come with a first look at the image, which `LazyChain.bounds` shares.
            of_image = chain.first_counts(zeros, backends.sample_bytes(len(parts)), area)
        else:
            of_image = chain.counts(prefixes, level, zeros, box, area)
        for n, position in enumerate(positions):
            added = of_image if level == 0 else of_image[:, 2 * n : 2 * n + 2]
            counts[position] = counts[position] + added if position in counts else added
    return counts
