"""Statistics of a cohort of images, and the one warning about what was found on the way."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Array, Block, Label
from ..channels import CHANNEL, per_channel
from ..engine import backends
from ..engine.programs import AddChannels
from ..engine.quantiles import exact_quantiles
from ..engine.selection import Quantiles
from ..errors import warn
from ..images.cohort import FOV, Cohort
from ..images.image import pixels, processing_dtype

# The variables that say what a statistic was made from; of a step that measures two quantiles,
# the first of these is the upper one, and the other is beside them.
DETAILS = ("quantile", "counted", "negative", "infinite")
LOWER = "quantile_low"

# What was found in a channel of an image.
EMPTY, NEGATIVE, INFINITE = 1, 2, 4
EVERYTHING = EMPTY | NEGATIVE | INFINITE


def channel_scales(cohort: Cohort, q: Any, *, parameter: str, step: str) -> xr.Dataset:
    """Scale per channel: the cohort's quantile of finite non-zero pixels, 1 where there are none.

    Parameters
    ----------
    cohort
        The images.
    q
        Percent, as a parser of `parameters` returns it.
    parameter, step
        What `q` and the step are called, for messages.

    Returns
    -------
    xarray.Dataset
        ``scale`` (c), or (fov, c) for ``pool=None``, is the divisor; ``quantile``, ``counted``,
        ``negative`` and ``infinite`` (fov, c) are what was found in each image.
    """
    percent = per_channel(q, cohort.labels, parameter)
    found = _measured(cohort, cohort.arrays, percent, zeros=False)
    dtype = np.result_type(*(processing_dtype(image) for image in cohort))
    scale = _settle(
        partial(settled_scales, labels=cohort.labels, dtype=dtype), cohort, found, "c", step
    )
    dims = (FOV, CHANNEL) if cohort.pool is None else (CHANNEL,)
    return _dataset(cohort, found, {"scale": (dims, scale)})


def channel_limits(cohort: Cohort, percents: Block, *, zeros: str, step: str) -> xr.Dataset:
    """Two quantiles per channel, low and high; infinities where there is nothing to measure.

    Parameters
    ----------
    cohort
        The images.
    percents
        Percent, shape (2, c).
    zeros
        ``"exclude"`` or ``"include"`` zeros.
    step
        What the step is called, for messages.

    Returns
    -------
    xarray.Dataset
        ``low`` and ``high`` (c), or (fov, c) for ``pool=None``; ``quantile`` (the upper one),
        ``quantile_low``, ``counted``, ``negative`` and ``infinite`` (fov, c) are what was found in
        each image.
    """
    arrays = cohort.arrays
    found = _measured(cohort, arrays, percents, zeros=zeros == "include")
    limits = _settle(partial(settled_limits, labels=cohort.labels), cohort, found, "c", step)
    return _two_sided(cohort, found, limits, ("low", "high"))


def channel_ranges(cohort: Cohort, *, step: str) -> xr.Dataset:
    """Smallest and largest finite value of each channel; 0 and 1 where there is none.

    Parameters
    ----------
    cohort
        The images.
    step
        What the step is called, for messages.

    Returns
    -------
    xarray.Dataset
        ``min`` and ``max`` (c), or (fov, c) for ``pool=None``; ``quantile`` (the maximum),
        ``quantile_low``, ``counted``, ``negative`` and ``infinite`` (fov, c) are what was found in
        each image.
    """
    arrays = cohort.arrays
    extremes = np.repeat([[0.0], [100.0]], len(cohort.labels), axis=1)
    found = _measured(cohort, arrays, extremes, zeros=True)
    _, pooled = found
    constant = pooled.value[:, 0] == pooled.value[:, 1]
    ranges = _settle(
        partial(settled_ranges, labels=cohort.labels), cohort, found, "c", step, constant
    )
    return _two_sided(cohort, found, ranges, ("min", "max"))


def sum_threshold(cohort: Cohort, q_sum: float, *, zeros: str, step: str) -> xr.Dataset:
    """The cohort's quantile of the pixels' sums over channels; 0 where no sum can be measured.

    Parameters
    ----------
    cohort
        The images.
    q_sum
        Percent.
    zeros
        ``"exclude"`` or ``"include"`` sums of zero.
    step
        What the step is called, for messages.

    Returns
    -------
    xarray.Dataset
        ``threshold``, a scalar, or (fov) for ``pool=None``; ``quantile``, ``counted``,
        ``negative`` and ``infinite`` (fov) are what was found in each image.
    """
    found = _measured(cohort, _sums(cohort), np.array([q_sum]), zeros=zeros == "include")
    threshold = _settle(settled_thresholds, cohort, found, "k", step)
    dims = (FOV, CHANNEL) if cohort.pool is None else (CHANNEL,)
    numbers = _dataset(cohort, found, {"threshold": (dims, threshold)})
    return numbers.isel({CHANNEL: 0}, drop=True)


def _sums(cohort: Cohort) -> list[Any]:
    """For each image the sums over channels, as `Cohort.arrays` gives what is measured."""
    if not cohort.is_lazy:
        return [chain.then(AddChannels()) for chain in (cohort.chains or cohort.chained().chains)]
    return [
        backends.apply(pixels(image), AddChannels(), dtype=processing_dtype(image))
        for image in cohort
    ]


def cohort_quantiles(cohort: Cohort, q: Block, *, zeros: str) -> xr.DataArray:
    """Quantile `q`, shape (c,), of the cohort: (c), or (fov, c) for several with ``pool=None``."""
    arrays = cohort.arrays
    each, pooled = _measured(cohort, arrays, q, zeros=zeros == "include")
    labeled = CHANNEL in cohort[0].coords
    coords: dict[str, Any] = {CHANNEL: cohort[0].coords[CHANNEL]} if labeled else {}
    if cohort.pool is None and not cohort.is_one:
        coords[FOV] = as_coordinate(cohort.names)
        return xr.DataArray(each.value, dims=(FOV, CHANNEL), coords=coords, name="quantile")
    values = backends.per_channel(_means, (pooled.value, "fc"), dtype=np.dtype(np.float64))
    return xr.DataArray(values, dims=(CHANNEL,), coords=coords, name="quantile")


def findings(numbers: xr.Dataset) -> Array:
    """What was found in each channel of each image, shape (fov, c), from measured numbers."""
    # Where two quantiles are the same, nothing is left to measure.
    constant = numbers[LOWER].data == numbers["quantile"].data if LOWER in numbers else False
    counted, negative, infinite = (
        numbers[name].data for name in ("counted", "negative", "infinite")
    )
    flags = flags_of(counted, negative, infinite, constant)
    return flags if CHANNEL in numbers["counted"].dims else flags[..., np.newaxis]


def flags_of(
    counted: Array, negative: Array, infinite: Array, constant: Array | bool = False
) -> Array:
    """What was found, as bits; what is constant is as good as empty."""
    empty = (counted == 0) | constant
    flags = empty * EMPTY + (negative > 0) * NEGATIVE + (infinite > 0) * INFINITE
    return flags.astype(np.uint8)


def _measured(
    cohort: Cohort, arrays: list[Array], q: Block, *, zeros: bool
) -> tuple[Quantiles, Quantiles]:
    """Quantiles of each image, axes (fov, c) or, for `q` (2, c), (fov, 2, c) for the values.

    And those that the statistic is made of.

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


