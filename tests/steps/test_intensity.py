"""Background, clipping to quantiles, and ranges: what holds beyond the rows of test_ops."""

import json
from collections import Counter
from contextlib import nullcontext
from fractions import Fraction
from itertools import product
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import white_tophat

import oracle
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.engine import backends, brackets, exact_quantiles, quantiles
from pxprep.engine.gathering import Bounds
from pxprep.errors import ParameterError
from pxprep.steps import MinMax, PercentileClip, SubtractBackground

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])
POOLS = ["mean", "pixels", None]
any_pool = pytest.mark.parametrize("pool", POOLS)
few = settings(deadline=None, max_examples=12)


def row(*channels, dtype="float32", **coords):
    """An image of one row, from the pixels of its channels."""
    values = np.array(channels, dtype)[:, np.newaxis]
    return xr.DataArray(values, dims=("c", "y", "x"), coords=coords)


def only_warning(record):
    (warning,) = record
    return str(warning.message)


def cohort_of(make_image, dtype="float32", n=3):
    images = {
        f"fov{i}": make_image(dtype, (3, 21 + i, 17), zeros=0.3, seed=i).rename(f"fov{i}")
        for i in range(n)
    }
    return {name: image * (i + 1) for i, (name, image) in enumerate(images.items())}


def lazily(cohort):
    return {name: image.chunk({"c": 2, "y": 12}) for name, image in cohort.items()}


# Background by a disc


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("radius", [1, 2, 3, 5, 13, 25])
def test_a_top_hat_is_that_of_scipy_with_a_disc(radius, dtype, make_image):
    image = make_image(dtype, (2, 37, 51))
    expected = np.stack(
        [
            white_tophat(plane.astype(oracle.float_type(dtype)), footprint=oracle.disc(radius))
            for plane in image.values
        ]
    )
    result = ops.subtract_background(image, radius)
    assert_agrees(result, expected)
    # Chunks smaller than the radius.
    chunks = {"c": 1, "y": (1, 5, 2, 29), "x": (3, 40, 8)}
    assert_same_bits(ops.subtract_background(image.chunk(chunks), radius), result)


def by_definition(plane, radius):
    """The largest, over all discs that hold a pixel, of the smallest value in the disc."""
    places = list(np.ndindex(plane.shape))

    def around(place):
        return [(y, x) for y, x in places if (y - place[0]) ** 2 + (x - place[1]) ** 2 <= radius**2]

    def lowest(place):
        values = [plane[one] for one in around(place) if not np.isnan(plane[one])]
        return min(values, default=np.nan)

    result = np.full_like(plane, np.nan)
    for place in places:
        if not np.isnan(plane[place]):
            result[place] = plane[place] - max(lowest(centre) for centre in around(place))
    return result


@few
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    radius=st.integers(1, 6),
    nan=st.sampled_from([0, 0.1, 0.7]),
    negative=st.sampled_from([0, 0.5]),
    seed=st.integers(0, 99),
)
def test_a_top_hat_is_what_its_page_says(make_image, size, radius, nan, negative, seed):
    image = make_image("float64", (1, *size), nan=nan, negative=negative, seed=seed)
    result = ops.subtract_background(image, radius)
    np.testing.assert_array_equal(result[0], by_definition(image.values[0], radius))
    assert_agrees(result, oracle.subtract_background(image.values, radius))


@few
@given(
    radius=st.tuples(*[st.integers(0, 15)] * 2),
    nan=st.sampled_from([0, 0.02, 0.5]),
    seed=st.integers(0, 999),
    rows=st.integers(1, 23),
    columns=st.integers(1, 29),
)
def test_chunks_change_no_bit_of_a_top_hat(make_image, radius, nan, seed, rows, columns):
    image = make_image("float32", (2, 23, 29), nan=nan, seed=seed)
    result = ops.subtract_background(image, radius)
    assert_agrees(result, oracle.subtract_background(image.values, radius))
    lazy = ops.subtract_background(image.chunk(c=1, y=max(3, rows), x=max(4, columns)), radius)
    assert_same_bits(lazy.compute(scheduler="synchronous"), result)


