"""Lazy quantiles: the bits of eager ones whatever a first look suggests, and how often is read."""

from collections import Counter
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from counted_images import (
    LOOKS,
    SHAPE,
    counted,
    image_of,
    looks_everywhere,
    sees_nothing,
    some_values,
    three_steps,
    with_infinities,
)
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import backends, brackets, gathering, quantiles, tasks
from pxprep.engine.cache import Sampling
from pxprep.engine.gathering import Bounds
from pxprep.engine.windows import Window

# Some images here have nothing, or infinities, in a channel: that is said, and not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")

BLOCKS = (3, 15, 12)


# How often is read


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(("dtype", "digits"), [("f8", 4), ("u2", 2)])
def test_a_first_look_costs_no_precision_and_few_reads(dtype, digits, look, monkeypatch):
    bracket, passes = LOOKS[look]
    passes += (passes > 1) * (digits - 2)
    monkeypatch.setattr(quantiles, "bracket", bracket)
    values = some_values(dtype)
    image, reads = counted(values)
    expected = three_steps(image_of(values))
    assert_same_bits(three_steps(image).compute(scheduler="synchronous"), expected)
    # The first look counts small integers: there is nothing left to measure of those.
    measured = 1 if dtype == "u2" else 2
    assert set(reads.values()) == {1 + measured * passes + 1}, reads


