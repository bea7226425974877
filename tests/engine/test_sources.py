"""Lazy images from anywhere: what several blocks need is made once, and the numbers are right."""

import itertools
import threading
import time
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest

from counted_images import CHUNKS, LOOKS, counted_array, image_of, some_values, three_steps
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import quantiles

F4 = np.dtype("float32")


def delayed(array):
    rows = array.to_delayed()[0]
    return da.block([[da.from_delayed(block, (3, 6, 10), F4) for block in row] for row in rows])


def from_zarr(array, path):
    pytest.importorskip("zarr")
    array.to_zarr(str(path))
    return da.from_zarr(str(path))


# What several blocks need, and what each block needs for itself.
SHARED = {
    "divided by its mean": lambda array: array / array.mean(),
    "finer": lambda array: array.rechunk((1, 5, 7)),
    "twice": lambda array: da.concatenate([array, array + 1], axis=1),
    "overlapping": lambda array: da.map_overlap(
        lambda block: block * 2, array, depth={1: 2, 2: 2}, boundary="none", dtype=F4
    ),
}

OWN = {
    "plain": lambda array: array,
    "computed": lambda array: array * 2 + array.min(axis=0),
    "coarser": lambda array: array.rechunk((3, 12, 20)),
    "channels": lambda array: array[[2, 0]],
    "concatenated": lambda array: da.concatenate([array[:, :12], array[:, 12:] + 1], axis=1),
    "stacked": lambda array: da.stack([array[c] for c in range(3)]),
    "delayed": delayed,
}


@pytest.mark.parametrize("kind", SHARED)
def test_what_several_blocks_need_is_made_once(kind):
    array, reads = counted_array()
    image = image_of(SHARED[kind](array))
    expected = three_steps(image.compute(scheduler="synchronous"))
    reads.clear()
    assert_same_bits(three_steps(image).compute(scheduler="synchronous"), expected)
    assert set(reads.values()) == {1}, reads


@pytest.mark.parametrize("kind", OWN)
def test_what_one_block_needs_is_made_again_for_every_pass(kind):
    array, reads = counted_array()
    image = image_of(OWN[kind](array))
    expected = three_steps(image.compute(scheduler="synchronous"))
    assert set(reads.values()) == {1}, "Dask itself reads this source more than once"
    reads.clear()
    assert_same_bits(three_steps(image).compute(scheduler="synchronous"), expected)
    assert set(reads.values()) == {4}, reads


@pytest.mark.parametrize("kind", [*SHARED, *OWN, "persisted", "zarr", "step", "numpy"])
def test_sources_of_any_kind_give_the_right_numbers(kind, tmp_path):
    array, _ = counted_array()
    other = {
        "persisted": lambda array: array.persist(scheduler="synchronous"),
        "zarr": partial(from_zarr, path=tmp_path / "image.zarr"),
        "step": lambda array: image_of(array).pxprep.blur(1).isel(c=[2, 0]).data,
        "numpy": lambda array: da.from_array(array.compute(), chunks=(2, 7, 20)),
    }
    image = image_of((SHARED | OWN | other)[kind](array))
    expected = image.compute(scheduler="synchronous")
    with dask.config.set(scheduler="threads"):
        assert_same_bits(
            image.pxprep.preprocess(sigma=1).compute(), expected.pxprep.preprocess(sigma=1)
        )
        fitted = Pipeline.sparrow(sigma=1).fit(image, memory="10 kB")
    assert fitted == Pipeline.sparrow(sigma=1).fit(expected)


class Unlike:
    """Something that is indexed like an array, and knows how many threads did so at once."""

    def __init__(self, values, delay=0):
        self.values, self.delay = values, delay
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __getitem__(self, key):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.delay)
        with self.lock:
            self.now -= 1
        return self.values[key]

    def __reduce__(self):
        return Unlike, (self.values,)


def changing(array, key, **kwargs):
    return np.asarray(array[key]) * 3 + 1


def bound(array):
    from dask.graph_manipulation import bind

    return bind(array, da.ones(3, chunks=1))


