"""What a SpatialData store says about itself in its root: attrs, and the table of contents.

The root's files are only ever replaced whole and flushed. The table (zarr's consolidated metadata)
is made from what is on disk, by SpatialData, in a copy of the metadata without the data.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..aliases import Json
from ..errors import StoreError
from . import files
from .json import loads

# In the attrs of the store, and of each layer that pxprep wrote.
KEY = "pxprep"
# The files that say what a folder holds; layers that differ differ in one of them.
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
# How deep elements lie in a store.
ELEMENT_LEVEL = 1


class Contents(Protocol):
    """What a store keeps about its layers beside them, with a table of contents or without one."""

    def check(self, record: object, placed: Sequence[str]) -> None:
        """Raise StoreError unless `announce` of these would succeed."""

    def has_table(self) -> bool:
        """Whether there is a table of contents."""

    def withdraw(self, scratch: Path) -> None:
        """Take the table away, durably; nothing if there is none.

        `scratch` is the name of a folder that may be made on the way.
        """

    def announce(
        self, record: object, placed: Sequence[str], has_table: bool, scratch: Path
    ) -> None:
        """Keep the `record` of the layers that were placed, and make the table anew, durably."""


@dataclass(frozen=True)
class RootContents:
    """The attrs and the table of a SpatialData store.

    Attributes
    ----------
    store
        The store's folder.
    merge
        Given what is kept under our key and a record of new layers, and the names of those that
        were placed: what is to be kept.
    """

    store: Path
    merge: Callable[[object, object, Sequence[str]], object]

    def check(self, record: object = None, placed: Sequence[str] = ()) -> None:
        """Raise StoreError if the table of contents could not be made, or `record` not be kept."""
        self._recorded(read_attrs(self.store, through_links=False), record, placed)
        for folder, nodes in _nodes(self.store):
            for node in nodes.values():
                _object(node)
            is_raster = folder.parent in (self.store / "images", self.store / "labels")
            if is_raster and "multiscales" not in ome_attrs(folder):
                raise StoreError(
                    f"{str(folder)!r} is not complete: another program is writing it, or died "
                    "while it did; wait for it or remove the folder. Nothing was changed"
                )

    def has_table(self) -> bool:
        """Whether the store has consolidated metadata."""
        if _is_v3(self.store):
            return _object(self.store / "zarr.json").get("consolidated_metadata") is not None
        return os.path.lexists(self.store / ".zmetadata")

    def withdraw(self, scratch: Path) -> None:
        """Remove the consolidated metadata, which would tell readers of what is not there."""
        if not self.has_table():
            return
        if _is_v3(self.store):
            file = self.store / "zarr.json"
            root = _object(file)
            del root["consolidated_metadata"]
            scratch.mkdir(exist_ok=True)
            files.replace_file(file, _text(root), scratch)
        else:
            (self.store / ".zmetadata").unlink()
            files.flush_entry(self.store)

    def announce(
        self, record: object, placed: Sequence[str], has_table: bool, scratch: Path
    ) -> None:
        """Write attrs that tell of the layers placed, and the consolidated metadata anew."""
        shutil.rmtree(scratch, ignore_errors=True)
        copy = scratch / "root.zarr"
        _copy_metadata(self.store, copy, deep=has_table)
        if placed:
            edit_attrs(copy, lambda attrs: self._recorded(attrs, record, placed))
        if has_table:
            _consolidate(copy)
        # In zarr format 2 the table tells of the attrs, too: it comes last.
        for name in ("zarr.json", ".zattrs", ".zmetadata"):
            if (copy / name).exists():
                _replace_if_new(self.store / name, (copy / name).read_bytes(), scratch)

    def _recorded(self, attrs: Json, record: object, placed: Sequence[str]) -> Json:
        return {**attrs, KEY: self.merge(attrs.get(KEY), record, placed)}


def identity(folder: Path) -> str | None:
    """A hash of a layer's metadata files, which a copy shares; None where there is no folder."""
    if not os.path.isdir(folder):  # noqa: PTH112 - False, too, for a name that cannot be one
        return None
    digest = hashlib.sha256()
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    for part in (folder, *parts):
        for file in (part / name for name in METADATA):
            if file.is_file():
                content = files.read_file(file, through_links=True)
                digest.update(f"{file.relative_to(folder)} {len(content)} ".encode())
                digest.update(content)
    return digest.hexdigest()


