"""Scales and chunks of a layer: those it has, and those that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import xarray as xr

from ._validate import SPATIAL, parse_chunks, parse_scale_factors
from .errors import ParameterError


@dataclass(frozen=True)
class Layout:
    """Chunks of each scale of a layer, and the factors between the scales."""

    chunks: tuple[Mapping[str, int], ...]
    factors: tuple[Mapping[str, int], ...]

    @classmethod
    def of(cls, element: Any, image: xr.DataArray, chunks: Any, scale_factors: Any) -> Layout:
        """The layout that the parameters ask for, or else that of the input."""
        dims = [str(dim) for dim in image.dims]
        spatial = [dim for dim in SPATIAL if dim in dims]
        asked = parse_chunks(chunks, dims)
        finest = {**_regular_chunks(image), **asked}
        factors = parse_scale_factors(scale_factors, spatial)
        if factors is not None:
            coarser = [finest] * len(factors)
        else:
            scales = scales_of(element)
            factors = [
                _factors_between(finer, coarser, spatial) for finer, coarser in pairwise(scales)
            ]
            coarser = [
                {**finest, **_regular_chunks(scale.isel(c=0)), **asked} for scale in scales[1:]
            ]
        layout = cls((finest, *coarser), tuple(factors))
        layout._check(image)
        return layout

    def _check(self, image: xr.DataArray) -> None:
        for level, factors in enumerate(self.cumulative, start=1):
            if any(image.sizes[dim] < factor for dim, factor in factors.items()):
                raise ParameterError(
                    f"scale_factors must leave at least one pixel: the image has "
                    f"{dict(image.sizes)} pixels, and scale {level} would be {factors} times "
                    "smaller"
                )

    @property
    def cumulative(self) -> list[dict[str, int]]:
        """The factors between the finest scale and each coarser one."""
        total: dict[str, int] = {}
        levels = []
        for factors in self.factors:
            total = {dim: total.get(dim, 1) * factor for dim, factor in factors.items()}
            levels.append(total)
        return levels


def scales_of(element: Any) -> list[xr.DataArray]:
    """The images of a layer, finest first."""
    if isinstance(element, xr.DataArray):
        return [element]
    return [next(iter(element[name].data_vars.values())) for name in element.children]


def with_data(element: Any, scales: Sequence[Any]) -> Any:
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
    return {str(dim): max(sizes) for dim, sizes in image.chunksizes.items()}


def _factors_between(
    finer: xr.DataArray, coarser: xr.DataArray, dims: Sequence[str]
) -> dict[str, int]:
    """The smallest factors that make the one's size the other's; one factor if that does for all.

    The factor of an odd pyramid cannot be read off a single dimension: 5 pixels become 1 by a
    factor of 3, 4 or 5.
    """
    smallest = {dim: finer.sizes[dim] // (coarser.sizes[dim] + 1) + 1 for dim in dims}
    shrunk = [dim for dim in dims if coarser.sizes[dim] < finer.sizes[dim]]
    common = max((smallest[dim] for dim in shrunk), default=1)
    if all(finer.sizes[dim] // common == coarser.sizes[dim] for dim in shrunk):
        smallest.update(dict.fromkeys(shrunk, common))
    return smallest
