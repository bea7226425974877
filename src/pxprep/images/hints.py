"""What to do with what is no image: the line of code that makes one of it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ..aliases import Array
from ..channels import CHANNEL
from ..engine import backends
from ..errors import ImageError, PxprepError, type_name

# What the dims of an image are called elsewhere, in upper or lower case.
CALLED = {
    CHANNEL: "c ch channel channels band bands marker markers",
    "z": "z plane planes slice slices depth",
    "y": "y row rows height",
    "x": "x col cols column columns width",
}
# What tells images apart that are in one array.
SEVERAL = "t time timepoint timepoints fov fovs s sample samples image images scene tile"
# The axes of an array of so many dimensions; channels come last instead if they are fewest there.
AXES = {2: "yx", 3: "cyx", 4: "czyx", 5: "tczyx"}


def what_came(value: object, name: str = "image") -> str:
    """The type of something that is no image, and how it becomes one or several."""
    came = f"got {type_name(type(value))}"
    if isinstance(value, xr.Dataset):
        return came + _written(_line_to_select(value, name))
    if isinstance(value, str | Path):
        return f"{came}, the path {str(value)!r:.200}{_written(_line_to_open(value))}"
    if type(value).__qualname__ == "SpatialData":
        names = list(getattr(value, "images", ()))
        return (
            f"{came}: pxprep.pixel_clustering_preprocess makes new layers of its layers; to have "
            "those as images, " + _written(_line_to_read_layers("sdata", names), "")
        )
    shape = getattr(value, "shape", ())
    if hasattr(value, "dtype") and len(shape) in AXES:
        line = _line_to_label(value, name)
        return (
            f"{came} of shape {tuple(shape)}: its axes must be labeled, and coords={{'c': "
            f"names}} there names its channels{_written(line)}"
        )
    return came


def require_numpy_or_dask(
    array: xr.DataArray, parameter: str, name: str = "image", error: type[PxprepError] = ImageError
) -> None:
    """Raise an error unless an array holds a NumPy array, or a Dask array of those, of known size.

    Call it first: with other kinds of arrays even `.dtype` may fail. `name` is the array's in the
    line of code that makes a NumPy array of it.
    """
    held = backends.kind_of(array.data)
    is_masked = isinstance(held, np.ma.MaskedArray)
    # Older versions of Dask give a NumPy scalar as the type of a lazy number.
    if not isinstance(held, np.ndarray | np.generic) or is_masked:
        if hasattr(held, "magnitude"):  # of pint, which may itself hold a Dask array
            line = f"{name}.copy(data={name}.data.magnitude)"
        elif not backends.is_lazy(array.data):
            line = f"{name}.as_numpy()"
        else:
            block = "block.todense()" if hasattr(held, "todense") else "np.asarray(block)"
            block = "block.astype(float).filled(np.nan)" if is_masked else block
            line = f"{name}.copy(data={name}.data.map_blocks(lambda block: {block}))"
        raise error(
            f"{parameter} must hold a NumPy array or a Dask array of NumPy arrays, got "
            f"{type_name(type(held))}{_written(line)}"
        )
    if any(np.isnan(size) for size in array.shape):
        line = f"{name}.copy(data={name}.data.compute_chunk_sizes())"
        raise error(f"{parameter} must have a known shape, got {array.shape}{_written(line)}")


def line_for(image: xr.DataArray) -> str:
    """How to give an array the dims of an image; nothing where its own do not tell."""
    return _written(_with_dims(image, "image"))


def line_for_labels(image: xr.DataArray) -> str:
    """How to make texts of the labels of channels, or to drop labels that would not differ."""
    labels = image.coords[CHANNEL].values.tolist()
    kinds = {type(label) for label in labels}
    text = "str(label)"
    if kinds == {bytes}:
        labels, text = [label.decode(errors="replace") for label in labels], "label.decode()"
    elif kinds == {tuple}:  # of several levels
        labels, text = [" ".join(map(str, label)) for label in labels], "' '.join(map(str, label))"
    bare = f"image.reset_index({CHANNEL!r}, drop=True)" if kinds == {tuple} else "image"
    if len(set(map(str, labels))) < len(labels):
        return f"{bare}.drop_vars({CHANNEL!r})"
    made = f"[{text} for label in image.{CHANNEL}.values.tolist()]"
    return f"{bare}.assign_coords({{{CHANNEL!r}: {made}}})"


def line_for_dataset(node: "xr.Dataset | xr.DataTree") -> str:
    """How to give an array the dims of an image, in a dataset or a tree's node that has none."""
    arrays = sorted(node.data_vars.values(), key=lambda array: array.ndim)
    return _written(_with_dims(arrays[-1], "image")) if arrays else ""


def line_for_tree(tree: object, nodes: "Iterable[xr.DataTree]") -> str:
    """How to give arrays the dims of images, in a tree that has none; `nodes` are all its nodes."""
    lines = (line_for_dataset(node).partition("image.")[2] for node in nodes)
    line = next(filter(None, lines), "")
    if not line or not hasattr(tree, "map_over_datasets"):
        return ""
    return f"; write tree.map_over_datasets(lambda one: one.{line} if one.data_vars else one)"


