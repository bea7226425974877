"""Exact quantiles of any number of pixels, however they are cut into blocks.

Radix selection on sort keys: count the highest 16-bit digit of every pixel's key, see in which
digit the wanted rank falls, then count the next digit among the pixels that share it, and so on.
Small integers take one pass, float32 two, float64 four. A pass needs 65,536 counts per channel
and block, and counts add up in any order, so the answer does not depend on chunks, scheduler or
workers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import _backends
from ._blocks import bit_constants, integer_offset, key_bits
from ._kernels.counts import DIGIT_BITS, INFINITE, N_DIGITS
from ._typing import Array, Block

# How far the selection of one channel has come: of `counted` pixels, the wanted quantile lies
# between two neighbouring ranks; their keys begin with the digits in `prefix`, and `rank` is what
# remains of the rank among the pixels that share them.
SELECTION = np.dtype(
    [
        ("counted", np.int64),
        ("negative", np.int64),
        ("infinite", np.int64),
        ("rank", np.int64, (2,)),
        ("prefix", np.uint64, (2,)),
        ("weight", np.float64),
    ]
)


class Quantiles(NamedTuple):
    """Quantiles of each channel, and what the pixels were; NumPy or lazy, shape (group, c)."""

    value: Array  # float64, NaN where nothing was counted
    counted: Array  # int64, pixels that the quantile is of
    negative: Array  # int64, how many of them are below zero
    infinite: Array  # int64, pixels that are missing because they are infinite


def exact_quantiles(
    images: Sequence[Array],
    q: Block,
    groups: Sequence[Sequence[int]],
    *,
    zeros: bool = False,
    evaluate: Callable[[list[Array]], list[Array]] | None = None,
) -> Quantiles:
    """Quantile `q` of the finite pixels of each channel, for each group of images.

    Parameters
    ----------
    images
        Arrays with axes (c, z, y, x), NumPy or Dask, with the same number of channels; of one
        dtype where they share a group.
    q
        Percent, shape (c,).
    groups
        Positions of the images whose pixels are taken together. An image may be in several groups:
        its pixels are read once for all of them.
    zeros
        Whether zeros are counted.
    evaluate
        Called with the small arrays that each pass ends in; computing them there lets Dask images
        go by block after block, instead of being held for the next pass. Default: stay lazy.

    Returns
    -------
    Quantiles
        `value` equals `numpy.quantile` of the counted values as float64, to the last bit.
    """
    dtypes = [images[group[0]].dtype for group in groups]
    groups_of: list[list[int]] = [[] for _ in images]
    for number, group in enumerate(groups):
        for position in group:
            groups_of[position].append(number)
    selections: list[Array] = [None] * len(groups)
    for level in range(max(key_bits(dtype) // DIGIT_BITS for dtype in dtypes)):
        going_on = {
            number for number, dtype in enumerate(dtypes) if level < key_bits(dtype) // DIGIT_BITS
        }
        open_groups = [[number for number in mine if number in going_on] for mine in groups_of]
        counts = _count(images, open_groups, selections, level, zeros)
        for number, found in counts.items():
            select, known = (
                (_refine, selections[number]) if level else (_begin_of(dtypes[number]), q)
            )
            selections[number] = _backends.per_channel(
                select, (found, "cns"), (known, "c"), dtype=SELECTION
            )
        if evaluate is not None:
            selections = evaluate(selections)
    values = [
        _backends.per_channel(
            partial(_interpolate, dtype=dtype), (selection, "c"), dtype=np.dtype(np.float64)
        )
        for selection, dtype in zip(selections, dtypes, strict=True)
    ]
    found = np.stack(selections)
    return Quantiles(np.stack(values), found["counted"], found["negative"], found["infinite"])


def _count(
    images: Sequence[Array],
    groups_of: Sequence[Sequence[int]],
    selections: Sequence[Array],
    level: int,
    zeros: bool,
) -> dict[int, Array]:
    """The counts of a digit for each group, each image read once."""
    counts: dict[int, Array] = {}
    for image, groups in zip(images, groups_of, strict=True):
        if not groups:
            continue
        prefixes = None
        if level > 0:
            prefixes = np.concatenate([selections[number]["prefix"] for number in groups], axis=1)
        found = _backends.count_digits(image, prefixes, level, zeros)
        for index, number in enumerate(groups):
            own = found if level == 0 else found[:, 2 * index : 2 * index + 2]
            counts[number] = counts[number] + own if number in counts else own
    return counts


def _begin_of(dtype: np.dtype[Any]) -> Callable[..., Block]:
    """`_begin` for the digits of a dtype."""
    is_digit = key_bits(dtype) == DIGIT_BITS
    return partial(_begin, zero=integer_offset(dtype) if is_digit else N_DIGITS // 2)


def _begin(counts: Block, q: Block, *, zero: int) -> Block:
    """The selection after the first digit; `zero` is the first digit that is not negative."""
    digits = counts[:, 0, :N_DIGITS]
    selection = np.zeros(len(counts), SELECTION)
    selection["counted"] = digits.sum(axis=1)
    selection["negative"] = digits[:, :zero].sum(axis=1)
    selection["infinite"] = counts[:, 0, INFINITE]
    last = np.maximum(selection["counted"] - 1, 0)
    # The virtual index and weight of numpy.quantile, in its arithmetic.
    position = last * (q / 100)
    below = np.floor(position).astype(np.int64)
    selection["rank"] = np.stack([below, np.minimum(below + 1, last)], axis=1)
    selection["weight"] = position - below
    return _take_digits(digits[:, np.newaxis], selection)


def _refine(counts: Block, selection: Block) -> Block:
    """The selection after one more digit."""
    return _take_digits(counts[:, :, :N_DIGITS], selection.copy())


def _take_digits(digits: Block, selection: Block) -> Block:
    """Append to each prefix the digit in which its rank falls. Changes `selection`."""
    below = np.cumsum(digits, axis=2)
    rank = selection["rank"]
    digit = (below <= rank[:, :, np.newaxis]).sum(axis=2)
    # A channel without a single pixel ends behind the last digit; any digit will do.
    digit = np.minimum(digit, N_DIGITS - 1)
    below = np.broadcast_to(below, (*rank.shape, N_DIGITS))
    before = np.take_along_axis(below, np.maximum(digit - 1, 0)[:, :, np.newaxis], axis=2)[..., 0]
    selection["rank"] = rank - np.where(digit > 0, before, 0)
    selection["prefix"] = (selection["prefix"] << np.uint64(DIGIT_BITS)) | digit.astype(np.uint64)
    return selection


def _interpolate(selection: Block, *, dtype: np.dtype[Any]) -> Block:
    low, high = _decode(selection["prefix"], dtype).astype(np.float64).T
    weight = selection["weight"]
    # numpy.quantile interpolates from the nearer end.
    with np.errstate(over="ignore", invalid="ignore"):
        step = high - low
        value = np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)
    return np.where(selection["counted"] > 0, value, np.nan)


def _decode(keys: Block, dtype: np.dtype[Any]) -> Block:
    """The values whose sort keys are `keys`."""
    if key_bits(dtype) == DIGIT_BITS:
        return keys.astype(np.int64) - integer_offset(dtype)
    floats = np.dtype(f"f{key_bits(dtype) // 8}")
    sign, _, ones = bit_constants(floats)
    keys = keys.astype(sign.dtype)
    values: Block = np.where(keys & sign, keys ^ sign, keys ^ ones).view(floats)
    return values
