"""What the operating system offers for writes that last: flushing, exchange of folders, locks."""

import ctypes
import errno
import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, Thread

from ..errors import StoreError

# Bytes: file systems hold no longer names.
MAX_NAME = 255

FLUSHING_THREADS = 8
# Seconds between two looks for files that were written meanwhile.
FLUSHING_PAUSE = 0.25
# What a system says of a request that a file system does not know.
UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# What a system says of a lock that another process holds.
LOCKED = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
# Numbers of errors by which the system says that it cannot write: to this disk, or to this place.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_NO_PLACE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR}
WRITE_ERRORS = _NO_ROOM | _NO_PLACE
# The longest file that is read at once, as JSON: of 50,000 images with 40 channels.
MOST_BYTES = 1 << 27
# Flags of `os.open`: fail where a link is; do not wait for somebody at the other end of a pipe.
NO_LINKS, AT_ONCE = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux: renameat2
_RENAME_SWAP = 2  # macOS: renamex_np


def is_folder(path: Path) -> bool:
    """Whether a folder is there; raises StoreError if it is a link or something else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{str(path)!r} must be a folder, not a link or a file")
    return True


def read_file(path: Path, most: int = MOST_BYTES, *, through_links: bool = False) -> bytes:
    """What a file holds; does not wait, as a pipe would have it, nor read without end.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    StoreError
        If it is no file, or longer than `most` bytes.
    """
    with open(_opened(path, os.O_RDONLY, through_links), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise StoreError(f"{str(path)!r} must be a file of at most {most:,} bytes; it was not read")
    return content


def _opened(path: Path, flags: int, through_links: bool = False) -> int:
    """The descriptor of a file; if something else is there, it is not opened."""
    look = os.stat if through_links else os.lstat
    with suppress(FileNotFoundError):
        _require_file(look(path), path)
    no_links = 0 if through_links else NO_LINKS
    descriptor = os.open(path, flags | AT_ONCE | no_links, 0o666)
    try:
        _require_file(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_file(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{str(path)!r} must be a file, not a link, a folder or a device")


def flush(folder: Path) -> None:
    """Put all files below `folder`, then the names in its folders, on disk.

    In threads: a disk takes many requests at once, and each of them waits.
    """
    files, folders = [], [str(folder)]
    for entry in _below(folder):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif entry.is_file(follow_symlinks=False):
            files.append(entry.path)
    with ThreadPoolExecutor(FLUSHING_THREADS) as pool:
        for paths in (files, folders):
            shares = [paths[first::FLUSHING_THREADS] for first in range(FLUSHING_THREADS)]
            list(pool.map(_flush_entries, shares))


@contextmanager
def flushing(folder: Path) -> Iterator[None]:
    """Put files on disk while others are being written to `folder`: less is left for `flush`.

    Not on Windows, where nobody can replace or move a file while it is open.

    Raises
    ------
    OSError
        On exit, if a file could not be put on disk: the system says so once, and not to `flush`.
    """
    if sys.platform == "win32":
        yield
        return
    done = Event()
    failed: list[OSError] = []

    def work() -> None:
        seen: set[str] = set()
        while not done.wait(FLUSHING_PAUSE):
            try:
                for entry in _below(folder):
                    if done.is_set():
                        return
                    if entry.path in seen or ".partial" in entry.name or entry.is_dir():
                        continue
                    flush_entry(entry.path)
                    seen.add(entry.path)
            except FileNotFoundError:
                continue  # drafts get their names when they are complete
            except OSError as error:
                failed.append(error)
                return

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]


def _flush_entries(paths: Iterable[str]) -> None:
    for path in paths:
        flush_entry(path)


def flush_entry(path: str | Path) -> None:
    """Put one file, or the names in one folder, on disk."""
    if sys.platform == "win32":
        if os.path.isdir(path):  # noqa: PTH112
            return  # Windows flushes names with the files and cannot open a folder.
        # It flushes only what may be written to.
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    except OSError as error:
        # Some network file systems write names at once and know no request to do so.
        if error.errno not in UNKNOWN or not os.path.isdir(path):  # noqa: PTH112
            raise
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Put an open file or folder on disk."""
    if sys.platform == "darwin":
        import fcntl

        # There `fsync` leaves it in the disk's own cache, which a power cut empties.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
        else:
            return
    os.fsync(descriptor)


@contextmanager
def in_place_of(path: Path, drafts: Path | None = None) -> Iterator[Path]:
    """The path of a draft that takes the place of the file `path` on exit, at once.

    After an error it is gone; a process that dies leaves it, in the folder `drafts` on the same
    file system. Nothing is flushed.
    """
    # No longer than names may be.
    draft = (drafts or path.parent) / f"{path.name[:50]}.{uuid.uuid4().hex}.partial"
    try:
        yield draft
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is said
            draft.unlink()
        raise


@contextmanager
def drafted(path: Path, drafts: Path | None = None) -> Iterator[Path]:
    """As `in_place_of`, but the name is flushed on exit; the caller has flushed the content."""
    with in_place_of(path, drafts) as draft:
        yield draft
    flush_entry(path.parent)


def replace_file(path: Path, content: bytes, drafts: Path | None = None) -> None:
    """Write a file so that at any moment, even of a power cut, it has its old or its new content.

    On return the new content is on disk. A process that dies leaves a draft at most, in the folder
    `drafts` on the same file system.
    """
    with drafted(path, drafts) as draft, draft.open("wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno())


def exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot.

    Raises
    ------
    OSError
        If they may not be exchanged, or one is missing.
    """
    call = _exchange_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


@cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    """The system's function of two paths; None where it has none."""
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return swap and (lambda first, second: swap(first, second, ctypes.c_uint(_RENAME_SWAP)))
    rename = getattr(library, "renameat2", None)
    return rename and (
        lambda first, second: rename(
            _AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE)
        )
    )


def try_lock(path: Path, *, make: bool = True) -> int | None:
    """Lock the file `path`, made if need be; None if somebody else holds the lock.

    What is returned is given to `unlock`. The kernel frees the lock when its holder dies. Without
    `make` the file must exist, and it is enough that it may be read.

    Raises
    ------
    OSError
        If the file cannot be opened, or its file system has no locks.
    StoreError
        If something else than a file is there, as a link to one.
    """
    while True:
        descriptor = _opened(path, os.O_RDWR | os.O_CREAT if make else os.O_RDONLY)
        try:
            held = _lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        # Who held the lock before may have removed the file: then this lock is of no use.
        if held and _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)
        if not held:
            return None


def unlock(descriptor: int, remove: Path | None = None) -> None:
    """Free a lock, and `remove` its file so that nobody holds a lock on a file without a name.

    Raises
    ------
    OSError
        If the file cannot be removed; the lock is free.
    """
    if remove is None:
        os.close(descriptor)
    elif sys.platform == "win32":
        # It removes no file that is open, here or, then rightly, in another process.
        os.close(descriptor)
        remove.unlink()
    else:
        try:
            remove.unlink()
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCKED:
            return False
        raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _below(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """All files and folders below a folder; links are not followed."""
    folders: list[str | Path] = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def folder_times(folder: Path) -> list[tuple[str, int, int]]:
    """For `folder` and all folders in it: which it is, and when a name in it last changed."""
    below = (Path(entry) for entry in _below(folder) if entry.is_dir(follow_symlinks=False))
    states = [(str(path), path.stat()) for path in (folder, *below)]
    return sorted((path, state.st_ino, state.st_mtime_ns) for path, state in states)
