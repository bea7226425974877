"""Which values lie between two bounds, and how many lie below or equal a bound.

Bounds are narrowed as more is known of where a quantile lies.
"""

import numpy as np

from ...aliases import Block, Real
from . import Unsigned, kernel, part

# So many values are tallied at once, and copied only if some of them lie between the bounds.
TALLIED = np.uint64(256)
# Values are let go if SPARE times as many as are enough are held.
SPARE = 1.5
# Of a sequence of numbers without order (Knuth's MMIX), of which the upper half is taken.
MULTIPLIER, INCREMENT = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
HALF = np.uint64(33)


@kernel
def gather_rows(
    lines: Block,
    starts: Block,
    size: int,
    zeros: bool,
    tally: Block,
    bounds: Block,
    inside: Block,
    n_inside: Block,
) -> None:
    """Gather what lies between two bounds, for each of several quantiles of channels.

    Each row is a quantile: its values are the `size` ones in `lines` that begin at its start. Those
    between its bounds are appended to its row of `inside`, of which the first `n_inside` are held,
    and which has room for `size` values more and one.

    To `tally` are added six numbers: how many values are counted, negative, infinite, below the
    lower bound, equal to it, and equal to the upper one if that is another. Where a value occurs
    very often, as 0 may, it is mostly a bound, so that it is counted and not copied. NaNs and
    infinities are not counted, zeros only if `zeros`.
    """
    for row in range(np.uint64(len(tally))):
        low, high, n = bounds[row, 0], bounds[row, 1], np.uint64(n_inside[row])
        start = np.uint64(starts[row])
        end = start + np.uint64(size)
        while start < end:
            stop = start + TALLIED if end - start > TALLIED else end
            counted, not_below, others = _tally_usual(lines, start, stop, low, high, zeros)
            if low > 0 and others == 0:
                begin = n
                if not_below > 0:
                    n = _copy_above(lines, start, stop, low, inside, row, n)
                tally[row, 0] += counted
                tally[row, 3] += counted - not_below
                tally[row, 4] += not_below - np.int64(n - begin)
            elif _tally(lines, start, stop, low, high, zeros, tally, row):
                n = _copy_inside(lines, start, stop, low, high, zeros, inside, row, n)
            start = stop
        n_inside[row] = n


@kernel
def trim_rows(enough: Block, tally: Block, bounds: Block, inside: Block, n_inside: Block) -> None:
    """Let go of values that cannot be at a wanted rank, in rows that hold many of those.

    A value cannot be at one if `enough[row, 0]` values lie above it, or `enough[row, 1]` below it:
    those that other parts of the image hold can only add to these numbers.
    """
    for row in range(len(tally)):
        n = n_inside[row]
        counted, below, at_low, at_high = tally[row, 0], tally[row, 3], tally[row, 4], tally[row, 5]
        above = counted - below - at_low - n - at_high
        # The positions, among those inside, of the values that become the new bounds: what may be
        # wanted lies between them or is one of them.
        first = max(n - (enough[row, 0] - above - at_high), -1)
        last = min(enough[row, 1] - below - at_low - 1, n)
        if n > SPARE * (last - first):
            held, low, high = inside[row, :n], bounds[row, 0], bounds[row, 1]
            none = np.uint64(0)
            new_low = _at(held, none, n, first, low, high)
            new_high = _at(held, none, n, last, low, high)
            n_inside[row] = _narrow(held, n, tally[row], bounds[row], new_low, new_high)


@kernel
def join_rows(
    others: Block,
    ends: Block,
    other_tally: Block,
    other_bounds: Block,
    tally: Block,
    bounds: Block,
    inside: Block,
    n_inside: Block,
) -> None:
    """Add what was gathered elsewhere, which stays as it is: `others` of the first row come first.

    `ends` says where those of each row end. The other arguments are as in `gather_rows`.
    """
    begin = 0
    for row in range(len(tally)):
        n, n_added = n_inside[row], ends[row] - begin
        held, added = inside[row], inside[row, n : n + n_added]
        for i in range(n_added):
            added[i] = others[begin + i]
        begin = ends[row]
        # Each may have been narrowed to bounds of its own: what lies outside those is not wanted.
        low = max(bounds[row, 0], other_bounds[row, 0])
        high = min(bounds[row, 1], other_bounds[row, 1])
        added_tally = other_tally[row].copy()
        n_added = _narrow(added, n_added, added_tally, other_bounds[row].copy(), low, high)
        n = _narrow(held, n, tally[row], bounds[row], low, high)
        for i in range(n_added):
            held[n + i] = added[i]
        for i in range(added_tally.size):
            tally[row, i] += added_tally[i]
        n_inside[row] = n + n_added


@kernel
def find_rows(
    inside: Block, ends: Block, bounds: Block, tally: Block, percents: Block, found: Block
) -> bool:
    """Find the quantile of each row among what was gathered; NaN where nothing is counted.

    Arithmetic is that of `numpy.quantile`. `inside` is reordered. Returns False if a wanted value
    lies outside the bounds.
    """
    stop = 0
    for row in range(len(tally)):
        begin, stop, low, high = np.uint64(stop), ends[row], bounds[row, 0], bounds[row, 1]
        size = stop - np.int64(begin)
        counted, below, at_low, at_high = tally[row, 0], tally[row, 3], tally[row, 4], tally[row, 5]
        found[row] = np.nan
        if counted == 0:
            continue
        position = (counted - 1) * (percents[row] / 100)
        rank = np.int64(position)
        # In the order of ranks come values below the lower bound, those equal to it, those inside,
        # those equal to the upper bound, and those above it.
        first = rank - below - at_low
        second = first + 1 if rank + 1 < counted else first
        if first < -at_low or second >= size + at_high:
            return False
        at_first = at_second = _at(inside, begin, size, first, low, high)
        if second > first:
            at_second = low if second < 0 else high
            for i in range(stop - size + second if 0 <= second < size else stop, stop):
                # None of those behind the first is smaller than it.
                v = inside[np.uint64(i)]
                at_second = v if v < at_second else at_second
        # Zeros of either sign are in any order: the sum has none.
        lower, upper = np.float64(at_first) + 0.0, np.float64(at_second) + 0.0
        weight, width = position - rank, upper - lower
        # From the nearer end.
        found[row] = upper - width * (1 - weight) if weight >= 0.5 else lower + width * weight
    return True


