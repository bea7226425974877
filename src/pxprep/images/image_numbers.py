"""Numbers of images: labeled by image and batch, joined, and those of each image taken out."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from ..aliases import BatchName, ImageName, Label
from ..channels import CHANNEL, as_coordinate, is_choice, plain
from ..errors import ImageError, ParameterError, listed_names
from .hints import require_numpy_or_dask

# The dimensions of numbers that are known of each image, and of each batch of images.
FOV = "fov"
BATCH = "batch"
# Numbers of a cohort by name, over ``c``, ``fov`` or ``batch``, or a single one. They have no
# labels: a dataset of them takes as long to make as a small image to measure.
Numbers = Mapping[str, xr.Variable]
NumbersOrOne = TypeVar("NumbersOrOne", xr.Variable, xr.DataArray, xr.Dataset)


def rows_of(batches: Sequence[BatchName]) -> dict[BatchName, list[int]]:
    """By batch, in the order of their first images, the positions of its images."""
    rows: dict[BatchName, list[int]] = {}
    for row, batch in enumerate(batches):
        rows.setdefault(batch, []).append(row)
    return rows


def numbers_of_each(
    numbers: NumbersOrOne, names: Sequence[ImageName], batches: Sequence[BatchName], parameter: str
) -> list[NumbersOrOne]:
    """The numbers of each image: of its name along ``fov``, of its batch along ``batch``; else all.

    A `Variable` has no names: its numbers are in the order of the images, or of the batches.
    """
    if isinstance(numbers, xr.DataArray):
        require_numpy_or_dask(numbers, parameter, parameter, ParameterError)
    dim, keys = (BATCH, batches) if batches and BATCH in numbers.dims else (FOV, names)
    if dim not in numbers.dims:
        return [numbers] * len(names)
    if isinstance(numbers, xr.Variable):
        position = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return [numbers[{dim: position[key]}] for key in keys]
    known: Sequence[Hashable] = range(numbers.sizes[dim])
    if dim in numbers.coords:
        known = numbers.coords[dim].values.tolist()
    elif dim == FOV and len(known) == len(names):
        known = names
    position = {key: index for index, key in enumerate(known)}
    unknown = [key for key in dict.fromkeys(keys) if key not in position]
    if unknown:
        raise ImageError(
            f"{parameter} has numbers for each {'image' if dim == FOV else 'batch'} by name, but "
            f"not for {listed_names(unknown)}; it has those of {listed_names(known)}"
        )
    return [numbers.isel({dim: position[key]}, drop=True) for key in keys]


def parse_fov(value: object) -> ImageName:
    """The name of one image; raises ParameterError."""
    if isinstance(value, np.ndarray | xr.DataArray) and value.ndim == 0:
        value = value.item()
    name = plain(value)
    if not is_choice(name):
        raise ParameterError(f"fov must be the name of one image, got {value!r:.200}")
    return name


def joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Numbers of some images and of others, along ``fov``."""
    return xr.concat(
        parts, FOV, data_vars="all", coords="minimal", compat="override", join="override"
    )


def labeled_numbers(
    arrays: Numbers,
    channels: Sequence[Label] | None,
    fovs: Sequence[ImageName],
    batches: Iterable[BatchName] = (),
) -> xr.Dataset:
    """A dataset of numbers with the labels of the channels, if any, the images and the batches."""
    labels = {FOV: fovs, BATCH: list(batches)}
    labels |= {} if channels is None else {CHANNEL: channels}
    dims = {dim for array in arrays.values() for dim in array.dims}
    coords = {dim: as_coordinate(labels[dim]) for dim in labels if dim in dims}
    return xr.Dataset({name: arrays[name] for name in arrays if name not in coords}, coords)
