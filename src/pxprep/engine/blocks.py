"""What the steps do to one block of pixels: pure functions on NumPy arrays.

A block has the axes (c, z, y, x) and is part of a larger image; `sums` have the axes (z, y, x).
A block that is read may be read-only, of any byte order and memory layout, and in pieces; none is
written to, except where the docstring says so. Missing pixels are NaN or infinite in what comes in,
and NaN in what comes out.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product
from typing import Any

import numpy as np

from ..aliases import Block, DType, Real
from .kernels.blur import blur_radius, blur_strip, gaussian_taps, mirror, place_rows
from .kernels.counts import count_floats, count_integers
from .kernels.erosion import erode, half_widths
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

# Rows and columns that are blurred at a time, so that they stay in cache.
BLUR_TILE = (64, 2048)
# Rows and columns of an opening at a time: more, as more work is done twice where tiles meet.
OPENING_TILE = (256, 1024)
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


def _rounded(numbers: Block, dtype: DType) -> Block:
    """Numbers in float type `dtype`; what it cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def _divisors(scale: Block | None, n_channels: int, dtype: DType) -> Block:
    return np.ones(n_channels, dtype) if scale is None else _rounded(scale, dtype)


def divide(
    pixels: Pixels,
    window: Window,
    scale: Block,
    *,
    dtype: DType,
    out: Sequence[Block],
) -> None:
    """Divide each channel of a window by its scale, after rounding that to `dtype`.

    `out` holds an array with axes (z, y, x) for each channel, with contiguous planes.
    """
    _divide(pixels.stretches(window, dtype), _rounded(scale, dtype), out)


def _divide(parts: Iterable[Stretch], divisors: Block, out: Sequence[Block]) -> None:
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
    for channel, divisor in zip(channels, _rounded(scale, zero.dtype), strict=True):
        for plane in channel:
            rescale_values(plane.reshape(-1), zero, divisor, missing)


def add_channels(
    pixels: Pixels, window: Window, scale: Block | None = None, *, dtype: DType
) -> Block:
    """The sum over channels, with axes (z, y, x), added one after the other in their order.

    If there is a `scale`, each channel is divided by its own one first.
    """
    total = np.zeros((pixels.planes, *window.shape), dtype)
    divisors, missing = _divisors(scale, pixels.n_channels, dtype), dtype.type(np.nan)
    line = np.empty(window.shape[1], dtype)
    for first, values, start, strides, shape, row, column in pixels.stretches(window, dtype):
        lines = values, start, strides, shape, divisors[first:]
        sum_channels(*lines, missing, line, total, row, column)
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


def keep_above(block: Block, sums: Block) -> None:
    """Make pixels of the block missing in every channel where `sums` are NaN."""
    for channel in block:
        keep_values(line_of(channel), sums.reshape(-1), block.dtype.type(np.nan))


def sums_above(sums: Block, threshold: Block, *, of_others: bool = False) -> None:
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
    rounded = _rounded(np.asarray(number), dtype)[()]
    return np.nextafter(rounded, dtype.type(-np.inf)) if rounded > number else rounded


def divide_by_sums(block: Block, sums: Block) -> None:
    """Divide each channel by `sums`; where those are not positive, the block becomes missing."""
    for channel in block:
        divide_values(line_of(channel), sums.reshape(-1), block.dtype.type(np.nan))


def clip_above(block: Block, limits: Block) -> None:
    """Set values of the block that are above their channel's limit to it. Infinities become NaN."""
    block[np.isinf(block)] = np.nan
    limit = _rounded(limits, block.dtype)[:, np.newaxis, np.newaxis, np.newaxis]
    np.minimum(block, limit, out=block)


def clip_between(block: Block, limits: Block) -> None:
    """Clip the block to the limits of each channel, shape (2, c). Infinities become NaN."""
    lows, highs = _rounded(limits, block.dtype)
    for channel, low, high in zip(block, lows, highs, strict=True):
        limit_values(line_of(channel), low, high, block.dtype.type(np.nan))


