"""What holds for any image and channels, beside the oracle's numbers."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import oracle
from oracle import assert_same_bits
from pxprep import Pipeline, ops

SHAPE = (3, 11, 9)
SIGMAS = {"DAPI": 0, "CD3": 2.5, ...: 0.8}

few = settings(deadline=None, max_examples=8)
many = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
percents = st.one_of(
    st.just(0.0), st.just(100.0), st.floats(1, 100, exclude_min=True), st.integers(2, 100)
)


def plain_image(values):
    """Any array of values as an image of one row and one channel."""
    return xr.DataArray(values.reshape(1, 1, -1), dims=("c", "y", "x"))


# Channels


@few
@given(order=st.permutations(range(4)), seed=seeds, lazy=st.booleans())
def test_channels_do_not_see_each_other(make_image, order, seed, lazy):
    image = make_image("float32", (4, 11, 9), seed=seed, nan=0.05)
    moved = image.isel(c=order)
    moved = moved.chunk(c=3, y=6) if lazy else moved
    q = {"CD3": 75, ...: 99}
    for step in (
        lambda image: ops.quantile_norm(image, q),
        lambda image: ops.post_norm(image, q),
        lambda image: ops.blur(image, SIGMAS),
        lambda image: ops.clip(image, {"CD45": 3, ...: 9}),
        lambda image: ops.arcsinh(image, {"CD45": 3, ...: 9}),
        lambda image: ops.remove_hot_pixels(image, {"CD45": 3, ...: 9}),
        lambda image: ops.subtract_background(image, {"CD45": 3, ...: 1}),
        lambda image: ops.subtract_background(image, constant={"CD45": 30, ...: 9}),
        lambda image: ops.percentile_clip(image, {"CD45": 30, ...: 2}, q),
        lambda image: ops.minmax(image),
        lambda image: ops.robust_zscore(image),
        lambda image: ops.zscore(image),
        lambda image: ops.median(image, {"CD45": 3, ...: 5}),
        lambda image: ops.threshold(image, {"CD45": 30, ...: 2}),
        lambda image: ops.threshold(image, q=q),
        lambda image: ops.quantile(image, q),
    ):
        assert_same_bits(step(moved), step(image).isel(c=order))


@few
@given(order=st.permutations(range(4)), seed=seeds)
def test_order_of_channels_only_rounds(make_image, order, seed):
    image = make_image("float64", (4, 11, 9), seed=seed, nan=0.02)
    result = image.isel(c=order).pxprep.preprocess(q_sum=30, sigma=SIGMAS)
    expected = image.pxprep.preprocess(q_sum=30, sigma=SIGMAS).isel(c=order)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@few
@given(
    exponents=st.lists(st.integers(-30, 30), min_size=3, max_size=3),
    seed=seeds,
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_brightness_of_a_channel_is_forgotten(make_image, exponents, seed, dtype):
    image = make_image(dtype, SHAPE, seed=seed, nan=0.02)
    brighter = image.copy(data=np.ldexp(image.values, np.reshape(exponents, (3, 1, 1))))
    assert_same_bits(
        brighter.pxprep.preprocess(sigma=SIGMAS), image.pxprep.preprocess(sigma=SIGMAS)
    )


@few
@given(seed=seeds, q=percents, dtype=st.sampled_from(["uint16", "float32", "float64"]))
def test_after_the_norm_the_quantile_is_one(make_image, seed, q, dtype):
    image = make_image(dtype, SHAPE, seed=seed)
    normed = ops.quantile_norm(image, q)
    rounding = 4 * np.finfo(normed.dtype).eps
    np.testing.assert_allclose(ops.quantile(normed, q), 1, rtol=rounding)
    np.testing.assert_allclose(ops.quantile_norm(normed, q), normed, rtol=rounding)


@many
@given(seed=seeds, threshold=st.floats(0, 200))
def test_what_is_kept_is_not_changed(make_image, seed, threshold):
    image = make_image("float64", SHAPE, seed=seed)
    masked = ops.sum_mask(image, threshold=threshold)
    kept = (ops.pixel_sum(image) > threshold).values
    np.testing.assert_array_equal(masked.values[:, kept], image.values[:, kept])
    assert masked.values[:, ~kept].size == int(masked.isnull().sum())
    sums = ops.pixel_sum(ops.sum_norm(masked)).values[kept]
    np.testing.assert_allclose(sums, 1, rtol=1e-14)


# Pixels


@few
@given(order=st.randoms(use_true_random=False), seed=seeds)
def test_order_of_pixels_changes_no_number(make_image, order, seed):
    image = make_image("float32", (2, 8, 6), seed=seed)
    places = list(range(48))
    order.shuffle(places)
    shuffled = image.copy(data=image.values.reshape(2, -1)[:, places].reshape(2, 8, 6))
    pipeline = Pipeline().quantile_norm(99).sum_mask(20)
    assert pipeline.fit(shuffled).numbers.identical(pipeline.fit(image).numbers)


@many
@given(
    values=st.sampled_from(["float16", "float32", "float64"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, st.integers(1, 40), elements=hnp.from_dtype(np.dtype(dtype))
        )
    ),
    q=percents,
    zeros=st.sampled_from(["exclude", "include"]),
    chunk=st.integers(1, 40),
)
def test_quantile_is_numpys_for_any_floats(values, q, zeros, chunk):
    image = plain_image(values)
    lazy = image.chunk(x=max(chunk, values.size // 3))
    # NumPy too overflows between two values that are further apart than the largest float.
    with np.errstate(over="ignore", invalid="ignore"):
        expected = oracle.quantile(image.values, q, zeros)
        np.testing.assert_array_equal(ops.quantile(image, q, zeros=zeros), expected)
        result = ops.quantile(lazy, q, zeros=zeros).compute(scheduler="synchronous")
        np.testing.assert_array_equal(result, expected)


@many
@given(
    values=hnp.arrays(
        st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(endianness="?"),
            hnp.unsigned_integer_dtypes(endianness="?"),
        ),
        st.integers(1, 40),
    ),
    q=percents,
    zeros=st.sampled_from(["exclude", "include"]),
)
def test_quantile_is_numpys_for_any_integers(values, q, zeros):
    image = plain_image(values)
    expected = oracle.quantile(image.values, q, zeros)
    np.testing.assert_array_equal(ops.quantile(image, q, zeros=zeros), expected)


# Float32 values that neither overflow nor become subnormal on the way.
far_from_the_limits = st.floats(-(2.0**60), 2.0**60, width=32).map(
    lambda value: value if abs(value) > 2.0**-60 else 0.0
)


@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
@many
@given(
    values=hnp.arrays("float64", (2, 3, 5), elements=far_from_the_limits | st.just(np.nan)),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_steps_are_the_oracles_for_any_values(values, dtype):
    values = values.astype(dtype)
    image = xr.DataArray(values, dims=("c", "y", "x"))
    for name, parameters in oracle.STEPS.items():
        result = getattr(ops, name)(image, **parameters)
        expected = getattr(oracle, name)(values, **parameters)
        oracle.assert_agrees(result, expected, exact=name != "blur")
