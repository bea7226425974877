"""What layers are read from: zarr arrays on disk, whether they are there still, and whole."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import LayerError, StoreError
from ..store import files
from ..store.contents import identity, ome_attrs, token_in
from ..store.zarr_chunks import folder_of, missing_chunks_message
from .layouts import scales_of

if TYPE_CHECKING:
    import zarr

    ZarrArray = zarr.Array[Any]

Kind = TypeVar("Kind")
# Objects that refer to no array, or to everything.
_LEAVES = (
    *(str, bytes, int, float, complex, np.ndarray, np.generic, np.dtype),
    *(type, ModuleType, FrameType, TracebackType),
)
_FOREIGN = ("distributed", "asyncio", "tornado", "logging", "threading", "_thread", "concurrent")


def layer_folder(store: Path, name: str) -> Path:
    """Where a layer lies in a store."""
    return store / "images" / name


def array_folders(folder: Path) -> list[Path]:
    """The arrays of a layer on disk, finest first."""
    (multiscale,) = ome_attrs(folder)["multiscales"]
    return [folder / dataset["path"] for dataset in multiscale["datasets"]]


def missing_chunks(folder: Path, array: ZarrArray, *, empty_too: bool = True) -> list[str]:
    """The chunks of a zarr array that have no file, or with `empty_too` an empty one."""
    written = {
        os.path.relpath(os.path.join(path, file), folder).replace(os.sep, "/")  # noqa: PTH118
        for path, _, names in os.walk(folder)
        for file in names
        if not empty_too or os.stat(os.path.join(path, file)).st_size  # noqa: PTH116, PTH118
    }
    keys = map(array.metadata.encode_chunk_key, product(*map(range, array.cdata_shape)))
    return [key for key in keys if key not in written]


def is_whole(folder: Path) -> bool:
    """Whether a layer on disk has all of its arrays, and every chunk of them."""
    from zarr import open_array

    try:
        return not any(
            missing_chunks(path, open_array(path, mode="r")) for path in array_folders(folder)
        )
    except (OSError, KeyError, ValueError, StoreError):  # no metadata, or none that make sense
        return False


def arrays_behind(arrays: Sequence[object]) -> dict[Path, ZarrArray]:
    """The zarr arrays on disk that lazy arrays are computed from, by their folders.

    Paths of their stores are made absolute: after `os.chdir` they would mean other folders.
    """
    import zarr

    graphs = [data.__dask_graph__() for data in arrays if hasattr(data, "__dask_graph__")]
    behind = {}
    for array in _reachable(graphs, zarr.Array):
        folder = folder_of(array)
        if folder is None:
            continue
        if hasattr(array.store, "root") and not folder.is_absolute() and folder.exists():
            array.store.root = array.store.root.resolve()
        behind[folder.resolve()] = array
    return behind


def _reachable(objects: Sequence[object], kind: type[Kind]) -> Iterator[Kind]:
    """All objects of a kind that `objects` hold, however deep: no task is made or run for it."""
    seen: set[int] = set()
    waiting: list[object] = list(objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, _LEAVES) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            yield item
        elif isinstance(item, FunctionType):
            # Not its globals, which lead everywhere.
            waiting += [item.__closure__, item.__defaults__, item.__kwdefaults__]
        elif type(item).__module__.partition(".")[0] not in _FOREIGN:
            waiting += gc.get_referents(item)


def check_there(element: object, what: str) -> None:
    """Raise unless what an element is read from is on disk as it was when it was opened.

    From an array that is gone zarr reads its fill value. `what` is the element in messages.

    Raises
    ------
    LayerError
        If an array was removed, or another is in its place.
    StoreError
        If chunks of a layer that pxprep wrote are missing: it wrote all of them.
    """
    _check_there(arrays_behind([scales_of(element)[0].data]), what)


def _check_there(arrays: Mapping[Path, ZarrArray], what: str) -> None:
    from zarr import open_array

    for folder, opened in arrays.items():
        try:
            now = open_array(store=opened.store, path=opened.path, mode="r")
        except (FileNotFoundError, ValueError) as error:  # zarr's own are of both types
            raise LayerError(
                f"{what} is not on disk any more: {str(folder)!r} was removed or damaged after it "
                "had been opened; read the store again"
            ) from error
        if _form(now) != _form(opened):
            raise LayerError(
                f"{what} is another on disk than when it was opened: {_form(now)} in place of "
                f"{_form(opened)} at {str(folder)!r}; read the store again"
            )
        is_ours = token_in(folder.parent) is not None
        missing = missing_chunks(folder, now, empty_too=False) if is_ours else []
        if missing:
            raise StoreError(f"{what}: {missing_chunks_message(folder, missing)}")


def _form(array: ZarrArray) -> str:
    return f"{array.dtype} {array.shape} in chunks of {array.chunks}"


@dataclass(frozen=True)
class SourceState:
    """What a layer is made from, as it was when it was read.

    Attributes
    ----------
    fingerprint
        A text that differs between images: hashes of the layers that they are read from, what Dask
        calls the rest, and their channels. A layer has the same in a copy of the store.
    folders
        The folders that it is read from: layers, or arrays that are not part of one.
    """

    fingerprint: str
    folders: frozenset[Path]

    @classmethod
    def of(cls, element: object, what: str) -> SourceState:
        """The source that an element of a SpatialData object is; raises as `check_there`."""
        finest = scales_of(element)[0]
        data = finest.data
        arrays = arrays_behind([data])
        _check_there(arrays, what)
        places = {array: _image_folder(array) for array in sorted(arrays)}
        parts = [
            # Arrays that are no layers often share their metadata: their path tells them apart.
            f"{identity(place)}/{array if place == array else array.name}"
            for array, place in places.items()
        ]
        if not data.name.startswith("from-zarr") or not arrays:
            # Dask's name of what is computed, is in memory, or lies elsewhere than on disk.
            parts.append(data.name)
        if "c" in finest.coords:
            # In the object they can be others than on disk.
            parts.append(repr(finest.coords["c"].values.tolist()))
        return cls(" ".join(parts), frozenset(places.values()))


def _image_folder(array: Path) -> Path:
    """The folder of the image that an array on disk is a scale of, or that of the array alone.

    What else lies in a folder around it is not read.
    """
    return array.parent if "multiscales" in ome_attrs(array.parent) else array


@dataclass(frozen=True)
class Snapshot:
    """What new layers rely on, as it was before anything was computed.

    Attributes
    ----------
    folders
        By name of the new layer: its own folder, which may be missing, and those it is made from.
    states
        By folder, how it was.
    """

    folders: Mapping[str, frozenset[Path]]
    states: Mapping[Path, object]

    @classmethod
    def of(cls, store: Path | None, sources: Mapping[str, SourceState]) -> Snapshot:
        """What layers of a store, each with its source, rely on now; nothing in memory."""
        if store is None:
            return cls({}, {})
        folders = {
            name: source.folders | {layer_folder(store, name)} for name, source in sources.items()
        }
        every = frozenset[Path]().union(*folders.values())
        return cls(folders, {folder: _state(folder) for folder in every})

    def check(self, layers: Iterable[str]) -> None:
        """Raise StoreError if somebody else has changed what these new layers rely on."""
        every = frozenset[Path]().union(*(self.folders[name] for name in layers))
        changed = [folder.name for folder in every if _state(folder) != self.states[folder]]
        if changed:
            raise StoreError(
                f"another program changed {sorted(changed)} meanwhile: nothing was written; read "
                "the store again"
            )


def _state(folder: Path) -> object:
    return identity(folder), files.folder_times(folder) if folder.is_dir() else None
