"""Writes that can be trusted: stage, publish, repair, lock. Knows folders, not images.

New layers are staged inside the store, in a folder that its readers do not see. A journal is the
point of no return: before it is written a transaction never happened, after it every layer takes
the place of the old one in one step. If the process dies on the way, the next write completes it.
"""

import os
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import StoreError, spelled
from . import files
from . import journal as journal_module
from .journal import Journal, Move
from .moving import STAGE, identity, make_parent, put, take_back
from .places import Place

STAGING = ".pxprep"
LOCK = "lock"
# In the folder of a transaction: the file that its process keeps locked, and a folder for drafts.
ALIVE, SCRATCH = "alive", "scratch"
# What that folder is called.
TRANSACTION = re.compile("[0-9a-f]{32}")
POLL_SECONDS = 0.02
PUBLISHED = "the new layers had been published when the interrupt came: read the store again"


class Contents(Protocol):
    """What a store keeps about its layers beside them, with a table of contents or without one."""

    def check(self, note: object, placed: Sequence[str]) -> None:
        """Raise StoreError unless `announce` of these would succeed."""

    def has_table(self) -> bool:
        """Whether there is a table of contents."""

    def withdraw(self, scratch: Path) -> None:
        """Take the table away, durably; nothing if there is none.

        `scratch` is the name of a folder that may be made on the way.
        """

    def announce(self, note: object, placed: Sequence[str], table: bool, scratch: Path) -> None:
        """Keep `note` of the layers that were placed, and make the table anew, durably."""


class Repaired(NamedTuple):
    """What a repair has done with interrupted writes.

    Attributes
    ----------
    completed
        Names of the layers that were being published: they are in place now.
    removed
        How many unfinished writes were removed.
    """

    completed: tuple[str, ...]
    removed: int


class Unfinished(NamedTuple):
    """What a repair would do.

    Attributes
    ----------
    complete
        Names of layers that were being published when a process died.
    remove
        How many interrupted writes would be removed.
    writing
        How many writes are under way.
    """

    complete: tuple[str, ...]
    remove: int
    writing: int


def check_writable(store: Path) -> None:
    """Raise StoreError unless `store` is a local folder that this process may change."""
    if not os.path.isdir(store):  # noqa: PTH112 - False, too, where this process may not look
        raise StoreError(f"the store {str(store)!r} must be a folder on a local file system")
    for folder in (store, store / "images"):
        check_permission(folder)


def check_permission(folder: Path) -> None:
    """Raise StoreError if this process may not change the names in `folder`, if it exists."""
    if _may(folder, os.F_OK) and not _may(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"the store cannot be written to: no permission for {str(folder)!r}, or a file system "
            "that is read-only"
        )


def repair(store: Path, contents: Contents, wait: float | None = None) -> Repaired:
    """Complete the interrupted writes that were being published, and remove the others.

    Raises
    ------
    StoreError
        If the store cannot be changed or another process is writing for longer than `wait`
        seconds (None: no limit).
    """
    if not files.is_folder(store / STAGING):
        return Repaired((), 0)
    with _locked(store, wait):
        repaired = _repair(store, contents)
    _sweep(store)
    return repaired


def unfinished(store: Path) -> Unfinished:
    """What `repair` would do; nothing is changed."""
    root = store / STAGING
    if not files.is_folder(root) or not os.path.lexists(root / LOCK):
        return Unfinished((), 0, 0)
    # The store is locked meanwhile: `_is_dead` tries locks, which could be in the way of a writer
    # that is about to lock its new folder.
    held = files.try_lock(root / LOCK, make=False)
    if held is None:
        return Unfinished((), 0, 1)
    try:
        folders = _transactions(store)
        dead = [folder for folder in folders if _is_dead(folder)]
    finally:
        files.unlock(held)
    journals = [Journal.read(folder) for folder in dead if journal_module.is_in(folder)]
    complete = [name for journal in journals for name in journal.names]
    return Unfinished(tuple(complete), len(dead) - len(journals), len(folders) - len(dead))


