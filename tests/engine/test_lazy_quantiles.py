"""Lazy quantiles: the bits of eager ones whatever a first look suggests, and how often is read."""

import itertools
import threading
import time
import tracemalloc
from collections import Counter
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

import pxprep
from counted_images import CHUNKS, SHAPE, counted, image_of, looks_everywhere, some_values
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import backends, brackets, lazy, quantiles
from pxprep.engine.cache import Sampling
from pxprep.engine.gathering import Bounds
from pxprep.engine.windows import Pixels, Window

# Some images here have nothing, or infinities, in a channel: that is said, and not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")

BLOCKS = (3, 15, 12)


def three_passes(image, q=99):
    """A first look, two statistics, and the result."""
    return image.pxprep.quantile_norm(q).pxprep.sum_norm().pxprep.post_norm(q)


def looks_above(samples, q, zeros, n_bytes):
    return Bounds(np.full(len(q), 1e29), np.full(len(q), 1e30))


def looks_above_in_one_channel(samples, q, zeros, n_bytes):
    low = np.where(np.arange(len(q)) == len(q) - 1, 1e29, -np.inf)
    return Bounds(low, np.full(len(q), np.inf))


def sees_nothing(samples, q, zeros, n_bytes):
    return None


# What a first look suggests, and how many passes each of two statistics of float32 takes.
LOOKS = {
    "as it is": (quantiles.bracket, 1),
    "above": (looks_above, 3),
    "one channel": (looks_above_in_one_channel, 3),
    "nothing": (sees_nothing, 2),
}


# How often is read


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(("dtype", "digits"), [("f4", 2), ("f8", 4), ("u2", 2)])
def test_a_first_look_costs_no_precision_and_few_reads(dtype, digits, look, monkeypatch):
    bracket, passes = LOOKS[look]
    passes += (passes > 1) * (digits - 2)
    monkeypatch.setattr(quantiles, "bracket", bracket)
    values = some_values(dtype)
    image, reads = counted(values)
    expected = three_passes(image_of(values))
    assert_same_bits(three_passes(image).compute(scheduler="synchronous"), expected)
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
        three_passes(image).compute(scheduler="synchronous")
    n_blocks = 2 * 2 * image.data.npartitions
    assert did == {look == "above": n_blocks}


@pytest.mark.parametrize(("most", "times"), [(0, (2, 3)), (60, (2, 3)), (300, (1, 1))])
def test_what_may_not_be_gathered_is_counted(most, times, monkeypatch):
    values = some_values()
    monkeypatch.setattr(brackets, "MOST_GATHERED", most)
    for bracket, passes in zip((quantiles.bracket, looks_everywhere), times, strict=True):
        monkeypatch.setattr(quantiles, "bracket", bracket)
        image, reads = counted(values)
        result = three_passes(image).compute(scheduler="synchronous")
        assert_same_bits(result, three_passes(image_of(values)))
        assert set(reads.values()) == {1 + 2 * passes + 1}, reads


def corners(sampling, index, chunks):
    """A look at the corner of each block."""
    return [(slice(8), slice(8))]


@pytest.mark.parametrize("q", [30, 70])
@pytest.mark.parametrize("factor", [1e-6, 1e6])
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


def with_infinities(dtype):
    values = some_values(dtype)
    values[0, ::3], values[1, 1::3], values[2, :, ::4] = np.inf, -np.inf, np.nan
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


@pytest.mark.parametrize(("look", "dtype"), [("as it is", "f8"), ("above", "f4")])
@pytest.mark.parametrize("kind", KINDS)
def test_preprocessed_images_of_all_kinds(kind, dtype, look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    with np.errstate(over="ignore"):
        values = KINDS[kind](dtype)
    lazy, eager = (
        image.pxprep.preprocess(sigma=0.5, cap_max=1)
        for image in (counted(values, BLOCKS)[0], image_of(values))
    )
    assert_same_bits(lazy, eager)


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
    for limit in (lazy.EDGE_BYTES, 0):
        monkeypatch.setattr(lazy, "EDGE_BYTES", limit)
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


@pytest.mark.parametrize("blocks", [(12, 12), (3, 31), (31, 3)])
@pytest.mark.parametrize("store", [stored_by_dask, stored_by_us])
@pytest.mark.parametrize("n_runs", [1, 2])
def test_few_edges_are_held_at_once(blocks, store, n_runs, monkeypatch):
    """Those along two of the shorter lines of blocks, and of a few blocks that are under way."""
    oldest = dask.__version__.startswith("2024.1.")
    if oldest and store is stored_by_dask and n_runs == 1:
        pytest.skip("the oldest Dask puts tasks in another order")
    monkeypatch.setattr(lazy, "EDGE_BYTES", 0)
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
    monkeypatch.setattr(lazy, "EDGE_BYTES", 0)
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


@pytest.mark.parametrize("look", ["as it is", "above"])
@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_cohorts_have_the_bits_of_eager_ones(pool, look, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look][0])
    pipeline = Pipeline.sparrow(sigma=0.5)
    lazy = pipeline.fit_transform([counted(values)[0] for values in cohort()], pool=pool)
    eager = pipeline.fit_transform([image_of(values) for values in cohort()], pool=pool)
    for one, other in zip(dask.compute(*lazy, scheduler="synchronous"), eager, strict=True):
        assert_same_bits(one, other)
    fitted = pipeline.fit([counted(values)[0] for values in cohort()], pool=pool)
    assert fitted == pipeline.fit([image_of(values) for values in cohort()], pool=pool)


