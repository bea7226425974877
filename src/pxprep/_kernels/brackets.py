"""Which values lie between two bounds, and how many lie below."""

from typing import Any

import numpy as np

from . import kernel

# Values that are tallied at once, and those of which none is copied if none lies between the
# bounds: neighbours are mostly alike.
TALLIED = 256
RUN = 32


@kernel
def gather(values: Any, low: Any, high: Any, zeros: bool, tally: Any, inside: Any) -> int:
    """Copy the values between `low` and `high` to `inside`; returns how many they are.

    Adds to `tally` how many values are counted, negative, infinite, below `low`, equal to `low` and
    else equal to `high`: where values repeat themselves, as zeros do, most are equal to a bound.
    NaNs and infinities are not counted, zeros only if `zeros`. `inside` has room for one value more
    than there are.
    """
    n = 0
    for start in range(0, values.size, TALLIED):
        part = values[start : start + TALLIED]
        if _tally(part, low, high, zeros, tally):
            for first in range(0, part.size, RUN):
                run = part[first : first + RUN]
                if _any_inside(run, low, high):
                    n += _copy_inside(run, low, high, zeros, inside[n:])
    return n


@kernel
def _tally(values: Any, low: Any, high: Any, zeros: bool, tally: Any) -> Any:
    """Whether any value lies between the bounds."""
    # As wide as float32, so that they are counted as fast as they are compared.
    counted, negative, infinite = np.int32(0), np.int32(0), np.int32(0)
    below, within = np.int32(0), np.int32(0)
    at_low, at_high = np.int32(0), np.int32(0)
    for i in range(values.size):
        v = values[i]
        finite = v - v == 0
        valid = finite & (zeros | (v != 0))
        counted += np.int32(valid)
        negative += np.int32(valid & (v < 0))
        infinite += np.int32((v == v) & ~finite)
        below += np.int32(valid & (v < low))
        within += np.int32(valid & (v > low) & (v < high))
        at_low += np.int32(valid & (v == low))
        at_high += np.int32(valid & (v == high) & (v > low))
    tally[0] += counted
    tally[1] += negative
    tally[2] += infinite
    tally[3] += below
    tally[4] += at_low
    tally[5] += at_high
    return within > 0


@kernel
def _any_inside(values: Any, low: Any, high: Any) -> Any:
    """Whether any value lies between the bounds, be it counted or not."""
    within = np.int32(0)
    for i in range(values.size):
        v = values[i]
        within += np.int32((v > low) & (v < high))
    return within > 0


@kernel
def _copy_inside(values: Any, low: Any, high: Any, zeros: bool, inside: Any) -> int:
    # Every value is written and most are overwritten: that is faster than to ask first.
    n = 0
    for i in range(values.size):
        v = values[i]
        inside[n] = v
        n += (v > low) & (v < high) & (v - v == 0) & (zeros | (v != 0))
    return n
