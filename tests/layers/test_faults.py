"""What fails on the way leaves the store as it was, and says so."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("resource")

import resource

import spatialdata
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline
from pxprep.errors import StoreError
from stores import files, layers, make_study

# Three chunks of 16 rows: the first, the middle and the last.
CHUNKS = ((2,), (16, 16, 16), (64,))
FIRST, MIDDLE, LAST = range(3)
# A new layer, another one, the input itself.
OUTPUTS = ["clean", "fov1", "fov0"]
WAYS = pytest.mark.parametrize("output", OUTPUTS, ids=["new", "other", "itself"])
ANYWHERE = pytest.mark.parametrize(
    ("output", "place"), [("fov1", FIRST), *((one, MIDDLE) for one in OUTPUTS), ("fov0", LAST)]
)


def make(folder):
    """A store in which the layers to be replaced are plain counts."""
    sdata = make_study(folder / "study.zarr")
    sdata.attrs["before"] = True
    return sdata


def put(sdata, values, function=None):
    """Make `fov0` of the object an image of three chunks, perhaps those that `function` makes."""
    array = da.from_array(values, chunks=CHUNKS)
    if function is not None:
        array = array.map_blocks(function, dtype=values.dtype, meta=np.empty((0, 0, 0), "f4"))
    del sdata.images["fov0"]
    sdata.images["fov0"] = Image2DModel.parse(
        array, dims=("c", "y", "x"), c_coords=["CD3", "CD20"], chunks=(2, 16, 64)
    )


def smooth():
    return np.ones((2, 48, 64), "f4")


def rough_in(place):
    """One chunk that does not compress."""
    values = smooth()
    values[:, 16 * place : 16 * place + 16] = np.random.default_rng(0).random((2, 16, 64))
    return values


@pytest.fixture
def sdata(tmp_path):
    return make(tmp_path)


def clean(sdata, output, **parameters):
    return pxprep.pixel_clustering_preprocess(
        sdata, "fov0", output, pipeline=Pipeline(), overwrite=True, **parameters
    )


@contextmanager
def nothing_changes(store):
    before = files(store)
    yield
    assert files(store) == before
    assert not (store / ".pxprep").exists()


# --- tasks ----------------------------------------------------------------------------------------


class BrokenError(Exception):
    pass


@ANYWHERE
@pytest.mark.parametrize("kind", [BrokenError, KeyboardInterrupt])
def test_failing_task(sdata, place, output, kind):
    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][1] == place:
            raise kind("in the user's function")
        return block

    put(sdata, smooth(), fail)
    with nothing_changes(sdata.path), pytest.raises(kind) as caught:
        clean(sdata, output)
    (note,) = caught.value.__notes__
    assert f"['{output}'] not written, the layers in the store" in note
    assert "are as they were" in note


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c(sdata):
    """A real SIGINT while chunks are computed and written."""

    def interrupt(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][1] == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return block

    put(sdata, smooth(), interrupt)
    with nothing_changes(sdata.path), pytest.raises(KeyboardInterrupt):
        clean(sdata, "clean")
    assert "clean" not in sdata.images


IMPATIENT = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import spatialdata, pxprep
sdata = spatialdata.read_zarr(sys.argv[1])
def interrupt(block):
    if block.size:
        os.kill(os.getpid(), signal.SIGINT)
    return block
lazy = sdata["fov0"].data.rechunk((1, 4, 4))
sdata["fov0"].data = lazy.map_blocks(interrupt, dtype="u2", meta=lazy._meta)
print("begins", flush=True)
pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=pxprep.Pipeline())
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_impatient_ctrl_c(sdata):
    """One for each of many chunks: what could not be cleaned goes with the next write."""
    before = files(sdata.path)
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, sdata.path], capture_output=True, text=True, check=False
    )
    assert done.stdout == "begins\n"
    assert "KeyboardInterrupt" in done.stderr
    pxprep.repair(sdata.path)
    assert files(sdata.path) == before
    assert not (sdata.path / ".pxprep").exists()


# --- disks ----------------------------------------------------------------------------------------


@contextmanager
def file_size_limit(n_bytes):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@ANYWHERE
def test_file_size_limit(sdata, place, output):
    """The system refuses to write one of three chunks, the only one that is large."""
    put(sdata, rough_in(place))
    message = rf"File too large.*\['{output}'\] not written.*as they were"
    with (
        nothing_changes(sdata.path),
        file_size_limit(6000),
        pytest.raises(StoreError, match=message),
    ):
        clean(sdata, output)
    clean(sdata, output)
    np.testing.assert_array_equal(layers(sdata.path)[output][0], rough_in(place))


FAULT = {}


def failing_calls(event, args):
    """Of files that are opened to be written in a chunk folder, let one fail."""
    if not FAULT or event != "open" or not isinstance(args[0], str | os.PathLike):
        return
    path, flags = os.fspath(args[0]), args[2]
    writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
    if writes and f"/c/0/{FAULT['place']}/" in Path(path).as_posix() and ".pxprep" in path:
        raise OSError(FAULT["code"], os.strerror(FAULT["code"]), path)


@pytest.fixture(scope="module")
def faults():
    sys.addaudithook(failing_calls)
    return FAULT


@pytest.mark.parametrize(("place", "code"), [(FIRST, "EIO"), (MIDDLE, "EACCES"), (LAST, "ENOSPC")])
def test_chunk_that_cannot_be_written(sdata, faults, place, code):
    put(sdata, smooth())
    faults.update(place=place, code=getattr(errno, code))
    try:
        with (
            nothing_changes(sdata.path),
            pytest.raises(StoreError, match=os.strerror(getattr(errno, code))),
        ):
            clean(sdata, "fov1")
    finally:
        faults.clear()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@WAYS
def test_full_disk(small_disk, output):
    sdata = make(small_disk)
    put(sdata, np.random.default_rng(0).random((2, 48, 64)).astype("f4"))
    room = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(room - 30_000))
    with (
        nothing_changes(sdata.path),
        pytest.raises(StoreError, match=r"No space left.*not written.*as they were"),
    ):
        clean(sdata, output)
    (small_disk / "filler").unlink()
    clean(sdata, output)
    assert output in spatialdata.read_zarr(sdata.path)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_read_only_file_system(small_disk, no_compute):
    sdata = make(small_disk)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    with nothing_changes(sdata.path), no_compute(), pytest.raises(StoreError, match="read-only"):
        clean(sdata, "clean")


# --- after a crash --------------------------------------------------------------------------------

# One process imports what takes seconds; a fork of it writes to each store, and dies.
DIES = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import spatialdata, pxprep
from pxprep.store import journal, transactions
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
for store in sys.argv[1:]:
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    if store.endswith("staged.zarr"):
        transactions.Transaction.publish = die
    else:
        journal.remove = die
    sdata = spatialdata.read_zarr(store)
    layers, pipeline = (["fov0", "fov1"], ["fov0", "clean"]), pxprep.Pipeline().blur(1)
    pxprep.pixel_clustering_preprocess(sdata, *layers, pipeline=pipeline, overwrite=True)
    break
"""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """A store before the crash, and copies of it that were written to by processes that died."""
    folder = tmp_path_factory.mktemp("crashed")
    before = make(folder).path
    copies = [folder / "staged.zarr", folder / "published.zarr"]
    for copy in copies:
        shutil.copytree(before, copy)
    done = subprocess.run(
        [sys.executable, "-c", DIES, *copies], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(-signal.SIGKILL.value)] * 2, done.stderr
    return folder


