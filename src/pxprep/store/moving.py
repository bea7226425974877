"""Carries out a journal: puts staged elements in their places, and takes them back; durably."""

import os
import shutil
from pathlib import Path

from ..errors import StoreError
from . import files
from .contents import METADATA, Contents, identity
from .journal import Journal, Move
from .places import KINDS

# In the folder of a transaction: a store that holds what is staged, and a folder for drafts.
STAGE, SCRATCH = "stage.zarr", "scratch"


def check_journal(store: Path, folder: Path, journal: Journal, contents: Contents) -> None:
    """Raise StoreError, before anything is moved, unless all that a journal says can be done."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                raise StoreError(f"{entry.path!r} must be a folder or a file, not a link")
    for move in journal.moves:
        move.place.within(store)
        move.place.within(folder / STAGE)
    contents.check(journal.record, journal.names)


def carry_out(store: Path, folder: Path, journal: Journal, contents: Contents) -> list[str]:
    """Do what the journal says, from wherever it was interrupted; the names of what is in place."""
    contents.withdraw(folder / SCRATCH)
    placed = []
    for number, move in enumerate(journal.moves):
        _make_parent(store, folder, number, move)
        if _put(store, folder, number, move):
            placed.append(move.place.name)
    contents.announce(journal.record, placed, journal.has_table, folder / SCRATCH)
    return placed


def _make_parent(store: Path, folder: Path, number: int, move: Move) -> None:
    """Make the folder in which an element is to be, with the metadata of that on the stage."""
    parent = store / move.place.kind
    if files.is_folder(parent):
        return
    draft = folder / f"parent-{number}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name in METADATA:
        file = folder / STAGE / move.place.kind / name
        if os.path.lexists(file):
            (draft / name).write_bytes(files.read_file(file))
    files.flush(draft)
    draft.rename(parent)
    files.flush_entry(store)


def _put(store: Path, folder: Path, number: int, move: Move) -> bool:
    """Put one staged element in its place; whether it is there now."""
    staged, place = _ends(store, folder, move)
    in_place = identity(place)
    if in_place == move.new:
        return True
    # Neither the old nor the new one: somebody else's work of later, which stays.
    if identity(staged) != move.new or in_place not in (None, move.old):
        return False
    # No two elements of a store may have one name, of whatever kinds they are.
    others = (store / kind / move.place.name for kind in KINDS if kind != move.place.kind)
    if any(map(os.path.lexists, others)):
        return False
    _replace(staged, place, _room_for_old(folder, number))
    return True


def take_back(store: Path, folder: Path, number: int, move: Move) -> None:
    """Undo `_put`."""
    staged, place = _ends(store, folder, move)
    replaced, in_place = _room_for_old(folder, number), identity(place)
    if in_place == move.new and move.old is None:
        place.rename(staged)
    elif in_place == move.new and identity(staged) == move.old:
        _replace(staged, place, replaced)
    elif in_place == move.new:
        place.rename(staged)
        replaced.rename(place)
    elif in_place is None and replaced.exists():
        replaced.rename(place)
    files.flush_entry(place.parent)


def _ends(store: Path, folder: Path, move: Move) -> tuple[Path, Path]:
    return move.place.within(folder / STAGE), move.place.within(store)


def _room_for_old(folder: Path, number: int) -> Path:
    return folder / f"replaced-{number}"


def _replace(staged: Path, place: Path, replaced: Path) -> None:
    """Put `staged` at `place`; what stands there goes to `staged`, or to `replaced`."""
    if not place.exists():
        staged.rename(place)
    elif not files.exchange(staged, place):
        place.rename(replaced)
        # On disk before the next rename: a power cut must not leave the old layer without a name.
        files.flush_entry(replaced.parent)
        staged.rename(place)
    files.flush_entry(place.parent)
    files.flush_entry(staged.parent)
