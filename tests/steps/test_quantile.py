"""`quantile` is NumPy's, of all finite values that are not zero, or of all."""

import numpy as np
import pytest

from checked_steps import check, row
from oracle import assert_same_bits
from pxprep import ops

AWKWARD = (
    0,
    1.0000001,
    2.5,
    12.3456789,
    100 / 3,
    50,
    99,
    99.9,
    99.999999,
    np.nextafter(100, 0),
    100,
)


@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">i4", "float16", "float64"])
def test_quantile_is_numpys(dtype, zeros, make_image):
    image = make_image(dtype, (2, 19, 53), zeros=0.4)
    for q in AWKWARD:
        check("quantile", image, q=q, zeros=zeros)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_quantile_of_few_values(dtype, size, make_image):
    image = make_image(dtype, (1, 1, size), zeros=0)
    for q in (*range(2, 101, 7), *AWKWARD):
        check("quantile", image, q=q)


@pytest.mark.parametrize("q", [0, 37, 100])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_quantile_of_single_pixel_chunks(dtype, q, make_image):
    image = make_image(dtype, (2, 3, 4))
    result = ops.quantile(image.chunk({"c": 1, "y": 1, "x": 1}), q)
    assert_same_bits(result, ops.quantile(image, q))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("zeros", ["exclude", "include"])
def test_quantile_of_ties_negatives_zeros_and_subnormals(zeros, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    pixels = [-7, -7, -tiny, -0.0, 0, 0, -0.0, tiny, 3, 3, 3, np.finfo(dtype).max, np.nan, np.inf]
    image = row(pixels, dtype=dtype)
    for q in AWKWARD:
        check("quantile", image, q=q, zeros=zeros)


def test_quantile_of_integers_is_that_of_the_float_type():
    image = row([2**24 + 1, 2**24 + 1], dtype="int64")
    assert ops.quantile(image, 50).item() == 2**24


def test_quantile_of_nothing_is_nan():
    image = row([0, 0, np.nan], [np.inf, np.nan, 0], [0, 4, 0])
    np.testing.assert_array_equal(ops.quantile(image, 50), [np.nan, np.nan, 4])
    np.testing.assert_array_equal(ops.quantile(image, 50, zeros="include"), [0, 0, 0])
