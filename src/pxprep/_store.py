"""Writes that leave nothing half-done: stage, publish, clean up. Knows folders, not images.

What is to be written is staged inside the store, in a folder that its readers do not see, so that
publishing it is a rename on one file system. Until then the store is as it was; what fails leaves
nothing behind.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import StoreError

STAGING = ".pxprep"


def check_writable(store: Path) -> None:
    """Raise StoreError unless `store` is a local folder that this process may change."""
    if not os.path.isdir(store):  # noqa: PTH112 - False, too, where this process may not look
        raise StoreError(f"the store {str(store)!r} must be a folder on a local file system")
    for folder in (store, store / "images"):
        if _may(folder, os.F_OK) and not _may(folder, os.W_OK | os.X_OK):
            raise StoreError(f"the store cannot be written to: no permission for {str(folder)!r}")


@contextmanager
def staging(store: Path) -> Iterator[Path]:
    """A new folder in `store` that its readers do not see; gone on exit, whatever happens."""
    root = store / STAGING
    folder = root / uuid.uuid4().hex
    _make(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the root is in use by another process, or gone with it
            root.rmdir()


def _make(folder: Path, attempts: int = 100) -> None:
    """Make a folder and the one above it, which other processes remove when they leave it empty."""
    for attempt in range(attempts):
        try:
            folder.mkdir(parents=True)
            return
        except OSError as error:
            overtaken = isinstance(error, FileNotFoundError | FileExistsError)
            if not overtaken or attempt == attempts - 1:
                raise StoreError(f"the store cannot be written to: {error}") from error


def publish(
    moves: Sequence[tuple[Path, Path]], retired: Path, announce: Callable[[], None]
) -> None:
    """Move each staged folder to its place; what stood there goes once all is in place.

    If a move fails, or `announce`, all moves are undone.

    Parameters
    ----------
    moves
        Pairs (staged folder, place), all on one file system.
    retired
        A new folder on that file system for what stood there; not one that anybody else removes.
    announce
        Called when all is in place; it either writes the store's table of contents or raises.

    Raises
    ------
    StoreError
        If a move or `announce` failed; the store is as it was, or else the message says where the
        old layers are.
    """
    for staged, _ in moves:
        flush(staged)
    begun: list[tuple[Path, Path]] = []
    try:
        retired.mkdir()
        for index, (staged, place) in enumerate(moves):
            place.parent.mkdir(exist_ok=True)
            if place.exists():
                _move(place, retired / str(index), begun)
            _move(staged, place, begun)
            flush_entry(place.parent)
        announce()
    except BaseException as error:
        _undo(begun, retired)
        if isinstance(error, Exception):
            raise StoreError(f"nothing was changed, publishing failed: {error!r}") from error
        raise
    shutil.rmtree(retired, ignore_errors=True)


def flush(folder: Path) -> None:
    """Ask the operating system to put all files below `folder`, and their names, on disk."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    with ThreadPoolExecutor(8) as pool:
        for entries in (files, folders):
            list(pool.map(flush_entry, entries))


def flush_entry(path: Path) -> None:
    """Ask the operating system to put one file, or the names in one folder, on disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if os.name == "nt" and path.is_dir():
            return  # Windows flushes names with the files and cannot open a folder.
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _may(path: Path, mode: int) -> bool:
    """Whether this process, with its effective user, has the rights `mode` on `path`."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _move(source: Path, target: Path, begun: list[tuple[Path, Path]]) -> None:
    # Noted first: an interrupt may come right after the rename.
    begun.append((source, target))
    source.rename(target)


def _undo(begun: Sequence[tuple[Path, Path]], retired: Path) -> None:
    """Move back what was moved; what cannot be is left in `retired`, never removed."""
    try:
        for source, target in reversed(begun):
            if target.exists() and not source.exists():
                target.rename(source)
    except OSError as error:
        raise StoreError(
            f"publishing failed and could not be undone: {error!r}; what the new layers replaced "
            f"is in {str(retired)!r}"
        ) from error
    with suppress(OSError):
        retired.rmdir()
