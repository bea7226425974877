"""Exact sums: mean and standard deviation to the last bit, of values and chunks of all kinds."""

import math
from fractions import Fraction

import dask.array as da
import numpy as np
import pytest

import oracle
from pxprep.engine.kernels.sums import DOUBLES, SINGLES
from pxprep.engine.moments import exact_moments
from pxprep.engine.sums import square_root

LARGEST = float(np.finfo(np.float64).max)


def any_floats(rng, n, dtype):
    """Floats of all bit patterns, among them NaNs, infinities and the smallest that there are."""
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    return rng.integers(0, np.iinfo(unsigned).max, n, unsigned, endpoint=True).view(dtype)


CONTENTS = {
    "any": any_floats,
    "normal": lambda rng, n, dtype: rng.normal(3, 100, n).astype(dtype),
    "cancelling": lambda rng, n, dtype: np.resize([1e30, 1.1, -1e30, 3e-20], n).astype(dtype),
    "alike": lambda rng, n, dtype: np.full(n, 0.1, dtype),
    "small": lambda rng, n, dtype: np.full(n, np.finfo(dtype).smallest_subnormal, dtype),
    "large": lambda rng, n, dtype: np.full(n, np.finfo(dtype).max, dtype),
    "zeros": lambda rng, n, dtype: np.zeros(n, dtype),
    "missing": lambda rng, n, dtype: np.full(n, np.nan, dtype),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("content", CONTENTS)
def test_moments_are_those_of_fractions(content, dtype):
    rng = np.random.default_rng(0)
    image = CONTENTS[content](rng, 2 * 67 * 45, dtype).reshape(2, 1, 67, 45)
    found = exact_moments([image])
    np.testing.assert_array_equal([found.mean[0], found.deviation[0]], oracle.moments(image))
    flat = image.reshape(2, -1)
    finite = np.isfinite(flat)
    np.testing.assert_array_equal(found.counted[0], finite.sum(1))
    np.testing.assert_array_equal(found.negative[0], (finite & (flat < 0)).sum(1))
    np.testing.assert_array_equal(found.infinite[0], np.isinf(flat).sum(1))
    for chunks in ((1, 1, 67, 45), (2, 1, 10, 7)):
        lazy = exact_moments([da.from_array(image, chunks=chunks)])
        for one, other in zip(found, da.compute(*lazy), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", ">i2", "bool", "float16"])
def test_integers_are_added_as_they_are(dtype):
    values = np.arange(1 << 16).astype("uint16").view("int16")
    image = values.astype(dtype).reshape(1, 1, 256, 256)
    found = exact_moments([image])
    np.testing.assert_array_equal([found.mean[0], found.deviation[0]], oracle.moments(image))
    assert found.negative[0] == (image < 0).sum()


@pytest.mark.parametrize("value", [0xFFFFFF * 2.0**70, -(2.0**53 - 1) * 2.0**-300, LARGEST])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bins_do_not_overflow(dtype, value):
    # All bits of the mantissa are set, in more values than a bin has room for.
    n = (SINGLES if dtype == "float32" else DOUBLES) * 5
    with np.errstate(over="ignore"):
        value = float(np.clip(value, -np.finfo(dtype).max, np.finfo(dtype).max).astype(dtype))
    image = np.full((1, 1, 5, n // 5), value, dtype)
    image[..., 0, :] = -value
    found = exact_moments([image])
    expected = [float(Fraction(value) * 3 / 5), abs(float(Fraction(value) * 4 / 5))]
    assert [found.mean[0, 0], found.deviation[0, 0]] == expected


def test_all_pixels_together_also_of_other_types():
    rng = np.random.default_rng(0)
    images = [
        rng.normal(size=(2, 1, 9, 8)).astype("float32"),
        rng.gamma(1, size=(2, 1, 5, 4)),
        rng.integers(-5, 99, (2, 1, 3, 3), "int16"),
    ]
    joined = np.concatenate([image.reshape(2, -1).astype(float) for image in images], axis=1)
    expected = [oracle.moments(one.astype(float)) for one in (*images, joined)]
    for own in (images, [da.from_array(images[0], chunks=3), *images[1:]]):
        found = exact_moments(own, together=True)
        for row, (means, deviations) in enumerate(expected):
            np.testing.assert_array_equal(found.mean[row], means)
            np.testing.assert_array_equal(found.deviation[row], deviations)


@pytest.mark.parametrize("exponent", [0, -1074, -1060, 1000])
def test_a_square_root_is_the_nearest_float(exponent):
    rng = np.random.default_rng(0)
    for _ in range(200):
        root = Fraction(int(rng.integers(1, 2**60)), 2**59) * Fraction(2) ** exponent
        square = root**2
        assert square_root(square.numerator, square.denominator) == float(root)


def test_a_root_beside_the_middle_of_two_floats_is_not_rounded_twice():
    middle = (Fraction(1) + Fraction(math.nextafter(1, 2))) / 2
    above, below = middle**2 + Fraction(1, 2**900), middle**2 - Fraction(1, 2**900)
    assert square_root(above.numerator, above.denominator) == math.nextafter(1, 2)
    assert square_root(below.numerator, below.denominator) == 1
