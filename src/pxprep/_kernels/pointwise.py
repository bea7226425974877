"""What happens to each value on its own, in rows of contiguous floats of one type.

Infinite values count as missing: `v - v` is zero where v is finite, and NaN elsewhere.
"""

from typing import Any

from . import kernel


@kernel
def add_values(total: Any, values: Any, missing: Any) -> None:
    """Add `values` to `total`."""
    for i in range(values.size):
        v = values[i]
        total[i] += v if v - v == 0 else missing


@kernel
def keep_values(values: Any, sums: Any, limit: Any, missing: Any, out: Any) -> None:
    """`values` where `sums` exceed `limit`, `missing` elsewhere."""
    for i in range(values.size):
        v = values[i]
        out[i] = v if v - v == 0 and sums[i] > limit else missing


@kernel
def divide_values(values: Any, divisors: Any, missing: Any, out: Any) -> None:
    """`values` divided by `divisors` where those are positive, `missing` elsewhere."""
    for i in range(values.size):
        v = values[i]
        out[i] = v / divisors[i] if v - v == 0 and divisors[i] > 0 else missing


@kernel
def scale_values(values: Any, divisor: Any, missing: Any, out: Any) -> None:
    """`values`, of any real type, divided by one number."""
    for i in range(values.size):
        out[i] = values[i]
        v = out[i]
        out[i] = v / divisor if v - v == 0 else missing
