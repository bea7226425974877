"""How far images are from each other: who comes first, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..aliases import ImageName, Label, NumpyArray
from ..channels import CHANNEL
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.review import either_way, ratios_in_batches
from ..plot.cohort_quantiles import SUMS, measuring_steps, values_of_images
from ..steps.image_values import compared

if TYPE_CHECKING:
    from pandas import DataFrame

# Names of what shows nuclei.
NUCLEI = re.compile("dapi|hoechst|dna|histone", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Distances:
    """The quantiles of each image of a cohort over the median of all.

    Attributes
    ----------
    fitted
        The pipeline that was fitted to the cohort.
    ratios
        By step, axes (fov, c), of the channels that it sees; one column for the steps in `of_sums`.
        0 where there is no signal, or below 0; NaN where the median is 0.
    of_sums
        The steps that measured sums over channels.
    outliers
        What `FittedPipeline.outliers` gives.
    """

    fitted: FittedPipeline
    ratios: dict[str, NumpyArray]
    of_sums: frozenset[str]
    outliers: DataFrame

    @classmethod
    def of(cls, fitted: FittedPipeline) -> Distances:
        """The distances of a fitted cohort."""
        steps = measuring_steps(fitted)
        ratios = {
            step: ratios_in_batches(values_of_images(fitted, step), fitted.fovs, fitted.batches)
            for step in steps
        }
        of_sums = {step for step in steps if CHANNEL not in compared(fitted.measured[step]).dims}
        return cls(fitted, ratios, frozenset(of_sums), fitted.outliers())

    def columns(self, step: str) -> list[str]:
        """The titles of the columns of a step's ratios."""
        return [SUMS] if step in self.of_sums else [*map(str, self.fitted.seen_by[step])]

    def reasons(self, name: ImageName) -> dict[Label | None, str]:
        """By channel, None for sums, why an image is an outlier in it; the farthest first."""
        return self._reasons.get(name, {})

    @cached_property
    def _reasons(self) -> dict[ImageName, dict[Label | None, str]]:
        """By image, in the order of the outliers."""
        reasons: dict[ImageName, dict[Label | None, str]] = {}
        for row in self.outliers.itertuples():
            reasons.setdefault(row.fov, {}).setdefault(row.channel, row.reason)
        return reasons

    def of_channels(self, name: ImageName) -> NumpyArray:
        """How far each channel of an image is from the median: a ratio of at least 1, or NaN."""
        labels, fovs = self.fitted.labels, self.fitted.fovs
        farthest = np.full(len(labels), np.nan)
        if name not in fovs:
            return farthest
        row = fovs.index(name)
        for step, ratios in self.ratios.items():
            if step not in self.of_sums:
                places = [labels.index(label) for label in self.fitted.seen_by[step]]
                farthest[places] = np.fmax(farthest[places], either_way(ratios[row]))
        return farthest

    def sorted(self, names: Sequence[ImageName]) -> list[ImageName]:
        """Names of images, outliers first, and the farther ones before the nearer."""
        ranks = {name: rank for rank, name in enumerate(self._reasons)}
        far = {name: np.fmax.reduce(self.of_channels(name), initial=0) for name in names}
        return sorted(names, key=lambda name: (ranks.get(name, len(ranks)), -far[name]))

    def telling_channels(self, most: int) -> list[Label]:
        """The channels that show best what images are: nuclei, then those with outliers first."""
        remaining = self.fitted.remaining
        nuclei = [label for label in remaining if NUCLEI.search(str(label))][:1]
        far = [channel for channel in self.outliers["channel"] if channel in remaining]
        return list(dict.fromkeys([*nuclei, *far, *remaining]))[:most]

    def headline(self, name: ImageName) -> str:
        """In which channel an image is farthest off, and how far."""
        reasons = self.reasons(name)
        if reasons:
            channel, reason = next(iter(reasons.items()))
            return f"{SUMS if channel is None else channel}: {reason}"
        far = self.of_channels(name)
        if len(self.fitted.fovs) < 2 or np.isnan(far).all():
            return ""
        channel = self.fitted.labels[int(np.nanargmax(far))]
        if np.isinf(np.nanmax(far)):
            return f"no signal, or below 0, in {channel}"
        return f"at most {np.nanmax(far):.2g} times off, in {channel}"
