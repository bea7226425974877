"""What a transaction is about to do, on disk, for whoever must complete it.

It may have been forged: what breaks a rule is refused as a whole, before anything is moved.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..aliases import Json
from ..errors import StoreError
from . import files
from .json import loads
from .places import Place

JOURNAL = "journal.json"
FORMAT = 1
IDENTITY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Move:
    """An element that is staged, the place it is for, and what is to be found at either.

    Attributes
    ----------
    place
        Place in the store; the staged element is at the same place in the stage.
    new, old
        Identities of the staged element and of what it replaces, if there is something.
    """

    place: Place
    new: str
    old: str | None


@dataclass(frozen=True)
class Journal:
    """Elements that are published together.

    Attributes
    ----------
    moves
        What goes where.
    has_table
        Whether the store has a table of contents.
    record
        What is to be kept of the elements.
    """

    moves: Sequence[Move]
    has_table: bool
    record: object

    @property
    def names(self) -> list[str]:
        """The names of the elements."""
        return [move.place.name for move in self.moves]

    def write(self, folder: Path) -> None:
        """Write it to the folder of a transaction, in one step."""
        moves = [{**vars(move), "place": list(move.place)} for move in self.moves]
        data = {"format": FORMAT, "moves": moves, "table": self.has_table, "note": self.record}
        content = json.dumps(data).encode()
        if len(content) > files.MOST_BYTES:
            raise StoreError(
                f"parameters and numbers of one call must take at most {files.MOST_BYTES:,} "
                f"bytes, those of so many layers take {len(content):,}; nothing was changed"
            )
        try:
            self._parsed(loads(content))  # whoever must complete it is as strict
        except ValueError as error:
            raise StoreError(f"the layers cannot be published: {error}") from error
        files.replace_file(folder / JOURNAL, content)

    @classmethod
    def read(cls, folder: Path) -> "Journal":
        """The journal in a transaction's folder; raises StoreError if it cannot be one of ours."""
        file = folder / JOURNAL
        try:
            return cls._parsed(loads(files.read_file(file)))
        except (StoreError, ValueError) as error:
            raise StoreError(
                f"{str(file)!r} cannot be understood: {error}; nothing was changed. If it is not "
                "from a crash of your own, remove the folder that it is in"
            ) from error

    @classmethod
    def _parsed(cls, data: object) -> "Journal":
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"it must be of format {FORMAT}, got {data!r:.100}")
        _with_keys(data, {"format", "moves", "table", "note"})
        if not isinstance(data["table"], bool) or not isinstance(data["moves"], list):
            raise ValueError("it must hold a list of moves, and whether there is a table")
        moves = [_parsed_move(move) for move in data["moves"]]
        names = [move.place.folded for move in moves]
        if len(set(names)) < len(names):
            raise ValueError(f"it must name each element once, got {sorted(names)!r:.300}")
        return cls(moves, data["table"], data["note"])


def is_in(folder: Path) -> bool:
    """Whether something that is called a journal is in the folder of a transaction."""
    return os.path.lexists(folder / JOURNAL)


def remove(folder: Path) -> None:
    """Remove the journal, durably: what it says is done, or undone."""
    (folder / JOURNAL).unlink()
    files.flush_entry(folder)


def _parsed_move(data: object) -> Move:
    entry = _with_keys(data, {"place", "new", "old"})
    for name in ("new", "old"):
        value = entry[name]
        if not (name == "old" and value is None) and not (
            isinstance(value, str) and IDENTITY.fullmatch(value)
        ):
            raise ValueError(f"an identity must be 64 digits, got {value!r:.100}")
    return Move(Place.parsed(entry["place"]), entry["new"], entry["old"])


def _with_keys(data: object, keys: set[str]) -> Json:
    if not isinstance(data, dict) or set(data) != keys:
        raise ValueError(f"an entry must hold {sorted(keys)}, got {data!r:.300}")
    return data
