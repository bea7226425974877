"""Statistics of a cohort of images, and the one warning about what was found on the way."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, overload

import numpy as np
import xarray as xr

from . import _backends
from ._channels import CHANNEL, label_keys, per_channel, reorder_channels
from ._images import checked, pixels, processing_dtype
from ._typing import Array, Block, Label
from ._validate import POOLS, parse_choice
from .errors import ImageError, warn
from .quantiles import Quantiles, exact_quantiles

FOV = "fov"
# The variables that say what a statistic was made from.
DETAILS = ("quantile", "counted", "negative", "infinite")

# What was found in a channel of an image.
EMPTY, NEGATIVE, INFINITE = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Cohort(Sequence[xr.DataArray]):
    """Images that are measured together: a sequence whose channels have one order.

    Parameters
    ----------
    images
        Checked images with the same channels in the same order.
    names
        One for each image.
    pool
        ``"mean"`` averages the quantiles of the images, ``"pixels"`` takes one quantile over all
        their pixels.
    found
        Findings of earlier steps, shape (fov, c), that need no second warning.
    evaluate
        Applied to each pass's small result; see `pxprep.quantiles.exact_quantiles`.
    """

    images: tuple[xr.DataArray, ...]
    names: tuple[Label, ...]
    pool: str = "mean"
    found: Array = field(default=0)
    evaluate: Callable[[Array], Array] | None = None

    @classmethod
    def of(cls, images: Any, pool: str = "mean") -> "Cohort":
        """Check one image, a sequence or a mapping of images, and bring their channels in line."""
        pool = parse_choice(pool, "pool", POOLS)
        if isinstance(images, xr.DataArray):
            named: dict[Label, Any] = {0 if images.name is None else images.name: images}
        elif isinstance(images, Mapping):
            named = dict(images)
        elif isinstance(images, Iterable) and not isinstance(images, str | np.ndarray):
            named = dict(enumerate(images))
        else:
            raise ImageError(
                "images must be an image (an xarray.DataArray), several images, or a mapping of "
                f"names to images, got {type(images).__qualname__}"
            )
        if not named:
            raise ImageError("images must hold at least one image, got none")
        first = checked(next(iter(named.values())), f"image {next(iter(named))!r}")
        order = label_keys(first)
        aligned = [
            reorder_channels(checked(image, f"image {name!r}"), order, f"image {name!r}")
            for name, image in named.items()
        ]
        return cls(tuple(aligned), tuple(named), pool)

    @overload
    def __getitem__(self, index: int) -> xr.DataArray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[xr.DataArray]: ...

    def __getitem__(self, index: int | slice) -> xr.DataArray | Sequence[xr.DataArray]:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The channels' labels, or their positions where they have none."""
        return label_keys(self.images[0])

    def map(self, function: Callable[[xr.DataArray], xr.DataArray]) -> "Cohort":
        """The cohort of `function(image)`."""
        return replace(self, images=tuple(function(image) for image in self.images))

    def knowing(self, found: Array) -> "Cohort":
        """The same cohort, with findings that have been warned about."""
        return replace(self, found=found)

    def evaluating(self, evaluate: Callable[[Array], Array]) -> "Cohort":
        """The same cohort, with the small result of each pass computed at once."""
        return replace(self, evaluate=evaluate)