@part
def _narrow(inside: Block, n: int, tally: Block, bounds: Block, low: Real, high: Real) -> int:
    """Narrow bounds to `low` and `high`: values outside are only tallied; returns how many stay."""
    if low == bounds[0] and high == bounds[1]:
        return n
    kept, below, at_low, at_high = 0, 0, 0, 0
    for i in range(n):
        v = inside[i]
        below += v < low
        at_low += v == low
        at_high += v == high
        inside[kept] = v
        kept += (v > low) & (v < high)
    if low > bounds[0]:
        tally[3] += tally[4] + below
        tally[4] = tally[5] if low == bounds[1] else at_low
    if high < bounds[1]:
        tally[5] = at_high
    if low == high:
        tally[5] = 0
    bounds[0], bounds[1] = low, high
    return kept


@part
def _at(values: Block, begin: Unsigned, n: int, position: int, low: Real, high: Real) -> Real:
    """The value that sorting the `n` values from `begin` on would put at a position.

    It is `low` before the first, `high` at the end. Values are reordered until it is there: all
    before it are not larger, all behind it not smaller (quickselect). Pivots are chosen without
    regard to the values, so that no order is slow.
    """
    if position < 0:
        return low
    if position >= n:
        return high
    wanted, left, stop = begin + np.uint64(position), begin, begin + np.uint64(n)
    chosen = np.uint64(1)
    while stop - left > 1:
        chosen = chosen * MULTIPLIER + INCREMENT
        pivot = values[left + (chosen >> HALF) % (stop - left)]
        # Every value is moved, as in `_copy_above`.
        equal = left
        for i in range(left, stop):
            v = values[i]
            values[i] = values[equal]
            values[equal] = v
            equal += np.uint64(v < pivot)
        if wanted < equal:
            stop = equal
            continue
        above = equal
        for i in range(equal, stop):
            v = values[i]
            values[i] = values[above]
            values[above] = v
            above += np.uint64(v <= pivot)
        if wanted < above:
            break
        left = above
    value: Real = values[wanted]
    return value


# Counts are as wide as float32, so that counting is as fast as comparing. Numba would make each
# sum of them wider: so `np.int32` is said each time.
@part
def _tally_usual(
    values: Block, start: Unsigned, stop: Unsigned, low: Real, high: Real, zeros: bool
) -> tuple[np.int32, np.int32, np.int32]:
    """Counts: values above -1 (or above 0, without zeros), values not below `low`, unusual ones.

    Unusual are negative values and those not below `high`, infinities among them. The other two
    numbers mean what they should only if nothing is unusual; else `_tally` is to count.
    """
    floor = values.dtype.type(-1 if zeros else 0)
    counted, not_below, others = np.int32(0), np.int32(0), np.int32(0)
    for i in range(start, stop):
        v = values[i]
        counted = np.int32(counted + (v > floor))
        not_below = np.int32(not_below + (v >= low))
        others = np.int32(others + ((v < 0) | (v >= high)))
    return counted, not_below, others


@part
def _tally(
    values: Block,
    start: Unsigned,
    stop: Unsigned,
    low: Real,
    high: Real,
    zeros: bool,
    tally: Block,
    row: Unsigned,
) -> np.bool_:
    """Add to a row of `tally` as `gather_rows` says; returns whether any lies between them."""
    counted, negative, infinite = np.int32(0), np.int32(0), np.int32(0)
    below, within = np.int32(0), np.int32(0)
    at_low, at_high = np.int32(0), np.int32(0)
    for i in range(start, stop):
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
    tally[row, 0] += counted
    tally[row, 1] += negative
    tally[row, 2] += infinite
    tally[row, 3] += below
    tally[row, 4] += at_low
    tally[row, 5] += at_high
    return within > 0


# Every value is written, and overwritten by the next if it does not count: asking is slower.
@part
def _copy_above(
    values: Block,
    start: Unsigned,
    stop: Unsigned,
    low: Real,
    inside: Block,
    row: Unsigned,
    n: Unsigned,
) -> Unsigned:
    """Copy the values above `low` to a row, from place `n` on; returns where they end."""
    for i in range(start, stop):
        v = values[i]
        inside[row, n] = v
        n += np.uint64(v > low)
    return n


@part
def _copy_inside(
    values: Block,
    start: Unsigned,
    stop: Unsigned,
    low: Real,
    high: Real,
    zeros: bool,
    inside: Block,
    row: Unsigned,
    n: Unsigned,
) -> Unsigned:
    """As `_copy_above`, of the values between the bounds that are counted."""
    for i in range(start, stop):
        v = values[i]
        inside[row, n] = v
        n += np.uint64((v > low) & (v < high) & (zeros | (v != 0)))
    return n
