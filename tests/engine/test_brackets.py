"""Quantiles of samples, and of all pixels in one more pass: exact whatever the sample."""

from unittest.mock import patch

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from counted_images import calling
from pxprep.engine import (
    backends,
    brackets,
    cache,
    gathering,
    sinks,
    sources,
)
from pxprep.engine.cache import Sampling
from pxprep.engine.jobs import processed
from pxprep.engine.programs import Program
from pxprep.engine.quantiles import exact_quantiles
from pxprep.engine.windows import Pixels, Window
from pxprep.steps.blur import BlurEach

F4 = np.dtype("float32")


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
        for tile in Sampling(1 << 20, 1).places((0, i, j), [numbers]):
            block[tile.slices] = True
    return chosen


def flat_values(dtype):
    values = np.random.default_rng(0).gamma(2, 20, (2, 256, 1024)).astype(dtype)
    values[:, ::7] = 0
    return values


@pytest.mark.parametrize("q", [0, 50, 99.9, [3, 97]])
@pytest.mark.parametrize(("dtype", "digits"), [("float32", 2), ("float64", 4)])
def test_a_good_sample_saves_passes(dtype, digits, q):
    values = flat_values(dtype)
    (counted_found, first), (found, passes) = quantiles_of(values, q)
    assert_exact(counted_found, values, q)
    assert_exact(found, values, q)
    assert (first, passes) == (digits, 1)


@pytest.mark.parametrize("q", [20, 80])
@pytest.mark.parametrize(
    ("factor", "dtype", "digits"), [(0.01, "float32", 2), (100, "float32", 2), (100, "float64", 4)]
)
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
    assert len(Sampling(1 << 30, 1).places((0, 0, 0), [block[..., :9, :9]])) == 4


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


@settings(max_examples=30, deadline=None)
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

    def noting(parts, limits):
        found = gathering.merged(parts, limits)
        held.append(0 if found is None else found.inside.nbytes)
        return found

    monkeypatch.setattr(sinks, "merged", noting)
    for found, _ in quantiles_of(values, q):
        assert_exact(found, values, q)
    assert (kind != "many ties") <= max(held) <= most
