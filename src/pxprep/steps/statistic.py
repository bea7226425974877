"""What a step measures of a cohort: values of each image, and the numbers made of them.

One object says which values are wanted, what the cohort's numbers are, what is said of it, which
numbers from a file it accepts, and how numbers of more images join in.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr

from ..aliases import Array, Block, DType, Label
from ..channels import CHANNEL
from ..engine import backends
from ..errors import ParameterError, listed, warn
from ..images.cohort import BATCH, FOV, ImageSet
from ..images.image import processing_dtype

# The variables that say what numbers were made from: how many values of each image were counted,
# negative, infinite; and which of the others are of each image. By the first of these that is there
# images are compared: of two quantiles the upper one.
COUNTS = ("counted", "negative", "infinite")
LOWER = "quantile_low"
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
class Measured:
    """What was measured of the images of a cohort.

    Attributes
    ----------
    values
        Axes (fov, value, c); one row for all images if their pixels were taken together.
    flags
        What was found, axes (fov, c).
    known
        What has been said of that before, axes (fov, c).
    labels, names
        Of the channels, and of the images.
    pool
        How the cohort is measured.
    dtype
        Float type in which it is processed.
    """

    values: Block
    flags: Block
    known: Block
    labels: Sequence[Label]
    names: Sequence[Label]
    pool: str | None
    dtype: DType

    def mean(self) -> Block:
        """The values as they are pooled: axes (value, c), or all for `pool` None."""
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

    def notes_on_empty(self, what: str, consequence: str, remark: str = "") -> list[str]:
        """What to say of channels that are empty, in all images or in some, and not known to be."""
        empty = (self.flags & EMPTY).astype(bool)
        new = empty & ~(self.known & EMPTY).astype(bool)
        everywhere = empty.all(axis=0)
        notes = []
        silent = new.any(axis=0) & everywhere
        if silent.any():
            notes.append(f"{what} in {self.listed(silent)}: {consequence}{remark}")
        partly = new & ~everywhere
        if self.pool != "pixels" and partly.any():
            consequence = consequence if self.pool is None else "not counted in the cohort's mean"
            notes.append(f"{what} in {self.listed(partly)}: {consequence}")
        return notes

    def notes_on_values(self, where: Callable[[Block], str] | None = None) -> list[str]:
        """What to say of negative and infinite values; `where` says in which channels."""
        new = self.flags & ~self.known
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

    def parted(self, n_images: int) -> "tuple[Measurement, Measurement]":
        """That of each image, and the row of all together, if that is behind them; or the same."""
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
        """For each number that is a value of a channel, that of an image which it is made from.

        Figures mark both.
        """
        return {}

    def measure(self, cohort: ImageSet, step: str) -> xr.Dataset:
        """The numbers, and what was found in each image; `step` is what messages call the step."""
        raise NotImplementedError

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless numbers from a file are what `measure` returns."""
        raise NotImplementedError

    def again(
        self,
        numbers: xr.Dataset,
        known: Block,
        labels: Sequence[Label],
        pool: str | None,
        dtype: DType,
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers anew from what was found in each image, which `numbers` has.

        Of that, `known` (fov, c) has been said before; the other parameters are the cohort's.
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

    def look(self, cohort: ImageSet) -> tuple[Measurement, Measurement]:
        """What is found in each image, and what the cohort's numbers are made of.

        The latter is the same, or a single row of all images' pixels.
        """
        raise NotImplementedError

    def settle(self, measured: Measured) -> tuple[Block, list[str]]:
        """The numbers, axes (value, c), with fov before them for `pool` None; what to say."""
        raise NotImplementedError

    def is_constant(self, values: Array) -> Array | bool:
        """Where nothing can be made of values, axes (fov, value, c), as if all were empty."""
        return False

    def measure(self, cohort: ImageSet, step: str) -> xr.Dataset:
        """The numbers, and what was found in each image."""
        each, pooled = self.look(cohort)
        flags = _flags(*pooled.counts, constant=self.is_constant(pooled.values))
        known = np.broadcast_to(cohort.found, (len(cohort), cohort[0].sizes[CHANNEL]))
        if cohort.pool == "pixels":
            known = _of_all_pixels(known)
        step = f"{step} inside the mask" if cohort.is_masked else step
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        numbers = backends.per_channel(
            partial(self._settled, step, cohort.labels, cohort.names, cohort.pool, dtype),
            (pooled.values, "fqc"),
            (flags, "fc"),
            (known, "f" + ("k" if self.of_sums else "c")),
            dtype=np.dtype(np.float64),
            axes="fqc" if cohort.pool is None else "qc",
        )
        return self._dataset(cohort, each, numbers)

    def again(
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
        found = self._settled(step, labels, fovs, pool, dtype, values, flags, known)
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

    def _settled(
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
        measured = Measured(values, flags, known, labels, names, pool, dtype)
        numbers, notes = self.settle(measured)
        # Not of images that are measured for others to join them: it is said of all together.
        if notes and (known != EVERYTHING).any():
            warn(f"{step}: {'; '.join(notes)}")
        return numbers

    def _of(self, numbers: Array, index: int) -> Array:
        """One of the numbers; of sums the one that there is, without an axis of channels."""
        own = numbers[..., index, :]
        return own[..., 0] if self.of_sums else own

    def _dataset(self, cohort: ImageSet, each: Measurement, numbers: Array) -> xr.Dataset:
        """The numbers, and what was found in each image, with the names of the images."""
        dims = () if self.of_sums else (CHANNEL,)
        pooled = (FOV, *dims) if cohort.pool is None else dims
        values = {name: (pooled, self._of(numbers, n)) for n, name in enumerate(self.names)}
        found = {
            name: ((FOV, *dims), self._of(each.values, n)) for n, name in enumerate(self.variables)
        }
        counts = {
            name: ((FOV, *dims), array[..., 0] if self.of_sums else array)
            for name, array in zip(COUNTS, each.counts, strict=True)
        }
        # An index for the name of one image would take a third of the time.
        names = {FOV: as_coordinate(cohort.names)} if len(cohort) > 1 else None
        return xr.Dataset({**values, **found, **counts}, coords=names)


def are_of_images(numbers: xr.Dataset) -> bool:
    """Whether numbers are those of a `Statistic`, beside what they were made from."""
    return set(COUNTS) <= set(numbers) and not set(OF_IMAGES).isdisjoint(numbers)


def compared(numbers: xr.Dataset) -> xr.DataArray:
    """By what images are compared, of numbers of a `Statistic`."""
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
    """Raise ParameterError unless numbers from a file are those that rules name, and keep them.

    Parameters
    ----------
    numbers
        What was read.
    rules
        What each of the numbers must be.
    dims
        Those of the numbers of one image.
    pool
        For None all differ between images.
    of_images
        Which numbers do so always.
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
    """What was found, as bits; what is constant is as good as empty."""
    empty = (counted == 0) | constant
    flags = empty * EMPTY + (negative > 0) * NEGATIVE + (infinite > 0) * INFINITE
    return flags.astype(np.uint8)


def _of_all_pixels(flags: Array) -> Array:
    """What was found in all images together: empty where all are, the rest where any is."""
    empty: Array = ((flags & EMPTY) > 0).all(axis=0, keepdims=True) * np.uint8(EMPTY)
    for bit in (NEGATIVE, INFINITE):
        empty = empty | ((flags & bit) > 0).any(axis=0, keepdims=True) * np.uint8(bit)
    return empty


def labeled_numbers(
    arrays: Mapping[Any, xr.DataArray],
    channels: Sequence[Label] | None,
    fovs: Sequence[Label],
    batches: Iterable[Label] = (),
) -> xr.Dataset:
    """A dataset of numbers with the labels of the channels, if any, the images and the batches."""
    numbers = xr.Dataset(dict(arrays))
    labels = {FOV: fovs, BATCH: list(batches)}
    labels |= {} if channels is None else {CHANNEL: channels}
    return numbers.assign_coords(
        {dim: as_coordinate(labels[dim]) for dim in labels if dim in numbers.dims}
    )


def as_coordinate(labels: Sequence[Label]) -> Any:
    """Labels as an array that keeps each one's type."""
    types = {type(label) for label in labels}
    if len(types) == 1 and types <= {str, int, float}:
        return np.array(labels)
    array = np.empty(len(labels), object)
    array[:] = labels
    return array
