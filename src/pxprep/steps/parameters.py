"""Types of the parameters of steps: what a type checker sees, and how a value is parsed.

A field of a step that has one of these types is parsed when the step is made; one with a value for
each channel is checked against the channels, and read by `Step.each`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from ..aliases import PerChannel, Zeros
from ..images.parameters import (
    ZEROS,
    parse_choice,
    parse_limit,
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
class Parsed:
    """How a parameter is parsed.

    Attributes
    ----------
    parse
        Called with the value and the parameter's name; returns the value in one plain form.
    per_channel
        Whether there may be one for each channel.
    called
        What messages on channels call it, if that is not its name.
    """

    parse: Callable[[Any, str], Any]
    per_channel: bool = True
    called: str | None = None

    def or_none(self) -> "Parsed":
        """The same, where None is a value, too."""
        parse = self.parse
        return replace(
            self, parse=lambda value, name: None if value is None else parse(value, name)
        )


Percent = Annotated[PerChannel, Parsed(parse_quantile)]
LowPercent = Annotated[PerChannel, Parsed(parse_low_quantile)]
SumPercent = Annotated[float, Parsed(parse_sum_quantile, per_channel=False)]
Sigma = Annotated[PerChannel, Parsed(parse_sigma)]
Radius = Annotated[PerChannel, Parsed(parse_radius)]
Side = Annotated[PerChannel, Parsed(parse_side)]
Cap = Annotated[PerChannel, Parsed(parse_limit, called="max (cap_max)")]
Number = Annotated[PerChannel, Parsed(parse_limit)]
Positive = Annotated[PerChannel, Parsed(parse_positive)]
AtLeastZero = Annotated[PerChannel, Parsed(partial(parse_positive, or_zero=True))]
CountZeros = Annotated[Zeros, Parsed(partial(parse_choice, choices=ZEROS), per_channel=False)]
ZeroOrNan = Annotated[
    str, Parsed(partial(parse_choice, choices=("zero", "nan")), per_channel=False)
]
OneNumber = Annotated[
    float, Parsed(partial(parse_number, rule="a finite number"), per_channel=False)
]
