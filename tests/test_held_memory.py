"""What large arrays leave is taken by the next ones, and never by two at once."""

import gc
import mmap
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import xarray as xr

from pxprep import memory
from pxprep.memory import LEAST_BYTES, empty, scratch

F4 = np.dtype(np.float32)
LARGE = (3, 1, 512, 512)

needs_holding = pytest.mark.skipif(
    not hasattr(mmap, "MADV_FREE"), reason="this system cannot be told that it may take memory"
)


@pytest.fixture(autouse=True)
def nothing_is_held(monkeypatch):
    for kind in ("RESULTS", "SCRATCH"):
        limits = [partial(getattr, memory, name) for name in (f"MOST_{kind}", f"{kind}_SECONDS")]
        monkeypatch.setattr(memory, f"_{kind}", memory._HeldMemory(*limits))


def held(memory_of="_RESULTS"):
    return [len(piece) for piece in getattr(memory, memory_of)._pieces]


def address(array):
    return array.__array_interface__["data"][0]


@needs_holding
def test_the_next_array_takes_what_one_has_left():
    first = empty(LARGE, F4)
    first[...] = 7
    place = address(first)
    assert held() == []
    del first
    assert held() == [4 * 3 * 512 * 512]
    again = empty((512, 3, 512), np.dtype(np.int32))
    assert address(again) == place
    assert (again.shape, again.dtype, again.flags.writeable) == ((512, 3, 512), np.int32, True)
    assert held() == []


@needs_holding
def test_memory_is_not_lent_while_a_view_is_left():
    array = empty(LARGE, F4)
    row = xr.DataArray(array, dims=("c", "z", "y", "x"))[1, 0, 2]
    array[...] = 3
    del array
    assert held() == []
    empty(LARGE, F4)[...] = 5
    assert (row == 3).all()
    del row
    assert len(held()) == 2