@pytest.mark.parametrize("where", ["staged", "published"])
def test_copy_of_a_crashed_store_recovers(crashed, tmp_path, where):
    before = layers(crashed / "study.zarr")
    shutil.copytree(crashed / f"{where}.zarr", tmp_path / "copy.zarr")
    assert (tmp_path / "copy.zarr" / ".pxprep").exists()
    done = (("fov0", "clean"), 0) if where == "published" else ((), 1)
    assert pxprep.repair(tmp_path / "copy.zarr") == done
    assert pxprep.repair(tmp_path / "copy.zarr") == ((), 0)
    assert not (tmp_path / "copy.zarr" / ".pxprep").exists()
    found = layers(tmp_path / "copy.zarr")
    assert ("clean" in found) == (where == "published")
    assert np.array_equal(found["fov0"][0], before["fov0"][0]) == (where == "staged")


def test_object_that_was_read_before_a_recovery_is_refused(crashed, tmp_path):
    """Its arrays re-read by path: they would have the steps applied once already."""
    path = tmp_path / "study.zarr"
    shutil.copytree(crashed / "study.zarr", path)
    stale = spatialdata.read_zarr(path)
    shutil.rmtree(path)
    shutil.copytree(crashed / "published.zarr", path)
    with pytest.raises(
        StoreError, match=r"interrupted write of \['fov0'\] was completed.*read the"
    ):
        pxprep.pixel_clustering_preprocess(stale, "fov0", "later", pipeline=Pipeline().blur(1))
    found = spatialdata.read_zarr(path)
    assert pxprep.provenance(found, "fov0").source == "fov0"
    pxprep.pixel_clustering_preprocess(found, "fov0", "later", pipeline=Pipeline().blur(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "later" in spatialdata.read_zarr(path)