def _written(line: str, before: str = "; ") -> str:
    return f"{before}write {line}" if line else ""


def _with_dims(image: xr.DataArray, line: str) -> str:
    """The line that renames dims, drops those of one pixel, and takes several images apart.

    It goes on from a line that gives the image.
    """
    begun, renamed = line, _renamed(image)
    dims = [renamed.get(dim, dim) for dim in image.dims]
    missing = {CHANNEL, "y", "x"} - set(dims)
    others = {dim: n for dim, n in zip(dims, image.shape, strict=True) if dim not in CALLED}
    several = [dim for dim, n in others.items() if n > 1]
    if missing - {CHANNEL} or len(several) > 1:
        return ""
    # Coordinates that have the new names already: of the dim itself, they become its labels.
    there = {old: image.coords[new] for old, new in renamed.items() if new in image.coords}
    labels = {old: renamed[old] for old, coord in there.items() if coord.dims == (old,)}
    in_the_way = [renamed[old] for old in there if old not in labels]
    others_renamed = {old: new for old, new in renamed.items() if old not in labels}
    line += f".drop_vars({in_the_way!r})" if in_the_way else ""
    line += f".swap_dims({labels!r})" if labels else ""
    line += f".rename({others_renamed!r})" if others_renamed else ""
    line += "".join(f".squeeze({dim!r})" for dim, n in others.items() if n == 1)
    line += f".expand_dims({CHANNEL!r})" if missing else ""
    if not several:
        return line
    (dim,) = several
    if dim in image.indexes and image.indexes[dim].is_unique:
        names = f"{begun}[{dim!r}].values.tolist()"
        return f"{{name: {line}.sel({{{dim!r}: name}}) for name in {names}}}"
    return f"[{line}.isel({{{dim!r}: i}}) for i in range({others[dim]})]"


def _renamed(image: xr.DataArray) -> dict[object, str]:
    """For dims with other names: which of c, z, y and x each is likely to be."""
    roles: dict[object, str] = {}
    for role, names in CALLED.items():
        alike = [dim for dim in image.dims if str(dim).lower() in names.split()]
        if role not in image.dims and len(alike) == 1:
            roles[alike[0]] = role
    known = {*CALLED, *roles}
    unknown = [d for d in image.dims if d not in known and str(d).lower() not in SEVERAL.split()]
    # Those that nobody knows, in the order that arrays have, if as many are missing.
    guessed: Sequence[str] = (CHANNEL, "y", "x")
    if len(unknown) > 2:
        guessed = _axes([image.sizes[dim] for dim in unknown])
    missing = [role for role in guessed if role not in (*image.dims, *roles.values())]
    if len(missing) == len(unknown):
        roles.update(zip(unknown, missing, strict=True))
    return roles


def _axes(shape: Sequence[int]) -> tuple[str, ...]:
    """The axes that an array of a shape is likely to have."""
    if len(shape) == 4 and shape[0] == 1:
        return ("t", *_axes(shape[1:]))
    axes = tuple(AXES[len(shape)]) if len(shape) in AXES else tuple(AXES[3])
    if len(shape) in (3, 4) and shape[-1] < min(shape[:-1]):
        return (*axes[1:], CHANNEL)
    return axes


def _line_to_label(array: Array, name: str) -> str:
    """The line that labels the axes of an array."""
    is_known = isinstance(array, np.ndarray) or backends.is_lazy(array)
    held = name if is_known else f"dask.array.from_array({name})"
    dims = _axes(array.shape)
    # The pixels are not looked at.
    alike = xr.DataArray(np.broadcast_to(False, array.shape), dims=dims)
    return _with_dims(alike, f"xr.DataArray({held}, dims={dims})")


def _line_to_select(dataset: xr.Dataset, name: str) -> str:
    names = [n for n, a in dataset.data_vars.items() if {CHANNEL, "y", "x"} <= set(a.dims)]
    return f"{name}[{names[0]!r}]" if names else ""


def line_for_address(address: str) -> str:
    """The line that opens a zarr array on a server, as each scale of an image is one."""
    return f"xr.DataArray(dask.array.from_zarr({address!r}), dims=('c', 'y', 'x'))"


def _line_to_open(given: str | Path) -> str:
    """The line that opens the images at a path or address: layers of a store, or files."""
    if "://" in str(given):
        return line_for_address(str(given))
    path = Path(given)
    layers = path / "images"
    if os.path.isdir(layers):  # noqa: PTH112 - False, too, for a name that cannot be one
        names = sorted(layer.name for layer in layers.iterdir() if layer.is_dir())
        return _line_to_read_layers(f"spatialdata.read_zarr({str(path)!r})", names)
    return f"pxprep.io.open_images({str(path)!r})"


def _line_to_read_layers(sdata: str, names: list[str]) -> str:
    return f"pxprep.layers.read_images({sdata}, {names!r})"
