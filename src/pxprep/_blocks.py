"""What the steps do to one block of pixels: pure functions on NumPy arrays.

A block has the axes (c, z, y, x) and belongs to a larger image; `sums` has (z, y, x). A block may
be read-only, of any byte order and memory layout; none is ever written to. Missing pixels are NaN
in what comes out, and NaN or infinite in what comes in.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._kernels.blur import blur_tile, gaussian_taps
from ._kernels.counts import N_SLOTS, count_floats, count_integers
from ._typing import Block

# A tile of rows x columns whose float32 lines stay in the second-level cache while blurred.
TILE = (64, 1024)


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


def _divided(dividend: Block, divisor: Block) -> Block:
    """The quotient of two floats of one type; what that cannot hold is infinite, or NaN."""
    with np.errstate(all="ignore"):
        quotient: Block = np.divide(dividend, divisor)
    return quotient


def divide(block: Block, scale: Block, *, dtype: np.dtype[Any]) -> Block:
    """Each channel divided by its scale, rounded to `dtype` first."""
    divisor = _rounded(scale, dtype)[:, np.newaxis, np.newaxis, np.newaxis]
    return _divided(to_float(block, dtype), divisor)


def add_channels(blocks: Sequence[Block], *, dtype: np.dtype[Any]) -> Block:
    """Sum over channels, one after the other, of blocks that are consecutive runs of channels."""
    channels = (channel for block in blocks for channel in block)
    total = to_float(next(channels), dtype).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in channels:
            total += to_float(channel, dtype)
    return total


def keep_above(block: Block, sums: Block, threshold: Block, *, dtype: np.dtype[Any]) -> Block:
    """The block where `sums` exceeds `threshold`, NaN in every channel elsewhere."""
    # Rounded down: a sum, which is of this type, exceeds that just when it exceeds the threshold.
    limit = _rounded(threshold, dtype)
    limit = np.where(limit > threshold, np.nextafter(limit, dtype.type(-np.inf)), limit)
    return np.where(sums > limit, to_float(block, dtype), dtype.type(np.nan))


def divide_by_sums(block: Block, sums: Block, *, dtype: np.dtype[Any]) -> Block:
    """The block divided by `sums` where they are positive, NaN in every channel elsewhere."""
    divisor = np.where(sums > 0, sums, dtype.type(np.nan))
    return _divided(to_float(block, dtype), divisor)


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
        taps = gaussian_taps(float(sigma), dtype)
        for plane, target in zip(channel, blurred, strict=True):
            own = plane[top : top + rows, left : left + columns]
            if sigma == 0:
                target[...] = own  # bit for bit, infinities too
            elif taps.size == 1:
                target[...] = to_float(own, dtype)
            else:
                _blur_plane(to_float(plane, dtype), taps, (top, left), target)
    return out


def _blur_plane(plane: Block, taps: Block, origin: tuple[int, int], out: Block) -> None:
    plane = np.ascontiguousarray(plane)
    missing = np.isnan(plane)
    if not missing.any():
        _blur_tiles(plane, taps, origin, out)
        return
    _blur_tiles(np.where(missing, plane.dtype.type(0), plane), taps, origin, out)
    weight = np.empty_like(out)
    _blur_tiles((~missing).astype(plane.dtype), taps, origin, weight)
    # Where every pixel under the kernel is valid the weight is this number to the last bit, and
    # the plain result stands: a NaN elsewhere in the block must not change it.
    full = np.empty((1, 1), plane.dtype)
    blur_tile(np.ones((1, 1), plane.dtype), taps, 0, 0, full)
    np.divide(out, weight, out=out, where=(weight != full) & (weight > 0))
    top, left = origin
    out[missing[top : top + out.shape[0], left : left + out.shape[1]]] = np.nan


def _blur_tiles(plane: Block, taps: Block, origin: tuple[int, int], out: Block) -> None:
    top, left = origin
    for i in range(0, out.shape[0], TILE[0]):
        for j in range(0, out.shape[1], TILE[1]):
            target = out[i : i + TILE[0], j : j + TILE[1]]
            blur_tile(plane, taps, top + i, left + j, target)


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


def count_digits(block: Block, prefixes: Block | None, level: int, zeros: bool) -> Block:
    """How many finite pixels have which digit, for each channel and each prefix.

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

    Returns
    -------
    uint32, shape (c, n, 65537); the last slot counts the infinities.
    """
    n_prefixes = 1 if prefixes is None else prefixes.shape[1]
    counts = np.zeros((block.shape[0], n_prefixes, N_SLOTS), np.uint32)
    if key_bits(block.dtype) == 16:
        offset = integer_offset(block.dtype)
        for channel, found in zip(block, counts[:, 0], strict=True):
            values = _flat(channel, block.dtype.newbyteorder("="))
            count_integers(values, offset, found)
            if not zeros:
                found[offset] = 0
        return counts
    dtype = np.dtype(np.float64) if key_bits(block.dtype) == 64 else np.dtype(np.float32)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity, ones = bit_constants(dtype)
    shift = unsigned.type(key_bits(block.dtype) - 16 * (level + 1))
    for index, channel in enumerate(block):
        bits = _flat(channel, dtype).view(unsigned)
        done: dict[int, Block] = {}
        for found, prefix in zip(counts[index], _prefixes(prefixes, index), strict=True):
            if prefix in done:  # neighbouring ranks mostly share their digits
                found[...] = done[prefix]
                continue
            count_floats(bits, sign, infinity, ones, shift, unsigned.type(prefix), zeros, found)
            done[prefix] = found
    return counts


def bit_constants(dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """The bit patterns of -0.0 and inf, and all bits set, for a float type."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity = np.array([-0.0, np.inf], dtype).view(unsigned)
    return sign, infinity, unsigned.type(np.iinfo(unsigned).max)


def _flat(channel: Block, dtype: np.dtype[Any]) -> Block:
    return np.ascontiguousarray(channel, dtype).reshape(-1)


def _prefixes(prefixes: Block | None, index: int) -> list[int]:
    return [0] if prefixes is None else [int(prefix) for prefix in prefixes[index]]
