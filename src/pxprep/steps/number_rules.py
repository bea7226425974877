"""What the numbers of steps must be, where they are read from a file."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ..aliases import NumpyArray
from ..errors import ParameterError
from ..images.image_numbers import FOV


class Rule(NamedTuple):
    """What a number must be, in words, and where it is so."""

    what: str
    holds: Callable[[NumpyArray], NumpyArray]


FINITE = Rule("finite", np.isfinite)
FINITE_OR_NAN = Rule("finite or NaN", lambda values: ~np.isinf(values))
COUNT = Rule("at least 0", lambda values: values >= 0)
DIVISOR = Rule("finite and not 0", lambda values: np.isfinite(values) & (values != 0))
# Infinite where there was nothing to measure: then nothing is clipped.
LOWEST = Rule("a number or -inf", lambda values: values < np.inf)
HIGHEST = Rule("a number or inf", lambda values: values > -np.inf)


def check_numbers(
    numbers: xr.Dataset,
    rules: Mapping[str, Rule],
    dims: tuple[str, ...],
    pool: str | None = "mean",
    always_by_image: Sequence[str] = (),
) -> None:
    """Raise ParameterError unless numbers from a file have the names in `rules`, and obey them.

    Parameters
    ----------
    numbers
        What was read.
    rules
        What each of the numbers must be.
    dims
        Those of the numbers of one image.
    pool
        If None, every number has the dim fov.
    always_by_image
        Numbers that have it for every pool.
    """
    if set(numbers) != set(rules):
        raise ParameterError(f"they must be {sorted(rules)}, got {sorted(map(str, numbers))}")
    for name, rule in rules.items():
        array = numbers[name]
        expected = (FOV, *dims) if name in always_by_image or pool is None else dims
        kinds = "iu" if rule is COUNT else "f"
        if array.dims != expected or array.dtype.kind not in kinds:
            raise ParameterError(
                f"{name} must be {'whole numbers' if kinds == 'iu' else 'floats'} over "
                f"{expected}, got {array.dtype} over {array.dims}"
            )
        if not rule.holds(array.values).all():
            raise ParameterError(f"{name} must be {rule.what}, got {array.values.ravel()!r:.200}")