def check_store(folder: Path) -> None:
    """Raise StoreError unless a store lies in `folder`."""
    if not (folder / "zarr.json").is_file() and not (folder / ".zgroup").is_file():
        raise StoreError(f"{str(folder)!r} must be the folder of a SpatialData store")


def read_attrs(folder: Path, *, through_links: bool = True) -> Json:
    """The attrs of a group or an array on disk."""
    file = _attrs_file(folder)
    document = _object(file, through_links=through_links)
    attrs = document.get("attributes", {}) if file.name == "zarr.json" else document
    if not isinstance(attrs, dict):
        raise StoreError(f"the attributes in {str(file)!r} must be a JSON object")
    return attrs


def token_in(folder: Path) -> str | None:
    """The token in the mark of a layer, every chunk of which pxprep wrote; None without a mark."""
    mark = read_attrs(folder).get(KEY)
    return mark.get("token") if isinstance(mark, Mapping) else None


def ome_attrs(folder: Path) -> Json:
    """The OME metadata of an image on disk: under "ome", in zarr format 2 at the top."""
    attrs = read_attrs(folder)
    ome = attrs.get("ome", attrs)
    return ome if isinstance(ome, dict) else {}


def edit_attrs(folder: Path, edit: Callable[[Json], Json]) -> None:
    """Replace the attrs of a group on disk by what `edit` makes of them."""
    attrs = edit(read_attrs(folder))
    file = _attrs_file(folder)
    content = {**_object(file), "attributes": attrs} if file.name == "zarr.json" else attrs
    files.replace_file(file, _text(content))


def zarr_format(folder: Path) -> int:
    """The version of the format of zarr that a group has on disk."""
    return 3 if _is_v3(folder) else 2


def _is_v3(folder: Path) -> bool:
    return os.path.lexists(folder / "zarr.json")


def _attrs_file(folder: Path) -> Path:
    return folder / ("zarr.json" if _is_v3(folder) else ".zattrs")


def _object(file: Path, *, through_links: bool = False) -> Json:
    """The JSON object in a file of metadata."""
    try:
        document = loads(files.read_file(file, through_links=through_links))
    except FileNotFoundError:
        if file.name == ".zattrs":  # attrs may be missing in zarr format 2
            return {}
        raise StoreError(f"{str(file)!r} is missing; nothing was changed") from None
    except ValueError as error:
        raise StoreError(f"{str(file)!r} is not JSON: {error}; nothing was changed") from error
    if not isinstance(document, dict):
        raise StoreError(f"{str(file)!r} must hold a JSON object; nothing was changed")
    return document


def _text(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _nodes(folder: Path, level: int = 0) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Every group and array below a group, with its files of metadata; no chunks.

    An element may be a link to one elsewhere, which is only read; nothing else may: it could lead
    back to where it is.
    """
    for child in sorted(folder.iterdir()):
        if child.name.startswith(".") or not child.is_dir():
            continue
        metadata = {name: child / name for name in METADATA if os.path.lexists(child / name)}
        if not set(metadata) - {".zattrs"}:
            continue
        if level != ELEMENT_LEVEL and child.is_symlink():
            raise StoreError(f"{str(child)!r} must not be a link; nothing was changed")
        yield child, metadata
        is_array = ".zarray" in metadata or (
            "zarr.json" in metadata and _object(metadata["zarr.json"]).get("node_type") == "array"
        )
        if not is_array:
            yield from _nodes(child, level + 1)


def _copy_metadata(store: Path, copy: Path, deep: bool) -> None:
    copy.mkdir(parents=True)
    for name in ("zarr.json", ".zgroup", ".zattrs"):
        if os.path.lexists(store / name):
            (copy / name).write_bytes(files.read_file(store / name))
    for folder, metadata in _nodes(store) if deep else ():
        there = copy / folder.relative_to(store)
        there.mkdir()
        for name, file in metadata.items():
            (there / name).write_bytes(files.read_file(file))


def _consolidate(store: Path) -> None:
    from spatialdata import SpatialData

    sdata = SpatialData()
    sdata.path = store
    sdata.write_consolidated_metadata()


def _replace_if_new(file: Path, content: bytes, drafts: Path) -> None:
    if not os.path.lexists(file) or files.read_file(file) != content:
        files.replace_file(file, content, drafts)
