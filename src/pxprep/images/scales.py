"""Multiscale images: the factors between scales, and coarser scales made again."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Array
from ..engine import backends
from ..errors import ImageError, listed, warn
from .image import like, processing_dtype, shared_pixels
from .parameters import SPATIAL

ScaleFactors = Mapping[str, int]
# Keys in attrs: sizes of pixels in micrometres, by dim or for all; SpatialData's transformations.
SIZES, TRANSFORMS = "um_per_pixel", "transform"
# The coordinate system that layers with known pixel sizes have beside "global", that of pixels; and
# what SpatialData's readers, too, call coordinate systems in micrometres.
MICRONS = "microns"
MICRON_SYSTEMS = (MICRONS, "micrometers", "micrometer", "um", "µm")
# How many images a warning lists.
MOST_SAID = 10


def known_length(value: Any) -> float | None:
    """A size of a pixel in attrs as a number; None if it is none, or not above 0."""
    try:
        length = float(value)
    except (TypeError, ValueError):
        return None
    return length if 0 < length < float("inf") else None


def known_sizes(image: xr.DataArray) -> dict[str, float]:
    """Micrometres of a pixel by dim, as far as attrs tell them: a size for each dim, or for all."""
    sizes = image.attrs.get(SIZES)
    of_dims = sizes if isinstance(sizes, Mapping) else dict.fromkeys(SPATIAL, sizes)
    lengths = {dim: known_length(of_dims.get(dim)) for dim in SPATIAL if dim in image.dims}
    return {dim: length for dim, length in lengths.items() if length is not None}


def factors_between(scales: Sequence[xr.DataArray], names: Sequence[str]) -> list[ScaleFactors]:
    """The factors by which each scale is smaller than the one before, or the nearest whole ones.

    If scales were cropped, or their sizes rounded up, no whole factor fits exactly.

    Parameters
    ----------
    scales
        The images of a pyramid, finest first.
    names
        What they are called, for messages.

    Raises
    ------
    ImageError
        If a scale is larger than the one before, or hardly smaller, or has other dims.
    """
    return [
        _factors(*sizes, f"{name!r}")
        for sizes, name in zip(pairwise(scales), names[1:], strict=True)
    ]


def _factors(finer: xr.DataArray, coarser: xr.DataArray, name: str) -> ScaleFactors:
    """For each dim the smallest factor that makes the coarser size of the finer one.

    The same for all dims if one fits all: 5 pixels become 1 by a factor of 3, 4 or 5, so the factor
    of an odd pyramid cannot be read off a single dim.
    """
    if set(finer.dims) != set(coarser.dims):
        raise ImageError(
            f"scale {name} must have the dims of the scale before, {finer.dims}, got {coarser.dims}"
        )
    sizes = {dim: (finer.sizes[dim], coarser.sizes[dim]) for dim in SPATIAL if dim in finer.dims}
    larger = [f"{dim}: {size} to {new}" for dim, (size, new) in sizes.items() if new > size]
    if larger:
        raise ImageError(
            f"scale {name} must not be larger than the scale before, got {', '.join(larger)}"
        )
    shrunk = {dim: pair for dim, pair in sizes.items() if pair[1] < pair[0]}
    smallest = {dim: size // (new + 1) + 1 for dim, (size, new) in sizes.items()}
    if all(size // smallest[dim] == new for dim, (size, new) in sizes.items()):
        common = max((smallest[dim] for dim in shrunk), default=1)
        does_for_all = all(size // common == new for size, new in shrunk.values())
    else:
        smallest |= {dim: round(size / new) for dim, (size, new) in shrunk.items()}
        # The factor of the longest side, which a pixel more or less changes least.
        common = smallest[max(shrunk, key=lambda dim: shrunk[dim])]
        does_for_all = all(abs(size / common - new) <= 1 for size, new in shrunk.values())
    factors = smallest | (dict.fromkeys(shrunk, common) if does_for_all else {})
    hardly = [f"{dim}: {size} to {new}" for dim, (size, new) in shrunk.items() if factors[dim] == 1]
    if hardly:
        raise ImageError(
            f"scale {name} must be smaller than the scale before by a whole factor, or nearly so, "
            f"got {', '.join(hardly)}; give the finest scale only, or scale_factors for a layer"
        )
    return factors


def new_sizes(scales: Sequence[xr.DataArray], factors: Sequence[ScaleFactors]) -> str:
    """In words, which coarser scales get other sizes by the factors; empty if none does."""
    changes = []
    for scale, by_dim in zip(scales[1:], cumulative(factors), strict=True):
        sizes = {dim: scales[0].sizes[dim] // factor for dim, factor in by_dim.items()}
        if any(scale.sizes[dim] != size for dim, size in sizes.items()):
            old = " x ".join(str(scale.sizes[dim]) for dim in sizes)
            changes.append(f"{old} becomes {' x '.join(map(str, sizes.values()))}")
    return ", ".join(changes)


def say_new_sizes(by_name: Mapping[str, str], otherwise: str = "") -> None:
    """Warn of images some of whose scales get other sizes: by image what `new_sizes` returned.

    `otherwise` is added to the warning: how to get other scales.
    """
    resized = [f"{name!r}: {sizes}" for name, sizes in by_name.items() if sizes]
    if resized:
        warn(
            "coarser scales are not smaller than the finest one by a whole factor: they are made "
            "again with the nearest whole factors: "
            f"{listed(resized, MOST_SAID, '; ')}{otherwise}"
        )


def cumulative(factors: Sequence[ScaleFactors]) -> list[ScaleFactors]:
    """The factors between the finest scale and each coarser one."""
    each = accumulate(factors, lambda total, by_dim: {d: total[d] * by_dim[d] for d in by_dim})
    return list(each)


def with_coarser_coordinates(image: xr.DataArray, factors: ScaleFactors) -> xr.DataArray:
    """What `cut_to_size` returns, with coordinates along the dims in `factors`, too.

    Of those, numbers become means over the same pixels; all else is left out.
    """
    return cut_to_size(image, factors).assign_coords(_coords_of_rectangles(image, factors))


def cut_to_size(image: xr.DataArray, factors: ScaleFactors) -> xr.DataArray:
    """`image` cut to the size of means over rectangles of pixels, with the attrs of these.

    It has no coordinates along the dims in `factors`. Its values are not the means: the caller puts
    them in.
    """
    along = [name for name, coord in image.coords.items() if set(coord.dims) & set(factors)]
    sizes = {dim: slice(image.sizes[dim] // factor) for dim, factor in factors.items()}
    smaller = image.drop_vars(along).isel(sizes)
    if set(factors.values()) <= {1}:
        return smaller
    return smaller.assign_attrs(_attrs_of_rectangles(image, factors))


def means_of_rectangles(image: xr.DataArray, factors: ScaleFactors) -> Array:
    """The means over rectangles of pixels, with axes (c, z, y, x); NaN is ignored."""
    z, y, x = (factors.get(dim, 1) for dim in SPATIAL)
    return backends.coarsen(shared_pixels(image), (z, y, x), dtype=processing_dtype(image))


def _coords_of_rectangles(image: xr.DataArray, factors: ScaleFactors) -> dict[object, object]:
    return {
        name: (coord.dims, _means_along(coord, factors), coord.attrs)
        for name, coord in image.coords.items()
        if coord.ndim == 1 and coord.dims[0] in factors and coord.dtype.kind in "iuf"
    }


def _means_along(coord: xr.DataArray, factors: ScaleFactors) -> object:
    factor = factors[str(coord.dims[0])]
    whole = coord.values[: coord.size - coord.size % factor].astype(np.float64)
    return whole.reshape(-1, factor).mean(axis=1)


def _attrs_of_rectangles(image: xr.DataArray, factors: ScaleFactors) -> dict[str, object]:
    """The sizes of pixels, and SpatialData's transformations, for means over rectangles."""
    sizes, transforms = (image.attrs.get(key) for key in (SIZES, TRANSFORMS))
    attrs: dict[str, object] = {} if sizes is None else {SIZES: _larger(sizes, image, factors)}
    if isinstance(transforms, Mapping) and all(
        hasattr(transform, "to_affine") for transform in transforms.values()
    ):
        axes = tuple(dim for dim in ("x", "y", "z") if dim in image.dims)
        scale = np.diag([*(factors.get(dim, 1.0) for dim in axes), 1.0])
        affines = {name: transforms[name].to_affine(axes, axes) for name in transforms}
        attrs[TRANSFORMS] = {
            name: type(affine)(affine.matrix @ scale, axes, axes)
            for name, affine in affines.items()
        }
    return attrs


