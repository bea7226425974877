"""Runs work on many blocks now, in threads of this process: no Dask graph is made.

One pool lives as long as the process. Whoever calls takes part in the work, so that a call from
inside a block's work, or from many threads at once, never waits for a free thread.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Condition, Lock
from typing import Generic, TypeVar

from dask import config

Item = TypeVar("Item")

_POOL_LOCK = Lock()
# The pool, and the process that made it: threads do not survive a fork.
_pool: tuple[int, ThreadPoolExecutor] | None = None


def n_threads() -> int:
    """How many threads work at once: as the user has set for Dask, or else one for each core."""
    if config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    chosen = config.get("num_workers", None)
    return int(chosen) if chosen else n_cores()


def n_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call `work` with each item, in the order of the items, in `n_threads` threads at most.

    After an error, or Ctrl-C, no more items are begun. Those that were begun are finished before
    the error reaches the caller.

    Parameters
    ----------
    work
        What is called. It should release the GIL for most of its time.
    items
        What it is called with.
    """
    items = list(items)
    n_helpers = min(n_threads(), len(items)) - 1
    if n_helpers < 1:
        for item in items:
            work(item)
        return
    shared = _SharedWork(work, items)
    try:
        for _ in range(n_helpers):
            _executor().submit(shared.help_out)
        for item in shared.taken():
            work(item)
    finally:
        wait_whatever(shared.end)
    shared.raise_error()


class _SharedWork(Generic[Item]):
    """Items that several threads take one after the other, and how many threads are at it."""

    def __init__(self, work: Callable[[Item], object], items: Iterable[Item]) -> None:
        self._work = work
        self._left = deque(items)
        self._n_helping = 0
        self._changed = Condition()
        self._error: BaseException | None = None

    def taken(self) -> Iterator[Item]:
        """One item after the other, as long as other threads have left some."""
        with suppress(IndexError):
            while True:
                yield self._left.popleft()

    def help_out(self) -> None:
        """Work on items until none is left, in a thread that nobody may be waiting for."""
        with self._changed:
            self._n_helping += 1
        try:
            for item in self.taken():
                self._work(item)
        except BaseException as error:
            self._left.clear()
            self._error = error
        finally:
            with self._changed:
                self._n_helping -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Have nobody begin another item, and wait until none is being worked on.

        A helper for which the pool has had no thread yet is not waited for: it finds no item.
        """
        self._left.clear()
        with self._changed:
            self._changed.wait_for(lambda: self._n_helping == 0)

    def raise_error(self) -> None:
        """Raise what went wrong in a helper, if anything did.

        It is held no longer: it holds all that the helper worked with, and this object as well.
        """
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error


def wait_whatever(wait: Callable[[], object]) -> None:
    """Call a function that waits until it has returned, however often the user interrupts."""
    interrupt = None
    while True:
        try:
            wait()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _POOL_LOCK:
        if _pool is None or _pool[0] != os.getpid():
            _pool = os.getpid(), ThreadPoolExecutor(max(32, n_cores()), "pxprep")
        return _pool[1]
