"""Writes that can be trusted: stage, publish, recover, lock. Knows folders, not images.

New layers are staged inside the store, in a folder that its readers do not see. A journal is the
point of no return: before it is written a transaction never happened, after it every layer takes
the place of the old one in one step, and whoever writes next ends what a dead process left.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from . import _files
from .errors import StoreError

STAGING = ".pxprep"
LOCK = "lock"
ALIVE = "alive"
JOURNAL = "journal.json"
SCRATCH = "scratch"
FORMAT = 1
# The files that say what a folder holds; layers that differ differ in one of them.
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
POLL_SECONDS = 0.02
PUBLISHED = "the new layers had been published when the interrupt came: read the store again"


class Contents(Protocol):
    """What a store keeps about its layers beside them, with a table of contents or without one."""

    def check(self) -> None:
        """Raise StoreError unless `announce` would succeed."""

    def has_table(self) -> bool:
        """Whether there is a table of contents."""

    def withdraw(self, scratch: Path) -> None:
        """Take the table away, durably; nothing if there is none.

        `scratch` is the name of a folder that may be made on the way.
        """

    def announce(self, note: Any, placed: Sequence[str], table: bool, scratch: Path) -> None:
        """Keep `note` of the layers that were placed, and make the table anew, durably."""


class Recovered(NamedTuple):
    """What was found of processes that died while they wrote.

    Attributes
    ----------
    completed
        Names of the layers whose publishing was under way: it is complete now.
    removed
        How many unfinished writes were removed.
    """

    completed: tuple[str, ...]
    removed: int


class Unfinished(NamedTuple):
    """What `recover` would find.

    Attributes
    ----------
    complete
        Names of layers whose publishing was under way when a process died.
    remove
        How many unfinished writes of processes that died would be removed.
    writing
        How many writes are under way.
    """

    complete: tuple[str, ...]
    remove: int
    writing: int


@dataclass(frozen=True)
class Move:
    """A staged folder, the place it is for, and what is to be found at either.

    Attributes
    ----------
    staged, place
        Relative to the transaction's folder, and to the store.
    new, old
        Identities of the staged folder and of what it replaces, if there is something.
    """

    staged: str
    place: str
    new: str
    old: str | None


def check_writable(store: Path) -> None:
    """Raise StoreError unless `store` is a local folder that this process may change."""
    if not os.path.isdir(store):  # noqa: PTH112 - False, too, where this process may not look
        raise StoreError(f"the store {str(store)!r} must be a folder on a local file system")
    for folder in (store, store / "images"):
        check_permission(folder)


def check_permission(folder: Path) -> None:
    """Raise StoreError if this process may not change the names in `folder`, which may be none."""
    if _may(folder, os.F_OK) and not _may(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"the store cannot be written to: no permission for {str(folder)!r}, or a file system "
            "that is read-only"
        )


def identity(folder: Path) -> str | None:
    """What tells a layer from any other, also after a copy; None where there is no folder."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    for part in (folder, *parts):
        for file in (part / name for name in METADATA):
            if file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(folder)} {len(content)} ".encode())
                digest.update(content)
    return digest.hexdigest()


def recover(store: Path, contents: Contents, wait: float | None = None) -> Recovered:
    """End what processes that died have begun: complete what was published, remove the rest.

    Raises
    ------
    StoreError
        If the store cannot be changed or another process is writing for longer than `wait`
        seconds (None: no limit).
    """
    if not (store / STAGING).exists():
        return Recovered((), 0)
    with _locked(store, wait):
        recovered = _recover(store, contents)
    _sweep(store)
    return recovered


def unfinished(store: Path) -> Unfinished:
    """What `recover` would find; nothing is changed."""
    root = store / STAGING
    if not (root / LOCK).exists():
        return Unfinished((), 0, 0)
    # Else a writer that is about to lock its new folder could be kept from it.
    held = _files.try_lock(root / LOCK, make=False)
    if held is None:
        return Unfinished((), 0, 1)
    try:
        folders = [path for path in root.iterdir() if path.is_dir()]
        dead = [folder for folder in folders if _is_dead(folder)]
    finally:
        _files.unlock(held)
    journals = [folder / JOURNAL for folder in dead if (folder / JOURNAL).exists()]
    complete = [Path(move.place).name for file in journals for move in _moves(_journal_in(file))]
    return Unfinished(tuple(complete), len(dead) - len(journals), len(folders) - len(dead))


def _is_dead(folder: Path) -> bool:
    """Whether the process that writes to a transaction's folder is gone."""
    try:
        held = _files.try_lock(folder / ALIVE, make=False)
    except FileNotFoundError:
        return True
    if held is not None:
        _files.unlock(held)
    return held is not None


@contextmanager
def transaction(
    store: Path, contents: Contents, wait: float | None = None
) -> Iterator["Transaction"]:
    """A new folder in `store` that its readers do not see; gone on exit, unless it was killed."""
    folder = store / STAGING / uuid.uuid4().hex
    with _locked(store, wait):
        _recover(store, contents)
        # Under the lock: a folder without its own lock would be taken for that of a dead process.
        try:
            folder.mkdir()
            alive = _files.try_lock(folder / ALIVE)
        except OSError as error:
            raise StoreError(f"the store cannot be written to: {error}") from error
    try:
        yield Transaction(store, folder, contents, wait)
    finally:
        _uninterrupted(partial(_end, store, folder, alive))


