"""Exact sums of values and of their squares.

A float is a whole number, its mantissa, times a power of two. Whole numbers that have the same
power are added in a bin of their own, and bins into words of 32 bits, lowest first, each of which
has room for the carries of many. No bit is lost, so that no order matters.
"""

import numpy as np

from ...aliases import Block
from . import kernel

# Bins of a power that are kept side by side: one that grows twice in a row would wait for itself.
LANES = 4
# Values after which bins must be emptied, as their words would overflow.
SINGLES = 1 << 16
DOUBLES = 1 << 10
# Bits of the lower half of a mantissa of 53 bits, which is squared in parts.
HALF = 27
WORD = 32


@kernel
def tally(values: Block, counts: Block) -> None:
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
    """Add integers of at most 16 bits to `total`, of whose bits the one at `one` stands for 1.

    And their squares to `squares`, of whose bits that at twice `one` does.
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
    """Add the finite ones of float32 values, given as int32, to `total`, and their squares.

    The lowest bit of the words stands for the smallest positive value, or its square. `bins` are
    zeros, of axes (power, lane, 2), and so they are left, but for the last one: what is infinite or
    NaN goes there, and is not looked at.
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
            place = max(filled, 1) - 1
            for lane in range(LANES):
                _add(bins[filled, lane, 0], place, total)
                _add(bins[filled, lane, 1], 2 * place, squares)
            bins[filled] = 0
    _carry(total)
    _carry(squares)


@kernel
def add_doubles(bits: Block, bins: Block, total: Block, squares: Block) -> None:
    """As `add_singles`, of float64 values, given as int64; the last axis of `bins` is 4 long."""
    for start in range(0, bits.size, DOUBLES):
        part = bits[start : start + DOUBLES]
        # Those that are filled: it would take long to look at all of them.
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
            place = max(filled, 1) - 1
            for lane in range(LANES):
                _add(bins[filled, lane, 0], place, total)
                _add(bins[filled, lane, 1], 2 * (place + HALF), squares)
                _add(bins[filled, lane, 2], 2 * place + HALF + 1, squares)
                _add(bins[filled, lane, 3], 2 * place, squares)
            bins[filled] = 0
    _carry(total)
    _carry(squares)


@kernel
def _add(number: int | np.int64, place: int, words: Block) -> None:
    """Add a number, whose lowest bit is at `place`, to words."""
    if number == 0:
        return
    word, shift, ones = place // WORD, place % WORD, (1 << WORD) - 1
    low = (number & ones) << shift
    high = ((number >> WORD) << shift) + (low >> WORD)
    words[word] += low & ones
    words[word + 1] += high & ones
    words[word + 2] += high >> WORD


@kernel
def _carry(words: Block) -> None:
    """Bring all words but the last below 2**32, and none below 0, so that many can be added up."""
    for i in range(words.size - 1):
        words[i + 1] += words[i] >> WORD
        words[i] &= (1 << WORD) - 1