def rescale(block: Block, limits: Block) -> None:
    """Bring values between the limits of each channel, shape (2, c), to 0 to 1.

    Where both limits are the same, the lower one is subtracted and nothing divided.
    """
    with np.errstate(over="ignore"):
        spans = _rounded(limits[1] - limits[0], block.dtype)
    spans[spans == 0] = 1
    for channel, low, span in zip(block, _rounded(limits[0], block.dtype), spans, strict=True):
        rescale_values(line_of(channel), low, span, block.dtype.type(np.nan))


def standardize(block: Block, numbers: Block) -> None:
    """Subtract the first of two numbers of each channel, shape (2, c), and divide by the second."""
    for channel, center, spread in zip(block, *_rounded(numbers, block.dtype), strict=True):
        rescale_values(line_of(channel), center, spread, block.dtype.type(np.nan))


def subtract_constant(block: Block, constants: Block) -> None:
    """Subtract a constant from each channel; what falls below 0 becomes 0."""
    zero, missing = block.dtype.type(0), block.dtype.type(np.nan)
    for channel, constant in zip(block, _rounded(constants, block.dtype), strict=True):
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
    factors = _rounded(np.array([factor for *_, factor in triples]), block.dtype)
    for (channel, other, _), factor in zip(triples, factors, strict=True):
        subtract_values(line_of(block[channel]), others[other], factor, zero, missing)


def put_below(block: Block, thresholds: Block, instead: float) -> None:
    """Put a number in place of the values of the block that are below their channel's threshold."""
    other, missing = block.dtype.type(instead), block.dtype.type(np.nan)
    for channel, threshold in zip(block, _rounded(thresholds, block.dtype), strict=True):
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


def cool_hot_pixels(block: Block, inner: tuple[slice, slice], thresholds: Block) -> Block:
    """The inner part of a block, in which hot pixels become the largest of their neighbours.

    A pixel is hot if it exceeds all its neighbours by more than its channel's threshold. `inner`
    leaves out rows and columns that were only read as neighbours.
    """
    (rows, columns), dtype = block.shape[2:], block.dtype
    limits = _rounded(thresholds, dtype)
    cooled = np.empty_like(block)
    padded = np.full((rows + 2, columns + 2), -np.inf, dtype)
    for channel, plane in np.ndindex(block.shape[:2]):
        values, middle = block[channel, plane], padded[1:-1, 1:-1]
        missing = ~np.isfinite(values)
        middle[...] = np.where(missing, dtype.type(-np.inf), values)
        beside = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        around = np.maximum(beside[:, :-2], beside[:, 2:])
        np.maximum(around, padded[:-2, 1:-1], out=around)
        np.maximum(around, padded[2:, 1:-1], out=around)
        has_neighbours = around > -np.inf
        with np.errstate(invalid="ignore", over="ignore"):
            hot = has_neighbours & (middle - around > limits[channel])
        cooled[channel, plane] = np.where(hot, around, values)
        cooled[channel, plane][missing] = np.nan
    return np.ascontiguousarray(cooled[(slice(None), slice(None), *inner)])


def blur(
    pixels: Pixels,
    window: Window,
    sigmas: Block,
    scale: Block | None = None,
    *,
    dtype: DType,
    height: int,
    width: int,
    out: Block | None = None,
) -> Block:
    """The blurred pixels of a window; with a `scale`, channels are first divided by theirs.

    `height` and `width` are the image's, which is reflected where it ends. `pixels` hold what the
    blur reads. NaNs are left out and the weights of the others renormalised. The result is `out`,
    if that is given: axes (c, z, y, x), contiguous rows.
    """
    if out is None:
        out = np.empty((pixels.n_channels, pixels.planes, *window.shape), dtype)
    divisors = _divisors(scale, pixels.n_channels, dtype)
    for sigma, channels in _channels_alike(sigmas):
        if sigma == 0 and scale is None:
            out[_slice(channels)] = pixels.read(window)[_slice(channels)]  # bit for bit
        elif blur_radius(sigma) > 0:
            _blur_channels(pixels, window, channels, sigma, divisors, (height, width), out)
        else:
            _divide(pixels.stretches(window, dtype, channels), divisors, list(out))
            if sigma > 0:
                blurred = out[_slice(channels)]
                blurred[np.isinf(blurred)] = np.nan
    return out