def _settle(
    function: Callable[..., Block],
    cohort: Cohort,
    found: tuple[Quantiles, Quantiles],
    known_axis: str,
    step: str,
    constant: Array | bool = False,
) -> Array:
    """`function(quantiles, flags, known flags)`: the statistic, after the warning."""
    _, pooled = found
    flags = flags_of(pooled.counted, pooled.negative, pooled.infinite, constant)
    axes = "c" if pooled.value.ndim == 2 else "qc"
    known = np.broadcast_to(cohort.found, (len(cohort), cohort[0].sizes[CHANNEL]))
    step = f"{step} inside the mask" if cohort.is_masked else step
    if cohort.pool == "pixels":
        known = _of_all_pixels(known)
    return backends.per_channel(
        partial(function, pool=cohort.pool, names=cohort.names, step=step),
        (pooled.value, "f" + axes),
        (flags, "fc"),
        (known, "f" + known_axis),
        dtype=np.dtype(np.float64),
        axes="f" + axes if cohort.pool is None else axes,
    )


def _of_all_pixels(flags: Array) -> Array:
    """What was found in all images together: empty where all are, the rest where any is."""
    empty = ((flags & EMPTY) > 0).all(axis=0, keepdims=True) * np.uint8(EMPTY)
    found: Array = empty
    for bit in (NEGATIVE, INFINITE):
        found = found | ((flags & bit) > 0).any(axis=0, keepdims=True) * np.uint8(bit)
    return found


