"""Digits of the sort keys of values, and how often each occurs: see `kernels.counts`.

Functions on NumPy arrays.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..aliases import Block, DType
from .blocks import float_dtype
from .kernels.counts import DIGIT_BITS, LANES, RUN, count_floats, count_integers

# Of so few integers, lanes take longer to add up than they spare.
FEW = 1 << 13


def n_digits(dtype: DType) -> int:
    """How many digits a sort key has: one for small integers, else those of the float type."""
    if dtype.kind in "bui" and dtype.itemsize <= 2:
        return 1
    return float_dtype(dtype).itemsize // 2


def integer_offset(dtype: DType) -> int:
    """What is added to integers of at most 16 bits so that none is negative."""
    return 0 if dtype.kind in "bu" else -int(np.iinfo(dtype).min)


def slots_for(blocks: Iterable[Block]) -> int:
    """How many slots are enough to count the first digit in these blocks of integers.

    It is a multiple of RUN. Real images have no very large values.
    """
    slots = [int(block.max(initial=0)) + integer_offset(block.dtype) + 1 for block in blocks]
    return -(-max(slots) // RUN) * RUN


def count_digits(
    block: Block, prefixes: Block | None, level: int, zeros: bool, counts: Block
) -> None:
    """Add to `counts` how many finite pixels have which digit in their sort key.

    Parameters
    ----------
    block
        Axes (c, z, y, x).
    prefixes
        Shape (c, n): only keys are counted that begin with these digits. None at level 0, where
        there is no digit before.
    level
        Which 16-bit digit is counted: 0 is the highest.
    zeros
        Whether zeros count.
    counts
        uint32, shape (c, n, slot). There are N_SLOTS slots, the last one for infinities; for
        integers `slots_for` them are enough. Where two prefixes of a channel are the same, only the
        first is counted: see `repeat_counts`.
    """
    if n_digits(block.dtype) == 1:
        offset = integer_offset(block.dtype)
        for channel, slots in zip(block, counts[:, 0], strict=True):
            values = _flat(channel, block.dtype.newbyteorder("="))
            before = slots[offset]
            # The fewer slots there are, the faster it is.
            n_slots = int(values.max(initial=0)) + offset + 1
            _count_integers(values, offset, slots[:n_slots])
            if not zeros:
                slots[offset] = before
        return
    float_type = float_dtype(block.dtype)
    unsigned = np.dtype(f"u{float_type.itemsize}")
    sign, infinity, ones = bit_constants(float_type)
    shift = unsigned.type(DIGIT_BITS * (n_digits(block.dtype) - level - 1))
    for index, channel in enumerate(block):
        bits = _flat(channel, float_type).view(unsigned)
        wanted = _prefixes(prefixes, index)
        for position, prefix in enumerate(wanted):
            if wanted.index(prefix) == position:  # neighbouring ranks mostly share their digits
                slots = counts[index, position]
                count_floats(bits, sign, infinity, ones, shift, unsigned.type(prefix), zeros, slots)


def _count_integers(values: Block, offset: int, counts: Block) -> None:
    """Add to `counts` how often each integer occurs; where there are many, in several lanes."""
    if values.size > max(FEW, 2 * LANES * counts.size):
        lanes = np.zeros((LANES, counts.size), counts.dtype)
        count_integers(values, offset, lanes.reshape(-1), counts.size)
        counts += lanes.sum(axis=0, dtype=counts.dtype)
    else:
        count_integers(values, offset, counts, 0)


def repeat_counts(counts: Block, prefixes: Block | None) -> None:
    """Give equal prefixes of a channel the same counts, after the last `count_digits`."""
    for index in range(0 if prefixes is None else len(counts)):
        wanted = _prefixes(prefixes, index)
        for position, prefix in enumerate(wanted):
            counts[index, position] = counts[index, wanted.index(prefix)]


def bit_constants(dtype: DType) -> tuple[Any, Any, Any]:
    """The bit patterns of -0.0 and inf, and all bits set, for a float type."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign, infinity = np.array([-0.0, np.inf], dtype).view(unsigned)
    return sign, infinity, unsigned.type(np.iinfo(unsigned).max)


def _flat(channel: Block, dtype: DType) -> Block:
    return np.ascontiguousarray(channel, dtype).reshape(-1)


def _prefixes(prefixes: Block | None, index: int) -> list[int]:
    return [0] if prefixes is None else [int(prefix) for prefix in prefixes[index]]
