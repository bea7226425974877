"""Every step against plain NumPy and SciPy, eager and lazy, on all kinds of images."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from checked_steps import check, only_warning, row, run
from oracle import STEPS, assert_agrees, assert_same_bits, plain
from pxprep import PxprepWarning, ops
from pxprep.errors import ChannelError, ParameterError

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
    "median": ("size", (5, 1, 3)),
    "threshold": ("value", (12.5, 30, 0)),
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


# All kinds of images


@pytest.mark.filterwarnings("ignore:robust_zscore. more than half")  # of bools
@every_step
def test_every_dtype(name, make_image):
    for dtype in ("bool", *INTEGERS, *FLOATS):
        image = make_image(dtype, nan=0.15 if dtype in FLOATS else 0)
        before = image.copy(deep=True)
        image.values.flags.writeable = False
        result = check(name, image, **STEPS[name])
        wide = name == "quantile" or image.dtype.newbyteorder("=") == np.float64
        assert result.dtype == (np.float64 if wide else np.float32)
        assert result.dtype.isnative
        assert_same_bits(image, before)


@quiet
@every_step
def test_infinities_count_as_missing(name, make_image):
    missing = make_image(">f4")
    infinite = missing.copy(deep=True)
    for value, place in ((np.inf, np.s_[0, 3, 2:9]), (-np.inf, np.s_[1, 3:5, 8])):
        missing[place] = np.nan
        infinite[place] = value
    infinite.values.flags.writeable = False
    expected = check(name, missing, **STEPS[name])
    assert_same_bits(run(name, infinite, **STEPS[name]), expected)
    assert_same_bits(run(name, infinite.chunk(y=12), **STEPS[name]), expected)


@quiet
@every_step
def test_negative_values_are_counted(name, make_image):
    for dtype in ("int8", "int32", "float64"):
        check(name, make_image(dtype, negative=0.3), **STEPS[name])


@quiet  # one pixel has no range
@every_step
def test_small_and_odd_shapes(name, make_image):
    for shape in SHAPES:
        image = make_image("uint16", shape, zeros=0)
        expected = check(name, image, **STEPS[name])
        lazy = run(name, image.chunk(c=1, y=4, x=3), **STEPS[name])
        assert_same_bits(lazy, expected)


@every_step
def test_more_rows_than_a_band(name, make_image):
    check(name, make_image("uint16", (2, 257, 3)), **STEPS[name])


@pytest.mark.parametrize("dims", ["yxc", "cxy", "xczy"])
@every_step
def test_any_order_of_dims(name, dims, make_image):
    shape = (3, 2, 9, 7) if len(dims) == 4 else (3, 9, 7)
    image = make_image("uint16", shape).assign_coords(marker=("c", ["a", "b", "c"]), stage=7)
    expected = run(name, image, **STEPS[name])
    turned = image.transpose(*dims)
    for given in (turned, turned.copy(deep=True), turned.chunk(y=5)):
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
@every_step
def test_lazy_is_eager(name, chunks, make_image):
    image = make_image("float32", nan=0.1)
    before = image.copy(deep=True)
    image.values.flags.writeable = False
    lazy = run(name, image.chunk(chunks), **STEPS[name])
    assert isinstance(lazy.data, da.Array)
    assert_same_bits(lazy, run(name, image, **STEPS[name]))
    assert_same_bits(image, before)


@every_step
def test_lazy_is_eager_in_3d(name, make_image):
    image = make_image("float32", (2, 3, 7, 6), nan=0.1)
    lazy = run(name, image.chunk(z=(1, 2), y=(2, 5), x=3, c=1), **STEPS[name])
    assert_same_bits(lazy, check(name, image, **STEPS[name]))


@pytest.mark.parametrize("name", IMAGE_STEPS)
def test_chunks_and_dtype_are_kept(name, make_image):
    image = make_image("uint16", chunks=CHUNKS["ragged"])
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
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
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
    larger = {**image.attrs, "um_per_pixel": 2 * image.attrs["um_per_pixel"]}
    assert (result.name, result.attrs) == (image.name, larger)
    assert set(ops.coarsen(image, {"x": 2}).coords) == {"c", "row", "stage"}


@pytest.mark.parametrize(
    ("sizes", "factors", "expected"),
    [
        (0.5, {"y": 4, "x": 4}, 2),
        (0.5, {"x": 4}, {"y": 0.5, "x": 2}),
        ({"y": 0.5, "x": 0.25}, {"y": 2, "x": 4}, {"y": 1, "x": 1}),
        ({"y": 0.5, "x": 0.25}, {"y": 1}, {"y": 0.5, "x": 0.25}),
    ],
)
def test_coarsened_pixels_are_larger(sizes, factors, expected, make_image):
    image = make_image().assign_attrs(um_per_pixel=sizes)
    assert ops.coarsen(image, factors).attrs == {**image.attrs, "um_per_pixel": expected}
    assert image.attrs["um_per_pixel"] == sizes


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


def test_scales_are_matched_by_label(make_image):
    image = make_image()
    scale = xr.DataArray([2.0, 3.0, 5.0], dims="c", coords={"c": image.c.values})
    expected = ops.divide(image, scale.drop_vars("c"))
    assert_same_bits(ops.divide(image, scale[::-1]), expected)
    with pytest.raises(ChannelError, match=r"scale: .*unknown 'other'"):
        ops.divide(image, scale.assign_coords(c=[*image.c.values[:2], "other"]))
    for dtype in (str, object, complex, "M8[ns]"):
        for odd in (scale.astype(int).astype(dtype), scale.astype(int).astype(dtype).chunk()):
            with pytest.raises(ParameterError, match="scale must hold real numbers, got dtype"):
                ops.divide(image, odd)