def _attrs_with_new_sizes(
    scale: xr.DataArray, before: xr.DataArray, after: xr.DataArray
) -> Mapping[Any, object]:
    """Attrs with the sizes of pixels of a coarser scale, where those of the finest were changed.

    Some writers copy the finest scale's sizes to all scales: such copies become the new ones.
    """
    sizes, old, new = map(known_sizes, (scale, before, after))
    if sizes == old:
        return after.attrs
    ratios = {dim: length / old[dim] for dim, length in new.items() if dim in old}
    return {SIZES: _larger(scale.attrs.get(SIZES), scale, ratios)}


def _larger(sizes: object, image: xr.DataArray, factors: Mapping[str, float]) -> object:
    """Sizes of pixels in attrs, by dim or one for all, multiplied by the factors.

    Those that are not known stay as they are. One for all dims becomes one for each where the
    factors differ.
    """
    if isinstance(sizes, Mapping):
        known = {dim: known_length(size) for dim, size in sizes.items() if factors.get(dim, 1) != 1}
        return {**sizes, **{dim: length * factors[dim] for dim, length in known.items() if length}}
    length = known_length(sizes)
    if length is None:
        return sizes
    by_dim = {dim: length * factors.get(dim, 1) for dim in SPATIAL if dim in image.dims}
    return by_dim if len(set(by_dim.values())) > 1 else by_dim["x"]


