"""Every step against plain NumPy and SciPy, eager and lazy, on all kinds of images."""

from itertools import permutations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from oracle import STEPS, assert_agrees, assert_same_bits, plain
from pxprep import Pipeline, PxprepWarning, ops
from pxprep.errors import ChannelError

INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint64", ">u2", ">i4")
FLOATS = ("float16", "float32", "float64", ">f4", ">f8")
# The steps that give an image, and the parameter that they take per channel.
IMAGE_STEPS = [name for name in STEPS if name not in ("pixel_sum", "quantile")]
PER_CHANNEL = {
    "quantile_norm": ("q", (99, 50, 100)),
    "post_norm": ("q_post", (99.9, 5, 0)),
    "blur": ("sigma", (2, 0, 0.7)),
    "clip": ("max", (12.5, -1, 1e4)),
    "arcsinh": ("cofactor", (5, 0.2, 150)),
    "remove_hot_pixels": ("threshold", (0, 30, 2.5)),
    "subtract_background": ("radius", (3, 0, 1)),
    "percentile_clip": ("low", (0, 55.5, 2)),
    "quantile": ("q", (0, 99.9, 33.3)),
}
CHUNKS = {
    "one": -1,
    "channels": {"c": 1},
    "rows": {"y": 2},
    "ragged": {"c": (2, 1), "y": (1, 9, 2, 11), "x": (5, 12)},
    "smaller than the kernel": {"c": 2, "y": 5, "x": 9},
}
SHAPES = ((1, 1, 1), (3, 1, 1), (3, 1, 9), (3, 9, 1), (1, 8, 5), (2, 2, 7, 3), (2, 3, 1, 5))

quiet = pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
every_step = pytest.mark.parametrize("name", STEPS)


def run(name, image, **parameters):
    return getattr(ops, name)(image, **parameters)


def check(name, image, **parameters):
    """Compare a step with the oracle and return what it gave."""
    result = run(name, image, **parameters)
    expected = getattr(oracle, name)(plain(image), **parameters)
    assert_agrees(result, expected, exact=name != "blur")
    return result


def row(*channels, dtype="float32", **coords):
    """An image of one row, from the pixels of its channels."""
    values = np.array(channels, dtype)[:, np.newaxis]
    return xr.DataArray(values, dims=("c", "y", "x"), coords=coords)


def only_warning(record):
    (warning,) = record
    return str(warning.message)


# All kinds of images


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *FLOATS])
@every_step
def test_every_dtype(name, dtype, make_image):
    image = make_image(dtype)
    before = image.copy(deep=True)
    image.values.flags.writeable = False
    result = check(name, image, **STEPS[name])
    wide = name == "quantile" or image.dtype.newbyteorder("=") == np.float64
    assert result.dtype == (np.float64 if wide else np.float32)
    assert result.dtype.isnative
    assert_same_bits(image, before)


@pytest.mark.parametrize("dtype", FLOATS)
@every_step
def test_nan(name, dtype, make_image):
    check(name, make_image(dtype, nan=0.15), **STEPS[name])


@quiet
@pytest.mark.parametrize("dtype", FLOATS)
@every_step
def test_infinities_count_as_missing(name, dtype, make_image):
    missing = make_image(dtype)
    infinite = missing.copy(deep=True)
    for value, place in ((np.inf, np.s_[0, 3, 2:9]), (-np.inf, np.s_[1, 3:5, 8])):
        missing[place] = np.nan
        infinite[place] = value
    infinite.values.flags.writeable = False
    expected = check(name, missing, **STEPS[name])
    assert_same_bits(run(name, infinite, **STEPS[name]), expected)
    assert_same_bits(run(name, infinite.chunk(y=12), **STEPS[name]), expected)


@quiet
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", *FLOATS])
@every_step
def test_negative_values_are_counted(name, dtype, make_image):
    check(name, make_image(dtype, negative=0.3), **STEPS[name])


@quiet  # one pixel has no range
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_step
def test_small_and_odd_shapes(name, shape, make_image):
    image = make_image("uint16", shape, zeros=0)
    expected = check(name, image, **STEPS[name])
    lazy = run(name, image.chunk(c=1, y=4, x=3), **STEPS[name])
    assert_same_bits(lazy, expected)


@every_step
def test_more_rows_than_a_band(name, make_image):
    check(name, make_image("uint16", (2, 257, 3)), **STEPS[name])


