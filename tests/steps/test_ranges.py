"""Clipping to quantiles, and ranges: numbers of images and cohorts, chains, warnings."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr

import oracle
from checked_steps import only_warning, row
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.errors import ParameterError
from pxprep.steps import MinMax, PercentileClip, SubtractBackground
from small_cohorts import cohort_of, lazily

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])
POOLS = ["mean", "pixels", None]
any_pool = pytest.mark.parametrize("pool", POOLS)


# Clipping to quantiles


@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 1, 99), ("int32", 0, 100), ("float32", 0.1, 55), ("float64", 60, 61.5)],
)
def test_values_are_clipped_to_numpys_percentiles(dtype, low, high, zeros, make_image):
    image = make_image(dtype, (2, 31, 29), zeros=0.4)
    result = ops.percentile_clip(image, low, high, zeros=zeros)
    assert_agrees(result, oracle.percentile_clip(image.values, low, high, zeros))
    floats = image.values.astype(oracle.float_type(dtype))
    counted = [channel[(channel != 0) | (zeros == "include")] for channel in floats]
    for channel, values, clipped in zip(floats, counted, result.values, strict=True):
        ends = np.percentile(values.astype(float), [low, high]).astype(floats.dtype)
        np.testing.assert_array_equal(clipped, channel.clip(*ends))
    assert_same_bits(
        ops.percentile_clip(image.chunk(c=1, y=8, x=11), low, high, zeros=zeros), result
    )


def test_zeros_are_clipped_but_need_not_count():
    image = row([0, 0, 0, 0, 10, 20, 30])
    result = ops.percentile_clip(image, 0, 50)
    assert result.values.ravel().tolist() == [10] * 5 + [20] * 2
    result = ops.percentile_clip(image, 0, 75, zeros="include")
    assert result.values.ravel().tolist() == [0] * 4 + [10, 15, 15]
    both = ops.minmax(ops.percentile_clip(image, 0, 100))
    assert both.values.ravel().tolist() == [0] * 5 + [0.5, 1]


def test_percentages_per_channel(make_image):
    image = make_image()
    low, high = {"CD3": 20, ...: 0.5}, [90, 99, 60]
    expected = oracle.percentile_clip(image.values, (0.5, 20, 0.5), (90, 99, 60))
    for given_image in (image, image.chunk(y=7)):
        assert_agrees(ops.percentile_clip(given_image, low, high), expected)
    assert_same_bits(
        ops.percentile_clip(image.isel(c=[2, 0, 1]), low, [60, 90, 99]),
        ops.percentile_clip(image, low, high).isel(c=[2, 0, 1]),
    )


def test_low_must_be_below_high_in_every_channel(make_image, no_compute):
    image = make_image().chunk()
    for low, high in (([1, 60, 2], [99, 50, 2]), ({"CD3": 60, "CD20": 2, ...: 1}, [99, 50, 2])):
        words = (
            r"low .*below high.*: channel 'CD3' has low=60 and high=50, channel 'CD20' has low=2"
        )
        for call in (
            lambda: ops.percentile_clip(image, low, high),  # noqa: B023
            lambda: image.pxprep.percentile_clip(low, high),  # noqa: B023
            lambda: Pipeline().quantile_norm().percentile_clip(low, high).fit(image),  # noqa: B023
        ):
            with no_compute(), pytest.raises(ParameterError, match=words):
                call()


@any_pool
@pytest.mark.parametrize(("dtype", "zeros"), [("uint16", "exclude"), ("float64", "include")])
def test_limits_of_a_cohort(dtype, zeros, pool, make_image):
    cohort = cohort_of(make_image, dtype)
    pipeline = Pipeline().percentile_clip([0, 5, 20], 80, zeros=zeros)
    fitted = pipeline.fit(cohort, pool=pool)
    assert pipeline.fit(lazily(cohort), pool=pool) == fitted
    arrays = [image.values for image in cohort.values()]
    each = [
        [oracle.quantile(array, q, zeros) for array in arrays] for q in ([0, 5, 20], [80, 80, 80])
    ]
    numbers = fitted.numbers
    np.testing.assert_array_equal(numbers.percentile_clip_quantile_low, each[0])
    np.testing.assert_array_equal(numbers.percentile_clip_quantile, each[1])
    assert numbers.percentile_clip_quantile_low.dims == ("fov", "c")
    if pool == "pixels":
        pixels = np.concatenate([array.reshape(3, -1) for array in arrays], axis=1)
        expected = [oracle.quantile(pixels, q, zeros) for q in ([0, 5, 20], 80)]
    elif pool == "mean":
        expected = [[oracle.exact_mean(column) for column in np.transpose(one)] for one in each]
    else:
        expected = each
    np.testing.assert_array_equal(numbers.percentile_clip_low, expected[0])
    np.testing.assert_array_equal(numbers.percentile_clip_high, expected[1])
    by_function = ops.percentile_clip(cohort, [0, 5, 20], 80, zeros=zeros, pool=pool)
    for position, (name, image) in enumerate(cohort.items()):
        own = [end[position] if pool is None else end for end in expected]
        floats = image.values.astype(oracle.float_type(dtype))
        ends = np.array(own).astype(floats.dtype)[:, :, np.newaxis, np.newaxis]
        for results in (fitted.transform(cohort), by_function):
            np.testing.assert_array_equal(results[name], floats.clip(*ends))


# Ranges


@FLOATS
@pytest.mark.parametrize("negative", [0, 0.3])
def test_a_range_becomes_0_to_1(dtype, negative, make_image):
    image = make_image(dtype, nan=0.1, negative=negative, zeros=0) * 1e-3
    with pytest.warns(PxprepWarning) if negative else nullcontext():
        result = ops.minmax(image)
    assert (result.min(["y", "x"]) == 0).all()
    assert (result.max(["y", "x"]) == 1).all()
    np.testing.assert_array_equal(result.isnull(), image.isnull())
    expected = (image - image.min(["y", "x"])) / (image.max(["y", "x"]) - image.min(["y", "x"]))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@any_pool
def test_ranges_of_a_cohort(pool, make_image):
    cohort = cohort_of(make_image, "float64")
    fitted = Pipeline().minmax().fit(cohort, pool=pool)
    assert Pipeline().minmax().fit(lazily(cohort), pool=pool) == fitted
    arrays = [image.values.astype(float) for image in cohort.values()]
    lows, highs = ([end(array, (1, 2)) for array in arrays] for end in (np.min, np.max))
    if pool == "pixels":
        expected = np.min(lows, 0), np.max(highs, 0)
    elif pool == "mean":
        expected = [
            [oracle.exact_mean(column) for column in np.transpose(one)] for one in (lows, highs)
        ]
    else:
        expected = lows, highs
    np.testing.assert_array_equal(fitted.numbers.minmax_min, expected[0])
    np.testing.assert_array_equal(fitted.numbers.minmax_max, expected[1])
    np.testing.assert_array_equal(fitted.numbers.minmax_quantile, highs)
    np.testing.assert_array_equal(fitted.numbers.minmax_quantile_low, lows)
    made = fitted.transform(cohort)
    for (name, result), other in zip(
        made.items(), ops.minmax(lazily(cohort), pool=pool).values(), strict=True
    ):
        assert_same_bits(other, result.rename(name))
        assert result.max() == 1 if pool is None else result.max() > 0
    if pool is not None:
        highest = max(float(result.max()) for result in made.values())
        assert highest == 1 if pool == "pixels" else highest > 1


@pytest.mark.parametrize("chunks", [None, {"c": 1, "x": 2}], ids=["eager", "lazy"])
@pytest.mark.parametrize("value", [0.0, 7.5, -3.0])
def test_a_constant_channel_becomes_0_with_one_warning(value, chunks):
    image = row([value] * 4, [1, 3, 2, 5], [np.nan, value, value, np.inf], c=["a", "b", "d"])
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        result = ops.minmax(image).compute()
    message = only_warning(record)
    assert message.startswith("minmax: no two different values in channels 'a', 'd':")
    assert "infinite values in channel 'd'" in message
    nan = np.nan
    expected = [[0] * 4, [0, 0.5, 0.25, 1], [nan, 0, 0, nan]]
    np.testing.assert_array_equal(result.values[:, 0], expected)


@pytest.mark.parametrize("chunks", [None, {"x": 2}], ids=["eager", "lazy"])
def test_a_channel_without_values_is_left_as_it_is(chunks):
    image = row([np.nan] * 4, [1, 3, 2, 5])
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning, match="no two different values in channel 0") as record:
        numbers = Pipeline().minmax().fit(image).numbers
    only_warning(record)
    assert numbers.minmax_min.values.tolist() == [0, 1]
    assert numbers.minmax_max.values.tolist() == [1, 5]
    with pytest.warns(PxprepWarning, match="no value to measure in channel 0: nothing") as record:
        fitted = Pipeline().percentile_clip(0, 100).fit(image)
    only_warning(record)
    assert fitted.numbers.percentile_clip_low.values.tolist() == [-np.inf, 1]
    assert fitted.numbers.percentile_clip_high.values.tolist() == [np.inf, 5]
    other = row([1, 2, 3, 4], [0, 1, 6, 5])
    np.testing.assert_array_equal(fitted.transform(other)[:, 0], [[1, 2, 3, 4], [1, 1, 5, 5]])
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    json.loads(fitted.to_json(), parse_constant=lambda text: pytest.fail(f"{text} in JSON"))


def test_an_image_without_a_range_does_not_count(make_image):
    cohort = cohort_of(make_image)
    pipelines = [Pipeline().minmax(), Pipeline().percentile_clip(2, 98)]
    without = [pipeline.fit(cohort) for pipeline in pipelines]
    cohort["empty"] = xr.zeros_like(cohort["fov0"]).rename("empty")
    for pipeline, expected in zip(pipelines, without, strict=True):
        with pytest.warns(PxprepWarning, match="'CD3' of image 'empty'.*not counted") as record:
            fitted = pipeline.fit(cohort)
        only_warning(record)
        for variable in ("minmax_min", "minmax_max", "percentile_clip_low", "percentile_clip_high"):
            if variable in expected.numbers:
                np.testing.assert_array_equal(fitted.numbers[variable], expected.numbers[variable])
    with pytest.warns(PxprepWarning, match="'CD3' of image 'empty'.*smallest is subtracted"):
        alone = Pipeline().minmax().fit(cohort, pool=None)
    assert alone.numbers.minmax_max.sel(fov="empty").values.tolist() == [0, 0, 0]


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 9}], ids=["eager", "lazy"])
@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline().quantile_norm().percentile_clip().minmax().post_norm(),
        Pipeline().minmax().quantile_norm().percentile_clip(),
        Pipeline().percentile_clip().subtract_background(2).minmax().post_norm(),
        Pipeline().percentile_clip(zeros="include").minmax().quantile_norm(),
        Pipeline().post_norm().percentile_clip(zeros="include").sum_norm().minmax(),
    ],
)
def test_a_pipeline_says_once_that_a_channel_is_empty(pipeline, chunks, make_image):
    image = make_image()
    image[1] = 0
    image = image if chunks is None else image.chunk(chunks)
    first, _ = pipeline.steps[0]
    for process in (pipeline.fit, lambda image: pipeline.fit_transform(image).compute()):
        with pytest.warns(PxprepWarning, match=f"^{first}: .* channel 'CD3'") as record:
            process(image)
        only_warning(record)


def test_the_same_quantiles_are_told():
    image = row([0, 1, 1, 1], [1, 2, 3, 4], c=["mask", "CD3"])
    with pytest.warns(PxprepWarning, match="both quantiles of channel 'mask' are the same") as told:
        result = ops.percentile_clip(image)
    only_warning(told)
    assert (result[0] == 1).all()
    with pytest.warns(PxprepWarning, match="'mask' of image 0 are the same") as told:
        ops.percentile_clip([image], pool=None)
    only_warning(told)


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 5, "x": 6}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", ["percentile_clip", "minmax"])
def test_one_warning_tells_all(name, chunks, make_image):
    image = make_image(shape=(4, 23, 17))
    image[0, 3, 3:5] = -1
    image[1] = 0
    image[2, 7, 7] = np.inf
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        getattr(ops, name)(image).compute()
    message = only_warning(record)
    for words in ("negative values in channel 'DAPI':", "in channel 'CD3':", "channel 'CD20':"):
        assert words in message
    assert "CD45" not in message


# In pipelines

CHAIN = (
    Pipeline()
    .subtract_background({"CD3": 0, ...: 3})
    .percentile_clip({"CD20": 5, ...: 0.5}, 98.7, zeros="include")
    .minmax()
    .subtract_background(constant=0.01, name="floor")
)


@pytest.mark.parametrize("chunks", [None, {"c": (1, 2), "y": (1, 9, 13), "x": 5}], ids=str)
@FLOATS
def test_a_chain_has_the_bits_of_its_steps(dtype, chunks, make_image):
    image = make_image(dtype, nan=0.05, chunks=chunks)
    assert CHAIN.is_fused
    assert CHAIN.depth(image.c.values.tolist()) == 6
    again = Pipeline.from_json(CHAIN.to_json())
    assert again == CHAIN
    expected = oracle.subtract_background(plain(image), (3, 0, 3))
    expected = oracle.percentile_clip(expected, (0.5, 0.5, 5), 98.7, "include")
    expected = oracle.subtract_background(oracle.minmax(expected), constant=0.01)
    for result in (again.fit_transform(image), again.fit(image).transform(image)):
        assert_agrees(result, expected)
    after = image.pxprep.quantile_norm()
    after = after.pxprep.subtract_background(2).pxprep.blur(1).pxprep.subtract_background(3)
    chained = Pipeline().quantile_norm().subtract_background(2).blur(1).subtract_background(3)
    assert_same_bits(chained.fit_transform(image), after)


def test_steps_are_values():
    assert Pipeline().subtract_background([1, 2.0]).steps[0][1] == SubtractBackground((1, 2))
    assert Pipeline().subtract_background(constant=3).steps[0][1] == SubtractBackground(None, 3.0)
    assert Pipeline().percentile_clip().minmax() == Pipeline([PercentileClip(1, 99), MinMax()])
    assert hash(PercentileClip({"CD3": 5, ...: 1})) == hash(PercentileClip({...: 1, "CD3": 5}))
    assert SubtractBackground({"CD3": 7, ...: 2}).operation(["CD3", "CD8"]).depth == 14
    assert SubtractBackground(constant=2).operation(["CD3"]).depth == 0


@any_pool
def test_fitted_chains_are_shown_and_saved(pool, make_image):
    cohort = cohort_of(make_image)
    fitted = CHAIN.fit(cohort, pool=pool)
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    text, html = repr(fitted), fitted._repr_html_()
    for shown in ("percentile_clip_low", "percentile_clip_high", "minmax_min", "minmax_max"):
        assert shown in text
        assert shown in html
    assert "quantile_low" not in text
    assert "SubtractBackground(radius={'CD3': 0, ...: 3})" in text
    assert "SubtractBackground(constant=0.01)" in text
    if pool is not None:
        assert f"{fitted.numbers.minmax_max.values[1]:.6g}" in text


def test_channels_of_measured_numbers_are_matched_by_label(make_image):
    image = make_image()
    for step in (PercentileClip(5, 90), MinMax()):
        numbers = Pipeline([("step", step)]).fit(image).measured["step"]
        moved = image.isel(c=[2, 0, 1])
        assert_same_bits(step.apply(moved, numbers), step.apply(image, numbers).isel(c=[2, 0, 1]))


def test_tables_of_images_without_limits(make_image):
    cohort = cohort_of(make_image)
    for name in ("fov0", "fov1"):
        cohort[name] = cohort[name].where(cohort[name].c != "CD3", 0)
    with pytest.warns(PxprepWarning, match="nothing is clipped"):
        fitted = Pipeline().percentile_clip().fit(cohort, pool=None)
    assert "inf (" in repr(fitted)


@pytest.mark.parametrize("pipeline", [Pipeline().percentile_clip(), Pipeline().minmax()])
def test_outliers_are_found_by_the_upper_end(pipeline, make_image):
    image = make_image("float64")
    cohort = {f"fov{i}": image * (1 + i / 50) for i in range(6)}
    cohort["fov4"][{"c": 2}] *= 6
    table = pipeline.fit(cohort).outliers()
    assert table[["fov", "channel"]].values.tolist() == [["fov4", "CD20"]]
    for name in ("fov0", "fov1", "fov2", "fov3"):
        cohort[name][{"c": 0}] = 0
    with pytest.warns(PxprepWarning, match="'DAPI' of image 'fov0'"):
        table = pipeline.fit(cohort).outliers()
    # Where most images have nothing, nothing is said of the others.
    assert set(table.channel) == {"CD20"}


@pytest.mark.parametrize("empty", [None, "fov0", "fov3", "all"])
def test_limits_of_all_pixels_can_be_updated(empty, make_image):
    cohort = cohort_of(make_image, n=4)
    for name in list(cohort) if empty == "all" else [empty] if empty else []:
        cohort[name] = cohort[name].where(cohort[name].c != "CD3", 0)
    old = {name: cohort[name] for name in ("fov0", "fov1")}
    new = {name: cohort[name] for name in ("fov2", "fov3")}
    pipeline = Pipeline().percentile_clip(10, 95, zeros="include")
    told = []
    for fit in (
        lambda: pipeline.fit(cohort),
        lambda: pipeline.fit(old).update(new),
        lambda: FittedPipeline.from_json(pipeline.fit(old).to_json()).update(lazily(new)),
    ):
        with pytest.warns(PxprepWarning, match="'CD3'") if empty == "all" else nullcontext():
            told.append(fit())
    assert told[0] == told[1] == told[2]
    # Where zeros count, an image of zeros counts.
    if empty == "fov0":
        highs = told[0].numbers.percentile_clip_quantile.sel(c="CD3")
        assert highs[0] == 0
        assert told[0].numbers.percentile_clip_high.sel(c="CD3") == oracle.exact_mean(highs.values)
