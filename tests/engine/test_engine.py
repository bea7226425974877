"""What runs the steps: programs on strips, graphs of few tasks, sources, what is kept, brackets."""

import gc
import pickle
import threading
import tracemalloc
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from unittest.mock import patch
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from dask.core import flatten
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import (
    backends,
    brackets,
    cache,
    exact_quantiles,
    gathering,
    jobs,
    programs,
    sources,
)
from pxprep.engine.cache import Budget, Keeper, Sampling, default_memory, edges_of
from pxprep.engine.jobs import processed
from pxprep.engine.programs import Program, run_into
from pxprep.engine.windows import Pixels, Window
from pxprep.steps.arcsinh import TakeArcsinh
from pxprep.steps.blur import BlurEach
from pxprep.steps.clip import ClipAbove
from pxprep.steps.log1p import TakeLog1p
from pxprep.steps.minmax import Rescale
from pxprep.steps.percentile_clip import ClipBetween
from pxprep.steps.remove_hot_pixels import CoolHotPixels
from pxprep.steps.subtract_background import SubtractOpening
from pxprep.steps.sum_mask import KeepAbove
from pxprep.steps.sum_norm import DivideBySums

F4 = np.dtype("float32")

# Programs


@st.composite
def operations(draw):
    """An operation on three channels, and the numbers that it takes."""
    scales = st.sampled_from([0.25, 1.0, 3.3, 77.0])
    three = st.tuples(scales, scales, scales)
    sigmas = st.tuples(*[st.sampled_from([0, 0.1, 0.4, 1, 2.2])] * 3)
    limits = st.sampled_from([0.0, 0.9, 30.0])
    radii = st.tuples(*[st.sampled_from([0, 1, 3, 8])] * 3)
    ends = three.map(lambda low: np.array([low, np.array(low) + 20]))
    return draw(
        st.one_of(
            st.tuples(st.just(programs.Divide()), three.map(np.array)),
            st.tuples(sigmas.map(BlurEach), st.none()),
            st.tuples(st.just(KeepAbove()), limits.map(np.array)),
            st.tuples(st.just(DivideBySums()), st.none()),
            st.tuples(three.map(ClipAbove), st.none()),
            st.tuples(three.map(TakeArcsinh), st.none()),
            st.tuples(st.just(TakeLog1p()), st.none()),
            st.tuples(three.map(CoolHotPixels), st.none()),
            st.tuples(three.map(programs.SubtractConstant), st.none()),
            st.tuples(radii.map(SubtractOpening), st.none()),
            st.tuples(st.just(ClipBetween()), ends),
            st.tuples(st.just(Rescale()), ends),
        )
    )


def some_block(shape, dtype="float32", seed=0, nan=0.0):
    rng = np.random.default_rng(seed)
    block = rng.gamma(2, 20, shape).astype(dtype)
    block[rng.random(shape) < 0.2] = 0
    if nan and block.dtype.kind == "f":
        block[rng.random(shape) < nan] = np.nan
    return block


def in_pieces(block, rows, columns, runs):
    """`block` cut behind the given rows, columns and channels."""
    rows, columns, runs = (
        list(pairwise([0, *sorted(set(cut)), size]))
        for cut, size in zip((rows, columns, runs), (*block.shape[2:], len(block)), strict=True)
    )
    pieces = [
        (c, Window(top, bottom, left, right), block[c:d, :, top:bottom, left:right].copy())
        for top, bottom in rows
        for left, right in columns
        for c, d in runs
    ]
    return Pixels(pieces, len(block))


