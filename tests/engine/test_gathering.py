"""Values gathered between bounds: merged and trimmed, exact or not at all, and never too many."""

from collections import Counter
from itertools import product
from unittest.mock import patch

import dask
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from counted_images import counted, gathered, image_of, looks_everywhere, some_values
from pxprep import Pipeline
from pxprep.engine import backends, brackets, graphs, lazy, programs, quantiles, selection, sinks
from pxprep.engine import gathering as gathering_module
from pxprep.engine.brackets import limits_of
from pxprep.engine.cache import CORE, MOST_RIM, RIM, Sampling
from pxprep.engine.gathering import Bounds, Gathered, Limits, merged
from pxprep.engine.jobs import processed
from pxprep.engine.kernels.brackets import SPARE, gather_rows
from pxprep.engine.programs import Program
from pxprep.engine.sources import Sample
from pxprep.engine.windows import Pixels, Window
from pxprep.steps.blur import BlurEach


@pytest.fixture(autouse=True, scope="module")
def trimmed_however_few():
    """Few values are not trimmed, and the tests have few."""
    with patch.object(gathering_module, "LEAST_HELD", 0):
        yield


QUANTILES = [0, 1.5, 5, 50, 99, 99.9, 100]


def assert_tells_of(found, values):
    """The tally and the values inside are those of these values, between the bounds there are."""
    again = gathered(values, *found.bounds[0])
    np.testing.assert_array_equal(found.tally, again.tally)
    np.testing.assert_array_equal(np.sort(found.inside), np.sort(again.inside))


# --- merging and trimming -------------------------------------------------------------------------

# Few values, so that most are repeated, and all kinds of them.
TIES = st.sampled_from([0.0, -0.0, 1, 2, 3, -1, 2.0**99, np.nan, np.inf, -np.inf])
ANY = TIES | st.floats(-100, 100, width=32)
BOUND = st.floats(-110, 110, width=32) | st.sampled_from([-np.inf, np.inf, 0.0, 1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), q=st.sampled_from(QUANTILES) | st.floats(0, 100), more=st.integers(0, 50))
def test_merged_parts_are_exact_or_nothing(data, q, more):
    size = st.integers(0, 200)
    values = data.draw(
        nps.arrays(np.float32, size, elements=data.draw(st.sampled_from([TIES, ANY])))
    )
    low, high = sorted([data.draw(BOUND), data.draw(BOUND)])
    cuts = sorted(data.draw(st.lists(st.integers(0, values.size), max_size=20)))
    pieces = data.draw(st.permutations(np.split(values, cuts)))
    limits = limits_of(np.array([q]), values.size + more, 4)
    (enough,) = limits.enough
    total, seen = gathered(pieces[0], low, high), [pieces[0]]
    rest = pieces[1:]
    while rest:
        n = data.draw(st.integers(1, 5))
        seen += rest[:n]
        total = merged([total, *(gathered(one, low, high) for one in rest[:n])], limits)
        assert_tells_of(total, np.concatenate(seen))
        assert total.inside.size <= SPARE * min(enough)
        rest = rest[n:]
    found = selection.select_gathered(total, np.array([q]))
    finite = np.sort(values[np.isfinite(values)]).astype(np.float64)
    if not finite.size:
        assert np.isnan(found.value[0])
        return
    (ranks,), _ = selection._ranks(np.array([finite.size]), np.array([q]))
    first, last = finite[ranks]
    assert (found is not None) == (low <= first and last <= high)
    if found is not None:
        assert found.value[0] == np.quantile(finite, q / 100)


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 10**12),
    fewer=st.floats(0, 1),
    q=st.sampled_from([*QUANTILES, 99.99, 1e-9, 0.1, 33.3]) | st.floats(0, 100),
)
def test_what_is_enough_holds_the_wanted_ranks(n, fewer, q):
    (enough,) = limits_of(np.array([q]), n, 4).enough
    for counted_values in {n, max(1, int(n * fewer)), 1}:
        (ranks,), _ = selection._ranks(np.array([counted_values]), np.array([q]))
        assert counted_values - ranks[0] <= enough[0]
        assert ranks[1] < enough[1]
    # Hardly more than that: what is held is bounded by it.
    assert sum(enough) <= n + 8


