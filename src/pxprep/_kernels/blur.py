"""Separable Gaussian blur of a strip of rows, given with its surroundings."""

from functools import lru_cache
from typing import Any

import numpy as np

from . import kernel

TRUNCATE = 4.0
# Pairs of pixels that are added in one sweep: a row is then loaded and stored once for all of them.
SWEEP = 4


def blur_radius(sigma: float) -> int:
    """How many pixels away the outermost tap lies."""
    return int(TRUNCATE * sigma + 0.5)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Centre and one side of the normalised Gaussian that `scipy.ndimage.gaussian_filter` uses.

    Zeros fill the last sweep. The array is shared by all who ask.
    """
    distance = np.arange(blur_radius(sigma) + 1)
    taps = np.exp(-0.5 / (sigma * sigma) * distance**2)
    filled = np.zeros(1 + -(-(distance.size - 1) // SWEEP) * SWEEP, dtype)
    filled[: distance.size] = taps / (taps[0] + 2 * taps[1:].sum())
    return filled


@kernel
def place_rows(
    values: Any,
    top: int,
    left: int,
    divisor: Any,
    padded: Any,
    row: int,
    column: int,
    height: int,
    width: int,
) -> bool:
    """Copy `values`, divided, from row `top` and column `left` on to `row` and `column`.

    Infinities become NaN. Returns whether any value is NaN.
    """
    found = False
    for i in range(height):
        target = padded[row + i][column : column + width]
        found |= _place_row(values[top + i][left : left + width], divisor, target)
    return found


@kernel
def _place_row(source: Any, divisor: Any, target: Any) -> Any:
    found = np.int32(0)  # as wide as float32, so that both fill a vector
    for j in range(source.size):
        target[j] = source[j]
        v = target[j] / divisor
        v = v if v - v == 0 else v - v
        target[j] = v
        found += np.int32(v != v)
    return found > 0


@kernel
def mirror(padded: Any, margin: int, top: int, bottom: int, left: int, right: int) -> None:
    """Fill what surrounds the rows and columns of `padded` that were copied from an image.

    Where the image ends it is mirrored (d c b a | a b c d | d c b a); the outermost `margin` pixels
    are zero. An image that is smaller than that, all of which was copied, is mirrored repeatedly.
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
        if i < margin or i >= rows - margin:
            padded[i][:] = 0
        elif i < top or i >= bottom:
            padded[i][:] = padded[top + _mirrored(i - top, bottom - top)]


@kernel
def blur_strip(padded: Any, taps: Any, line: Any, out: Any, column: int) -> None:
    """Blur the inner part of `padded` into `out`: down the columns into `line`, then along that.

    `padded` surrounds the rows of `out`, from `column` on, by `taps.size - 1` pixels on every side;
    `line` is as wide. Rows are contiguous.
    """
    reach = taps.size - 1
    width = padded.shape[1] - 2 * reach
    for i in range(out.shape[0]):
        c = i + reach
        target = out[i][column : column + width]
        _first_sweep(
            line,
            padded[c],
            padded[c - 1],
            padded[c + 1],
            padded[c - 2],
            padded[c + 2],
            padded[c - 3],
            padded[c + 3],
            padded[c - 4],
            padded[c + 4],
            taps[0],
            taps[1],
            taps[2],
            taps[3],
            taps[4],
        )
        for k in range(1 + SWEEP, reach + 1, SWEEP):
            _sweep(
                line,
                padded[c - k],
                padded[c + k],
                padded[c - k - 1],
                padded[c + k + 1],
                padded[c - k - 2],
                padded[c + k + 2],
                padded[c - k - 3],
                padded[c + k + 3],
                taps[k],
                taps[k + 1],
                taps[k + 2],
                taps[k + 3],
            )
        _first_sweep(
            target,
            line[reach : reach + width],
            line[reach - 1 : reach - 1 + width],
            line[reach + 1 : reach + 1 + width],
            line[reach - 2 : reach - 2 + width],
            line[reach + 2 : reach + 2 + width],
            line[reach - 3 : reach - 3 + width],
            line[reach + 3 : reach + 3 + width],
            line[reach - 4 : reach - 4 + width],
            line[reach + 4 : reach + 4 + width],
            taps[0],
            taps[1],
            taps[2],
            taps[3],
            taps[4],
        )
        for k in range(1 + SWEEP, reach + 1, SWEEP):
            a, b = reach - k, reach + k
            _sweep(
                target,
                line[a : a + width],
                line[b : b + width],
                line[a - 1 : a - 1 + width],
                line[b + 1 : b + 1 + width],
                line[a - 2 : a - 2 + width],
                line[b + 2 : b + 2 + width],
                line[a - 3 : a - 3 + width],
                line[b + 3 : b + 3 + width],
                taps[k],
                taps[k + 1],
                taps[k + 2],
                taps[k + 3],
            )


@kernel
def _mirrored(index: int, size: int) -> int:
    """Position in 0..size-1 of the pixel that lies, mirrored, at `index`."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


# Pairs are added before they are weighted: half the multiplications. The compiler vectorises this
# where the rows are arguments of a function.
@kernel
def _first_sweep(
    total: Any,
    centre: Any,
    a1: Any,
    b1: Any,
    a2: Any,
    b2: Any,
    a3: Any,
    b3: Any,
    a4: Any,
    b4: Any,
    w0: Any,
    w1: Any,
    w2: Any,
    w3: Any,
    w4: Any,
) -> None:
    for j in range(total.size):
        total[j] = w0 * centre[j] + (
            (w1 * (a1[j] + b1[j]) + w2 * (a2[j] + b2[j]))
            + (w3 * (a3[j] + b3[j]) + w4 * (a4[j] + b4[j]))
        )


@kernel
def _sweep(
    total: Any,
    a1: Any,
    b1: Any,
    a2: Any,
    b2: Any,
    a3: Any,
    b3: Any,
    a4: Any,
    b4: Any,
    w1: Any,
    w2: Any,
    w3: Any,
    w4: Any,
) -> None:
    for j in range(total.size):
        total[j] += (w1 * (a1[j] + b1[j]) + w2 * (a2[j] + b2[j])) + (
            w3 * (a3[j] + b3[j]) + w4 * (a4[j] + b4[j])
        )
