"""What the steps do to one block of pixels: pure functions on NumPy arrays.

A block has the axes (c, z, y, x) and belongs to a larger image; `sums` has (z, y, x). A block may
be read-only, of any byte order and memory layout; none is ever written to. Missing pixels are NaN
in what comes out, and NaN or infinite in what comes in.
"""

from typing import Any

import numpy as np

from ._kernels.blur import any_missing, blur_radius, blur_strip, gaussian_taps, surround
from ._kernels.counts import N_SLOTS, count_floats, count_integers
from ._kernels.pointwise import add_values, divide_values, keep_values, scale_values
from ._typing import Block

# Rows that are blurred at a time, so that they stay in cache.
STRIP_ROWS = 64


def to_float(block: Block, dtype: np.dtype[Any]) -> Block:
    """The block in float type `dtype` with infinities as NaN; a view where nothing changes."""
    if block.dtype.kind != "f":
        return block.astype(dtype)
    infinite = np.isinf(block)
    if not infinite.any():
        return block.astype(dtype, copy=False)
    block = block.astype(dtype)
    block[infinite] = np.nan
    return block


def _rounded(numbers: Block, dtype: np.dtype[Any]) -> Block:
    """Numbers in float type `dtype`; what it cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def divide(block: Block, scale: Block, *, dtype: np.dtype[Any]) -> Block:
    """Each channel divided by its scale, rounded to `dtype` first."""
    out = np.empty(block.shape, dtype)
    for channel, divisor, quotient in zip(block, _rounded(scale, dtype), out, strict=True):
        values = _flat(channel, channel.dtype.newbyteorder("="))
        if values.dtype.kind == "f":
            values = values.astype(dtype, copy=False)
        scale_values(values, divisor, dtype.type(np.nan), quotient.reshape(-1))
    return out


def add_channels(block: Block, *, dtype: np.dtype[Any]) -> Block:
    """Sum over channels, one after the other, with axes (z, y, x)."""
    total = np.zeros(block.shape[1:], dtype)
    for channel in block:
        add_values(total.reshape(-1), _flat(channel, dtype), dtype.type(np.nan))
    return total


def keep_above(block: Block, sums: Block, threshold: Block, *, dtype: np.dtype[Any]) -> Block:
    """The block where `sums` exceeds `threshold`, NaN in every channel elsewhere."""
    # Rounded down: a sum, which is of this type, exceeds that just when it exceeds the threshold.
    limit = _rounded(np.asarray(threshold), dtype)[()]
    if limit > threshold:
        limit = np.nextafter(limit, dtype.type(-np.inf))
    out, nan = np.empty(block.shape, dtype), dtype.type(np.nan)
    for channel, kept in zip(block, out, strict=True):
        keep_values(_flat(channel, dtype), sums.reshape(-1), limit, nan, kept.reshape(-1))
    return out


def divide_by_sums(block: Block, sums: Block, *, dtype: np.dtype[Any]) -> Block:
    """The block divided by `sums` where they are positive, NaN in every channel elsewhere."""
    out, nan = np.empty(block.shape, dtype), dtype.type(np.nan)
    for channel, quotient in zip(block, out, strict=True):
        divide_values(_flat(channel, dtype), sums.reshape(-1), nan, quotient.reshape(-1))
    return out


def clip_above(block: Block, limits: Block, *, dtype: np.dtype[Any]) -> Block:
    """Each channel with values above its limit set to it; NaN stays."""
    limit = _rounded(limits, dtype)[:, np.newaxis, np.newaxis, np.newaxis]
    clipped: Block = np.minimum(to_float(block, dtype), limit)
    return clipped


def blur(
    block: Block,
    sigmas: Block,
    *,
    dtype: np.dtype[Any],
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
) -> Block:
    """The blurred pixels of `shape` from row and column `origin` on; all of them by default.

    The rest of the block is the halo that the blur reads; where there is none, the image is
    reflected. NaNs are left out and the weights of the others renormalised.
    """
    rows, columns = block.shape[2:] if shape is None else shape
    top, left = origin
    out = np.empty((*block.shape[:2], rows, columns), dtype)
    for channel, sigma, blurred in zip(block, sigmas, out, strict=True):
        radius = blur_radius(float(sigma))
        for plane, target in zip(channel, blurred, strict=True):
            own = plane[top : top + rows, left : left + columns]
            if sigma == 0:
                target[...] = own  # bit for bit, infinities too
            elif radius == 0:
                target[...] = to_float(own, dtype)
            else:
                taps = gaussian_taps(float(sigma), dtype)
                _blur_plane(plane, radius, taps, origin, target)
    return out


def _blur_plane(
    plane: Block, radius: int, taps: Block, origin: tuple[int, int], out: Block
) -> None:
    plane = np.ascontiguousarray(plane, plane.dtype.newbyteorder("="))
    if plane.dtype.kind == "f":
        plane = plane.astype(out.dtype, copy=False)
    reach = taps.size - 1
    rows = min(out.shape[0], max(STRIP_ROWS, 2 * reach))
    padded = np.empty((rows + 2 * reach, out.shape[1] + 2 * reach), out.dtype)
    line = np.empty(padded.shape[1], out.dtype)
    top, left = origin
    for first in range(0, out.shape[0], rows):
        strip = out[first : first + rows]
        window = padded[: len(strip) + 2 * reach]
        surround(plane, top + first, left, reach, radius, window)
        _blur_strip(window, reach, taps, line, strip)


def _blur_strip(window: Block, reach: int, taps: Block, line: Block, out: Block) -> None:
    if not any_missing(window):
        blur_strip(window, taps, line, out)
        return
    missing = np.isnan(window)
    window[missing] = 0
    blur_strip(window, taps, line, out)
    weight = np.empty_like(out)
    blur_strip((~missing).astype(out.dtype), taps, line, weight)
    # Where every pixel under the kernel is valid the weight is this number to the last bit, and
    # the plain result stands: a NaN elsewhere in the strip must not change it.
    full = np.empty((1, 1), out.dtype)
    ones = np.ones((1 + 2 * reach,) * 2, out.dtype)
    blur_strip(ones, taps, np.empty_like(ones[0]), full)
    np.divide(out, weight, out=out, where=(weight != full) & (weight > 0))
    out[missing[reach : reach + out.shape[0], reach : reach + out.shape[1]]] = np.nan


def coarsen(block: Block, factors: tuple[int, int, int], *, dtype: np.dtype[Any]) -> Block:
    """Mean over blocks of `factors` pixels along z, y, x, which divide it; NaN ignored."""
    pixels = to_float(block, dtype)
    total: Any = np.float64(0)
    valid: Any = np.int64(0)
    for start in np.ndindex(*factors):
        part = pixels[:, start[0] :: factors[0], start[1] :: factors[1], start[2] :: factors[2]]
        missing = np.isnan(part)
        total = total + np.where(missing, 0, part).astype(np.float64)
        valid = valid + ~missing
    mean = np.full(total.shape, np.nan)
    np.divide(total, valid, out=mean, where=valid > 0)
    return mean.astype(dtype)


def key_bits(dtype: np.dtype[Any]) -> int:
    """Width of the sort keys of values of type `dtype`: 16 for small integers, else the float's."""
    if dtype.kind in "bui" and dtype.itemsize <= 2:
        return 16
    return 64 if dtype.kind == "f" and dtype.itemsize == 8 else 32