def test_parts_with_bounds_of_their_own_tell_of_what_both_have():
    values = np.array([0, 1, 1, 2, 3, 3, 3, 4, 5, 5, np.inf, np.nan, -2], np.float32)
    bounds = [-np.inf, -2, 0, 1, 1.5, 3, 5, 6, np.inf]
    pairs = [(low, high) for low in bounds for high in bounds if low <= high]
    most = 1 << 40
    for one, other in product(pairs, repeat=2):
        low, high = max(one[0], other[0]), min(one[1], other[1])
        if low > high:
            continue
        limits = Limits(np.full((1, 2), most), most)
        found = merged([gathered(values, *one), gathered(values[::-1], *other)], limits)
        assert found.bounds.tolist() == [[low, high]]
        assert_tells_of(found, np.concatenate([values, values]))


@pytest.mark.parametrize("most", [1000, 1300])
def test_the_limit_is_for_all_quantiles_together(most):
    """One that has much, and others with little."""
    values = np.random.default_rng(0).gamma(2, 20, 2000).astype(np.float32)
    q = np.array([50, 99, 99.9, 1])
    limits = limits_of(q, values.size, 4)._replace(most=most)
    parts = [gathered(part, 0, np.inf, q) for part in np.split(values, 10)]
    total = merged(parts[:5], limits)
    assert (total is None) == (most == 1000)
    if total is not None:
        found = selection.select_gathered(merged([total, *parts[5:]], limits), q)
        np.testing.assert_array_equal(found.value, np.quantile(values.astype("f8"), q / 100))


