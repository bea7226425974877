import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pxprep.errors import StoreError
from pxprep.store import contents, files, journal, moving, staging, transactions
from pxprep.store.places import Place
from text_stores import Listing, layers, publish, staged, tree, write


@pytest.fixture
def store(tmp_path):
    for name in ("old", "other"):
        write(tmp_path / "images" / name, name)
    (tmp_path / "table").write_text("old other")
    return tmp_path


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    if request.param == "two renames":
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    return request.param


def test_publish_new_and_replace(store, way):
    publish(store, "fresh", "old")
    assert layers(store) == {"fresh": "new fresh", "old": "new old", "other": "other"}
    assert (store / "table").read_text() == "fresh old other"
    assert json.loads((store / "notes").read_text()) == {"fresh": "made", "old": "made"}
    assert not (store / staging.STAGING).exists()


def test_store_without_a_table_gets_none(store):
    (store / "table").unlink()
    publish(store, "fresh")
    assert not (store / "table").exists()
    assert layers(store)["fresh"] == "new fresh"


def test_first_layer_of_its_kind(store):
    """The folder above it comes with what describes it."""
    with transactions.transaction(store, Listing(store)) as transaction:
        write(transaction.stage / "labels" / "cells", "new cells")
        (transaction.stage / "labels" / "zarr.json").write_text("a group")
        transaction.publish([Place("labels", "cells")], None)
    assert (store / "labels" / "zarr.json").read_text() == "a group"
    assert (store / "labels" / "cells" / "zarr.json").read_text() == "new cells"


@pytest.mark.parametrize("failing", ["check", "withdraw", "announce"])
def test_failing_step_undoes_all(store, way, failing):
    before = tree(store)
    contents = Listing(store)
    contents.failing.add(failing)
    if failing == "announce":
        contents.failing.add("once")
        announce = contents.announce

        def once(*args):
            if "once" in contents.failing:
                contents.failing.clear()
                raise OSError(errno.EIO, "announce failed")
            announce(*args)

        contents.announce = once
    elif failing == "withdraw":
        contents.announce = lambda *args: None
    with pytest.raises((StoreError, OSError), match=f"{failing} failed"):
        publish(store, "fresh", "old", contents=contents)
    assert tree(store) == before
    assert not (store / staging.STAGING).exists()


@pytest.mark.parametrize("failing", range(3))
def test_failing_move_undoes_those_before(store, monkeypatch, way, failing):
    before = tree(store)
    replace, calls = moving._replace, []

    def failing_replace(*args):
        calls.append(args)
        if len(calls) == failing + 1:
            raise OSError(errno.EACCES, "may not be moved")
        replace(*args)

    monkeypatch.setattr(moving, "_replace", failing_replace)
    with pytest.raises(StoreError, match=r"nothing was changed.*may not be moved"):
        publish(store, "old", "fresh", "other")
    assert len(calls) > failing
    assert tree(store) == before
    assert not (store / staging.STAGING).exists()


def test_what_cannot_be_undone_is_completed_by_the_next_write(store, way):
    contents = Listing(store)
    contents.failing.add("announce")
    with pytest.raises(StoreError, match=r"half-way.*nothing is lost.*repair"):
        publish(store, "old", "fresh", contents=contents)
    assert layers(store)["old"] == "old"
    before = tree(store)
    assert transactions.unfinished(store) == (("old", "fresh"), 0, 0)
    assert tree(store) == before
    publish(store, "later", note="later")
    assert layers(store) == {
        "fresh": "new fresh",
        "later": "new later",
        "old": "new old",
        "other": "other",
    }
    assert (store / "table").read_text() == "fresh later old other"
    assert json.loads((store / "notes").read_text()) == {
        "fresh": "made",
        "later": "later",
        "old": "made",
    }
    assert not (store / staging.STAGING).exists()
    assert transactions.unfinished(store) == ((), 0, 0)


def test_journal_that_cannot_be_understood_is_named(store):
    folder = store / staging.STAGING / ("0" * 32)
    folder.mkdir(parents=True)
    (store / staging.STAGING / staging.LOCK).touch()
    for text in ("{", '{"format": 99}', "[]"):
        (folder / journal.JOURNAL).write_text(text)
        with pytest.raises(StoreError, match=r"000/journal.json' cannot be understood"):
            transactions.unfinished(store)
        with pytest.raises(StoreError, match="interrupted write cannot be completed"):
            transactions.repair(store, Listing(store))
    assert (folder / journal.JOURNAL).read_text() == "[]"


