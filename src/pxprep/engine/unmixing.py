"""What channels were before they spilled into each other: blocks of pixels, unmixed."""

from collections.abc import Sequence

import numpy as np

from ..aliases import Block
from .blocks import line_of
from .kernels.nnls import combine, descend

# So many pixels at a time: they stay in cache, and take little memory.
PIXELS = 1024
# So many of them go side by side through `descend`.
SIDE_BY_SIDE = 64


def unmix(block: Block, places: Sequence[int], mixing: Block, *, is_linear: bool) -> None:
    """Undo the mixing of the channels at `places`, in place.

    In each pixel, channel j shows the sum over i of `mixing[i, j]` times what channel i was. Where
    a value is missing in one of the channels at `places`, it becomes missing in all of them.
    """
    lines = [line_of(block[place]) for place in places]
    solver = Solver(mixing, is_linear=is_linear)
    for start in range(0, lines[0].size, PIXELS):
        parts = [line[start : start + PIXELS] for line in lines]
        unmixed = solver(np.stack(parts).astype(np.float64))
        with np.errstate(over="ignore"):
            for part, values in zip(parts, unmixed, strict=True):
                part[:] = values


class Solver:
    """Solves the equations of one mixing matrix, for pixels with the axes (channel, pixel)."""

    def __init__(self, mixing: Block, *, is_linear: bool) -> None:
        self.mixed = np.ascontiguousarray(mixing.T, np.float64)
        self.inverse = np.ascontiguousarray(np.linalg.inv(mixing))
        self.near, self.factors = _neighbours(mixing @ mixing.T)
        self.is_linear = is_linear

    def __call__(self, values: Block) -> Block:
        """What the channels were; NaN where one is missing."""
        missing = ~np.isfinite(values).all(axis=0)
        values[:, missing] = 0
        out: Block = np.empty_like(values)
        combine(values, self.inverse, out)
        if not self.is_linear:
            self._descend(values, out)
        out[:, missing] = np.nan
        return out

    def _descend(self, values: Block, out: Block) -> None:
        """Turn the linear solution, `out`, into the best one without negative values."""
        targets = np.empty_like(values)
        combine(values, self.mixed, targets)
        todo = np.flatnonzero((out < 0).any(axis=0))
        unmixed, slow = out[:, todo], np.zeros(todo.size, bool)
        scratch, lanes = np.zeros((len(values), SIDE_BY_SIDE)), np.zeros((5, SIDE_BY_SIDE))
        descend(unmixed, targets[:, todo], self.near, self.factors, scratch, lanes, slow)
        out[:, todo] = unmixed
        if slow.any():
            from scipy.optimize import nnls  # it takes long to import, and this is rare

            for pixel in todo[slow]:
                out[:, pixel], _ = nnls(self.mixed, values[:, pixel])


def _neighbours(gram: Block) -> tuple[Block, Block]:
    """For each row the columns that are not zero, its own first, and the numbers in them.

    All rows get as many columns, a multiple of 4: where a row has fewer, zeros are among them.
    """
    order = np.where(gram == 0, 2, 1) - np.eye(len(gram))
    most = int((gram != 0).sum(axis=1).max())
    near = np.argsort(order, axis=1, kind="stable")[:, :most]
    factors = np.take_along_axis(gram, near, axis=1)
    pad = (0, 0), (0, -most % 4)
    return np.pad(near, pad), np.pad(factors, pad)
