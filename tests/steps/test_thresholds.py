"""Thresholds: given ones and quantiles, ties, images, cohorts, masks, bad input."""

import numpy as np
import pytest

import oracle
from checked_steps import only_warning, row
from masked_images import a_mask, outside_nan
from oracle import assert_agrees, assert_same_bits
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.errors import ChannelError, ParameterError
from pxprep.steps import Threshold
from small_cohorts import cohort_of, lazily

NAN, INF = np.nan, np.inf


def test_what_is_below_becomes_zero_or_nan():
    image = row([-1, 0, 2.9, 3, 3.1, NAN, INF, -INF])
    expected = [0, 0, 0, 3, np.float32(3.1), NAN, NAN, NAN]
    np.testing.assert_array_equal(ops.threshold(image, 3)[0, 0], expected)
    expected[:3] = [NAN] * 3
    np.testing.assert_array_equal(ops.threshold(image, 3, below="nan")[0, 0], expected)
    assert ops.threshold(row([-2, -1, 0]), -1).values.tolist() == [[[0, -1, 0]]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_threshold_has_the_type_of_the_image(dtype):
    image = row([0.69, 0.7, 0.71], dtype=dtype)
    assert (ops.threshold(image, 0.7) > 0).values.tolist() == [[[False, True, True]]]


@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_values_below_numpys_percentile(dtype, zeros, make_image):
    image = make_image(dtype, (2, 31, 29), zeros=0.4)
    result = ops.threshold(image, q=37, below="nan", zeros=zeros)
    for channel, made in zip(image.values.astype(float), result.values, strict=True):
        limit = np.percentile(channel[(channel != 0) | (zeros == "include")], 37)
        np.testing.assert_array_equal(made, np.where(channel < limit, NAN, channel))
    lazy = ops.threshold(image.chunk(c=1, y=8, x=11), q=37, below="nan", zeros=zeros)
    assert_same_bits(lazy, result)


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_the_threshold_of_a_cohort(pool, make_image):
    cohort = cohort_of(make_image, "float64")
    pipeline = Pipeline().threshold(q=[20, 50, 80])
    fitted = pipeline.fit(cohort, pool=pool)
    assert pipeline.fit(lazily(cohort), pool=pool) == fitted
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    each = np.array([oracle.quantile(image.values, [20, 50, 80]) for image in cohort.values()])
    np.testing.assert_array_equal(fitted.numbers.threshold_quantile, each)
    expected = np.broadcast_to(each.mean(axis=0), each.shape)
    if pool == "pixels":
        pixels = np.concatenate([image.values.reshape(3, -1) for image in cohort.values()], axis=1)
        expected = np.broadcast_to(oracle.quantile(pixels, [20, 50, 80]), each.shape)
    elif pool is None:
        expected = each
    numbers = np.broadcast_to(fitted.numbers.threshold_value, each.shape)
    np.testing.assert_allclose(numbers, expected, rtol=1e-15)
    made, by_function = fitted.transform(cohort), ops.threshold(cohort, q=[20, 50, 80], pool=pool)
    for (name, image), values in zip(cohort.items(), numbers, strict=True):
        assert_agrees(made[name], oracle.threshold(image.values, values))
        assert_same_bits(by_function[name], made[name])


def test_more_images_change_the_threshold_as_one_fit_would(make_image):
    cohort = cohort_of(make_image)
    first, *others = cohort
    pipeline = Pipeline().threshold(q=70)
    fitted = pipeline.fit({first: cohort[first]}).update({name: cohort[name] for name in others})
    assert fitted == pipeline.fit(cohort)


def test_only_what_is_inside_a_mask_is_measured(make_image):
    image = make_image("uint16", (3, 45, 38))
    mask = a_mask()
    expected = oracle.threshold(image.values, q=60, reference=outside_nan(image, mask).values)
    assert_agrees(ops.threshold(image, q=60, where=mask), expected)


def test_a_given_threshold_is_not_measured(make_image, no_compute):
    image = make_image("uint16").chunk(y=5)
    with no_compute():
        fitted = Pipeline().threshold({"CD3": 30, ...: 5}).fit(image)
    assert not fitted.numbers.data_vars
    result = FittedPipeline.from_json(fitted.to_json()).transform(image)
    assert_agrees(result.compute(), oracle.threshold(image.values, [5, 30, 5]))


def test_nothing_is_below_where_nothing_is_measured():
    image = row([0, 0, 0], [0, 5, 7], c=["a", "b"])
    with pytest.warns(PxprepWarning) as record:
        fitted = Pipeline().threshold(q=100).fit(image)
    assert only_warning(record).startswith("threshold: no value to measure in channel 'a'")
    assert fitted.numbers.threshold_value.values.tolist() == [-np.inf, 7]
    assert fitted.transform(image).values.tolist() == [[[0, 0, 0]], [[0, 0, 7]]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of value and q .*value=None and q=None"),
        ({"value": 3, "q": 50}, "one of value and q .*value=3 and q=50"),
        ({"value": NAN}, "value must be a finite number, got nan"),
        ({"value": "3"}, "value must be a finite number, got '3'"),
        ({"q": 101}, "q must be a percentage from 0 to 100, got 101"),
        ({"q": 0.95}, "q .*fraction 0.95; did you mean 95"),
        ({"q": 95, "below": "NaN"}, "below must be one of 'zero', 'nan', got 'NaN'"),
        ({"q": 95, "zeros": True}, "zeros must be one of 'exclude', 'include', got True"),
    ],
)
def test_thresholds_that_are_refused(given, words, make_image, no_compute):
    image = make_image().chunk()
    for call in (
        lambda: ops.threshold(image, **given),
        lambda: image.pxprep.threshold(**given),
        lambda: Pipeline().threshold(**given),
        lambda: Threshold(**given),
    ):
        with no_compute(), pytest.raises(ParameterError, match=words):
            call()


@pytest.mark.parametrize("parameter", ["value", "q"])
def test_channels_that_are_not_there(parameter, make_image, no_compute):
    image = make_image().chunk()
    with no_compute(), pytest.raises(ChannelError, match=f"{parameter}.*'CD4'.*'CD3'"):
        ops.threshold(image, **{parameter: {"CD4": 50, ...: 40}})
