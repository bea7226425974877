"""Subtract the median of each channel, and divide by the median distance from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import CHANNEL
from ..engine import blocks
from ..engine.programs import Operation, Strip
from ..images.image_numbers import Numbers
from ..images.image_set import ImageSet
from .base import Step
from .image_values import COUNTS, ImageValues
from .number_rules import COUNT, DIVISOR, FINITE, FINITE_OR_NAN, check_numbers
from .quantiles import QuantileStatistic
from .standardize import Standardize
from .statistic_base import Statistic

__all__ = ["RobustZscore"]

# The standard deviation of normally distributed values, in median distances.
NORMAL_SPREAD = 1.482602218505602


@dataclass(frozen=True)
class RobustZscore(Step):
    """Subtract the median of each channel, and divide by 1.4826 times the median distance from it.

    The median distance (MAD) is ``numpy.median(abs(values - numpy.median(values)))``, and 1.4826
    times it the standard deviation if values are normally distributed. Both medians are exact
    whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of the images' medians is
    subtracted, and the mean of their median distances divides.

    Warns
    -----
    PxprepWarning
        For channels more than half of whose values are the same (nothing is divided), for those
        without a value, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Zeros count. A marker that is 0 in more than half of the pixels has a median distance of 0:
    nothing is divided.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, 2, 3, 4, 50]]]), dims=("c", "y", "x"))
    >>> image.pxprep.robust_zscore().values.round(2).tolist()
    [[[-1.35, -0.67, 0.0, 0.67, 31.7]]]
    """

    kind = "robust_zscore"
    operands = ("center", "spread")

    def statistic(self, labels: Sequence[Label]) -> Statistic:
        """The median of each channel, and the distance from it."""
        return CenterAndSpread(len(labels))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Subtracting the one, dividing by the other."""
        return Standardize()


@dataclass(frozen=True)
class TakeDistances(Operation):
    """Each value becomes its distance from a measured number."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Subtract, and take the absolute value."""
        block = strip.block()
        blocks.standardize(block, np.stack([numbers, np.ones_like(numbers)]))
        np.abs(block, out=block)


@dataclass(frozen=True)
class Centers(QuantileStatistic):
    """``center``: the cohort's median of each channel, 0 where there is none."""

    number_names = ("center",)
    rules = (FINITE,)

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The medians, axes (1, c) or (fov, 1, c)."""
        centers = measured.pooled()
        texts = measured.empty_warnings("no value to measure", "nothing is subtracted or divided")
        return np.where(np.isnan(centers), 0.0, centers), texts + measured.value_warnings()


@dataclass(frozen=True)
class Spreads(QuantileStatistic):
    """``spread``: 1.4826 times the cohort's median of distances, 1 where that is 0 or none."""

    number_names = ("spread",)
    rules = (DIVISOR,)

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The spreads, axes (1, c) or (fov, 1, c)."""
        spreads = NORMAL_SPREAD * measured.pooled()
        zero = spreads.astype(measured.dtype) == 0
        texts = []
        if zero.any():
            chosen = measured.listed(zero[..., 0, :])
            texts.append(
                f"more than half of the values are the same in {chosen}: the median is subtracted, "
                "and nothing divided"
            )
        return np.where(zero | ~np.isfinite(spreads), 1.0, spreads), texts


@dataclass(frozen=True)
class CenterAndSpread(Statistic):
    """The median of each channel, and the spread around it.

    Each image has its ``median``, and as ``quantile`` the median distance of its values from that
    (for pool "pixels": from the median of all pixels).
    """

    n_channels: int

    @property
    def made_from(self) -> Mapping[str, str]:
        """The median; the spread is no intensity."""
        return {"center": "median"}

    @property
    def _parts(self) -> tuple[Centers, Spreads]:
        percents = np.full((1, self.n_channels), 50.0)
        return Centers(percents, zeros=True), Spreads(percents, zeros=True)

    def measure(self, cohort: ImageSet, step: str) -> Numbers:
        """The numbers, and what was found in each image."""
        centers, spreads = self._parts
        numbers = centers.measure(cohort, step)
        medians = {"median" if name == "quantile" else name: numbers[name] for name in numbers}
        if cohort.pool == "pixels":
            origins = [medians["center"].data] * len(cohort)
        else:
            origins = list(medians["median"].data)
        chained = cohort if cohort.is_lazy or cohort.chains else cohort.chained()
        distances = spreads.measure(chained.apply(TakeDistances(), origins), step)
        return {**medians, **{name: distances[name] for name in ("spread", "quantile")}}

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless these are the numbers, and what they were made from."""
        of_images = dict.fromkeys(("quantile", "median"), FINITE_OR_NAN)
        of_images |= dict.fromkeys(COUNTS, COUNT)
        rules = {"center": FINITE, "spread": DIVISOR, **of_images}
        check_numbers(numbers, rules, (CHANNEL,), pool, tuple(of_images))

    def recompute(
        self, numbers: xr.Dataset, already_told: NumpyArray, **rest: Any
    ) -> dict[str, xr.Variable]:
        """The numbers made again from the image values."""
        centers, spreads = self._parts
        medians = numbers.assign(quantile=numbers["median"])
        made = centers.recompute(medians, already_told, **rest)
        return made | spreads.recompute(numbers, already_told, **rest)
