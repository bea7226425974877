"""Which values lie between two bounds, and how many lie below."""

import numpy as np

from ...aliases import Block, Real
from . import kernel

# Values that are tallied at once, and those of which none is copied if none lies between the
# bounds: neighbours are mostly alike.
TALLIED = 256
RUN = 16


@kernel
def gather(values: Block, low: Real, high: Real, zeros: bool, tally: Block, inside: Block) -> int:
    """Copy the values between `low` and `high` to `inside`; returns how many they are.

    Adds to `tally` how many values are counted, negative, infinite, below `low`, equal to `low` and
    else equal to `high`: where values repeat themselves, as zeros do, most are equal to a bound.
    NaNs and infinities are not counted, zeros only if `zeros`. `inside` has room for one value more
    than there are.
    """
    n = 0
    for start in range(0, values.size, TALLIED):
        part = values[start : start + TALLIED]
        counted, above, others = _tally_usual(part, low, high, zeros)
        if low > 0 and others == 0:
            found = _gather_inside(part, low, high, zeros, inside[n:]) if above > 0 else 0
            tally[0] += counted
            tally[3] += counted - above
            tally[4] += above - found
            n += found
        elif _tally(part, low, high, zeros, tally):
            n += _gather_inside(part, low, high, zeros, inside[n:])
    return n


# Counts are as wide as float32, so that they are made as fast as values are compared: Numba makes
# sums of them wider if it is not told each time.
@kernel
def _tally_usual(
    values: Block, low: Real, high: Real, zeros: bool
) -> tuple[np.int32, np.int32, np.int32]:
    """How many values are counted, not below `low`, and negative or not below `high`.

    With the last there are none that are infinite, and each that is counted is as it seems.
    """
    floor = values.dtype.type(-1 if zeros else 0)
    counted, above, others = np.int32(0), np.int32(0), np.int32(0)
    for i in range(values.size):
        v = values[i]
        counted = np.int32(counted + (v > floor))
        above = np.int32(above + (v >= low))
        others = np.int32(others + ((v < 0) | (v >= high)))
    return counted, above, others


@kernel
def _tally(values: Block, low: Real, high: Real, zeros: bool, tally: Block) -> np.bool_:
    """Whether any value lies between the bounds."""
    counted, negative, infinite = np.int32(0), np.int32(0), np.int32(0)
    below, within = np.int32(0), np.int32(0)
    at_low, at_high = np.int32(0), np.int32(0)
    for i in range(values.size):
        v = values[i]
        finite = v - v == 0
        valid = finite & (zeros | (v != 0))
        counted = np.int32(counted + valid)
        negative = np.int32(negative + (valid & (v < 0)))
        infinite = np.int32(infinite + ((v == v) & ~finite))
        below = np.int32(below + (valid & (v < low)))
        within = np.int32(within + (valid & (v > low) & (v < high)))
        at_low = np.int32(at_low + (valid & (v == low)))
        at_high = np.int32(at_high + (valid & (v == high) & (v > low)))
    tally[0] += counted
    tally[1] += negative
    tally[2] += infinite
    tally[3] += below
    tally[4] += at_low
    tally[5] += at_high
    return within > 0


@kernel
def _gather_inside(values: Block, low: Real, high: Real, zeros: bool, inside: Block) -> int:
    n = 0
    for first in range(0, values.size, RUN):
        run = values[first : first + RUN]
        if _any_inside(run, low, high):
            n += _copy_inside(run, low, high, zeros, inside[n:])
    return n


@kernel
def _any_inside(values: Block, low: Real, high: Real) -> np.bool_:
    """Whether any value lies between the bounds, be it counted or not."""
    within = np.int32(0)
    for i in range(values.size):
        v = values[i]
        within = np.int32(within + ((v > low) & (v < high)))
    return within > 0


@kernel
def _copy_inside(values: Block, low: Real, high: Real, zeros: bool, inside: Block) -> int:
    # Every value is written and most are overwritten: that is faster than to ask first.
    n = 0
    for i in range(values.size):
        v = values[i]
        inside[n] = v
        n += (v > low) & (v < high) & (v - v == 0) & (zeros | (v != 0))
    return n