ARRAYS = {
    "array-like": lambda values, chunks: da.from_array(Unlike(values), chunks),
    "numpy": da.from_array,
    "lock": lambda values, chunks: da.from_array(Unlike(values), chunks, lock=True),
    "not an array": lambda values, chunks: da.from_array(Unlike(values), chunks, asarray=False),
    "inline": lambda values, chunks: da.from_array(Unlike(values), chunks, inline_array=True),
    "getitem": lambda values, chunks: da.from_array(Unlike(values), chunks, getitem=changing),
    "bound": lambda values, chunks: bound(da.from_array(Unlike(values), chunks)),
}

CHANGES = {
    "as it is": lambda array: array,
    "sliced": lambda array: array[:, 3:-2, 1:],
    "channels": lambda array: array[[2, 0]],
    "rechunked": lambda array: array.rechunk((2, 7, 9)),
    "optimized": lambda array: dask.optimize(array * 2 + 1)[0],
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *itertools.product(ARRAYS, ["as it is", "rechunked"]),
        *itertools.product(["array-like"], CHANGES),
    ],
)
def test_arrays_from_anywhere_have_the_right_numbers(kind, change):
    array = CHANGES[change](ARRAYS[kind](some_values(), (2, 7, 9)))
    expected = image_of(array.compute(scheduler="synchronous"))
    assert_same_bits(
        image_of(array).pxprep.quantile_norm().pxprep.blur(0.5).compute(scheduler="synchronous"),
        expected.pxprep.quantile_norm().pxprep.blur(0.5),
    )


@pytest.mark.parametrize("kind", ["array-like", "inline", "getitem"])
@pytest.mark.parametrize("dims", ["ycx", "xyc"])
def test_arrays_with_axes_in_any_order(dims, kind):
    sizes = [{"c": (3, 2), "y": (24, 7), "x": (20, 9)}[dim] for dim in dims]
    shape, chunks = zip(*sizes, strict=True)
    array = ARRAYS[kind](some_values(shape=shape), chunks)
    expected = image_of(array.compute(scheduler="synchronous"), tuple(dims))
    found = three_steps(image_of(array, tuple(dims))).compute(scheduler="synchronous")
    assert_same_bits(found, three_steps(expected))


@pytest.mark.parametrize("lock", [True, threading.Lock()], ids=["its own", "mine"])
def test_sources_that_must_be_locked_are_read_by_one_thread(lock):
    source = Unlike(some_values(), delay=0.002)
    image = image_of(da.from_array(source, chunks=CHUNKS, lock=lock))
    image.pxprep.clip(30).compute(scheduler="threads", num_workers=4)
    assert source.most == 1


@pytest.mark.parametrize("options", [{}, {"inline_array": True}, {"chunks": 5}], ids=str)
@pytest.mark.parametrize("dims", ["cyx", "yxc"])
def test_arrays_of_zarr(dims, options, tmp_path):
    pytest.importorskip("zarr")
    values = some_values(shape=tuple({"c": 3, "y": 24, "x": 20}[dim] for dim in dims))
    da.from_array(values, chunks=12).to_zarr(str(tmp_path / "image"))
    lazy = image_of(da.from_zarr(str(tmp_path / "image"), **options), tuple(dims))
    for image in (lazy, lazy.isel(y=slice(3, 20))):
        expected = image_of(image.values, tuple(dims)).pxprep.quantile_norm()
        assert_same_bits(image.pxprep.quantile_norm(), expected)


@pytest.mark.parametrize("look", ["as it is", "above"])
@pytest.mark.parametrize("scheduler", ["threads", "cluster"])
def test_schedulers_do_not_change_a_bit(scheduler, look, monkeypatch, request):
    if scheduler == "cluster":
        request.getfixturevalue("client")
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    values = some_values(shape=(3, 60, 70))
    lazy = image_of(da.from_array(Unlike(values), chunks=(2, 16, 20)))
    expected = image_of(values).pxprep.preprocess(sigma=1)
    result = lazy.pxprep.preprocess(sigma=1)
    found = result.compute() if scheduler == "cluster" else result.compute(scheduler=scheduler)
    assert_same_bits(found, expected)


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        client.as_current(),
        dask.config.set(scheduler=client.get),
    ):
        yield client
