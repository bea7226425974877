"""What a step measures of a cohort: quantiles of each image, and the numbers made of them.

One object says which quantiles are wanted, what the cohort's numbers are, what is said of it, which
numbers from a file it accepts, and how numbers of more images join in.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr

from ..aliases import Array, Block, Label
from ..channels import CHANNEL
from ..engine import backends
from ..engine.programs import AddChannels
from ..engine.quantiles import exact_quantiles
from ..engine.selection import Quantiles
from ..errors import ParameterError, warn
from ..images.cohort import FOV, ImageSet
from ..images.image import pixels, processing_dtype

# The variables that say what numbers were made from: of each image the quantile (of two, the upper
# one; the lower one is beside them), and how many values were counted, negative, infinite.
DETAILS = ("quantile", "counted", "negative", "infinite")
LOWER = "quantile_low"

# What was found in a channel of an image.
EMPTY, NEGATIVE, INFINITE = 1, 2, 4
EVERYTHING = EMPTY | NEGATIVE | INFINITE
# How many names a message lists.
MOST_LISTED = 40


class Rule(NamedTuple):
    """What a number must be, in words, and where it is so."""

    what: str
    holds: Callable[[Block], Block]


FINITE = Rule("finite", np.isfinite)
QUANTILE = Rule("finite or NaN", lambda values: ~np.isinf(values))
COUNT = Rule("at least 0", lambda values: values >= 0)


@dataclass(frozen=True)
class Measured:
    """What was measured of the images of a cohort.

    Attributes
    ----------
    quantiles
        Axes (fov, quantile, c); one row for all images if their pixels were taken together.
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

    quantiles: Block
    flags: Block
    known: Block
    labels: Sequence[Label]
    names: Sequence[Label]
    pool: str | None
    dtype: np.dtype[Any]

    def mean(self) -> Block:
        """The quantiles as they are pooled: axes (quantile, c), or all for `pool` None."""
        return self.quantiles if self.pool is None else mean_over_images(self.quantiles)

    def listed(self, chosen: Block) -> str:
        """Chosen channels in words, (c), or (fov, c) of which images."""
        if chosen.ndim == 2:
            return _some(
                [
                    f"{self.labels[c]!r} of image {self.names[f]!r}"
                    for f, c in np.argwhere(chosen).tolist()
                ]
            )
        names = [repr(self.labels[index]) for index in np.flatnonzero(chosen).tolist()]
        return f"channel{'s' if len(names) > 1 else ''} {_some(names)}"

    def listed_images(self, chosen: Block) -> str:
        """Chosen images in words, (fov)."""
        return _some([repr(self.names[index]) for index in np.flatnonzero(chosen).tolist()])

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


