"""Medians of squares against SciPy and NumPy: edges, missing pixels, chunks, bad input."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

import oracle
from checked_steps import row
from oracle import assert_agrees, assert_same_bits
from pxprep import Pipeline, ops
from pxprep.engine.kernels.median import median_network
from pxprep.errors import ChannelError, ParameterError
from pxprep.steps import Median

few = settings(deadline=None, max_examples=20)
SIZES = pytest.mark.parametrize("size", [3, 5])


@SIZES
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_median_is_that_of_scipy(dtype, size, make_image):
    image = make_image(dtype, (2, 37, 600), negative=0 if dtype.startswith("u") else 0.4)
    result = ops.median(image, size)
    for made, plane in zip(result.values, image.values, strict=True):
        np.testing.assert_array_equal(made, median_filter(plane, size, mode="reflect"))
    chunks = {"c": 1, "y": (1, 5, 2, 29), "x": (3, 40, 557)}
    assert_same_bits(ops.median(image.chunk(chunks), size), result)


def test_the_edges_are_mirrored():
    image = row([9, 1, 2, 3, 0])  # 1 9 | 9 1 2 3 0 | 0 3, and all rows alike
    assert ops.median(image, 3).values.ravel().tolist() == [9, 2, 2, 2, 0]
    assert ops.median(image, 5).values.ravel().tolist() == [2, 3, 2, 1, 2]


@few
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.sampled_from([3, 5]),
    nan=st.sampled_from([0, 0.02, 0.3, 0.9]),
    seed=st.integers(0, 99),
    chunk=st.integers(1, 5),
)
def test_missing_pixels_do_not_count(make_image, shape, size, nan, seed, chunk):
    image = make_image("float64", (1, *shape), nan=nan, negative=0.5, seed=seed)
    result = ops.median(image, size)
    (plane,), half = image.values, size // 2
    padded = np.pad(plane, half, mode="symmetric")
    for y, x in np.ndindex(shape):
        square = padded[y : y + size, x : x + size]
        expected = np.nan if np.isnan(plane[y, x]) else np.nanmedian(square)
        np.testing.assert_array_equal(result[0, y, x], expected)
    assert_agrees(result, oracle.median(image.values, size))
    lazy = ops.median(image.chunk(y=chunk, x=chunk), size)
    assert_same_bits(lazy.compute(scheduler="synchronous"), result)


@SIZES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_pixel_changes_only_what_is_near(size, value, make_image):
    image = make_image("float32", (1, 21, 23))
    holed = image.copy(deep=True)
    holed[0, 10, 11] = value
    result, half = ops.median(holed, size), size // 2
    assert np.isnan(result[0, 10, 11])
    assert np.isnan(result).sum() == 1
    near = xr.zeros_like(image, bool)
    near[0, 10 - half : 11 + half, 11 - half : 12 + half] = True
    assert_same_bits(result.where(~near, 0), ops.median(image, size).where(~near, 0))


def test_both_in_the_middle_may_be_huge():
    huge = np.finfo("float32").max
    assert ops.median(row([huge, huge, np.nan]), 3).values.tolist()[0][0][:2] == [huge, huge]
    image = row([1.5e38, 3e38, np.nan])
    middle = np.float32(1.5e38) / np.float32(2) + np.float32(3e38) / np.float32(2)
    assert ops.median(image, 3).values[0, 0, 1] == middle
    tiny = np.float32(1e-45)
    assert ops.median(row([tiny, tiny, np.nan]), 3).values[0, 0, 1] == tiny


def test_zeros_have_one_sign(make_image):
    zeros = np.where(np.random.default_rng(0).random((1, 11, 12)) < 0.5, -0.0, 0.0)
    image = xr.DataArray(zeros, dims=("c", "y", "x"))
    for size in (3, 5):
        assert not np.signbit(ops.median(image, size)).any()
    assert_same_bits(ops.median(image, 1), image)


@SIZES
def test_a_network_finds_every_median(size):
    network, count = median_network(size), size * size
    rng = np.random.default_rng(0)
    # Of zeros and ones: a network that is right for those is right for all numbers.
    drawn = rng.random((20_000, count)) < rng.uniform(0.2, 0.8, (20_000, 1))
    values = ((np.arange(2**9)[:, None] >> np.arange(9)) & 1) if size == 3 else drawn.astype(int)
    made = values.T.copy()
    for low, high in network[:-1]:
        made[low], made[high] = np.minimum(made[low], made[high]), np.maximum(made[low], made[high])
    np.testing.assert_array_equal(made[network[-1, 0]], np.median(values, axis=1))


@pytest.mark.parametrize("value", [0, 2, 4, 7, 3.5, -3, np.nan, "3", True, None, [3, 3, 2]])
def test_other_sizes_are_refused(value, make_image, no_compute):
    image = make_image().chunk()
    for call in (
        lambda: ops.median(image, value),
        lambda: image.pxprep.median(value),
        lambda: Pipeline().median(value),
        lambda: Median(value),
    ):
        with no_compute(), pytest.raises(ParameterError, match=r"size.* must be .* 1, 3, 5, got"):
            call()


def test_channels_that_are_not_there(make_image, no_compute):
    with no_compute(), pytest.raises(ChannelError, match=r"size.*'CD4'.*'CD3'"):
        ops.median(make_image().chunk(), {"CD4": 5, ...: 3})
