"""After an error or an interrupt no draft of a chunk is left, and no chunk is half written."""

import errno
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from chunk_kinds import SHAPE, some_values
from pxprep.store import files as files_module
from pxprep.store.zarr_chunks import direct
from written_chunks import drafts, files, made

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")
resource = pytest.importorskip("resource")

WHOLE = tuple(slice(0, size) for size in SHAPE)


@pytest.fixture
def written(tmp_path):
    """An array with old values in it, and its folder."""
    own = direct(made(tmp_path / "own", "<u2", fill_value=9, compressors=codecs.ZstdCodec()))
    own[WHOLE] = some_values(seed=1)
    return own, tmp_path / "own"


def test_full_disk(tmp_path):
    """The system refuses what is larger than so many bytes, of which some are written."""
    own = direct(made(tmp_path / "own", "<f8", (1, 64, 64), (2, 64, 64)))
    old = np.zeros((2, 64, 64))
    own[:, :, :] = old
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            own[:, :, :] = np.ones((2, 64, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert drafts(tmp_path) == []
    np.testing.assert_array_equal(own[:, :, :], old)


def test_chunks_whose_place_is_taken(written):
    """When the draft is complete: a folder has the name of the chunk."""
    own, folder = written
    (folder / "c/0/1/0").unlink()
    (folder / "c/0/1/0").mkdir()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        own[:2, 5:10, :4] = np.ones((2, 5, 4), "u2")
    assert caught.value.errno in (errno.EISDIR, errno.EACCES, errno.EEXIST)
    assert drafts(folder) == []


def test_folders_that_are_files(written):
    own, folder = written
    for path in (folder / "c/0/1").iterdir():
        path.unlink()
    (folder / "c/0/1").rmdir()
    (folder / "c/0/1").touch()
    with pytest.raises(NotADirectoryError):
        own[:2, 5:10, :4] = np.ones((2, 5, 4), "u2")
    assert drafts(folder) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="POSIX permissions")
def test_folders_without_permission():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = direct(made(folder / "own"))
        own[WHOLE] = some_values()
        places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        user = os.geteuid()
        try:
            for path in places:
                path.chmod(0o555)
            if user == 0:
                os.seteuid(65534)  # root may write everywhere
            with pytest.raises(PermissionError):
                own[WHOLE] = np.ones(SHAPE, "u2")
        finally:
            os.seteuid(user)
            for path in places:
                path.chmod(0o755)
        assert drafts(folder) == []
        np.testing.assert_array_equal(own[WHOLE], some_values())


def test_codecs_that_refuse(written):
    own, folder = written

    class Refusing:
        def encode(self, values):
            raise RuntimeError("no more memory for tables")

    before, own._codec = files(folder), Refusing()
    with pytest.raises(RuntimeError, match="tables"):
        own[WHOLE] = np.ones(SHAPE, "u2")
    assert files(folder) == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_moment(tmp_path):
    """Each finds another moment of writing; chunks are old or new, and no draft stays."""
    shape, chunks = (2, 96, 96), (1, 32, 32)
    own = direct(made(tmp_path / "own", "<u2", chunks, shape, compressors=codecs.ZstdCodec()))

    def interrupt(*args):
        raise KeyboardInterrupt

    def write_until(seconds, number):
        # Again later: Python may be where it says of an interrupt only that there was one.
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
        try:
            while True:
                own[:, :, :] = np.full(shape, number, "u2")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(80):
            with pytest.raises(KeyboardInterrupt):
                write_until(1e-3 + number * 2e-5, number)
            assert drafts(tmp_path) == []
    finally:
        signal.signal(signal.SIGALRM, before)
    found = zarr.open_array(tmp_path / "own")[...]
    blocks = found.reshape(2, 3, 32, 3, 32)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_drafts_are_not_flushed_and_chunks_are(tmp_path, monkeypatch):
    """`flushing` finds drafts by their names, and a chunk when it has its own."""
    flushed, flush = [], files_module.flush_entry
    monkeypatch.setattr(files_module, "FLUSHING_PAUSE", 0.001)
    monkeypatch.setattr(
        files_module, "flush_entry", lambda path: (flushed.append(Path(path).name), flush(path))
    )
    own = direct(made(tmp_path / "own"))
    seen = []

    class Waiting:
        def encode(self, values):
            return values

    class Slow(type(Path())):
        def open(self, *args, **kwargs):
            file = super().open(*args, **kwargs)
            if args == ("wb",):
                seen.append(self.name)
                time.sleep(0.02)
            return file

    own._folder, own._codec = Slow(own._folder), Waiting()
    with files_module.flushing(tmp_path / "own"):
        own[WHOLE] = some_values()
        time.sleep(0.1)
    assert len(seen) == 2 * 3 * 3
    assert all(name.endswith(".partial") for name in seen)
    assert not [name for name in flushed if "partial" in name]
    assert sorted(name for name in flushed if name.isdigit()) == sorted("012" * 6)
