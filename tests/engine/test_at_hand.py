"""Lazy images of one block are measured without Dask: the bits, the reads, and who looks on."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback

from oracle import assert_same_bits
from pxprep import Mask, Pipeline
from pxprep.engine import backends, computing, neighbours
from pxprep.images.image_set import ImageSet
from pxprep.store import zarr_chunks

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")

SHAPE, CHUNKS = (3, 60, 70), (1, 60, 70)
PLENTY = 1 << 30
SPARROW = Pipeline.sparrow(sigma=1)


def some_values(seed, dtype="u2", shape=SHAPE):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.5, 20, shape)).astype(dtype)


def stored(path, values, chunks=CHUNKS):
    """Values as an image that is read from disk."""
    zarr.create_array(path, data=values, chunks=chunks)
    array = da.from_zarr(zarr.open_array(path, mode="r"))
    return xr.DataArray(array, dims=("c", "y", "x"), coords={"c": list("abc")})


@pytest.fixture
def fovs(tmp_path):
    return {f"fov{n}": stored(tmp_path / f"fov{n}.zarr", some_values(n)) for n in range(4)}


def in_memory_by_chunks(images):
    """The images as zarr itself reads them."""
    return {
        name: image.copy(data=dask.compute(image.data, scheduler="sync")[0])
        for name, image in images.items()
    }


PIPELINES = {
    "sparrow": SPARROW,
    "pixie": Pipeline.pixie(),
    "two quantiles": Pipeline().arcsinh(5).percentile_clip(1, 99).minmax(),
    "two blurs": Pipeline().blur(1).quantile_norm(99).blur(2).post_norm(),
}


@pytest.mark.parametrize(
    ("pool", "memory"),
    [
        *(("mean", memory) for memory in (0, 3 * 60 * 70 * 4, PLENTY)),
        ("pixels", 3 * 60 * 70 * 4),
        (None, PLENTY),
    ],
)
@pytest.mark.parametrize("name", PIPELINES)
def test_numbers_are_those_of_images_in_memory(fovs, name, pool, memory, no_dask):
    pipeline = PIPELINES[name]
    fitted = pipeline.fit(fovs, pool=pool, memory=memory)
    assert fitted == pipeline.fit(in_memory_by_chunks(fovs), pool=pool)


def test_large_enough_for_a_sample(tmp_path, no_dask):
    """Of more values than are gathered as they are, tiles tell where a quantile lies."""
    values = some_values(5, "f4", (3, 300, 310))
    image = stored(tmp_path / "fov.zarr", values, (1, 300, 310))
    assert SPARROW.fit(image) == SPARROW.fit(image.copy(data=values))


def test_chosen_channels(fovs, no_dask):
    chosen = {name: image.sel(c=["c", "a"]) for name, image in fovs.items()}
    assert SPARROW.fit(chosen) == SPARROW.fit(in_memory_by_chunks(chosen))


def test_masks_in_memory(fovs, no_dask):
    mask = xr.DataArray(np.random.default_rng(0).random(SHAPE[1:]) < 0.5, dims=("y", "x"))
    where = dict.fromkeys(fovs, Mask(mask))
    fitted = SPARROW.fit(fovs, where=where)
    assert fitted == SPARROW.fit(in_memory_by_chunks(fovs), where=where)


class Elsewhere:
    """An array that may be anywhere."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, 3

    def __getitem__(self, selection):
        return self.values[selection]


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: image.chunk({"y": 30}),
        lambda image: image.copy(data=da.from_array(Elsewhere(image.values), chunks=CHUNKS)),
        lambda image: image.pxprep.quantile_norm(),
    ],
    ids=["several blocks", "what we do not know", "operations that wait"],
)
def test_other_images_are_left_to_dask(fovs, alter):
    images = {name: alter(image) for name, image in fovs.items()}
    assert ImageSet.of(images).chained_if_readable() is None
    assert SPARROW.fit(images) == SPARROW.fit(in_memory_by_chunks(images))


@pytest.mark.parametrize("options", [{"scheduler": "processes"}, {"pool": object()}])
def test_the_user_s_own_scheduler_or_threads_are_used(fovs, options):
    with dask.config.set(**options):
        assert ImageSet.of(fovs).chained_if_readable() is None
    assert ImageSet.of(fovs).chained_if_readable() is not None


