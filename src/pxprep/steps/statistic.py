"""What a step measures of a cohort: values of each image, and the numbers made of them.

One object says which values are wanted, what the cohort's numbers are, what is said of it, which
numbers from a file it accepts, and how numbers of more images join in.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import xarray as xr

from ..aliases import Array, Block, DType, Label
from ..channels import CHANNEL
from ..engine import backends
from ..errors import ParameterError, listed, warn
from ..images.image import processing_dtype
from ..images.image_numbers import FOV, as_coordinate
from ..images.image_set import ImageSet

# For each image, how many values were counted, negative, infinite.
COUNTS = ("counted", "negative", "infinite")
LOWER = "quantile_low"
# The other variables with a value for each image. Images are compared by the first of these that a
# step has; of two quantiles that is the upper one.
OF_IMAGES = ("quantile", "deviation", LOWER, "median", "mean")

# What was found in a channel of an image.
EMPTY, NEGATIVE, INFINITE = 1, 2, 4
EVERYTHING = EMPTY | NEGATIVE | INFINITE


class Rule(NamedTuple):
    """What a number must be, in words, and where it is so."""

    what: str
    holds: Callable[[Block], Block]


FINITE = Rule("finite", np.isfinite)
FINITE_OR_NAN = Rule("finite or NaN", lambda values: ~np.isinf(values))
COUNT = Rule("at least 0", lambda values: values >= 0)


@dataclass(frozen=True)
class ImageValues:
    """What was measured of the images of a cohort.

    Attributes
    ----------
    values
        Axes (fov, value, c); one row for all images if their pixels were taken together.
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

    values: Block
    flags: Block
    already_told: Block
    labels: Sequence[Label]
    names: Sequence[Label]
    pool: str | None
    dtype: DType

    def pooled(self) -> Block:
        """The values of the cohort, axes (value, c); for `pool` None those of each image."""
        return self.values if self.pool is None else mean_over_images(self.values)

    def listed(self, chosen: Block) -> str:
        """Chosen channels in words, (c), or (fov, c) of which images."""
        if chosen.ndim == 2:
            return listed(
                [
                    f"{self.labels[c]!r} of image {self.names[f]!r}"
                    for f, c in np.argwhere(chosen).tolist()
                ]
            )
        names = [repr(self.labels[index]) for index in np.flatnonzero(chosen).tolist()]
        return f"channel{'s' if len(names) > 1 else ''} {listed(names)}"

    def listed_images(self, chosen: Block) -> str:
        """Chosen images in words, (fov)."""
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

    def value_warnings(self, where: Callable[[Block], str] | None = None) -> list[str]:
        """Warnings of negative and infinite values; `where` says in which channels."""
        new = self.flags & ~self.already_told
        where = self.listed if where is None else where
        told = ((NEGATIVE, "negative", "are counted"), (INFINITE, "infinite", "count as missing"))
        return [
            f"{kind} values in {where((new & bit).any(axis=0))}: they {what}"
            for bit, kind, what in told
            if (new & bit).any()
        ]


class Measurement(NamedTuple):
    """What was found in images, NumPy or lazy.

    Attributes
    ----------
    values
        Axes (fov, value, c).
    counts
        How many pixels were counted, negative, infinite; axes (fov, c) each.
    """

    values: Array
    counts: tuple[Array, ...]

    def split_off_pooled(self, n_images: int) -> "tuple[Measurement, Measurement]":
        """The rows of the images, and the last row, of all pixels; twice all if there is none."""
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
        """For numbers that are intensities, the values of images that they are made from, by name.

        Such as ``{"scale": "quantile"}``: figures mark both.
        """
        return {}

    def measure(self, cohort: ImageSet, step: str) -> xr.Dataset:
        """The numbers, and what was found in each image; `step` is what messages call the step."""
        raise NotImplementedError

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless numbers from a file are what `measure` returns."""
        raise NotImplementedError

    def recompute(
        self,
        numbers: xr.Dataset,
        known: Block,
        labels: Sequence[Label],
        pool: str | None,
        dtype: DType,
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers made again from the values of each image that `numbers` holds.

        `known`, axes (fov, c), are flags that the user was already warned of.
        """
        raise NotImplementedError


