"""Masks for image layers: labels layers by name, read and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Json
from ..errors import LayerError, spelled
from ..images.masks import Mask, each_mask
from .backing import SourceState
from .layouts import scales_of
from .spatial_data import element_of, transformations_of

if TYPE_CHECKING:
    from spatialdata import SpatialData

# By name of the image layer; None where all pixels are measured.
LayerMasks = Mapping[str, Mask | None]


def parse_masks(where: object, layers: Sequence[str]) -> LayerMasks:
    """What the user gave for each image layer: names of labels layers, or arrays."""
    if where is None:
        return {}
    return dict(zip(layers, each_mask(where, layers), strict=True))


def read_masks(sdata: SpatialData, masks: LayerMasks) -> dict[str, Mask | None]:
    """The masks with the finest scale of labels layers in the place of their names, lazily.

    Raises
    ------
    LayerError
        If there are no such labels, or they lie elsewhere than the image.
    """
    with_labels: dict[str, Mask | None] = {}
    for layer, mask in masks.items():
        if mask is not None and isinstance(mask.source, str):
            element = element_of(sdata, mask.source, "labels", "where")
            _check_same_coordinates(sdata.images[layer], layer, element, mask.source)
            mask = mask.of(scales_of(element)[0])
        with_labels[layer] = mask
    return with_labels


def describe(masks: LayerMasks) -> Json:
    """What was asked for, to be kept with what was made."""
    return {layer: None if mask is None else _describe(mask) for layer, mask in masks.items()}


def sources_of(layers: Mapping[str, object], masks: LayerMasks) -> dict[str, SourceState]:
    """What layers are made from, by name, and what their masks are read from."""
    sources = {
        name: SourceState.of(element, f"{spelled('img_layer')} {name!r}")
        for name, element in layers.items()
    }
    for name, mask in masks.items():
        if mask is not None and isinstance(mask.source, xr.DataArray):
            # Dask names a lazy array by a hash of its content.
            key = f"where of {name}"
            state = sources[key] = SourceState.of(mask.source.chunk(), key)
            sources[name] = replace(sources[name], folders=sources[name].folders | state.folders)
    return sources


def _check_same_coordinates(image: object, layer: str, labels: object, name: str) -> None:
    """Raise LayerError if labels do not lie on the image, in a coordinate system of both.

    They do if each of their pixels lies within a tenth of a pixel of the one that it labels.
    """
    of_image, of_labels = transformations_of(image), transformations_of(labels)
    sizes = scales_of(labels)[0].sizes
    # Flat labels hold for all planes of a volume.
    axes = tuple(dim for dim in ("x", "y", "z") if dim in sizes)
    corners = np.array([*product(*((0, sizes[dim]) for dim in axes), [1])]).T
    for system in sorted(of_image.keys() & of_labels.keys()):
        image_matrix, labels_matrix = (
            transformations[system].to_affine_matrix(axes, axes)
            for transformations in (of_image, of_labels)
        )
        off = np.abs((labels_matrix - image_matrix) @ corners).max()
        pixel = np.linalg.norm(image_matrix[:-1, :-1], axis=0).min()
        if not off <= pixel / 10:
            raise LayerError(
                f"{spelled('where')}: labels {name!r} lie elsewhere than image {layer!r} in "
                f"{system!r}: their transformations differ (if the pixels do correspond, give the "
                "array itself)"
            )


def _describe(mask: Mask) -> Json:
    source = mask.source
    if isinstance(source, xr.DataArray):
        source = f"array of {source.dtype} {dict(source.sizes)}"
    labels = mask.labels if isinstance(mask.labels, str) else list(mask.labels)
    return {"source": source, "labels": labels, "inverted": mask.inverted}
