"""A fitted cohort looked at again: which images are far from the rest, and adding more images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..aliases import Block, DType, Label
from ..channels import CHANNEL, channel_labels
from ..errors import ParameterError
from ..images.cohort import FOV, ImageSet
from ..images.parameters import parse_number
from ..steps.base import Step
from ..steps.statistic import EVERYTHING, are_of_images, compared, findings, labeled_numbers
from .run import INPUT, NamedSteps

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("step", "fov", "channel", "quantile", "median", "fold", "score")
# Makes the median absolute deviation of normal values their standard deviation.
NORMAL = 0.6745
FEWEST_IMAGES = 3


def find_outliers(
    measured: Mapping[str, xr.Dataset], labels: Sequence[Label], score: object, fold: object
) -> "DataFrame":
    """What `FittedPipeline.outliers` returns."""
    from pandas import DataFrame

    rule = "a number of at least"
    least_score = parse_number(score, "score", f"{rule} 0")
    least_fold = parse_number(fold, "fold", f"{rule} 1")
    if least_score < 0:
        raise ParameterError(f"score must be {rule} 0, got {score!r}")
    if least_fold < 1:
        raise ParameterError(f"fold must be {rule} 1, got {fold!r}")
    rows = [
        (name, *row)
        for name, numbers in measured.items()
        if are_of_images(numbers)
        for row in _far(numbers, labels, least_score, least_fold)
    ]
    # An image without signal is infinitely far.
    rows.sort(key=lambda row: -abs(np.log(row[5])) if row[5] > 0 else -np.inf)
    return DataFrame(rows, columns=list(COLUMNS))


def _far(
    numbers: xr.Dataset, labels: Sequence[Label], score: float, fold: float
) -> Iterator[tuple[Any, ...]]:
    """Image, channel, quantile, median, fold and score of what is far from the rest."""
    quantiles = compared(numbers)
    fovs = quantiles.coords[FOV].values.tolist()
    columns = quantiles.values.reshape(len(fovs), -1)
    channels = labels if CHANNEL in quantiles.dims else [None]
    for channel, column in zip(channels, columns.T, strict=True):
        valid = ~np.isnan(column)
        if len(fovs) < FEWEST_IMAGES or 2 * valid.sum() <= len(fovs):
            continue
        median = np.median(column[valid])
        if median == 0:
            continue  # nothing is a multiple of it
        folds, scores = _distances(column, median)
        with np.errstate(divide="ignore", over="ignore"):
            ratios = np.maximum(folds, 1 / folds)
        far = ~valid | ((scores > score) & (ratios > fold))
        for index in np.flatnonzero(far).tolist():
            yield (
                fovs[index],
                channel,
                *(float(number) for number in (column[index], median, folds[index], scores[index])),
            )


def _distances(column: Block, median: float) -> tuple[Block, Block]:
    """Ratio to the median, and modified z-score of its logarithm; an empty image has ratio 0."""
    with np.errstate(all="ignore"):
        ratios = np.where(np.isnan(column), 0.0, column / median)
        # Quantiles of both signs have no logarithm: opposite to the median is infinitely far.
        logarithms = np.log(np.where(ratios > 0, ratios, np.nan))
        spread = np.nanmedian(np.abs(logarithms))
        scores = NORMAL * np.abs(logarithms) / spread
    scores = np.where(logarithms == 0, 0.0, np.where(np.isnan(scores), np.inf, scores))
    return np.maximum(ratios, 0.0), scores


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
    # Outputs of steps that the numbers of no step went into.
    untouched, current = {INPUT}, INPUT
    for name, step in steps:
        source = current if step.reference is None else step.reference
        if _depends_on_images(step, labels, measured[name]):
            if step.statistic(labels) is None:
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
    fovs: Sequence[Label],
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
    dtype
        Float type in which all are processed.
    """
    known = np.full((len(fovs), len(cohort.labels)), EVERYTHING, np.uint8)
    known[-len(cohort) :] = 0
    measured = {}
    for name, step in steps:
        both = _side_by_side(old[name], new[name])
        numbers = {str(variable): array.variable for variable, array in both.items()}
        statistic = step.statistic(cohort.labels)
        if statistic is not None and are_of_images(both):
            numbers |= statistic.again(both, known, cohort.labels, cohort.pool, dtype, name)
            known = known | findings(both)
        measured[name] = labeled_numbers(
            {variable: xr.DataArray(array) for variable, array in numbers.items()},
            channel_labels(cohort[0]),
            fovs,
        )
    return measured


def _depends_on_images(step: Step, labels: Sequence[Label], numbers: xr.Dataset) -> bool:
    """Whether a step's numbers come from images, and not from its parameters."""
    of_its_own = step.statistic(labels) is None and bool(numbers.data_vars)
    return of_its_own or are_of_images(numbers)


def _side_by_side(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """The numbers of both along ``fov``; those that have no such dim are taken from `old`."""
    alike = [variable for variable in old if FOV not in old[variable].dims]
    if len(alike) == len(old):
        return old
    both = xr.concat(
        [old.drop_vars(alike), new.drop_vars(alike)],
        FOV,
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
    )
    return both.assign(old[alike].data_vars)
