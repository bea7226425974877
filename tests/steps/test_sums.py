"""`sum_mask`, `sum_norm` and `pixel_sum`: thresholds, references, zeros, rounding."""

import numpy as np
import pytest
import xarray as xr

import oracle
from checked_steps import check, only_warning, row
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import PxprepWarning, ops


@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize("q_sum", [0, 5, 50, 99.9, 100])
def test_sum_mask_with_and_without_zeros(q_sum, zeros, make_image):
    image = make_image("uint16", zeros=0.8)
    assert (image.sum("c") == 0).any()
    check("sum_mask", image, q_sum=q_sum, zeros=zeros)


def test_sums_of_negative_zero_are_zero():
    image = row([-0.0, -0.0, 3, 5], [-0.0, 0, 1, 1])
    assert_same_bits(ops.sum_mask(image, 50, zeros="include"), ops.sum_mask(image, threshold=2))
    assert_same_bits(ops.sum_mask(image, 50), ops.sum_mask(image, threshold=5))


def test_zeros_matter(make_image):
    image = make_image(zeros=0.8)
    kept = [int(ops.sum_mask(image, 60, zeros=zeros).count()) for zeros in ("include", "exclude")]
    assert kept[0] > kept[1] > 0


@pytest.mark.parametrize("threshold", [-1, 0, 40.5, 1e6, np.float64(3), np.array(3)])
def test_sum_mask_with_a_threshold(threshold, make_image):
    check("sum_mask", make_image(nan=0.1), threshold=threshold)


def test_sums_equal_to_the_threshold_are_dropped():
    result = ops.sum_mask(row([1, 2, 3], [1, 1, 1]), threshold=3)
    np.testing.assert_array_equal(plain(result)[:, 0], [[np.nan, np.nan, 3], [np.nan, np.nan, 1]])


def test_a_sum_just_above_the_threshold_is_kept():
    image = row([1, np.nextafter(np.float32(1), np.float32(2))])
    check("sum_mask", image, q_sum=75)


def test_limits_beyond_the_float_type():
    image = row([1, 2])
    assert ops.sum_mask(image, threshold=1e300).isnull().all()
    assert_same_bits(ops.clip(image, 1e300), image)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_sum_mask_with_a_measured_threshold(lazy, make_image):
    image = make_image()
    threshold = xr.DataArray(40.5).chunk() if lazy else xr.DataArray(40.5)
    assert_same_bits(ops.sum_mask(image, threshold=threshold), ops.sum_mask(image, threshold=40.5))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
def test_sum_mask_with_a_reference(dtype, make_image):
    image, reference = make_image(), make_image(dtype, (3, 40, 9), seed=1)
    result = ops.sum_mask(image, 60, reference)
    expected = oracle.sum_mask(plain(image), 60, reference=plain(reference))
    assert_agrees(result, expected)
    assert not np.array_equal(result.count(), ops.sum_mask(image, 60).count())
    for moved in (reference.isel(c=[2, 0, 1]), reference.transpose("x", "c", "y").chunk(x=4)):
        assert_same_bits(ops.sum_mask(image, 60, moved), result)


def test_mask_and_blur_in_either_order(make_image):
    image = make_image()
    masked = ops.sum_mask(image, 30)
    assert_agrees(ops.blur(masked, 2), oracle.blur(plain(masked), 2), exact=False)
    np.testing.assert_array_equal(ops.blur(masked, 2).isnull(), masked.isnull())
    blurred = ops.blur(image, 2)
    expected = oracle.sum_mask(plain(blurred), 30, reference=plain(image))
    assert_agrees(ops.sum_mask(blurred, 30, image), expected)


def test_sum_norm_of_sums_that_are_not_positive():
    image = row([1, 0, -2, -1, np.nan], [3, 0, 1, 1, 2])
    with pytest.warns(PxprepWarning, match="1 of 5 pixels became NaN"):
        result = plain(ops.sum_norm(image))[:, 0]
    gone = [np.nan] * 4
    np.testing.assert_array_equal(result, [[0.25, *gone], [0.75, *gone]])


def test_channels_are_summed_in_their_order():
    image = row([1e8], [1], [-1e8])
    assert ops.pixel_sum(image).item() == 0
    assert ops.pixel_sum(image.isel(c=[0, 2, 1])).item() == 1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_threshold_of_nothing_is_0(value):
    image, reference = row([1, -3, 2], [1, 1, 1]), row([value], [value])
    with pytest.warns(PxprepWarning, match="sum_mask: .*threshold is 0") as record:
        assert_same_bits(ops.sum_mask(image, 5, reference), ops.sum_mask(image, threshold=0))
    only_warning(record)


def test_negative_sums_warn():
    image = row([-2, 3, 4])
    with pytest.warns(PxprepWarning, match="negative values in the sums") as record:
        ops.sum_mask(image, 50)
    only_warning(record)


# what a float cannot hold


def test_overflow_is_infinite_without_a_warning():
    image = row([3e38, 1], [3e38, 1], dtype="float32")
    assert ops.pixel_sum(image).values.tolist() == [[np.inf, 2]]
    with np.errstate(over="ignore"):
        expected = oracle.sum_norm(image.values)
    np.testing.assert_array_equal(ops.sum_norm(image), expected)
    tiny = row([1e-45] * 9 + [1.0], dtype="float32")
    assert ops.quantile_norm(tiny, 5).values.ravel()[-1] == np.inf
