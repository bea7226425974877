"""Writes that can be trusted: stage, publish, repair. Knows folders, not images.

New layers are staged inside the store, in a folder that its readers do not see. A journal is the
point of no return: before it is written a transaction never happened, after it every layer takes
the place of the old one in one step. If the process dies on the way, the next write completes it.
"""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from ..errors import StoreError, spelled
from . import files, staging
from . import journal as journal_module
from .contents import Contents, identity
from .journal import Journal, Move
from .moving import SCRATCH, STAGE, carry_out, check_journal, take_back
from .places import Place

PUBLISHED = "the new layers had been published when the interrupt came: read the store again"


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


def repair(store: Path, contents: Contents, wait: float | None = None) -> Repaired:
    """Complete the interrupted writes that were being published, and remove the others.

    Raises
    ------
    StoreError
        If the store cannot be changed or another process is writing for longer than `wait`
        seconds (None: no limit).
    """
    if not files.is_folder(store / staging.STAGING):
        return Repaired((), 0)
    with staging.locked(store, wait):
        repaired = _repair(store, contents)
    staging.sweep(store)
    return repaired


def unfinished(store: Path) -> Unfinished:
    """What `repair` would do; nothing is changed."""
    root = store / staging.STAGING
    if not files.is_folder(root) or not os.path.lexists(root / staging.LOCK):
        return Unfinished((), 0, 0)
    # The store is locked meanwhile: `is_dead` tries locks, which could be in the way of a writer
    # that is about to lock its new folder.
    held = files.try_lock(root / staging.LOCK, make=False)
    if held is None:
        return Unfinished((), 0, 1)
    try:
        folders = staging.folders(store)
        dead = [folder for folder in folders if staging.is_dead(folder)]
    finally:
        files.unlock(held)
    journals = [Journal.read(folder) for folder in dead if journal_module.is_in(folder)]
    complete = [name for journal in journals for name in journal.names]
    return Unfinished(tuple(complete), len(dead) - len(journals), len(folders) - len(dead))


@contextmanager
def transaction(
    store: Path, contents: Contents, wait: float | None = None
) -> Iterator["Transaction"]:
    """A new folder in `store` that its readers do not see; gone on exit, unless it was killed."""
    folder = store / staging.STAGING / uuid.uuid4().hex
    with staging.locked(store, wait):
        _repair(store, contents)
        # Under the lock: a folder without its own lock would be taken for that of a dead process.
        try:
            folder.mkdir()
            alive = files.try_lock(folder / staging.ALIVE)
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
        staging.remove(folder, alive)
    staging.sweep(store)


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
        self, places: Iterable[Place], record: object, guard: Callable[[], None] = lambda: None
    ) -> None:
        """Put staged elements in their places, all of them or none.

        Parameters
        ----------
        places
            In the store; each is staged at the same place in `stage`.
        record
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
        with staging.locked(self.store, self.wait):
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
            journal = Journal(moves, self.contents.has_table(), record)
            check_journal(self.store, self.folder, journal, self.contents)
            _uninterrupted(partial(self._commit, journal), PUBLISHED)

    def _commit(self, journal: Journal) -> None:
        try:
            journal.write(self.folder)
        except OSError as error:
            (self.folder / journal_module.JOURNAL).unlink(missing_ok=True)
            raise StoreError(f"nothing was changed, publishing failed: {error}") from error
        try:
            placed = carry_out(self.store, self.folder, journal, self.contents)
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
            self.contents.announce(None, (), journal.has_table, self.folder / SCRATCH)
            journal_module.remove(self.folder)
        except Exception:
            call = f"pxprep.repair({str(self.store)!r})"
            raise StoreError(
                f"publishing failed half-way: {error!r}; nothing is lost, the old and the new "
                f"layers are in {str(self.folder)!r}: the next write to the store, or "
                f"{spelled(call)}, completes it"
            ) from error


def _repair(store: Path, contents: Contents) -> Repaired:
    """Repair the store, whose lock is held."""
    completed: list[str] = []
    removed = 0
    # Journals first: what they publish must not be overtaken by later writes.
    for folder in sorted(staging.folders(store), key=lambda path: not journal_module.is_in(path)):
        alive = staging.lock_of_dead(folder)
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
        staging.remove(folder, alive)
    return Repaired(tuple(completed), removed)


def _complete(store: Path, folder: Path, contents: Contents) -> list[str]:
    try:
        journal = Journal.read(folder)
        check_journal(store, folder, journal, contents)
        placed = carry_out(store, folder, journal, contents)
        journal_module.remove(folder)
    except Exception as error:
        raise StoreError(
            f"an interrupted write cannot be completed: {error!r}; nothing is lost, the old and "
            f"the new layers are in {str(folder)!r}"
        ) from error
    return placed


def _uninterrupted(work: Callable[[], None], message: str = "") -> None:
    """Call `work`; Ctrl-C is held back until it is done, and then has `message` as a note."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        work()
        return
    received: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        work()
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        try:
            handler(*received[0])
        except KeyboardInterrupt as interrupt:
            if message:
                interrupt.add_note(message)
            raise