@settings(max_examples=80, deadline=None)
@given(st.data(), st.lists(operations(), max_size=5), st.sampled_from(["f4", "f8", "u2"]))
def test_a_program_has_the_same_bits_on_strips_of_any_window_and_pixels_in_pieces(
    data, chosen, kind
):
    height, width = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    block = some_block((3, 2, height, width), kind, nan=0.02)
    steps, numbers = zip(*chosen, strict=True) if chosen else ((), ())
    program = Program(tuple(steps), np.dtype("f8" if kind == "f8" else "f4"), height, width)
    everything, whole = Window(0, height, 0, width), block
    for step, number in chosen:
        alone = replace(program, operations=(step,))
        whole = alone.run(Pixels.of(whole), everything, [number])

    def inside(size):
        return data.draw(st.lists(st.integers(1, size - 1), max_size=4)) if size > 1 else []

    pixels = in_pieces(block, inside(height), inside(width), inside(3))
    top, bottom = sorted(data.draw(st.sets(st.integers(0, height), min_size=2, max_size=2)))
    left, right = sorted(data.draw(st.sets(st.integers(0, width), min_size=2, max_size=2)))
    window = Window(top, bottom, left, right)
    expected = whole[:, :, top:bottom, left:right]
    assert program.run(pixels, window, numbers).tobytes() == expected.tobytes()

    targets = [np.empty((run, 2, *window.shape), whole.dtype) for run in (1, 2)]
    with patch.object(programs, "STRIP_VALUES", 1):
        assert len(list(program.strips(window, 1))) >= window.shape[0] / max(1, 4 * program.depth)
        run_into(program, pixels, window, numbers, targets)
    assert np.concatenate(targets).tobytes() == expected.tobytes()


# Graphs

CHUNKS = [
    *({}, {"y": 1}, {"x": 1}, {"z": 1, "c": 2}, {"c": 1, "y": 4, "x": 5}),
    *({"y": (1, 5, 1, 6), "x": (10, 1)}, {"y": 2, "x": 2, "z": 1}),
]
DIMS = {"czyx": "float32", "yxzc": "uint16", "xczy": "float64", "zyxc": "uint8"}


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_lazy_results_have_the_bits_of_eager_ones(chunks, dims, make_image):
    # The kernel is wider than most of the chunks.
    nan = 0.05 * DIMS[dims].startswith("float")
    image = make_image(DIMS[dims], (3, 2, 13, 11), nan=nan).transpose(*dims)
    lazy = image.chunk(chunks).pxprep.preprocess(sigma={"CD3": 0.3, ...: 1.5}, cap_max=1)
    assert lazy.dims == image.dims
    assert lazy.chunksizes == image.chunk(chunks).chunksizes
    assert_same_bits(lazy, image.pxprep.preprocess(sigma={"CD3": 0.3, ...: 1.5}, cap_max=1))


def calling(function, array):
    """`array` with each block passed through `function`; never taken for another such array."""
    empty = np.empty((0,) * array.ndim, array.dtype)
    return array.map_blocks(function, name=f"calling-{uuid4()}", dtype=array.dtype, meta=empty)


