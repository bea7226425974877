"""Names of elements, and the folders that they stand for.

A store may come from anybody. Nothing that was read from one is a path: it is a kind and a name,
both are checked, and no folder on the way may be a link that leads out of the store.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import files

# The folders of a store's elements; what an element of a kind is called in messages.
KINDS = {
    "images": "an image",
    "labels": "labels",
    "points": "points",
    "shapes": "shapes",
    "tables": "a table",
}


def broken_name_rule(name: object) -> str:
    """The rule that an element's name breaks, to be read after "must"; empty if it is valid."""
    # SpatialData writes names with a leading dot but never lists them, and "zarr.json" is the
    # metadata file of the folder that the elements lie in.
    if not isinstance(name, str) or not all(sign.isalnum() or sign in "_-." for sign in name):
        return "consist of letters, digits, '_', '-' and '.'"
    if not name or name.startswith((".", "__")) or name == "zarr.json":
        return "be neither empty nor 'zarr.json', and not begin with '.' or '__'"
    if len(os.fsencode(name)) > files.MAX_NAME:
        return f"be no longer than {files.MAX_NAME} bytes, which is all that file systems hold"
    return ""


class Place(NamedTuple):
    """Where an element lies in a store: the folder of its kind, and its name."""

    kind: str
    name: str

    @classmethod
    def parsed(cls, value: object) -> "Place":
        """The place that a list of kind and name says; raises ValueError unless both are valid."""
        kind, name = value if isinstance(value, list) and len(value) == 2 else ("", "")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"a place must be a kind of elements and a name, got {value!r:.100}")
        why = broken_name_rule(name)
        if why:
            raise ValueError(f"the name of an element must {why}, got {name!r:.300}")
        return cls(kind, name)

    @property
    def folded(self) -> str:
        """The name as it is compared: SpatialData takes no two that differ only in case."""
        return self.name.casefold()

    def within(self, store: Path) -> Path:
        """The folder in a store; raises StoreError if a link or a file is there, or on the way."""
        folder = store / self.kind / self.name
        for path in (store, folder.parent, folder):
            files.is_folder(path)  # raises StoreError
        return folder


def elements_on_disk(store: Path) -> dict[str, list[Place]]:
    """All elements that a store has on disk, whatever an object in memory knows: by folded name."""
    found: dict[str, list[Place]] = {}
    for kind in KINDS:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(store / kind) as folders:
            for folder in folders:
                if folder.name[0] != "." and folder.is_dir():
                    place = Place(kind, folder.name)
                    found.setdefault(place.folded, []).append(place)
    return found
