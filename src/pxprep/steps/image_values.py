"""What is measured of each image: image values, counts, and flags that say what was found.

Flags are bits for each channel of an image: no value, negative ones, infinite ones. Users are
warned of each once.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..aliases import Array, DType, ImageName, Label, NumpyArray
from ..channels import CHANNEL
from ..engine.gathering import COUNT_FIELDS
from ..errors import listed
from ..images.image_numbers import Numbers

# For each image, how many values were counted, negative, infinite.
COUNTS = tuple(name for name, _ in COUNT_FIELDS)
LOWER = "quantile_low"
# What the image values are called. Images are compared by the first of these that a step has: of
# two quantiles by the upper one.
IMAGE_VALUES = ("quantile", "deviation", LOWER, "median", "mean")

# What was found in a channel of an image.
EMPTY, NEGATIVE, INFINITE = 1, 2, 4
EVERYTHING = EMPTY | NEGATIVE | INFINITE


@dataclass(frozen=True)
class ImageValues:
    """What was measured of the images of a cohort.

    Attributes
    ----------
    values
        The image values, axes (fov, value, c); one row for all images if their pixels were taken
        together.
    flags
        What was found, axes (fov, c).
    already_told
        Flags that the user was already warned of, axes (fov, c).
    labels, names
        Labels of the channels, names of the images.
    pool
        How the cohort is measured.
    dtype
        Float type in which it is processed.
    """

    values: NumpyArray
    flags: NumpyArray
    already_told: NumpyArray
    labels: Sequence[Label]
    names: Sequence[ImageName]
    pool: str | None
    dtype: DType

    def pooled(self) -> NumpyArray:
        """The values of the cohort, axes (value, c); for `pool` None those of each image."""
        return self.values if self.pool is None else mean_over_images(self.values)

    def listed(self, chosen: NumpyArray) -> str:
        """Channels in words; `chosen` is bool over (c), or (fov, c) to name the images, too."""
        if chosen.ndim == 2:
            return listed(
                [
                    f"{self.labels[c]!r} of image {self.names[f]!r}"
                    for f, c in np.argwhere(chosen).tolist()
                ]
            )
        names = [repr(self.labels[index]) for index in np.flatnonzero(chosen).tolist()]
        return f"channel{'s' if len(names) > 1 else ''} {listed(names)}"

    def listed_images(self, chosen: NumpyArray) -> str:
        """Images in words; `chosen` is bool over (fov)."""
        return listed([repr(self.names[index]) for index in np.flatnonzero(chosen).tolist()])

    def empty_warnings(self, what: str, consequence: str, remark: str = "") -> list[str]:
        """Warnings of channels that are empty, in all images or in some, if they are new."""
        empty = (self.flags & EMPTY).astype(bool)
        new = empty & ~(self.already_told & EMPTY).astype(bool)
        everywhere = empty.all(axis=0)
        texts = []
        silent = new.any(axis=0) & everywhere
        if silent.any():
            texts.append(f"{what} in {self.listed(silent)}: {consequence}{remark}")
        partly = new & ~everywhere
        if self.pool != "pixels" and partly.any():
            consequence = consequence if self.pool is None else "not counted in the cohort's mean"
            texts.append(f"{what} in {self.listed(partly)}: {consequence}")
        return texts

    def value_warnings(self, where: Callable[[NumpyArray], str] | None = None) -> list[str]:
        """Warnings of negative and infinite values; `where` says in which channels."""
        new = self.flags & ~self.already_told
        where = self.listed if where is None else where
        kinds = ((NEGATIVE, "negative", "are counted"), (INFINITE, "infinite", "count as missing"))
        return [
            f"{kind} values in {where((new & bit).any(axis=0))}: they {what}"
            for bit, kind, what in kinds
            if (new & bit).any()
        ]


def has_image_values(numbers: Numbers | xr.Dataset) -> bool:
    """Whether the image values that the numbers were made from are there, too."""
    return set(COUNTS) <= set(numbers) and not set(IMAGE_VALUES).isdisjoint(numbers)


def compared(numbers: xr.Dataset) -> xr.DataArray:
    """The values by which images are compared, from numbers of a `Statistic`."""
    return numbers[next(name for name in IMAGE_VALUES if name in numbers)]


def compared_as(numbers: xr.Dataset) -> str:
    """What the values are by which images are compared, in words."""
    if "median" in numbers:
        return "median distance"
    return "standard deviation" if "deviation" in numbers else "quantile"


def flags_of(numbers: Numbers | xr.Dataset) -> Array:
    """What was found in each channel of each image, shape (fov, c), from measured numbers."""
    # Where two quantiles are the same, all values become equal: later steps do not warn of that.
    constant = numbers[LOWER].data == numbers["quantile"].data if LOWER in numbers else False
    flags = flags_from(*(numbers[name].data for name in COUNTS), constant=constant)
    return flags if CHANNEL in numbers["counted"].dims else flags[..., np.newaxis]


def mean_over_images(values: NumpyArray) -> NumpyArray:
    """The mean over the first axis, of what is not NaN; rounded once, so that no order matters."""
    if len(values) == 1:
        return values.reshape(values.shape[1:])
    means = [_exact_mean(column) for column in values.reshape(len(values), -1).T]
    return np.array(means).reshape(values.shape[1:])


def _exact_mean(values: NumpyArray) -> float:
    values = values[~np.isnan(values)]
    return statistics.mean(values.tolist()) if values.size else np.nan


def flags_from(
    counted: Array, negative: Array, infinite: Array, *, constant: Array | bool = False
) -> Array:
    """What was found, as bits; a channel that is `constant` counts as empty."""
    empty = (counted == 0) | constant
    flags = empty * EMPTY + (negative > 0) * NEGATIVE + (infinite > 0) * INFINITE
    return flags.astype(np.uint8)


def flags_of_all_pixels(flags: Array) -> Array:
    """What was found in all images together: empty where all are, the rest where any is."""
    of_all: Array = ((flags & EMPTY) > 0).all(axis=0, keepdims=True) * np.uint8(EMPTY)
    for bit in (NEGATIVE, INFINITE):
        of_all = of_all | ((flags & bit) > 0).any(axis=0, keepdims=True) * np.uint8(bit)
    return of_all
