"""What steps have measured, when it comes from a file: whether they can apply it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from ..aliases import Block
from ..channels import CHANNEL
from ..errors import ParameterError
from ..images.cohort import FOV
from .statistics import DETAILS, LOWER

# What a statistic must be, in words, and where it is so.
Rule = tuple[str, Callable[[Block], Block]]
FINITE: Rule = ("finite", np.isfinite)
DIVISOR: Rule = ("finite and not 0", lambda values: np.isfinite(values) & (values != 0))
# Infinite where there was nothing to measure: then nothing is clipped.
LOWEST: Rule = ("a number or -inf", lambda values: values < np.inf)
HIGHEST: Rule = ("a number or inf", lambda values: values > -np.inf)
QUANTILE: Rule = ("finite or NaN", lambda values: ~np.isinf(values))
COUNT: Rule = ("at least 0", lambda values: values >= 0)


def check_scales(numbers: xr.Dataset, pool: str | None) -> None:
    """Raise ParameterError unless these are what `measures.channel_scales` returns."""
    _check(numbers, pool, {"scale": DIVISOR}, DETAILS, (CHANNEL,))


def check_threshold(numbers: xr.Dataset, pool: str | None, is_given: bool) -> None:
    """Raise ParameterError unless these are what `measures.sum_threshold` returns.

    Or the threshold alone, if it is given.
    """
    if is_given:
        _check(numbers, "mean", {"threshold": FINITE}, (), ())
    else:
        _check(numbers, pool, {"threshold": FINITE}, DETAILS, ())


def check_limits(
    numbers: xr.Dataset, pool: str | None, names: tuple[str, str], rules: tuple[Rule, Rule]
) -> None:
    """Raise ParameterError unless these are two limits and what they were measured from.

    As `measures.channel_limits` and `measures.channel_ranges` return them.
    """
    low, high = names
    limits = dict(zip(names, rules, strict=True))
    _check(numbers, pool, limits, (*DETAILS, LOWER), (CHANNEL,))
    if (numbers[low] > numbers[high]).any():
        raise ParameterError(f"{low} must not be above {high}")


def _check(
    numbers: xr.Dataset,
    pool: str | None,
    statistic: Mapping[str, Rule],
    details: Sequence[str],
    dims: tuple[str, ...],
) -> None:
    """Raise ParameterError unless the numbers are the statistic and the details, and nothing else.

    `dims` are those of the statistic of one image.
    """
    rules = {**statistic, **dict.fromkeys(details, COUNT)}
    rules |= {name: QUANTILE for name in (DETAILS[0], LOWER) if name in details}
    if set(numbers) != set(rules):
        raise ParameterError(f"they must be {sorted(rules)}, got {sorted(map(str, numbers))}")
    for name, (what, holds) in rules.items():
        array = numbers[name]
        by_image = name in details or pool is None
        expected = (FOV, *dims) if by_image else dims
        kinds = "iu" if rules[name] is COUNT else "f"
        if array.dims != expected or array.dtype.kind not in kinds:
            raise ParameterError(
                f"{name} must be {'whole numbers' if kinds == 'iu' else 'floats'} over "
                f"{expected}, got {array.dtype} over {array.dims}"
            )
        if not holds(array.values).all():
            raise ParameterError(f"{name} must be {what}, got {array.values.ravel()!r:.200}")