def test_work_of_somebody_else_is_not_overwritten_by_a_recovery(store):
    """A layer that was written after the crash is newer than the one that the journal is of."""
    contents = Listing(store)
    contents.failing.add("announce")
    with pytest.raises(StoreError, match="half-way"):
        publish(store, "old", "fresh", contents=contents)
    shutil.rmtree(store / "images" / "old")
    write(store / "images" / "old", "of another program")
    recovered = transactions.repair(store, Listing(store))
    assert recovered == (("fresh",), 0)
    assert layers(store)["old"] == "of another program"
    assert "old" not in json.loads((store / "notes").read_text())


def test_guard_is_asked_before_anything_happens(store):
    before = tree(store)

    def changed():
        raise StoreError("changed meanwhile")

    with (
        pytest.raises(StoreError, match="changed meanwhile"),
        transactions.transaction(store, Listing(store)) as transaction,
    ):
        transaction.publish(staged(transaction, "old"), None, changed)
    assert tree(store) == before


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_staging_goes_when_the_body_fails(store, kind):
    before = tree(store)

    def fail_half_way():
        with transactions.transaction(store, Listing(store)) as transaction:
            staged(transaction, "half")
            raise kind

    with pytest.raises(kind):
        fail_half_way()
    assert tree(store) == before
    assert not (store / staging.STAGING).exists()


def test_interrupt_waits_until_all_is_published(store, monkeypatch):
    """Ctrl-C in the middle of the moves: they are finished first."""
    replace = moving._replace

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        replace(*args)

    monkeypatch.setattr(moving, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        publish(store, "old", "fresh")
    assert "had been published" in caught.value.__notes__[0]
    assert layers(store) == {"fresh": "new fresh", "old": "new old", "other": "other"}
    assert (store / "table").read_text() == "fresh old other"
    assert not (store / staging.STAGING).exists()


DIES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from text_stores import Listing, staged
from pxprep.store import transactions
store = Path({store!r})
with transactions.transaction(store, Listing(store)) as transaction:
    moves = staged(transaction, "half")
    print(transaction.folder, flush=True)
    if {lives}:
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start_writer(store, lives):
    code = DIES.format(tests=str(Path(__file__).parents[1]), store=str(store), lives=lives)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_dead_staging_is_removed_and_a_live_one_is_not(store):
    live = start_writer(store, lives=True)
    folder = Path(live.stdout.readline().strip())
    dead = start_writer(store, lives=False)
    dead.wait()
    try:
        before = tree(store)
        assert transactions.unfinished(store) == ((), 1, 1)
        assert tree(store) == before
        assert transactions.repair(store, Listing(store)) == ((), 1)
        assert transactions.unfinished(store) == ((), 0, 1)
        assert folder.is_dir()
        publish(store, "fresh")
        assert (folder / "stage.zarr" / "images" / "half" / "zarr.json").read_text() == "new half"
    finally:
        live.kill()
        live.communicate()
        dead.communicate()
    assert transactions.repair(store, Listing(store)) == ((), 1)
    assert not (store / staging.STAGING).exists()
    assert layers(store) == {"fresh": "new fresh", "old": "old", "other": "other"}


def test_lock_is_waited_for_or_not(store):
    with staging.locked(store, None):
        before = time.monotonic()
        with (
            pytest.raises(StoreError, match=r"another process is writing.*waited 0 seconds"),
            transactions.transaction(store, Listing(store), wait=0),
        ):
            pass
        with (
            pytest.raises(StoreError, match=r"waited 0.2 seconds"),
            transactions.transaction(store, Listing(store), wait=0.2),
        ):
            pass
        assert 0.2 <= time.monotonic() - before < 5
        assert transactions.unfinished(store) == ((), 0, 1)
    publish(store, "fresh")


def test_waiting_ends_when_the_lock_is_free(store):
    held = threading.Event()

    def hold():
        with staging.locked(store, None):
            held.set()
            time.sleep(0.3)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hold)
        held.wait()
        publish(store, "fresh")
        future.result()
    assert layers(store)["fresh"] == "new fresh"


def test_many_threads_at_once(store):
    """Each makes and removes the common folder while others do so, too."""

    def publish_often(thread):
        for number in range(10):
            publish(store, f"layer{thread}-{number}", note=thread)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish_often, range(4)))
    assert len(layers(store)) == 2 + 40
    assert len((store / "table").read_text().split()) == 42
    assert len(json.loads((store / "notes").read_text())) == 40
    assert not (store / staging.STAGING).exists()


