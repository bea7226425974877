"""Medians of squares of pixels, by a network: pairs of values that are put in order.

A network is the same for all pixels, so that each of its steps is a loop over a row that the
compiler vectorises.
"""

from functools import lru_cache

import numpy as np

from ...aliases import Block
from . import kernel, part
from .pointwise import copy_row

# So many columns at a time, that all pixels of their squares stay in cache.
COLUMNS = 256


@lru_cache(maxsize=8)
def median_network(size: int) -> Block:
    """Pairs of places to put in order, the smaller value first. Last the median's place, twice.

    It begins with half of the values and two more: so many that neither the smallest nor the
    largest of them can be the median of all. Both go, the next value joins, and so on, until one is
    left: the median. All callers get the same array: do not write to it.
    """
    count = size * size
    pairs: list[tuple[int, int]] = []
    open_, rest = list(range(count // 2 + 2)), list(range(count // 2 + 2, count))
    while len(open_) > 1:
        half, last = len(open_) // 2, len(open_) - 1
        pairs += [(open_[n], open_[last - n]) for n in range(half)]
        pairs += [(open_[0], place) for place in open_[1 : last + 1 - half]]
        pairs += [(place, open_[last]) for place in open_[half:last]]
        open_ = open_[1:last] + rest[:1]
        rest = rest[1:]
    return np.array([*pairs, (open_[0], open_[0])])


@kernel
def take_medians(padded: Block, size: int, network: Block, scratch: Block, out: Block) -> None:
    """Write to `out` the median of the square around each pixel.

    `padded` surrounds `out` by half a square on every side; `scratch` has a row of `COLUMNS` for
    each pixel of a square.
    """
    rows, columns = out.shape
    median = network[network.shape[0] - 1, 0]
    for i in range(rows):
        for left in range(0, columns, scratch.shape[1]):
            width = min(scratch.shape[1], columns - left)
            for n in range(size * size):
                start = left + n % size
                copy_row(padded[i + n // size][start : start + width], scratch[n][:width])
            for n in range(network.shape[0] - 1):
                _put_in_order(scratch[network[n, 0]][:width], scratch[network[n, 1]][:width])
            copy_row(scratch[median][:width], out[i][left : left + width])


@part
def _put_in_order(smaller: Block, larger: Block) -> None:
    for j in range(smaller.size):
        a, b = smaller[j], larger[j]
        smaller[j] = a if a < b else b
        larger[j] = b if a < b else a


@kernel
def mend_medians(padded: Block, size: int, scratch: Block, out: Block) -> None:
    """After `take_medians`: write to `out` again, where a square has NaNs, without these.

    It is the median of the other values: the mean of the middle two if their number is even. Where
    the pixel itself is NaN, so is the result. `scratch` has room for a square.
    """
    half = size // 2
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            centre = padded[i + half, j + half]
            if centre != centre:
                out[i, j] = centre
            elif _has_missing(padded, i, j, size):
                count = _gather(padded, i, j, size, scratch)
                a, b = scratch[(count - 1) // 2], scratch[count // 2]
                out[i, j] = a if a == b else a / 2 + b / 2


@part
def _has_missing(padded: Block, top: int, left: int, size: int) -> bool:
    is_missing = False
    for i in range(top, top + size):
        for j in range(left, left + size):
            is_missing |= padded[i, j] != padded[i, j]
    return is_missing


@part
def _gather(padded: Block, top: int, left: int, size: int, scratch: Block) -> int:
    """Put the values of a square that are not NaN into `scratch`, sorted; returns their number."""
    count = 0
    for i in range(top, top + size):
        for j in range(left, left + size):
            v = padded[i, j]
            if v != v:
                continue
            place = count
            while place > 0 and scratch[place - 1] > v:
                scratch[place] = scratch[place - 1]
                place -= 1
            scratch[place] = v
            count += 1
    return count