def _transactions(store: Path) -> list[Path]:
    """The folders of transactions; raises StoreError if there is anything that is none."""
    root = store / STAGING
    with os.scandir(root) as entries:
        found = list(entries)
    for entry in found:
        is_ours = TRANSACTION.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        # Some network file systems keep removed files for a while, under names of their own.
        if not is_ours and not entry.is_file(follow_symlinks=False):
            raise StoreError(f"{entry.path!r} is nothing that pxprep made: remove it")
    return [root / entry.name for entry in found if entry.is_dir(follow_symlinks=False)]


def _is_dead(folder: Path) -> bool:
    """Whether the process that writes to a transaction's folder is gone."""
    try:
        held = files.try_lock(folder / ALIVE, make=False)
    except FileNotFoundError:
        return True
    if held is not None:
        files.unlock(held)
    return held is not None


@contextmanager
def transaction(
    store: Path, contents: Contents, wait: float | None = None
) -> Iterator["Transaction"]:
    """A new folder in `store` that its readers do not see; gone on exit, unless it was killed."""
    folder = store / STAGING / uuid.uuid4().hex
    with _locked(store, wait):
        _repair(store, contents)
        # Under the lock: a folder without its own lock would be taken for that of a dead process.
        try:
            folder.mkdir()
            alive = files.try_lock(folder / ALIVE)
        except OSError as error:
            raise StoreError(f"the store cannot be written to: {error}") from error
    try:
        yield Transaction(store, folder, contents, wait)
    finally:
        _uninterrupted(partial(_close, store, folder, alive))


def _close(store: Path, folder: Path, alive: int | None) -> None:
    """Remove a transaction's folder, unless there is something left to complete."""
    if journal_module.is_in(folder):
        if alive is not None:
            files.unlock(alive)
    else:
        _remove(folder, alive)
    _sweep(store)


