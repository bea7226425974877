"""Mixtures, and least squares without negative numbers.

One unknown after the other is set to what is best given the others (coordinate descent), again and
again until nothing changes, which takes a few rounds where the matrix is near the identity. Some
pixels go side by side, so that every loop is one over a row; each stops by itself.
"""

from typing import Any

import numpy as np

from . import kernel

# Rounds after which a pixel is left to a slower solver, and the change, as part of the largest
# unknown, that is only rounding.
ROUNDS = 100
NO_CHANGE = 2.0**-48
# Pixels that go side by side.
WIDTH = 64


@kernel
def combine(values: Any, factors: Any, out: Any) -> None:
    """Write to `out[i]` the sum of `values[j]` times `factors[j, i]`, added in the order of j."""
    out[:] = 0
    for i in range(out.shape[0]):
        for j in range(values.shape[0]):
            if factors[j, i] != 0:
                _add_times(values[j], factors[j, i], out[i])


@kernel
def descend(values: Any, gram: Any, targets: Any, slow: Any) -> None:
    """Descend from `values`, shape (unknown, pixel), to where the squares are least, in place.

    `gram` is a matrix times its transpose, and `targets` what that matrix makes of what was seen.
    Pixels without negative values are at the lowest point already. `slow` says of which pixels it
    was not reached.
    """
    n, size = values.shape
    x, gradient = np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    goes, step, change, largest = np.zeros((4, WIDTH))
    for start in range(0, size, WIDTH):
        stop = min(start + WIDTH, size)
        _begin(values[:, start:stop], targets[:, start:stop], gram, x, gradient, goes)
        for _ in range(ROUNDS):
            if goes.max() == 0:
                break
            change[:] = 0
            largest[:] = 0
            for i in range(n):
                _step(x[i], gradient[i], 1 / gram[i, i], goes, step)
                _note(x[i], step, change, largest)
                _add_to_neighbours(gram[i], step, gradient)
            for p in range(WIDTH):
                goes[p] = goes[p] if change[p] > NO_CHANGE * largest[p] else 0.0
        values[:, start:stop] = x[:, : stop - start]
        slow[start:stop] = goes[: stop - start] > 0


@kernel
def _begin(values: Any, targets: Any, gram: Any, x: Any, gradient: Any, goes: Any) -> None:
    """Start from `values`, or 0 where they are negative; `goes` is 1 for pixels that have any."""
    n, width = values.shape
    goes[:] = 0
    for i in range(n):
        for p in range(width):
            goes[p] = 1.0 if values[i, p] < 0 else goes[p]
            x[i, p] = values[i, p] if values[i, p] > 0 else 0.0
            gradient[i, p] = -targets[i, p]
    for i in range(n):
        _add_to_neighbours(gram[i], x[i], gradient)


@kernel
def _add_to_neighbours(factors: Any, values: Any, out: Any) -> None:
    for k in range(factors.size):
        factor = factors[k]
        if factor != 0:
            for p in range(WIDTH):
                out[k, p] += factor * values[p]


@kernel
def _add_times(values: Any, factor: Any, out: Any) -> None:
    for p in range(out.size):
        out[p] += factor * values[p]


@kernel
def _step(x: Any, gradient: Any, size: Any, goes: Any, step: Any) -> None:
    for p in range(WIDTH):
        best = x[p] - gradient[p] * size
        best = best if best > 0 else 0.0
        best = best if goes[p] > 0 else x[p]
        step[p] = best - x[p]
        x[p] = best


@kernel
def _note(x: Any, step: Any, change: Any, largest: Any) -> None:
    for p in range(WIDTH):
        far = abs(step[p])
        change[p] = far if far > change[p] else change[p]
        largest[p] = x[p] if x[p] > largest[p] else largest[p]
