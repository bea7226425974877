"""New layers: made of images, staged with SpatialData, verified, read back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from .. import ops
from ..aliases import Json
from ..channels import channel_labels, labels_or_positions
from ..engine import backends, computing
from ..engine.progress import Progress
from ..errors import StoreError
from ..images.scales import TRANSFORMS, ScaleFactors, cumulative
from ..store import files
from ..store.contents import KEY, edit_attrs, ome_attrs, zarr_format
from ..store.zarr_chunks import direct
from .backing import array_folders, layer_folder, missing_chunks
from .layouts import Layout, scales_of, with_data
from .records import MARK


def as_element(
    image: xr.DataArray, transformations: Mapping[str, object], layout: Layout
) -> object:
    """`image` as an element for SpatialData: every scale the mean of the finest pixels.

    Of integers it is rounded. SpatialData would take means of means and choose chunks. Layers are
    in native byte order, whatever order the pixels came in.
    """
    from spatialdata.models import Image2DModel, Image3DModel

    image = image.astype(image.dtype.newbyteorder("="), copy=False).chunk(layout.chunks[0])
    coarser = [coarsened(image, factors) for factors in cumulative(layout.factors)]
    scales = [
        scale.chunk(chunks).data
        for scale, chunks in zip([image, *coarser], layout.chunks, strict=True)
    ]
    model = Image3DModel if "z" in image.dims else Image2DModel
    element = model.parse(
        image.data,
        dims=image.dims,
        c_coords=None if channel_labels(image) is None else list(labels_or_positions(image)),
        transformations=dict(transformations),
        scale_factors=[dict(factors) for factors in layout.factors] or None,
    )
    element = with_data(element, scales)
    for scale, made in zip(scales_of(element), [image, *coarser], strict=True):
        scale.attrs.update({key: made.attrs[key] for key in made.attrs if key != TRANSFORMS})
    return element


def coarsened(image: xr.DataArray, factors: ScaleFactors) -> xr.DataArray:
    """Means over rectangles of pixels, NaN ignored, rounded for integers; of the image's type."""
    is_float = image.dtype.kind == "f"
    # A float32 does not hold every integer.
    means: xr.DataArray = ops.coarsen(image if is_float else image.astype(np.float64), factors)
    return (means if is_float else means.round()).astype(image.dtype)


def stage(
    store: Path,
    root: Path,
    elements: Mapping[str, object],
    entries: Mapping[str, Json],
    bar: Progress,
    compressor: Mapping[str, int] | None,
) -> None:
    """Write elements to a store beside the stage, verify them there, and move them to the stage.

    SpatialData writes the metadata; the chunks of all elements are written here, in one pass. One
    thread may do so at a time: the settings of Dask and zarr that it needs hold for all threads.

    Parameters
    ----------
    store
        The store that the elements are for, whose format they get.
    root
        The stage, on the same file system as `store`.
    elements
        The elements by name.
    entries
        What is kept of each; a part of it goes into its own attrs, as its mark.
    bar, compressor
        As `Writer` has them.
    """
    import zarr
    from spatialdata._io.format import SpatialDataContainerFormatV01

    formats = SpatialDataContainerFormatV01() if zarr_format(store) == 2 else None
    # Older versions of SpatialData do not know the second one.
    options = {"sdata_formats": formats} | ({"raster_compressor": compressor} if compressor else {})
    # To add to a store, SpatialData reads the metadata of all elements in it.
    alone = root.with_name("alone.zarr")
    # The pass that writes needs the most memory; what earlier passes freed lies scattered.
    computing.give_back_memory()
    # A chunk of zeros is a file, too: a chunk without a file was not written.
    with zarr.config.set({"array.write_empty_chunks": True}):
        _describe(alone, elements, options)
        with files.flushing(alone), computing.threads_at_rest():
            _write(alone, elements, bar)
    for name, element in elements.items():
        place = layer_folder(alone, name)
        _check_staged(place, name, element)
        edit_attrs(place, partial(_add_mark, entries[name]))
    _join(alone, root, elements)


def _describe(root: Path, elements: Mapping[str, object], options: Mapping[str, object]) -> None:
    """Have SpatialData write elements without pixels, with its options, to the store `root`."""
    from spatialdata import SpatialData

    empty = {}
    for name, element in elements.items():
        arrays = [backends.without_pixels(scale.data) for scale in scales_of(element)]
        empty[name] = with_data(element, arrays)
    with computing.in_this_thread():
        SpatialData(images=empty).write(root, consolidate_metadata=False, **options)


def _write(root: Path, elements: Mapping[str, object], bar: Progress) -> None:
    """Write the pixels of elements to their arrays in a store."""
    arrays, targets = [], []
    for name, element in elements.items():
        arrays += [scale.data for scale in scales_of(element)]
        targets += [direct(array) for array in _empty_arrays(layer_folder(root, name), name)]
    what = next(iter(elements)) if len(elements) == 1 else f"{len(elements)} layers"
    with bar(f"write {what}"):
        backends.store(arrays, targets)
    # Drafts of workers that died on the way.
    for draft in root.rglob("*.partial"):
        draft.unlink(missing_ok=True)


def _join(alone: Path, root: Path, names: Iterable[str]) -> None:
    """Move elements from a store of their own to the stage."""
    if not root.exists():
        alone.rename(root)
        return
    for name in names:
        layer_folder(alone, name).rename(layer_folder(root, name))
    shutil.rmtree(alone)


def _empty_arrays(folder: Path, name: str) -> Sequence[object]:
    """The arrays of a layer on disk, none of whose chunks has been written; finest first."""
    from zarr import open_array

    arrays = []
    for path in array_folders(folder):
        array = open_array(path)
        # If there were chunks, nobody could see later whether ours were written over them.
        if len(missing_chunks(path, array)) < array.nchunks:
            raise StoreError(
                f"SpatialData wrote chunks of layer {name!r} of which it had no pixels; the store "
                "is as it was"
            )
        arrays.append(array)
    return arrays


def _add_mark(entry: Json, attrs: Json) -> Json:
    return {**attrs, KEY: {key: entry[key] for key in MARK}}


def _check_staged(folder: Path, name: str, element: object) -> None:
    """Raise StoreError unless an element was written as it was to be, every chunk of it."""
    from zarr import open_array

    def require(expected: object, written: object) -> None:
        if expected != written:
            raise StoreError(
                f"layer {name!r} was not written as it should be: expected {expected}, found "
                f"{written}; the store is as it was"
            )

    scales, paths = scales_of(element), array_folders(folder)
    require(f"{len(scales)} scales", f"{len(paths)} scales")
    for scale, path in zip(scales, paths, strict=True):
        array = open_array(path, mode="r")
        chunks = tuple(sizes[0] for sizes in scale.data.chunks)
        require(f"{scale.dtype}{scale.shape}", f"{array.dtype}{array.shape}")
        require(f"chunks {chunks}", f"chunks {array.chunks}")
        if missing := missing_chunks(path, array):
            raise StoreError(
                f"layer {name!r} was not written as it should be: {len(missing)} chunks are "
                f"missing, {missing[0]!r} the first; the store is as it was"
            )
    channels = ome_attrs(folder).get("omero", {}).get("channels", [])
    labels = scales[0].coords["c"].values.tolist()
    require(f"channels {labels}", f"channels {[channel.get('label') for channel in channels]}")


def on_disk(element: object, store: Path, name: str) -> object:
    """`element` with the arrays that were written for it, lazily; reads no other layer."""
    paths = array_folders(layer_folder(store, name))
    return with_data(element, [backends.from_zarr(path) for path in paths])
