"""The statistics of quantiles that steps measure: scales, limits, ranges, thresholds.

Steps of your own may use them: see the page "How to add a step".
"""

from dataclasses import dataclass, replace

import numpy as np

from ..aliases import Array, NumpyArray
from .image_values import EMPTY, ImageValues, mean_over_images
from .number_rules import DIVISOR, FINITE, HIGHEST, LOWEST
from .quantiles import QuantileStatistic

__all__ = ["ClipLimits", "Ranges", "Scales", "SumThreshold", "Thresholds"]


@dataclass(frozen=True)
class Scales(QuantileStatistic):
    """``scale``: the cohort's quantile of each channel, 1 where there is none or it is 0."""

    number_names = ("scale",)
    rules = (DIVISOR,)

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The scales, axes (1, c) or (fov, 1, c)."""
        scale = measured.pooled()
        zero = scale.astype(measured.dtype) == 0
        texts = measured.empty_warnings(
            "no finite non-zero value",
            "the scale is 1",
            " (pixels that are NaN there are dropped by sum_mask and sum_norm)",
        )
        for chosen, what in (
            (zero, "the quantile of {} is 0: the scale is 1"),
            (scale < 0, "the scale of {} is negative: signs change"),
        ):
            if chosen.any():
                texts.append(what.format(measured.listed(chosen[..., 0, :])))
        return np.where(zero | np.isnan(scale), 1.0, scale), texts + measured.value_warnings()


@dataclass(frozen=True)
class ClipLimits(QuantileStatistic):
    """``low`` and ``high``: two quantiles of each channel, infinite where there are none."""

    number_names = ("low", "high")
    rules = (LOWEST, HIGHEST)

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The limits, axes (2, c) or (fov, 2, c)."""
        limits = measured.pooled()
        texts = measured.empty_warnings("no value to measure", "nothing is clipped")
        known = (measured.already_told & EMPTY).astype(bool)
        same = limits[..., 0, :] == limits[..., 1, :]
        same &= ~(known if measured.pool is None else known.all(axis=0))
        if same.any():
            texts.append(
                f"both quantiles of {measured.listed(same)} are the same: all values become that "
                "one value"
            )
        numbers = np.where(np.isnan(limits), [[-np.inf], [np.inf]], limits)
        return numbers, texts + measured.value_warnings()


@dataclass(frozen=True)
class Ranges(QuantileStatistic):
    """``min`` and ``max``: the extremes of each channel, 0 and 1 where there are none."""

    number_names = ("min", "max")
    rules = (FINITE, FINITE)

    @classmethod
    def of(cls, n_channels: int) -> "Ranges":
        """The ranges of `n_channels` channels: zeros count."""
        return cls(np.repeat([[0.0], [100.0]], n_channels, axis=1), zeros=True)

    def is_constant(self, quantiles: Array) -> Array:
        """Where both extremes are the same."""
        return quantiles[:, 0] == quantiles[:, 1]

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The ranges, axes (2, c) or (fov, 2, c)."""
        ranges = measured.pooled()
        if measured.pool is not None:
            # Images without a range do not count, unless there are no others.
            constant = (measured.flags & EMPTY).astype(bool)[:, np.newaxis]
            others = mean_over_images(np.where(constant, np.nan, measured.values))
            ranges = np.where(np.isnan(others), ranges, others)
        texts = measured.empty_warnings(
            "no two different values", "the smallest is subtracted, and nothing divided"
        )
        numbers = np.where(np.isnan(ranges), [[0.0], [1.0]], ranges)
        return numbers, texts + measured.value_warnings()


@dataclass(frozen=True)
class Thresholds(QuantileStatistic):
    """``value``: the cohort's quantile of each channel, minus infinity where there is none."""

    number_names = ("value",)
    rules = (LOWEST,)

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The thresholds, axes (1, c) or (fov, 1, c)."""
        values = measured.pooled()
        texts = measured.empty_warnings("no value to measure", "nothing changes")
        return np.where(np.isnan(values), -np.inf, values), texts + measured.value_warnings()


@dataclass(frozen=True)
class SumThreshold(QuantileStatistic):
    """``threshold``: the cohort's quantile of sums over channels, 0 where there is no sum."""

    number_names = ("threshold",)
    rules = (FINITE,)
    of_sums = True

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The threshold, axes (1, 1) or (fov, 1, 1)."""
        threshold = measured.pooled()
        # What was already reported of a channel is not reported again of the sums.
        known = np.bitwise_or.reduce(measured.already_told, axis=1, keepdims=True)
        new = replace(measured, flags=measured.flags & ~known, already_told=np.zeros_like(known))
        return np.where(np.isnan(threshold), 0.0, threshold), _sum_warnings(new, threshold)


def _sum_warnings(measured: ImageValues, threshold: NumpyArray) -> list[str]:
    empty = (measured.flags[:, 0] & EMPTY).astype(bool)
    texts = []
    if empty.any() and np.isnan(threshold).all():
        texts.append("no pixel has a sum to measure: the threshold is 0")
    elif empty.any():
        names = measured.listed_images(empty)
        consequence = (
            "the threshold is 0" if measured.pool is None else "not counted in the cohort's mean"
        )
        texts.append(f"no pixel has a sum to measure in image {names}: {consequence}")
    return texts + measured.value_warnings(lambda _: "the sums over channels")