def channel_scales(cohort: Cohort, q: Any, *, parameter: str, step: str) -> xr.Dataset:
    """Scale per channel: the cohort's quantile of finite non-zero pixels, 1 where there are none.

    Parameters
    ----------
    cohort
        The images.
    q
        Percent, as a parser of `_validate` returns it.
    parameter, step
        What `q` and the step are called, for messages.

    Returns
    -------
    xarray.Dataset
        ``scale`` (c) is the divisor; ``quantile``, ``counted``, ``negative`` and ``infinite``
        (fov, c), without ``fov`` for ``pool="pixels"``, are what it was made from.
    """
    percent = per_channel(q, cohort.labels, parameter)
    found = _measured(cohort, [pixels(image) for image in cohort], percent, zeros=False)
    settle = partial(
        _settled_scales,
        labels=cohort.labels,
        names=cohort.names if cohort.pool == "mean" else None,
        dtype=np.result_type(*(processing_dtype(image) for image in cohort)),
        step=step,
    )
    scale = _settle(settle, cohort, found, "c")
    return _dataset(cohort, found, {"scale": (CHANNEL, scale)})


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
        ``threshold`` (a scalar); ``quantile``, ``counted``, ``negative`` and ``infinite`` (fov),
        without ``fov`` for ``pool="pixels"``, are what it was made from.
    """
    sums = [
        _backends.sum_channels(pixels(image), dtype=processing_dtype(image))[np.newaxis]
        for image in cohort
    ]
    found = _measured(cohort, sums, np.array([q_sum]), zeros=zeros == "include")
    settle = partial(
        _settled_threshold, names=cohort.names if cohort.pool == "mean" else None, step=step
    )
    threshold = _settle(settle, cohort, found, "k")[0]
    numbers = _dataset(cohort, found, {"threshold": ((), threshold)})
    return numbers.isel({CHANNEL: 0}, drop=True)


def findings(numbers: xr.Dataset) -> Array:
    """What was found in each channel of each image, shape (fov, c), from measured numbers."""
    flags = _flags(*(numbers[name].data for name in ("counted", "negative", "infinite")))
    dims = numbers["counted"].dims
    if CHANNEL not in dims:
        flags = flags[..., np.newaxis]
    return flags if FOV in dims else flags[np.newaxis]


def _flags(counted: Array, negative: Array, infinite: Array) -> Array:
    flags = (counted == 0) * EMPTY + (negative > 0) * NEGATIVE + (infinite > 0) * INFINITE
    return flags.astype(np.uint8)


def _measured(cohort: Cohort, arrays: list[Array], q: Block, *, zeros: bool) -> Quantiles:
    """Quantiles with axes (fov, c); one row for pooled pixels."""
    if cohort.pool == "pixels":
        common = np.result_type(*(processing_dtype(image) for image in cohort))
        if len({array.dtype for array in arrays}) > 1:
            arrays = [array.astype(common) for array in arrays]
        groups = [arrays]
    else:
        groups = [[array] for array in arrays]
    rows = [exact_quantiles(group, q, zeros=zeros, evaluate=cohort.evaluate) for group in groups]
    return Quantiles(*(np.stack(column) for column in zip(*rows, strict=True)))


def _settle(
    function: Callable[..., Block], cohort: Cohort, found: Quantiles, known_axis: str
) -> Array:
    """`function(quantiles, flags, known flags)`: the statistic, after the warning."""
    flags = _flags(found.counted, found.negative, found.infinite)
    known = np.broadcast_to(cohort.found, (len(flags), cohort[0].sizes[CHANNEL]))
    return _backends.per_channel(
        function,
        (found.value, "fc"),
        (flags, "fc"),
        (known, "f" + known_axis),
        dtype=np.dtype(np.float64),
    )


def _settled_scales(
    quantiles: Block,
    flags: Block,
    known: Block,
    *,
    labels: Sequence[Label],
    names: Sequence[Label] | None,
    dtype: np.dtype[Any],
    step: str,
) -> Block:
    scale = np.array([_exact_mean(column) for column in quantiles.T])
    zero = scale.astype(dtype) == 0
    new = flags & ~known
    empty = (flags & EMPTY).astype(bool).all(axis=0)
    newly_empty = (new & EMPTY).astype(bool)
    notes = []
    silent = newly_empty.any(axis=0) & empty
    if silent.any():
        notes.append(
            f"no finite non-zero value in {_channels(labels, silent)}: the scale is 1 (where a "
            "channel is NaN, steps that sum over channels drop the pixel)"
        )
    partly = newly_empty & ~empty
    if names is not None and partly.any():
        places = [f"{labels[c]!r} of image {names[f]!r}" for f, c in np.argwhere(partly).tolist()]
        notes.append(
            f"no finite non-zero value in {_some(places)}: not counted in the cohort's mean"
        )
    if zero.any():
        notes.append(f"the quantile of {_channels(labels, zero)} is 0: the scale is 1")
    if (scale < 0).any():
        notes.append(f"the scale of {_channels(labels, scale < 0)} is negative: signs change")
    notes += _value_notes(new, lambda bit: _channels(labels, (new & bit).any(axis=0)))
    _warn(step, notes)
    return np.where(zero | np.isnan(scale), 1.0, scale)


def _settled_threshold(
    quantiles: Block, flags: Block, known: Block, *, names: Sequence[Label] | None, step: str
) -> Block:
    # Sums are empty or negative because a channel is; that has been said if it was said of one.
    new = flags & ~np.bitwise_or.reduce(known, axis=1, keepdims=True)
    threshold = _exact_mean(quantiles[:, 0])
    empty = (new[:, 0] & EMPTY).astype(bool)
    notes = []
    if np.isnan(threshold):
        if empty.any():
            notes.append("no pixel has a sum to measure: the threshold is 0")
        threshold = 0.0
    elif names is not None and empty.any():
        places = [repr(names[f]) for f in np.flatnonzero(empty).tolist()]
        notes.append(
            f"no pixel has a sum to measure in image {_some(places)}: not counted in the "
            "cohort's mean"
        )
    notes += _value_notes(new, lambda _: "the sums over channels")
    _warn(step, notes)
    return np.array([threshold])


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


def _dataset(cohort: Cohort, found: Quantiles, statistic: dict[str, Any]) -> xr.Dataset:
    by_image = cohort.pool == "mean"
    dims = (FOV, CHANNEL) if by_image else (CHANNEL,)
    variables = {
        name: (dims, array if by_image else array[0])
        for name, array in zip(DETAILS, found, strict=True)
    }
    return xr.Dataset({**statistic, **variables})


def labeled_numbers(
    arrays: Mapping[Any, xr.DataArray], channels: Sequence[Label] | None, fovs: Sequence[Label]
) -> xr.Dataset:
    """A dataset of numbers with the labels of the channels, if they have any, and of the images."""
    numbers = xr.Dataset(dict(arrays))
    labels = {FOV: fovs, **({} if channels is None else {CHANNEL: channels})}
    return numbers.assign_coords(
        {dim: _as_coordinate(labels[dim]) for dim in labels if dim in numbers.dims}
    )


def _as_coordinate(labels: Sequence[Label]) -> Block:
    """Labels as an array that keeps each one's type."""
    types = {type(label) for label in labels}
    if len(types) == 1 and types <= {str, int, float}:
        return np.array(labels)
    array = np.empty(len(labels), object)
    array[:] = labels
    return array