class Statistic:
    """What a step measures of a cohort, whatever the pool and the masks."""

    @property
    def made_from(self) -> Mapping[str, str]:
        """For each number that is a value of a channel, the quantile of an image it is made from.

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
        dtype: np.dtype[Any],
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers anew from what was found in each image, which `numbers` has.

        Of that, `known` (fov, c) has been said before; the other parameters are the cohort's.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class QuantileStatistic(Statistic):
    """For each channel one or two quantiles, and what is made of them.

    Subclasses name the numbers that the step applies, one for each quantile, and say what they are.

    Parameters
    ----------
    percents
        Percent, axes (quantile, c).
    zeros
        Whether zeros are counted.
    """

    percents: Block
    zeros: bool = False

    # What the numbers are called, and what they must be, one for each quantile.
    names: ClassVar[tuple[str, ...]]
    rules: ClassVar[tuple[Rule, ...]]
    # Whether sums over channels are measured in place of channels.
    of_sums: ClassVar[bool] = False

    def settle(self, measured: Measured) -> tuple[Block, list[str]]:
        """The numbers, axes (quantile, c), with fov before them for `pool` None; what to say."""
        raise NotImplementedError

    @property
    def made_from(self) -> Mapping[str, str]:
        """The lower quantile for the lower number, the upper one for the upper or only one."""
        return {} if self.of_sums else dict(zip(self.names, self.variables, strict=True))

    @property
    def variables(self) -> list[str]:
        """What the quantiles of each image are called, the lower one first."""
        return [LOWER, "quantile"][-len(self.names) :]

    def is_constant(self, quantiles: Array) -> Array | bool:
        """Where nothing can be made of quantiles, axes (fov, quantile, c), as if all were empty."""
        return False

    def measure(self, cohort: ImageSet, step: str) -> xr.Dataset:
        """The numbers, and what was found in each image."""
        each, pooled = _measured(cohort, self._arrays(cohort), self.percents, self.zeros)
        flags = _flags(
            pooled.counted,
            pooled.negative,
            pooled.infinite,
            constant=self.is_constant(pooled.value),
        )
        known = np.broadcast_to(cohort.found, (len(cohort), cohort[0].sizes[CHANNEL]))
        if cohort.pool == "pixels":
            known = _of_all_pixels(known)
        step = f"{step} inside the mask" if cohort.is_masked else step
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        numbers = backends.per_channel(
            partial(self._settled, step, cohort.labels, cohort.names, cohort.pool, dtype),
            (pooled.value, "fqc"),
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
        dtype: np.dtype[Any],
        step: str,
    ) -> dict[str, xr.Variable]:
        """The numbers anew from what was found in each image."""
        fovs = numbers[FOV].values.tolist()
        quantiles = np.stack([numbers[name].values for name in self.variables], axis=1)
        counts = [numbers[name].values for name in DETAILS[1:]]
        if self.of_sums:
            quantiles, *counts = (array[..., np.newaxis] for array in (quantiles, *counts))
        flags = _flags(*counts, constant=self.is_constant(quantiles))
        found = self._settled(step, labels, fovs, pool, dtype, quantiles, flags, known)
        return {
            name: numbers[name].variable.copy(data=self._of(found, index))
            for index, name in enumerate(self.names)
        }

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless these are the numbers, and what they were made from."""
        details = (*DETAILS, LOWER) if len(self.names) == 2 else DETAILS
        rules = dict(zip(self.names, self.rules, strict=True)) | dict.fromkeys(details, COUNT)
        rules |= {name: QUANTILE for name in ("quantile", LOWER) if name in details}
        check_numbers(numbers, rules, () if self.of_sums else (CHANNEL,), pool, details)
        if len(self.names) == 2:
            low, high = self.names
            if (numbers[low] > numbers[high]).any():
                raise ParameterError(f"{low} must not be above {high}")

    def _arrays(self, cohort: ImageSet) -> list[Any]:
        """What is measured of each image."""
        if not self.of_sums:
            return cohort.arrays
        if not cohort.is_lazy:
            chains = cohort.chains or cohort.chained().chains
            return [chain.then(AddChannels()) for chain in chains]
        return [
            backends.apply(pixels(image), AddChannels(), dtype=processing_dtype(image))
            for image in cohort
        ]

    def _settled(
        self,
        step: str,
        labels: Sequence[Label],
        names: Sequence[Label],
        pool: str | None,
        dtype: np.dtype[Any],
        quantiles: Block,
        flags: Block,
        known: Block,
    ) -> Block:
        """The numbers, after the one warning about what was found."""
        measured = Measured(quantiles, flags, known, labels, names, pool, dtype)
        numbers, notes = self.settle(measured)
        # Not of images that are measured for others to join them: it is said of all together.
        if notes and (known != EVERYTHING).any():
            warn(f"{step}: {'; '.join(notes)}")
        return numbers

    def _of(self, numbers: Array, index: int) -> Array:
        """One of the numbers; of sums the one that there is, without an axis of channels."""
        own = numbers[..., index, :]
        return own[..., 0] if self.of_sums else own

    def _dataset(self, cohort: ImageSet, each: Quantiles, numbers: Array) -> xr.Dataset:
        """The numbers, and what was found in each image, with the names of the images."""
        dims = () if self.of_sums else (CHANNEL,)
        pooled = (FOV, *dims) if cohort.pool is None else dims
        values = {name: (pooled, self._of(numbers, n)) for n, name in enumerate(self.names)}
        found = {
            name: ((FOV, *dims), self._of(each.value, n)) for n, name in enumerate(self.variables)
        }
        counts = {
            name: ((FOV, *dims), array[..., 0] if self.of_sums else array)
            for name, array in zip(DETAILS[1:], each[1:], strict=True)
        }
        # An index for the name of one image would take a third of the time.
        names = {FOV: as_coordinate(cohort.names)} if len(cohort) > 1 else None
        return xr.Dataset({**values, **found, **counts}, coords=names)


