"""Runs work on many blocks now, in threads of this process: no Dask graph is made.

One pool lives as long as the process. Whoever calls takes part in the work, so that a call from
inside a block's work, or from many threads at once, never waits for a free thread.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TypeVar

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
    queue = deque(items)
    n_helpers = min(n_threads(), len(queue)) - 1
    helpers: list[Future[None]] = []
    try:
        for _ in range(n_helpers):
            helpers.append(_executor().submit(_help_out, work, queue))
        for item in _taken(queue):
            work(item)
    finally:
        queue.clear()  # after an error, no other item is begun
        # A helper for which the pool has had no thread yet is not waited for.
        begun = [helper for helper in helpers if not helper.cancel()]
        wait_whatever(partial(wait, begun))  # no thread works any more
    for helper in begun:
        helper.result()


def _taken(queue: deque[Item]) -> Iterator[Item]:
    """One item after the other, as long as other threads have left some."""
    with suppress(IndexError):
        while True:
            yield queue.popleft()


def _help_out(work: Callable[[Item], object], queue: deque[Item]) -> None:
    try:
        for item in _taken(queue):
            work(item)
    except BaseException:
        queue.clear()
        raise


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
