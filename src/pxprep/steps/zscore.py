"""Subtract the mean of each channel, and divide by its standard deviation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label, NumpyArray
from ..engine.moments import exact_moments
from ..engine.programs import Operation
from ..images.image_set import ImageSet
from .base import Step
from .image_values import ImageValues
from .number_rules import DIVISOR, FINITE
from .standardize import Standardize
from .statistic_base import ImageStatistic, Measurement, Statistic

__all__ = ["Zscore"]


@dataclass(frozen=True)
class Zscore(Step):
    """Subtract the mean of each channel, and divide by its standard deviation.

    Both are those of the finite values, zeros included, made from exact sums of the values and of
    their squares: the same bits whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of
    the images' means is subtracted, and the mean of their standard deviations divides.

    Warns
    -----
    PxprepWarning
        For channels all of whose values are the same (nothing is divided), for those without a
        value, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    The standard deviation is the root of the mean squared distance from the mean (``ddof=0``), as
    that of ``numpy.std`` is by default. A few very bright pixels change both numbers:
    `robust_zscore` is not led by them.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.0, 0, 3, 3, 9]]]), dims=("c", "y", "x"))
    >>> image.pxprep.zscore().values.round(2).tolist()
    [[[-0.91, -0.91, 0.0, 0.0, 1.83]]]
    """

    kind = "zscore"
    operands = ("center", "spread")

    def statistic(self, labels: Sequence[Label]) -> Statistic:
        """Mean and standard deviation of each channel."""
        return MeanAndDeviation()

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Subtracting the one, dividing by the other."""
        return Standardize()


@dataclass(frozen=True)
class MeanAndDeviation(ImageStatistic):
    """``center``: the cohort's mean of each channel, 0 where there is none.

    ``spread``: its standard deviation, 1 where that is 0 or none.
    """

    number_names = ("center", "spread")
    rules = (FINITE, DIVISOR)
    value_names = ("mean", "deviation")

    @property
    def made_from(self) -> Mapping[str, str]:
        """The mean; the spread is no intensity."""
        return {"center": "mean"}

    def measure_images(self, cohort: ImageSet) -> tuple[Measurement, Measurement]:
        """The moments of each image, and of all pixels if they are taken together."""
        mean, deviation, *counts = exact_moments(
            cohort.arrays,
            together=cohort.pool == "pixels",
            evaluate=cohort.evaluate,
            areas=cohort.areas,
        )
        moments = Measurement(np.stack([mean, deviation], axis=1), tuple(counts))
        return moments.split_off_pooled(len(cohort))

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The numbers, axes (2, c) or (fov, 2, c)."""
        numbers = measured.pooled()
        centers, spreads = numbers[..., 0, :], numbers[..., 1, :]
        zero = spreads.astype(measured.dtype) == 0
        texts = measured.empty_warnings("no value to measure", "nothing is subtracted or divided")
        if zero.any():
            texts.append(
                f"the standard deviation of {measured.listed(zero)} is 0: the mean is subtracted, "
                "and nothing divided"
            )
        centers = np.where(np.isnan(centers), 0.0, centers)
        spreads = np.where(zero | np.isnan(spreads), 1.0, spreads)
        return np.stack([centers, spreads], axis=-2), texts + measured.value_warnings()
