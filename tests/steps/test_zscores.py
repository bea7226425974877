"""Z-scores, plain and robust: numbers of images and cohorts, masks, updates, warnings."""

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

import oracle
from checked_steps import row
from masked_images import a_mask, outside_nan
from oracle import assert_agrees, assert_same_bits
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.errors import ParameterError
from pxprep.plot import cohort as plot_cohort
from small_cohorts import cohort_of, lazily

NORMAL = 1.482602218505602


@pytest.mark.parametrize("nan", [0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_center_and_spread_are_those_of_numpy_and_scipy(dtype, nan, make_image):
    image = make_image(dtype, (3, 41, 33), zeros=0.1, nan=nan)
    result = ops.robust_zscore(image)
    for made, channel in zip(result.values, image.values.astype(float), strict=True):
        spread = median_abs_deviation(channel, axis=None, scale="normal", nan_policy="omit")
        expected = (channel - np.nanmedian(channel)) / spread
        np.testing.assert_allclose(made, expected, rtol=2e-5, atol=2e-6)
    assert_agrees(result, oracle.robust_zscore(image.values))
    assert_same_bits(ops.robust_zscore(image.chunk(c=1, y=8, x=11)), result)


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_numbers_of_a_cohort(pool, make_image):
    cohort = cohort_of(make_image, "float64")
    fitted = Pipeline().robust_zscore().fit(cohort, pool=pool)
    assert Pipeline().robust_zscore().fit(lazily(cohort), pool=pool) == fitted
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    numbers, arrays = fitted.numbers, [image.values for image in cohort.values()]
    medians = np.array([np.median(array, (1, 2)) for array in arrays])
    np.testing.assert_array_equal(numbers.robust_zscore_median, medians)
    together = [np.concatenate([array.reshape(3, -1) for array in arrays], axis=1)[..., None]]
    far = [median_abs_deviation(array, (1, 2)) for array in arrays]
    if pool == "pixels":
        expected = np.median(together[0], (1, 2)), median_abs_deviation(together[0], (1, 2))
    else:
        expected = (medians, far) if pool is None else (np.mean(medians, 0), np.mean(far, 0))
        np.testing.assert_array_equal(numbers.robust_zscore_quantile, far)
    np.testing.assert_allclose(numbers.robust_zscore_center, expected[0], rtol=1e-15)
    np.testing.assert_allclose(
        numbers.robust_zscore_spread, NORMAL * np.array(expected[1]), rtol=1e-15
    )
    made, by_function = fitted.transform(cohort), ops.robust_zscore(cohort, pool=pool)
    for position, (name, image) in enumerate(cohort.items()):
        center, spread = (
            np.broadcast_to(numbers[f"robust_zscore_{number}"], medians.shape)[position]
            for number in ("center", "spread")
        )
        own = (image.values - center[:, None, None]) / spread[:, None, None]
        np.testing.assert_array_equal(made[name], own)
        assert_same_bits(by_function[name], made[name])


@pytest.mark.parametrize("pipeline", [Pipeline().robust_zscore(), Pipeline().zscore()])
def test_more_images_change_the_numbers_as_one_fit_would(pipeline, make_image):
    cohort = cohort_of(make_image)
    first, *others = cohort
    for pool in ("mean", None):
        fitted = pipeline.fit({first: cohort[first]}, pool=pool)
        more = fitted.update({name: cohort[name] for name in others})
        assert more == pipeline.fit(cohort, pool=pool)


def test_only_what_is_inside_a_mask_is_measured(make_image):
    image, mask = make_image("float64", (3, 45, 38), zeros=0.1), a_mask()
    inside = outside_nan(image, mask).values
    medians = np.nanmedian(inside, (1, 2), keepdims=True)
    spreads = NORMAL * np.nanmedian(np.abs(inside - medians), (1, 2), keepdims=True)
    for own in (image, image.chunk(y=10)):
        result = ops.robust_zscore(own, where=mask)
        np.testing.assert_allclose(result, (image.values - medians) / spreads, rtol=1e-14)


def test_without_a_spread_nothing_is_divided():
    image = row([0, 0, 0, 5, -2], [np.nan] * 5, [1, 2, 3, 4, 5], c=["a", "b", "c"])
    with pytest.warns(PxprepWarning) as record:
        fitted = Pipeline().robust_zscore().fit(image)
    first, second = (str(warning.message) for warning in record)
    assert first.startswith("robust_zscore: no value to measure in channel 'b'")
    assert "negative values in channel 'a'" in first
    assert second.startswith(
        "robust_zscore: more than half of the values are the same in channel 'a': the median"
    )
    assert fitted.numbers.robust_zscore_center.values.tolist() == [0, 0, 3]
    assert fitted.numbers.robust_zscore_spread.values.tolist() == [1, 1, NORMAL]
    assert fitted.transform(image)[0].values.tolist() == [[0, 0, 0, 5, -2]]


def test_behind_other_steps(make_image):
    image = make_image("float64", (3, 45, 38), zeros=0.1)
    pipeline = Pipeline().quantile_norm(90).arcsinh(0.3).robust_zscore().clip(2)
    expected = oracle.arcsinh(oracle.quantile_norm(image.values, 90), 0.3)
    expected = oracle.clip(oracle.robust_zscore(expected), 2)
    for own in (image, image.chunk(c=2, y=11)):
        assert_agrees(pipeline.fit_transform(own).compute(), expected)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        *(("robust_zscore", number) for number in ("center", "spread", "median")),
        *(("zscore", number) for number in ("center", "spread", "mean", "deviation")),
    ],
)
def test_numbers_from_a_file_are_checked(step, number, make_image):
    fitted = getattr(Pipeline(), step)().fit(make_image(zeros=0.1))
    text = fitted.to_json()
    known = fitted.measured[step][number].values.ravel().tolist()[0]
    assert repr(known) in text
    with pytest.raises(ParameterError, match=number):
        FittedPipeline.from_json(text.replace(f'"{number}"', '"other"'))