class ImageStatistic(Statistic):
    """For each channel one or two values of each image, and what is made of them.

    Subclasses name the numbers that the step applies, one for each value, and say what they are.
    """

    # What the numbers are called, and what they must be, one for each value.
    names: ClassVar[tuple[str, ...]]
    rules: ClassVar[tuple[Rule, ...]]
    # Whether sums over channels are measured in place of channels.
    of_sums: ClassVar[bool] = False

    @property
    def variables(self) -> Sequence[str]:
        """What the values of each image are called."""
        raise NotImplementedError

    def measure_images(self, cohort: ImageSet) -> tuple[Measurement, Measurement]:
        """The values of each image; and those that the cohort's numbers are made of.

        The latter are the same, or a single row for the pixels of all images.
        """
        raise NotImplementedError

    def make_numbers(self, measured: ImageValues) -> tuple[Block, list[str]]:
        """The numbers, axes (value, c), with fov before them for `pool` None; texts of warnings."""
        raise NotImplementedError

    def is_constant(self, values: Array) -> Array | bool:
        """Where nothing can be made of values, axes (fov, value, c), as if all were empty."""
        return False

    def measure(self, cohort: ImageSet, step: str) -> xr.Dataset:
        """The numbers, and what was found in each image."""
        each, pooled = self.measure_images(cohort)
        flags = _flags(*pooled.counts, constant=self.is_constant(pooled.values))
        known = np.broadcast_to(cohort.already_told, (len(cohort), cohort[0].sizes[CHANNEL]))
        if cohort.pool == "pixels":
            known = _of_all_pixels(known)
        step = f"{step} inside the mask" if cohort.is_masked else step
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        numbers = backends.per_channel(
            partial(
                self._numbers_with_warning, step, cohort.labels, cohort.names, cohort.pool, dtype
            ),
            (pooled.values, "fqc"),
            (flags, "fc"),
            (known, "f" + ("k" if self.of_sums else "c")),
            dtype=np.dtype(np.float64),
            axes="fqc" if cohort.pool is None else "qc",
        )
        return self._dataset(cohort, each, numbers)

    def recompute(
        self,
        numbers: xr.Dataset,
        known: Block,
        labels: Sequence[Label],
        pool: str | None,
        dtype: DType,
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers anew from what was found in each image."""
        fovs = numbers[FOV].values.tolist()
        values = np.stack([numbers[name].values for name in self.variables], axis=1)
        counts = [numbers[name].values for name in COUNTS]
        if self.of_sums:
            values, *counts = (array[..., np.newaxis] for array in (values, *counts))
        flags = _flags(*counts, constant=self.is_constant(values))
        found = self._numbers_with_warning(step, labels, fovs, pool, dtype, values, flags, known)
        return {
            name: numbers[name].variable.copy(data=self._of(found, index))
            for index, name in enumerate(self.names)
        }

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless these are the numbers, and what they were made from."""
        details = (*self.variables, *COUNTS)
        rules = dict(zip(self.names, self.rules, strict=True)) | dict.fromkeys(COUNTS, COUNT)
        rules |= dict.fromkeys(self.variables, FINITE_OR_NAN)
        check_numbers(numbers, rules, () if self.of_sums else (CHANNEL,), pool, details)

    def _numbers_with_warning(
        self,
        step: str,
        labels: Sequence[Label],
        names: Sequence[Label],
        pool: str | None,
        dtype: DType,
        values: Block,
        flags: Block,
        known: Block,
    ) -> Block:
        """The numbers, after the one warning about what was found."""
        measured = ImageValues(values, flags, known, labels, names, pool, dtype)
        numbers, texts = self.make_numbers(measured)
        # Images that are added to a fit are measured with all flags known: one warning follows for
        # all images together.
        if texts and (known != EVERYTHING).any():
            warn(f"{step}: {'; '.join(texts)}")
        return numbers

    def _of(self, numbers: Array, index: int) -> Array:
        """One of the numbers; of sums the one that there is, without an axis of channels."""
        own = numbers[..., index, :]
        return own[..., 0] if self.of_sums else own

    def _dataset(self, cohort: ImageSet, each: Measurement, numbers: Array) -> xr.Dataset:
        """The numbers, and what was found in each image, with the names of the images."""
        dims = () if self.of_sums else (CHANNEL,)
        own_dims = (FOV, *dims) if cohort.pool is None else dims
        values = {name: (own_dims, self._of(numbers, n)) for n, name in enumerate(self.names)}
        found = {
            name: ((FOV, *dims), self._of(each.values, n)) for n, name in enumerate(self.variables)
        }
        counts = {
            name: ((FOV, *dims), array[..., 0] if self.of_sums else array)
            for name, array in zip(COUNTS, each.counts, strict=True)
        }
        # An index for the name of a single image would take a third of the time of it all.
        names = {FOV: as_coordinate(cohort.names)} if len(cohort) > 1 else None
        return xr.Dataset({**values, **found, **counts}, coords=names)


def has_image_values(numbers: xr.Dataset) -> bool:
    """Whether the dataset also holds the values of each image that its numbers were made from."""
    return set(COUNTS) <= set(numbers) and not set(OF_IMAGES).isdisjoint(numbers)


def compared(numbers: xr.Dataset) -> xr.DataArray:
    """The values by which images are compared, from numbers of a `Statistic`."""
    return numbers[next(name for name in OF_IMAGES if name in numbers)]


def findings(numbers: xr.Dataset) -> Array:
    """What was found in each channel of each image, shape (fov, c), from measured numbers."""
    # Where two quantiles are the same, nothing is left to measure.
    constant = numbers[LOWER].data == numbers["quantile"].data if LOWER in numbers else False
    flags = _flags(*(numbers[name].data for name in COUNTS), constant=constant)
    return flags if CHANNEL in numbers["counted"].dims else flags[..., np.newaxis]


def check_numbers(
    numbers: xr.Dataset,
    rules: Mapping[str, Rule],
    dims: tuple[str, ...],
    pool: str | None = "mean",
    of_images: Sequence[str] = (),
) -> None:
    """Raise ParameterError unless numbers from a file have the names in `rules`, and obey them.

    Parameters
    ----------
    numbers
        What was read.
    rules
        What each of the numbers must be.
    dims
        Those of the numbers of one image.
    pool
        If None, every number has the dim fov.
    of_images
        Numbers that always have it.
    """
    if set(numbers) != set(rules):
        raise ParameterError(f"they must be {sorted(rules)}, got {sorted(map(str, numbers))}")
    for name, rule in rules.items():
        array = numbers[name]
        expected = (FOV, *dims) if name in of_images or pool is None else dims
        kinds = "iu" if rule is COUNT else "f"
        if array.dims != expected or array.dtype.kind not in kinds:
            raise ParameterError(
                f"{name} must be {'whole numbers' if kinds == 'iu' else 'floats'} over "
                f"{expected}, got {array.dtype} over {array.dims}"
            )
        if not rule.holds(array.values).all():
            raise ParameterError(f"{name} must be {rule.what}, got {array.values.ravel()!r:.200}")


def mean_over_images(values: Block) -> Block:
    """The mean over the first axis, of what is not NaN; rounded once, so that no order matters."""
    means = [_exact_mean(column) for column in values.reshape(len(values), -1).T]
    return np.array(means).reshape(values.shape[1:])


def _exact_mean(values: Block) -> float:
    values = values[~np.isnan(values)]
    return statistics.mean(values.tolist()) if values.size else np.nan


def _flags(
    counted: Array, negative: Array, infinite: Array, *, constant: Array | bool = False
) -> Array:
    """What was found, as bits; a channel with one value only counts as empty."""
    empty = (counted == 0) | constant
    flags = empty * EMPTY + (negative > 0) * NEGATIVE + (infinite > 0) * INFINITE
    return flags.astype(np.uint8)


def _of_all_pixels(flags: Array) -> Array:
    """What was found in all images together: empty where all are, the rest where any is."""
    of_all: Array = ((flags & EMPTY) > 0).all(axis=0, keepdims=True) * np.uint8(EMPTY)
    for bit in (NEGATIVE, INFINITE):
        of_all = of_all | ((flags & bit) > 0).any(axis=0, keepdims=True) * np.uint8(bit)
    return of_all
