"""Images as plain arrays and back: the axes (c, z, y, x) inside, the user's dims outside."""

from typing import Any

import numpy as np
import xarray as xr

from . import _backends
from ._channels import CHANNEL
from ._typing import Array
from ._validate import check_image, float_dtype


def checked(image: Any, parameter: str = "image") -> xr.DataArray:
    """`image`, or an ImageError that says what is wrong with it."""
    found = check_image(image, parameter)
    _backends.check_supported(found.data, parameter)
    return found


def pixels(image: xr.DataArray) -> Array:
    """The array of `image` with axes (c, z, y, x), z of length 1 for 2-D images."""
    has_z = "z" in image.dims
    array = image.transpose(CHANNEL, *(("z",) if has_z else ()), "y", "x").data
    return array if has_z else array[:, np.newaxis]


def like(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (c, z, y, x), in the dims, coordinates, name and attrs of `image`."""
    dims = [CHANNEL, "z", "y", "x"]
    if "z" not in image.dims:
        dims.remove("z")
        array = array[:, 0]
    return _labeled(array, dims, image)


def like_plane(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (z, y, x), in the dims and coordinates of `image` without channels."""
    plane = image.isel({CHANNEL: 0}, drop=True)
    dims = ["z", "y", "x"]
    if "z" not in image.dims:
        dims.remove("z")
        array = array[0]
    return _labeled(array, dims, plane)


def _labeled(array: Array, dims: list[str], labels: xr.DataArray) -> xr.DataArray:
    """`array`, with axes `dims`, in the dims, coordinates, name and attrs of `labels`."""
    array = xr.DataArray(array, dims=dims).transpose(*labels.dims).data
    labeled = xr.DataArray(array, dims=labels.dims, coords=labels.coords, attrs=labels.attrs)
    labeled.name = labels.name  # None as an argument would take the name of a Dask array
    return labeled


def as_float(image: xr.DataArray) -> xr.DataArray:
    """`image` in the float type in which it is processed; never the caller's own array."""
    return like(image, pixels(image).astype(processing_dtype(image)))


def processing_dtype(image: xr.DataArray) -> np.dtype[Any]:
    """The float type in which `image` is processed."""
    return float_dtype(image.dtype)
