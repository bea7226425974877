"""What steps return, checked: a step of the user's own may return anything."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ._channels import CHANNEL, channel_labels, reorder_channels
from ._images import as_float
from .errors import ImageError
from .measures import Cohort, labeled_numbers
from .steps import Numbers, Step


def as_numbers(measured: Any, name: str, cohort: Cohort) -> Numbers:
    """What a step measured, with the cohort's labels as its only coordinates."""
    rule = f"measure of step {name!r} must return a mapping of names to scalars or arrays over c"
    if not isinstance(measured, Mapping):
        raise ImageError(f"{rule}, got {measured!r:.200}")
    arrays = {}
    for variable, value in measured.items():
        array = value if isinstance(value, xr.DataArray) else _over_channels(value, rule)
        if CHANNEL in array.coords and CHANNEL in array.dims:
            array = reorder_channels(array, cohort.labels, f"measure of step {name!r}")
        if array.sizes.get(CHANNEL, len(cohort.labels)) != len(cohort.labels):
            raise ImageError(f"{rule}, got {dict(array.sizes)} for {variable!r}")
        arrays[variable] = array.drop_vars(list(array.coords))
    return labeled_numbers(arrays, channel_labels(cohort[0]), cohort.names)


def _over_channels(value: Any, rule: str) -> xr.DataArray:
    if np.ndim(value) > 1:
        raise ImageError(f"{rule}, got {value!r:.200}")
    return xr.DataArray(value, dims=(CHANNEL,) if np.ndim(value) else ())


def applied(name: str, step: Step, image: xr.DataArray, numbers: Numbers) -> xr.DataArray:
    """The image after a step, which must have the channels and the shape of the one before."""
    result = step.apply(image, numbers)
    if (
        not isinstance(result, xr.DataArray)
        or dict(result.sizes) != dict(image.sizes)
        or channel_labels(result) != channel_labels(image)
    ):
        got = dict(result.sizes) if isinstance(result, xr.DataArray) else type(result).__name__
        raise ImageError(
            f"step {name!r} must return an image with the channels and the shape of the one it "
            f"got, {dict(image.sizes)}, got {got}"
        )
    return result if result.dims == image.dims else result.transpose(*image.dims)


def finished(result: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """`result` as floats, and not the caller's own image where no step made a new one."""
    is_float = result.dtype in (np.dtype(np.float32), np.dtype(np.float64))
    return result if is_float and result is not image else as_float(result)
