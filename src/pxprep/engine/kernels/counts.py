"""Radix counting: how many pixels have which 16-bit digit of their sort key.

The sort key of a float is its bit pattern with the sign bit flipped (positive) or all bits flipped
(negative): as unsigned integers, the keys are in the order of the floats.
"""

import numpy as np

from ...aliases import Block
from . import kernel

DIGIT_BITS = 16
N_DIGITS = 1 << DIGIT_BITS
# One slot behind the digits counts the infinities.
INFINITE = N_DIGITS
N_SLOTS = N_DIGITS + 1
# Counts that are kept side by side where there are many values: one that grows twice in a row would
# wait for itself, and neighbours are mostly alike.
LANES = 4


@kernel
def count_integers(values: Block, offset: int, counts: Block) -> None:
    """Add to `counts` how often each integer of at most 16 bits occurs, at index value + offset."""
    n = values.size // LANES if values.size > 2 * LANES * counts.size else 0
    if n > 0:
        lanes = np.zeros((LANES, counts.size), counts.dtype)
        _count_side_by_side(values, offset, n, lanes[0], lanes[1], lanes[2], lanes[3])
        for lane in lanes:
            _add(lane, counts)
    for i in range(LANES * n, values.size):
        counts[_slot(values[i], offset)] += 1


@kernel
def _count_side_by_side(
    values: Block, offset: int, n: int, first: Block, second: Block, third: Block, fourth: Block
) -> None:
    for i in range(n):
        k = LANES * i
        first[_slot(values[k], offset)] += 1
        second[_slot(values[k + 1], offset)] += 1
        third[_slot(values[k + 2], offset)] += 1
        fourth[_slot(values[k + 3], offset)] += 1


@kernel
def _slot(value: float, offset: int) -> np.uint64:
    # Unsigned: it is not asked whether it counts from the end.
    return np.uint64(np.int64(value) + offset)


@kernel
def _add(values: Block, total: Block) -> None:
    for i in range(values.size):
        total[i] += values[i]


@kernel
def count_floats(
    bits: Block,
    sign: int,
    infinity: int,
    ones: int,
    shift: int,
    prefix: int,
    zeros: bool,
    counts: Block,
) -> None:
    """Add to `counts` the digits at `shift` of all keys whose higher bits equal `prefix`.

    `bits` are the floats' bit patterns; `sign`, `infinity`, `ones` the patterns of -0.0, inf and
    all bits set, of the same unsigned type, as are `shift` and `prefix`. NaNs never count,
    infinities go to their own slot, zeros of either sign count only if `zeros`.
    """
    digit = np.uint64(N_DIGITS - 1)
    for i in range(bits.size):
        pattern = bits[i]
        magnitude = pattern & (sign ^ ones)
        if magnitude >= infinity:
            if magnitude == infinity:
                counts[INFINITE] += 1
            continue
        if magnitude == 0:
            if not zeros:
                continue
            pattern = magnitude
        key = (pattern ^ sign) if pattern < sign else (pattern ^ ones)
        high = key >> shift
        if (high >> np.uint64(DIGIT_BITS)) == prefix:
            counts[high & digit] += 1
