"""A fitted cohort looked at again: which images are far from the rest, and adding more images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from ..aliases import BatchName, DType, ImageName, Label, NumpyArray
from ..channels import CHANNEL, channel_labels
from ..errors import ImageError, ParameterError, did_you_mean, listed_names
from ..images.image_numbers import BATCH, FOV, joined, labeled_numbers, rows_of
from ..images.image_set import ImageSet
from ..images.parameters import parse_number
from ..steps.base import Step
from ..steps.image_values import EVERYTHING, compared, flags_of, has_image_values
from .run import INPUT, NamedSteps, variables_of, with_labels

if TYPE_CHECKING:
    from pandas import DataFrame

# The median absolute deviation of normally distributed values, in standard deviations.
NORMAL_MAD = 0.6745
FEWEST_IMAGES = 3


class Outlier(NamedTuple):
    """A row of what `FittedPipeline.outliers` returns."""

    step: str
    fov: ImageName
    channel: Label | None
    quantile: float
    median: float
    fold: float
    score: float
    reason: str


def find_outliers(
    measured: Mapping[str, xr.Dataset],
    seen_by: Mapping[str, Sequence[Label]],
    batches: Mapping[ImageName, BatchName],
    score: object,
    fold: object,
) -> "DataFrame":
    """What `FittedPipeline.outliers` returns."""
    from pandas import DataFrame, Series

    rule = "a number of at least"
    least_score = parse_number(score, "score", f"{rule} 0")
    least_fold = parse_number(fold, "fold", f"{rule} 1")
    if least_score < 0:
        raise ParameterError(f"score must be {rule} 0, got {score!r}")
    if least_fold < 1:
        raise ParameterError(f"fold must be {rule} 1, got {fold!r}")
    outliers = [
        outlier
        for name, numbers in measured.items()
        if has_image_values(numbers)
        for rows in rows_together(numbers[FOV].values.tolist(), batches)
        for outlier in _far(name, numbers.isel({FOV: rows}), seen_by[name], least_score, least_fold)
    ]
    # An image without signal is infinitely far.
    outliers.sort(key=lambda one: -abs(np.log(one.fold)) if one.fold > 0 else -np.inf)
    table = DataFrame(outliers, columns=list(Outlier._fields))
    # As a column of texts it would have NaN for sums, which have no channel.
    table["channel"] = Series([one.channel for one in outliers], dtype=object)
    if batches:
        batch = Series([batches[one.fov] for one in outliers], dtype=object)
        table.insert(table.columns.get_loc("channel"), "batch", batch)
    return table


def _far(
    step: str, numbers: xr.Dataset, labels: Sequence[Label], score: float, fold: float
) -> Iterator[Outlier]:
    """The outliers among the images that `numbers` of a step has."""
    quantiles = compared(numbers)
    fovs = quantiles.coords[FOV].values.tolist()
    columns = quantiles.values.reshape(len(fovs), -1)
    channels = labels if CHANNEL in quantiles.dims else [None]
    folds = ratios_to_median(columns)
    for i, channel in enumerate(channels):
        valid = ~np.isnan(columns[:, i])
        if len(fovs) < FEWEST_IMAGES or 2 * valid.sum() <= len(fovs):
            continue
        median = _median(columns[:, i])
        if median == 0:
            continue  # nothing is a multiple of it
        scores = _scores(folds[:, i])
        far = ~valid | ((scores > score) & (either_way(folds[:, i]) > fold))
        for k in np.flatnonzero(far).tolist():
            values = (float(columns[k, i]), median, float(folds[k, i]), float(scores[k]))
            yield Outlier(step, fovs[k], channel, *values, _reason(*values))


def rows_together(
    fovs: Sequence[ImageName], batches: Mapping[ImageName, BatchName]
) -> list[list[int]]:
    """The positions of the images of each batch, or of all images where there are none."""
    return list(rows_of([batches.get(fov, 0) for fov in fovs]).values())


def ratios_in_batches(
    quantiles: NumpyArray, fovs: Sequence[ImageName], batches: Mapping[ImageName, BatchName]
) -> NumpyArray:
    """As `ratios_to_median`, of each image to the median of those of its batch."""
    ratios = np.empty(quantiles.shape)
    for rows in rows_together(fovs, batches):
        ratios[rows] = ratios_to_median(quantiles[rows])
    return ratios


def ratios_to_median(quantiles: NumpyArray) -> NumpyArray:
    """Ratios of each image's quantile (fov, c) to the median of all; NaN where that is 0.

    0 where the quantile is no positive multiple of the median: in an image without signal, and
    where the two have different signs.
    """
    medians = np.array([_median(column) for column in quantiles.T])
    with np.errstate(all="ignore"):
        ratios = np.where(medians == 0, np.nan, quantiles / medians)
    return np.where((ratios > 0) | (medians == 0), ratios, 0.0)


def either_way(ratios: NumpyArray) -> NumpyArray:
    """Ratios of at least 1, whichever of the two is larger; infinite without signal."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.maximum(ratios, 1 / ratios)


def _median(column: NumpyArray) -> float:
    valid = column[~np.isnan(column)]
    return float(np.median(valid)) if valid.size else np.nan


def _scores(ratios: NumpyArray) -> NumpyArray:
    """Modified z-scores of the logarithms; infinite without signal, or where the rest is equal."""
    with np.errstate(all="ignore"):
        logarithms = np.log(np.where(ratios > 0, ratios, np.nan))
        scores = NORMAL_MAD * np.abs(logarithms) / np.nanmedian(np.abs(logarithms))
    return np.where(logarithms == 0, 0.0, np.where(np.isnan(scores), np.inf, scores))


