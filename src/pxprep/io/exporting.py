"""Image layers, or images, become pyramidal OME-TIFFs, as QuPath, napari and others open them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import labels_or_positions, parse_channels, select_channels
from ..engine.progress import parse_progress
from ..errors import ChannelError, ImageError, ParameterError, StoreError, spelled
from ..images.image import checked
from ..images.parameters import parse_bool, parse_path
from ..images.scales import MICRON_SYSTEMS, SIZES, known_sizes
from ..layers.layouts import scales_of
from ..layers.new_layers import coarsened
from ..layers.reading import parse_names, read_checked
from ..layers.spatial_data import transformations_of
from ..store.files import MAX_NAME, WRITE_ERRORS, drafted, flush_entry
from .arrays import DIMS
from .stacks import NO_TIFFFILE

if TYPE_CHECKING:
    from spatialdata import SpatialData

# Side of a tile, and the longest side of the last level, in pixels.
TILE = 512
# Bytes of the rows that are read at a time, unless a row of tiles needs more.
AT_A_TIME = 128 * 2**20
ENDING = ".ome.tiff"
TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
# What attributes of XML cannot hold, or do not give back as it was.
NOT_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The first version of tifffile that escapes all names for XML.
ESCAPES = "2026.2.16"


def export_images(
    images: SpatialData | Mapping[str, xr.DataArray],
    folder: str | Path,
    img_layer: str | Sequence[str] | None = None,
    *,
    channels: Sequence[Label] | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write image layers, or images, as pyramidal OME-TIFFs, a file for each.

    Parameters
    ----------
    images
        A SpatialData object; or images by name, dims ``c``, ``y``, ``x``, optionally ``z``, in
        memory or lazy.
    folder
        Where the files go, each called by its layer: ``fov0_clean.ome.tiff``. Made if it is not
        there.
    img_layer
        Name of the layer to write, or of several; None for all images.
    channels
        Labels of the channels to write, in that order; None for all of them.
    overwrite
        Whether files that are there are replaced.

    Returns
    -------
    dict of str to pathlib.Path
        The files, by name of the layer.

    Raises
    ------
    ParameterError, LayerError, ImageError, ChannelError
        If a parameter breaks its rule, a layer is missing, or OME-TIFF has no such type of pixels
        or no such names, before anything is written; or if tifffile is not installed.
    StoreError
        If a file exists already and `overwrite` is False, or cannot be written; each file is there
        as a whole or not at all.

    Notes
    -----
    What is read back by `read_tiff` has the same bits, channels and pixel sizes (those of a
    coordinate system of micrometres, such as "microns", or else of attrs ``um_per_pixel``). Each
    further level is half as large: means of the finest pixels, NaN ignored, rounded for integers.
    Memory: some rows of one channel, 128 MiB or a row of tiles. Layers with several channels in a
    chunk are read once for each.

    Examples
    --------
    >>> import tempfile
    >>> from pxprep.datasets import tissue
    >>> from pxprep.io import export_images, read_tiff
    >>> fovs = tissue(n_fovs=1, size=64)
    >>> files = export_images(fovs, tempfile.mkdtemp())
    >>> files["fov0"].name, read_tiff(files["fov0"])["fov0"].equals(fovs["fov0"])
    ('fov0.ome.tiff', True)
    """
    try:
        import tifffile  # noqa: F401
    except ImportError as error:
        raise ParameterError(NO_TIFFFILE) from error
    may_replace = parse_bool(overwrite, "overwrite")
    target = parse_path(folder, "folder", "a folder")
    found = {
        name: _prepared(image, name) for name, image in _chosen(images, img_layer, channels).items()
    }
    files = {name: target / f"{name}{ENDING}" for name in found}
    _check_files(target, files, may_replace)
    for name, image in found.items():
        try:
            target.mkdir(parents=True, exist_ok=True)
            # Shows no bar, but the log says when it begins and ends.
            with parse_progress(False)(f"write {files[name].name}"), drafted(files[name]) as draft:
                _write(draft, image, name)
                flush_entry(draft)
        except OSError as error:
            if error.errno not in WRITE_ERRORS:
                raise
            raise StoreError(f"{str(files[name])!r} cannot be written: {error}") from error
    return files


def _chosen(
    images: SpatialData | Mapping[str, xr.DataArray],
    img_layer: str | Sequence[str] | None,
    channels: Sequence[Label] | None,
) -> dict[str, xr.DataArray]:
    """The images by name, with the channels and pixel sizes that are known."""
    if not isinstance(images, Mapping) and not hasattr(images, "images"):
        raise ParameterError(
            "images must be a SpatialData object, or images by name, as {'fov0': image}, got "
            f"{type(images).__qualname__}"
        )
    wanted = parse_channels(channels)
    known = images if isinstance(images, Mapping) else images.images
    if not known:
        raise ParameterError("images must hold at least one image, got none")
    names = parse_names(list(known) if img_layer is None else img_layer, "img_layer")
    if isinstance(images, Mapping):
        missing = [name for name in names if name not in images]
        if missing:
            raise ParameterError(
                f"img_layer must name some of the images {list(images)}, got {names}"
            )
        found = {name: checked(images[name], f"image {name!r}") for name in names}
        return {name: select_channels(image, wanted) for name, image in found.items()}
    read = read_checked(images, names, wanted)
    sizes = {name: _um_per_pixel(images.images[name]) for name in read}
    return {
        name: image.assign_attrs({SIZES: sizes[name]}) if sizes[name] else image
        for name, image in read.items()
    }


