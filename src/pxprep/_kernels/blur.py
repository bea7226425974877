"""Separable Gaussian blur of a tile of one plane, reflected at the plane's edges."""

from typing import Any

import numpy as np

from . import kernel

TRUNCATE = 4.0


def gaussian_taps(sigma: float, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Centre and one side of the normalised Gaussian that `scipy.ndimage.gaussian_filter` uses."""
    distance = np.arange(blur_radius(sigma) + 1)
    if distance.size == 1:
        return np.ones(1, dtype)
    taps = np.exp(-0.5 / (sigma * sigma) * distance**2)
    normalised: np.ndarray[Any, Any] = (taps / (taps[0] + 2 * taps[1:].sum())).astype(dtype)
    return normalised


def blur_radius(sigma: float) -> int:
    """How many pixels away the outermost tap lies."""
    return int(TRUNCATE * sigma + 0.5)


@kernel
def reflect(index: int, size: int) -> int:
    """Position in 0..size-1 that the mirror images (d c b a | a b c d | d c b a) repeat."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@kernel
def add_pair(total: Any, w: Any, a: Any, b: Any) -> None:
    """Add w (a + b) to `total`."""
    for j in range(total.size):
        total[j] += w * (a[j] + b[j])


@kernel
def add_four_pairs(
    total: Any, w: Any, a0: Any, b0: Any, a1: Any, b1: Any, a2: Any, b2: Any, a3: Any, b3: Any
) -> None:
    """Add the sum of w[k] (a_k + b_k) to `total`, which is loaded and stored once."""
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for j in range(total.size):
        total[j] += (w0 * (a0[j] + b0[j]) + w1 * (a1[j] + b1[j])) + (
            w2 * (a2[j] + b2[j]) + w3 * (a3[j] + b3[j])
        )


@kernel
def blur_tile(plane: Any, taps: Any, top: int, left: int, out: Any) -> None:
    """Fill `out` with the blurred pixels of `plane` from row `top` and column `left` on.

    Each row is blurred down the columns, given its mirror images at the sides, and blurred along
    the row. Every row of `plane` and of `out` must be contiguous.
    """
    height, width = plane.shape
    n_rows, n_columns = out.shape
    radius = taps.size - 1
    # The columns that the row pass reads: its reach, and what is mirrored into that at the sides.
    first, last = max(0, left - radius), min(width, left + n_columns + radius)
    if left < radius:
        last = max(last, min(width, radius - left))
    if left + n_columns + radius > width:
        first = min(first, max(0, 2 * width - left - n_columns - radius))
    column = np.empty(last - first, plane.dtype)
    line = np.empty(n_columns + 2 * radius, plane.dtype)
    for i in range(n_rows):
        row = top + i
        centre = plane[row, first:last]
        for j in range(column.size):
            column[j] = taps[0] * centre[j]
        k = 1
        while k + 3 <= radius:
            add_four_pairs(
                column,
                taps[k : k + 4],
                plane[reflect(row - k, height), first:last],
                plane[reflect(row + k, height), first:last],
                plane[reflect(row - k - 1, height), first:last],
                plane[reflect(row + k + 1, height), first:last],
                plane[reflect(row - k - 2, height), first:last],
                plane[reflect(row + k + 2, height), first:last],
                plane[reflect(row - k - 3, height), first:last],
                plane[reflect(row + k + 3, height), first:last],
            )
            k += 4
        while k <= radius:
            above = plane[reflect(row - k, height), first:last]
            below = plane[reflect(row + k, height), first:last]
            add_pair(column, taps[k], above, below)
            k += 1

        for j in range(line.size):
            source = left + j - radius
            if source < 0 or source >= width:
                source = reflect(source, width)
            line[j] = column[source - first]
        target = out[i]
        for j in range(n_columns):
            target[j] = taps[0] * line[j + radius]
        k = 1
        while k + 3 <= radius:
            low, high = radius - k, radius + k
            add_four_pairs(
                target,
                taps[k : k + 4],
                line[low : low + n_columns],
                line[high : high + n_columns],
                line[low - 1 : low - 1 + n_columns],
                line[high + 1 : high + 1 + n_columns],
                line[low - 2 : low - 2 + n_columns],
                line[high + 2 : high + 2 + n_columns],
                line[low - 3 : low - 3 + n_columns],
                line[high + 3 : high + 3 + n_columns],
            )
            k += 4
        while k <= radius:
            low, high = radius - k, radius + k
            add_pair(target, taps[k], line[low : low + n_columns], line[high : high + n_columns])
            k += 1
