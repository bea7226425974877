"""What the steps do to one block of pixels: functions on NumPy arrays.

A block has the axes (c, z, y, x) and is part of a larger image; `sums` have the axes (z, y, x).
A function that returns nothing writes to what it is given: to `out`, or else to its first argument.
All else that is read may be read-only, of any byte order and memory layout, and in pieces. Missing
pixels are NaN or infinite in what comes in, and NaN in what comes out.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..aliases import Block, DType
from .kernels.pointwise import (
    divide_values,
    keep_values,
    limit_values,
    replace_below,
    rescale_values,
    scale_rows,
    subtract_value,
    subtract_values,
    sum_channels,
)
from .windows import Pixels, Stretch, Window

# So many epsilons a sum may differ, by rounding alone, from the sum of the same pixel before the
# steps in between: measured, see docs/method.md.
TIE = 32


def to_float(block: Block, dtype: DType) -> Block:
    """The block in float type `dtype` with infinities as NaN; a view where nothing changes."""
    if block.dtype.kind != "f":
        return block.astype(dtype)
    infinite = np.isinf(block)
    if not infinite.any():
        return block.astype(dtype, copy=False)
    block = block.astype(dtype)
    block[infinite] = np.nan
    return block


def rounded(numbers: Block, dtype: DType) -> Block:
    """Numbers in float type `dtype`; what it cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def divisors_of(scale: Block | None, n_channels: int, dtype: DType) -> Block:
    """What channels are divided by: ones, if there is no scale."""
    return np.ones(n_channels, dtype) if scale is None else rounded(scale, dtype)


def divide(pixels: Pixels, window: Window, scale: Block, out: Sequence[Block]) -> None:
    """Divide each channel of a window by its scale, after rounding that to the type of `out`.

    `out` holds an array with axes (z, y, x) for each channel, with contiguous planes.
    """
    dtype = out[0].dtype
    divide_stretches(pixels.stretches(window, dtype), rounded(scale, dtype), out)


def divide_stretches(parts: Iterable[Stretch], divisors: Block, out: Sequence[Block]) -> None:
    """As `divide`, given the stretches of a window and the rounded scale."""
    for part in parts:
        _, planes, *size = part.shape
        for channel, plane in product(part.channels, range(planes)):
            target, divisor = out[channel][plane], divisors[channel]
            rows = part.values, part.at(channel, plane), part.strides[2]
            missing = divisors.dtype.type(np.nan)
            scale_rows(*rows, divisor, missing, target, part.row, part.column, *size)


def divide_in_place(channels: Sequence[Block], scale: Block) -> None:
    """As `divide`, in place, for channels whose planes are contiguous.

    `divide` would be slow here: where input and output may overlap, its loop is not vectorised.
    """
    zero, missing = channels[0].dtype.type(0), channels[0].dtype.type(np.nan)
    for channel, divisor in zip(channels, rounded(scale, zero.dtype), strict=True):
        for plane in channel:
            rescale_values(plane.reshape(-1), zero, divisor, missing)


def add_channels(
    pixels: Pixels, window: Window, scale: Block | None = None, *, dtype: DType
) -> Block:
    """The sum over channels, with axes (z, y, x), added one after the other in their order.

    If there is a `scale`, each channel is divided by its own one first.
    """
    total = np.zeros((pixels.planes, *window.shape), dtype)
    divisors, missing = divisors_of(scale, pixels.n_channels, dtype), dtype.type(np.nan)
    for first, values, start, strides, shape, row, column in pixels.stretches(window, dtype):
        lines = values, start, strides, shape, divisors[first:]
        sum_channels(*lines, missing, total, row, column)
    return total


def chosen(labels: Block, wanted: tuple[int, ...] | None, inverted: bool) -> Block:
    """Where labels are wanted ones; None for all but zero, and for the bools of a mask.

    If `inverted`, where they are not.
    """
    inside = labels.astype(bool, copy=False) if wanted is None else np.isin(labels, wanted)
    return ~inside if inverted else inside


def inside(block: Block, mask: Block) -> Block:
    """The values of a block where a mask is True, shape (c, n); the block itself if it all is.

    The mask has one channel. If it has one plane, that holds for all planes of the block.
    """
    if mask.all():
        return block
    everywhere = np.broadcast_to(mask[0], block.shape[1:])
    return np.stack([channel[everywhere] for channel in block])


def keep_inside(block: Block, mask: Block) -> None:
    """Make pixels of the block missing in every channel where a mask, as for `inside`, is False."""
    np.copyto(block, block.dtype.type(np.nan), where=~mask)


def drop_where_nan(block: Block, sums: Block) -> None:
    """Make pixels of the block missing in every channel where `sums` are NaN."""
    for channel in block:
        keep_values(line_of(channel), sums.reshape(-1), block.dtype.type(np.nan))


def drop_low_sums(sums: Block, threshold: Block, *, of_others: bool = False) -> None:
    """Make sums NaN that do not exceed `threshold`.

    If the threshold was measured `of_others`, on other sums, those that exceed it by no more than
    rounding become NaN, too. But sums of whole numbers are not rounded: where the sum and the
    threshold are whole numbers, they are compared as they are.
    """
    exact = np.float64(threshold)
    limit = exact + TIE * np.float64(np.finfo(sums.dtype).eps) * abs(exact) if of_others else exact
    above = sums > _rounded_down(limit, sums.dtype)
    if of_others and exact.is_integer():
        above |= (sums > _rounded_down(exact, sums.dtype)) & (sums == np.rint(sums))
    sums[~above] = np.nan