@pytest.mark.parametrize("nan", [0, 0.001])
def test_a_top_hat_of_more_than_one_tile_and_band(nan, make_image):
    image = make_image("float32", (1, 300, 2100), nan=nan)
    result = ops.subtract_background(image, 3)
    assert_agrees(result, oracle.subtract_background(image.values, 3))
    assert_same_bits(ops.subtract_background(image.chunk(y=270, x=1500), 3), result)


def test_what_is_wider_than_the_disc_is_background():
    y, x = np.mgrid[:60, :90]
    distance = np.hypot(y - 30, x - 20), np.hypot(y - 30, x - 65)
    values = 7.0 + 0.125 * x + 50 * (distance[0] <= 4) + 50 * (distance[1] <= 15)
    result = ops.subtract_background(xr.DataArray(values[None], dims=("c", "y", "x")), 6).values[0]
    assert (result[distance[0] <= 4] > 49).all()
    assert (result[distance[1] <= 13] <= 3).all()
    assert result.min() >= 0


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_disc_has_no_direction(turn, make_image):
    image = make_image("float32", (1, 40, 40), nan=0.05)
    turned = image.copy(data=np.rot90(image.values, turn, (1, 2)))
    expected = np.rot90(ops.subtract_background(image, 5).values, turn, (1, 2))
    np.testing.assert_array_equal(ops.subtract_background(turned, 5).values, expected)


def test_a_disc_wider_than_the_image_leaves_the_smallest_value(make_image):
    image = make_image("float32", (2, 5, 400), zeros=0)
    result = ops.subtract_background(image, 1000)
    np.testing.assert_array_equal(result, image - image.min(["y", "x"]))


@FLOATS
@pytest.mark.parametrize("chunks", [None, {"x": 2}])
def test_radius_0_keeps_every_bit(dtype, chunks):
    tiny = np.finfo(dtype).smallest_subnormal
    image = row([-0.0, 0, tiny, -tiny, np.nan, np.inf, -7, 8], np.arange(8), dtype=dtype)
    image = image if chunks is None else image.chunk(chunks)
    assert_same_bits(ops.subtract_background(image, 0), image)
    mixed = ops.subtract_background(image, [0, 2])
    assert_same_bits(mixed[:1], image[:1])
    assert not np.array_equal(mixed[1], image[1])


def test_zeros_of_both_signs_make_one_zero():
    values = np.array([0.0, -0.0] * 8, "f4")
    for order in (values, values[::-1], np.sort(values)):
        result = ops.subtract_background(row(order, [3, *order[1:]]), 2).values
        assert result.tobytes() == np.array([[[0] * 16], [[3] + [0] * 15]], "f4").tobytes()


def test_planes_have_their_own_background(make_image):
    image = make_image(shape=(2, 3, 12, 11), nan=0.1)
    result = ops.subtract_background(image, 2)
    for z in range(3):
        assert_same_bits(result.isel(z=z), ops.subtract_background(image.isel(z=z), 2))


def test_nan_stays_where_it_is_and_hides_nothing(make_image):
    image = make_image("float32", (1, 30, 30), zeros=0)
    holes = image.copy(deep=True)
    holes[0, 4:9, 11:13] = np.nan
    holes[0, 20:, 20:] = np.nan  # wider than a disc
    result = ops.subtract_background(holes, 3)
    np.testing.assert_array_equal(result.isnull(), holes.isnull())
    far = np.ones((30, 30), bool)
    far[:15, 5:19] = far[14:, 14:] = False
    expected = ops.subtract_background(image, 3)
    np.testing.assert_array_equal(result.values[0, far], expected.values[0, far])


def test_huge_values_do_not_warn():
    image = row([3e38, -3e38, 3e38, -3e38, -3e38])
    assert ops.subtract_background(image, 1).values.tolist() == [[[np.inf, 0, np.inf, 0, 0]]]


@pytest.mark.parametrize("radius", [2, 2.0, np.int16(2), [2, 2.0, np.float32(2)], np.full(3, 2)])
def test_whole_numbers_of_any_type(radius, make_image):
    image = make_image()
    assert_same_bits(ops.subtract_background(image, radius), ops.subtract_background(image, 2))


