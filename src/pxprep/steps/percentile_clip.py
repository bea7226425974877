"""Clip each channel to two of its quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..aliases import Label
from ..engine import blocks
from ..engine.programs import Operation, Strip
from ..errors import ParameterError
from .base import Step
from .parameters import CountZeros, LowPercent, Percent
from .statistics import ClipLimits

__all__ = ["PercentileClip"]


@dataclass(frozen=True)
class PercentileClip(Step):
    """Set values below a low quantile of their channel to it, and those above a high one.

    Both quantiles are exact whatever the chunks; finding both takes no more passes than finding one
    (see `pxprep.quantile`).

    Parameters
    ----------
    low, high
        Percent, 0 to 100, `low` below `high` in every channel; 0 and 100 are the smallest and the
        largest value. One number; a sequence in channel order; or a mapping by channel label, in
        which the key ``...`` stands for the channels that are not named.
    zeros
        Whether zeros count in the quantiles: ``"exclude"`` or ``"include"``. They are clipped as
        all others: where the low quantile is above 0 they are raised to it, and `minmax` brings
        them back to 0.

    Raises
    ------
    ParameterError
        If `low` or `high` is no percentage, `low` is not below `high`, `high` looks like a fraction
        (0 < high <= 1), or `zeros` is something else.
    ChannelError
        If `low` or `high` names channels that the image does not have, or leaves some out.

    Warns
    -----
    PxprepWarning
        Once for channels without a value to measure (nothing is clipped), for those whose quantiles
        are the same, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Also known as winsorising (Dixon 1960). For quantiles of all pixels, as
    ``numpy.clip(channel, *numpy.percentile(channel, [1, 99]))``, include zeros.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.arange(6.0).reshape(1, 1, 6), dims=("c", "y", "x"))
    >>> image.pxprep.percentile_clip(25, 75).values.tolist()
    [[[2.0, 2.0, 2.0, 3.0, 4.0, 4.0]]]
    >>> image.pxprep.percentile_clip(20, 80, zeros="include").values.tolist()
    [[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]]]
    """

    kind = "percentile_clip"
    operands = ("low", "high")
    low: LowPercent = 1
    high: Percent = 99
    zeros: CountZeros = "exclude"

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `low` and `high` do not fit the channels, or each other."""
        pairs = zip(labels, self.each("low", labels), self.each("high", labels), strict=True)
        wrong = [
            f"channel {label!r} has low={low:g} and high={high:g}"
            for label, low, high in pairs
            if low >= high
        ]
        if wrong:
            raise ParameterError(f"low must be below high in every channel: {', '.join(wrong)}")

    def statistic(self, labels: Sequence[Label]) -> ClipLimits:
        """The limits of each channel."""
        percents = np.array([self.each("low", labels), self.each("high", labels)])
        return ClipLimits(percents, self.zeros == "include")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Clipping between the limits."""
        return ClipBetween()


@dataclass(frozen=True)
class ClipBetween(Operation):
    """Values become at least the first and at most the second of two measured limits."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Clip."""
        blocks.clip_between(strip.block(), numbers)
