"""Exact sums of the values of each channel and of their squares, and what follows from them.

A channel has one row of int64: how many values are finite, negative and infinite, and then the
words of both sums. Rows of several blocks or images are added up, in any order. Nothing is rounded
but the mean and the standard deviation: once each, in the end.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np

from ..aliases import Array, Block, DType
from .gathering import COUNT_FIELDS
from .kernels.sums import LANES, WORD, add_doubles, add_integers, add_singles, count_kinds


class BinLayout(NamedTuple):
    """What rows of a float type look like.

    Attributes
    ----------
    unit
        The smallest positive value is ``2**-unit``.
    n_words, n_square_words
        How many words the sum has, and the sum of squares: enough for 2**60 values.
    bins
        Shape of the array of bins that the kernel uses.
    """

    unit: int
    n_words: int
    n_square_words: int
    bins: tuple[int, int, int]

    @classmethod
    def of(cls, dtype: DType) -> "BinLayout":
        """The layout for a float type."""
        return _LAYOUTS[dtype.itemsize]

    @property
    def row_size(self) -> int:
        """How many int64 a row has."""
        return len(COUNT_FIELDS) + self.n_words + self.n_square_words

    def parts(self, row: Block) -> tuple[Block, Block, Block]:
        """The counts, the sum and the sum of squares in a row: views."""
        end = len(COUNT_FIELDS) + self.n_words
        return row[: len(COUNT_FIELDS)], row[len(COUNT_FIELDS) : end], row[end:]


_LAYOUTS = {
    4: BinLayout(149, 11, 20, (256, LANES, 2)),
    8: BinLayout(1074, 69, 135, (2048, LANES, 4)),
}
# The fields of `Moments`, for each channel.
MOMENTS = np.dtype([("mean", np.float64), ("deviation", np.float64), *COUNT_FIELDS])


class Moments(NamedTuple):
    """Mean and standard deviation of each channel; NumPy or lazy, shape (image, c)."""

    mean: Array  # float64, NaN where nothing was counted
    deviation: Array  # float64, NaN like the mean; of the values as a whole, not as a sample
    counted: Array  # int64, finite pixels
    negative: Array  # int64, how many of them are below zero
    infinite: Array  # int64, pixels that are missing because they are infinite


def add_channel(
    channel: Block, float_type: DType, layout: BinLayout, bins: Block, row: Block
) -> None:
    """Add the values of a channel to its row.

    `float_type` is the one in which the channel is processed, `bins` is an array of zeros.
    """
    counts, total, squares = layout.parts(row)
    if channel.dtype.kind != "f" and channel.dtype.itemsize <= 2:
        whole = np.ascontiguousarray(channel, channel.dtype.newbyteorder("=")).reshape(-1)
        add_integers(whole, layout.unit, counts, total, squares)
        return
    flat = np.ascontiguousarray(channel, float_type).reshape(-1)
    count_kinds(flat, counts)
    if layout is _LAYOUTS[4]:
        add_singles(flat.view(np.int32), bins, total, squares)
    else:
        add_doubles(flat.astype(np.float64, copy=False).view(np.int64), bins, total, squares)


def moments_of(rows: Block, *, float_type: DType) -> Block:
    """The `MOMENTS` of each channel from its row, which is in the layout of a float type."""
    layout = BinLayout.of(float_type)
    moments = np.zeros(len(rows), MOMENTS)
    for row, channel in zip(rows, moments, strict=True):
        counts, *sums = layout.parts(row)
        channel["counted"], channel["negative"], channel["infinite"] = counts
        n = int(counts[0])
        total, squares = map(_whole, sums)
        divisor = n << layout.unit
        # Python rounds the quotient of two integers once, whatever their size.
        channel["mean"] = total / divisor if n else np.nan
        channel["deviation"] = square_root(n * squares - total**2, divisor**2) if n else np.nan
    return moments


def _whole(words: Block) -> int:
    return sum(word << WORD * place for place, word in enumerate(words.tolist()))


def square_root(numerator: int, denominator: int) -> float:
    """The float that is nearest to the square root of a fraction."""
    # The fraction is multiplied by a power of 4, so that its root has 55 bits or more, of which a
    # float keeps 53. If the root is no whole number its last bit becomes 1: else it might be taken
    # for the exact middle between two floats.
    shift = max(0, denominator.bit_length() - numerator.bit_length() + 112) // 2
    numerator <<= 2 * shift
    root = isqrt(numerator // denominator)
    root |= root * root * denominator != numerator
    return root / (1 << shift)
