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
INFINITE_SLOT = N_DIGITS
N_SLOTS = N_DIGITS + 1
# The counts of so many digits are added up, to find among which of them a rank falls.
RUN = 256
# Where there are many values, they are counted in turn in so many lanes, which are added up in the
# end. Neighbours are mostly alike, and one count that grows twice in a row waits for itself.
LANES = 4


@kernel
def count_integers(values: Block, offset: int, counts: Block, lane: int) -> None:
    """Add to `counts` how often each integer of at most 16 bits occurs, at index value + offset.

    Each of LANES lanes begins `lane` counts after the one before; if that is 0, they are one.
    """
    # Unsigned, or else Numba would ask whether an index counts from the end.
    one, n = np.uint64(lane), np.uint64(values.size)
    for i in range(n):
        slot = np.uint64(np.int64(values[i]) + offset)
        counts[slot + one * (i % np.uint64(LANES))] += 1


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
    """Count the digit `shift` bits from the right in the keys that have `prefix` to its left.

    `bits` are the floats' bit patterns; `sign`, `infinity` and `ones` are the patterns of -0.0, of
    infinity, and with all bits set. These, `shift` and `prefix` are of one unsigned type. NaNs are
    not counted, infinities are in a slot of their own, and zeros of either sign only if `zeros`.
    """
    digit = np.uint64(N_DIGITS - 1)
    for i in range(bits.size):
        pattern = bits[i]
        magnitude = pattern & (sign ^ ones)
        if magnitude >= infinity:
            if magnitude == infinity:
                counts[INFINITE_SLOT] += 1
            continue
        if magnitude == 0:
            if not zeros:
                continue
            pattern = magnitude
        key = (pattern ^ sign) if pattern < sign else (pattern ^ ones)
        high = key >> shift
        if (high >> np.uint64(DIGIT_BITS)) == prefix:
            counts[high & digit] += 1