@pytest.mark.parametrize("nan", [0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
def test_mean_and_deviation_are_those_of_numpy(dtype, nan, make_image):
    image = make_image(dtype, (3, 41, 33), zeros=0.1, nan=0 if dtype == "uint16" else nan)
    result = ops.zscore(image)
    values = image.values.astype(float)
    means, deviations = np.nanmean(values, (1, 2)), np.nanstd(values, (1, 2))
    expected = (values - means[:, None, None]) / deviations[:, None, None]
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-6)
    assert_agrees(result, oracle.zscore(image.values))
    assert_same_bits(ops.zscore(image.chunk(c=1, y=8, x=11)), result)


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_moments_of_a_cohort(pool, make_image):
    cohort = cohort_of(make_image, "float64")
    fitted = Pipeline().zscore().fit(cohort, pool=pool)
    assert Pipeline().zscore().fit(lazily(cohort), pool=pool) == fitted
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    numbers, arrays = fitted.numbers, [image.values for image in cohort.values()]
    means, deviations = np.array([oracle.moments(array) for array in arrays]).swapaxes(0, 1)
    np.testing.assert_array_equal(numbers.zscore_mean, means)
    np.testing.assert_array_equal(numbers.zscore_deviation, deviations)
    if pool == "pixels":
        joined = np.concatenate([array.reshape(3, -1) for array in arrays], axis=1)
        expected = oracle.moments(joined)
    else:
        expected = [means, deviations] if pool is None else [means.mean(0), deviations.mean(0)]
    np.testing.assert_allclose(numbers.zscore_center, expected[0], rtol=3e-16)
    np.testing.assert_allclose(numbers.zscore_spread, expected[1], rtol=3e-16)
    made = fitted.transform(cohort)
    for position, (name, image) in enumerate(cohort.items()):
        center, spread = (
            np.broadcast_to(numbers[f"zscore_{number}"], means.shape)[position][:, None, None]
            for number in ("center", "spread")
        )
        np.testing.assert_array_equal(made[name], (image.values - center) / spread)


def test_moments_are_those_of_what_is_inside_a_mask(make_image):
    image, mask = make_image("float64", (3, 45, 38), zeros=0.1), a_mask()
    means, deviations = oracle.moments(outside_nan(image, mask).values)[..., None, None]
    for own in (image, image.chunk(y=10)):
        result = ops.zscore(own, where=mask)
        np.testing.assert_array_equal(result, (image.values - means) / deviations)


def test_without_a_deviation_nothing_is_divided():
    image = row([3, 3, 3, 3, 3], [np.nan] * 5, [1, -1, np.inf, 1, -1], c=["a", "b", "c"])
    with pytest.warns(PxprepWarning) as record:
        fitted = Pipeline().zscore().fit(image)
    (message,) = (str(warning.message) for warning in record)
    assert message == (
        "zscore: no value to measure in channel 'b': nothing is subtracted or divided; the "
        "standard deviation of channel 'a' is 0: the mean is subtracted, and nothing divided; "
        "negative values in channel 'c': they are counted; infinite values in channel 'c': they "
        "count as missing"
    )
    assert fitted.numbers.zscore_center.values.tolist() == [3, 0, 0]
    assert fitted.numbers.zscore_spread.values.tolist() == [1, 1, 1]
    assert fitted.transform(image)[0].values.tolist() == [[0] * 5]


def test_images_are_compared_by_their_deviation(make_image):
    image = make_image("float32", (2, 30, 31), zeros=0.1)
    scaled = {name: image * scale for name, scale in zip("abcd", [1, 1.1, 0.9, 40], strict=True)}
    fitted = Pipeline().zscore().fit(scaled)
    far = fitted.outliers()
    assert far.fov.tolist() == ["d", "d"]
    np.testing.assert_array_equal(
        sorted(far["quantile"]), sorted(fitted.numbers.zscore_deviation.sel(fov="d").values)
    )
    shown = str(fitted)
    assert "zscore_center" in shown
    assert "deviation" not in shown
    (axis,) = plot_cohort(fitted)
    assert axis.get_xlabel() == "standard deviation of each image / median"


def test_the_figure_says_that_median_distances_are_compared(make_image):
    fitted = Pipeline().robust_zscore().fit(cohort_of(make_image))
    (ax,) = plot_cohort(fitted)
    assert ax.get_xlabel() == "median distance of each image / median"
