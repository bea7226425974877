"""Multiscale images: the factors between scales, and coarser scales made again."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import xarray as xr

from ..aliases import Label
from ..engine import backends
from ..errors import ImageError
from .image import like, processing_dtype, shared_pixels
from .parameters import SPATIAL

Factors = Mapping[str, int]


def factors_between(scales: Sequence[xr.DataArray], names: Sequence[Label]) -> list[Factors]:
    """The factors by which each scale is smaller than the one before.

    Parameters
    ----------
    scales
        The images of a pyramid, finest first.
    names
        What they are called, for messages.

    Raises
    ------
    ImageError
        If no whole factors make one scale's size from that of the scale before.
    """
    return [
        _factors(*sizes, f"{name!r}")
        for sizes, name in zip(pairwise(scales), names[1:], strict=True)
    ]


def _factors(finer: xr.DataArray, coarser: xr.DataArray, name: str) -> Factors:
    """The smallest factors that make the one's size the other's; one factor if that does for all.

    The factor of an odd pyramid cannot be read off a single dimension: 5 pixels become 1 by a
    factor of 3, 4 or 5.
    """
    if set(finer.dims) != set(coarser.dims):
        raise ImageError(
            f"scale {name} must have the dims of the scale before, {finer.dims}, got {coarser.dims}"
        )
    dims = [dim for dim in SPATIAL if dim in finer.dims]
    smallest = {dim: finer.sizes[dim] // (coarser.sizes[dim] + 1) + 1 for dim in dims}
    unfit = [dim for dim in dims if finer.sizes[dim] // smallest[dim] != coarser.sizes[dim]]
    if unfit:
        sizes = ", ".join(f"{dim}: {finer.sizes[dim]} to {coarser.sizes[dim]}" for dim in unfit)
        raise ImageError(
            f"scale {name} must be smaller than the scale before by whole factors, the rest left "
            f"out, got {sizes}"
        )
    shrunk = [dim for dim in dims if coarser.sizes[dim] < finer.sizes[dim]]
    common = max((smallest[dim] for dim in shrunk), default=1)
    if all(finer.sizes[dim] // common == coarser.sizes[dim] for dim in shrunk):
        smallest.update(dict.fromkeys(shrunk, common))
    return smallest


def cumulative(factors: Sequence[Factors]) -> list[dict[str, int]]:
    """The factors between the finest scale and each coarser one."""
    total: dict[str, int] = {}
    levels = []
    for by_dim in factors:
        total = {dim: total.get(dim, 1) * factor for dim, factor in by_dim.items()}
        levels.append(total)
    return levels


def coarser_scales(
    finest: xr.DataArray, scales: Sequence[xr.DataArray], factors: Sequence[Factors]
) -> list[xr.DataArray]:
    """The coarser ones of `scales` made from `finest`, with their coordinates, attrs and chunks."""
    array, dtype = shared_pixels(finest), processing_dtype(finest)
    made = []
    for scale, by_dim in zip(scales[1:], cumulative(factors), strict=True):
        z, y, x = (by_dim.get(dim, 1) for dim in SPATIAL)
        template = _resized(scale, {dim: finest.sizes[dim] // by_dim[dim] for dim in by_dim})
        coarser = like(template, backends.coarsen(array, (z, y, x), dtype=dtype))
        chunked = coarser.chunks is not None and scale.chunks is not None
        made.append(coarser.chunk(dict(template.chunksizes)) if chunked else coarser)
    return made


def _resized(scale: xr.DataArray, sizes: Mapping[str, int]) -> xr.DataArray:
    """`scale` itself, or where the image was made smaller, what is left of it."""
    changed = {dim: size for dim, size in sizes.items() if size != scale.sizes[dim]}
    if not all(sizes.values()):
        raise ImageError(f"every scale must keep at least one pixel, got one of {dict(sizes)}")
    along = [name for name, coord in scale.coords.items() if set(coord.dims) & set(changed)]
    return scale.drop_vars(along).isel({dim: slice(size) for dim, size in changed.items()})