def settled_scales(
    quantiles: Block,
    flags: Block,
    known: Block,
    *,
    labels: Sequence[Label],
    names: Sequence[Label],
    dtype: np.dtype[Any],
    pool: str | None,
    step: str,
) -> Block:
    """The scales of a cohort, (c,) or (fov, c) for `pool` None, from its quantiles (fov, c).

    Warns of what is in `flags` and not in `known`, both (fov, c).
    """
    new = flags & ~known
    scale = quantiles if pool is None else _means(quantiles)
    zero = scale.astype(dtype) == 0
    notes = _empty_notes(
        flags,
        known,
        labels,
        names,
        pool,
        what="no finite non-zero value",
        consequence="the scale is 1",
        remark=" (where a channel is NaN, steps that sum over channels drop the pixel)",
    )
    for chosen, what in (
        (zero, "the quantile of {} is 0: the scale is 1"),
        (scale < 0, "the scale of {} is negative: signs change"),
    ):
        if chosen.any():
            places = _places(chosen, labels, names) if pool is None else _channels(labels, chosen)
            notes.append(what.format(places))
    notes += _value_notes(new, lambda bit: _channels(labels, (new & bit).any(axis=0)))
    if (known != EVERYTHING).any():
        _warn(step, notes)
    return np.where(zero | np.isnan(scale), 1.0, scale)


def settled_limits(
    quantiles: Block,
    flags: Block,
    known: Block,
    *,
    labels: Sequence[Label],
    names: Sequence[Label],
    pool: str | None,
    step: str,
) -> Block:
    """The limits of a cohort, (2, c) or (fov, 2, c) for `pool` None, from quantiles (fov, 2, c).

    Warns of what is in `flags` and not in `known`, both (fov, c).
    """
    limits = quantiles if pool is None else _pairs_of_means(quantiles)
    empty = np.isnan(quantiles[:, 0]) * np.uint8(EMPTY)
    notes = _empty_notes(
        empty,
        known,
        labels,
        names,
        pool,
        what="no value to measure",
        consequence="nothing is clipped",
    )
    known_empty = (known & EMPTY).astype(bool)
    same = limits[..., 0, :] == limits[..., 1, :]
    same &= ~(known_empty if pool is None else known_empty.all(axis=0))
    if same.any():
        places = _places(same, labels, names) if pool is None else _channels(labels, same)
        notes.append(f"both quantiles of {places} are the same: all its values become that")
    new = flags & ~known
    notes += _value_notes(new, lambda bit: _channels(labels, (new & bit).any(axis=0)))
    _warn(step, notes)
    return np.where(np.isnan(limits), [[-np.inf], [np.inf]], limits)


def settled_ranges(
    quantiles: Block,
    flags: Block,
    known: Block,
    *,
    labels: Sequence[Label],
    names: Sequence[Label],
    pool: str | None,
    step: str,
) -> Block:
    """The ranges of a cohort, (2, c) or (fov, 2, c) for `pool` None, from extremes (fov, 2, c).

    Warns of what is in `flags` and not in `known`, both (fov, c).
    """
    ranges = quantiles
    if pool is not None:
        constant = (flags & EMPTY).astype(bool)[:, np.newaxis]
        # Images without a range do not count, unless there are no others.
        ranges = _pairs_of_means(np.where(constant, np.nan, quantiles))
        ranges = np.where(np.isnan(ranges), _pairs_of_means(quantiles), ranges)
    notes = _empty_notes(
        flags,
        known,
        labels,
        names,
        pool,
        what="no two different values",
        consequence="the smallest is subtracted, and nothing divided",
    )
    new = flags & ~known
    notes += _value_notes(new, lambda bit: _channels(labels, (new & bit).any(axis=0)))
    _warn(step, notes)
    return np.where(np.isnan(ranges), [[0.0], [1.0]], ranges)


