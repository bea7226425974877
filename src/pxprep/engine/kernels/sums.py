"""Exact sums of values and of their squares.

A float is a whole number, its mantissa, times a power of two. Mantissas with the same power are
added up in one bin. Then each bin is added, at its place, to one long number: words of 32 bits, the
lowest first, in int64, which have room for many carries. No bit is lost, so no order matters.
"""

import numpy as np

from ...aliases import Block
from . import kernel, part

# A power has so many bins, used in turn: one bin that grows twice in a row would wait for itself.
LANES = 4
# After so many values (float32, float64) bins must be emptied, as their int64 might overflow.
SINGLES = 1 << 16
DOUBLES = 1 << 10
# Bits of the lower half of a mantissa of 53 bits, which is squared in parts.
HALF = 27
WORD = 32


@kernel
def count_kinds(values: Block, counts: Block) -> None:
    """Add to `counts` how many values are finite, how many of these negative, how many infinite."""
    for start in range(0, values.size, SINGLES):
        finite, negative, infinite = np.int32(0), np.int32(0), np.int32(0)
        part = values[start : start + SINGLES]
        for i in range(part.size):
            v = part[i]
            is_finite = v - v == 0
            finite = np.int32(finite + is_finite)
            negative = np.int32(negative + (is_finite & (v < 0)))
            infinite = np.int32(infinite + ((v == v) & ~is_finite))
        counts[0] += finite
        counts[1] += negative
        counts[2] += infinite


@kernel
def add_integers(values: Block, one: int, counts: Block, total: Block, squares: Block) -> None:
    """Add integers of at most 16 bits to `total`, and their squares to `squares`.

    The bit at place `one` of `total` stands for 1; in `squares`, the bit at twice that place.
    """
    sum_, sum_of_squares, negative = np.int64(0), np.int64(0), np.int64(0)
    for i in range(values.size):
        v = np.int64(values[i])
        sum_ += v
        sum_of_squares += v * v
        negative += v < 0
    counts[0] += values.size
    counts[1] += negative
    _add(sum_, one, total)
    _add(sum_of_squares, 2 * one, squares)
    _carry(total)
    _carry(squares)


@kernel
def add_singles(bits: Block, bins: Block, total: Block, squares: Block) -> None:
    """Add the finite float32 values, given as int32, to `total`, and their squares to `squares`.

    The lowest bit of `total` stands for the smallest positive value, that of `squares` for its
    square. `bins`, axes (power, lane, 2), are zeros before and after, but for the last power: there
    lies what infinities and NaNs have added, which nobody reads.
    """
    for start in range(0, bits.size, SINGLES):
        part = bits[start : start + SINGLES]
        for i in range(part.size):
            b = np.int64(part[i])
            power = np.uint64(b >> 23) & np.uint64(255)
            mantissa = (b & 0x7FFFFF) | (0x800000 if power > 0 else 0)
            sign = b >> 63
            turn = np.uint64(i) % np.uint64(LANES)
            bins[power, turn, 0] += (mantissa ^ sign) - sign
            bins[power, turn, 1] += mantissa * mantissa
        for filled in range(255):
            bit = max(filled, 1) - 1
            for lane in range(LANES):
                _add(bins[filled, lane, 0], bit, total)
                _add(bins[filled, lane, 1], 2 * bit, squares)
            bins[filled] = 0
    _carry(total)
    _carry(squares)


@kernel
def add_doubles(bits: Block, bins: Block, total: Block, squares: Block) -> None:
    """As `add_singles`, of float64 values, given as int64; the last axis of `bins` is 4 long."""
    for start in range(0, bits.size, DOUBLES):
        part = bits[start : start + DOUBLES]
        # The first and the last power that occur: to empty all 2,048 would take long.
        first = np.uint64(2047)
        last = np.uint64(0)
        for i in range(part.size):
            b = part[i]
            power = np.uint64(b >> 52) & np.uint64(2047)
            mantissa = (b & 0xFFFFFFFFFFFFF) | (0x10000000000000 if power > 0 else 0)
            sign = b >> 63
            first = min(first, power if mantissa != 0 else first)
            last = max(last, power if power < 2047 else last)
            turn = np.uint64(i) % np.uint64(LANES)
            high, low = mantissa >> HALF, mantissa & ((1 << HALF) - 1)
            bins[power, turn, 0] += (mantissa ^ sign) - sign
            bins[power, turn, 1] += high * high
            bins[power, turn, 2] += high * low
            bins[power, turn, 3] += low * low
        for filled in range(np.int64(first), np.int64(last) + 1):
            bit = max(filled, 1) - 1
            for lane in range(LANES):
                _add(bins[filled, lane, 0], bit, total)
                _add(bins[filled, lane, 1], 2 * (bit + HALF), squares)
                _add(bins[filled, lane, 2], 2 * bit + HALF + 1, squares)
                _add(bins[filled, lane, 3], 2 * bit, squares)
            bins[filled] = 0
    _carry(total)
    _carry(squares)


@part
def _add(number: int | np.int64, bit: int, words: Block) -> None:
    """Add a number, whose lowest bit is at place `bit`, to words."""
    if number == 0:
        return
    word, shift, ones = bit // WORD, bit % WORD, (1 << WORD) - 1
    low = (number & ones) << shift
    high = ((number >> WORD) << shift) + (low >> WORD)
    words[word] += low & ones
    words[word + 1] += high & ones
    words[word + 2] += high >> WORD


@part
def _carry(words: Block) -> None:
    """Bring all words but the last into 0 to 2**32 - 1, so that there is room to add many more."""
    for i in range(words.size - 1):
        words[i + 1] += words[i] >> WORD
        words[i] &= (1 << WORD) - 1
