"""Images of zarr arrays that are read without zarr: axes, changes, threads, other processes."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest

from chunk_kinds import COMPRESSORS, some_values
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.store.zarr_chunks import direct
from stored_arrays import an_image, stored

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")

# Images of zarr arrays


@pytest.mark.parametrize("dims", ["cyx", "yxc", "xcy", "yzcx"])
def test_images_with_axes_in_any_order(dims, tmp_path):
    shape = tuple({"c": 3, "z": 2, "y": 13, "x": 11}[dim] for dim in dims)
    chunks = tuple({"c": 2, "z": 1, "y": 5, "x": 4}[dim] for dim in dims)
    values = some_values("<u2", shape)
    array = stored(tmp_path / "image", values, chunks, compressors=codecs.ZstdCodec())
    images = [an_image(data, tuple(dims)) for data in (da.from_zarr(array), values)]
    assert_same_bits(*(image.pxprep.preprocess(sigma=1, cap_max=1) for image in images))
    assert Pipeline.sparrow().fit(images[0]) == Pipeline.sparrow().fit(images[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[:, 2:, 1:7],
        lambda array: array[[2, 0]],
        lambda array: array[:, ::-1],
        lambda array: array.rechunk((3, 4, 11)),
        lambda array: array.rechunk((1, 13, 3)),
        lambda array: array.astype("f4") / 3,
    ],
    ids=["sliced", "channels", "reversed", "rows", "columns", "divided"],
)
def test_images_that_were_changed_after_they_were_opened(change, tmp_path):
    values = some_values("f4")
    array = stored(tmp_path / "image", values, compressors=codecs.BloscCodec())
    lazy = change(da.from_zarr(array))
    expected = an_image(lazy.compute()).pxprep.preprocess(sigma=1)
    assert_same_bits(an_image(lazy).pxprep.preprocess(sigma=1), expected)


def test_what_is_written_after_the_graph_was_made_is_read(tmp_path):
    """As Dask does: the numbers are those of the chunks at the time they are computed."""
    array = stored(tmp_path / "image", some_values())
    lazy = an_image(da.from_zarr(array)).pxprep.preprocess()
    values = some_values(seed=5)
    zarr.open_array(tmp_path / "image", mode="r+")[...] = values
    assert_same_bits(lazy, an_image(values).pxprep.preprocess())


# Threads and other processes


@pytest.mark.parametrize("name", ["none", "zstd", "gzip", "blosc"])
def test_several_threads_read_at_once(name, tmp_path):
    values = some_values("f4", (3, 60, 70))
    array = stored(tmp_path / "image", values, (2, 16, 16), compressors=COMPRESSORS[3, name])
    chosen, start = direct(array), threading.Barrier(4)

    def read(seed):
        rng = np.random.default_rng(seed)
        start.wait(5)
        for _ in range(40):
            ends = [np.sort(rng.choice(size + 1, 2, replace=False)) for size in values.shape]
            selection = tuple(slice(int(first), int(last)) for first, last in ends)
            if not np.array_equal(chosen[selection], values[selection]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


@pytest.mark.parametrize("dumps", ["pickle", "cloudpickle"])
def test_graphs_travel_to_other_processes(dumps, tmp_path):
    values = some_values("f4")
    array = stored(tmp_path / "image", values, compressors=codecs.ZstdCodec())
    dump = pytest.importorskip(dumps).dumps
    lazy = an_image(da.from_zarr(array))
    result = lazy.pxprep.quantile_norm().pxprep.blur(1)
    # Alone, each task as it would be sent to a worker.
    for key, task in dict(result.__dask_graph__()).items():
        assert pickle.loads(dump((key, task)))[0] == key
    graph = pickle.loads(dump(dict(result.__dask_graph__())))
    found = da.Array(graph, result.data.name, result.data.chunks, dtype="f4")
    expected = an_image(values).pxprep.quantile_norm().pxprep.blur(1)
    assert found.compute().tobytes() == expected.values.tobytes()


def test_tasks_hold_no_chunks_and_no_open_reader(tmp_path):
    """What is sent to a worker is small however large the chunks are."""
    values = some_values("f4", (3, 256, 256))
    array = stored(tmp_path / "image", values, (3, 128, 128))
    result = an_image(da.from_zarr(array)).pxprep.clip(30)
    tasks = dict(result.__dask_graph__()).values()
    assert max(len(pickle.dumps(task)) for task in tasks) < 20_000
