"""Scales and chunks of a layer: those it has, and those that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from ..errors import ParameterError, spelled
from ..images.parameters import SPATIAL, parse_chunks, parse_scale_factors
from ..images.scales import ScaleFactors, cumulative, factors_between, new_sizes, say_new_sizes


@dataclass(frozen=True)
class Layout:
    """Chunks of each scale of a layer, and the factors between the scales."""

    chunks: tuple[Mapping[str, int], ...]
    factors: tuple[Mapping[str, int], ...]

    @classmethod
    def of(
        cls, element: object, image: xr.DataArray, chunks: object, scale_factors: object
    ) -> Layout:
        """The layout that the parameters ask for, or else that of the input."""
        dims = [str(dim) for dim in image.dims]
        spatial = [dim for dim in SPATIAL if dim in dims]
        chosen = parse_chunks(chunks, dims)
        finest = {**_regular_chunks(image), **chosen}
        factors: Sequence[ScaleFactors] | None = parse_scale_factors(scale_factors, spatial)
        if factors is not None:
            coarser = [finest] * len(factors)
        else:
            scales = scales_of(element)
            factors = factors_between(scales, [f"scale{i}" for i in range(len(scales))])
            coarser = [
                {**finest, **_regular_chunks(scale.isel(c=0)), **chosen} for scale in scales[1:]
            ]
        for level, smaller in enumerate(cumulative(factors), start=1):
            if any(image.sizes[dim] < factor for dim, factor in smaller.items()):
                raise ParameterError(
                    f"{spelled('scale_factors')} must leave at least one pixel: the image has "
                    f"{dict(image.sizes)} pixels, and scale {level} would be {smaller} times "
                    "smaller"
                )
        return cls((finest, *coarser), tuple(factors))


def layouts_of(
    elements: Mapping[str, object],
    images: Mapping[str, xr.DataArray],
    chunks: object,
    scale_factors: object,
) -> dict[str, Layout]:
    """The layout of each image, by the name of the element that it is of; warns of new sizes."""
    layouts = {
        name: Layout.of(elements[name], image, chunks, scale_factors)
        for name, image in images.items()
    }
    if scale_factors is None:
        sizes = {
            name: new_sizes(scales_of(elements[name]), layout.factors)
            for name, layout in layouts.items()
        }
        say_new_sizes(sizes, f"; {spelled('scale_factors')} chooses others")
    return layouts


def scales_of(element: Any) -> list[xr.DataArray]:
    """The images of a layer, finest first."""
    if isinstance(element, xr.DataArray):
        return [element]
    return [next(iter(element[name].data_vars.values())) for name in element.children]


def with_data(element: Any, scales: Sequence[object]) -> object:
    """A copy of an element that holds the arrays `scales`, finest first."""
    if isinstance(element, xr.DataArray):
        return element.copy(data=scales[0])
    copy = element.copy()
    for name, scale in zip(element.children, scales, strict=True):
        node = copy[name]
        (variable,) = node.data_vars
        node[variable] = node[variable].copy(data=scale)
    return copy


def _regular_chunks(image: xr.DataArray) -> dict[str, int]:
    """Size of the largest chunk along each dimension: zarr's chunks are all of one size."""
    return {str(dim): max(sizes) for dim, sizes in image.variable.chunksizes.items()}
