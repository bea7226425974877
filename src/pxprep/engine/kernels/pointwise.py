"""What happens to each value on its own, in contiguous rows.

Infinite values count as missing: `v - v` is zero where v is finite, and NaN elsewhere. Results are
floats of one type, into which values are rounded first.
"""

import numpy as np

from ...aliases import Block
from . import kernel, part


@kernel
def scale_rows(
    values: Block,
    start: int,
    stride: int,
    divisor: float,
    missing: float,
    out: Block,
    row: int,
    column: int,
    height: int,
    width: int,
) -> None:
    """Divide rows of `values`, of any real type, into `out` from `row` and `column` on.

    The first row begins at index `start`, and each other one `stride` after the one before.
    """
    real, left = out.dtype.type, np.uint64(column)
    for i in range(height):
        first, line = np.uint64(start + i * stride), np.uint64(row + i)
        for j in range(np.uint64(width)):
            v = real(values[first + j])
            out[line, left + j] = v / divisor if v - v == 0 else missing


@kernel
def sum_channels(
    values: Block,
    start: int,
    strides: tuple[int, int, int],
    shape: tuple[int, int, int, int],
    divisors: Block,
    missing: float,
    total: Block,
    row: int,
    column: int,
) -> None:
    """Add channels of `values`, divided as `scale_rows` does, to `total` from `row`, `column` on.

    The first pixel is at index `start`; `strides` say how far the next channel, plane and row are.
    `shape` is how many channels, planes, rows and columns there are.
    """
    channels, planes, height, width = shape
    real, left = total.dtype.type, np.uint64(column)
    for plane in range(np.uint64(planes)):
        for i in range(height):
            line = np.uint64(row + i)
            for channel in range(channels):
                divisor = divisors[channel]
                first = start + channel * strides[0] + plane * strides[1] + i * strides[2]
                for j in range(np.uint64(width)):
                    v = real(values[np.uint64(first) + j]) / divisor
                    total[plane, line, left + j] += v if v - v == 0 else missing


@part
def copy_row(values: Block, out: Block) -> None:
    """Copy `values` to `out`, of the same size.

    Numba's own assignment takes three seconds to compile: there is an error message in it.
    """
    for i in range(values.size):
        out[i] = values[i]


@kernel
def keep_values(values: Block, sums: Block, missing: float) -> None:
    """Make `values` missing where `sums` are NaN."""
    for i in range(values.size):
        v = values[i]
        values[i] = v if v - v == 0 and sums[i] == sums[i] else missing


@kernel
def divide_values(values: Block, divisors: Block, missing: float) -> None:
    """Divide `values` by `divisors` where those are positive; they are missing elsewhere."""
    for i in range(values.size):
        v = values[i]
        values[i] = v / divisors[i] if v - v == 0 and divisors[i] > 0 else missing


@kernel
def subtract_value(values: Block, constant: float, zero: float, missing: float) -> None:
    """Subtract a constant from `values`; what is not above it becomes zero."""
    for i in range(values.size):
        v = values[i]
        above = v - constant if v > constant else zero
        values[i] = above if v - v == 0 else missing


@kernel
def subtract_values(
    values: Block, others: Block, factor: float, zero: float, missing: float
) -> None:
    """Subtract `others` times a factor from `values`; what is not above zero becomes zero."""
    for i in range(values.size):
        v, other = values[i], others[i]
        above = v - other * factor
        values[i] = (above if above > 0 else zero) if v - v + (other - other) == 0 else missing


@kernel
def limit_values(values: Block, low: float, high: float, missing: float) -> None:
    """Set `values` below `low` to `low`, and those above `high` to `high`."""
    for i in range(values.size):
        v = values[i]
        limited = low if v < low else v
        limited = high if limited > high else limited
        values[i] = limited if v - v == 0 else missing


@kernel
def replace_below(values: Block, limit: float, instead: float, missing: float) -> None:
    """Put `instead` in place of the `values` that are below `limit`."""
    for i in range(values.size):
        v = values[i]
        replaced = instead if v < limit else v
        values[i] = replaced if v - v == 0 else missing


@kernel
def rescale_values(values: Block, low: float, span: float, missing: float) -> None:
    """Subtract `low` from `values`, and divide by `span`."""
    for i in range(values.size):
        v = values[i]
        values[i] = (v - low) / span if v - v == 0 else missing
