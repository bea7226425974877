"""OME-Zarr images, of versions 0.4 and 0.5: the finest scale, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Json
from ..engine.backends import from_zarr
from ..errors import ImageError, ParameterError, StoreError, listed_names, warn
from ..images.scales import SIZES
from ..store.contents import METADATA, read_attrs
from .arrays import DIMS, reading, with_channels
from .file_options import FileOptions
from .names import agreed, require_new
from .ome import UM_PER_UNIT

# What follows the name of an image in that of its folder.
ENDINGS = (".zarr", ".ome")


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return folder.is_dir() and any((folder / name).is_file() for name in METADATA)


def is_store(folder: Path) -> bool:
    """Whether a zarr group is a SpatialData store, as the result of an import beside the images."""
    return "spatialdata_attrs" in _attrs(folder)


def zarr_images(folders: Sequence[Path], options: FileOptions) -> dict[str, xr.DataArray]:
    """The images in several folders as one cohort."""
    images: dict[str, xr.DataArray] = {}
    for folder in folders:
        groups = _groups(folder)
        for group in groups:
            name = _name(folder) if len(groups) == 1 else f"{_name(folder)}_{group.name}"
            require_new([name], images, folder)
            images[name] = _image(group, options, name)
    return agreed(images, options.channels)


def _name(folder: Path) -> str:
    name = folder.name
    for ending in ENDINGS:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _groups(folder: Path) -> list[Path]:
    """The images in a folder: itself, or those that bioformats2raw numbers."""
    attrs = _attrs(folder)
    if "multiscales" in attrs:
        return [folder]
    if is_store(folder):
        raise ParameterError(
            f"{str(folder)!r} is a SpatialData store: spatialdata.read_zarr opens it, and its "
            "layers can be used as they are"
        )
    numbered = (path for path in folder.iterdir() if path.name.isdecimal() and is_zarr(path))
    found = [path for path in numbered if "multiscales" in _attrs(path)]
    if not found:
        raise ImageError(
            f"{str(folder)!r} is zarr, but no OME-Zarr image: neither it nor a numbered folder in "
            "it has 'multiscales' in its attributes"
        )
    return sorted(found, key=lambda path: int(path.name))


def _attrs(group: Path) -> Json:
    """The attributes of a group, of either format; those of OME-Zarr 0.5 lie under "ome"."""
    try:
        attrs = read_attrs(group)
        return {**attrs, **attrs.get("ome", {})}
    except (StoreError, TypeError) as error:
        raise ImageError(f"{str(group)!r} cannot be read: {error!s:.300}") from error


def _image(group: Path, options: FileOptions, name: str) -> xr.DataArray:
    """The finest scale of an image, with dims c, perhaps z, y and x."""
    attrs, what = _attrs(group), f"image {name!r} of {str(group)!r}"
    with reading(what, " as OME-Zarr"):
        multiscale, *others = attrs["multiscales"]
        dims = [str(axis["name"]) for axis in multiscale["axes"]]
        units = {str(axis["name"]): str(axis.get("unit", "")) for axis in multiscale["axes"]}
        finest = multiscale["datasets"][0]
        array = from_zarr(group / finest["path"])
        sizes = _um_per_pixel([multiscale, finest], dims, units)
        known = attrs.get("omero", {}).get("channels", [])
        labels = [str(channel.get("label") or channel.get("name") or "") for channel in known]
        left_out = [str(other["datasets"][0]["path"]) for other in others]
    if left_out:
        warn(
            f"{what} has {1 + len(others)} multiscales: {finest['path']!r}, the first, is read; "
            f"left out are {listed_names(left_out)} (dask.array.from_zarr opens them)"
        )
    image = xr.DataArray(array, dims=dims)
    extra = {dim: image.sizes[dim] for dim in dims if dim not in DIMS}
    if any(size > 1 for size in extra.values()) or not {"y", "x"} <= set(dims):
        raise ImageError(
            f"{what} must have the axes c, z, y and x, or some of them, and one point in time, it "
            f"has {dict(image.sizes)}"
        )
    image = image.isel(dict.fromkeys(extra, 0))
    if image.sizes.get("z", 2) == 1:
        image = image.isel(z=0)
    if "c" not in image.dims:
        image = image.expand_dims("c")
    pairs = options.labels(labels, image.sizes["c"], what)
    image = image.transpose(*[dim for dim in DIMS if dim in image.dims])
    image = with_channels(image, pairs)
    image.attrs["source"] = str(group)
    if sizes:
        image.attrs[SIZES] = sizes
    return image


def _um_per_pixel(
    parts: Sequence[Json], dims: Sequence[str], units: Mapping[str, str]
) -> dict[str, float]:
    """Micrometres by dim, where the metadata tell the unit."""
    factors = dict.fromkeys(dims, 1.0)
    for part in parts:
        for one in part.get("coordinateTransformations", []):
            if one.get("type") == "scale":
                for dim, factor in zip(dims, one["scale"], strict=True):
                    factors[dim] *= float(factor)
    return {
        dim: factors[dim] * UM_PER_UNIT[units[dim]]
        for dim in ("z", "y", "x")
        if dim in dims and units[dim] in UM_PER_UNIT and factors[dim] > 0
    }
