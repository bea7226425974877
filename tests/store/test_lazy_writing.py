"""Lazy arrays written to chunks: by threads, schedulers and other processes; several scales."""

import pickle
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Barrier, get_ident

import dask
import dask.array as da
import dask.base
import numpy as np
import pytest
import xarray as xr

from chunk_kinds import CHUNKS, COMPRESSORS, SHAPE, some_values
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import backends, computing
from pxprep.store.zarr_chunks import direct
from written_chunks import assert_same_files, chunk_files, drafts, files, made, pair, zarr_writes

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")

WHOLE = tuple(slice(0, size) for size in SHAPE)


# Threads and other processes


@pytest.mark.parametrize("name", ["none", "zstd", "blosc"])
def test_several_threads_write_the_same_and_neighbouring_chunks(name, tmp_path):
    shape, chunks = (2, 60, 70), (2, 16, 16)
    array = made(tmp_path / "own", "<u2", chunks, shape, compressors=COMPRESSORS[3, name])
    own, start, done = direct(array), threading.Barrier(5), threading.Event()
    own[:, :, :] = np.zeros(shape, "u2")

    def write(seed):
        rng = np.random.default_rng(seed)
        start.wait(5)
        for number in range(30):
            top, left = 16 * rng.integers(0, 3), 16 * rng.integers(0, 4)
            part = slice(0, 2), slice(top, min(60, top + 32)), slice(left, min(70, left + 32))
            own[part] = np.full([each.stop - each.start for each in part], seed * 100 + number)
        return True

    def read():
        start.wait(5)
        while not done.is_set():
            for top in range(0, 60, 16):
                block = own[:2, top : top + 16, 16:32]
                if not (block == block[0, 0, 0]).all():
                    return False
        return True

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        try:
            assert all(pool.map(write, range(1, 5)))
        finally:
            done.set()
        assert reading.result()
    assert drafts(tmp_path) == []
    last = zarr.open_array(tmp_path / "own")[...]
    assert set(np.unique(last)) <= {0, *(100 * seed + n for seed in range(1, 5) for n in range(30))}


@pytest.mark.parametrize("dumps", ["pickle", "cloudpickle"])
@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_arrays_to_be_written_travel(zarr_format, name, dumps, tmp_path):
    dump = pytest.importorskip(dumps).dumps
    options = {"zarr_format": zarr_format, "compressors": COMPRESSORS[zarr_format, name]}
    theirs, own = pair(tmp_path, **options)
    theirs[...] = some_values()
    copy = pickle.loads(dump(own))
    copy[WHOLE] = some_values()
    assert_same_files(tmp_path)
    assert len(dump(own)) < 4000


# Lazy arrays