def _end(store: Path, folder: Path, alive: int | None) -> None:
    """Remove a transaction's folder, unless there is something left to complete."""
    if (folder / JOURNAL).exists():
        if alive is not None:
            _files.unlock(alive)
    else:
        _remove(folder, alive)
    _sweep(store)


def _remove(folder: Path, alive: int | None) -> None:
    """Remove a transaction's folder, and free its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    if alive is not None:
        _files.unlock(alive)
        # What a system that removes no open file, as Windows, has left.
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Transaction:
    """Folders that are staged in `folder` and published together."""

    store: Path
    folder: Path
    contents: Contents
    wait: float | None

    def publish(
        self, moves: Mapping[str, Path], note: Any, guard: Callable[[], None] = lambda: None
    ) -> None:
        """Put staged folders in their places, all of them or none.

        Parameters
        ----------
        moves
            By its place, a path relative to the store: a folder staged in `folder`.
        note
            For `Contents.announce`; JSON.
        guard
            Called under the lock; raises if somebody has changed what this relies on.

        Raises
        ------
        StoreError
            If the store is as it was; or if it says so, that the next write completes it.
        """
        _files.flush(self.folder)
        for above in (self.folder.parent, self.store):
            _files.flush_entry(above)
        with _locked(self.store, self.wait):
            _recover(self.store, self.contents)
            guard()
            self.contents.check()
            journal = self._journal(moves, note)
            _uninterrupted(partial(self._commit, journal), PUBLISHED)

    def _journal(self, moves: Mapping[str, Path], note: Any) -> dict[str, Any]:
        planned = [
            Move(
                staged=staged.relative_to(self.folder).as_posix(),
                place=place,
                new=identity(staged) or "",
                old=identity(self.store / place),
            )
            for place, staged in moves.items()
        ]
        return {
            "format": FORMAT,
            "moves": [vars(move) for move in planned],
            "table": self.contents.has_table(),
            "note": note,
        }

    def _commit(self, journal: Mapping[str, Any]) -> None:
        try:
            _files.replace_file(self.folder / JOURNAL, json.dumps(journal).encode())
        except OSError as error:
            (self.folder / JOURNAL).unlink(missing_ok=True)
            raise StoreError(f"nothing was changed, publishing failed: {error}") from error
        try:
            placed = _roll_forward(self.store, self.folder, journal, self.contents)
        except Exception as error:
            self._undo(journal, error)
            raise StoreError(f"nothing was changed, publishing failed: {error!r}") from error
        _drop_journal(self.folder)
        if len(placed) < len(journal["moves"]):
            raise StoreError(
                f"another program changed the store at the same moment: of the new layers only "
                f"{placed} are in place"
            )

    def _undo(self, journal: Mapping[str, Any], error: Exception) -> None:
        """Bring back what stood there; what cannot be undone is left for the next write to end."""
        try:
            for number, move in reversed(list(enumerate(_moves(journal)))):
                _take_back(self.store, self.folder, number, move)
            self.contents.announce(None, (), journal["table"], self.folder / SCRATCH)
            _drop_journal(self.folder)
        except Exception:
            raise StoreError(
                f"publishing failed half-way: {error!r}; nothing is lost, the old and the new "
                f"layers are in {str(self.folder)!r}: the next write to the store, or "
                f"pxprep.repair({str(self.store)!r}), completes it"
            ) from error


@contextmanager
def _locked(store: Path, wait: float | None) -> Iterator[None]:
    """Alone among all processes and threads that write to `store`."""
    deadline = None if wait is None else time.monotonic() + wait
    while (held := _try_lock(store)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise StoreError(
                f"another process is writing to the store {str(store)!r}; waited {wait:g} seconds "
                "for it, nothing was changed"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        _files.unlock(held)


def _try_lock(store: Path) -> int | None:
    while True:
        try:
            (store / STAGING).mkdir(exist_ok=True)
            return _files.try_lock(store / STAGING / LOCK)
        except FileNotFoundError as error:
            if not store.is_dir():
                raise StoreError(f"the store {str(store)!r} is gone") from error
            # Another process left the folder empty and removed it.
        except PermissionError as error:
            raise StoreError(f"the store cannot be written to: {error}") from error
        except OSError as error:
            raise StoreError(
                f"the store {str(store)!r} cannot be locked, which needs a file system with locks "
                f"and room for a file: {error}"
            ) from error


def _sweep(store: Path) -> None:
    """Remove the staging folder if nobody uses it."""
    root = store / STAGING
    with suppress(OSError):
        held = _files.try_lock(root / LOCK)
        if held is None:
            return
        unused = False
        try:
            unused = [entry.name for entry in root.iterdir()] == [LOCK]
        finally:
            _files.unlock(held, root / LOCK if unused else None)
        if unused:
            root.rmdir()


def _recover(store: Path, contents: Contents) -> Recovered:
    """As `recover`, with the lock held."""
    completed: list[str] = []
    removed = 0
    folders = [path for path in (store / STAGING).iterdir() if path.is_dir()]
    # Journals first: what they publish must not be overtaken by later writes.
    for folder in sorted(folders, key=lambda path: not (path / JOURNAL).exists()):
        alive = _lock_of_dead(folder)
        if alive is None:
            continue
        try:
            if (folder / JOURNAL).exists():
                completed += _complete(store, folder, contents)
            else:
                removed += 1
        except BaseException:
            _files.unlock(alive)
            raise
        _remove(folder, alive)
    return Recovered(tuple(completed), removed)


def _lock_of_dead(folder: Path) -> int | None:
    """The lock of a transaction whose process is gone; None if it lives."""
    try:
        return _files.try_lock(folder / ALIVE)
    except OSError as error:
        if (folder / JOURNAL).exists():
            raise StoreError(
                f"an interrupted write cannot be completed: {error}; it is in {str(folder)!r}"
            ) from error
        return None  # another user's, who removes it


def _complete(store: Path, folder: Path, contents: Contents) -> list[str]:
    try:
        journal = _journal_in(folder / JOURNAL)
        placed = _roll_forward(store, folder, journal, contents)
        _drop_journal(folder)
    except Exception as error:
        raise StoreError(
            f"an interrupted write cannot be completed: {error!r}; nothing is lost, the old and "
            f"the new layers are in {str(folder)!r}"
        ) from error
    return placed


def _journal_in(file: Path) -> Any:
    try:
        journal = json.loads(file.read_text())
        if journal["format"] != FORMAT:
            raise ValueError(f"a journal of format {journal['format']}")
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{str(file)!r} cannot be understood: {error!r}") from error
    return journal


def _moves(journal: Mapping[str, Any]) -> list[Move]:
    return [Move(**move) for move in journal["moves"]]


def _roll_forward(
    store: Path, folder: Path, journal: Mapping[str, Any], contents: Contents
) -> list[str]:
    """Do what the journal says, from wherever it was interrupted; the names of what is in place."""
    contents.withdraw(folder / SCRATCH)
    placed = []
    for number, move in enumerate(_moves(journal)):
        _make_parent(store / move.place, folder / move.staged, folder / f"parent-{number}")
        if _put(store, folder, number, move):
            placed.append(Path(move.place).name)
    contents.announce(journal["note"], placed, journal["table"], folder / SCRATCH)
    return placed


def _make_parent(place: Path, staged: Path, draft: Path) -> None:
    """Make the folder in which `place` is to be, with the files of that which `staged` is in."""
    if place.parent.exists():
        return
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for path in staged.parent.iterdir():
        if path.is_file():
            shutil.copyfile(path, draft / path.name)
    _files.flush(draft)
    draft.rename(place.parent)
    _files.flush_entry(place.parent.parent)


def _put(store: Path, folder: Path, number: int, move: Move) -> bool:
    """Put one staged folder in its place; whether it is there now."""
    staged, place = folder / move.staged, store / move.place
    found = identity(place)
    if found == move.new:
        return True
    # Neither the old nor the new one: somebody else's work of later, which stays.
    if identity(staged) != move.new or found not in (None, move.old):
        return False
    _replace(staged, place, _replaced(folder, number))
    return True


def _take_back(store: Path, folder: Path, number: int, move: Move) -> None:
    """Undo `_put`."""
    staged, place, replaced = folder / move.staged, store / move.place, _replaced(folder, number)
    found = identity(place)
    if found == move.new and move.old is None:
        place.rename(staged)
    elif found == move.new and identity(staged) == move.old:
        _replace(staged, place, replaced)
    elif found == move.new:
        place.rename(staged)
        replaced.rename(place)
    elif found is None and replaced.exists():
        replaced.rename(place)
    _files.flush_entry(place.parent)


def _replaced(folder: Path, number: int) -> Path:
    return folder / f"replaced-{number}"


def _replace(staged: Path, place: Path, replaced: Path) -> None:
    """Put `staged` at `place`; what stands there goes to `staged`, or to `replaced`."""
    if not place.exists():
        staged.rename(place)
    elif not _files.exchange(staged, place):
        place.rename(replaced)
        # On disk before the next rename: a power cut must not leave the old layer without a name.
        _files.flush_entry(replaced.parent)
        staged.rename(place)
    _files.flush_entry(place.parent)
    _files.flush_entry(staged.parent)


def _drop_journal(folder: Path) -> None:
    (folder / JOURNAL).unlink()
    _files.flush_entry(folder)


def _uninterrupted(work: Callable[[], None], note: str = "") -> None:
    """Call `work`; an interrupt of the user comes when it is done, with a note of that."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        work()
        return
    received: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        work()
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        try:
            handler(*received[0])
        except KeyboardInterrupt as interrupt:
            if note:
                interrupt.add_note(note)
            raise


def _may(path: Path, mode: int) -> bool:
    """Whether this process, with its effective user, has the rights `mode` on `path`."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
