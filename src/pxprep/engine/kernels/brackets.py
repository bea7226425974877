"""Which values lie between two bounds, and how many lie below or equal a bound."""

import numpy as np

from ...aliases import Block, Real
from . import kernel

# So many values are tallied at once, and copied only if some of them lie between the bounds.
TALLIED = 256


@kernel
def gather(values: Block, low: Real, high: Real, zeros: bool, tally: Block, inside: Block) -> int:
    """Copy the values between `low` and `high` to `inside`; returns how many they are.

    Adds to `tally` six numbers: how many values are counted, negative, infinite, below `low`, equal
    to `low`, and equal to `high` if that is another bound. Where a value occurs very often, as 0
    may, it is mostly a bound, so that it is counted and not copied. NaNs and infinities are not
    counted, zeros only if `zeros`. `inside` has room for one more value than `values` has.
    """
    n = 0
    for start in range(0, values.size, TALLIED):
        part = values[start : start + TALLIED]
        counted, above, others = _tally_usual(part, low, high, zeros)
        if low > 0 and others == 0:
            n_inside = _copy_above(part, low, inside[n:]) if above > 0 else 0
            tally[0] += counted
            tally[3] += counted - above
            tally[4] += above - n_inside
            n += n_inside
        elif _tally(part, low, high, zeros, tally):
            n += _copy_inside(part, low, high, zeros, inside[n:])
    return n


# Counts are as wide as float32, so that counting is as fast as comparing. Numba would make each
# sum of them wider: so `np.int32` is said each time.
@kernel
def _tally_usual(
    values: Block, low: Real, high: Real, zeros: bool
) -> tuple[np.int32, np.int32, np.int32]:
    """Counts: values above -1 (or above 0, without zeros), values not below `low`, unusual ones.

    Unusual are negative values and those not below `high`, infinities among them. The other two
    numbers mean what they should only if nothing is unusual; else `_tally` is to count.
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
    """Add to `tally` as `gather` says; returns whether any value lies between the bounds."""
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


# Every value is written, and overwritten by the next if it does not count: asking is slower. An
# index is unsigned, or else Numba would ask whether it counts from the end.
@kernel
def _copy_above(values: Block, low: Real, inside: Block) -> int:
    """Copy the values above `low`; returns how many they are."""
    n = np.uint64(0)
    for i in range(np.uint64(values.size)):
        v = values[i]
        inside[n] = v
        n += np.uint64(v > low)
    return np.int64(n)  # type: ignore[return-value]


@kernel
def _copy_inside(values: Block, low: Real, high: Real, zeros: bool, inside: Block) -> int:
    """Copy the values between the bounds that are counted; returns how many they are."""
    n = np.uint64(0)
    for i in range(np.uint64(values.size)):
        v = values[i]
        inside[n] = v
        n += np.uint64((v > low) & (v < high) & (zeros | (v != 0)))
    return np.int64(n)  # type: ignore[return-value]