def counted(shape=(3, 24, 20), chunks=(3, 6, 10)):
    """An array, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    return calling(load, da.from_array(some_block(shape), chunks=chunks)), reads


def image_of(array):
    return xr.DataArray(array, dims=("c", "y", "x"), name="fov0")


def step_by_step(image):
    normed = image.pxprep.quantile_norm()
    masked = normed.pxprep.blur().pxprep.sum_mask(reference=normed)
    return masked.pxprep.sum_norm().pxprep.post_norm()


def tasks_of(image, source):
    return len(set(image.__dask_graph__()) - set(source.__dask_graph__()))


@pytest.mark.parametrize("blocks", [2, 5, 12])
def test_a_block_needs_few_tasks(blocks):
    source, _ = counted((3, 64 * blocks, 64 * blocks), (3, 64, 64))
    image = image_of(source)
    # Ten passes over the source (a first look; for each of three statistics one that gathers, and
    # two that count digits if that was in vain), each of which merges four results at a time; the
    # edges that blurs read, and the result.
    per_block = 10 * (1 + 1 / 3) + 1 + 1
    n_tasks = tasks_of(image.pxprep.preprocess(), source)
    assert n_tasks <= per_block * blocks**2 + 120
    assert tasks_of(step_by_step(image), source) <= n_tasks


@pytest.mark.parametrize("process", [step_by_step, lambda image: image.pxprep.preprocess()])
def test_no_task_makes_an_image_between_the_source_and_the_result(process):
    source, _ = counted((3, 256, 320), (3, 64, 80))
    result, large = process(image_of(source)), Counter()

    def look_at(key, value, *_):
        if isinstance(value, np.ndarray) and value.dtype == F4 and value.size >= 64 * 80:
            large[str(key)] += 1

    with Callback(posttask=look_at):
        result.data.persist(scheduler="synchronous")
    wanted = {str(key) for key in flatten(result.__dask_keys__())}
    assert {key for key in large if not key.startswith("('array-")} == wanted


# Sources


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


def three_passes(image):
    """A first look, two statistics, and the result: four passes, without edges."""
    return image.pxprep.quantile_norm().pxprep.sum_norm().pxprep.post_norm()


@pytest.mark.parametrize("kind", SHARED)
def test_what_several_blocks_need_is_made_once(kind):
    array, reads = counted()
    image = image_of(SHARED[kind](array))
    expected = three_passes(image.compute(scheduler="synchronous"))
    reads.clear()
    assert_same_bits(three_passes(image).compute(scheduler="synchronous"), expected)
    assert set(reads.values()) == {1}, reads


@pytest.mark.parametrize("kind", OWN)
def test_what_one_block_needs_is_made_again_for_every_pass(kind):
    array, reads = counted()
    image = image_of(OWN[kind](array))
    expected = three_passes(image.compute(scheduler="synchronous"))
    assert set(reads.values()) == {1}, "Dask itself reads this source more than once"
    reads.clear()
    assert_same_bits(three_passes(image).compute(scheduler="synchronous"), expected)
    assert set(reads.values()) == {4}, reads


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("kind", [*SHARED, *OWN, "persisted", "zarr", "step", "numpy"])
def test_sources_of_any_kind_give_the_right_numbers(kind, scheduler, tmp_path):
    array, _ = counted()
    other = {
        "persisted": lambda array: array.persist(scheduler="synchronous"),
        "zarr": partial(from_zarr, path=tmp_path / "image.zarr"),
        "step": lambda array: image_of(array).pxprep.blur(1).isel(c=[2, 0]).data,
        "numpy": lambda array: da.from_array(array.compute(), chunks=(2, 7, 20)),
    }
    image = image_of((SHARED | OWN | other)[kind](array))
    expected = image.compute(scheduler="synchronous")
    with dask.config.set(scheduler=scheduler):
        assert_same_bits(
            image.pxprep.preprocess(sigma=1).compute(), expected.pxprep.preprocess(sigma=1)
        )
        fitted = Pipeline.sparrow(sigma=1).fit(image, memory="10 kB")
    assert fitted == Pipeline.sparrow(sigma=1).fit(expected)


# What is kept


def a_block(seed, size=100):
    return [np.full((2, 1, size, size), seed, F4)]


def test_a_keeper_keeps_blocks_until_the_budget_is_spent():
    reads = Counter()

    def read(index):
        reads[index] += 1
        return a_block(index)

    keeper = Keeper(Budget(int(2.5 * a_block(0)[0].nbytes)), Budget(0))
    for index in (0, 1, 2, 3) * 3:
        (chunk,) = keeper.blocks((0, 0, index), partial(read, index))
        assert (chunk == index).all()
    assert reads == {0: 1, 1: 1, 2: 3, 3: 3}


def test_a_keeper_holds_no_more_than_its_budget_of_arrays_that_are_views():
    whole = np.zeros((2, 1, 1000, 100), F4)
    alive = weakref.ref(whole)
    keeper = Keeper(Budget(whole.nbytes // 5), Budget(0))
    keeper.blocks((0, 0, 0), lambda held=whole: [held[:, :, ::10]])
    del whole
    gc.collect()
    assert alive() is None, "ten times the budget is held by a view"


@pytest.mark.parametrize("depth", [1, 7, 30, 200])
@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_kept_edges_are_those_of_the_block(budget, depth):
    chunks = [some_block((n, 2, 40, 50), seed=n) for n in (1, 2)]
    block = np.concatenate(chunks)
    keeper = Keeper(Budget(0), Budget(budget), depth=depth)
    keeper.blocks((0, 0, 0), lambda: chunks)
    for _ in range(2):
        edges = keeper.edges(
            (0, 0, 0), depth, lambda: pytest.fail("read") if budget else edges_of(chunks, depth)
        )
        seen = np.zeros((40, 50), int)
        for edge, place in zip(edges, Window(0, 40, 0, 50).edges(depth), strict=True):
            np.testing.assert_array_equal(edge, block[:, :, *place.slices])
            seen[place.slices] += 1
            assert edge.base is None
        # Each pixel near an edge is there once, and no other.
        near = np.ones_like(seen)
        near[depth:-depth, depth:-depth] = 0
        np.testing.assert_array_equal(seen, near)


def held(keeper):
    """Whether a keeper keeps a block that it is given, any part of it or its edges."""
    (whole,) = a_block(1)
    alive = weakref.ref(whole)
    keeper.blocks((0, 0, 0), lambda chunk=whole: [chunk])
    keeper.edges((0, 0, 0), 3, lambda chunk=whole: edges_of([chunk], 3))
    reads = []
    keeper.blocks((0, 0, 0), lambda: reads.append("block") or a_block(2))
    keeper.edges((0, 0, 0), 3, lambda: reads.append("edges") or edges_of(a_block(2), 3))
    del whole
    gc.collect()
    found = {"samples": keeper.samples(), "array": alive() is not None}
    return {"block", "edges"} - set(reads) | {name for name, is_held in found.items() if is_held}


def test_a_keeper_keeps_blocks_edges_and_samples_until_it_is_closed():
    keeper = Keeper(Budget(1 << 20), Budget(1 << 20), Sampling(1 << 20, 1), depth=3)
    assert held(keeper) == {"block", "edges", "samples", "array"}
    keeper.close()
    assert held(keeper) == set()


def test_a_keeper_on_another_machine_keeps_nothing():
    keeper = Keeper(Budget(1 << 20), Budget(1 << 20), Sampling(1 << 20, 1), depth=3)
    assert held(pickle.loads(pickle.dumps(keeper))) == set()


def test_the_default_memory_is_a_number_of_bytes():
    assert isinstance(default_memory(), int)
    assert default_memory() >= 0


@pytest.mark.parametrize("memory", ["64 kB", 0, None, "2 GiB", 1])
def test_numbers_do_not_depend_on_memory(memory):
    array, _ = counted((3, 90, 200), (2, 30, 50))
    image = image_of(array)
    fitted = Pipeline.sparrow(sigma=1).fit(image, memory=memory)
    assert fitted.numbers.identical(Pipeline.sparrow(sigma=1).fit(image.compute()).numbers)


@pytest.mark.parametrize("memory", [0, 40_000, 10**6])
def test_fitting_keeps_blocks_within_its_memory_and_nothing_after(memory, monkeypatch):
    kept, close = [], Keeper.close

    def look_and_close(keeper):
        blocks = [arrays for key, arrays in keeper._kept.items() if key[0] == "blocks"]
        kept.append((sum(array.nbytes for arrays in blocks for array in arrays), keeper))
        close(keeper)

    monkeypatch.setattr(Keeper, "close", look_and_close)
    array, _ = counted((3, 90, 200), (2, 30, 50))
    Pipeline.sparrow(sigma=1).fit({0: image_of(array), 1: image_of(array + 1)}, memory=memory)
    assert len(kept) == 2
    total, largest_block = sum(n_bytes for n_bytes, _ in kept), 3 * 30 * 50 * 4
    assert min(2 * array.nbytes, memory) - largest_block <= total <= memory
    assert not any(keeper._kept or keeper._sampled for _, keeper in kept)
    assert all(source.keeper is None for source in sources._SOURCES.values())


# Brackets


def computed(arrays):
    return list(dask.compute(*arrays, scheduler="synchronous"))


def quantiles_of(values, q, *, zeros=False, chunks=(-1, 1, 64, 512), evaluate=computed):
    """Quantiles by a first call, which samples, and by a second; and passes of each."""
    reads, found = [], []
    image = da.from_array(values[:, np.newaxis], chunks=chunks)
    image = calling(lambda block: reads.append(1) or block, image)
    percent = np.broadcast_to(np.asarray(q, float), len(values))
    with backends.keeping([image], 0):
        for _ in range(2):
            reads.clear()
            one = exact_quantiles([image], percent, [[0]], zeros=zeros, evaluate=evaluate)
            found.append((one, len(reads) / image.npartitions))
    return found


def assert_exact(found, values, q, zeros=False):
    expected = oracle.quantile(values, q, "include" if zeros else "exclude")
    np.testing.assert_array_equal(found.value[0], expected)
    valid = np.isfinite(values) & ((values != 0) | zeros)
    masks = valid, valid & (values < 0), np.isinf(values)
    for numbers, mask in zip(found[1:], masks, strict=True):
        np.testing.assert_array_equal(numbers[0], mask.sum(axis=(1, 2)))


def sampled_places(height, width, rows=64, columns=512):
    """Which pixels are in the samples of the blocks of an image."""
    chosen = np.zeros((height, width), bool)
    numbers = np.zeros((1, 1, rows, columns), np.int64)
    for i, j in np.ndindex(height // rows, width // columns):
        block = chosen[i * rows :, j * columns :][:rows, :columns]
        for place in Sampling(1 << 20, 1).places((0, i, j), [numbers]):
            block[place] = True
    return chosen


def flat_values(dtype):
    values = np.random.default_rng(0).gamma(2, 20, (2, 256, 1024)).astype(dtype)
    values[:, ::7] = 0
    return values


@pytest.mark.parametrize("q", [0, 1, 50, 99, 99.9, 100, [3, 97]])
@pytest.mark.parametrize(("dtype", "digits"), [("float32", 2), ("float64", 4)])
def test_a_good_sample_saves_passes(dtype, digits, q):
    values = flat_values(dtype)
    (counted_found, first), (found, passes) = quantiles_of(values, q)
    assert_exact(counted_found, values, q)
    assert_exact(found, values, q)
    assert (first, passes) == (digits, 1)


@pytest.mark.parametrize("q", [20, 50, 80])
@pytest.mark.parametrize("factor", [0.01, 100])
@pytest.mark.parametrize(("dtype", "digits"), [("float32", 2), ("float64", 4)])
def test_a_misleading_sample_costs_a_pass_and_no_precision(dtype, digits, factor, q):
    values = flat_values(dtype)
    chosen = sampled_places(256, 1024)
    assert 0.05 < chosen.mean() < 0.6
    values[:, chosen] /= 1000
    values[:, ~chosen] = values[:, ~chosen] * factor + (values[:, ~chosen] > 0)
    (_, first), (found, passes) = quantiles_of(values, q)
    assert_exact(found, values, q)
    assert (first, passes) == (digits, 1 + digits)


def test_tiles_that_differ_widen_the_bracket(monkeypatch):
    """Pixels are like their neighbours: of another region, the same quantile is far away."""
    rng = np.random.default_rng(1)
    brightness = np.kron(rng.lognormal(0, 1, (2, 32, 8)), np.ones((1, 32, 64)))
    values = (rng.gamma(2, 20, brightness.shape) * brightness).astype(F4)
    _, (found, passes) = quantiles_of(values, [90, 99])
    assert_exact(found, values, [90, 99])
    assert passes == 1
    # What it takes: by the number of its values alone, the sample promises too much.
    for name, value in {
        "TILE_SPREADS": 0,
        "LEAST_SHARE": 0,
        "MOST_TILES_SHARE": 0,
        "SPREADS": 5,
    }.items():
        monkeypatch.setattr(brackets, name, value)
    _, (found, passes) = quantiles_of(values, [90, 99])
    assert_exact(found, values, [90, 99])
    assert passes == 3


def test_the_sample_is_spread_over_the_image():
    block = np.zeros((3, 1, 1024, 1024), "u2")
    tile_bytes = 3 * 48 * 64 * 2
    few = [len(Sampling(40 * tile_bytes, 400).places((0, i, i), [block])) for i in range(400)]
    assert 20 < sum(few[:200]) + sum(few[200:]) < 60
    assert min(sum(few[:200]), sum(few[200:])) > 5
    # The share of a block that tiles have, and no more.
    assert len(Sampling(1 << 30, 1).places((0, 0, 0), [block])) == 1024 * 1024 // (64 * 48 * 64)
    assert len(Sampling(1 << 30, 1).places((0, 0, 0), [block[..., :9, :9]])) == 1


def test_a_sample_is_what_the_program_makes_of_the_whole_image():
    """Pixels whose surroundings are not in the sample would be blurred with their own mirror."""
    values = np.random.default_rng(2).gamma(2, 20, (1, 1, 200, 300)).astype(F4)
    program = Program((BlurEach((2.0,)),), np.dtype(F4), 200, 300)
    whole = program.run(Pixels.of(values), Window(0, 200, 0, 300), [None])
    (made,) = processed(program, [sources.Sample(values[..., 50:98, 100:164])], [None])
    np.testing.assert_array_equal(made, whole[..., 58:90, 108:156])


@pytest.mark.parametrize("q", [0, 50, 99.9, 100])
@pytest.mark.parametrize("zeros", [False, True])
def test_channels_and_images_with_little_in_them(zeros, q):
    values = np.zeros((6, 64, 80), F4)
    values[1] = np.nan
    values[2, 3, 4] = 7
    values[3, :, :9] = [np.inf, -np.inf, np.nan, 0, -0.0, 1, 2, -1, 1e-40]
    values[4] = -3
    values[5] = np.inf
    for image in (values, values[:, 3:4, 4:5]):
        for found, _ in quantiles_of(image, q, zeros=zeros, chunks=(-1, 1, 16, 40)):
            assert_exact(found, image, q, zeros)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    q=st.sampled_from([0, 100, 50]) | st.floats(0, 100),
    levels=st.sampled_from([0, 1, 3, 50]),
    zeros=st.booleans(),
    spreads=st.sampled_from([0.1, 30.0]),
    core=st.sampled_from([(1, 3), (5, 5), (64, 256)]),
    kind=st.sampled_from(["f4", "f8"]),
)
def test_quantiles_are_exact_whatever_the_sample(seed, q, levels, zeros, spreads, core, kind):
    rng = np.random.default_rng(seed)
    values = (rng.normal(2, 3, (2, 30, 40)) * np.linspace(0, 9, 40)).astype(kind)
    if levels:
        values = np.round(values * levels / 9)
    for missing in (np.nan, np.inf):
        values[rng.random(values.shape) < 0.05] = missing
    with patch.object(cache, "CORE", core), patch.object(brackets, "SPREADS", spreads):
        for found, _ in quantiles_of(values, q, zeros=zeros, chunks=(-1, 1, 10, 10)):
            assert_exact(found, values, q, zeros)


@pytest.mark.parametrize("kind", ["many ties", "misleading sample"])
def test_no_more_is_gathered_than_is_allowed(kind, monkeypatch):
    values, q = flat_values(F4), 50
    if kind == "many ties":
        values = np.round(values / 20)
    else:
        # A bracket without an upper bound, and nearly all of the image above the lower one.
        values[:, sampled_places(256, 1024)] /= 1e6
        q = 99.999
    monkeypatch.setattr(brackets, "MOST_GATHERED", most := values.nbytes // 3)
    held = []

    def merged(parts, limits):
        found = gathering.merged(parts, limits)
        held.append(sum(each.inside.nbytes for each in found or []))
        return found

    monkeypatch.setattr(jobs, "merged", merged)
    for found, _ in quantiles_of(values, q):
        assert_exact(found, values, q)
    assert (kind != "many ties") <= max(held) <= most


# Memory


def generated(size, block, dtype):
    """A lazy image of which nothing is in memory: its blocks are made when they are read."""

    def make(block_info=None):
        place = block_info[None]
        rng = np.random.default_rng(list(place["chunk-location"]))
        return rng.integers(0, 4000, place["chunk-shape"], dtype="u2").astype(dtype)

    chunks, empty = ((3,), *[(block,) * (size // block)] * 2), np.empty((0, 0, 0), dtype)
    return image_of(da.map_blocks(make, chunks=chunks, dtype=dtype, meta=empty))


def peak_of(function):
    gc.collect()
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="synchronous"):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def a_few_numbers(image):
    return image.data.map_blocks(
        lambda block: block[:, :1, :1].copy(),
        chunks=(3, *[(1,) * n for n in image.data.numblocks[1:]]),
    ).compute()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("block", [512])  # of smaller ones edges and sample are a larger share
def test_fitting_and_transforming_need_a_few_blocks(block, dtype):
    pipeline, size = Pipeline.sparrow(), 3072
    fitted = pipeline.fit(generated(block, block, dtype))  # compiles, and imports
    image = generated(size, block, dtype)
    assert peak_of(lambda: pipeline.fit(image, memory=0)) < 0.4 * 4 * image.size
    assert peak_of(lambda: a_few_numbers(fitted.transform(image))) < 0.2 * 4 * image.size


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_memory_does_not_grow_with_the_image(dtype, monkeypatch):
    for name in ("SAMPLE_BYTES", "EDGE_BYTES", "MOST_GATHERED"):
        for module in (cache, sources, backends, brackets):
            monkeypatch.setattr(module, name, 1 << 20, raising=False)
    fitted = Pipeline.sparrow().fit(generated(256, 256, dtype))

    def peaks(size):
        image = generated(size, 256, dtype)
        yield peak_of(lambda: Pipeline.sparrow().fit(image, memory=0))
        yield peak_of(lambda: a_few_numbers(fitted.transform(image)))

    more = 3 * (2560**2 - 1280**2) * np.dtype(dtype).itemsize
    for small, large in zip(peaks(1280), peaks(2560), strict=True):
        assert large - small < more / 4


# Threads


def test_threads_may_fit_the_same_image_at_once():
    array, _ = counted((3, 90, 80), (3, 15, 20))
    image = image_of(array)
    pipeline = Pipeline.sparrow(sigma=1)
    expected = pipeline.fit(image.compute())
    with dask.config.set(pool=None), ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(pipeline.fit, image, memory=m) for m in (None, 0, "20 kB") * 5]
        assert all(fit.result() == expected for fit in fits)
        assert dask.config.get("pool") is None


def test_a_fit_that_ends_does_not_end_that_of_another_thread(make_image):
    long_began, short_ended = threading.Event(), threading.Event()

    def read_short(block):
        long_began.wait(2)
        return block

    def read_long(block):
        long_began.set()
        short_ended.wait(1)
        return block

    image, pipeline = make_image(), Pipeline.sparrow(sigma=1)
    short = image.copy(data=calling(read_short, image.chunk().data))
    long = image.copy(data=calling(read_long, image.chunk({"y": 1}).data))
    with dask.config.set(pool=None), ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(pipeline.fit, each, memory=0) for each in (short, long)]
        fits[0].add_done_callback(lambda _: short_ended.set())
        for fit in fits:
            assert fit.result() == pipeline.fit(image)
        assert dask.config.get("pool") is None
