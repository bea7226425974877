"""`blur` against SciPy: every width, NaN, planes, values at the limits of a float."""

import numpy as np
import pytest
import xarray as xr

from checked_steps import check, row
from oracle import assert_same_bits
from pxprep import ops


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1, 2, 3.3, 11, 40, 150])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blur_of_every_width(sigma, dtype, make_image):
    image = make_image(dtype, (2, 37, 70))
    expected = check("blur", image, sigma=sigma)
    assert_same_bits(ops.blur(image.chunk(c=1, y=11, x=(1, 30, 39)), sigma), expected)


def test_blur_of_more_than_one_tile(make_image):
    image = make_image("float32", (1, 131, 2100))
    check("blur", image, sigma=2)
    nan = image.where(np.random.default_rng(1).random(image.shape) > 0.02)
    expected = check("blur", nan, sigma=2)
    assert_same_bits(ops.blur(nan.chunk(y=50, x=700), 2), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blur_of_huge_values(dtype):
    largest = np.finfo(dtype).max / 2  # beyond that, a pair of pixels overflows: docs/method.md
    image = row([largest] * 5, dtype=dtype)
    np.testing.assert_allclose(ops.blur(image, 2), image, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2, 9])
@pytest.mark.parametrize("nan", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blur_with_nan(dtype, nan, sigma, make_image):
    image = make_image(dtype, (2, 29, 31), nan=nan)
    result = check("blur", image, sigma=sigma)
    np.testing.assert_array_equal(result.isnull(), image.isnull())
    assert_same_bits(ops.blur(image.chunk(c=1, y=6, x=8), sigma), result)


@pytest.mark.parametrize("sigma", [0.8, 1, 2, 2.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blur_keeps_nan_where_it_is(dtype, sigma, make_image):
    image = make_image(dtype, (1, 30, 30))
    spoilt = image.copy(deep=True)
    spoilt[0, 15, 15] = np.nan
    expected, result = ops.blur(image, sigma), ops.blur(spoilt, sigma)
    assert int(result.isnull().sum()) == 1
    far = np.abs(np.mgrid[-15:15, -15:15]).max(axis=0) > int(4 * sigma + 0.5)
    np.testing.assert_array_equal(result.values[0, far], expected.values[0, far])
    assert (result.values[0, 14, 13:18] != expected.values[0, 14, 13:18]).all()


def test_blur_of_a_constant_is_that_constant_beside_nan():
    image = xr.DataArray(np.full((1, 20, 20), 7.0), dims=("c", "y", "x"))
    image[0, 4:9, 3:] = np.nan
    np.testing.assert_allclose(ops.blur(image, 2), image, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chunks", [None, {"x": 2}])
def test_sigma_0_keeps_every_bit(dtype, chunks):
    tiny = np.finfo(dtype).smallest_subnormal
    image = row([-0.0, 0, tiny, -tiny, np.nan, 1 / 3, 7, 8], np.arange(8), dtype=dtype)
    image.name = "fov0"
    image = image if chunks is None else image.chunk(chunks)
    assert_same_bits(ops.blur(image, 0), image)
    mixed = ops.blur(image, [0, 1.5])
    assert_same_bits(mixed[:1], image[:1])
    assert not np.array_equal(mixed[1], image[1])


def test_sigma_none_leaves_out_the_step(make_image):
    image = make_image("uint16")
    before = image.copy(deep=True)
    result = ops.blur(image, None)
    assert_same_bits(result, image.astype(np.float32))
    result[...] = 0
    assert_same_bits(image, before)


def test_planes_are_blurred_one_by_one(make_image):
    image = make_image(shape=(2, 3, 12, 11))
    for z in range(3):
        assert_same_bits(ops.blur(image, 2).isel(z=z), ops.blur(image.isel(z=z), 2))


def test_narrow_blur_reads_infinities_as_missing():
    image = row([1, np.inf], dtype="float32")
    np.testing.assert_array_equal(ops.blur(image, 0.1).values, [[[1, np.nan]]])
    np.testing.assert_array_equal(ops.blur(image, 0).values, image)
