"""Types of the parameters of steps: what a type checker sees, and how a value is parsed.

A field of a step that has one of these types is parsed when the step is made; one with a value for
each channel is checked against the channels, and read by `Step.each`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

import xarray as xr

from ..aliases import Backgrounds, Factors, Label, PerChannel, Zeros
from ..channels import CHANNEL, ByLabel, is_label, labels_or_positions, plain
from ..errors import ParameterError
from ..images.parameters import (
    ZEROS,
    parse_bool,
    parse_choice,
    parse_finite,
    parse_low_quantile,
    parse_number,
    parse_positive,
    parse_quantile,
    parse_radius,
    parse_side,
    parse_sigma,
    parse_sum_quantile,
)


@dataclass(frozen=True)
class Parser:
    """How a parameter is parsed.

    Attributes
    ----------
    parse
        Called with the value and the parameter's name; returns the value in one plain form.
    per_channel
        Whether there may be one for each channel.
    called
        The parameter's name in messages about channels, if it is another.
    is_optional
        Whether None is a value, too, which is not parsed.
    """

    parse: Callable[[object, str], object]
    per_channel: bool = True
    called: str | None = None
    is_optional: bool = False


def require_one_of(**values: object) -> None:
    """Raise ParameterError unless just one of two parameters is given: the other is None."""
    if sum(value is not None for value in values.values()) != 1:
        got = " and ".join(f"{name}={value!r}" for name, value in values.items())
        raise ParameterError(
            f"one of {' and '.join(values)} must be given, and only one, got {got}"
        )


def parse_backgrounds(value: object, parameter: str) -> ByLabel:
    """The label of another channel for each of some channels."""
    rule = f"{parameter} must be a mapping of channel labels to labels of other channels"
    if not isinstance(value, Mapping) or not value:
        raise ParameterError(f"{rule}, got {value!r:.200}")
    pairs = {plain(label): plain(other) for label, other in value.items()}
    for label, other in pairs.items():
        if not is_label(label) or not is_label(other):
            raise ParameterError(f"{rule}, got {label!r:.100}: {other!r:.100}")
        if label == other:
            raise ParameterError(f"{rule}, got {label!r} for itself")
    return ByLabel(pairs)


def parse_factors(value: object, parameter: str) -> object:
    """A number of at least 0 for all channels, or for each by label."""
    parsed = parse_positive(value, parameter, or_zero=True)
    if isinstance(parsed, tuple):
        raise ParameterError(
            f"{parameter} must be a number or a mapping of channel labels to numbers, got {value!r}"
        )
    return parsed


def parse_exposures(value: Any, needed: Sequence[Label]) -> ByLabel | None:
    """Numbers above 0 by label, for those of the channels `needed` that are named.

    They come in a mapping, a Series of pandas, or an image's coordinate; what that says of other
    channels is not looked at.
    """
    if value is None:
        return None
    if isinstance(value, xr.DataArray) and value.dims == (CHANNEL,):
        value = dict(zip(labels_or_positions(value), value.values.tolist(), strict=True))
    is_series = hasattr(value, "index") and hasattr(value, "to_dict")
    if not is_series and not isinstance(value, Mapping):
        raise ParameterError(
            f"exposures must be a mapping of channel labels to exposure times, got {value!r:.200}"
        )
    times: dict[object, object] = {}
    for label, time in value.items():
        name = plain(label)
        if name in times:
            raise ParameterError(f"exposures must name each channel once, got {name!r} again")
        if name in needed:
            times[name] = time
    return cast(ByLabel, parse_positive(times, "exposures")) if times else ByLabel({})


Percent = Annotated[PerChannel, Parser(parse_quantile)]
LowPercent = Annotated[PerChannel, Parser(parse_low_quantile)]
SumPercent = Annotated[float, Parser(parse_sum_quantile, per_channel=False)]
Sigma = Annotated[PerChannel, Parser(parse_sigma)]
Radius = Annotated[PerChannel, Parser(parse_radius)]
Side = Annotated[PerChannel, Parser(parse_side)]
Cap = Annotated[PerChannel, Parser(parse_finite, called="max (cap_max)")]
Number = Annotated[PerChannel, Parser(parse_finite)]
Positive = Annotated[PerChannel, Parser(parse_positive)]
AtLeastZero = Annotated[PerChannel, Parser(partial(parse_positive, or_zero=True))]
CountZeros = Annotated[Zeros, Parser(partial(parse_choice, choices=ZEROS), per_channel=False)]
ZeroOrNan = Annotated[
    str, Parser(partial(parse_choice, choices=("zero", "nan")), per_channel=False)
]
YesOrNo = Annotated[bool, Parser(parse_bool, per_channel=False)]
OneNumber = Annotated[
    float, Parser(partial(parse_number, rule="a finite number"), per_channel=False)
]
OtherChannels = Annotated[Backgrounds, Parser(parse_backgrounds, per_channel=False)]
Scale = Annotated[Factors, Parser(parse_factors, per_channel=False)]