@needs_holding
def test_only_arrays_of_about_the_size_take_it():
    size = LEAST_BYTES  # values, of four bytes each
    array = empty((size,), F4)
    del array
    for other in (size + 1, size // 2):
        empty((other,), F4)
    assert sorted(held()) == [4 * (size // 2), 4 * size, 4 * (size + 1)]
    smaller = empty((size - size // 10,), F4)
    assert smaller.size == size - size // 10
    assert sorted(held()) == [4 * (size // 2), 4 * (size + 1)]


@needs_holding
def test_of_several_the_newest_is_taken():
    arrays = [empty(LARGE, F4) for _ in range(3)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert address(empty(LARGE, F4)) == places[-1]


@needs_holding
def test_no_more_is_held_than_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "MOST_RESULTS", 3 * LEAST_BYTES)
    arrays = [empty((LEAST_BYTES,), np.dtype(np.uint8)) for _ in range(5)]
    del arrays
    assert held() == [LEAST_BYTES] * 3
    empty((4 * LEAST_BYTES,), np.dtype(np.uint8))
    assert held() == []


@needs_holding
def test_scratch_takes_what_scratch_has_left(monkeypatch):
    monkeypatch.setattr(memory, "MOST_SCRATCH", 8 * LEAST_BYTES)
    blocks = [scratch((3 * LEAST_BYTES,), np.dtype(np.uint8)) for _ in range(4)]
    del blocks
    assert (held("_SCRATCH"), held()) == ([3 * LEAST_BYTES] * 2, [])
    empty((3 * LEAST_BYTES,), np.dtype(np.uint8))
    assert held("_SCRATCH") == [3 * LEAST_BYTES] * 2
    kept = scratch((LEAST_BYTES, 3), np.dtype(np.uint8))
    assert held("_SCRATCH") == [3 * LEAST_BYTES]
    del kept


@needs_holding
def test_what_is_held_goes_back_once_all_is_quiet(monkeypatch):
    """And what is held after that does as well: a worker of distributed may wait for it."""
    monkeypatch.setattr(memory, "SCRATCH_SECONDS", 0.05)
    before = threading.active_count()
    for _ in range(3):
        blocks = [scratch((LEAST_BYTES,), np.dtype(np.uint8)) for _ in range(2)]
        del blocks
        wait_until(lambda: not held("_SCRATCH"))
    assert threading.active_count() <= before + 1


@needs_holding
def test_nothing_goes_back_while_memory_is_held_anew(monkeypatch):
    seen = []

    def sleep(seconds):
        seen.append((seconds, len(held("_SCRATCH"))))
        if len(seen) < 4:
            scratch((LEAST_BYTES,), np.dtype(np.uint8))  # takes what is held, and leaves it again

    monkeypatch.setattr(memory, "sleep", sleep)
    scratch((LEAST_BYTES,), np.dtype(np.uint8))
    wait_until(lambda: len(seen) == 4 and not held("_SCRATCH"))
    assert seen == [(memory.SCRATCH_SECONDS, 1)] * 4


def wait_until(is_done):
    deadline = time.monotonic() + 30
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_holding
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_fork_holds_goes_back_too():
    script = (
        "import os, time, numpy as np\n"
        "from pxprep import memory\n"
        "memory._SCRATCH = memory._HeldMemory(lambda: 1 << 27, lambda: 0.05)\n"
        "memory.scratch((1 << 21,), np.dtype('u1'))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    memory.scratch((1 << 22,), np.dtype('u1'))\n"
        "    deadline = time.monotonic() + 30\n"
        "    while memory._SCRATCH._pieces and time.monotonic() < deadline: time.sleep(0.01)\n"
        "    os._exit(len(memory._SCRATCH._pieces))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert_prints(script, "0")


def assert_prints(script, *words):
    """Python prints these words, and no error, when it runs the script."""
    command = [sys.executable, "-Wignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([*words], "")


def test_small_arrays_and_other_systems_are_left_to_numpy(monkeypatch):
    small = empty((5,), F4)
    assert small.shape == (5,)
    assert small.base is None
    del small
    monkeypatch.setattr(memory._HeldMemory, "can_hold", False)  # as on Windows
    large = empty(LARGE, F4)
    assert large.shape == LARGE
    assert large.base is None
    del large
    assert held() == []


@needs_holding
def test_a_kernel_that_knows_no_such_advice_gets_all_back(monkeypatch):
    monkeypatch.setattr(mmap, "MADV_FREE", 9999)
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999, raising=False)
    array = empty(LARGE, F4)
    array[...] = 1
    assert array.base is not None
    del array
    assert held() == []


@needs_holding
def test_arrays_are_pickled_and_copied_as_any_others():
    array = empty(LARGE, F4)
    array[...] = np.arange(512)
    for copy in (pickle.loads(pickle.dumps(array)), array.copy()):
        np.testing.assert_array_equal(copy, array)
        assert not np.shares_memory(copy, array)


@needs_holding
def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(200):
            array = empty((LEAST_BYTES,), np.dtype(np.uint8))
            array[::4096] = number
            if (array[::4096] != number).any():
                wrong.append(number)
            del array

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(held()) <= 6


@needs_holding
def test_an_array_may_be_freed_while_memory_is_taken(monkeypatch):
    """Python may collect garbage at any moment, also in the thread that has the lock."""
    shared = memory._RESULTS

    class Collecting(list):
        def __iter__(self):
            gc.collect()
            return super().__iter__()

    monkeypatch.setattr(shared, "_pieces", Collecting())
    circle = [empty(LARGE, F4)]
    circle.append(circle)
    del circle
    assert empty(LARGE, F4).shape == LARGE  # and does not wait for itself
    assert len(held()) == 1


@needs_holding
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_memory_of_its_own():
    script = (
        "import os, numpy as np\n"
        "from pxprep.memory import empty\n"
        "array = empty((1 << 21,), np.dtype('u1')); array[:] = 1\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    array[:] = 2; os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(int(array.min()), int(array.max()))\n"
    )
    assert_prints(script, "1", "1")