@pytest.mark.parametrize("dims", [*permutations("cyx"), *permutations("czyx")], ids="".join)
@every_step
def test_any_order_of_dims(name, dims, make_image):
    shape = (3, 2, 9, 7) if len(dims) == 4 else (3, 9, 7)
    image = make_image("uint16", shape).assign_coords(marker=("c", ["a", "b", "c"]), stage=7)
    expected = run(name, image, **STEPS[name])
    turned = image.transpose(*dims)
    kinds = [turned, turned.copy(deep=True)] + ([turned.chunk(y=5)] if dims[0] == "y" else [])
    for given in kinds:
        result = run(name, given, **STEPS[name])
        assert result.dims == tuple(dim for dim in dims if dim in expected.dims)
        assert_same_bits(result, expected.transpose(*result.dims))


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", IMAGE_STEPS)
def test_everything_but_the_values_is_kept(name, lazy, make_image):
    image = make_image("uint16").assign_coords(
        x=("x", np.arange(17) * 0.5, {"units": "um"}), marker=("c", ["a", "b", "c"]), stage=7
    )
    image = image.chunk(y=9) if lazy else image
    result = run(name, image, **STEPS[name])
    xr.testing.assert_identical(result.coords.to_dataset(), image.coords.to_dataset())
    assert result.x.attrs == {"units": "um"}
    assert (result.dims, result.name, result.attrs) == (image.dims, image.name, image.attrs)


@pytest.mark.parametrize("chunks", [None, {"y": 9}], ids=["eager", "lazy"])
@pytest.mark.parametrize("name", [*IMAGE_STEPS, "pixel_sum"])
def test_a_nameless_image_stays_nameless(name, chunks, make_image):
    image = make_image().rename(None)
    image = image if chunks is None else image.chunk(chunks)
    assert run(name, image, **STEPS[name]).name is None


def test_numbers_keep_labels(make_image):
    image = make_image().assign_coords(x=np.arange(17), stage=7)
    np.testing.assert_array_equal(ops.quantile(image).c, image.c)
    assert "c" not in ops.quantile(make_image(labeled=False)).coords
    sums = ops.pixel_sum(image)
    assert sums.dims == ("y", "x")
    assert set(sums.coords) == {"x", "stage"}
    assert (sums.name, sums.attrs) == (image.name, image.attrs)


# Lazy is eager


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("dtype", "nan"), [("uint16", 0), ("float32", 0.1), ("float64", 0.1)])
@every_step
def test_lazy_is_eager(name, dtype, nan, chunks, make_image):
    image = make_image(dtype, nan=nan)
    before = image.copy(deep=True)
    image.values.flags.writeable = False
    lazy = run(name, image.chunk(chunks), **STEPS[name])
    assert isinstance(lazy.data, da.Array)
    assert_same_bits(lazy, run(name, image, **STEPS[name]))
    assert_same_bits(image, before)


@pytest.mark.parametrize("chunks", [{"z": 1}, {"z": (1, 2), "y": (2, 5), "x": 3, "c": 1}], ids=str)
@every_step
def test_lazy_is_eager_in_3d(name, chunks, make_image):
    image = make_image("float32", (2, 3, 7, 6), nan=0.1)
    assert_same_bits(
        run(name, image.chunk(chunks), **STEPS[name]), check(name, image, **STEPS[name])
    )


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("name", IMAGE_STEPS)
def test_chunks_and_dtype_are_kept(name, chunks, make_image):
    image = make_image("uint16", chunks=chunks)
    result = run(name, image, **STEPS[name])
    assert result.chunks == image.chunks
    assert result.dtype == result.data._meta.dtype == np.float32
    assert type(result.data._meta) is np.ndarray


# Values per channel


@pytest.mark.parametrize("labels", [["DAPI", "CD3", "CD20"], [30, 10, 20], [1, 2, 0], None])
@pytest.mark.parametrize("name", PER_CHANNEL)
def test_values_per_channel(name, labels, make_image):
    image = make_image(labeled=False)
    image = image if labels is None else image.assign_coords(c=labels)
    keys = range(3) if labels is None else labels
    parameter, values = PER_CHANNEL[name]
    expected = getattr(oracle, name)(image.values, values)
    by_label = dict(zip(keys, values, strict=True))
    rest = {keys[1]: values[1], ...: values[0], keys[2]: values[2]}
    reversed_ = dict(reversed(by_label.items()))
    for given in (values, list(values), np.array(values), by_label, reversed_, rest):
        result = run(name, image, **{parameter: given})
        assert_agrees(result, expected, exact=name != "blur")
    lazy = run(name, image.chunk(c=2, y=12), **{parameter: rest})
    assert_same_bits(lazy, result)


def test_values_by_label_follow_the_channels(make_image):
    image = make_image()
    q = {"CD3": 50, ...: 99}
    moved = [2, 0, 1]
    assert_same_bits(
        ops.quantile_norm(image.isel(c=moved), q), ops.quantile_norm(image, q).isel(c=moved)
    )


# quantile

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
@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *FLOATS])
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


