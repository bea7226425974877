"""The steps on intensities as values, beside those of `steps`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import xarray as xr

from ..aliases import Label, PerChannel
from ..channels import per_channel
from ..engine.programs import ClipBetween, Operation, Rescale
from ..images.cohort import Cohort
from ..images.parameters import (
    ZEROS,
    parse_background,
    parse_choice,
    parse_low_quantile,
    parse_quantile,
)
from .base import Measured, Numbers, Step, as_cohort
from .intensity import background_operation, percents_of
from .measured import FINITE, HIGHEST, LOWEST, check_limits
from .statistics import channel_limits, channel_ranges

__all__ = ["MinMax", "PercentileClip", "SubtractBackground"]


@dataclass(frozen=True)
class SubtractBackground(Step):
    """Subtract the background of each channel; see `pxprep.ops.subtract_background`.

    Parameters
    ----------
    radius, constant
        Pixels, or units of the image; one of both: one number, a sequence in channel order, or a
        mapping by channel label.
    """

    kind: ClassVar[str] = "subtract_background"
    radius: PerChannel | None = None
    constant: PerChannel | None = None

    def __post_init__(self) -> None:
        radius, constant = parse_background(self.radius, self.constant)
        object.__setattr__(self, "radius", radius)
        object.__setattr__(self, "constant", constant)

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `radius` or `constant` does not fit the channels."""
        name = "radius" if self.constant is None else "constant"
        per_channel(getattr(self, name), labels, name)

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The subtraction, with the radius or the constant of each channel."""
        return background_operation(self.radius, self.constant, labels)


@dataclass(frozen=True)
class PercentileClip(Step):
    """Clip each channel to two quantiles of the cohort; see `pxprep.ops.percentile_clip`.

    Parameters
    ----------
    low, high
        Percent: one number, a sequence in channel order, or a mapping by channel label.
    zeros
        ``"exclude"`` or ``"include"`` zeros in the quantiles.
    """

    kind: ClassVar[str] = "percentile_clip"
    operands: ClassVar[tuple[str, ...]] = ("low", "high")
    knows_pools: ClassVar[bool] = True
    low: PerChannel = 1
    high: PerChannel = 99
    zeros: str = "exclude"

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", parse_low_quantile(self.low, "low"))
        object.__setattr__(self, "high", parse_quantile(self.high, "high"))
        parse_choice(self.zeros, "zeros", ZEROS)

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `low` and `high` do not fit the channels, or each other."""
        percents_of(self.low, self.high, tuple(labels))

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """The limits per channel, and the quantiles per image that they were made from."""
        images: Cohort = as_cohort(cohort)
        percents = percents_of(self.low, self.high, images.labels)
        return channel_limits(images, percents, zeros=self.zeros, step=self.kind)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise unless the numbers are limits per channel, and what they were measured from."""
        check_limits(numbers, pool, ("low", "high"), (LOWEST, HIGHEST))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Clipping between the limits."""
        return ClipBetween()


@dataclass(frozen=True)
class MinMax(Step):
    """Bring each channel to 0 to 1 by the cohort's range; see `pxprep.ops.minmax`."""

    kind: ClassVar[str] = "minmax"
    operands: ClassVar[tuple[str, ...]] = ("min", "max")
    knows_pools: ClassVar[bool] = True

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """The range per channel, and those of each image that it was made from."""
        return channel_ranges(as_cohort(cohort), step=self.kind)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise unless the numbers are ranges per channel, and what they were measured from."""
        check_limits(numbers, pool, ("min", "max"), (FINITE, FINITE))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Bringing the range to 0 to 1."""
        return Rescale()