def _channels_alike(by_channel: Block) -> Iterator[tuple[float, range]]:
    """Channels next to each other that have the same value, such as a sigma, with that value."""
    first = 0
    for value, group in groupby(by_channel.tolist()):
        channels = range(first, first + len(list(group)))
        yield value, channels
        first = channels.stop


def _slice(channels: range) -> slice:
    return slice(channels.start, channels.stop)


def _tiles(window: Window, rows: int, columns: int) -> Iterator[Window]:
    for top, left in product(
        range(window.top, window.bottom, rows), range(window.left, window.right, columns)
    ):
        yield Window(top, min(top + rows, window.bottom), left, min(left + columns, window.right))


def _blur_channels(
    pixels: Pixels,
    window: Window,
    channels: range,
    sigma: float,
    divisors: Block,
    size: tuple[int, int],
    out: Block,
) -> None:
    radius, taps = blur_radius(sigma), gaussian_taps(sigma, out.dtype)
    reach = taps.size - 1
    rows, columns = _blur_tile_shape(out.shape[2:], reach)
    scratch = np.empty((rows + 2 * reach + 1) * (columns + 2 * reach), out.dtype)
    for tile in _tiles(window, rows, columns):
        # One row more than is blurred, as `blur_strip` wants it.
        shape = tile.shape[0] + 2 * reach + 1, tile.shape[1] + 2 * reach
        padded = scratch[: shape[0] * shape[1]].reshape(shape)
        have = tile.grown(radius, *size)
        above, before = reach - (tile.top - have.top), reach - (tile.left - have.left)
        filled = above, above + have.shape[0], before, before + have.shape[1]
        parts = pixels.stretches(have, out.dtype, channels)
        for channel, plane in product(channels, range(pixels.planes)):
            divisor = divisors[channel]
            missing = _place_plane(parts, channel, plane, divisor, padded, above, before)
            mirror(padded[:-1], reach - radius, *filled)
            target = out[channel, plane, tile.top - window.top : tile.bottom - window.top]
            _blur_tile(padded, missing, taps, target, tile.left - window.left)


def _place_plane(
    parts: Iterable[Stretch],
    channel: int,
    plane: int,
    divisor: Real,
    out: Block,
    row: int = 0,
    column: int = 0,
) -> bool:
    """Divide a plane of a channel into `out`, from `row` and `column` on; whether any is NaN."""
    missing = False
    for part in parts:
        if channel in part.channels:
            lines = part.values, part.at(channel, plane), part.strides[2]
            at = row + part.row, column + part.column, *part.shape[2:]
            missing |= place_rows(*lines, divisor, out, *at)
    return missing


