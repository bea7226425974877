"""Separable Gaussian blur of a tile, given with its surroundings."""

from functools import lru_cache

import numpy as np

from ...aliases import Block, DType
from . import kernel
from .pointwise import copy_row

TRUNCATE = 4.0
# Pairs of pixels that are added in one sweep: a row is then loaded and stored once for all of them.
SWEEP = 4


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
    is_missing = False
    for i in range(height):
        first = start + i * stride
        target = padded[row + i][column : column + width]
        is_missing |= _place_row(values[first : first + width], divisor, target)
    return is_missing


@kernel
def _place_row(source: Block, divisor: float, target: Block) -> bool:
    n_missing = np.int32(0)  # as wide as float32, in each sum, too: so both fill a vector alike
    for j in range(source.size):
        target[j] = source[j]
        v = target[j] / divisor
        v = v if v - v == 0 else v - v
        target[j] = v
        n_missing = np.int32(n_missing + (v != v))
    return n_missing > 0  # type: ignore[return-value]


@kernel
def mirror(padded: Block, margin: int, top: int, bottom: int, left: int, right: int) -> None:
    """Fill `padded` around the rows `top` to `bottom` and columns `left` to `right` of an image.

    The image is mirrored where it ends (d c b a | a b c d | d c b a); the outermost `margin` pixels
    are zero. If there is more to fill than the image has pixels, it is mirrored again and again.
    """
    rows, columns = padded.shape
    for i in range(top, bottom):
        line = padded[i]
        line[:margin] = 0
        for j in range(margin, left):
            line[j] = line[left + _mirrored(j - left, right - left)]
        for j in range(right, columns - margin):
            line[j] = line[left + _mirrored(j - left, right - left)]
        line[columns - margin :] = 0
    for i in range(rows):
        line = padded[i]
        if i < margin or i >= rows - margin:
            line[:] = 0
        elif i < top or i >= bottom:
            copy_row(padded[top + _mirrored(i - top, bottom - top)], line)


@kernel
def blur_strip(padded: Block, taps: Block, lines: Block, out: Block, column: int) -> None:
    """Blur the inner part of `padded` into `out`, from `column` on.

    Two rows at a time are blurred down the columns, into `lines`, and then along the rows. `padded`
    has `taps.size - 1` pixels more on every side than it gives to `out`, and at the bottom one more
    row, of any values. `lines` are two rows as wide as `padded`. All are contiguous.
    """
    reach = np.uint64(taps.size - 1)
    width = padded.shape[1] - 2 * (taps.size - 1)
    values, stride = padded.reshape(-1), np.uint64(padded.shape[1])
    for i in range(0, out.shape[0], 2):
        row = np.uint64(i) + reach
        _centre_down(values, row * stride, stride, taps[:5], lines[0], lines[1])
        for k in range(1 + SWEEP, taps.size, SWEEP):
            some, above, below = taps[k : k + 4], row - np.uint64(k), row + np.uint64(k)
            _sweep_down(values, above * stride, below * stride, stride, some, lines[0], lines[1])
        for n in range(min(2, out.shape[0] - i)):
            target = out[i + n][column : column + width]
            _centre_along(lines[n], reach, taps[:5], target)
            for k in range(1 + SWEEP, taps.size, SWEEP):
                some, before, after = taps[k : k + 4], reach - np.uint64(k), reach + np.uint64(k)
                _sweep_along(lines[n], before, after, some, target)


@kernel
def _mirrored(index: int, size: int) -> int:
    """Which pixel, 0 to size - 1, is seen at `index` in a line that is mirrored at both ends."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


# The two pixels at one distance are added before they are weighted: half the multiplications. Two
# rows are made at once, as they are made of mostly the same pixels. Indices are unsigned: of signed
# ones Numba would ask whether they count from the end, and could not vectorise the loop.
@kernel
def _centre_down(
    values: Block, centre: np.uint64, stride: np.uint64, taps: Block, first: Block, second: Block
) -> None:
    w0, w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    two = stride + stride
    three, four, five = two + stride, two + two, two + two + stride
    for j in range(np.uint64(first.size)):
        x = centre + j
        a4, a3, a2, a1 = values[x - four], values[x - three], values[x - two], values[x - stride]
        c, b1, b2 = values[x], values[x + stride], values[x + two]
        b3, b4, b5 = values[x + three], values[x + four], values[x + five]
        first[j] = w0 * c + ((w1 * (a1 + b1) + w2 * (a2 + b2)) + (w3 * (a3 + b3) + w4 * (a4 + b4)))
        second[j] = w0 * b1 + ((w1 * (c + b2) + w2 * (a1 + b3)) + (w3 * (a2 + b4) + w4 * (a3 + b5)))


@kernel
def _sweep_down(
    values: Block,
    before: np.uint64,
    after: np.uint64,
    stride: np.uint64,
    taps: Block,
    first: Block,
    second: Block,
) -> None:
    w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3]
    two = stride + stride
    three, four = two + stride, two + two
    for j in range(np.uint64(first.size)):
        x, y = before + j, after + j
        a4, a3, a2, a1 = values[x - three], values[x - two], values[x - stride], values[x]
        a0, b1, b2 = values[x + stride], values[y], values[y + stride]
        b3, b4, b5 = values[y + two], values[y + three], values[y + four]
        first[j] += (w1 * (a1 + b1) + w2 * (a2 + b2)) + (w3 * (a3 + b3) + w4 * (a4 + b4))
        second[j] += (w1 * (a0 + b2) + w2 * (a1 + b3)) + (w3 * (a2 + b4) + w4 * (a3 + b5))


@kernel
def _centre_along(line: Block, centre: np.uint64, taps: Block, out: Block) -> None:
    w0, w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    # Taps of 0 that fill the last sweep may give -0: adding 0 makes it 0.
    zero = w0 - w0
    for j in range(np.uint64(out.size)):
        x = centre + j
        near = w1 * (line[x - one] + line[x + one]) + w2 * (line[x - two] + line[x + two])
        far = w3 * (line[x - three] + line[x + three]) + w4 * (line[x - four] + line[x + four])
        out[j] = (w0 * line[x] + (near + far)) + zero


@kernel
def _sweep_along(line: Block, before: np.uint64, after: np.uint64, taps: Block, out: Block) -> None:
    w1, w2, w3, w4 = taps[0], taps[1], taps[2], taps[3]
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for j in range(np.uint64(out.size)):
        x, y = before + j, after + j
        out[j] += (w1 * (line[x] + line[y]) + w2 * (line[x - one] + line[y + one])) + (
            w3 * (line[x - two] + line[y + two]) + w4 * (line[x - three] + line[y + three])
        )