def coarser_scales(
    finest: xr.DataArray, scales: Sequence[xr.DataArray], factors: Sequence[ScaleFactors]
) -> list[xr.DataArray]:
    """The coarser ones of `scales` made from `finest`, with their coordinates, attrs and chunks.

    If `finest` has other pixel sizes or transformations than before, so have the coarser ones.
    """
    made = []
    for scale, by_dim in zip(scales[1:], cumulative(factors), strict=True):
        sizes = {dim: finest.sizes[dim] // factor for dim, factor in by_dim.items()}
        if not all(sizes.values()):
            raise ImageError(f"every scale must keep at least one pixel, got one of {sizes}")
        changed = {dim for dim, size in sizes.items() if size != scale.sizes[dim]}
        along = [name for name, coord in scale.coords.items() if changed & set(coord.dims)]
        coords = _coords_of_rectangles(finest, by_dim)
        moved = {name: coords[name] for name in along if name in coords}
        means = means_of_rectangles(finest, by_dim)
        coarser = like(scale.drop_vars(along), means).assign_coords(moved)
        sizes_attrs = _attrs_with_new_sizes(scale, scales[0], finest)
        transforms_attrs = _attrs_of_rectangles(finest, by_dim)
        for key, new in ((SIZES, sizes_attrs), (TRANSFORMS, transforms_attrs)):
            was_moved = finest.attrs.get(key) is not scales[0].attrs.get(key)
            if was_moved and key in coarser.attrs and key in new:
                coarser.attrs[key] = new[key]
        chunked = coarser.chunks is not None and scale.chunks is not None
        chunks = {
            dim: max(parts) if dim in changed else parts
            for dim, parts in scale.variable.chunksizes.items()
        }
        made.append(coarser.chunk(chunks) if chunked else coarser)
    return made
