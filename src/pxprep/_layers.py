"""Layers on disk: staged with SpatialData, verified, read back; and what is computed from them."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from . import _backends, _files, _store, ops
from ._channels import channel_labels, label_keys
from ._contents import KEY, edit_attrs, ome_attrs, zarr_format
from ._layouts import Layout, scales_of, with_data
from ._progress import Progress
from ._scales import Factors, cumulative
from ._zarr_chunks import direct
from .errors import LayerError, ParameterError, PxprepError, StoreError
from .masks import near

if TYPE_CHECKING:
    from spatialdata import SpatialData

# Settings of Dask and zarr that a write needs hold for all threads: one thread writes at a time.
WRITING = RLock()
# What the system says when it cannot write, and not because of anything in a task.
NOT_WRITTEN = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM")
    if hasattr(errno, name)
}
# What an element of a kind is called in messages.
KINDS = {"images": "an image", "labels": "labels"}
# Objects that refer to no array, or to everything.
_LEAVES = (str, bytes, int, float, complex, type, ModuleType, np.ndarray, np.generic, np.dtype)
_FOREIGN = ("distributed", "asyncio", "tornado", "logging", "threading", "_thread", "concurrent")


def check_installed() -> None:
    """Raise unless there is SpatialData."""
    try:
        import spatialdata  # noqa: F401
    except ImportError as error:
        raise PxprepError(
            "SpatialData is not installed: pip install 'pxprep[spatialdata]'"
        ) from error


def check_sdata(sdata: Any) -> None:
    """Raise unless `sdata` is a SpatialData object."""
    check_installed()
    from spatialdata import SpatialData

    if not isinstance(sdata, SpatialData):
        raise ParameterError(f"sdata must be a spatialdata.SpatialData, got {type(sdata)!r}")


def is_sdata(value: Any) -> bool:
    """Whether `value` is a SpatialData object; SpatialData is not imported to find out."""
    module = sys.modules.get("spatialdata")
    return module is not None and isinstance(value, module.SpatialData)


def element_of(sdata: SpatialData, name: str, kind: str, parameter: str) -> Any:
    """The element of a kind that a parameter names; raises LayerError if there is none."""
    known = getattr(sdata, kind)
    if name in known:
        return known[name]
    kinds = {other: other_kind for other_kind, other, _ in sdata.gen_elements()}
    if name in kinds:
        raise LayerError(
            f"{parameter} {name!r} must be {KINDS[kind]}, but it is one of the {kinds[name]}"
        )
    raise LayerError(
        f"{parameter} {name!r} does not exist{near(name, known)}; {kind} are {sorted(known)}"
    )


def store_path(sdata: SpatialData) -> Path | None:
    """The folder that holds the store of `sdata`, without symbolic links; None in memory."""
    path = sdata.path
    if path is None:
        return None
    if not isinstance(path, Path):
        raise StoreError(f"the store must be a folder on a local file system, got {path!r}")
    return path.resolve()


def layer_folder(store: Path, name: str) -> Path:
    """Where a layer lies in a store."""
    return store / "images" / name


def check_places(store: Path, names: Iterable[str]) -> None:
    """Raise unless layers of these names can be moved to their places in the store."""
    images = store / "images"
    if images.exists() and images.stat().st_dev != store.stat().st_dev:
        raise StoreError(
            f"{str(images)!r} must be on the same file system as the store, so that a layer can "
            "take its place in one step"
        )
    for name in names:
        folder = layer_folder(store, name)
        if folder.is_symlink():
            raise LayerError(
                f"output_layer {name!r} is a symbolic link to {str(folder.resolve())!r}: remove "
                "the link, or choose another name"
            )
        _store.check_permission(folder)


def check_dependents(sdata: SpatialData, store: Path, names: Sequence[str]) -> None:
    """Raise LayerError if another element of `sdata` is computed from a layer to be replaced.

    It would silently read the new layer once that is in its place.
    """
    places = {name: layer_folder(store, name) for name in names}
    places = {name: folder for name, folder in places.items() if folder.exists()}
    if not places:
        return
    users: dict[str, set[str]] = {name: set() for name in places}
    for kind, other, element in sdata.gen_elements():
        if kind not in ("images", "labels") or other in names:
            continue
        for folder in _backing_arrays([scale.data for scale in scales_of(element)]):
            for name, place in places.items():
                if folder.is_relative_to(place):
                    users[name].add(other)
    for name, found in users.items():
        if found:
            raise LayerError(
                f"output_layer {name!r} cannot be replaced: {sorted(found)} of sdata are "
                "computed from it; write them to the store or remove them first"
            )


def _backing_arrays(arrays: Sequence[Any]) -> set[Path]:
    """The folders of the zarr arrays that lazy arrays are computed from."""
    import zarr

    graphs = [data.__dask_graph__() for data in arrays]
    found = {(_root(array.store), array.path) for array in _reachable(graphs, zarr.Array)}
    resolved = {root: Path(root).resolve() for root, _ in found if root is not None}
    return {resolved[root] / path for root, path in found if root is not None}


def _root(store: Any) -> str | None:
    """The folder of a store of local files, which zarr has two kinds of."""
    root = getattr(store, "root", getattr(store, "path", None))
    return None if root is None else str(root).removeprefix("file://")


def _reachable(objects: Sequence[Any], kind: type) -> Iterator[Any]:
    """All objects of a kind that `objects` hold, however deep: no task is made or run for it."""
    seen: set[int] = set()
    todo: list[Any] = list(objects)
    while todo:
        item = todo.pop()
        if isinstance(item, _LEAVES) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            yield item
        elif isinstance(item, FunctionType):
            # Not its globals, which lead everywhere.
            todo += [item.__closure__, item.__defaults__, item.__kwdefaults__]
        elif type(item).__module__.partition(".")[0] not in _FOREIGN:
            todo += gc.get_referents(item)


@dataclass(frozen=True)
class Source:
    """What a layer is made from, as it was when it was read.

    Attributes
    ----------
    identity
        Tells it from any other image, also in a copy of the store.
    folders
        Of the layers on disk that it is read from.
    """

    identity: str
    folders: frozenset[Path]

    @classmethod
    def of(cls, element: Any) -> Source:
        """The source that an element of a SpatialData object is."""
        data = scales_of(element)[0].data
        arrays = sorted(_backing_arrays([data]))
        places = [_element_folder(array) for array in arrays]
        parts = [
            f"{_store.identity(place)}/{array.name}"
            for place, array in zip(places, arrays, strict=True)
        ]
        if not data.name.startswith("from-zarr") or not arrays:
            parts.append(data.name)  # Dask's name of what is computed, or of what is in memory
        return cls(" ".join(parts), frozenset(places))


def _element_folder(array: Path) -> Path:
    """The folder of the image that a zarr array belongs to: its group, or itself if it has none.

    What else lies in a plain folder around an array is no part of the image.
    """
    has_group = any((array.parent / name).is_file() for name in _store.METADATA)
    return array.parent if has_group else array


@dataclass(frozen=True)
class Snapshot:
    """Layers on disk as they were, to see later whether somebody else has changed them."""

    states: Mapping[Path, Any]

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Snapshot:
        """The state in which `folders` are now; they may be missing."""
        return cls({folder: _state(folder) for folder in folders})

    def check(self) -> None:
        """Raise StoreError if one of the layers is not what it was."""
        changed = [folder.name for folder, state in self.states.items() if _state(folder) != state]
        if changed:
            raise StoreError(
                f"another program changed {sorted(changed)} meanwhile: nothing was written; read "
                "the store again"
            )


def _state(folder: Path) -> Any:
    return _store.identity(folder), _files.folder_times(folder) if folder.is_dir() else None


def as_element(image: xr.DataArray, transformations: Mapping[str, Any], layout: Layout) -> Any:
    """`image` as an element for SpatialData: every scale the mean of the finest pixels.

    Of integers it is rounded. SpatialData would take means of means and choose chunks. Layers are
    in native byte order, whatever order the pixels came in.
    """
    from spatialdata.models import Image2DModel, Image3DModel

    image = image.astype(image.dtype.newbyteorder("="), copy=False).chunk(layout.chunks[0])
    coarser = [_coarsened(image, factors) for factors in cumulative(layout.factors)]
    scales = [
        scale.chunk(chunks).data
        for scale, chunks in zip([image, *coarser], layout.chunks, strict=True)
    ]
    model = Image3DModel if "z" in image.dims else Image2DModel
    element = model.parse(
        image.data,
        dims=image.dims,
        c_coords=None if channel_labels(image) is None else list(label_keys(image)),
        transformations=dict(transformations),
        scale_factors=[dict(factors) for factors in layout.factors] or None,
    )
    element = with_data(element, scales)
    own = {key: value for key, value in image.attrs.items() if key != "transform"}
    for scale in scales_of(element):
        scale.attrs.update(own)
    return element


def _coarsened(image: xr.DataArray, factors: Factors) -> xr.DataArray:
    is_float = image.dtype.kind == "f"
    # A float32 does not hold every integer.
    means: xr.DataArray = ops.coarsen(image if is_float else image.astype(np.float64), factors)
    return (means if is_float else means.round()).astype(image.dtype)


def transformations_of(element: Any) -> dict[str, Any]:
    """The transformations of an element, by coordinate system."""
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(element, get_all=True))


def stage(
    store: Path,
    folder: Path,
    elements: Mapping[str, Any],
    marks: Mapping[str, Mapping[str, Any]],
    bar: Progress,
    codec: Mapping[str, Any],
) -> dict[str, Path]:
    """Write elements to a store of their own in `folder`, and read them again to verify them.

    SpatialData writes what describes them; their chunks are written here.

    Parameters
    ----------
    store
        The store that they are for, whose format they get.
    folder
        On the file system of the store.
    elements
        By name.
    marks
        What is put into the attrs of each, under our key.
    bar, codec
        Shows the progress; the codec as `SpatialData.write_element` takes it.

    Returns
    -------
    dict of str to Path
        The folder of each staged element, by its place in the store.
    """
    import zarr
    from spatialdata import SpatialData
    from spatialdata._io.format import SpatialDataContainerFormatV01

    formats = SpatialDataContainerFormatV01() if zarr_format(store) == 2 else None
    root = folder / "stage.zarr"
    # A chunk of zeros is a file, too: a chunk without a file was not written.
    with WRITING, zarr.config.set({"array.write_empty_chunks": True}):
        staged = SpatialData()
        staged.write(root, sdata_formats=formats)
        for name, element in elements.items():
            # The pass that writes needs the most; what the others freed lies scattered.
            _backends.give_back_memory()
            with _files.flushing(layer_folder(root, name)), _backends.threads_at_rest():
                _write(staged, root, name, element, bar, {"sdata_formats": formats, **codec})
    moves = {}
    for name, element in elements.items():
        place = layer_folder(root, name)
        _check_staged(place, name, element)
        edit_attrs(place, partial(_marked, marks[name]))
        moves[f"images/{name}"] = place
    return moves


def _write(
    staged: SpatialData,
    root: Path,
    name: str,
    element: Any,
    bar: Progress,
    options: Mapping[str, Any],
) -> None:
    """Have SpatialData write an element without pixels, with its options; and write those."""
    arrays, place = [scale.data for scale in scales_of(element)], layer_folder(root, name)
    staged.images[name] = with_data(element, list(map(_backends.without_pixels, arrays)))
    with _backends.at_once():
        staged.write_element(name, **options)
    targets = [direct(array) for array in _empty_arrays(place, name)]
    with bar(f"write {name}"):
        _backends.store(arrays, targets)
    # Of workers that died on the way.
    for draft in place.rglob("*.partial"):
        draft.unlink(missing_ok=True)


def _empty_arrays(folder: Path, name: str) -> list[Any]:
    """The arrays of a layer on disk, none of whose chunks has been written; finest first."""
    from zarr import open_array

    arrays: list[Any] = [open_array(path) for path in _array_folders(folder)]
    for path, array in zip(_array_folders(folder), arrays, strict=True):
        # Of those nobody could tell whether their pixels have been.
        if len(_missing_chunks(path, array)) < array.nchunks:
            raise StoreError(
                f"SpatialData wrote chunks of layer {name!r} of which it had no pixels; the store "
                "is as it was"
            )
    return arrays


def _marked(mark: Mapping[str, Any], attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {**attrs, KEY: dict(mark)}


def _check_staged(folder: Path, name: str, element: Any) -> None:
    """Raise StoreError unless an element was written as it was to be, every chunk of it."""
    from zarr import open_array

    def require(expected: Any, found: Any) -> None:
        if expected != found:
            raise StoreError(
                f"layer {name!r} was not written as it should be: expected {expected}, found "
                f"{found}; the store is as it was"
            )

    scales, paths = scales_of(element), _array_folders(folder)
    require(f"{len(scales)} scales", f"{len(paths)} scales")
    for scale, path in zip(scales, paths, strict=True):
        array: Any = open_array(path, mode="r")
        chunks = tuple(sizes[0] for sizes in scale.data.chunks)
        require(f"{scale.dtype}{scale.shape}", f"{array.dtype}{array.shape}")
        require(f"chunks {chunks}", f"chunks {array.chunks}")
        missing = _missing_chunks(path, array)
        if missing:
            raise StoreError(
                f"layer {name!r} was not written as it should be: {len(missing)} chunks are "
                f"missing, {missing[0]!r} the first; the store is as it was"
            )
    channels = ome_attrs(folder).get("omero", {}).get("channels", [])
    labels = scales[0].coords["c"].values.tolist()
    require(f"channels {labels}", f"channels {[channel.get('label') for channel in channels]}")


def _missing_chunks(folder: Path, array: Any) -> list[str]:
    """The chunks of a zarr array that have no file, or an empty one."""
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    found = {
        os.path.relpath(os.path.join(path, file), folder).replace(os.sep, "/")  # noqa: PTH118
        for path, _, files in os.walk(folder)
        for file in files
        if os.stat(os.path.join(path, file)).st_size  # noqa: PTH116, PTH118
    }
    keys = (array.metadata.encode_chunk_key(index) for index in product(*map(range, counts)))
    return [key for key in keys if key not in found]


def _array_folders(folder: Path) -> list[Path]:
    """The arrays of a layer on disk, finest first."""
    (multiscale,) = ome_attrs(folder)["multiscales"]
    return [folder / dataset["path"] for dataset in multiscale["datasets"]]


def on_disk(element: Any, store: Path, name: str) -> Any:
    """`element` with the arrays that were written for it, lazily; reads no other layer."""
    paths = _array_folders(layer_folder(store, name))
    return with_data(element, [_backends.from_zarr(path) for path in paths])


def put(sdata: SpatialData, name: str, element: Any) -> None:
    """Make an element the layer `name` of `sdata`, in memory."""
    if name in sdata.images:
        del sdata.images[name]  # else SpatialData warns that the name is taken
    sdata.images[name] = element


@contextmanager
def telling(names: Sequence[str], store: Path, done: Sequence[str]) -> Iterator[None]:
    """Errors on the way say what became of the layers and the store."""
    kept = f"; {list(done)} had been written before and are kept" if done else ""
    left = f"{list(names)} not written, the layers in the store {str(store)!r} are as they were"
    try:
        yield
    except OSError as error:
        if error.errno in NOT_WRITTEN:
            raise StoreError(f"{error}: {left}{kept}") from error
        error.add_note(f"{left}{kept}")
        raise
    except StoreError as error:
        if kept:
            error.add_note(kept.removeprefix("; "))
        raise
    except BaseException as error:
        if not getattr(error, "__notes__", None):
            error.add_note(f"{left}{kept}")
        raise
