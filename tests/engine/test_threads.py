"""The threads that passes share: errors, interrupts, calls within calls, forks."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import dask
import pytest

from pxprep.engine import threads
from pxprep.engine.threads import n_threads, run_all


@pytest.fixture(autouse=True)
def _four_threads():
    with dask.config.set(num_workers=4):
        yield


def test_each_item_is_worked_on_once():
    done = []
    run_all(done.append, range(1000))
    assert sorted(done) == list(range(1000))


def test_nothing_to_do():
    run_all(pytest.fail, [])


def test_items_are_begun_in_their_order():
    with dask.config.set(scheduler="synchronous"):
        done = []
        run_all(done.append, range(20))
    assert done == list(range(20))


def test_several_threads_work_at_once():
    meeting = threading.Barrier(3, timeout=20)
    run_all(lambda _: meeting.wait(), range(3))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"scheduler": "synchronous"}, 1), ({"num_workers": 3}, 3), ({"num_workers": 1}, 1)],
)
def test_the_user_says_how_many(settings, expected):
    with dask.config.set(settings):
        assert n_threads() == expected


@pytest.mark.parametrize("wrong", [0, 5, 99])
def test_an_error_ends_it_and_leaves_no_thread_at_work(wrong):
    begun, ended = [], []

    def work(item):
        begun.append(item)
        if item == wrong:
            raise ValueError("wrong")
        time.sleep(0.001)
        ended.append(item)

    with pytest.raises(ValueError, match="wrong"):
        run_all(work, range(1000))
    n_begun = len(begun)
    assert n_begun < 1000
    assert len(ended) == n_begun - 1
    time.sleep(0.02)
    assert len(begun) == n_begun


def test_a_thread_is_waited_for_even_if_an_interrupt_hides_it(monkeypatch):
    """Ctrl-C may come after the pool has taken a helper, and before anybody else knows of it."""
    pool, begun, ended = ThreadPoolExecutor(1), threading.Event(), threading.Event()

    class Interrupted:
        def submit(self, *call):
            pool.submit(*call)
            begun.wait(20)
            raise KeyboardInterrupt

    def work(_):
        begun.set()
        time.sleep(0.2)
        ended.set()

    monkeypatch.setattr(threads, "_executor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(work, range(10))
    assert ended.is_set()
    pool.shutdown()


def test_an_error_of_a_helper_holds_nothing_once_it_was_caught():
    """Not until Python collects garbage, as large images may hang on it."""

    class Held(list):
        pass

    def fail_in(held):
        meeting = threading.Barrier(2, timeout=20)

        def work(item):
            meeting.wait()
            if threading.current_thread() is not threading.main_thread():
                raise ValueError(f"wrong {len(held)}")

        with pytest.raises(ValueError, match="wrong"):
            run_all(work, range(2))

    held = Held()
    alive = weakref.ref(held)
    gc.disable()
    try:
        fail_in(held)
        del held
        for _ in range(1000):  # the pool's own thread lets go a moment later
            if alive() is None:
                break
            time.sleep(0.001)
        assert alive() is None
    finally:
        gc.enable()


def test_work_may_call_for_work():
    done = []

    def work(item):
        run_all(lambda inner: done.append((item, inner)), range(10))

    run_all(work, range(50))
    assert len(set(done)) == 500


def test_nobody_waits_for_a_thread_that_others_have(monkeypatch):
    pool = ThreadPoolExecutor(1)
    monkeypatch.setattr(threads, "_pool", (os.getpid(), pool))
    release = threading.Event()
    pool.submit(release.wait)
    done = []
    caller = threading.Thread(target=run_all, args=(done.append, range(10)))
    caller.start()
    caller.join(10)
    has_waited = caller.is_alive()
    release.set()
    caller.join()
    assert not has_waited
    assert sorted(done) == list(range(10))


def test_many_callers_at_once():
    done = [[] for _ in range(20)]
    callers = [threading.Thread(target=run_all, args=(mine.append, range(200))) for mine in done]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert all(sorted(mine) == list(range(200)) for mine in done)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are a matter of POSIX")
def test_works_in_a_forked_process():
    code = (
        "import os, sys, warnings\n"
        "import dask\n"
        "from pxprep.engine.threads import run_all\n"
        "dask.config.set(num_workers=4)\n"
        "run_all(lambda _: None, range(10))\n"
        "warnings.simplefilter('ignore')\n"
        "if os.fork() == 0:\n"
        "    done = []\n"
        "    run_all(done.append, range(100))\n"
        "    os._exit(0 if sorted(done) == list(range(100)) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupt_waits_for_what_was_begun():
    """Ctrl-C in the middle: items under way are finished before the caller hears of it."""
    begun, ended = [], []

    def work(item):
        begun.append(item)
        if len(begun) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.005)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run_all(work, range(1000))
    n_ended = len(ended)
    assert n_ended >= len(begun) - 1  # the one in the caller's own thread is cut short
    time.sleep(0.03)
    assert len(ended) == n_ended
