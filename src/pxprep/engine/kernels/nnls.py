"""Mixtures, and least squares without negative numbers.

One unknown after the other is set to its best value given the others (coordinate descent), again
and again until nothing changes. That takes a few rounds if the matrix is near the identity. Several
pixels go side by side, so that every loop runs over a row; each pixel stops when it is done.
"""

from ...aliases import Block
from . import kernel, part
from .pointwise import copy_row

# After so many rounds a pixel is left to a slower solver.
ROUNDS = 100
# A change that is no larger than this share of the largest unknown is only rounding.
NO_CHANGE = 2.0**-48


@kernel
def combine(values: Block, factors: Block, out: Block) -> None:
    """Write to `out[i]` the sum of `values[j]` times `factors[j, i]`, added in the order of j."""
    out[:] = 0
    for i in range(out.shape[0]):
        for j in range(values.shape[0]):
            if factors[j, i] != 0:
                _add_times(values[j], factors[j, i], out[i])


@kernel
def descend(
    values: Block,
    targets: Block,
    near: Block,
    factors: Block,
    scratch: Block,
    lanes: Block,
    slow: Block,
) -> None:
    """Descend from `values`, shape (unknown, pixel), to where the squares are least, in place.

    `near` and `factors` hold the product of the mixing matrix and its transpose: row i has the
    numbers `factors[i]` in the columns `near[i]`, and zeros elsewhere. The first of the columns is
    i itself; their number is a multiple of 4. `targets` are what the matrix makes of what was seen.
    Pixels without negative values are at the least squares already. `slow` becomes True for pixels
    that have not come there. `scratch` has the shape (unknown, w), and `lanes` (5, w), for w pixels
    that go side by side; if they were made here, loops would be unrolled, which is slower.
    """
    goes, gradient, step, change, largest = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
    for start in range(0, values.shape[1], goes.size):
        stop = min(start + goes.size, values.shape[1])
        width = stop - start
        goes[:] = 0
        for i in range(scratch.shape[0]):
            copy_row(values[i, start:stop], scratch[i, :width])
            _raise_to_zero(scratch[i], goes)
        for _ in range(ROUNDS):
            if goes.max() == 0:
                break
            change[:] = 0
            largest[:] = 0
            for i in range(scratch.shape[0]):
                copy_row(targets[i, start:stop], gradient[:width])
                _subtract_mixture(scratch, near[i], factors[i], gradient)
                _step(scratch[i], gradient, 1 / factors[i, 0], goes, step)
                _note(scratch[i], step, change, largest)
            for p in range(goes.size):
                goes[p] = goes[p] if change[p] > NO_CHANGE * largest[p] else 0.0
        for i in range(scratch.shape[0]):
            copy_row(scratch[i, :width], values[i, start:stop])
        for p in range(width):
            slow[start + p] = goes[p] > 0


@part
def _raise_to_zero(x: Block, goes: Block) -> None:
    """Raise negative values to 0; `goes` becomes 1 for pixels that have any."""
    for p in range(x.size):
        goes[p] = 1.0 if x[p] < 0 else goes[p]
        x[p] = x[p] if x[p] > 0 else 0.0


@part
def _subtract_mixture(x: Block, near: Block, factors: Block, out: Block) -> None:
    """Subtract from `out` the sum of rows of `x` times factors; four rows at a time are faster."""
    for m in range(0, near.size, 4):
        a, b, c, d = near[m], near[m + 1], near[m + 2], near[m + 3]
        e, f, g, h = factors[m], factors[m + 1], factors[m + 2], factors[m + 3]
        for p in range(out.size):
            out[p] -= (e * x[a, p] + f * x[b, p]) + (g * x[c, p] + h * x[d, p])


@part
def _add_times(values: Block, factor: float, out: Block) -> None:
    for p in range(out.size):
        out[p] += factor * values[p]


@part
def _step(x: Block, gradient: Block, size: float, goes: Block, step: Block) -> None:
    for p in range(x.size):
        best = x[p] + gradient[p] * size
        best = best if best > 0 else 0.0
        best = best if goes[p] > 0 else x[p]
        step[p] = best - x[p]
        x[p] = best


@part
def _note(x: Block, step: Block, change: Block, largest: Block) -> None:
    for p in range(x.size):
        far = abs(step[p])
        change[p] = far if far > change[p] else change[p]
        largest[p] = x[p] if x[p] > largest[p] else largest[p]
