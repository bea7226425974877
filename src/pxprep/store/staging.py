"""The folder in a store where new layers are staged: who writes to it, and who died while doing so.

Each transaction has a folder of its own in it, and keeps a file there locked for as long as its
process lives. Another lock is held by whoever publishes, repairs or begins.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import StoreError
from . import files
from . import journal as journal_module

STAGING = ".pxprep"
LOCK = "lock"
# In the folder of a transaction: the file that its process keeps locked.
ALIVE = "alive"
# What that folder is called.
TRANSACTION = re.compile("[0-9a-f]{32}")
POLL_SECONDS = 0.02


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


def _may(path: Path, mode: int) -> bool:
    """Whether this process, with its effective user, has the rights `mode` on `path`."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def locked(store: Path, wait: float | None) -> Iterator[None]:
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


def sweep(store: Path) -> None:
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


def folders(store: Path) -> list[Path]:
    """The folders of transactions; raises StoreError if there is anything that is none."""
    root = store / STAGING
    with os.scandir(root) as scan:
        entries = list(scan)
    for entry in entries:
        is_ours = TRANSACTION.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        # Some network file systems keep removed files for a while, under names of their own.
        if not is_ours and not entry.is_file(follow_symlinks=False):
            raise StoreError(f"{entry.path!r} is nothing that pxprep made: remove it")
    return [root / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def is_dead(folder: Path) -> bool:
    """Whether the process that writes to a transaction's folder is gone."""
    try:
        held = files.try_lock(folder / ALIVE, make=False)
    except FileNotFoundError:
        return True
    if held is not None:
        files.unlock(held)
    return held is not None


def lock_of_dead(folder: Path) -> int | None:
    """The lock of a transaction whose process is gone; None if it lives."""
    try:
        return files.try_lock(folder / ALIVE)
    except OSError as error:
        if journal_module.is_in(folder):
            raise StoreError(
                f"an interrupted write cannot be completed: {error}; it is in {str(folder)!r}"
            ) from error
        return None  # another user's, who removes it


def remove(folder: Path, alive: int | None) -> None:
    """Remove a transaction's folder, and free its lock; of links only the link is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    if alive is not None:
        files.unlock(alive)
        # What a system that removes no open file, as Windows, has left.
        shutil.rmtree(folder, ignore_errors=True)
