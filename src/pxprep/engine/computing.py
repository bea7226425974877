"""Has Dask compute lazy arrays: by which scheduler, in which threads, and when they are at rest."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Barrier, Thread, get_ident
from typing import Any

import dask.array as da
from dask import config, threaded
from dask.base import compute as dask_compute
from dask.base import get_scheduler
from dask.local import get_sync

from ..aliases import Array
from ..store.zarr_chunks import require_there
from .sources import stored_in
from .threads import n_cores, wait_whatever

# So many more threads than cores, as a thread that waits for a disk leaves its core idle.
WAITING_THREADS = 2
_WAITING: ContextVar[int] = ContextVar("waiting", default=0)


@contextmanager
def some_wait() -> Iterator[None]:
    """A context: more threads than cores compute, as some of them wait for a disk."""
    token = _WAITING.set(WAITING_THREADS)
    try:
        yield
    finally:
        _WAITING.reset(token)


def n_workers() -> int:
    """How many threads compute: as the user chose, or one for each core and some that wait."""
    return config.get("num_workers", None) or n_cores() + _WAITING.get()


def computes_here(arrays: Sequence[Array]) -> bool:
    """Whether threads of this process compute arrays, and not some that the user has."""
    is_here = any(scheduler_of(arrays) is each for each in (threaded.get, get_sync))
    pool = config.get("pool", None)
    return is_here and (pool is None or isinstance(pool, _RestingPool))


@contextmanager
def threads_at_rest() -> Iterator[None]:
    """A context: on exit Dask's threads have no task left, even after one of the tasks failed.

    Without it the tasks that run when another fails would go on, and might write into a folder that
    is being removed.
    """
    if config.get("pool", None) is not None:
        yield  # the user's own threads
        return
    pool = _RestingPool(n_workers())
    with config.set(pool=pool):
        try:
            yield
        finally:
            pool.rest()


class _RestingPool(ThreadPoolExecutor):
    """Threads that one can wait for, and go on using.

    They are not shut down, as Dask's setting holds for the whole process: another thread of the
    user's that computes meanwhile uses them, too, and may give them tasks later.
    """

    def __init__(self, n_workers: int) -> None:
        super().__init__(n_workers)
        self._n_workers = n_workers
        # All threads start here: if one started later, and an interrupt came just then, the pool
        # would not know of it.
        self.rest()

    def rest(self) -> None:
        """Wait until no task is left, however often the user interrupts."""
        waiting = Thread(target=self._wait_for_all)
        waiting.start()
        wait_whatever(waiting.join)

    def _wait_for_all(self) -> None:
        # Once all threads are at the barrier, none runs a task that came before. A list of the
        # tasks would not do: an interrupt may come after a task is given and before it is listed.
        barrier = Barrier(self._n_workers)
        wait([self.submit(barrier.wait) for _ in range(self._n_workers)])


def give_back_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for later."""
    trim = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "malloc_trim", None)
    if trim is not None:
        trim(0)


def compute(*arrays: Array, local: bool = False) -> tuple[Array, ...]:
    """All arrays as NumPy arrays, the lazy ones computed together.

    With `local`, threads of this process compute them, whatever scheduler the user chose: the
    images are in this process, and so is the array that takes the result.

    Raises
    ------
    StoreError
        If they are read from zarr arrays that are gone from disk.
    """
    values = _computed(arrays, local)
    for array in _lazy_among(arrays):
        for stored in stored_in(array):
            require_there(stored)
    return values


def _computed(arrays: Sequence[Array], local: bool) -> tuple[Array, ...]:
    scheduler = scheduler_of(arrays)
    here = local and scheduler is not get_sync
    if scheduler is threaded.get:
        here = config.get("pool", None) is None  # else the user's own threads
    if not here:
        return tuple(dask_compute(*arrays, scheduler=scheduler))
    # The pool is for this computation alone: another thread may compute at the same time.
    with ThreadPoolExecutor(n_workers()) as pool:
        return tuple(dask_compute(*arrays, scheduler=threaded.get, pool=pool))


def scheduler_of(arrays: Sequence[Array]) -> Any:
    """The function of Dask that computes as the user chose.

    To look for a client, Dask would import distributed. Whoever has a client has imported it, so
    without that there is nothing to look for.
    """
    if config.get("scheduler", None) is None and "distributed" not in sys.modules:
        return threaded.get
    return get_scheduler(collections=_lazy_among(arrays)) or threaded.get


@contextmanager
def in_this_thread() -> Iterator[None]:
    """A context: what this thread has Dask compute is computed in this thread.

    It is for many tasks that do next to nothing, which threads or a cluster would only slow down.
    Dask's setting holds for all threads, so what others compute meanwhile is passed on to the
    scheduler that they had.
    """
    this_thread, compute_others = get_ident(), scheduler_of([])

    def scheduler(graph: Any, keys: Any, **options: Any) -> Any:
        compute = get_sync if get_ident() == this_thread else compute_others
        return compute(graph, keys, **options)

    with config.set(scheduler=scheduler):
        yield


def _lazy_among(arrays: Sequence[Array]) -> list[Array]:
    return [array for array in arrays if isinstance(array, da.Array)]