# --- passes over images ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [1, 2, 8, 9, 10, 17, 50])
def test_chains_of_any_length(n_blocks, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", looks_everywhere)
    values = some_values(shape=(2, 6 * n_blocks, 10))
    image, reads = counted(values, (2, 6, 10))
    asked = [image.pxprep.quantile(q, zeros="include") for q in QUANTILES]
    each = dask.compute(*asked, scheduler="synchronous")
    assert set(reads.values()) == {1 + len(QUANTILES)}, reads
    for q, found in zip(QUANTILES, each, strict=True):
        expected = np.quantile(values.reshape(2, -1).astype("f8"), q / 100, axis=1)
        np.testing.assert_array_equal(found, expected)


def clusters(seed, size=1024):
    """Dim noise, and few bright cells, which differ in brightness: they are the highest values."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(3, 5, (2, size, size)).astype("f4")
    for channel in values:
        for top, left in rng.integers(0, size - 24, (6, 2)):
            channel[top : top + 24, left : left + 24] += rng.gamma(3, 200)
    return values


@pytest.mark.parametrize("seed", range(2))
def test_few_bright_places_take_one_pass(seed, monkeypatch):
    """The values above the quantile come from so few tiles that the sample misleads."""
    values = clusters(seed)
    monkeypatch.setattr(brackets, "MOST_GATHERED", values.nbytes // 200)
    expected = [np.quantile(channel.astype("f8"), 99.9 / 100) for channel in values]
    image, reads = counted(values, (2, 128, 128))
    found = image.pxprep.quantile(99.9).compute(scheduler="synchronous")
    np.testing.assert_array_equal(found, expected)
    assert set(reads.values()) == {2}, "a first look, and one pass"


@pytest.mark.parametrize("seed", range(2))
def test_few_bright_places_take_one_pass_of_a_fit(seed, monkeypatch):
    """What is sampled is blurred; nothing is kept between passes but the sample and edges."""
    values = clusters(seed)
    monkeypatch.setattr(brackets, "MOST_GATHERED", values.nbytes // 200)
    kinds = []

    def look(key, *_):
        name = str(key[0])
        if name.startswith("pxprep-") and name.endswith("-block"):
            kinds.append(name.rsplit("-", 2)[0])

    pipeline = Pipeline().quantile_norm(99.9).blur(1).post_norm(99.9)
    image, _ = counted(values, (2, 128, 128))
    with dask.config.set(scheduler="synchronous"), Callback(posttask=look):
        fitted = pipeline.fit([image], memory=0)
    # There is no sample yet when the first statistic is measured.
    assert Counter(kinds) == {"pxprep-counts": 2 * 64, "pxprep-gathered": 64}
    assert fitted == pipeline.fit([image_of(values)])


@pytest.mark.parametrize("process", ["as it is", "blurred"])
def test_what_is_held_in_a_chain_is_bounded(process, monkeypatch):
    """Of many parts, one result and a few parts are alive; in a tree, each subtree has its own."""
    values = some_values(shape=(3, 400, 160))
    image, _ = counted(values, (3, 20, 16))
    monkeypatch.setattr(quantiles, "bracket", looks_everywhere)
    sizes, alive = [], []

    def noting(parts, limits):
        found = merged(parts, limits)
        sizes.append(found.n_inside)
        return found

    def look(key, value, graph, state, *_):
        cache = state["cache"].items()
        found = [one for _, one in cache if isinstance(one, Gathered)]
        alive.append((len(found), sum(one.inside.size for one in found)))

    monkeypatch.setattr(sinks, "merged", noting)
    if process == "blurred":
        image = image.pxprep.blur(1)
    with Callback(posttask=look):
        image.pxprep.quantile(90).compute(scheduler="synchronous")
    # Of 200 parts; with a blur, the next row of blocks is read for its edges.
    n_parts, n_values = np.max(alive, axis=0)
    assert 1 < n_parts <= graphs.LINK + 12
    most = SPARE * (0.1 * values[0].size + 4)
    assert max(map(max, sizes)) <= most
    assert n_values <= 3 * (most + n_parts * 20 * 16)


def test_what_strips_have_shown_leaves_less_to_gather(monkeypatch):
    """Nothing is known at first; after a strip it is that most values are not among the largest."""
    values = some_values(shape=(3, 400, 160))
    low = []

    def noting(*args):
        gather_rows(*args)
        *_, bounds, _, _ = args
        low.append(bounds[:, 0].tolist())

    monkeypatch.setattr(gathering_module, "gather_rows", noting)
    monkeypatch.setattr(programs, "STRIP_VALUES", 3 * 160 * 10)
    monkeypatch.setattr(quantiles, "bracket", looks_everywhere)
    image, _ = counted(values, values.shape)
    found = image.pxprep.quantile(99.9).compute(scheduler="synchronous")
    expected = [np.quantile(one[one != 0].astype("f8"), 99.9 / 100) for one in values]
    np.testing.assert_array_equal(found, expected)
    assert (np.diff(low, axis=0) >= 0).all()
    for channel, *bounds in zip(values, *low, strict=True):
        n_above = np.array([(channel > bound).sum() for bound in bounds])
        assert (n_above[8:] < 0.2 * channel.size).all()
        assert n_above[-1] < 0.01 * channel.size


def test_what_is_lost_in_one_block_is_not_forgotten(monkeypatch):
    """One block has more than may be held there, all others together have less."""
    rng = np.random.default_rng(0)
    values = np.full((1, 100, 10), 0.5, "f4")
    values[:, ::2] = 3.5
    for row in (5, 6):  # of each block
        values[:, row::10, :3] = rng.uniform(1, 2, (10, 3))
    values[:, 40:50] = rng.uniform(1.1, 1.4, (10, 10))
    monkeypatch.setattr(
        quantiles, "bracket", lambda *_, **__: Bounds(np.array([1.0]), np.array([2.0]))
    )
    expected = np.quantile(values.astype("f8"), 0.5)
    for most, passes in ((60, 3), (154, 1)):
        monkeypatch.setattr(brackets, "MOST_GATHERED", most * 4)
        image, reads = counted(values, (1, 10, 10))
        found = image.pxprep.quantile(50).compute(scheduler="synchronous")
        np.testing.assert_array_equal(found, [expected])
        assert set(reads.values()) == {1 + passes}


# --- what is sampled ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [2.0, 20.0, 30.0])
def test_tiles_are_as_wide_as_later_passes_read(sigma):
    """A tile that is blurred with its own mirror looks unlike the image."""
    values = np.random.default_rng(2).gamma(2, 20, (1, 1, 500, 520)).astype("f4")
    program = Program((BlurEach((sigma,)),), values.dtype, 500, 520)
    sampling = Sampling.for_depth(1 << 30, 1, program.depth)
    assert sampling.rim == min(max(RIM, program.depth), MOST_RIM)
    tile = sampling.places((0, 0, 0), [values])[0]
    top, left = tile.top + sampling.rim, tile.left + sampling.rim
    window = Window(top, top + CORE[0], left, left + CORE[1])
    whole = program.run(Pixels.of(values), window, [None])
    (made,) = processed(program, [Sample(values[:, :, *tile.slices])], [None])
    assert made.shape == whole.shape == (1, 1, *CORE)
    if program.depth <= MOST_RIM:
        np.testing.assert_array_equal(made, whole)
    else:
        np.testing.assert_allclose(made, whole, rtol=0.01)


def test_small_blocks_are_sampled_whole():
    values = np.ones((1, 1, 20, 300), "f4")
    program = Program((BlurEach((20.0,)),), values.dtype, 20, 300)
    (made,) = processed(program, [Sample(values)], [None])
    assert made.shape == values.shape


def test_what_is_kept_is_sampled_for_the_depth_of_later_passes():
    image, _ = counted(some_values())
    array = image.data[:, None]
    with backends.keeping([array], 0, 33):
        source = lazy.LazyChain.of(array).source
        assert source.cache._sampling.rim == 33


# --- brackets -------------------------------------------------------------------------------------


def tiles_of(values):
    return [tile[:, None] for rows in np.split(values, 4, 1) for tile in np.split(rows, 4, 2)]


@pytest.mark.parametrize("q", [0.1, 5, 50, 99, 99.9])
def test_a_tail_that_fits_is_gathered_generously(q):
    values = np.random.default_rng(0).gamma(2, 20, (2, 256, 256)).astype("f4")
    tiles, two = tiles_of(values), np.array([q, q])
    bounds = Bounds(*brackets.bracket(tiles, two, True, values.nbytes))
    for channel, low, high in zip(values, *bounds, strict=True):
        near, far = (channel < low).mean(), (channel > high).mean()
        assert near <= max(0, q / 100 - 1 / 64)
        assert far <= max(0, 1 - q / 100 - 1 / 64)
    # A much larger image: what is trimmed fits there, what lies around a median does not.
    large = brackets.MOST_GATHERED * 100
    assert (brackets.bracket(tiles, two, True, large) is None) == (q not in (0.1, 99.9))


def test_margins_give_way_alike():
    """If not all fits that is wanted, one with a wide margin keeps more than others."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 20, (2, 256, 256)).astype("f4")
    values[1] *= np.kron(rng.lognormal(0, 1, (8, 8)), np.ones((32, 32)))
    tiles, q = tiles_of(values), np.array([50, 50])

    def shares(n_bytes):
        bounds = brackets.bracket(tiles, q, True, n_bytes)
        return np.array(
            [
                ((channel > low) & (channel < high)).mean()
                for channel, low, high in zip(values, *bounds, strict=True)
            ]
        )

    whole = shares(values.nbytes)
    with patch.object(brackets, "MOST_GATHERED", values.nbytes):
        for part in (0.9, 0.7):
            n_bytes = int(values.nbytes * brackets.ROOM / (part * whole.mean()))
            found = shares(n_bytes)
            assert 0.8 * part < found.mean() / whole.mean() <= part * 1.01
            np.testing.assert_allclose(found / whole, (found / whole).mean(), rtol=0.1)