@pytest.mark.parametrize(("memory", "times"), [(0, 3), (PLENTY, 1)])
def test_images_are_read_once_for_each_pass_or_once(fovs, memory, times, monkeypatch):
    read, decode = Counter(), zarr_chunks.ZarrChunks._decode

    def counting(self, encoded, chunk, place):
        read[self._folder.name, place] += 1
        decode(self, encoded, chunk, place)

    monkeypatch.setattr(zarr_chunks.ZarrChunks, "_decode", counting)
    SPARROW.fit(fovs, memory=memory)
    assert set(read.values()) == {times}
    assert len(read) == 4 * 3


@pytest.mark.parametrize(("memory", "times"), [(0, 2), (PLENTY, 1)])
def test_what_was_blurred_to_be_measured_is_written(fovs, memory, times, monkeypatch):
    rows, blur = Counter(), neighbours.blur

    def counting(pixels, window, *args, **kwargs):
        rows["all"] += window.shape[0] * (window.shape[1] == SHAPE[2])
        return blur(pixels, window, *args, **kwargs)

    monkeypatch.setattr(neighbours, "blur", counting)
    cohort = ImageSet.of(fovs)
    with cohort.sharing_reads(memory, SPARROW.depth(cohort.labels), results=True):
        made = SPARROW.fit(fovs).transform(fovs)
        targets = {name: np.full(SHAPE, -1, "f4") for name in made}
        backends.store([image.data for image in made.values()], list(targets.values()))
    assert rows["all"] == times * 4 * SHAPE[1]
    expected = SPARROW.fit_transform(in_memory_by_chunks(fovs))
    for name, target in targets.items():
        assert_same_bits(expected[name].copy(data=target), expected[name])


@pytest.mark.parametrize("memory", [0, PLENTY])
def test_results_are_written_without_dask(fovs, memory, no_dask):
    """Inside the context in which layers are written."""
    cohort = ImageSet.of(fovs)
    with cohort.sharing_reads(memory, SPARROW.depth(cohort.labels), results=True):
        made = SPARROW.fit(fovs).transform(fovs)
        targets = {name: np.full(SHAPE, -1, "f4") for name in made}
        with computing.threads_at_rest():
            backends.store([image.data for image in made.values()], list(targets.values()))
    expected = SPARROW.fit_transform(in_memory_by_chunks(fovs))
    for name, target in targets.items():
        assert_same_bits(expected[name].copy(data=target), expected[name])


def test_results_that_wait_for_dask_are_written_by_it(fovs):
    """Numbers that are not known yet, a mask, several blocks."""
    fitted = SPARROW.fit(fovs)
    mask = xr.DataArray(np.ones(SHAPE[1:], bool), dims=("y", "x"))
    whole = fitted.transform(fovs)
    made = {
        "numbers": SPARROW.fit_transform(fovs["fov0"], pool=None),
        "mask": whole["fov1"].pxprep.keep_where(mask),
        "blocks": fitted.transform(fovs["fov2"].chunk(y=30)),
    }
    expected = {name: image.compute(scheduler="sync") for name, image in made.items()}
    for name, image in [*made.items(), ("all", None)]:
        images = [*made.values()] if image is None else [image]
        targets = [np.full(SHAPE, -1, "f4") for _ in images]
        backends.store([one.data for one in images], targets)
        wanted = [*expected.values()] if image is None else [expected[name]]
        for target, one in zip(targets, wanted, strict=True):
            assert_same_bits(one.copy(data=target), one)


def test_threads_of_the_user_write(fovs):
    made, asked = SPARROW.fit(fovs).transform(fovs)["fov0"], []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            asked.append(args)
            return super().submit(*args, **kwargs)

    expected, target = made.compute(scheduler="sync"), np.full(SHAPE, -1, "f4")
    with Pool(1) as pool, dask.config.set(pool=pool):
        backends.store([made.data], [target])
    assert asked
    assert_same_bits(expected.copy(data=target), expected)


def test_who_listens_to_dask_hears_of_each_image_in_each_pass(fovs):
    """So do its bars, and tqdm's."""
    seen, totals = [], []

    class Listener(Callback):
        def _start_state(self, graph, state):
            totals.append(sum(len(state[kind]) for kind in ("ready", "waiting", "running")))

        def _posttask(self, key, result, graph, state, worker):
            seen.append(len(state["finished"]))

        def _finish(self, graph, state, failed):
            assert not failed

    with Listener():
        SPARROW.fit(fovs)
    assert totals == [4, 4, 4]
    assert seen == [1, 2, 3, 4] * 3


def test_an_array_that_is_gone_is_an_error(fovs, tmp_path):
    (tmp_path / "fov2.zarr").rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(Exception, match=r"fov2.zarr' is gone") as caught:
        SPARROW.fit(fovs)
    assert type(caught.value).__name__ == "StoreError"