def counted(shape, chunks, values):
    """An array, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    source = da.from_array(values, chunks=chunks)
    return source.map_blocks(
        load, dtype=values.dtype, meta=np.empty((0,) * len(shape), "u2")
    ), reads


SIZES = {"c": 3, "z": 4, "y": 13, "x": 11}


@pytest.mark.parametrize(
    ("dims", "planes"),
    [*product(["cyx", "yxc", "xcy"], [4]), *product(["czyx", "yzcx"], [4, 2, 1])],
)
@pytest.mark.parametrize("channels", [3, 2, 1])
def test_images_with_axes_in_any_order(dims, channels, planes, tmp_path, monkeypatch):
    sizes = {"c": channels, "z": planes, "y": 5, "x": 4}
    shape, chunks = (tuple(kind[dim] for dim in dims) for kind in (SIZES, sizes))
    values = some_values("<u2", shape)
    array, reads = counted(shape, chunks, values)
    image = xr.DataArray(array, dims=tuple(dims)).pxprep.clip(30)
    target = direct(made(tmp_path / "own", "<f4", chunks, shape, compressors=codecs.ZstdCodec()))
    with zarr_writes(monkeypatch) as by_zarr:
        backends.store([image.data], [target])
    expected = xr.DataArray(values, dims=tuple(dims)).pxprep.clip(30)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], expected.values)
    assert by_zarr == []
    assert set(reads.values()) == {1}
    assert len(reads) == np.prod(array.numblocks)


def pyramid(array, fitted):
    """Three scales of one image, each computed from the first."""
    finest = fitted.transform(xr.DataArray(array, dims=("c", "y", "x")))
    coarser = [finest.pxprep.coarsen({"y": factor, "x": factor}) for factor in (2, 4)]
    return [scale.chunk(dict(zip("cyx", CHUNKS, strict=True))) for scale in (finest, *coarser)]


@pytest.mark.parametrize(
    "scheduler", ["threads", "synchronous", pytest.param("processes", marks=pytest.mark.once)]
)
def test_scales_are_written_together_and_the_finest_is_made_once(scheduler, tmp_path, monkeypatch):
    shape = (3, 26, 22)
    values = some_values("<u2", shape, seed=len(scheduler))
    fitted = Pipeline().quantile_norm(99).blur(1).fit(xr.DataArray(values, dims=("c", "y", "x")))
    array, reads = counted(shape, CHUNKS, values)
    scales = pyramid(array, fitted)
    targets = [
        direct(made(tmp_path / str(number), "<f4", shape=scale.shape))
        for number, scale in enumerate(scales)
    ]
    with dask.config.set(scheduler=scheduler), zarr_writes(monkeypatch) as by_zarr:
        backends.store([scale.data for scale in scales], targets)
    for number, scale in enumerate(pyramid(da.from_array(values), fitted)):
        found = zarr.open_array(tmp_path / str(number))[...]
        np.testing.assert_array_equal(found, scale, err_msg=f"scale {number}")
    assert by_zarr == []
    if scheduler != "processes":  # others count for themselves
        # Once for a block itself, and once for the edges that its neighbours blur with.
        assert set(reads.values()) == {2}
        assert len(reads) == np.prod(array.numblocks)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_one_array_is_written_by_any_scheduler(scheduler, tmp_path):
    values = some_values("<u2", (3, 26, 22))
    image = xr.DataArray(values, dims=("c", "y", "x"))
    fitted = Pipeline().quantile_norm(99).blur(1).fit(image)
    lazy = fitted.transform(image.chunk({"c": 2, "y": 5, "x": 4}))
    target = direct(made(tmp_path / "own", "<f4", (2, 5, 4), values.shape))
    with dask.config.set(scheduler=scheduler):
        backends.store([lazy.data], [target])
    found = image.copy(data=zarr.open_array(tmp_path / "own")[...])
    assert_same_bits(found, fitted.transform(image))


def test_blocks_of_the_user_that_are_too_small_are_errors(tmp_path):
    """Of several arrays: Dask hands on what a function returns, whatever its shape."""
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    small = lazy.map_blocks(lambda block: block[:, :-1], dtype="u2", meta=lazy._meta)
    targets = [direct(made(tmp_path / name)) for name in ("first", "second")]
    with pytest.raises(ValueError):  # noqa: PT011
        backends.store([lazy, small], targets)
    assert drafts(tmp_path) == []


def test_nothing_is_written_of_arrays_without_pixels(tmp_path):
    """That Dask leaves out empty blocks is what the metadata of layers are written with."""
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    empty = backends.without_pixels(lazy)
    assert (empty.shape, empty.chunks, empty.dtype) == (lazy.shape, lazy.chunks, lazy.dtype)
    before = files(tmp_path / "own") if made(tmp_path / "own") else {}
    da.store([empty], [zarr.open_array(tmp_path / "own")], lock=False)
    assert files(tmp_path / "own") == before
    assert chunk_files(tmp_path / "own") == {}


def test_threads_of_this_process_are_as_many_as_the_user_says():
    meeting = Barrier(3, timeout=20)

    def meet(block):
        meeting.wait()
        return block

    values = np.arange(3)
    lazy = da.from_array(values, chunks=1).map_blocks(meet, dtype=values.dtype, meta=values[:0])
    with dask.config.set(num_workers=3):
        (made,) = computing.compute(lazy, local=True)
    np.testing.assert_array_equal(made, values)


def test_computing_in_this_thread_is_for_this_thread_alone():
    """Who computes at the same moment in another thread has its own scheduler."""
    threads = []
    lazy = da.from_array(some_values(), chunks=CHUNKS).map_blocks(
        lambda block: (threads.append(get_ident()), block)[1], dtype=some_values().dtype
    )
    with ThreadPoolExecutor(1) as other, computing.in_this_thread():
        here = lazy.compute()
        assert set(threads) == {get_ident()}
        threads.clear()
        there = other.submit(lazy.compute).result()
        assert get_ident() not in threads
    np.testing.assert_array_equal(here, some_values())
    np.testing.assert_array_equal(there, some_values())


WITHOUT_CLUSTER = """
import sys
import numpy as np, dask, dask.array as da, xarray as xr, zarr
from pxprep import Pipeline; from pxprep.engine import backends, computing
from pxprep.store.zarr_chunks import direct
values = np.random.default_rng(0).random((2, 20, 20), "f4")
image = xr.DataArray(da.from_array(values, chunks=10), dims=("c", "y", "x"))
lazy = Pipeline.sparrow().fit(image).transform(image)
array = zarr.create_array(sys.argv[1], shape=image.shape, chunks=(2, 10, 10), dtype="f4")
backends.store([lazy.data], [direct(array)])
backends.store([lazy.data, image.data], [direct(array), direct(array)])
with computing.threads_at_rest():
    computing.compute(lazy.data)
assert "distributed" not in sys.modules
lazy.compute()
assert "distributed" in sys.modules, "Dask does not import it itself"
print("as fast as can be")
"""


def test_nothing_that_is_computed_imports_distributed(tmp_path):
    pytest.importorskip("distributed")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLUSTER, tmp_path / "array"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "as fast as can be\n", done.stderr


def test_the_scheduler_that_the_user_chose_computes(no_compute):
    lazy = da.ones((2, 10, 10), chunks=5)
    for scheduler in ("synchronous", "threads", "processes"):
        with dask.config.set(scheduler=scheduler):
            assert computing.scheduler_of([lazy]) is dask.base.get_scheduler(scheduler=scheduler)
    with no_compute(), pytest.raises(pytest.fail.Exception):
        computing.compute(lazy)
    with no_compute(), pytest.raises(pytest.fail.Exception):
        backends.store([lazy, lazy], [np.zeros(lazy.shape)] * 2)