def settled_thresholds(
    quantiles: Block,
    flags: Block,
    known: Block,
    *,
    names: Sequence[Label],
    pool: str | None,
    step: str,
) -> Block:
    """The threshold of a cohort, (1,) or (fov, 1) for `pool` None, from its quantiles (fov, 1).

    Warns of what is in `flags`, (fov, 1), and not in `known`, (fov, c).
    """
    # Sums are empty or negative because a channel is; that has been said if it was said of one.
    new = flags & ~np.bitwise_or.reduce(known, axis=1, keepdims=True)
    threshold = quantiles if pool is None else _means(quantiles)
    empty = (new[:, 0] & EMPTY).astype(bool)
    notes = []
    if empty.any():
        if np.isnan(threshold).all():
            notes.append("no pixel has a sum to measure: the threshold is 0")
        else:
            places = _some([repr(names[f]) for f in np.flatnonzero(empty).tolist()])
            consequence = (
                "the threshold is 0" if pool is None else "not counted in the cohort's mean"
            )
            notes.append(f"no pixel has a sum to measure in image {places}: {consequence}")
    notes += _value_notes(new, lambda _: "the sums over channels")
    _warn(step, notes)
    return np.where(np.isnan(threshold), 0.0, threshold)


def _empty_notes(
    flags: Block,
    known: Block,
    labels: Sequence[Label],
    names: Sequence[Label],
    pool: str | None,
    *,
    what: str,
    consequence: str,
    remark: str = "",
) -> list[str]:
    """What to say of channels that are empty, in all images or in some, and not known to be."""
    empty = (flags & EMPTY).astype(bool)
    newly_empty = empty & ~(known & EMPTY).astype(bool)
    everywhere = empty.all(axis=0)
    notes = []
    silent = newly_empty.any(axis=0) & everywhere
    if silent.any():
        notes.append(f"{what} in {_channels(labels, silent)}: {consequence}{remark}")
    partly = newly_empty & ~everywhere
    if pool != "pixels" and partly.any():
        consequence = consequence if pool is None else "not counted in the cohort's mean"
        notes.append(f"{what} in {_places(partly, labels, names)}: {consequence}")
    return notes


def _places(chosen: Block, labels: Sequence[Label], names: Sequence[Label]) -> str:
    return _some([f"{labels[c]!r} of image {names[f]!r}" for f, c in np.argwhere(chosen).tolist()])


def _means(quantiles: Block) -> Block:
    """The mean over the images of quantiles with axes (fov, c)."""
    return np.array([_exact_mean(column) for column in quantiles.T])


def _pairs_of_means(quantiles: Block) -> Block:
    """The mean over the images of quantiles with axes (fov, 2, c)."""
    return np.stack([_means(quantiles[:, index]) for index in range(2)])


def _exact_mean(values: Block) -> float:
    """Mean of the values that are not NaN, rounded once, so that their order does not matter."""
    values = values[~np.isnan(values)]
    return statistics.mean(values.tolist()) if values.size else np.nan


def _value_notes(new: Block, where: Callable[[int], str]) -> list[str]:
    notes = []
    if (new & NEGATIVE).any():
        notes.append(f"negative values in {where(NEGATIVE)}: they are counted")
    if (new & INFINITE).any():
        notes.append(f"infinite values in {where(INFINITE)}: they count as missing")
    return notes


def _warn(step: str, notes: list[str]) -> None:
    if notes:
        warn(f"{step}: {'; '.join(notes)}")


def _channels(labels: Sequence[Label], chosen: Block) -> str:
    names = [repr(label) for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
    return f"channel{'s' if len(names) > 1 else ''} {_some(names)}"


def _some(names: list[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _two_sided(
    cohort: Cohort, found: tuple[Quantiles, Quantiles], limits: Array, names: tuple[str, str]
) -> xr.Dataset:
    """As `_dataset`, for limits (2, c) or (fov, 2, c) that are called so."""
    dims = (FOV, CHANNEL) if cohort.pool is None else (CHANNEL,)
    statistic = {name: (dims, limits[..., index, :]) for index, name in enumerate(names)}
    each, pooled = found
    upper = each._replace(value=each.value[:, 1])
    numbers = _dataset(cohort, (upper, pooled), statistic)
    return numbers.assign({LOWER: ((FOV, CHANNEL), each.value[:, 0])})


def _dataset(
    cohort: Cohort, found: tuple[Quantiles, Quantiles], statistic: dict[str, Any]
) -> xr.Dataset:
    each, _ = found
    details = {name: ((FOV, CHANNEL), array) for name, array in zip(DETAILS, each, strict=True)}
    return xr.Dataset({**statistic, **details}, coords={FOV: as_coordinate(cohort.names)})


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