# blur


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1, 2, 3.3, 11, 40, 150])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
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


# sum_mask and sum_norm


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


def test_divide_by_a_measured_scale(make_image):
    image = make_image("uint16")
    scale = xr.DataArray([3, 1 / 3, 1e4], dims="c")
    result = ops.divide(image, scale)
    expected = image.values.astype("f4") / scale.values.astype("f4")[:, np.newaxis, np.newaxis]
    assert_agrees(result, expected)
    assert_same_bits(ops.divide(image.chunk(y=5), scale.chunk(c=2)), result)
    assert isinstance(ops.divide(image, scale.chunk()).data, da.Array)


@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ((2, 23, 17), {"y": 2, "x": 3}),
        ((2, 23, 17), {"x": 17}),
        ((2, 23, 17), {"y": 1}),
        ((1, 5, 12, 9), {"z": 2, "y": 4}),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_coarsen(dtype, shape, factors, make_image):
    image = make_image(dtype, shape, nan=0.3 if np.dtype(dtype).kind == "f" else 0)
    result = ops.coarsen(image, factors)
    assert_agrees(result, oracle.coarsen(plain(image), factors), exact=False)
    assert_same_bits(ops.coarsen(image.chunk(c=1, y=5, x=4), factors), result)
    assert_same_bits(
        ops.coarsen(image.transpose("x", ..., "c"), factors), result.transpose("x", ..., "c")
    )


def test_coarsen_drops_coordinates_that_no_longer_fit(make_image):
    image = make_image().assign_coords(x=np.arange(17), row=("y", np.arange(23)), stage=7)
    result = ops.coarsen(image, {"y": 2, "x": 2})
    assert set(result.coords) == {"c", "stage"}
    assert (result.name, result.attrs) == (image.name, image.attrs)
    assert set(ops.coarsen(image, {"x": 2}).coords) == {"c", "row", "stage"}


# Nothing to measure, and other things worth a warning


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 5, "x": 6}], ids=["eager", "lazy"])
@pytest.mark.parametrize("nothing", [0, np.nan])
def test_a_channel_without_signal(nothing, chunks, make_image):
    image = make_image()
    image[1] = nothing
    others = ops.quantile_norm(image.isel(c=[0, 2]))
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        result = ops.quantile_norm(image).compute()
    message = only_warning(record)
    assert "'CD3'" in message
    assert "'DAPI'" not in message
    assert_same_bits(result.isel(c=1), image.isel(c=1))
    assert_same_bits(result.isel(c=[0, 2]), others)


@pytest.mark.parametrize("step", ["quantile_norm", "post_norm"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_image_without_signal(value, step):
    image = row([value] * 3, [value] * 3, c=["CD3", "CD20"])
    with pytest.warns(PxprepWarning, match=f"^{step}: .*'CD3', 'CD20'.*scale is 1") as record:
        assert_same_bits(run(step, image), image)
    only_warning(record)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_threshold_of_nothing_is_0(value):
    image, reference = row([1, -3, 2], [1, 1, 1]), row([value], [value])
    with pytest.warns(PxprepWarning, match="sum_mask: .*threshold is 0") as record:
        assert_same_bits(ops.sum_mask(image, 5, reference), ops.sum_mask(image, threshold=0))
    only_warning(record)


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 5, "x": 6}], ids=["eager", "lazy"])
def test_one_warning_tells_all(chunks, make_image):
    image = make_image(shape=(4, 23, 17))
    image[0, 3, 3:5] = -1
    image[1] = 0
    image[2, 7, 7] = np.inf
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        ops.quantile_norm(image).compute()
    message = only_warning(record)
    for words in ("negative values in channel 'DAPI':", "value in channel 'CD3':"):
        assert words in message
    assert "infinite values in channel 'CD20':" in message
    assert "CD45" not in message


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 5, "x": 6}], ids=["eager", "lazy"])
def test_a_chain_warns_once(chunks, make_image):
    image = make_image(shape=(4, 23, 17))
    image[0, 3, 3:5] = -1
    image[1] = 0
    image[2, 7, 7] = np.inf
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        result = image.pxprep.preprocess(sigma=1).compute()
    assert only_warning(record).startswith("quantile_norm: ")
    assert (result.isel(c=1).isnull() | (result.isel(c=1) == 0)).all()
    assert (result.isel(c=3) > 0).any()


def test_negative_sums_warn():
    image = row([-2, 3, 4])
    with pytest.warns(PxprepWarning, match="negative values in the sums") as record:
        ops.sum_mask(image, 50)
    only_warning(record)


