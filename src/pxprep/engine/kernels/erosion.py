"""Erosion by a disc: the smallest of the pixels around each pixel.

Each row of a disc is a run of pixels. The smallest value of a run that is two pixels longer is made
of the smallest values of two shorter runs. So one step for each length serves all rows of the disc,
and every step is a loop over a row that the compiler vectorises.
"""

from functools import lru_cache
from math import isqrt

import numpy as np

from ...aliases import Block
from . import kernel, part
from .pointwise import copy_row


@lru_cache(maxsize=256)
def half_widths(radius: int) -> Block:
    """How far a disc extends to either side, by the distance of a row from its centre.

    A pixel belongs to it if its centre is at most `radius` away. All callers get the same array: do
    not write to it.
    """
    return np.array([isqrt(radius**2 - row**2) for row in range(radius + 1)])


@kernel
def erode(
    values: Block,
    row: int,
    column: int,
    widths: Block,
    missing: float,
    line: Block,
    scratch: Block,
    out: Block,
) -> None:
    """Write to `out` the smallest of `values` in the disc around each pixel.

    `out` lies at `row` and `column` of `values`. What lies outside `values` does not count; if all
    of a disc does, the result is `missing`, which is infinity. `widths` come from `half_widths`;
    `line` and `scratch` are as long as a row of `out` and two radii.
    """
    reach = widths.size - 1
    rows, columns = out.shape
    out[:] = missing
    for i in range(values.shape[0]):
        y = i - row
        nearest = max(0, -y, y - rows + 1)
        if nearest > reach:
            continue
        _place(values[i], column - reach, missing, line)
        runs, longer = line, scratch
        away = reach
        for width in range(widths[nearest] + 1):
            if width > 0:
                size = line.size - 2 * width
                if width == 1:
                    _smallest_of_three(runs[: size + 2], longer[:size])
                else:
                    _smaller_ends(runs[: size + 2], longer[:size])
                runs, longer = longer, runs
            part = runs[reach - width : reach - width + columns]
            while away >= nearest and widths[away] == width:
                if 0 <= y - away < rows:
                    _lower(part, out[y - away])
                if away > 0 and 0 <= y + away < rows:
                    _lower(part, out[y + away])
                away -= 1


@part
def _place(source: Block, first: int, missing: float, line: Block) -> None:
    """Fill `line` with the values from index `first` on, and `missing` where there are none."""
    start, stop = max(0, -first), min(line.size, source.size - first)
    line[:start] = missing
    copy_row(source[first + start : first + stop], line[start:stop])
    line[stop:] = missing


@part
def _smallest_of_three(values: Block, out: Block) -> None:
    for j in range(out.size):
        a, b, c = values[j], values[j + 1], values[j + 2]
        a = a if a < b else b
        out[j] = a if a < c else c


@part
def _smaller_ends(values: Block, out: Block) -> None:
    for j in range(out.size):
        a, b = values[j], values[j + 2]
        out[j] = a if a < b else b


@part
def _lower(values: Block, out: Block) -> None:
    for j in range(out.size):
        a, b = out[j], values[j]
        out[j] = a if a < b else b
