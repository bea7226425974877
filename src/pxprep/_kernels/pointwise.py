"""What happens to each value on its own, in contiguous rows.

Infinite values count as missing: `v - v` is zero where v is finite, and NaN elsewhere. Results are
floats of one type, into which values are rounded first.
"""

from typing import Any

from . import kernel


@kernel
def scale_rows(
    values: Any,
    top: int,
    left: int,
    divisor: Any,
    missing: Any,
    out: Any,
    row: int,
    column: int,
    height: int,
    width: int,
) -> None:
    """Divide `values`, of any real type, from row `top` and column `left` on; `out` likewise."""
    for i in range(height):
        _scale_row(
            values[top + i][left : left + width],
            divisor,
            missing,
            out[row + i][column : column + width],
        )


@kernel
def _scale_row(values: Any, divisor: Any, missing: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = values[i]
        v = out[i]
        out[i] = v / divisor if v - v == 0 else missing


@kernel
def divide_by(values: Any, divisor: Any, missing: Any) -> None:
    """Divide `values` by a number."""
    for i in range(values.size):
        v = values[i]
        values[i] = v / divisor if v - v == 0 else missing


@kernel
def add_rows(
    values: Any,
    top: int,
    left: int,
    divisor: Any,
    missing: Any,
    line: Any,
    total: Any,
    row: int,
    column: int,
    height: int,
    width: int,
) -> None:
    """Add to `total` the values, divided as `scale_rows` does; `line` has room for a row."""
    for i in range(height):
        part = line[:width]
        if divisor == 1:
            _place_row(values[top + i][left : left + width], part)
        else:
            _scale_row(values[top + i][left : left + width], divisor, missing, part)
        _add_row(part, missing, total[row + i][column : column + width])


@kernel
def _place_row(values: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = values[i]


@kernel
def _add_row(values: Any, missing: Any, total: Any) -> None:
    for i in range(values.size):
        v = values[i]
        total[i] += v if v - v == 0 else missing


@kernel
def keep_values(values: Any, sums: Any, missing: Any) -> None:
    """Make `values` missing where `sums` are NaN."""
    for i in range(values.size):
        v = values[i]
        values[i] = v if v - v == 0 and sums[i] == sums[i] else missing


@kernel
def divide_values(values: Any, divisors: Any, missing: Any) -> None:
    """Divide `values` by `divisors` where those are positive; they are missing elsewhere."""
    for i in range(values.size):
        v = values[i]
        values[i] = v / divisors[i] if v - v == 0 and divisors[i] > 0 else missing


@kernel
def subtract_value(values: Any, constant: Any, zero: Any, missing: Any) -> None:
    """Subtract a constant from `values`; what is not above it becomes zero."""
    for i in range(values.size):
        v = values[i]
        above = v - constant if v > constant else zero
        values[i] = above if v - v == 0 else missing


@kernel
def limit_values(values: Any, low: Any, high: Any, missing: Any) -> None:
    """Set `values` below `low` to it, and those above `high`."""
    for i in range(values.size):
        v = values[i]
        limited = low if v < low else v
        limited = high if limited > high else limited
        values[i] = limited if v - v == 0 else missing


@kernel
def rescale_values(values: Any, low: Any, span: Any, missing: Any) -> None:
    """Subtract `low` from `values`, and divide by `span`."""
    for i in range(values.size):
        v = values[i]
        values[i] = (v - low) / span if v - v == 0 else missing
