"""The memory of large arrays that are gone, held for the next ones.

The system clears each page of fresh memory when it is first written to, which may take longer than
the work on the pixels. So the memory of a large array is held for the next one of about its size.
The system may take it meanwhile, whenever it is short of memory: the next array then costs what one
in fresh memory does. It gets all of it back once nothing has been held anew for a while.
"""

import mmap
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from queue import SimpleQueue
from threading import Lock, Thread
from time import sleep

import numpy as np

from .aliases import Block, DType

# The C library holds the memory of smaller arrays.
LEAST_BYTES = 1 << 20
# So many bytes are held at most: of results, and of scratch.
MOST_RESULTS, MOST_SCRATCH = 1 << 30, 3 << 25
# So many seconds after the last array was freed, or at most twice as many, what is held goes back
# to the system. It counts as memory of a worker of distributed, which pauses a worker near its
# limit until it has less.
RESULTS_SECONDS, SCRATCH_SECONDS = 10.0, 1.0
# An array takes memory that is held if that is at most so many times as large as it needs.
TOO_LARGE = 1.25


def empty(shape: Sequence[int], dtype: DType) -> Block:
    """An array with arbitrary values, as `numpy.empty` makes it, for a result."""
    return _RESULTS.empty(shape, dtype)


def scratch(shape: Sequence[int], dtype: DType) -> Block:
    """As `empty`, for what is mostly gone soon: a block that is read, a strip of it."""
    return _SCRATCH.empty(shape, dtype)


def _fresh(n_bytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class _HeldMemory:
    """The memory that is held."""

    # Whether this system can be told that it may take memory which is held: Windows cannot.
    can_hold = hasattr(mmap, "MADV_FREE")

    def __init__(self, most: Callable[[], int], seconds: Callable[[], float]) -> None:
        self._most = most  # how many bytes are held
        self._seconds = seconds  # how long they are held
        self._pieces: list[mmap.mmap] = []
        self._lock = Lock()
        # Has an item if a piece was held since `_give_back` last looked. An array may be freed at
        # any moment, and this is the only kind of queue to which one may put at any moment.
        self._news: SimpleQueue[None] = SimpleQueue()
        self._giver: Thread | None = None  # runs `_give_back`

    def empty(self, shape: Sequence[int], dtype: DType) -> Block:
        """An array in memory that is held, if there is a piece for it; else in fresh memory."""
        n_bytes = prod(shape) * dtype.itemsize
        if n_bytes < LEAST_BYTES or not self.can_hold:
            return np.empty(shape, dtype)
        try:
            piece = self.take(n_bytes) or _fresh(n_bytes)
        except OSError:
            return np.empty(shape, dtype)  # its error tells how much memory was asked for
        plain = np.asarray(_InUse(piece, self))
        return plain[:n_bytes].view(dtype).reshape(shape)

    def take(self, n_bytes: int) -> mmap.mmap | None:
        """The smallest piece that fits an array of so many bytes; None if none does."""
        if not self._lock.acquire(blocking=False):
            return None  # another thread has the lock, or an interrupt has left it taken
        try:
            if self._giver is None or not self._giver.is_alive():  # a fork has no threads
                self._giver = Thread(target=self._give_back, name="pxprep-memory", daemon=True)
                with suppress(RuntimeError):  # Python is about to exit
                    self._giver.start()
            fitting = [one for one in self._pieces if n_bytes <= len(one) <= TOO_LARGE * n_bytes]
            if not fitting:
                return None
            piece = min(reversed(fitting), key=len)  # the newest: the processor may have it cached
            self._pieces.remove(piece)
            return piece
        finally:
            self._lock.release()

    def hold(self, piece: mmap.mmap) -> None:
        """Hold a piece; the oldest ones go back to the system if it is more than may be held."""
        try:
            piece.madvise(mmap.MADV_FREE)
        except OSError:  # a kernel that is too old for this
            return
        # An array may be freed at any moment, even while its own thread has the lock. Then there is
        # no waiting: the piece goes back to the system.
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._pieces.append(piece)
            while sum(map(len, self._pieces)) > self._most():
                self._pieces.pop(0)
            if self._news.empty():
                self._news.put(None)
        finally:
            self._lock.release()

    def _give_back(self) -> None:
        """Give all pieces back to the system, whenever none was held anew for a while."""
        while True:
            self._news.get()  # waits until a piece is held
            sleep(self._seconds())
            if self._news.empty():
                with self._lock:
                    self._pieces.clear()


_RESULTS = _HeldMemory(lambda: MOST_RESULTS, lambda: RESULTS_SECONDS)
_SCRATCH = _HeldMemory(lambda: MOST_SCRATCH, lambda: SCRATCH_SECONDS)


class _InUse:
    """A piece of memory in use: the array that is made of it, and all views, hold this object.

    When the last of them is freed, the piece is held for the next array.
    """

    def __init__(self, piece: mmap.mmap, held: _HeldMemory) -> None:
        self._piece, self._held = piece, held
        self.__array_interface__ = np.frombuffer(piece, np.uint8).__array_interface__

    def __del__(self) -> None:
        self._held.hold(self._piece)