def _reason(quantile: float, median: float, fold: float, score: float) -> str:
    """What is far off, in words."""
    if np.isnan(quantile):
        return "no signal"
    if fold == 0:
        return f"{quantile:.3g} where the median is {median:.3g}"
    far = f"{fold:.3g} times the median"
    return far if np.isfinite(score) else f"{far}, no spread in the others"


def require_fitted(cohort: ImageSet, fovs: Sequence[ImageName], *, is_fov: bool) -> None:
    """Raise ImageError unless each image is called like one of `fovs`, which were fitted.

    `is_fov` says whether the user may have called the one image by the parameter `fov`.
    """
    unknown = [name for name in cohort.names if name not in fovs]
    if unknown:
        what = "fov, or else the image's own name," if is_fov else "the name of each image"
        raise ImageError(
            f"{what} must be that of an image that was fitted, as with pool=None each has its own "
            f"numbers, got {listed_names(unknown)}{did_you_mean(unknown, fovs)}; there are "
            f"{listed_names(fovs)}"
        )


def require_updatable(
    steps: NamedSteps,
    measured: Mapping[str, xr.Dataset],
    labels: Sequence[Label],
    pool: str | None,
) -> None:
    """Raise ParameterError unless numbers of more images can be added exactly."""
    if pool is None:
        return
    again = "fit all images together again"
    if pool == "pixels":
        raise ParameterError(
            f"pool='pixels' keeps quantiles, not the pixels that new ones would join: {again}"
        )
    # Steps whose output no measured number has changed.
    untouched, current = {INPUT}, INPUT
    for name, step, seen in with_labels(steps, labels):
        source = current if step.reference is None else step.reference
        if _depends_on_images(step, seen, measured[name]):
            if step.statistic(seen) is None:
                raise ParameterError(
                    f"pxprep does not know how the numbers of step {name!r} come from those of "
                    f"each image: {again}"
                )
            if source not in untouched:
                raise ParameterError(
                    f"step {name!r} measured images that numbers of earlier steps had changed, "
                    f"and more images would change those numbers: {again}"
                )
        elif current in untouched:
            untouched.add(name)
        current = name


def updated(
    steps: NamedSteps,
    old: Mapping[str, xr.Dataset],
    new: Mapping[str, xr.Dataset],
    cohort: ImageSet,
    fovs: Sequence[ImageName],
    batches: Mapping[ImageName, BatchName],
    dtype: DType,
) -> dict[str, xr.Dataset]:
    """What each step measured of the images that are called `fovs`.

    Parameters
    ----------
    steps
        Steps for which `require_updatable` holds.
    old, new
        What each step measured of the first of these images, and of the others.
    cohort
        The other images.
    fovs
        The names of all.
    batches
        By name the batch of each; empty where all are measured together.
    dtype
        Float type in which all are processed.
    """
    already_told = np.full((len(fovs), len(cohort.labels)), EVERYTHING, np.uint8)
    already_told[-len(cohort) :] = 0
    measured, before = {}, cohort.labels
    for name, step, labels in with_labels(steps, cohort.labels):
        already_told, before = already_told[:, [before.index(label) for label in labels]], labels
        is_labeled = channel_labels(cohort[0]) is not None or labels != cohort.labels
        both = _with_more_images(old[name], new[name])
        numbers = variables_of(both)
        statistic = step.statistic(labels)
        if statistic is not None and has_image_values(both):
            recompute = partial(statistic.recompute, labels=labels, pool=cohort.pool, dtype=dtype)
            of_each = [batches[fov] for fov in fovs] if batches else []
            numbers |= _recomputed(recompute, both, already_told, of_each, name)
            already_told = already_told | flags_of(both)
        measured[name] = labeled_numbers(
            numbers,
            labels if is_labeled else None,
            fovs,
            dict.fromkeys(batches[fov] for fov in fovs if batches),
        )
    return measured


def _recomputed(
    recompute: Callable[..., dict[str, xr.Variable]],
    numbers: xr.Dataset,
    already_told: NumpyArray,
    batches: Sequence[BatchName],
    step: str,
) -> dict[str, xr.Variable]:
    """The numbers made again, of all images or of each batch, from the values of each image."""
    if not batches:
        return recompute(numbers, already_told, step=step)
    by_batch = [
        recompute(
            numbers.isel({FOV: rows, BATCH: place}),
            already_told[rows],
            step=f"{step} of batch {batch!r}",
        )
        for place, (batch, rows) in enumerate(rows_of(batches).items())
    ]
    return {
        name: xr.Variable.concat([of_batch[name] for of_batch in by_batch], BATCH)
        for name in by_batch[0]
    }


def _depends_on_images(step: Step, labels: Sequence[Label], numbers: xr.Dataset) -> bool:
    """Whether a step's numbers come from images, and not from its parameters."""
    measures_by_itself = step.statistic(labels) is None and bool(numbers.data_vars)
    return measures_by_itself or has_image_values(numbers)


def _with_more_images(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """The numbers of both along ``fov``; those that have no such dim are taken from `old`."""
    alike = [variable for variable in old if FOV not in old[variable].dims]
    if len(alike) == len(old):
        return old
    dropped = [*alike, *({BATCH} & set(old.coords))]
    both = joined([old.drop_vars(dropped), new.drop_vars(dropped)])
    return both.assign(old[alike].data_vars)