def count_lost(reference: Block, sums: Block, threshold: Block) -> Block:
    """Three counts of pixels: measured, dropped, and lost.

    Measured are those with a sum in the reference that is not zero; dropped are those of them whose
    sum is NaN; and lost are those of the dropped that exceed the threshold in the reference.
    """
    measured = np.isfinite(reference) & (reference != 0)
    dropped = measured & np.isnan(sums)
    above = dropped & (reference > _rounded_down(np.float64(threshold), reference.dtype))
    return np.array([measured.sum(), dropped.sum(), above.sum()])


def _rounded_down(number: np.float64, dtype: DType) -> Any:
    """The largest value of a type that is not above the number.

    Values of that type exceed it exactly if they exceed the number.
    """
    nearest = rounded(np.asarray(number), dtype)[()]
    return np.nextafter(nearest, dtype.type(-np.inf)) if nearest > number else nearest


def divide_by_sums(block: Block, sums: Block) -> None:
    """Divide each channel by `sums`; where those are not positive, the block becomes missing."""
    for channel in block:
        divide_values(line_of(channel), sums.reshape(-1), block.dtype.type(np.nan))


def clip_between(block: Block, limits: Block) -> None:
    """Clip the block to the limits of each channel, shape (2, c). Infinities become NaN."""
    lows, highs = rounded(limits, block.dtype)
    for channel, low, high in zip(block, lows, highs, strict=True):
        limit_values(line_of(channel), low, high, block.dtype.type(np.nan))


def rescale(block: Block, limits: Block) -> None:
    """Bring values between the limits of each channel, shape (2, c), to 0 to 1.

    Where both limits are the same, the lower one is subtracted and nothing divided.
    """
    with np.errstate(over="ignore"):
        spans = rounded(limits[1] - limits[0], block.dtype)
    spans[spans == 0] = 1
    for channel, low, span in zip(block, rounded(limits[0], block.dtype), spans, strict=True):
        rescale_values(line_of(channel), low, span, block.dtype.type(np.nan))


def standardize(block: Block, numbers: Block) -> None:
    """Subtract the first of two numbers of each channel, shape (2, c), and divide by the second."""
    for channel, center, spread in zip(block, *rounded(numbers, block.dtype), strict=True):
        rescale_values(line_of(channel), center, spread, block.dtype.type(np.nan))


def subtract_constant(block: Block, constants: Block) -> None:
    """Subtract a constant from each channel; what falls below 0 becomes 0."""
    zero, missing = block.dtype.type(0), block.dtype.type(np.nan)
    for channel, constant in zip(block, rounded(constants, block.dtype), strict=True):
        subtract_value(line_of(channel), constant, zero, missing)


def subtract_channels(block: Block, triples: Sequence[tuple[int, int, float]]) -> None:
    """Subtract a factor times another channel from channels; what falls below 0 becomes 0.

    A triple (a, b, factor) subtracts the factor times channel b from channel a. Always the values
    of b before any subtraction are taken.
    """
    zero, missing = block.dtype.type(0), block.dtype.type(np.nan)
    changed = {channel for channel, _, _ in triples}
    others = {other: line_of(block[other]) for _, other, _ in triples}
    others |= {other: line.copy() for other, line in others.items() if other in changed}
    factors = rounded(np.array([factor for *_, factor in triples]), block.dtype)
    for (channel, other, _), factor in zip(triples, factors, strict=True):
        subtract_values(line_of(block[channel]), others[other], factor, zero, missing)


def put_below(block: Block, thresholds: Block, instead: float) -> None:
    """Put a number in place of the values of the block that are below their channel's threshold."""
    other, missing = block.dtype.type(instead), block.dtype.type(np.nan)
    for channel, threshold in zip(block, rounded(thresholds, block.dtype), strict=True):
        replace_below(line_of(channel), threshold, other, missing)


def arcsinh(block: Block) -> None:
    """Inverse hyperbolic sine of the block's values, in their place."""
    np.arcsinh(block, out=block)


def count_low(block: Block) -> list[int]:
    """How many finite values of each channel are -1 or below: 1 plus them has no logarithm."""
    return [int(((channel <= -1) & (channel > -np.inf)).sum()) for channel in block]


def log1p(block: Block) -> None:
    """Natural logarithm of one plus the block's values, in their place; NaN if not finite."""
    block[~((block > -1) & (block < np.inf))] = np.nan
    np.log1p(block, out=block)


def coarsen(block: Block, factors: tuple[int, int, int], *, dtype: DType) -> Block:
    """Mean over boxes of `factors` pixels along z, y, x, without NaNs; boxes fill the block."""
    pixels = to_float(block, dtype)
    total: Block = np.zeros(1)
    valid: Block = np.zeros(1, np.int64)
    for start in np.ndindex(*factors):
        part = pixels[:, start[0] :: factors[0], start[1] :: factors[1], start[2] :: factors[2]]
        missing = np.isnan(part)
        total = total + np.where(missing, 0, part).astype(np.float64)
        valid = valid + ~missing
    mean = np.full(total.shape, np.nan)
    np.divide(total, valid, out=mean, where=valid > 0)
    return mean.astype(dtype)


def line_of(channel: Block) -> Block:
    """All values of a channel in one row, a view: what is written to it changes the channel."""
    if not channel.flags.c_contiguous:
        raise ValueError("the values would be copied, and the copy be written to")
    return channel.reshape(-1)


def is_of_pixels(dtype: DType) -> bool:
    """Whether images may be of a type: integers, bool or floats of at most 64 bits."""
    return dtype.kind in "buif" and dtype.itemsize <= 8


def float_dtype(dtype: DType) -> DType:
    """The float type in which an image of type `dtype` is processed."""
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize == 8 else np.dtype("f4")