def _remove(folder: Path, alive: int | None) -> None:
    """Remove a transaction's folder, and free its lock; of links only the link is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    if alive is not None:
        files.unlock(alive)
        # What a system that removes no open file, as Windows, has left.
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Transaction:
    """Folders that are staged in `folder` and published together."""

    store: Path
    folder: Path
    contents: Contents
    wait: float | None

    @property
    def stage(self) -> Path:
        """A store in which the elements are staged, at the places that they are for."""
        return self.folder / STAGE

    def publish(
        self, places: Iterable[Place], note: object, guard: Callable[[], None] = lambda: None
    ) -> None:
        """Put staged elements in their places, all of them or none.

        Parameters
        ----------
        places
            In the store; each is staged at the same place in `stage`.
        note
            For `Contents.announce`; JSON.
        guard
            Called under the lock; raises if somebody has changed what this relies on.

        Raises
        ------
        StoreError
            If publishing failed: the store is as it was, unless the message says that the next
            write completes it.
        """
        files.flush(self.folder)
        for above in (self.folder.parent, self.store):
            files.flush_entry(above)
        with _locked(self.store, self.wait):
            _repair(self.store, self.contents)
            guard()
            moves = [
                Move(
                    place,
                    identity(place.within(self.stage)) or "",
                    identity(place.within(self.store)),
                )
                for place in places
            ]
            journal = Journal(moves, self.contents.has_table(), note)
            _check(self.store, self.folder, journal, self.contents)
            _uninterrupted(partial(self._commit, journal), PUBLISHED)

    def _commit(self, journal: Journal) -> None:
        try:
            journal.write(self.folder)
        except OSError as error:
            (self.folder / journal_module.JOURNAL).unlink(missing_ok=True)
            raise StoreError(f"nothing was changed, publishing failed: {error}") from error
        try:
            placed = _carry_out(self.store, self.folder, journal, self.contents)
        except Exception as error:
            self._undo(journal, error)
            raise StoreError(f"nothing was changed, publishing failed: {error!r}") from error
        journal_module.remove(self.folder)
        if len(placed) < len(journal.moves):
            raise StoreError(
                f"another program changed the store at the same moment: of the new layers only "
                f"{placed} are in place"
            )

    def _undo(self, journal: Journal, error: Exception) -> None:
        """Bring back what stood there; the next write completes what cannot be undone."""
        try:
            for number, move in reversed(list(enumerate(journal.moves))):
                take_back(self.store, self.folder, number, move)
            self.contents.announce(None, (), journal.table, self.folder / SCRATCH)
            journal_module.remove(self.folder)
        except Exception:
            call = f"pxprep.repair({str(self.store)!r})"
            raise StoreError(
                f"publishing failed half-way: {error!r}; nothing is lost, the old and the new "
                f"layers are in {str(self.folder)!r}: the next write to the store, or "
                f"{spelled(call)}, completes it"
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
        files.unlock(held)


def _try_lock(store: Path) -> int | None:
    while True:
        try:
            if not files.is_folder(store / STAGING):
                (store / STAGING).mkdir(exist_ok=True)
            return files.try_lock(store / STAGING / LOCK)
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
    with suppress(OSError, StoreError):
        held = files.try_lock(root / LOCK)
        if held is None:
            return
        unused = False
        try:
            unused = [entry.name for entry in root.iterdir()] == [LOCK]
        finally:
            files.unlock(held, root / LOCK if unused else None)
        if unused:
            root.rmdir()


def _repair(store: Path, contents: Contents) -> Repaired:
    """Repair the store, whose lock is held."""
    completed: list[str] = []
    removed = 0
    # Journals first: what they publish must not be overtaken by later writes.
    for folder in sorted(_transactions(store), key=lambda path: not journal_module.is_in(path)):
        alive = _lock_of_dead(folder)
        if alive is None:
            continue
        try:
            if journal_module.is_in(folder):
                completed += _complete(store, folder, contents)
            else:
                removed += 1
        except BaseException:
            files.unlock(alive)
            raise
        _remove(folder, alive)
    return Repaired(tuple(completed), removed)


def _lock_of_dead(folder: Path) -> int | None:
    """The lock of a transaction whose process is gone; None if it lives."""
    try:
        return files.try_lock(folder / ALIVE)
    except OSError as error:
        if journal_module.is_in(folder):
            raise StoreError(
                f"an interrupted write cannot be completed: {error}; it is in {str(folder)!r}"
            ) from error
        return None  # another user's, who removes it


def _complete(store: Path, folder: Path, contents: Contents) -> list[str]:
    try:
        journal = Journal.read(folder)
        _check(store, folder, journal, contents)
        placed = _carry_out(store, folder, journal, contents)
        journal_module.remove(folder)
    except Exception as error:
        raise StoreError(
            f"an interrupted write cannot be completed: {error!r}; nothing is lost, the old and "
            f"the new layers are in {str(folder)!r}"
        ) from error
    return placed


def _check(store: Path, folder: Path, journal: Journal, contents: Contents) -> None:
    """Raise StoreError, before anything is moved, unless all that a journal says can be done."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                raise StoreError(f"{entry.path!r} must be a folder or a file, not a link")
    for move in journal.moves:
        move.place.within(store)
        move.place.within(folder / STAGE)
    contents.check(journal.note, journal.names)


def _carry_out(store: Path, folder: Path, journal: Journal, contents: Contents) -> list[str]:
    """Do what the journal says, from wherever it was interrupted; the names of what is in place."""
    contents.withdraw(folder / SCRATCH)
    placed = []
    for number, move in enumerate(journal.moves):
        make_parent(store, folder, number, move)
        if put(store, folder, number, move):
            placed.append(move.place.name)
    contents.announce(journal.note, placed, journal.table, folder / SCRATCH)
    return placed


def _uninterrupted(work: Callable[[], None], note: str = "") -> None:
    """Call `work`; Ctrl-C is held back until it is done, and `note` is then added to the error."""
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