@pytest.mark.parametrize("look", ["as it is", "above"])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "cluster"])
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


# Sources


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
    found = three_passes(image_of(array, tuple(dims))).compute(scheduler="synchronous")
    assert_same_bits(found, three_passes(expected))


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


# Pixels in pieces


def laid_out(array, layout):
    """An equal array in another layout."""
    if layout == "C":
        return array.copy()
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "every other":
        return np.repeat(array, 2, axis=3)[..., ::2]
    if layout == "view":
        return np.pad(array, 1)[1:-1, 1:-1, 1:-1, 1:-1]
    if layout == "channels last":
        return np.ascontiguousarray(array.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    return array.astype(array.dtype.newbyteorder())


LAYOUTS = ["C", "F", "every other", "view", "channels last", "swapped"]


@settings(max_examples=50, deadline=None)
@given(st.data(), st.sampled_from(["f4", "f8", "u2", "u1", "i4"]), st.sampled_from(["f4", "f8"]))
def test_pixels_in_pieces_of_any_layout(data, kind, wanted):
    sizes = st.integers(1, 8)
    height, width, n_channels, planes = (data.draw(sizes) for _ in range(4))
    n_channels, planes = min(n_channels, 3), min(planes, 2)
    block = some_values(kind, (n_channels, planes, height, width), seed=height)
    origin = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))

    def cuts(size):
        inner = data.draw(st.sets(st.integers(1, size - 1), max_size=3)) if size > 1 else set()
        return list(itertools.pairwise([0, *sorted(inner), size]))

    pieces = [
        (
            first,
            Window(top + origin[0], bottom + origin[0], left + origin[1], right + origin[1]),
            laid_out(block[first:last, :, top:bottom, left:right], data.draw(layouts)),
        )
        for layouts in [st.sampled_from([name for name in LAYOUTS if name != "swapped"])]
        for top, bottom in cuts(height)
        for left, right in cuts(width)
        for first, last in cuts(n_channels)
    ]
    pixels = Pixels(data.draw(st.permutations(pieces)), n_channels)
    (top, bottom), (left, right) = (
        sorted(data.draw(st.sets(st.integers(0, size), min_size=2, max_size=2)))
        for size in (height, width)
    )
    window = Window(top + origin[0], bottom + origin[0], left + origin[1], right + origin[1])
    expected = block[:, :, top:bottom, left:right]
    assert_parts_are(pixels, window, expected, wanted)
    found = pixels.read(window)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def assert_parts_are(pixels, window, expected, wanted):
    for channels in (None, range(len(expected)), range(1, len(expected)), range(1)):
        own = range(len(expected)) if channels is None else channels
        seen, last = np.zeros(expected.shape, int), np.full(expected.shape[1:], -1)
        for part in pixels.parts(window, np.dtype(wanted), channels):
            assert part.values.ndim == 1
            assert part.values.flags.c_contiguous
            assert not part.values.flags.writeable
            assert part.values.dtype.isnative
            is_float = expected.dtype.kind == "f"
            assert part.values.dtype == (wanted if is_float else expected.dtype.newbyteorder("="))
            n_channels, planes, height, width = part.shape
            assert part.channels == range(part.first, part.first + n_channels)
            place = slice(part.row, part.row + height), slice(part.column, part.column + width)
            for channel, plane, row in itertools.product(
                part.channels, range(planes), range(height)
            ):
                start = part.at(channel, plane) + row * part.strides[2]
                values = part.values[start : start + width]
                assert values.size == width
                mine = expected[channel, plane][place][row]
                np.testing.assert_array_equal(values, mine.astype(values.dtype))
            for channel in part.channels:
                seen[(channel, slice(None), *place)] += 1
                assert (last[(slice(None), *place)] < channel).all(), "in the order of channels"
                last[(slice(None), *place)] = channel
        chosen = np.isin(np.arange(len(expected)), own)
        assert (seen[chosen] == 1).all(), "each pixel comes once"
        assert (seen[~chosen] == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_in_one_piece(layout):
    for kind in ("f4", "f8", "u2"):
        block = some_values(kind, (2, 2, 9, 7))
        pixels = Pixels.of(laid_out(block, layout), Window(5, 14, 3, 10))
        window, expected = Window(7, 13, 4, 10), block[:, :, 2:8, 1:7]
        np.testing.assert_array_equal(pixels.read(window), expected)
        assert_parts_are(pixels, window, expected, "f4")


# NumPy images at once

STEPS = {
    "q": lambda pipeline: pipeline.quantile_norm(98),
    "b": lambda pipeline: pipeline.blur(0.7),
    "m": lambda pipeline: pipeline.sum_mask(10),
    "r": lambda pipeline: pipeline.sum_mask(10, reference="input"),
    "s": lambda pipeline: pipeline.sum_norm(),
    "p": lambda pipeline: pipeline.post_norm(99),
    "c": lambda pipeline: pipeline.clip(0.8),
}
ORDERS = [
    *("q", "b", "qb", "bq", "qbmspc", "qmbsp", "qbp", "qbpb", "qbr", "rbq", "bqr"),
    *("mbsp", "bmsp", "cbq", "qbrsp", "bqbqc", "sb", "rb", "bqsc"),
]


def pipeline_of(order):
    pipeline = Pipeline()
    for letter in order:
        pipeline = STEPS[letter](pipeline)
    return pipeline


@pytest.mark.parametrize("order", ORDERS)
def test_at_once_has_the_bits_of_fit_and_transform(order):
    pipeline = pipeline_of(order)
    for dtype in ("f8", "u2") if len(order) % 2 else ("f4", "u2"):
        values = some_values(dtype, (3, 70, 45))
        if dtype != "u2":
            values[0, 5:9, 3], values[1, 7, 8:11] = np.nan, np.inf
        before = values.copy()
        values.flags.writeable = False
        image = image_of(values)
        at_once = pipeline.fit_transform(image)
        assert values.tobytes() == before.tobytes()
        assert not np.shares_memory(at_once.values, values)
        assert at_once.values.flags.writeable
        assert_same_bits(at_once, pipeline.fit(image).transform(image))


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
@pytest.mark.parametrize("order", ["qbmspc", "bq", "qbr"])
def test_lists_at_once_have_the_bits_of_fit_and_transform(order, pool, monkeypatch):
    monkeypatch.setattr(pxprep.engine.backends, "LEAST_ROWS", 8)
    one = some_values(shape=(3, 50, 30))
    dims = ("y", "c", "x")
    images = [
        image_of(one),
        image_of(one),
        image_of(some_values("f8", (40, 3, 20), seed=1), dims),
        image_of(with_infinities("f4")[:, ::-1, ::2]),
    ]
    before = [image.values.copy() for image in images]
    pipeline = pipeline_of(order)
    at_once = pipeline.fit_transform(images, pool=pool)
    fitted = pipeline.fit(images, pool=pool)
    expected = fitted.transform(images)
    for made, other, image, values in zip(at_once, expected, images, before, strict=True):
        assert made.dims == image.dims
        assert image.values.tobytes() == values.tobytes()
        assert_same_bits(made, other)
    for first, second in itertools.combinations(at_once, 2):
        assert not np.shares_memory(first.values, second.values)


def peak_at_once(pipeline, image):
    tracemalloc.start()
    try:
        pipeline.fit_transform(image)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("dtype", "order"), [("u2", "qbmspc"), ("f4", "bq"), ("f4", "qmsp")])
def test_at_once_needs_little_more_than_its_result(dtype, order, monkeypatch):
    monkeypatch.setattr(pxprep.engine.programs, "STRIP_VALUES", 1 << 18)
    pipeline = pipeline_of(order)
    images = [image_of(some_values(dtype, (3, rows, 512))) for rows in (600, 1200, 3600)]
    _, small, large = (peak_at_once(pipeline, image) for image in images)  # the first compiles
    assert large - small < 1.4 * 4 * (images[2].size - images[1].size)
