"""Images as plain arrays and back: the axes (c, z, y, x) inside, the user's dims outside."""

from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Array
from ..channels import CHANNEL
from ..engine import backends
from ..engine.blocks import float_dtype
from ..engine.programs import Operation
from ..engine.sources import Area
from .parameters import check_image


def checked(image: Any, parameter: str = "image") -> xr.DataArray:
    """`image` as the package works on it, or an ImageError that says what is wrong with it."""
    found = check_image(image, parameter)
    backends.check_supported(found.data, parameter)
    array = backends.taken_in(found.data)
    return found if array is found.data else found.copy(deep=False, data=array)


def pixels(image: xr.DataArray) -> Array:
    """The array of `image` with axes (c, z, y, x), z of length 1 for 2-D images."""
    return backends.from_dims(image.data, [str(dim) for dim in image.dims])


def shared_pixels(image: xr.DataArray) -> Array:
    """As `pixels`; but a lazy image that is computed for something else, too, is computed once."""
    return backends.turned(image.data, [str(dim) for dim in image.dims])


def like(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (c, z, y, x), in the dims, coordinates, name and attrs of `image`."""
    return _labeled(backends.to_dims(array, [str(dim) for dim in image.dims]), image)


def apply(
    image: xr.DataArray, operation: Operation, numbers: Array | Area | None = None
) -> xr.DataArray:
    """An image after an operation, which takes some numbers, an area, or nothing."""
    dtype = processing_dtype(image)
    return like(image, backends.apply(pixels(image), operation, numbers, dtype=dtype))


def like_plane(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (1, z, y, x), in the dims and coordinates of `image` without channels."""
    array = backends.to_dims(array, [str(dim) for dim in image.dims])
    plane = image.isel({CHANNEL: 0}, drop=True)
    return _labeled(array.squeeze(image.dims.index(CHANNEL)), plane)


def _labeled(array: Array, labels: xr.DataArray) -> xr.DataArray:
    labeled = xr.DataArray(array, dims=labels.dims, coords=labels.coords, attrs=labels.attrs)
    labeled.name = labels.name  # None as an argument would take the name of a Dask array
    return labeled


def as_float(image: xr.DataArray) -> xr.DataArray:
    """`image` in the float type in which it is processed; never the caller's own array."""
    return like(image, pixels(image).astype(processing_dtype(image)))


def processing_dtype(image: xr.DataArray) -> np.dtype[Any]:
    """The float type in which `image` is processed."""
    return float_dtype(image.dtype)