def _um_per_pixel(element: object) -> dict[str, float]:
    """Micrometres of a pixel by dim, where a layer's scale to them is known."""
    systems = transformations_of(element)
    transformation = next((systems[name] for name in MICRON_SYSTEMS if name in systems), None)
    if transformation is None:
        return {}
    dims = [dim for dim in DIMS[1:] if dim in scales_of(element)[0].dims]
    matrix = transformation.to_affine_matrix(tuple(dims), tuple(dims))
    sizes = np.diag(matrix)[:-1]
    if not np.array_equal(matrix[:-1, :-1], np.diag(sizes)):
        return {}
    return {dim: float(size) for dim, size in zip(dims, sizes, strict=True)}


def _prepared(image: xr.DataArray, name: str) -> xr.DataArray:
    """An image in the order of a file; raises if a file cannot hold it."""
    is_good = name and not set(name) & set("/\\") and not NOT_XML.search(name)
    if not is_good or len(f"{name}{ENDING}".encode()) > MAX_NAME:
        raise ParameterError(f"the name of an image must be that of a file, got {name!r:.300}")
    if image.dtype.name not in TYPES:
        raise ImageError(
            f"image {name!r} must have one of the types of OME-TIFF, {', '.join(TYPES)}, got "
            f"{image.dtype}: convert it with image.astype"
        )
    labels = [str(label) for label in labels_or_positions(image)]
    bad = [label for label in labels if NOT_XML.search(label)]
    if bad:
        raise ChannelError(f"channels must have names that XML can hold, got {bad}")
    quoted = [text for text in (name, *labels) if '"' in text]
    if quoted and not _escapes():
        raise ParameterError(
            f"names with quotes need tifffile {ESCAPES} or later (pip install --upgrade tifffile), "
            f"got {quoted}"
        )
    return image.transpose(*[dim for dim in DIMS if dim in image.dims])


def _escapes() -> bool:
    """Whether tifffile escapes all names for XML."""
    import tifffile

    own, first = (
        [int(part) for part in text.split(".")[:3]] for text in (tifffile.__version__, ESCAPES)
    )
    return own >= first


def _check_files(folder: Path, files: Mapping[str, Path], may_replace: bool) -> None:
    """Raise an error unless the files can be written."""
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"folder must not be a file, got {str(folder)!r}")
    there = [str(file) for file in files.values() if file.exists()]
    if there and not may_replace:
        raise StoreError(f"files exist already; {spelled('overwrite=True')} replaces them: {there}")


def _write(file: Path, image: xr.DataArray, name: str) -> None:
    """Write an image and its coarser levels."""
    import tifffile

    labels = [str(label) for label in labels_or_positions(image)]
    if not _escapes():
        labels = [escape(label) for label in labels]
    axes = "".join(str(dim) for dim in image.dims).upper()
    metadata: dict[str, object] = {"axes": axes, "Name": name, "Channel": {"Name": labels}}
    for dim, size in known_sizes(image).items():
        metadata |= {f"PhysicalSize{dim.upper()}": size, f"PhysicalSize{dim.upper()}Unit": "µm"}
    levels = list(_levels(image))
    with tifffile.TiffWriter(file, bigtiff=True, ome=True) as tiff:
        for number, level in enumerate(levels):
            first = {"subifds": len(levels) - 1, "metadata": metadata}
            tiff.write(
                _tiles(level),
                shape=level.shape,
                dtype=image.dtype.newbyteorder("="),
                tile=(TILE, TILE),
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": 1},  # floats hardly shrink: more takes long for little
                **({"subfiletype": 1, "metadata": None} if number else first),
            )


def _levels(image: xr.DataArray) -> Iterator[xr.DataArray]:
    """The image, and means of its pixels, each level half as large as the one before."""
    yield image
    factor = 2
    while max(image.sizes["y"], image.sizes["x"]) // (factor // 2) > TILE:
        factors = {dim: min(factor, image.sizes[dim]) for dim in ("y", "x")}
        yield coarsened(image, factors)
        factor *= 2


def _tiles(image: xr.DataArray) -> Iterator[NumpyArray]:
    """The tiles of all planes, row by row; some rows are read at a time."""
    height, width = image.sizes["y"], image.sizes["x"]
    row = TILE * width * image.dtype.itemsize
    rows = TILE * max(1, AT_A_TIME // row)
    for plane in np.ndindex(*image.shape[:-2]):
        for top in range(0, height, rows):
            band = image[(*plane, slice(top, top + rows))].values
            for y in range(0, len(band), TILE):
                for x in range(0, width, TILE):
                    yield band[y : y + TILE, x : x + TILE]  # tifffile fills up those at the edges
