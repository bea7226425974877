"""Layers as images: the finest scale of each, lazily."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from ..aliases import DType, Label
from ..channels import parse_channels, select_channels
from ..errors import ChannelError, ParameterError, spelled
from ..images.image import checked, processing_dtype
from ..images.parameters import parse_float_dtype
from .backing import check_there
from .layouts import scales_of
from .spatial_data import check_sdata, element_of

if TYPE_CHECKING:
    from spatialdata import SpatialData


def read_images(
    sdata: SpatialData,
    layers: str | Sequence[str],
    channels: Sequence[Label] | None = None,
    *,
    dtype: object = None,
) -> dict[str, xr.DataArray]:
    """Image layers as a cohort for `pxprep.Pipeline.fit`: the finest scale of each, lazily.

    Parameters
    ----------
    sdata
        In memory or backed by a zarr store.
    layers
        Name of an image layer, or of several.
    channels
        Labels of the channels to use, in that order; where channels have none, their positions,
        which become the labels. None for all of them.
    dtype
        float32 or float64 to convert to; None leaves the layers' types.

    Returns
    -------
    dict of str to xarray.DataArray
        By name of the layer.

    Raises
    ------
    LayerError
        If a layer is missing or no image, or not on disk any more as it was when it was opened.
    ChannelError
        If a layer lacks one of `channels`.
    StoreError
        If chunks of a layer that pxprep wrote are missing.
    """
    float_type = parse_float_dtype(dtype)
    images = read_checked(sdata, layers, channels, parameter="layers")
    if float_type is None:
        return images
    return {name: image.astype(float_type, copy=False) for name, image in images.items()}


def read_checked(
    sdata: SpatialData,
    layers: str | Sequence[str],
    channels: Sequence[Label] | None = None,
    dtype: object = None,
    parameter: str = "img_layer",
) -> dict[str, xr.DataArray]:
    """As `read_images`; messages call the layers `parameter`.

    Layers that are processed in the type `dtype` anyway, as integers in float32, stay as they are.
    """
    check_sdata(sdata)
    names = parse_names(layers, parameter)
    for name in names:
        element = element_of(sdata, name, "images", parameter)
        check_there(element, f"{spelled(parameter)} {name!r}")
    return read_layers(sdata, names, parse_channels(channels), parse_float_dtype(dtype))


def read_layers(
    sdata: SpatialData, layers: Sequence[str], channels: Sequence[Label] | None, dtype: DType | None
) -> dict[str, xr.DataArray]:
    """As `read_checked`, of layers that were checked and parameters that were parsed before."""
    images = {}
    for name in layers:
        image = checked(scales_of(sdata.images[name])[0], f"layer {name!r}")
        try:
            image = select_channels(image, channels)
        except ChannelError as error:
            raise ChannelError(f"layer {name!r}: {error}") from error
        if dtype is not None and dtype != processing_dtype(image):
            image = image.astype(dtype)
        images[name] = image
    return images


def read_labels(sdata: SpatialData, name: str) -> xr.DataArray:
    """The finest scale of a labels layer, lazily if the object is backed by a store.

    Raises
    ------
    LayerError
        If the layer is missing or holds no labels, or is not on disk any more as it was.
    """
    element = element_of(sdata, name, "labels", "labels")
    check_there(element, f"labels {name!r}")
    return scales_of(element)[0]


def parse_names(layers: Any, parameter: str) -> list[str]:
    """The name of a layer, or several, each once, in an order, which a set does not have."""
    try:
        names = [layers] if isinstance(layers, str) else list(layers)
    except TypeError:
        names = []
    if (
        isinstance(layers, set | frozenset)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ParameterError(
            f"{spelled(parameter)} must be the name of a layer or a sequence of names, got "
            f"{layers!r}"
        )
    counts = Counter(name.casefold() for name in names)
    twice = [name for name in names if counts[name.casefold()] > 1]
    if twice:
        raise ParameterError(
            f"{spelled(parameter)} must name each layer once, also without regard to case, got "
            f"{twice}"
        )
    return [str(name) for name in names]
