import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pxprep import StoreError, _store


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path):
    for name in ("old", "other"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "chunk").write_text(name)
    return tmp_path


def staged(folder, name):
    (folder / name).mkdir()
    (folder / name / "chunk").write_text(f"new {name}")
    return folder / name


def retired(folder):
    return folder.with_name("retired")


def nothing():
    pass


def test_failing_announcement_undoes_all(store):
    before = tree(store)

    def fail():
        assert (store / "images" / "old" / "chunk").read_text() == "new old"
        raise ValueError("no table of contents")

    with _store.staging(store) as folder:
        moves = [(staged(folder, name), store / "images" / name) for name in ("old", "fresh")]
        aside = retired(folder)
        with pytest.raises(StoreError, match=r"nothing was changed.*no table of contents"):
            _store.publish(moves, aside, fail)
    assert tree(store) == before


def test_publish_new_and_replace(store):
    with _store.staging(store) as folder:
        moves = [(staged(folder, name), store / "images" / name) for name in ("fresh", "old")]
        assert tree(store / "images") == {"old/chunk": "old", "other/chunk": "other"}
        _store.publish(moves, retired(folder), nothing)
    assert tree(store) == {
        "images/fresh/chunk": "new fresh",
        "images/old/chunk": "new old",
        "images/other/chunk": "other",
    }
    assert not (store / _store.STAGING).exists()


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_failing_publish_undoes_all(store, monkeypatch, failing, error):
    """Four renames: the first layer away and in, the second away and in."""
    before = tree(store)
    rename, calls = Path.rename, []

    def failing_rename(self, target):
        calls.append(target)
        if len(calls) == failing + 1:
            raise error
        return rename(self, target)

    kind = StoreError if isinstance(error, OSError) else KeyboardInterrupt
    with _store.staging(store) as folder:
        moves = [(staged(folder, name), store / "images" / name) for name in ("old", "other")]
        aside = retired(folder)
        monkeypatch.setattr(Path, "rename", failing_rename)
        with pytest.raises(kind):
            _store.publish(moves, aside, nothing)
    assert len(calls) > failing
    assert tree(store) == before
    assert not (store / _store.STAGING).exists()


@pytest.mark.parametrize("interrupted", range(4))
def test_interrupt_right_after_a_rename_loses_nothing(store, monkeypatch, interrupted):
    before = tree(store)
    rename, calls = Path.rename, []

    def rename_then_interrupt(self, target):
        rename(self, target)
        calls.append(target)
        if len(calls) == interrupted + 1:
            raise KeyboardInterrupt

    with _store.staging(store) as folder:
        moves = [(staged(folder, name), store / "images" / name) for name in ("old", "other")]
        monkeypatch.setattr(Path, "rename", rename_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            _store.publish(moves, retired(folder), nothing)
    assert tree(store) == before
    assert not (store / _store.STAGING).exists()


def test_old_layer_outlives_an_undo_that_fails(store, monkeypatch):
    rename, calls = Path.rename, []

    def only_one_rename(self, target):
        calls.append(target)
        if len(calls) > 1:
            raise OSError("disk on fire")
        rename(self, target)

    with _store.staging(store) as folder:
        moves = [(staged(folder, "old"), store / "images" / "old")]
        monkeypatch.setattr(Path, "rename", only_one_rename)
        aside = retired(folder)
        with pytest.raises(StoreError, match=r"could not be undone.*retired"):
            _store.publish(moves, aside, nothing)
    assert tree(aside) == {"0/chunk": "old"}


def test_staging_goes_when_the_body_fails(store):
    before = tree(store)

    def fail_half_way():
        with _store.staging(store) as folder:
            staged(folder, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert tree(store) == before
    assert not (store / _store.STAGING).exists()


def test_staging_leaves_that_of_another_process(store):
    with _store.staging(store) as first:
        with _store.staging(store) as second:
            assert first != second
        assert first.exists()
    assert not (store / _store.STAGING).exists()


def test_staging_in_many_threads_at_once(store):
    """Each removes the common folder if it is empty, while others make it anew."""

    def stage_often(_):
        for _ in range(200):
            with _store.staging(store) as folder:
                assert folder.is_dir()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(stage_often, range(4)))
    assert not (store / _store.STAGING).exists()


def test_everything_is_flushed_before_it_is_published(store, monkeypatch):
    """Files and folders of the staged layer go to disk before the rename, its parent after."""
    events = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (events.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1],
    )
    monkeypatch.setattr(
        Path, "rename", lambda self, target: (events.append("rename"), rename(self, target))[1]
    )
    with _store.staging(store) as folder:
        fresh = staged(folder, "fresh")
        _store.publish([(fresh, store / "images" / "fresh")], retired(folder), nothing)
    assert set(events[:2]) == {str(fresh), str(fresh / "chunk")}
    assert events[2:] == ["rename", str(store / "images")]


def test_store_must_be_a_folder(tmp_path):
    with pytest.raises(StoreError, match="folder"):
        _store.check_writable(tmp_path / "none")
