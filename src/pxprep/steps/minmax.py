"""Bring each channel to 0 to 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..aliases import Label
from ..engine import blocks
from ..engine.programs import Operation, Strip
from .base import Step
from .statistics import Ranges

__all__ = ["MinMax"]


@dataclass(frozen=True)
class MinMax(Step):
    """Bring each channel to 0 to 1: subtract its smallest value, divide by its range.

    Of a cohort pooled by ``"mean"``, the mean of the images' minima and that of their maxima become
    0 and 1, so that some values of several images are below 0 or above 1.

    Warns
    -----
    PxprepWarning
        Once for channels without two different values, which become 0, for negative and for
        infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Zeros count: they are the natural minimum of a marker. One bright pixel is enough to darken all
    others, so that values are usually clipped first, as in
    ``image.pxprep.percentile_clip(1, 99).pxprep.minmax()``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[2.0, 4.0, np.nan, 10.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.minmax().values.tolist()
    [[[0.0, 0.25, nan, 1.0]]]
    """

    kind = "minmax"
    operands = ("min", "max")

    def statistic(self, labels: Sequence[Label]) -> Ranges:
        """The range of each channel."""
        return Ranges.of(len(labels))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Bringing the range to 0 to 1."""
        return BringToUnitRange()


@dataclass(frozen=True)
class BringToUnitRange(Operation):
    """Values between two measured limits are brought to 0 to 1."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Subtract the first limit, and divide by the distance between both."""
        blocks.rescale(strip.block(), numbers)