def integer_offset(dtype: np.dtype[Any]) -> int:
    """What makes integers of at most 16 bits non-negative."""
    return 0 if dtype.kind in "bu" else -int(np.iinfo(dtype).min)


def count_digits(
    block: Block, prefixes: Block | None, level: int, zeros: bool, counts: Block
) -> None:
    """Add to `counts` how many finite pixels have which digit, by channel and prefix.

    Parameters
    ----------
    block
        Axes (c, z, y, x).
    prefixes
        Shape (c, n): the digits above `level` of the keys to count; None at level 0, where the
        one prefix is empty.
    level
        Which 16-bit digit is counted, from the highest.
    zeros
        Whether zeros count.
    counts
        uint32, shape (c, n, 65537); the last slot counts the infinities. Where two prefixes of a
        channel are the same, only the first is counted: see `repeat_counts`.
    """
    if key_bits(block.dtype) == 16:
        offset = integer_offset(block.dtype)
        for channel, found in zip(block, counts[:, 0], strict=True):
            values = _flat(channel, block.dtype.newbyteorder("="))
            before = found[offset]
            count_integers(values, offset, found)
            if not zeros:
                found[offset] = before
        return
    dtype = np.dtype(np.float64) if key_bits(block.dtype) == 64 else np.dtype(np.float32)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity, ones = bit_constants(dtype)
    shift = unsigned.type(key_bits(block.dtype) - 16 * (level + 1))
    for index, channel in enumerate(block):
        bits = _flat(channel, dtype).view(unsigned)
        own = _prefixes(prefixes, index)
        for position, prefix in enumerate(own):
            if own.index(prefix) == position:  # neighbouring ranks mostly share their digits
                found = counts[index, position]
                count_floats(bits, sign, infinity, ones, shift, unsigned.type(prefix), zeros, found)


def no_counts(n_channels: int, prefixes: Block | None) -> Block:
    """Counts of nothing, for `count_digits` to add to."""
    n_prefixes = 1 if prefixes is None else prefixes.shape[1]
    return np.zeros((n_channels, n_prefixes, N_SLOTS), np.uint32)


def repeat_counts(counts: Block, prefixes: Block | None) -> None:
    """Give equal prefixes of a channel the same counts, after the last `count_digits`."""
    for index in range(0 if prefixes is None else len(counts)):
        own = _prefixes(prefixes, index)
        for position, prefix in enumerate(own):
            counts[index, position] = counts[index, own.index(prefix)]


def bit_constants(dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """The bit patterns of -0.0 and inf, and all bits set, for a float type."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity = np.array([-0.0, np.inf], dtype).view(unsigned)
    return sign, infinity, unsigned.type(np.iinfo(unsigned).max)


def _flat(channel: Block, dtype: np.dtype[Any]) -> Block:
    return np.ascontiguousarray(channel, dtype).reshape(-1)


def _prefixes(prefixes: Block | None, index: int) -> list[int]:
    return [0] if prefixes is None else [int(prefix) for prefix in prefixes[index]]
