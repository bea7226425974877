"""Quantiles of each image: what statistics of them have in common, and those that are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..aliases import Array, NumpyArray
from ..channels import CHANNEL, as_coordinate
from ..engine import backends
from ..engine.programs import AddChannels
from ..engine.quantiles import exact_quantiles
from ..errors import ParameterError
from ..images.image import pixels, processing_dtype
from ..images.image_numbers import FOV
from ..images.image_set import ImageSet
from .image_values import LOWER, mean_over_images
from .statistic_base import ImageStatistic, Measurement


@dataclass(frozen=True)
class QuantileStatistic(ImageStatistic):
    """For each channel one or two quantiles, and what is made of them.

    Subclasses name the numbers that the step applies, one for each quantile, and say what they are.

    Parameters
    ----------
    percents
        Percent, axes (quantile, c).
    zeros
        Whether zeros are counted.
    """

    percents: NumpyArray
    zeros: bool = False

    @property
    def made_from(self) -> Mapping[str, str]:
        """Such as ``{"low": "quantile_low", "high": "quantile"}``, or ``{"scale": "quantile"}``."""
        return {} if self.of_sums else dict(zip(self.number_names, self.value_names, strict=True))

    @property
    def value_names(self) -> list[str]:
        """What the quantiles of each image are called, the lower one first."""
        return [LOWER, "quantile"][-len(self.number_names) :]

    def measure_images(self, cohort: ImageSet) -> tuple[Measurement, Measurement]:
        """The quantiles."""
        arrays, areas = self._arrays(cohort), cohort.areas
        groups = [[index] for index in range(len(arrays))]
        if cohort.pool == "pixels" and len(arrays) > 1:
            if len({array.dtype for array in arrays}) > 1:
                # First each in the type in which it is processed: large integers are rounded.
                types = [processing_dtype(image) for image in cohort]
                common, pairs = np.result_type(*types), zip(arrays, types, strict=True)
                arrays = [array.astype(dtype).astype(common) for array, dtype in pairs]
            groups.append(list(range(len(arrays))))
        evaluate, zeros = cohort.evaluate, self.zeros
        values, *counts = exact_quantiles(
            arrays, self.percents, groups, zeros=zeros, evaluate=evaluate, areas=areas
        )
        return Measurement(values, tuple(counts)).split_off_pooled(len(arrays))

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless these are the numbers, and what they were made from."""
        super().check(numbers, pool)
        if len(self.number_names) == 2:
            low, high = self.number_names
            if (numbers[low] > numbers[high]).any():
                raise ParameterError(f"{low} must not be above {high}")

    def _arrays(self, cohort: ImageSet) -> list[Array]:
        """What is measured of each image."""
        if not self.of_sums:
            return cohort.arrays
        if not cohort.is_lazy:
            chains = cohort.chains or cohort.chained().chains
            return [chain.then(AddChannels()) for chain in chains]
        return [backends.apply(pixels(image), AddChannels()) for image in cohort]


def cohort_quantiles(cohort: ImageSet, q: NumpyArray, *, zeros: str) -> xr.DataArray:
    """Quantile `q`, shape (c,), of the cohort.

    It has the dims (c), or (fov, c) for several images with ``pool=None``.
    """
    each, pooled = QuantileStatistic(q[np.newaxis], zeros == "include").measure_images(cohort)
    labeled = CHANNEL in cohort[0].coords
    coords: dict[str, object] = {CHANNEL: cohort[0].coords[CHANNEL]} if labeled else {}
    if cohort.pool is None and not cohort.is_one:
        coords[FOV] = as_coordinate(cohort.names)
        return xr.DataArray(each.values[:, 0], dims=(FOV, CHANNEL), coords=coords, name="quantile")
    values = backends.per_channel(
        mean_over_images, (pooled.values[:, 0], "fc"), dtype=np.dtype(np.float64)
    )
    return xr.DataArray(values, dims=(CHANNEL,), coords=coords, name="quantile")
