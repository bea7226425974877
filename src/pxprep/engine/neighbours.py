"""What steps make of a pixel and its neighbours: hot pixels, blur, opening.

Functions on NumPy arrays, as those in `blocks`, where the words are explained.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product

import numpy as np

from ..aliases import Block, DType
from ..memory import scratch
from .blocks import divide_stretches, divisors_of, rounded
from .kernels.blur import blur_inner, blur_radius, gaussian_taps, mirror, place_rows
from .kernels.erosion import erode, half_widths
from .windows import Pixels, Stretch, Window

# Rows and columns that are blurred at a time, so that they stay in cache.
BLUR_TILE = (64, 2048)
# Rows and columns of an opening at a time: more, as more work is done twice where tiles meet.
OPENING_TILE = (256, 1024)


def cool_hot_pixels(block: Block, inner: tuple[slice, slice], thresholds: Block) -> Block:
    """The inner part of a block, in which hot pixels become the largest of their neighbours.

    A pixel is hot if it exceeds all its neighbours by more than its channel's threshold. `inner`
    leaves out rows and columns that were only read as neighbours.
    """
    (rows, columns), dtype = block.shape[2:], block.dtype
    limits = rounded(thresholds, dtype)
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
        out = scratch((pixels.n_channels, pixels.planes, *window.shape), dtype)
    divisors = divisors_of(scale, pixels.n_channels, dtype)
    for sigma, channels in _channels_alike(sigmas):
        if sigma == 0 and scale is None:
            out[_slice(channels)] = pixels.read(window)[_slice(channels)]  # bit for bit
        elif blur_radius(sigma) > 0:
            _blur_channels(pixels, window, channels, sigma, divisors, (height, width), out)
        else:
            divide_stretches(pixels.stretches(window, dtype, channels), divisors, list(out))
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
    padding = scratch([(rows + 2 * reach + 1) * (columns + 2 * reach)], out.dtype)
    for tile in _tiles(window, rows, columns):
        # One row more than is blurred, as `blur_inner` wants it.
        shape = tile.shape[0] + 2 * reach + 1, tile.shape[1] + 2 * reach
        padded = padding[: shape[0] * shape[1]].reshape(shape)
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
    divisor: float,
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
        blur_inner(padded, taps, lines, out, column)
        return
    reach = taps.size - 1
    is_missing = np.isnan(padded)
    padded[is_missing] = 0
    blur_inner(padded, taps, lines, out, column)
    inner = slice(reach, reach + len(out)), slice(reach, -reach)
    blurred = out[:, column : column + padded.shape[1] - 2 * reach]
    weight = np.empty(blurred.shape, out.dtype)
    blur_inner((~is_missing).astype(out.dtype), taps, lines, weight, 0)
    # Where no pixel under the kernel is missing, the weight is `full` to the last bit, and the
    # result is not divided by it: a NaN elsewhere in the tile must not change its bits.
    full = np.empty((1, 1), out.dtype)
    ones = np.ones((2 + 2 * reach, 1 + 2 * reach), out.dtype)
    blur_inner(ones, taps, np.empty_like(ones[:2]), full, 0)
    np.divide(blurred, weight, out=blurred, where=(weight != full) & (weight > 0))
    blurred[is_missing[inner]] = np.nan


def subtract_opening(
    pixels: Pixels,
    window: Window,
    radii: Sequence[int],
    scale: Block | None,
    *,
    height: int,
    width: int,
    out: Block,
) -> Block:
    """The pixels of a window minus their opening by a disc: a white top-hat.

    `pixels` hold what it reads, two radii around. What lies outside the image, and NaNs, are left
    out. `scale`, `height`, `width` and `out` are as for `blur`.
    """
    divisors = divisors_of(scale, pixels.n_channels, out.dtype)
    for radius, channels in _channels_alike(np.asarray(radii)):
        if radius > 0:
            # A disc that covers the whole image from any of its pixels is large enough.
            covering = min(int(radius), height + width)
            _subtract_openings(pixels, window, channels, covering, divisors, (height, width), out)
        elif scale is None:
            out[_slice(channels)] = pixels.read(window)[_slice(channels)]  # bit for bit
        else:
            divide_stretches(pixels.stretches(window, out.dtype, channels), divisors, list(out))
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
    line, spare = np.empty((2, window.shape[1] + 2 * radius), values.dtype)
    row, column = window.top - place.top, window.left - place.left
    erode(values, row, column, half_widths(radius), values.dtype.type(np.inf), line, spare, out)
    return out