@pytest.mark.parametrize("look", ["as it is", "above"])
def test_digits_are_counted_only_where_the_first_look_misled(look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    image, _ = counted(some_values())
    did = Counter()

    def note(key, value, *_):
        kind = str(key[0] if isinstance(key, tuple) else key)
        if kind.startswith("pxprep-counts-") and kind.endswith("-block"):
            did[value is not None] += 1

    with Callback(posttask=note):
        three_steps(image).compute(scheduler="synchronous")
    n_blocks = 2 * 2 * image.data.npartitions
    assert did == {look == "above": n_blocks}


@pytest.mark.parametrize(("most", "times"), [(0, (2, 3)), (60, (2, 3)), (300, (1, 1))])
def test_what_may_not_be_gathered_is_counted(most, times, monkeypatch):
    values = some_values()
    monkeypatch.setattr(brackets, "MOST_GATHERED", most)
    monkeypatch.setattr(gathering, "LEAST_HELD", 0)
    for bracket, passes in zip((quantiles.bracket, looks_everywhere), times, strict=True):
        monkeypatch.setattr(quantiles, "bracket", bracket)
        image, reads = counted(values)
        result = three_steps(image).compute(scheduler="synchronous")
        assert_same_bits(result, three_steps(image_of(values)))
        assert set(reads.values()) == {1 + 2 * passes + 1}, reads


def corners(sampling, index, chunks):
    """A look at the corner of each block."""
    return [Window(0, 8, 0, 8)]


@pytest.mark.parametrize(("factor", "q"), [(1e-6, 30), (1e6, 70)])
def test_a_look_at_pixels_that_are_unlike_the_others(factor, q, monkeypatch):
    monkeypatch.setattr(Sampling, "places", corners)
    monkeypatch.setattr(brackets, "SPREADS", 0.1)
    values = some_values(shape=(3, 128, 96)) + np.float32(1)
    blocks = values.reshape(3, 4, 32, 3, 32)
    blocks[:, :, :8, :, :8] *= np.float32(factor)
    image, reads = counted(values, (3, 32, 32))
    result = image.pxprep.quantile_norm(q).compute(scheduler="synchronous")
    assert_same_bits(result, image_of(values).pxprep.quantile_norm(q))
    assert set(reads.values()) == {1 + 3 + 1}, "the look was to mislead"


# Images of all kinds


def sorted_values(dtype):
    return np.sort(some_values(dtype).ravel()).reshape(SHAPE)


def with_channel(value, dtype):
    values = some_values(dtype)
    values[1] = value
    return values


KINDS = {
    "sorted": sorted_values,
    "NaN channel": partial(with_channel, np.nan),
    "infinities": with_infinities,
    "all NaN": lambda dtype: np.full(SHAPE, np.nan, dtype),
    "all zero": lambda dtype: np.zeros(SHAPE, dtype),
    "one pixel": lambda dtype: some_values(dtype, (3, 1, 1)),
    "largest": lambda dtype: some_values(dtype) * np.dtype(dtype).type(np.finfo(dtype).max / 1e3),
}


@pytest.mark.parametrize(
    ("look", "dtype"), [("as it is", "f4"), ("one channel", "f4"), ("nothing", "f8")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_of_images_of_all_kinds(kind, dtype, look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    with np.errstate(over="ignore"):
        values = KINDS[kind](dtype)
    lazy, eager = counted(values, BLOCKS)[0], image_of(values)
    asked = [(0, "exclude"), (37.5, "include"), (50, "exclude"), (100, "include")]
    several = [lazy.pxprep.quantile(q, zeros=zeros) for q, zeros in asked]
    several = dask.compute(*several, scheduler="synchronous")
    for (q, zeros), found in zip(asked, several, strict=True):
        expected = eager.pxprep.quantile(q, zeros=zeros)
        np.testing.assert_array_equal(found, expected)
        assert found.values.tobytes() == expected.values.tobytes()


def test_zeros_of_both_signs(monkeypatch):
    values = some_values()
    values[:, ::2] = -0.0
    values[:, 1::4] = 0.0
    for bracket in (quantiles.bracket, looks_everywhere, sees_nothing):
        monkeypatch.setattr(quantiles, "bracket", bracket)
        for q in (0, 20, 40, 60, 80):
            lazy, eager = counted(values)[0], image_of(values)
            found, expected = (
                image.pxprep.quantile(q, zeros="include").compute() for image in (lazy, eager)
            )
            np.testing.assert_array_equal(found, expected)
            if bracket is sees_nothing:
                assert found.values.tobytes() == expected.values.tobytes()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    q=st.sampled_from([0, 100]) | st.floats(1.5, 100),
    low=st.floats(-5, 100) | st.just(-np.inf),
    width=st.floats(0, 100) | st.just(np.inf),
    most=st.sampled_from([1 << 20, 2000, 100]),
)
def test_any_bounds_give_the_same_quantiles(seed, q, low, width, most):
    values = np.round(some_values(shape=(2, 12, 10), seed=seed))
    bounds = Bounds(np.full(2, low), np.full(2, low + width if width < np.inf else np.inf))
    lazy, _ = counted(values, (2, 5, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "bracket", lambda *_, **__: bounds)
        patch.setattr(brackets, "MOST_GATHERED", most)
        found = lazy.pxprep.quantile(q).compute(scheduler="synchronous")
    assert_same_bits(found, image_of(values).pxprep.quantile(q))


# Edges


def edge_keys(image):
    return [key for key in dict(image.__dask_graph__()) if "edges" in str(key[0])]


@pytest.mark.parametrize("look", ["as it is", "above"])
@pytest.mark.parametrize("dims", ["cyx", "yxc"])
def test_passes_share_edges_that_are_small(dims, look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    values = some_values(shape=(3, 40, 36))
    n_edges, n_reads = [], []
    for limit in (tasks.EDGE_BYTES, 0):
        monkeypatch.setattr(tasks, "EDGE_BYTES", limit)
        image, reads = counted(values, (3, 10, 12))
        result = image.transpose(*dims).pxprep.preprocess(sigma=0.5)
        n_edges.append(len(edge_keys(result)))
        expected = image_of(values).transpose(*dims).pxprep.preprocess(sigma=0.5)
        assert_same_bits(result.compute(scheduler="synchronous"), expected)
        n_reads.append(sum(reads.values()))
    assert n_edges[0] == image.data.npartitions, "one for each block, whatever pass asks"
    assert n_edges[1] > n_edges[0]
    assert n_reads[0] < n_reads[1]


def stored_by_dask(image, out):
    da.store(image.data, out, lock=False)


def stored_by_us(image, out):
    backends.store([image.data], [out])


@pytest.mark.parametrize(
    ("blocks", "store", "n_runs"),
    [
        ((12, 12), stored_by_us, 1),
        ((3, 31), stored_by_us, 1),
        ((31, 3), stored_by_us, 2),
        ((12, 12), stored_by_dask, 2),
    ],
)
def test_few_edges_are_held_at_once(blocks, store, n_runs, monkeypatch):
    """Those along two of the shorter lines of blocks, and of a few blocks that are under way."""
    monkeypatch.setattr(tasks, "EDGE_BYTES", 0)
    held = []

    def look(key, value, graph, state, *_):
        made = [value for key, value in list(state["cache"].items()) if "edges" in str(key[0])]
        held.append(sum(value is not None for value in made))

    values = some_values(shape=(2, 8 * blocks[0], 8 * blocks[1]))
    image = counted(values, (2 // n_runs, 8, 8))[0].pxprep.preprocess(sigma=0.5)
    out = np.empty(values.shape, np.float32)
    with dask.config.set(scheduler="threads", num_workers=2), Callback(posttask=look):
        store(image, out)
    assert 2 * min(blocks) < max(held) <= 2 * min(blocks) + 16
    expected = image_of(values).pxprep.preprocess(sigma=0.5)
    assert_same_bits(image.copy(data=out), expected)


def test_a_part_of_an_image_needs_the_blocks_around_it(monkeypatch):
    monkeypatch.setattr(tasks, "EDGE_BYTES", 0)
    values = some_values(shape=(2, 64, 64))
    image, reads = counted(values, (2, 8, 8))
    blurred = image.pxprep.blur(0.5)
    corner = blurred[:, 56:, 56:].compute(scheduler="synchronous")
    assert sum(reads.values()) == 4
    assert_same_bits(corner, image_of(values).pxprep.blur(0.5)[:, 56:, 56:])


# Cohorts and schedulers


def cohort():
    kinds = (some_values(), some_values(seed=1) * 50, sorted_values("f4"), with_infinities("f4"))
    return [values[:, : 24 - 3 * number] for number, values in enumerate(kinds)]


@pytest.mark.parametrize(
    ("pool", "look"), [("mean", "above"), ("pixels", "as it is"), (None, "as it is")]
)
def test_cohorts_have_the_bits_of_eager_ones(pool, look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    pipeline = Pipeline.sparrow(sigma=0.5)
    lazy = pipeline.fit_transform([counted(values)[0] for values in cohort()], pool=pool)
    eager = pipeline.fit_transform([image_of(values) for values in cohort()], pool=pool)
    for one, other in zip(dask.compute(*lazy, scheduler="synchronous"), eager, strict=True):
        assert_same_bits(one, other)
    fitted = pipeline.fit([counted(values)[0] for values in cohort()], pool=pool)
    assert fitted == pipeline.fit([image_of(values) for values in cohort()], pool=pool)


@pytest.mark.parametrize(("dtype", "size"), [("f2", 4), ("f4", 4), ("i8", 4), ("f8", 8)])
def test_limits_are_those_of_the_floats_that_are_gathered(dtype, size, monkeypatch):
    sizes, limits_of, bracket = [], quantiles.limits_of, quantiles.bracket

    def look_at_limits(q, n_values, itemsize):
        sizes.append(itemsize)
        return limits_of(q, n_values, itemsize)

    def look_at_bracket(samples, q, zeros, n_bytes):
        sizes.append(n_bytes / image.size)
        return bracket(samples, q, zeros, n_bytes)

    monkeypatch.setattr(quantiles, "limits_of", look_at_limits)
    monkeypatch.setattr(quantiles, "bracket", look_at_bracket)
    image = np.random.default_rng(0).integers(0, 99, (2, 1, 30, 40)).astype(dtype)
    lazy = da.from_array(image, chunks=(2, 1, 15, 40))
    found = quantiles.exact_quantiles([lazy], np.array([60.0, 99]), [[0]])
    expected = oracle.quantile(image, np.array([60.0, 99]))
    np.testing.assert_array_equal(found.value.compute()[0], expected)
    assert len(sizes) == 2
    assert set(sizes) == {size}