def test_a_negative_or_zero_quantile_is_told():
    with pytest.warns(PxprepWarning, match="scale of channel 0 is negative") as record:
        result = ops.quantile_norm(row([-4, -2, 3]), 50)
    np.testing.assert_array_equal(plain(result), [[[2, 1, -1.5]]])
    only_warning(record)
    with pytest.warns(PxprepWarning, match="quantile of channel 0 is 0: the scale is 1") as record:
        assert_same_bits(ops.quantile_norm(row([-4, 4]), 50), row([-4, 4]))
    only_warning(record)


def test_warnings_point_at_the_caller():
    with pytest.warns(PxprepWarning) as record:
        ops.quantile_norm(row([0, 0]))
    assert record[0].filename == __file__


# The reference order

ORDERS = {
    "default": {},
    "no blur": {"sigma": None},
    "no sum_norm": {"norm_sum": False},
    "no mask": {"q_sum": None},
    "no quantile_norm": {"q": None},
    "no post_norm": {"q_post": None, "cap_max": 0.4},
    "per channel": {"q": (90, 99, 99.9), "q_post": (99, 100, 98), "sigma": (0, 1, 3)},
    "capped": {"q_sum": 40, "cap_max": (1, 0.5, 0.9)},
}


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("parameters", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("shape", [(3, 41, 37), (3, 2, 19, 23)], ids=["2d", "3d"])
def test_the_reference_order(parameters, shape, dtype, make_image):
    image = make_image(dtype, shape, zeros=0.3, nan=0 if dtype == "uint16" else 0.02)
    array = plain(image)
    result = image.pxprep.preprocess(**parameters)

    def blur(values, sigma):
        return plain(ops.blur(image.copy(data=values), sigma))

    assert_agrees(result, oracle.preprocess(array, blur=blur, **parameters))
    assert_agrees(result * 1, oracle.preprocess(array, **parameters), exact=False)
    if dtype == "float32":
        lazy = image.chunk({"c": 2, "y": 14}).pxprep.preprocess(**parameters)
        assert_same_bits(lazy, result)


def test_the_reference_order_of_pixie(make_image):
    image = make_image(zeros=0.8)
    result = Pipeline.pixie(q_sum=60, sigma=None).fit_transform(image)
    expected = oracle.preprocess(plain(image), q_sum=60, sigma=None, zeros="include")
    assert_agrees(result, expected)
    sparrow = image.pxprep.preprocess(q_sum=60, sigma=None)
    assert int(result.count()) > int(sparrow.count())


def test_preprocess_selects_channels(make_image):
    image = make_image(shape=(4, 23, 17))
    result = image.pxprep.preprocess(channels=["CD20", "DAPI"])
    assert result.c.values.tolist() == ["CD20", "DAPI"]
    assert_same_bits(result, image.sel(c=["CD20", "DAPI"]).pxprep.preprocess())
    unlabeled = image.drop_vars("c").pxprep.preprocess(channels=[2, 0])
    np.testing.assert_array_equal(unlabeled, result)


def test_steps_by_hand_are_the_reference_order(make_image):
    image = make_image("uint16", chunks={"y": 10})
    normed = image.pxprep.quantile_norm(98)
    by_hand = (
        normed.pxprep.blur(1.5)
        .pxprep.sum_mask(10, reference=normed)
        .pxprep.sum_norm()
        .pxprep.post_norm(99)
        .pxprep.clip(1)
    )
    at_once = image.pxprep.preprocess(q=98, q_sum=10, q_post=99, sigma=1.5, cap_max=1)
    assert_same_bits(by_hand, at_once)


# divide


def test_scales_are_matched_by_label(make_image):
    image = make_image()
    scale = xr.DataArray([2.0, 3.0, 5.0], dims="c", coords={"c": image.c.values})
    expected = ops.divide(image, scale.drop_vars("c"))
    assert_same_bits(ops.divide(image, scale[::-1]), expected)
    with pytest.raises(ChannelError, match=r"scale: .*unknown 'other'"):
        ops.divide(image, scale.assign_coords(c=[*image.c.values[:2], "other"]))


# what a float cannot hold


def test_overflow_is_infinite_without_a_warning():
    image = row([3e38, 1], [3e38, 1], dtype="float32")
    assert ops.pixel_sum(image).values.tolist() == [[np.inf, 2]]
    with np.errstate(over="ignore"):
        expected = oracle.sum_norm(image.values)
    np.testing.assert_array_equal(ops.sum_norm(image), expected)
    tiny = row([1e-45] * 9 + [1.0], dtype="float32")
    assert ops.quantile_norm(tiny, 5).values.ravel()[-1] == np.inf


def test_narrow_blur_reads_infinities_as_missing():
    image = row([1, np.inf], dtype="float32")
    np.testing.assert_array_equal(ops.blur(image, 0.1).values, [[[1, np.nan]]])
    np.testing.assert_array_equal(ops.blur(image, 0).values, image)
