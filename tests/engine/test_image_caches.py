"""What passes keep of a source: blocks, edges and samples, within a budget of memory."""

import gc
import pickle
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import dask
import numpy as np
import pytest

from counted_images import calling, counted_array, image_of, some_values
from pxprep import Pipeline
from pxprep.engine import (
    sources,
)
from pxprep.engine.cache import (
    NO_CACHE,
    Budget,
    ImageCache,
    Sampling,
    _left_in_groups,
    default_memory,
    edges_of,
)
from pxprep.engine.windows import Window

F4 = np.dtype("float32")


# What is kept


def a_block(seed, size=100):
    return [np.full((2, 1, size, size), seed, F4)]


def test_a_cache_keeps_blocks_until_the_budget_is_spent():
    reads = Counter()

    def read(index):
        reads[index] += 1
        return a_block(index)

    cache = ImageCache(Budget(int(2.5 * a_block(0)[0].nbytes)), Budget(0))
    for index in (0, 1, 2, 3) * 3:
        (chunk,) = cache.blocks((0, 0, index), partial(read, index))
        assert (chunk == index).all()
    assert reads == {0: 1, 1: 1, 2: 3, 3: 3}


def test_a_cache_holds_no_more_than_its_budget_of_arrays_that_are_views():
    whole = np.zeros((2, 1, 1000, 100), F4)
    alive = weakref.ref(whole)
    cache = ImageCache(Budget(whole.nbytes // 5), Budget(0))
    cache.blocks((0, 0, 0), lambda held=whole: [held[:, :, ::10]])
    del whole
    gc.collect()
    assert alive() is None, "ten times the budget is held by a view"


@pytest.mark.parametrize("depth", [1, 7, 30, 200])
@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_kept_edges_are_those_of_the_block(budget, depth):
    chunks = [some_values(shape=(n, 2, 40, 50), seed=n) for n in (1, 2)]
    block = np.concatenate(chunks)
    cache = ImageCache(Budget(0), Budget(budget), depth=depth)
    cache.blocks((0, 0, 0), lambda: chunks)
    for _ in range(2):
        edges = cache.edges(
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


def held(cache):
    """Whether a cache keeps a block that it is given, any part of it or its edges."""
    (whole,) = a_block(1)
    alive = weakref.ref(whole)
    cache.blocks((0, 0, 0), lambda chunk=whole: [chunk])
    cache.edges((0, 0, 0), 3, lambda chunk=whole: edges_of([chunk], 3))
    reads = []
    cache.blocks((0, 0, 0), lambda: reads.append("block") or a_block(2))
    cache.edges((0, 0, 0), 3, lambda: reads.append("edges") or edges_of(a_block(2), 3))
    del whole
    gc.collect()
    found = {"samples": cache.samples(), "array": alive() is not None}
    return {"block", "edges"} - set(reads) | {name for name, is_held in found.items() if is_held}


def test_a_cache_keeps_blocks_edges_and_samples_until_it_is_closed():
    cache = ImageCache(Budget(1 << 20), Budget(1 << 20), Sampling(1 << 20, 1), depth=3)
    assert held(cache) == {"block", "edges", "samples", "array"}
    cache.close()
    assert held(cache) == set()


def test_a_cache_on_another_machine_keeps_nothing():
    cache = ImageCache(Budget(1 << 20), Budget(1 << 20), Sampling(1 << 20, 1), depth=3)
    assert held(pickle.loads(pickle.dumps(cache))) == set()


def test_the_default_memory_is_a_number_of_bytes():
    assert isinstance(default_memory(), int)
    assert default_memory() >= 0


@pytest.mark.parametrize(
    ("line", "place", "names"),
    [
        ("0::/jobs/job7", "jobs/job7", ("memory.max", "memory.current")),
        ("0::/jobs/job7/step0", "jobs/job7", ("memory.max", "memory.current")),
        ("0::/", "", ("memory.max", "memory.current")),
        (
            "5:memory:/jobs/job7",
            "memory/jobs/job7",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    ],
)
def test_the_limit_of_a_job_or_a_container_is_seen(line, place, names, tmp_path):
    own, group = tmp_path / "cgroup", tmp_path / "groups" / place
    own.write_text(f"9:cpu:/elsewhere\n{line}\n")
    group.mkdir(parents=True)
    for name, n_bytes in zip(names, (8000, 5000), strict=True):
        (group / name).write_text(f"{n_bytes}\n")
    (group / "memory.stat").write_text("anon 3000\ninactive_file 1500\n")
    assert list(_left_in_groups(own, tmp_path / "groups")) == [4500]
    (group / names[0]).write_text("max\n")
    assert list(_left_in_groups(own, tmp_path / "groups")) == []


def test_two_threads_that_read_the_same_pay_once():
    budget = Budget(200)
    cache = ImageCache(budget, Budget(0))
    block = [np.zeros(60, np.uint8).reshape(1, 1, 6, 10)]

    def read():
        if len(reads) == 0:
            reads.append(cache.blocks((0, 0, 0), lambda: block))  # as another thread meanwhile
        return block

    reads = []
    cache.blocks((0, 0, 0), read)
    assert budget.take(140)
    assert not budget.take(1)


@pytest.mark.parametrize("memory", ["64 kB", 0, None, "2 GiB", 1])
def test_numbers_do_not_depend_on_memory(memory):
    array, _ = counted_array(some_values(shape=(3, 90, 200)), (2, 30, 50))
    image = image_of(array)
    fitted = Pipeline.sparrow(sigma=1).fit(image, memory=memory)
    assert fitted.numbers.identical(Pipeline.sparrow(sigma=1).fit(image.compute()).numbers)


@pytest.mark.parametrize("memory", [0, 40_000, 10**6])
def test_fitting_keeps_blocks_within_its_memory_and_nothing_after(memory, monkeypatch):
    kept, close = [], ImageCache.close

    def look_and_close(cache):
        blocks = [arrays for key, arrays in cache._read.items() if key[0] == "blocks"]
        kept.append((sum(array.nbytes for arrays in blocks for array in arrays), cache))
        close(cache)

    monkeypatch.setattr(ImageCache, "close", look_and_close)
    array, _ = counted_array(some_values(shape=(3, 90, 200)), (2, 30, 50))
    Pipeline.sparrow(sigma=1).fit({0: image_of(array), 1: image_of(array + 1)}, memory=memory)
    assert len(kept) == 2
    total, largest_block = sum(n_bytes for n_bytes, _ in kept), 3 * 30 * 50 * 4
    assert min(2 * array.nbytes, memory) - largest_block <= total <= memory
    assert not any(cache._read or cache._sampled for _, cache in kept)
    assert all(source.cache is NO_CACHE for source in sources._SOURCES.values())


# Threads


def test_threads_may_fit_the_same_image_at_once():
    array, _ = counted_array(some_values(shape=(3, 90, 80)), (3, 15, 20))
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