# Background by a constant


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "float16", "float32", "float64", ">f4"]
)
@pytest.mark.parametrize("constant", [0, 31.7, (0, 0.1, 1e300)])
def test_a_constant_is_subtracted_down_to_0(constant, dtype, make_image):
    kind = np.dtype(dtype).kind
    image = make_image(dtype, nan=0.1 * (kind == "f"), negative=0.3 * (kind in "if"))
    image.values.flags.writeable = False
    with np.errstate(over="ignore"):
        expected = oracle.subtract_background(image.values, constant=constant)
    result = ops.subtract_background(image, constant=constant)
    assert_agrees(result, expected)
    assert not (result < 0).any()
    assert_same_bits(ops.subtract_background(image.chunk(c=2, y=5), constant=constant), result)


def test_constants_by_label_and_infinities():
    image = row([1, 5, np.inf, np.nan, -2], [1, 5, -np.inf, 9, 3], c=["CD3", "CD8"])
    result = ops.subtract_background(image, constant={"CD8": 4, ...: 1})
    nan = np.nan
    np.testing.assert_array_equal(result.values[:, 0], [[0, 4, nan, nan, 0], [0, 1, nan, 5, 0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda **given: ops.subtract_background(row([1.0]).chunk(), **given),
        lambda **given: row([1.0]).chunk().pxprep.subtract_background(**given),
        lambda **given: SubtractBackground(**given),
        lambda **given: Pipeline().subtract_background(**given),
    ],
)
def test_a_radius_or_a_constant(call, no_compute):
    with no_compute(), pytest.raises(ParameterError, match=r"one of radius and constant must be"):
        call()
    with no_compute(), pytest.raises(ParameterError, match=r"radius=3 and constant=0\.5"):
        call(radius=3, constant=0.5)


# Clipping to quantiles


@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize(("low", "high"), [(1, 99), (0, 100), (0.1, 55), (60, 61.5), (40, 99.999)])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
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
@pytest.mark.parametrize("zeros", ["exclude", "include"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
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
        expected = [[exact_mean(column) for column in np.transpose(one)] for one in each]
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


def exact_mean(values):
    return float(sum(map(Fraction, values)) / len(values))


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
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_ranges_of_a_cohort(dtype, pool, make_image):
    cohort = cohort_of(make_image, dtype)
    fitted = Pipeline().minmax().fit(cohort, pool=pool)
    assert Pipeline().minmax().fit(lazily(cohort), pool=pool) == fitted
    arrays = [image.values.astype(float) for image in cohort.values()]
    lows, highs = ([end(array, (1, 2)) for array in arrays] for end in (np.min, np.max))
    if pool == "pixels":
        expected = np.min(lows, 0), np.max(highs, 0)
    elif pool == "mean":
        expected = [[exact_mean(column) for column in np.transpose(one)] for one in (lows, highs)]
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
        lows = told[0].numbers.percentile_clip_quantile.sel(c="CD3")
        assert lows[0] == 0
        assert told[0].numbers.percentile_clip_high.sel(c="CD3") == exact_mean(lows.values)


# Two quantiles in the passes of one


def counted(values, chunks):
    """A lazy image of these values, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    empty = np.empty((0,) * values.ndim, values.dtype)
    array = da.from_array(values, chunks=chunks)
    array = array.map_blocks(load, name=f"counted-{uuid4()}", dtype=values.dtype, meta=empty)
    return xr.DataArray(array, dims=("c", "y", "x"), name="fov0"), reads


def everywhere(samples, q, zeros, n_bytes):
    return Bounds(np.full(len(q), -np.inf), np.full(len(q), np.inf))


def above_for_the_last(samples, q, zeros, n_bytes):
    return Bounds(np.where(np.arange(len(q)) == len(q) - 1, 1e29, -np.inf), np.full(len(q), np.inf))


def nothing(samples, q, zeros, n_bytes):
    return None


LOOKS = {
    "as it is": quantiles.bracket,
    "everywhere": everywhere,
    "misled": above_for_the_last,
    "nothing": nothing,
}


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize("look", LOOKS)
def test_two_quantiles_are_read_as_often_as_one(look, dtype, make_image, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look])
    values = make_image(dtype, (3, 96, 80)).values
    if dtype != "u2":
        values *= np.array([[[1]], [[1e3]], [[1e6]]], dtype)  # each has its own brackets
    n_reads = []
    for process in (
        lambda image: ops.percentile_clip(image, 3, 90),
        lambda image: ops.quantile_norm(image, 90),
    ):
        image, reads = counted(values, (3, 24, 40))
        result = process(image).compute(scheduler="synchronous")
        (times,) = set(reads.values())
        n_reads.append(times)
        expected = process(xr.DataArray(values, dims=("c", "y", "x"), name="fov0"))
        assert_same_bits(result, expected)
    assert n_reads[0] == n_reads[1]


@pytest.mark.parametrize(
    "process", [ops.minmax, lambda image: ops.percentile_clip(image, 1, 99, zeros="include")]
)
def test_many_zeros_are_not_gathered(process, make_image, monkeypatch):
    values = make_image("float32", (3, 96, 80), zeros=0.7).values
    # A quarter of the image: brackets around a quantile of others take less.
    monkeypatch.setattr(brackets, "MOST_GATHERED", values.nbytes // 4)
    image, reads = counted(values, (3, 24, 40))
    result = process(image).compute(scheduler="synchronous")
    assert_same_bits(result, process(xr.DataArray(values, dims=("c", "y", "x"), name="fov0")))
    # A first look, one pass, and the result.
    assert set(reads.values()) == {3}


@pytest.mark.parametrize("value", [2**24 + 1, 2**24 + 3])
def test_bounds_are_values_of_the_float_type(value):
    """As integers the values lie between those that float32 knows."""
    values = np.full((1, 64, 64), value, "int32")
    values[0, :8] = value - 1000
    image, _ = counted(values, (1, 16, 64))
    expected = [[float(np.float32(value - 1000))], [float(np.float32(value))]]
    for pool in ("mean", None):
        for q, one in zip((0, 50), expected, strict=True):
            assert ops.quantile([image], q, pool=pool).values.ravel().tolist() == one
    fitted = Pipeline([lambda one: one, PercentileClip(2, 90)]).fit(image)
    assert fitted.numbers.percentile_clip_low.values.tolist() == expected[0]
    assert fitted.numbers.percentile_clip_high.values.tolist() == expected[1]


@any_pool
def test_fitting_two_quantiles_reads_once(pool, make_image):
    values = [make_image("float32", (3, 24, 20), seed=seed).values for seed in range(2)]
    for memory, times in (("1 MB", 1), (0, 1 if pool != "pixels" else 2)):
        images, reads = zip(*(counted(array, (3, 6, 10)) for array in values), strict=True)
        pipeline = Pipeline().quantile_norm(99, name="first").percentile_clip(3, 90)
        fitted = pipeline.fit(list(images), pool=pool, memory=memory)
        eager = [xr.DataArray(array, dims=("c", "y", "x"), name="fov0") for array in values]
        assert fitted == pipeline.fit(eager, pool=pool)
        if memory:
            assert set(reads[0].values()) == {times}


@pytest.mark.parametrize("kind", ["eager", "lazy", "evaluated"])
@pytest.mark.parametrize(
    ("dtype", "zeros"), [("uint8", False), ("float32", True), ("float64", False)]
)
def test_several_quantiles_are_those_found_singly(kind, dtype, zeros, make_image):
    q = np.array([[0.0, 3, 50], [50.5, 99.9, 100], [20, 20, 20]])
    arrays = [make_image(dtype, (3, 2, 15, 13), seed=seed).values for seed in range(2)]
    arrays = [array if kind == "eager" else da.from_array(array, (3, 2, 8, 9)) for array in arrays]
    evaluate = (lambda lazy: list(dask.compute(*lazy))) if kind == "evaluated" else None
    for groups in ([[0], [1]], [[0], [1], [0, 1]]):
        with backends.keeping(arrays, 1 << 20):
            found = exact_quantiles(arrays, q, groups, zeros=zeros, evaluate=evaluate)
            single = [
                exact_quantiles(arrays, one, groups, zeros=zeros, evaluate=evaluate) for one in q
            ]
        found, single = dask.compute(found, single)
        assert found.value.shape == (len(groups), 3, 3)
        for index, one in enumerate(single):
            np.testing.assert_array_equal(found.value[:, index], one.value)
        for name in ("counted", "negative", "infinite"):
            np.testing.assert_array_equal(getattr(found, name), getattr(single[0], name))
    for group, channel in product(range(2), range(3)):
        values = np.asarray(arrays[group])[channel]
        for index in range(3):
            expected = oracle.quantile_of(
                values, q[index, channel], "include" if zeros else "exclude"
            )
            assert found.value[group, index, channel] == expected
