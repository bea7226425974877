"""Masks for image layers: labels layers by name, read and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ._contents import Json
from ._layers import Source
from ._layouts import scales_of
from .errors import LayerError
from .masks import Mask, by_image, near

if TYPE_CHECKING:
    from spatialdata import SpatialData

# By name of the image layer; None where all pixels are measured.
LayerMasks = Mapping[str, Mask | None]


def asked_masks(where: Any, layers: Sequence[str]) -> LayerMasks:
    """What the user gave for each image layer: names of labels layers, or arrays."""
    if where is None:
        return {}
    return dict(zip(layers, by_image(where, layers), strict=True))


def read_masks(sdata: SpatialData, asked: LayerMasks) -> dict[str, Mask | None]:
    """The masks with the finest scale of labels layers in the place of their names, lazily.

    Raises
    ------
    LayerError
        If there are no such labels, or they lie elsewhere than the image.
    """
    masks: dict[str, Mask | None] = {}
    for layer, mask in asked.items():
        if mask is not None and isinstance(mask.source, str):
            element = _labels(sdata, mask.source)
            _check_place(sdata.images[layer], layer, element, mask.source)
            mask = mask.of(scales_of(element)[0])
        masks[layer] = mask
    return masks


def described(asked: LayerMasks) -> Json:
    """What was asked for, to be kept with what was made."""
    return {layer: None if mask is None else _described(mask) for layer, mask in asked.items()}


def mask_sources(masks: LayerMasks) -> dict[str, Source]:
    """What the masks are read from, by name of the image layer."""
    # The name of a lazy array stands for its content.
    return {
        layer: Source.of(mask.source.chunk())
        for layer, mask in masks.items()
        if mask is not None and isinstance(mask.source, xr.DataArray)
    }


def _labels(sdata: SpatialData, name: str) -> Any:
    if name in sdata.labels:
        return sdata.labels[name]
    kinds = {other: kind for kind, other, _ in sdata.gen_elements()}
    if name in kinds:
        raise LayerError(f"where: {name!r} must be labels, but it is one of the {kinds[name]}")
    raise LayerError(
        f"where: labels layer {name!r} does not exist{near(name, sdata.labels)}; labels are "
        f"{sorted(sdata.labels)}"
    )


def _check_place(image: Any, layer: str, labels: Any, name: str) -> None:
    """Raise LayerError if labels do not lie on the image, in a coordinate system of both."""
    from spatialdata.transformations import get_transformation

    places = [get_transformation(element, get_all=True) for element in (image, labels)]
    for system in sorted(set(places[0]) & set(places[1])):
        own, other = (place[system].to_affine_matrix(("x", "y"), ("x", "y")) for place in places)
        if not np.allclose(own, other):
            raise LayerError(
                f"where: labels {name!r} lie elsewhere than image {layer!r} in {system!r}: their "
                "transformations differ (if the pixels are the same all the same, give the array "
                "itself)"
            )


def _described(mask: Mask) -> Json:
    source = mask.source
    if isinstance(source, xr.DataArray):
        source = f"array of {source.dtype} {dict(source.sizes)}"
    labels = mask.labels if isinstance(mask.labels, str) else list(mask.labels)
    return {"source": source, "labels": labels, "inverted": mask.inverted}
