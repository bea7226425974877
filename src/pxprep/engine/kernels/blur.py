"""Separable Gaussian blur of a tile, given with its surroundings."""

from functools import lru_cache

import numpy as np

from ...aliases import Block, DType
from . import Unsigned, kernel, part

TRUNCATE = 4.0
# Pairs of pixels that are added in one sweep: a row is then loaded and stored once for all of them.
SWEEP = 4
ZERO, ONE, TWO, THREE, FOUR, FIVE = map(np.uint64, range(6))


def blur_radius(sigma: float) -> int:
    """How many pixels away the outermost tap lies."""
    return int(TRUNCATE * sigma + 0.5)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float, dtype: DType) -> Block:
    """Centre and one side of the normalised Gaussian that `scipy.ndimage.gaussian_filter` uses.

    Zeros follow until the last sweep is full. All callers get the same array: do not write to it.
    """
    distance = np.arange(blur_radius(sigma) + 1)
    taps = np.exp(-0.5 / (sigma * sigma) * distance**2)
    filled = np.zeros(1 + -(-(distance.size - 1) // SWEEP) * SWEEP, dtype)
    filled[: distance.size] = taps / (taps[0] + 2 * taps[1:].sum())
    return filled


@kernel
def place_rows(
    values: Block,
    start: int,
    stride: int,
    divisor: float,
    padded: Block,
    row: int,
    column: int,
    height: int,
    width: int,
) -> bool:
    """Copy rows of `values`, divided, to `row` and `column` of `padded`.

    The first row begins at index `start`, and each other one `stride` after the one before.
    Infinities become NaN. Returns whether any value is NaN.
    """
    real, left, n_missing = padded.dtype.type, np.uint64(column), 0
    for i in range(height):
        first, line, n = np.uint64(start + i * stride), np.uint64(row + i), np.int32(0)
        for j in range(np.uint64(width)):
            v = real(values[first + j]) / divisor
            v = v if v - v == 0 else v - v
            padded[line, left + j] = v
            n = np.int32(n + (v != v))  # as wide as float32: so both fill a vector alike
        n_missing += int(n)
    return n_missing > 0


@kernel
def mirror(padded: Block, margin: int, top: int, bottom: int, left: int, right: int) -> None:
    """Fill `padded` around the rows `top` to `bottom` and columns `left` to `right` of an image.

    The image is mirrored where it ends (d c b a | a b c d | d c b a); the outermost `margin` pixels
    are zero. If there is more to fill than the image has pixels, it is mirrored again and again.
    """
    rows, columns = padded.shape
    zero = padded.dtype.type(0)
    for i in range(top, bottom):
        line = np.uint64(i)
        for k in range(columns - (right - left)):
            j = k if k < left else k + (right - left)
            seen = padded[line, np.uint64(left + _mirrored(j - left, right - left))]
            padded[line, np.uint64(j)] = seen if margin <= j < columns - margin else zero
    for i in range(rows):
        if i < top or i >= bottom:
            inside = margin <= i < rows - margin
            line, source = np.uint64(i), np.uint64(top + _mirrored(i - top, bottom - top))
            for j in range(np.uint64(columns)):
                padded[line, j] = padded[source, j] if inside else zero


@kernel
def blur_inner(padded: Block, taps: Block, lines: Block, out: Block, column: int) -> None:
    """Blur the inner part of `padded` into `out`, from `column` on.

    Two rows at a time are blurred down the columns, into `lines`, and then along the rows. `padded`
    has `taps.size - 1` pixels more on every side than it gives to `out`, and at the bottom one more
    row, of any values. `lines` are two rows as wide as `padded`. All are contiguous.
    """
    n, left = np.uint64(taps.size), np.uint64(column)
    reach = n - ONE
    for i in range(np.uint64(out.shape[0])):
        row, line = i + reach, i & ONE
        if line == 0:
            _centre_down(padded, row, taps, lines)
            for k in range(FIVE, n, FOUR):
                _sweep_down(padded, row - k, row + k, taps, k, lines)
        _centre_along(lines, line, reach, taps, out, i, left)
        for k in range(FIVE, n, FOUR):
            _sweep_along(lines, line, reach - k, reach + k, taps, k, out, i, left)


@part
def _mirrored(index: int, size: int) -> int:
    """Which pixel, 0 to size - 1, is seen at `index` in a line that is mirrored at both ends."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


# The two pixels at one distance are added before they are weighted: half the multiplications. Two
# rows are made at once, as they are made of mostly the same pixels.
@part
def _centre_down(rows: Block, row: Unsigned, taps: Block, lines: Block) -> None:
    w0, w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    for j in range(np.uint64(lines.shape[1])):
        a4, a3, a2 = rows[row - FOUR, j], rows[row - THREE, j], rows[row - TWO, j]
        a1, c, b1 = rows[row - ONE, j], rows[row, j], rows[row + ONE, j]
        b2, b3, b4 = rows[row + TWO, j], rows[row + THREE, j], rows[row + FOUR, j]
        b5 = rows[row + FIVE, j]
        near, far = w1 * (a1 + b1) + w2 * (a2 + b2), w3 * (a3 + b3) + w4 * (a4 + b4)
        lines[ZERO, j] = w0 * c + (near + far)
        near, far = w1 * (c + b2) + w2 * (a1 + b3), w3 * (a2 + b4) + w4 * (a3 + b5)
        lines[ONE, j] = w0 * b1 + (near + far)


@part
def _sweep_down(
    rows: Block, above: Unsigned, below: Unsigned, taps: Block, k: Unsigned, lines: Block
) -> None:
    w1, w2, w3, w4 = taps[k], taps[k + ONE], taps[k + TWO], taps[k + THREE]
    for j in range(np.uint64(lines.shape[1])):
        a4, a3, a2 = rows[above - THREE, j], rows[above - TWO, j], rows[above - ONE, j]
        a1, a0 = rows[above, j], rows[above + ONE, j]
        b1, b2, b3 = rows[below, j], rows[below + ONE, j], rows[below + TWO, j]
        b4, b5 = rows[below + THREE, j], rows[below + FOUR, j]
        near, far = w1 * (a1 + b1) + w2 * (a2 + b2), w3 * (a3 + b3) + w4 * (a4 + b4)
        lines[ZERO, j] += near + far
        near, far = w1 * (a0 + b2) + w2 * (a1 + b3), w3 * (a2 + b4) + w4 * (a3 + b5)
        lines[ONE, j] += near + far


@part
def _centre_along(
    lines: Block,
    n: Unsigned,
    centre: Unsigned,
    taps: Block,
    out: Block,
    row: Unsigned,
    column: Unsigned,
) -> None:
    w0, w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    # Taps of 0 that fill the last sweep may give -0: adding 0 makes it 0.
    zero = w0 - w0
    for j in range(np.uint64(lines.shape[1]) - centre - centre):
        x = centre + j
        a1, b1, a2, b2 = lines[n, x - ONE], lines[n, x + ONE], lines[n, x - TWO], lines[n, x + TWO]
        a3, b3 = lines[n, x - THREE], lines[n, x + THREE]
        a4, b4 = lines[n, x - FOUR], lines[n, x + FOUR]
        near, far = w1 * (a1 + b1) + w2 * (a2 + b2), w3 * (a3 + b3) + w4 * (a4 + b4)
        out[row, column + j] = (w0 * lines[n, x] + (near + far)) + zero


@part
def _sweep_along(
    lines: Block,
    n: Unsigned,
    before: Unsigned,
    after: Unsigned,
    taps: Block,
    k: Unsigned,
    out: Block,
    row: Unsigned,
    column: Unsigned,
) -> None:
    w1, w2, w3, w4 = taps[k], taps[k + ONE], taps[k + TWO], taps[k + THREE]
    for j in range(np.uint64(lines.shape[1]) - before - after):
        x, y = before + j, after + j
        a1, b1, a2, b2 = lines[n, x], lines[n, y], lines[n, x - ONE], lines[n, y + ONE]
        a3, b3 = lines[n, x - TWO], lines[n, y + TWO]
        a4, b4 = lines[n, x - THREE], lines[n, y + THREE]
        near, far = w1 * (a1 + b1) + w2 * (a2 + b2), w3 * (a3 + b3) + w4 * (a4 + b4)
        out[row, column + j] += near + far