def test_file_system_without_locks_is_refused(store, monkeypatch):
    def no_locks(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", no_locks)
    with pytest.raises(StoreError, match=r"cannot be locked.*No locks available"):
        publish(store, "fresh")
    assert "fresh" not in layers(store)


def test_store_must_be_a_folder(tmp_path):
    with pytest.raises(StoreError, match="folder"):
        staging.check_writable(tmp_path / "none")


def test_identity_survives_a_copy_and_tells_layers_apart(store):
    copy = store / "copy"
    shutil.copytree(store / "images" / "old", copy)
    first = contents.identity(copy)
    assert first == contents.identity(store / "images" / "old")
    assert first != contents.identity(store / "images" / "other")
    (copy / "0" / "zarr.json").write_text("an array of another shape")
    assert contents.identity(copy) != first
    assert contents.identity(store / "none") is None


# --- what the operating system offers -------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2")
def test_exchange(store):
    first, second = store / "images" / "old", store / "images" / "other"
    assert files.exchange(first, second)
    assert layers(store) == {"old": "other", "other": "old"}
    with pytest.raises(FileNotFoundError):
        files.exchange(first, store / "none")


def test_lock_is_freed_when_its_holder_is_killed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pxprep.store import files\n"
        "print(files.try_lock(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    file = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline().strip().isdigit()
    assert files.try_lock(file) is None
    holder.kill()
    holder.communicate()
    descriptor = files.try_lock(file)
    assert descriptor is not None
    assert files.try_lock(file) is None  # nor for another thread
    files.unlock(descriptor)


def test_lock_on_a_file_that_was_removed_is_none(tmp_path, monkeypatch):
    file = tmp_path / "lock"
    lock, calls = files._lock, []

    def removed_before(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            file.unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", removed_before)
    files.try_lock(file)
    assert len(calls) == 2
    assert file.exists()


def test_folders_that_cannot_be_flushed_are_left_to_the_file_system(store, monkeypatch):
    """Not so files, of which the system says that they are not on disk."""
    failing = []

    def unknown(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir() or failing:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unknown)
    publish(store, "old")
    assert layers(store)["old"] == "new old"
    failing.append(True)
    with pytest.raises(OSError, match="Invalid argument"):
        publish(store, "fresh")
    assert "fresh" not in layers(store)


def test_replaced_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "zarr.json"
    files.replace_file(file, b"one")
    file.chmod(0o640)
    files.replace_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o640

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.replace_file(file, b"three")
    assert tree(tmp_path) == {"zarr.json": "two"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_everything_is_flushed_before_what_relies_on_it(store, monkeypatch):
    """Staged files before the journal, the journal before the moves, moves before its end."""
    events = []
    fsync, exchange, unlink = os.fsync, files.exchange, Path.unlink

    def recorded(name, function):
        def call(first, *args, **kwargs):
            path = Path(f"/proc/self/fd/{first}").readlink() if name == "fsync" else first
            events.append((name, Path(path).name.split(".")[0]))
            return function(first, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", recorded("fsync", fsync))
    monkeypatch.setattr(files, "exchange", recorded("exchange", exchange))
    monkeypatch.setattr(Path, "unlink", recorded("unlink", unlink))
    with transactions.transaction(store, Listing(store)) as transaction:
        moves = staged(transaction, "old")
        own = transaction.folder.name
        transaction.publish(moves, None)
    journal = events.index(("fsync", "journal"))
    moved = events.index(("exchange", "old"))
    ended = events.index(("unlink", "journal"))
    assert {"chunk", "zarr", "0", "old", "images", "stage", own, store.name} <= {
        name for _, name in events[:journal]
    }
    assert ("fsync", own) in events[journal:moved]
    assert {("fsync", "images")} <= set(events[moved:ended])
    assert ("fsync", own) in events[ended:]


def test_files_are_flushed_while_others_are_written(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "FLUSHING_PAUSE", 0.01)
    monkeypatch.setattr(files, "flush_entry", flushed.append)
    folder = tmp_path / "layer"
    with files.flushing(folder):
        (folder / "c").mkdir(parents=True)
        (folder / "c" / "0").write_text("chunk")
        (folder / "c" / "1.partial").write_text("draft")
        deadline = time.monotonic() + 10
        while not flushed and time.monotonic() < deadline:
            time.sleep(0.01)
    assert flushed == [str(folder / "c" / "0")]


@pytest.mark.parametrize("what", ["flush_entry", "_below"])
def test_what_could_not_be_flushed_on_the_way_is_an_error(tmp_path, monkeypatch, what):
    """The system tells of a failed write once: later flushes of the file succeed."""
    tried = threading.Event()

    def fail(path):
        tried.set()
        raise OSError(errno.EIO, "no medium", path)

    monkeypatch.setattr(files, "FLUSHING_PAUSE", 0.01)
    monkeypatch.setattr(files, what, fail)
    (tmp_path / "chunk").write_text("chunk")
    with pytest.raises(OSError, match="no medium"), files.flushing(tmp_path):
        tried.wait(10)