def _blur_tile_shape(shape: tuple[int, ...], reach: int) -> tuple[int, int]:
    """Rows and columns of a tile; the narrower the image, the more rows."""
    rows, columns = BLUR_TILE
    columns = min(shape[1], max(columns, 2 * reach))
    rows = max(rows, rows * BLUR_TILE[1] // columns, 2 * reach)
    return min(shape[0], rows), columns


def _blur_tile(padded: Block, missing: bool, taps: Block, out: Block, column: int) -> None:
    lines = np.empty((2, padded.shape[1]), out.dtype)
    if not missing:
        blur_strip(padded, taps, lines, out, column)
        return
    reach = taps.size - 1
    is_missing = np.isnan(padded)
    padded[is_missing] = 0
    blur_strip(padded, taps, lines, out, column)
    inner = slice(reach, reach + len(out)), slice(reach, -reach)
    blurred = out[:, column : column + padded.shape[1] - 2 * reach]
    weight = np.empty(blurred.shape, out.dtype)
    blur_strip((~is_missing).astype(out.dtype), taps, lines, weight, 0)
    # Where no pixel under the kernel is missing, the weight is `full` to the last bit, and the
    # result is not divided by it: a NaN elsewhere in the tile must not change its bits.
    full = np.empty((1, 1), out.dtype)
    ones = np.ones((2 + 2 * reach, 1 + 2 * reach), out.dtype)
    blur_strip(ones, taps, np.empty_like(ones[:2]), full, 0)
    np.divide(blurred, weight, out=blurred, where=(weight != full) & (weight > 0))
    blurred[is_missing[inner]] = np.nan


def subtract_opening(
    pixels: Pixels,
    window: Window,
    radii: Sequence[int],
    scale: Block | None = None,
    *,
    dtype: DType,
    height: int,
    width: int,
) -> Block:
    """The pixels of a window minus their opening by a disc: a white top-hat.

    `pixels` hold what it reads, two radii around. What lies outside the image, and NaNs, are left
    out. `scale`, `height` and `width` are as for `blur`.
    """
    out = np.empty((pixels.n_channels, pixels.planes, *window.shape), dtype)
    divisors = _divisors(scale, pixels.n_channels, dtype)
    for radius, channels in _channels_alike(np.asarray(radii)):
        if radius > 0:
            # A disc that covers the whole image from any of its pixels is large enough.
            covering = min(int(radius), height + width)
            _subtract_openings(pixels, window, channels, covering, divisors, (height, width), out)
        elif scale is None:
            out[_slice(channels)] = pixels.read(window)[_slice(channels)]  # bit for bit
        else:
            _divide(pixels.stretches(window, dtype, channels), divisors, list(out))
    return out


def _subtract_openings(
    pixels: Pixels,
    window: Window,
    channels: range,
    radius: int,
    divisors: Block,
    size: tuple[int, int],
    out: Block,
) -> None:
    rows, columns = (max(most, 8 * radius) for most in OPENING_TILE)
    for tile in _tiles(window, rows, columns):
        centres, have = tile.grown(radius, *size), tile.grown(2 * radius, *size)
        parts = pixels.stretches(have, out.dtype, channels)
        for channel, plane in product(channels, range(pixels.planes)):
            values = np.empty(have.shape, out.dtype)
            missing = _place_plane(parts, channel, plane, divisors[channel], values)
            target = out[(channel, plane, *tile.within(window))]
            target[...] = _without_opening(values, have, centres, tile, radius, missing)


def _without_opening(
    values: Block, have: Window, centres: Window, tile: Window, radius: int, missing: bool
) -> Block:
    """The pixels of `tile` minus their opening.

    `values` are those of `have`; `missing` says if any is NaN. The erosion is needed in `centres`.
    """
    values += 0  # so that zeros have one sign
    raised = values[tile.within(have)].copy()
    if missing:
        values[np.isnan(values)] = np.inf
    eroded = _eroded(values, have, centres, radius)
    # A dilation is an erosion upside down.
    opened = _eroded(np.negative(eroded, out=eroded), centres, tile, radius)
    with np.errstate(over="ignore"):
        raised += opened
    if missing:
        raised[np.isnan(raised)] = np.nan  # all of the same bits
    return raised


def _eroded(values: Block, place: Window, window: Window, radius: int) -> Block:
    """The smallest of `values`, which lie at `place`, in the disc around each pixel of `window`."""
    out = np.empty(window.shape, values.dtype)
    line, scratch = np.empty((2, window.shape[1] + 2 * radius), values.dtype)
    row, column = window.top - place.top, window.left - place.left
    erode(values, row, column, half_widths(radius), values.dtype.type(np.inf), line, scratch, out)
    return out


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


def key_bits(dtype: DType) -> int:
    """How many bits a sort key has: 16 for small integers, else those of the float type."""
    if dtype.kind in "bui" and dtype.itemsize <= 2:
        return 16
    return 64 if dtype.kind == "f" and dtype.itemsize == 8 else 32


def integer_offset(dtype: DType) -> int:
    """What is added to integers of at most 16 bits so that none is negative."""
    return 0 if dtype.kind in "bu" else -int(np.iinfo(dtype).min)


def count_digits(
    block: Block, prefixes: Block | None, level: int, zeros: bool, counts: Block
) -> None:
    """Add to `counts` how many finite pixels have which digit in their sort key.

    Parameters
    ----------
    block
        Axes (c, z, y, x).
    prefixes
        Shape (c, n): only keys are counted that begin with these digits. None at level 0, where
        there is no digit before.
    level
        Which 16-bit digit is counted: 0 is the highest.
    zeros
        Whether zeros count.
    counts
        uint32, shape (c, n, 65537); the last slot counts the infinities. Where two prefixes of a
        channel are the same, only the first is counted: see `repeat_counts`.
    """
    if key_bits(block.dtype) == 16:
        offset = integer_offset(block.dtype)
        for channel, slots in zip(block, counts[:, 0], strict=True):
            values = _flat(channel, block.dtype.newbyteorder("="))
            before = slots[offset]
            # The fewer slots there are, the faster it is: real images have no very large values.
            n_slots = int(values.max(initial=0)) + offset + 1
            count_integers(values, offset, slots[:n_slots])
            if not zeros:
                slots[offset] = before
        return
    float_type = np.dtype(np.float64) if key_bits(block.dtype) == 64 else np.dtype(np.float32)
    unsigned = np.dtype(f"u{float_type.itemsize}")
    sign, infinity, ones = bit_constants(float_type)
    shift = unsigned.type(key_bits(block.dtype) - 16 * (level + 1))
    for index, channel in enumerate(block):
        bits = _flat(channel, float_type).view(unsigned)
        wanted = _prefixes(prefixes, index)
        for position, prefix in enumerate(wanted):
            if wanted.index(prefix) == position:  # neighbouring ranks mostly share their digits
                slots = counts[index, position]
                count_floats(bits, sign, infinity, ones, shift, unsigned.type(prefix), zeros, slots)


def repeat_counts(counts: Block, prefixes: Block | None) -> None:
    """Give equal prefixes of a channel the same counts, after the last `count_digits`."""
    for index in range(0 if prefixes is None else len(counts)):
        wanted = _prefixes(prefixes, index)
        for position, prefix in enumerate(wanted):
            counts[index, position] = counts[index, wanted.index(prefix)]


def bit_constants(dtype: DType) -> tuple[Any, Any, Any]:
    """The bit patterns of -0.0 and inf, and all bits set, for a float type."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity = np.array([-0.0, np.inf], dtype).view(unsigned)
    return sign, infinity, unsigned.type(np.iinfo(unsigned).max)


def _flat(channel: Block, dtype: DType) -> Block:
    return np.ascontiguousarray(channel, dtype).reshape(-1)


def line_of(channel: Block) -> Block:
    """All values of a channel in one row, a view: what is written to it changes the channel."""
    if not channel.flags.c_contiguous:
        raise ValueError("the values would be copied, and the copy be written to")
    return channel.reshape(-1)


def _prefixes(prefixes: Block | None, index: int) -> list[int]:
    return [0] if prefixes is None else [int(prefix) for prefix in prefixes[index]]


def float_dtype(dtype: DType) -> DType:
    """The float type in which an image of type `dtype` is processed."""
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize == 8 else np.dtype("f4")
