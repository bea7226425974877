"""Processed blocks that the passes of one write share: the bits, how often pixels are blurred."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from oracle import assert_same_bits
from pxprep import Mask, Pipeline
from pxprep.engine import backends, computing, neighbours
from pxprep.engine import programs as operations
from pxprep.engine.cache import Budget, ImageCache
from pxprep.engine.threads import n_cores
from pxprep.engine.windows import Pixels, ResultSoFar, Window
from pxprep.images.image_set import ImageSet
from pxprep.steps import Blur
from pxprep.steps.blur import BlurEach
from pxprep.steps.clip import ClipAbove

SHAPE, CHUNKS = (4, 70, 90), (2, 32, 40)
PLENTY = 1 << 30


def an_image(seed=0, shape=SHAPE, dtype="u2", chunks=CHUNKS):
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.gamma(0.5, 20, shape)).astype(dtype)
    values[:, 5:9, 7:30] = 0
    image = xr.DataArray(values, dims=("c", "y", "x"), coords={"c": list("abcd")}, name="fov")
    # Computed, and so not in memory.
    return image.chunk(dict(zip(image.dims, chunks, strict=True))) + values.dtype.type(0)


@pytest.fixture
def blurred(monkeypatch):
    """How many pixels of images, not of samples, were blurred, counted with multiplicity."""
    pixels, blur = Counter(), neighbours.blur

    def counting(source, window, *args, **kwargs):
        if (kwargs["height"], kwargs["width"]) == SHAPE[1:]:
            pixels["all"] += window.shape[0] * window.shape[1]
        return blur(source, window, *args, **kwargs)

    monkeypatch.setattr(neighbours, "blur", counting)
    return pixels


def written(image, pipeline, memory, *, results=True, where=None, pool=None):
    """What fitting and writing a lazy image gives, block by block, as the wrapper does it."""
    cohort = ImageSet.of({"fov": image})
    with cohort.sharing_reads(memory, pipeline.depth(cohort.labels), results=results):
        made = pipeline.fit({"fov": image}, pool=pool, where=where).transform(image, fov="fov")
        target = np.full(image.shape, -1, made.dtype)
        backends.store([made.data], [target])
    return target


def step_by_step(image, fitted):
    """Each step on its own, on all of the image."""
    for name, step in fitted.pipeline.steps:
        image = step.apply(image, fitted.measured[name])
    return image


def room_of(cache, index, token, shape):
    """Room for a block whose size is all that matters."""
    place = Window(0, shape[2], 0, shape[3])
    return cache.start_keeping(index, token, place, shape, np.dtype("f4"))


PIPELINES = {
    "reference": Pipeline.sparrow(sigma=1),
    "blur first": Pipeline().blur(1).quantile_norm(99).sum_mask(5).sum_norm().post_norm(99.9),
    "twice": Pipeline()
    .blur(1)
    .quantile_norm(99)
    .blur({"a": 2, "b": 0, "c": 1, "d": 1})
    .post_norm(),
    "sums of blurred": Pipeline().quantile_norm().blur(1).sum_mask(5).clip(1).post_norm(50),
    "a blur of one pixel": Pipeline().blur(1).quantile_norm(99).blur(0.1).post_norm(99),
    "hot pixels": Pipeline().remove_hot_pixels(3).quantile_norm(99).arcsinh(0.5).post_norm(99),
    "no blur": Pipeline().quantile_norm(99).sum_norm().post_norm(99),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "u2") for name in PIPELINES), ("reference", "f4"), ("twice", "f8")]
)
def test_bits_do_not_depend_on_what_is_kept(name, dtype):
    image, pipeline = an_image(dtype=dtype), PIPELINES[name]
    expected = pipeline.fit_transform(image.compute())
    block = image.dtype.itemsize * 4 * 32 * 40
    for memory in (0, 5 * block, PLENTY):
        found = written(image, pipeline, memory)
        assert_same_bits(image.copy(data=found), expected)


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [(SHAPE, CHUNKS), (SHAPE, (1, 33, 7)), ((1, 70, 90), (1, 32, 40)), ((3, 1, 1), (3, 1, 1))],
    ids=["blocks", "ragged", "one channel", "one pixel"],
)
@pytest.mark.parametrize("memory", [0, PLENTY])
@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")  # of one pixel all is dropped
def test_what_is_written_is_what_numpy_and_scipy_say(shape, chunks, memory):
    """Whatever is kept: zeros, NaN, and what is dropped."""
    values = np.random.default_rng(2).gamma(0.5, 20, shape).astype("f4")
    values[np.random.default_rng(3).random(shape) < 0.2] = 0
    values[..., 40:44, 50:55] = np.nan
    dims = "c", "y", "x"
    image = xr.DataArray(da.from_array(values, chunks=chunks) + np.float32(0), dims=dims)
    expected = oracle.preprocess(values, sigma=1)
    found = written(image.rename("fov"), PIPELINES["reference"], memory)
    oracle.assert_agrees(image.copy(data=found), expected, exact=False)
    eager = PIPELINES["reference"].fit_transform(image.compute())
    assert_same_bits(eager.copy(data=found), eager)


@pytest.mark.parametrize(
    ("memory", "least", "most"), [(0, 2, 2), (4 * 4 * 4 * 32 * 40, 1.2, 1.9), (PLENTY, 1, 1)]
)
def test_what_is_kept_is_not_blurred_again(memory, least, most, blurred):
    written(an_image(), PIPELINES["reference"], memory)
    assert least <= blurred["all"] / (70 * 90) <= most


@pytest.mark.parametrize("memory", [0, 4 * 4 * 4 * 32 * 40, PLENTY])
def test_what_is_kept_serves_several_at_once(memory):
    """Each of them writes it, and none changes it for the others."""
    image, pipeline = an_image(), PIPELINES["reference"]
    expected = pipeline.fit_transform(image.compute())

    def write(made):
        found = np.full(image.shape, -1, made.dtype)
        backends.store([made.data], [found])
        return found

    with ImageSet.of(image).sharing_reads(memory, pipeline.depth(list("abcd")), results=True):
        made = pipeline.fit(image).transform(image)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(write, [made] * 8):
                assert_same_bits(image.copy(data=found), expected)


@pytest.mark.parametrize("memory", [0, 4 * 4 * 4 * 32 * 40, PLENTY])
def test_what_was_written_can_be_written_again(memory, blurred):
    """The first time writes where the blocks are kept, and then they are not kept any more."""
    image, pipeline = an_image(), PIPELINES["reference"]
    expected = pipeline.fit_transform(image.compute())
    blurred.clear()
    with ImageSet.of(image).sharing_reads(memory, pipeline.depth(list("abcd")), results=True):
        made = pipeline.fit(image).transform(image)
        for _ in range(2):
            found = np.full(image.shape, -1, made.dtype)
            backends.store([made.data], [found])
            assert_same_bits(image.copy(data=found), expected)
    if memory == PLENTY:
        assert blurred["all"] == 2 * 70 * 90


@pytest.mark.parametrize("memory", [3 * 4 * 4 * 32 * 40, PLENTY])
@pytest.mark.parametrize("name", ["reference", "twice"])
def test_threads_that_measure_and_write_the_same_at_once(name, memory, monkeypatch):
    """What is read and what is made of an image is shared by all, as it has one name."""
    monkeypatch.setattr("pxprep.engine.programs.STRIP_VALUES", 4 * 90 * 3)
    image, pipeline = an_image(), PIPELINES[name]
    expected = pipeline.fit_transform(image.compute())
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: written(image, pipeline, memory), range(6)):
            assert_same_bits(image.copy(data=found), expected)


def test_what_is_kept_is_made_and_taken_by_one_who_is_alone():
    upper, lower = Window(0, 3, 0, 4), Window(3, 5, 0, 4)
    kept = ResultSoFar(np.zeros((2, 1, 5, 4), "f4"), Window(0, 5, 0, 4))
    kept.put(upper)
    assert not kept.claim(), "it is not complete"
    assert not kept.use(), "it is being made"
    assert not kept.is_lost
    kept.put(lower)
    assert kept.use()
    assert not kept.claim(), "another uses it"
    kept.leave()
    assert kept.claim()
    assert kept.is_lost
    assert not kept.use()


def test_what_its_maker_left_unfinished_is_made_anew():
    cache, index = ImageCache(Budget(PLENTY), Budget(0), results=True), (0, 0, 0)
    kept = room_of(cache, index, "name", (1, 1, 5, 5))
    kept.put(Window(0, 3, 0, 5))
    kept.leave()
    assert cache.kept(index, "name") is None
    assert room_of(cache, index, "name", (1, 1, 5, 5)) is not kept
    assert not kept.use()


def test_there_is_no_second_room_for_what_is_being_made():
    cache, index = ImageCache(Budget(PLENTY), Budget(0), results=True), (0, 0, 0)
    kept = room_of(cache, index, "name", (1, 1, 5, 5))
    assert cache.kept(index, "name") is None
    assert room_of(cache, index, "name", (1, 1, 5, 5)) is None
    assert room_of(cache, index, "other", (1, 1, 5, 5)) is not None
    kept.put(Window(0, 5, 0, 5))
    assert cache.kept(index, "name") is kept
    kept.leave()
    assert kept.claim()
    again = room_of(cache, index, "name", (1, 1, 5, 5))
    assert not np.shares_memory(again.pixels, kept.pixels)


def test_who_uses_what_is_kept_leaves_it_also_after_an_error(monkeypatch):
    image, pipeline = an_image(), PIPELINES["reference"]
    found, use = [], ResultSoFar.use
    monkeypatch.setattr(ResultSoFar, "use", lambda kept: found.append(kept) or use(kept))
    expected = pipeline.fit_transform(image.compute())
    with ImageSet.of(image).sharing_reads(PLENTY, pipeline.depth(list("abcd")), results=True):
        made = pipeline.fit(image).transform(image)
        with pytest.raises(TypeError):
            backends.store([made.data], [None])
        assert found
        target = np.full(image.shape, -1, made.dtype)
        backends.store([made.data], [target])
        assert {kept._users for kept in found} == {0}
    assert_same_bits(image.copy(data=target), expected)


def test_nothing_is_kept_that_nobody_will_write(blurred, monkeypatch):
    keys, close = set(), ImageCache.close

    def look_and_close(cache):
        keys.update(key[0] for key in cache._read)
        keys.update(["made"] if cache._results else [])
        close(cache)

    monkeypatch.setattr(ImageCache, "close", look_and_close)
    image = an_image()
    PIPELINES["reference"].fit(image, memory=PLENTY)
    assert keys == {"blocks", "edges"}
    written(image, PIPELINES["reference"], PLENTY)
    assert keys == {"blocks", "edges", "made"}


def test_digits_are_counted_of_what_is_kept(blurred):
    """Of a median there is no bracket: its digits take two passes."""
    pipeline = Pipeline().blur(1).quantile_norm(50)
    expected = pipeline.fit_transform(an_image(dtype="f4").compute())
    blurred.clear()
    found = written(an_image(dtype="f4"), pipeline, PLENTY)
    assert blurred["all"] == 70 * 90
    assert_same_bits(an_image().copy(data=found), expected)


def test_sums_of_what_is_blurred_are_measured_of_what_is_kept(blurred):
    written(an_image(), PIPELINES["sums of blurred"], PLENTY)
    assert blurred["all"] == 70 * 90


def test_masks_of_what_is_measured():
    image = an_image()
    inside = xr.DataArray(np.random.default_rng(1).random(SHAPE[1:]) < 0.6, dims=("y", "x"))
    expected = PIPELINES["reference"].fit(image.compute(), where=Mask(inside))
    for lazy in (inside, inside.chunk(y=32, x=40)):
        found = written(image, PIPELINES["reference"], PLENTY, where=Mask(lazy))
        assert_same_bits(image.copy(data=found), expected.transform(image.compute()))


def test_other_numbers_are_other_results():
    """Names of what is kept tell one fit from another in the same context."""
    image = an_image()
    with ImageSet.of(image).sharing_reads(PLENTY, 4, results=True):
        for q in (99, 90):
            pipeline = Pipeline.sparrow(q=q, sigma=1)
            found = pipeline.fit(image).transform(image).compute()
            assert_same_bits(found, pipeline.fit_transform(image.compute()))


def test_what_is_kept_takes_the_place_of_what_was_read():
    read = np.ones((2, 1, 50, 60), "u2")
    budget = Budget(10 * read.nbytes)
    cache = ImageCache(budget, Budget(PLENTY), depth=3, results=True)
    index = 0, 0, 0
    cache.blocks(index, lambda: [read])
    assert not budget.take(9 * read.nbytes + 1)
    kept = room_of(cache, index, "name", (2, 1, 50, 60))
    kept.put(Window(0, 50, 0, 60))
    kept.leave()
    assert cache.kept(index, "name") is kept
    assert cache.kept(index, "other") is cache.kept((0, 0, 1), "name") is None
    assert budget.take(8 * read.nbytes)
    assert not budget.take(1)
    (chunk,) = cache.blocks(index, lambda: [read + 1])
    assert (chunk == 2).all(), "what was read is kept beside"
    top, *_ = cache.edges(index, 3, lambda: pytest.fail("the edges are needed by others"))
    np.testing.assert_array_equal(top, read[:, :, :3])


@pytest.mark.parametrize("results", [True, False])
def test_there_is_no_room_where_nothing_can_be_kept(results):
    cache = ImageCache(Budget(99 if results else PLENTY), Budget(0), results=results)
    assert room_of(cache, (0, 0, 0), "name", (1, 1, 5, 5)) is None
    assert cache.kept((0, 0, 0), "name") is None


def test_nothing_is_kept_after_the_end():
    cache = ImageCache(Budget(PLENTY), Budget(0), results=True)
    room_of(cache, (0, 0, 0), "name", (1, 1, 5, 5))
    cache.close()
    assert cache.kept((0, 0, 0), "name") is None
    assert room_of(cache, (0, 0, 0), "name", (1, 1, 5, 5)) is None


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(
    ("after", "number"),
    [(ClipAbove((1.0, 0.5)), None), (operations.Divide(), np.array([2.0, 0.0]))],
    ids=["clip", "divide"],
)
def test_a_program_goes_on_from_what_is_kept_and_leaves_it_as_it_is(after, number, planes):
    values = np.random.default_rng(0).gamma(0.5, 2, (2, planes, 40, 9)).astype("f4")
    values[0, 0, 3, 3] = np.nan
    blur, part, f4 = BlurEach((1.0, 2.0)), Window(5, 31, 0, 9), np.dtype("f4")

    def run(array, steps, numbers):
        return operations.Program(steps, f4, 40, 9).run(Pixels.of(array), part, numbers)

    blurred = run(values, (blur,), [None])
    expected = run(values, (blur, after), [None, number])
    pixels = np.zeros_like(values)
    kept = ResultSoFar(pixels[:, :, *part.slices], part)
    for array in (values, np.full_like(values, np.nan)):
        found = run(array, (blur, operations.KeepResult(), after), [None, kept, number])
        assert found.tobytes() == expected.tobytes()
        assert kept.at(part).tobytes() == blurred.tobytes()
    assert not pixels[:, :, 31:].any()


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "u2") for name in PIPELINES), ("reference", "f4"), ("twice", "f8")]
)
def test_in_memory_what_was_blurred_stays_in_the_place_of_the_result(name, dtype, blurred):
    image, pipeline = an_image(dtype=dtype).compute(), PIPELINES[name]
    fitted = pipeline.fit(image)
    expected = step_by_step(image, fitted)
    blurred.clear()
    assert_same_bits(pipeline.fit_transform(image), expected)
    once = sum(isinstance(step, Blur) for _, step in pipeline.steps)
    assert blurred["all"] == once * 70 * 90


@pytest.mark.parametrize("axes", ["czyx", "xzyc", "zcyx"])
def test_in_memory_volumes(axes):
    values = np.random.default_rng(0).gamma(0.5, 20, (3, 4, 50, 60)).astype("f4")
    values[1, 2, 7, 8] = np.nan
    image = xr.DataArray(values, dims=("c", "z", "y", "x")).transpose(*axes)
    pipeline = PIPELINES["reference"]
    found = pipeline.fit_transform(image)
    assert_same_bits(found, step_by_step(image, pipeline.fit(image)))


def test_in_memory_with_masks_that_leave_out_many_rows(blurred):
    image = an_image(shape=(4, 900, 7)).compute()
    image[:, 300:310] = 7
    inside = xr.DataArray(np.zeros((900, 7), bool), dims=("y", "x"))
    inside[40:300] = True
    pipeline = PIPELINES["reference"]
    expected = step_by_step(image, pipeline.fit(image, where=Mask(inside)))
    assert_same_bits(pipeline.fit_transform(image, where=Mask(inside)), expected)


def test_in_memory_a_reference_to_what_has_been_written_over():
    """The sums are those of the first blur, whose place the second one has taken."""
    pipeline = (
        Pipeline()
        .blur(1)
        .quantile_norm(99, name="first")
        .blur(2)
        .quantile_norm(99)
        .sum_mask(5, reference="first")
        .post_norm(99)
    )
    image = an_image().compute()
    assert_same_bits(pipeline.fit_transform(image), step_by_step(image, pipeline.fit(image)))


@pytest.mark.parametrize(("memory", "beside"), [(0, 0), (1, 2)])
def test_threads_that_wait_hold_memory_and_are_few_where_there_is_none(memory, beside):
    image = an_image()
    with ImageSet.of(image).sharing_reads(memory, 4):
        assert computing.n_workers() == n_cores() + beside
        with ImageSet.of(image).sharing_reads(PLENTY, 4):
            assert computing.n_workers() == n_cores() + beside, "it is not ours"
    assert computing.n_workers() == n_cores()


def test_results_are_lazy_beyond_the_context():
    """A graph that was made within it computes what is no longer kept."""
    image, pipeline = an_image(), PIPELINES["reference"]
    with ImageSet.of(image).sharing_reads(PLENTY, 4, results=True):
        made = pipeline.fit(image).transform(image)
        dict(made.__dask_graph__())
    assert_same_bits(made.compute(), pipeline.fit_transform(image.compute()))


def test_volumes():
    values = np.random.default_rng(0).gamma(0.5, 20, (3, 4, 50, 60)).astype("f4")
    image = xr.DataArray(da.from_array(values, chunks=(1, 2, 32, 32)), dims=("c", "z", "y", "x"))
    with ImageSet.of(image).sharing_reads(PLENTY, 4, results=True):
        found = PIPELINES["reference"].fit(image).transform(image).compute()
    assert_same_bits(found, PIPELINES["reference"].fit_transform(image.compute()))