def cohort_quantiles(cohort: ImageSet, q: Block, *, zeros: str) -> xr.DataArray:
    """Quantile `q`, shape (c,), of the cohort: (c), or (fov, c) for several with ``pool=None``."""
    each, pooled = _measured(cohort, cohort.arrays, q, zeros == "include")
    labeled = CHANNEL in cohort[0].coords
    coords: dict[str, Any] = {CHANNEL: cohort[0].coords[CHANNEL]} if labeled else {}
    if cohort.pool is None and not cohort.is_one:
        coords[FOV] = as_coordinate(cohort.names)
        return xr.DataArray(each.value, dims=(FOV, CHANNEL), coords=coords, name="quantile")
    values = backends.per_channel(
        mean_over_images, (pooled.value, "fc"), dtype=np.dtype(np.float64)
    )
    return xr.DataArray(values, dims=(CHANNEL,), coords=coords, name="quantile")


def findings(numbers: xr.Dataset) -> Array:
    """What was found in each channel of each image, shape (fov, c), from measured numbers."""
    # Where two quantiles are the same, nothing is left to measure.
    constant = numbers[LOWER].data == numbers["quantile"].data if LOWER in numbers else False
    flags = _flags(*(numbers[name].data for name in DETAILS[1:]), constant=constant)
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


def mean_over_images(quantiles: Block) -> Block:
    """The mean over the first axis, of what is not NaN; rounded once, so that no order matters."""
    means = [_exact_mean(column) for column in quantiles.reshape(len(quantiles), -1).T]
    return np.array(means).reshape(quantiles.shape[1:])


def _exact_mean(values: Block) -> float:
    values = values[~np.isnan(values)]
    return statistics.mean(values.tolist()) if values.size else np.nan


def _measured(
    cohort: ImageSet, arrays: list[Any], q: Block, zeros: bool
) -> tuple[Quantiles, Quantiles]:
    """Quantiles of each image, and those that the cohort's numbers are made of.

    The latter are the same, or a single row of all images' pixels.
    """
    groups = [[index] for index in range(len(arrays))]
    if cohort.pool == "pixels" and len(arrays) > 1:
        common = np.result_type(*(processing_dtype(image) for image in cohort))
        if len({array.dtype for array in arrays}) > 1:
            arrays = [array.astype(common) for array in arrays]
        groups.append(list(range(len(arrays))))
    found = exact_quantiles(
        arrays, q, groups, zeros=zeros, evaluate=cohort.evaluate, areas=cohort.areas
    )
    if len(groups) == len(arrays):
        return found, found
    each, pooled = (
        Quantiles(*(array[rows] for array in found)) for rows in (slice(-1), slice(-1, None))
    )
    return each, pooled


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


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def labeled_numbers(
    arrays: Mapping[Any, xr.DataArray], channels: Sequence[Label] | None, fovs: Sequence[Label]
) -> xr.Dataset:
    """A dataset of numbers with the labels of the channels, if they have any, and of the images."""
    numbers = xr.Dataset(dict(arrays))
    labels = {FOV: fovs, **({} if channels is None else {CHANNEL: channels})}
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
