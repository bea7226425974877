"""What a step measures of a cohort: image values, and the numbers made of them.

One object says which image values are wanted, what the cohort's numbers are, what the user is
warned of, which numbers from a file are accepted, and how numbers of more images join in.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import xarray as xr

from ..aliases import Array, DType, ImageName, Label, NumpyArray
from ..channels import CHANNEL
from ..engine import backends
from ..errors import warn
from ..images.image import processing_dtype
from ..images.image_numbers import FOV, Numbers
from ..images.image_set import ImageSet
from .image_values import COUNTS, EVERYTHING, ImageValues, flags_from, flags_of_all_pixels
from .number_rules import COUNT, FINITE_OR_NAN, Rule, check_numbers


class Measurement(NamedTuple):
    """What was found in images, NumPy or lazy.

    Attributes
    ----------
    values
        The image values, axes (fov, value, c).
    counts
        How many pixels were counted, negative, infinite; axes (fov, c) each.
    """

    values: Array
    counts: tuple[Array, ...]

    def split_off_pooled(self, n_images: int) -> "tuple[Measurement, Measurement]":
        """The rows of the images; and apart from them the last row, that of all pixels together.

        Without such a row, all rows, twice.
        """
        if len(self.values) == n_images:
            return self, self
        each, pooled = (
            Measurement(self.values[rows], tuple(count[rows] for count in self.counts))
            for rows in (slice(n_images), slice(n_images, None))
        )
        return each, pooled


class Statistic:
    """What a step measures of a cohort, whatever the pool and the masks."""

    @property
    def made_from(self) -> Mapping[str, str]:
        """By name of each number that is an intensity, the image value that it is made from.

        Such as ``{"scale": "quantile"}``: figures mark both.
        """
        return {}

    def measure(self, cohort: ImageSet, step: str) -> Numbers:
        """The numbers, and what was found in each image; `step` is what messages call the step."""
        raise NotImplementedError

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless numbers from a file are what `measure` returns."""
        raise NotImplementedError

    def recompute(
        self,
        numbers: xr.Dataset,
        already_told: NumpyArray,
        *,
        labels: Sequence[Label],
        pool: str | None,
        dtype: DType,
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers made again from the image values that `numbers` holds.

        `already_told`, axes (fov, c), are flags that the user was already warned of.
        """
        raise NotImplementedError


class ImageStatistic(Statistic):
    """For each channel one or two image values, and what is made of them.

    Subclasses name the numbers that the step applies, one for each image value, and say what they
    are.
    """

    # What the numbers are called, and what they must be, one for each image value.
    number_names: ClassVar[tuple[str, ...]]
    rules: ClassVar[tuple[Rule, ...]]
    # Whether sums over channels are measured in place of channels.
    of_sums: ClassVar[bool] = False

    @property
    def value_names(self) -> Sequence[str]:
        """What the image values are called."""
        raise NotImplementedError

    def measure_images(self, cohort: ImageSet) -> tuple[Measurement, Measurement]:
        """The image values; and those that the cohort's numbers are made of.

        The latter are the same, or a single row for the pixels of all images.
        """
        raise NotImplementedError

    def make_numbers(self, measured: ImageValues) -> tuple[NumpyArray, list[str]]:
        """The numbers, axes (value, c), with fov before them for `pool` None; texts of warnings."""
        raise NotImplementedError

    def is_constant(self, values: Array) -> Array | bool:
        """Where channels count as empty although they have values, as all of these are equal.

        `values` are those of images, axes (fov, value, c).
        """
        return False

    def measure(self, cohort: ImageSet, step: str) -> Numbers:
        """The numbers, and what was found in each image."""
        each, pooled = self.measure_images(cohort)
        flags = flags_from(*pooled.counts, constant=self.is_constant(pooled.values))
        already_told = np.broadcast_to(cohort.already_told, (len(cohort), cohort[0].sizes[CHANNEL]))
        if cohort.pool == "pixels":
            already_told = flags_of_all_pixels(already_told)
        step = f"{step} inside the mask" if cohort.is_masked else step
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        # Axes: f for fov, q for image value, c for channel. Of sums c has one item; their channels
        # are along k.
        numbers = backends.per_channel(
            partial(
                self._numbers_with_warning, step, cohort.labels, cohort.names, cohort.pool, dtype
            ),
            (pooled.values, "fqc"),
            (flags, "fc"),
            (already_told, "f" + ("k" if self.of_sums else "c")),
            dtype=np.dtype(np.float64),
            axes="fqc" if cohort.pool is None else "qc",
        )
        return self._with_found(numbers, each, cohort.pool)

    def recompute(
        self,
        numbers: xr.Dataset,
        already_told: NumpyArray,
        *,
        labels: Sequence[Label],
        pool: str | None,
        dtype: DType,
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers anew from what was found in each image."""
        fovs = numbers[FOV].values.tolist()
        values = np.stack([numbers[name].values for name in self.value_names], axis=1)
        counts = [numbers[name].values for name in COUNTS]
        if self.of_sums:
            values, *counts = (array[..., np.newaxis] for array in (values, *counts))
        flags = flags_from(*counts, constant=self.is_constant(values))
        made = self._numbers_with_warning(
            step, labels, fovs, pool, dtype, values, flags, already_told
        )
        arrays = self._by_name(self.number_names, made)
        return {name: numbers[name].variable.copy(data=array) for name, array in arrays.items()}

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless these are the numbers, and what they were made from."""
        of_images = (*self.value_names, *COUNTS)
        rules = dict(zip(self.number_names, self.rules, strict=True)) | dict.fromkeys(COUNTS, COUNT)
        rules |= dict.fromkeys(self.value_names, FINITE_OR_NAN)
        check_numbers(numbers, rules, () if self.of_sums else (CHANNEL,), pool, of_images)

    def _numbers_with_warning(
        self,
        step: str,
        labels: Sequence[Label],
        names: Sequence[ImageName],
        pool: str | None,
        dtype: DType,
        values: NumpyArray,
        flags: NumpyArray,
        already_told: NumpyArray,
    ) -> NumpyArray:
        """The numbers, after the one warning about what was found."""
        measured = ImageValues(values, flags, already_told, labels, names, pool, dtype)
        numbers, texts = self.make_numbers(measured)
        # Images that are added to a fit are measured as if all had been told: one warning follows
        # for all images together.
        if texts and (already_told != EVERYTHING).any():
            warn(f"{step}: {'; '.join(texts)}")
        return numbers

    def _by_name(self, names: Sequence[str], values: Array) -> dict[str, Array]:
        """Values with axes (..., value, c), by name; of sums without the axis of channels."""
        channels = 0 if self.of_sums else slice(None)
        return {name: values[..., index, channels] for index, name in enumerate(names)}

    def _with_found(self, numbers: Array, each: Measurement, pool: str | None) -> Numbers:
        """The numbers by name, and what was found in each image."""
        dims = () if self.of_sums else (CHANNEL,)
        of_images = (FOV, *dims)
        number_dims = of_images if pool is None else dims
        made = self._by_name(self.number_names, numbers)
        image_values = self._by_name(self.value_names, each.values)
        counts = [count[..., 0] if self.of_sums else count for count in each.counts]
        image_values |= zip(COUNTS, counts, strict=True)
        return {name: xr.Variable(number_dims, array) for name, array in made.items()} | {
            name: xr.Variable(of_images, array) for name, array in image_values.items()
        }
