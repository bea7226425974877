"""Separable Gaussian blur of a strip of rows, given with its surroundings."""

from typing import Any

import numpy as np

from . import kernel

TRUNCATE = 4.0
# Pairs of pixels that are added in one sweep: a row is then loaded and stored once for all of them.
SWEEP = 4


def blur_radius(sigma: float) -> int:
    """How many pixels away the outermost tap lies."""
    return int(TRUNCATE * sigma + 0.5)


def gaussian_taps(sigma: float, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Centre and one side of the normalised Gaussian that `scipy.ndimage.gaussian_filter` uses.

    Zeros fill the last sweep.
    """
    distance = np.arange(blur_radius(sigma) + 1)
    taps = np.exp(-0.5 / (sigma * sigma) * distance**2)
    filled = np.zeros(1 + -(-(distance.size - 1) // SWEEP) * SWEEP, dtype)
    filled[: distance.size] = taps / (taps[0] + 2 * taps[1:].sum())
    return filled


@kernel
def surround(plane: Any, top: int, left: int, reach: int, radius: int, padded: Any) -> None:
    """Fill `padded` with `plane` from row `top - reach` and column `left - reach` on.

    What lies outside the plane is its mirror image (d c b a | a b c d | d c b a); what lies more
    than `radius` pixels around the inner part of `padded` is zero. Infinities become NaN.
    """
    height, width = plane.shape
    rows, columns = padded.shape
    margin = reach - radius
    start = left - reach
    inside = min(max(margin, -start), columns - margin)
    end = max(inside, min(columns - margin, width - start))
    for i in range(rows):
        target = padded[i]
        if i < margin or i >= rows - margin:
            target[:] = 0
            continue
        source = plane[_mirrored(top - reach + i, height)]
        target[:margin] = 0
        _copy(source[start + inside : start + end], target[inside:end])
        for j in range(margin, inside):
            v = source[_mirrored(start + j, width)]
            target[j] = v if v - v == 0 else v - v
        for j in range(end, columns - margin):
            v = source[_mirrored(start + j, width)]
            target[j] = v if v - v == 0 else v - v
        target[columns - margin :] = 0


@kernel
def blur_strip(padded: Any, taps: Any, line: Any, out: Any) -> None:
    """Blur the inner part of `padded` into `out`: down the columns into `line`, then along that.

    `padded` is `taps.size - 1` pixels wider than `out` on every side, `line` as wide as `padded`.
    Rows are contiguous.
    """
    reach = taps.size - 1
    width = out.shape[1]
    for i in range(out.shape[0]):
        c = i + reach
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
            out[i],
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
                out[i],
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


@kernel
def any_missing(rows: Any) -> bool:
    """Whether any value is NaN."""
    for i in range(rows.shape[0]):
        row = rows[i]
        found = 0
        for j in range(row.size):
            found += row[j] != row[j]
        if found:
            return True
    return False


@kernel
def _copy(source: Any, target: Any) -> None:
    for j in range(source.size):
        target[j] = source[j]
        v = target[j]
        target[j] = v if v - v == 0 else v - v


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
