"""Images as plain arrays and back: the axes (c, z, y, x) inside, the user's dims outside."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..aliases import Array, DType, Label
from ..channels import CHANNEL, channel_labels, is_label, select_known_channels, unwritable
from ..engine import backends
from ..engine.axes import standard_axes
from ..engine.blocks import float_dtype, is_of_pixels
from ..errors import ChannelError, ImageError
from .hints import line_for, line_for_labels, require_numpy_or_dask, what_came
from .parameters import SPATIAL

IMAGE_IN_WORDS = "an xarray.DataArray with the dims c, y, x (and optionally z)"


def checked(image: object, parameter: str = "image") -> xr.DataArray:
    """`image` as the package works on it, or an ImageError that says what is wrong with it."""
    if not isinstance(image, xr.DataArray):
        raise ImageError(f"{parameter} must be {IMAGE_IN_WORDS}, {what_came(image)}")
    require_numpy_or_dask(image, parameter)
    _check_dims(image, parameter)
    if not is_of_pixels(image.dtype):
        raise ImageError(
            f"{parameter} must hold integers, bool or floats of at most 64 bits, got dtype "
            f"{image.dtype}"
        )
    _check_labels(image, parameter)
    array = backends.adopt_image(image.data, [str(dim) for dim in image.dims])
    return image if array is image.data else image.copy(deep=False, data=array)


def _check_dims(image: xr.DataArray, parameter: str) -> None:
    missing = [dim for dim in (CHANNEL, "y", "x") if dim not in image.dims]
    other = [dim for dim in image.dims if dim not in (CHANNEL, *SPATIAL)]
    if missing or other:
        problem = f"lacks {', '.join(missing)}" if missing else f"also has {other}"
        raise ImageError(
            f"{parameter} must have the dims c, y, x and optionally z; it {problem}: its dims are "
            f"{image.dims}{line_for(image)}"
        )
    if 0 in image.shape:
        raise ImageError(
            f"{parameter} must have at least one channel and one pixel, got {dict(image.sizes)}"
        )


def _check_labels(image: xr.DataArray, parameter: str) -> None:
    labels = channel_labels(image)
    if labels is None:
        return
    bad = [label for label in labels if not is_label(label)]
    bad = bad or [label for label in set(labels) if labels.count(label) > 1]
    if bad:
        raise ChannelError(
            f"{parameter}: channel labels must be texts or finite numbers, each of them once, got "
            f"{bad!r:.200}; write {line_for_labels(image)}"
        )
    bad = unwritable(labels)
    if bad:
        raise ChannelError(
            f"{parameter}: channel labels must be text that can be written, got {bad!r:.300}; is "
            "it the name of a file that is not UTF-8? rename it"
        )


def pixels(image: xr.DataArray) -> Array:
    """The array of `image` with axes (c, z, y, x), z of length 1 for 2-D images."""
    return backends.from_dims(image.data, [str(dim) for dim in image.dims])


def shared_pixels(image: xr.DataArray) -> Array:
    """As `pixels`, but of a lazy image no more than a view of its own Dask array.

    Callers who compute it with other arrays that are made from the image compute it once.
    """
    return standard_axes(image.data, "".join(map(str, image.dims)))


def like(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (c, z, y, x), in the dims, coordinates, name and attrs of `image`."""
    return _like(backends.to_dims(array, [str(dim) for dim in image.dims]), image)


def placeholder(image: xr.DataArray, kept: Sequence[Label]) -> xr.DataArray:
    """A placeholder for an image with only some of its channels: its dims and coordinates.

    Its pixels are zeros that take no memory.
    """
    channels = xr.Dataset({"positions": (CHANNEL, range(image.sizes[CHANNEL]))}, image.coords)
    sizes = {**image.sizes, CHANNEL: len(kept)}
    nothing = np.broadcast_to(np.zeros((), image.dtype), tuple(sizes.values()))
    coords = select_known_channels(channels, kept).coords
    return xr.DataArray(nothing, coords, image.dims, image.name, image.attrs)


def like_plane(image: xr.DataArray, array: Array) -> xr.DataArray:
    """`array`, with axes (1, z, y, x), in the dims and coordinates of `image` without channels."""
    array = backends.to_dims(array, [str(dim) for dim in image.dims])
    plane = image.isel({CHANNEL: 0}, drop=True)
    return _like(array.squeeze(image.dims.index(CHANNEL)), plane)


def _like(array: Array, template: xr.DataArray) -> xr.DataArray:
    # xarray drops the attrs of results only if its option keep_attrs is False.
    attrs = {} if xr.get_options()["keep_attrs"] is False else template.attrs
    if array.shape == template.shape:
        made = template.copy(deep=False, data=array)  # faster: coordinates are not checked again
        made.attrs, made.encoding = attrs, {}
        return made
    made = xr.DataArray(array, dims=template.dims, coords=template.coords, attrs=attrs)
    made.name = template.name  # None as an argument would take the name of a Dask array
    return made


def as_float(image: xr.DataArray) -> xr.DataArray:
    """`image` in the float type in which it is processed; never the caller's own array."""
    return like(image, pixels(image).astype(processing_dtype(image)))


def processing_dtype(image: xr.DataArray) -> DType:
    """The float type in which `image` is processed."""
    return float_dtype(image.dtype)
