"""Whatever is wrong is said before anything is computed, by name and with the value that came."""

import re

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from pxprep import Pipeline, PxprepError, PxprepWarning, ops
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import (
    Arcsinh,
    Blur,
    Clip,
    PercentileClip,
    PostNorm,
    QuantileNorm,
    RemoveHotPixels,
    SubtractBackground,
    SumMask,
)

# How each parameter can be given: through the functions, the accessor, and steps in a pipeline.
CALLS = {
    "q": {
        "ops": lambda image, value: ops.quantile_norm(image, value),
        "quantile": lambda image, value: ops.quantile(image, value),
        "accessor": lambda image, value: image.pxprep.quantile_norm(value),
        "preprocess": lambda image, value: image.pxprep.preprocess(q=value),
        "step": lambda image, value: Pipeline([QuantileNorm(value)]).fit_transform(image),
    },
    "q_post": {
        "ops": lambda image, value: ops.post_norm(image, value),
        "accessor": lambda image, value: image.pxprep.post_norm(value),
        "preprocess": lambda image, value: image.pxprep.preprocess(q_post=value),
        "step": lambda image, value: Pipeline([PostNorm(value)]).fit_transform(image),
    },
    "sigma": {
        "ops": lambda image, value: ops.blur(image, value),
        "accessor": lambda image, value: image.pxprep.blur(value),
        "preprocess": lambda image, value: image.pxprep.preprocess(sigma=value),
        "step": lambda image, value: Pipeline([Blur(value)]).fit_transform(image),
    },
    "max": {
        "ops": lambda image, value: ops.clip(image, value),
        "accessor": lambda image, value: image.pxprep.clip(value),
        "step": lambda image, value: Pipeline([Clip(value)]).fit_transform(image),
    },
    "cofactor": {
        "ops": lambda image, value: ops.arcsinh(image, value),
        "accessor": lambda image, value: image.pxprep.arcsinh(value),
        "step": lambda image, value: Pipeline([Arcsinh(value)]).fit_transform(image),
    },
    "radius": {
        "ops": lambda image, value: ops.subtract_background(image, value),
        "accessor": lambda image, value: image.pxprep.subtract_background(value),
        "step": lambda image, value: Pipeline().subtract_background(value).fit(image),
    },
    "constant": {
        "ops": lambda image, value: ops.subtract_background(image, constant=value),
        "accessor": lambda image, value: image.pxprep.subtract_background(constant=value),
        "step": lambda image, value: Pipeline([SubtractBackground(None, value)]).fit(image),
    },
    "low": {
        "ops": lambda image, value: ops.percentile_clip(image, value),
        "accessor": lambda image, value: image.pxprep.percentile_clip(value),
        "step": lambda image, value: Pipeline().percentile_clip(value).fit(image),
    },
    "high": {
        "ops": lambda image, value: ops.percentile_clip(image, 0, value),
        "accessor": lambda image, value: image.pxprep.percentile_clip(0, value),
        "step": lambda image, value: Pipeline([PercentileClip(0, value)]).fit(image),
    },
    "cap_max": {
        "preprocess": lambda image, value: image.pxprep.preprocess(cap_max=value),
    },
    "q_sum": {
        "ops": lambda image, value: ops.sum_mask(image, value),
        "accessor": lambda image, value: image.pxprep.sum_mask(value),
        "preprocess": lambda image, value: image.pxprep.preprocess(q_sum=value),
        "step": lambda image, value: Pipeline([SumMask(value)]).fit_transform(image),
    },
    "threshold": {
        "ops": lambda image, value: ops.sum_mask(image, threshold=value),
        "accessor": lambda image, value: image.pxprep.sum_mask(threshold=value),
        "step": lambda image, value: Pipeline([SumMask(threshold=value)]).fit_transform(image),
    },
    "zeros": {
        "ops": lambda image, value: ops.sum_mask(image, zeros=value),
        "quantile": lambda image, value: ops.quantile(image, zeros=value),
        "accessor": lambda image, value: image.pxprep.sum_mask(zeros=value),
        "step": lambda image, value: Pipeline([SumMask(zeros=value)]).fit_transform(image),
        "clip": lambda image, value: ops.percentile_clip(image, zeros=value),
        "clip step": lambda image, value: Pipeline().percentile_clip(zeros=value).fit(image),
    },
    "norm_sum": {
        "preprocess": lambda image, value: image.pxprep.preprocess(norm_sum=value),
    },
    "channels": {
        "preprocess": lambda image, value: image.pxprep.preprocess(channels=value),
    },
    "factors": {
        "ops": lambda image, value: ops.coarsen(image, value),
    },
    "scale": {
        "ops": lambda image, value: ops.divide(image, value),
    },
}

NO_NUMBER = [
    (np.nan, ParameterError, "nan"),
    (np.inf, ParameterError, "inf"),
    ("99", ParameterError, "'99'"),
    (True, ParameterError, "True"),
    (np.True_, ParameterError, "True"),
    (2 + 1j, ParameterError, "(2+1j)"),
    (b"99", ParameterError, "b'99'"),
    (np.timedelta64(99, "s"), ParameterError, "timedelta64(99,'s')"),
    (np.array(99, "m8[ns]"), ParameterError, "timedelta64(99,'ns')"),
    (np.ma.masked, ParameterError, "got masked"),
]
LAZY_NUMBER = [(xr.DataArray(da.ones(())), ParameterError, "lazy DataArray: float(array) computes")]
NO_PERCENT = [
    (150, ParameterError, "from 0 to 100, got 150"),
    (-5, ParameterError, "from 0 to 100, got -5"),
    (100.00001, ParameterError, "100.00001"),
    (-np.inf, ParameterError, "-inf"),
]
PER_CHANNEL = [
    ([99], ParameterError, "3 channels, got 1 values"),
    ((99, 99, 99, 99), ParameterError, "3 channels, got 4 values"),
    (np.array([99.0, 98]), ParameterError, "3 channels, got 2 values"),
    ([], ParameterError, "got 0 values"),
    ([99, "x", 99], ParameterError, "[1] must be", "'x'"),
    ([99, None, 99], ParameterError, "[1] must be", "None"),
    (np.ma.masked_equal([99, 0, 98], 0), ParameterError, "[1] must be", "got masked"),
    ([[99, 99, 99]], ParameterError, "[0] must be", "[99, 99, 99]"),
    (np.full((1, 3), 99.0), ParameterError, "must be", "99."),
    ({99}, ParameterError, "{99}"),
    ({}, ParameterError, "{}", "at least one channel"),
    ({"DAPI": 99}, ChannelError, "missing 'CD3', 'CD20'"),
    ({"DAPI": 99, "CD3": "x", ...: 99}, ParameterError, "['CD3'] must be", "'x'"),
    ({"DAPI": 99, ...: np.nan}, ParameterError, "[...] must be", "nan"),
    ({"cd3": 99, ...: 99}, ChannelError, "'cd3'", "did you mean 'CD3'?"),
    ({"CD21": 99, "Dapi": 9, ...: 99}, ChannelError, "'CD21', 'Dapi'", "mean 'CD20', 'DAPI'?"),
    ({"unknown": 99}, ChannelError, "no channel 'unknown'", "'DAPI', 'CD3', 'CD20'"),
    ({0: 99, ...: 99}, ChannelError, "no channel 0"),
]
FRACTIONS = [
    (0.99, ParameterError, "did you mean 99?", "0.99"),
    (0.999, ParameterError, "did you mean 99.9?", "0.999"),
    (1, ParameterError, "did you mean 100?"),
    (1e-9, ParameterError, "1e-09"),
    ([99, 0.5, 99], ParameterError, "[1] must be", "did you mean 50?"),
    ({"CD3": 0.5, ...: 99}, ParameterError, "['CD3'] must be", "did you mean 50?"),
]
BAD_VALUES = {
    "q": NO_NUMBER + NO_PERCENT + PER_CHANNEL + FRACTIONS,
    "q_post": NO_NUMBER + NO_PERCENT + PER_CHANNEL + FRACTIONS,
    "sigma": [*NO_NUMBER, *LAZY_NUMBER, *PER_CHANNEL, (-1, ParameterError, "0 to 10000, got -1")],
    "max": NO_NUMBER + PER_CHANNEL,
    "cap_max": NO_NUMBER + PER_CHANNEL,
    "cofactor": [
        *NO_NUMBER,
        *PER_CHANNEL,
        (0, ParameterError, "above 0, got 0"),
        ([1, -2, 1], ParameterError, "[1] must be", "above 0, got -2"),
    ],
    "radius": [
        *NO_NUMBER,
        *PER_CHANNEL,
        (2.5, ParameterError, "whole number of pixels from 0 to 1000, got 2.5"),
        (1001, ParameterError, "got 1001"),
        ([1, -2, 1], ParameterError, "[1] must be", "got -2"),
        ({"CD3": 1.5, ...: 1}, ParameterError, "['CD3'] must be", "got 1.5"),
        (None, ParameterError, "constant", "only one, got radius=None and constant=None"),
    ],
    "constant": [
        *NO_NUMBER,
        *PER_CHANNEL,
        ({"CD3": -1, ...: 1}, ParameterError, "['CD3'] must be", "at least 0, got -1"),
        (None, ParameterError, "radius", "only one, got radius=None and constant=None"),
    ],
    "low": [
        *NO_NUMBER,
        *NO_PERCENT,
        *PER_CHANNEL,
        (99, ParameterError, "below high", "channel 'DAPI' has low=99 and high=99"),
        ({"CD3": 99.5, ...: 1}, ParameterError, "below high", ": channel 'CD3' has low=99.5"),
    ],
    "high": [
        *NO_NUMBER,
        *NO_PERCENT,
        *PER_CHANNEL,
        *FRACTIONS,
        (0, ParameterError, "channel 'CD20' has low=0 and high=0"),
    ],
    "q_sum": [
        *NO_NUMBER,
        *NO_PERCENT,
        (101, ParameterError, "got 101"),
        ([5], ParameterError, "[5]"),
        ({"CD3": 5}, ParameterError, "CD3"),
    ],
    "threshold": [*NO_NUMBER, ([1], ParameterError, "[1]")],
    "zeros": [
        (value, ParameterError, "'exclude', 'include'", repr(value))
        for value in ("maybe", True, None, ["include"])
    ],
    "norm_sum": [(value, ParameterError, repr(value)) for value in ("yes", 1, None, [True])],
    "channels": [
        ("CD3", ParameterError, "did you mean ['CD3']?"),
        ([], ParameterError, "at least one"),
        (3, ParameterError, "got 3"),
        (np.array("CD3"), ParameterError, "did you mean ['CD3']?"),
        ({"CD3"}, ParameterError, "{'CD3'}"),
        (["CD3", "DAPI", "CD3"], ChannelError, "'CD3' more than once"),
        (["cd3", "nope"], ChannelError, "'cd3', 'nope'", "did you mean 'CD3'?", "'CD20'"),
        ([0], ChannelError, "no channel 0"),
        ([("CD3", ["DAPI"])], ParameterError, "labels, got [('CD3', ['DAPI'])]"),
    ],
    "factors": [
        ({"y": 0}, ParameterError, "['y']", "0"),
        ({"y": 2.5}, ParameterError, "['y']", "2.5"),
        ({"y": True}, ParameterError, "['y']", "True"),
        ({"c": 2}, ParameterError, "'c'"),
        ({"y": 24}, ParameterError, "'y'", "24", "23"),
        ({"time": 2}, ParameterError, "'time'"),
    ],
    "scale": [
        (xr.DataArray(2.0), ParameterError, "()"),
        (xr.DataArray([2.0, 3.0], dims="c"), ParameterError, "'c': 3", "(c: 2)"),
        (xr.DataArray([2.0, 3.0, 4.0], dims="x"), ParameterError, "(x: 3)"),
        *(
            (xr.DataArray([2.0, wrong, 4.0], dims="c"), ParameterError, f"[2.0, {wrong}, 4.0]")
            for wrong in (0.0, np.nan, np.inf)
        ),
    ],
}
WAYS = [(parameter, way) for parameter in BAD_VALUES for way in CALLS[parameter]]
# None leaves out a step of `preprocess`, and is an error elsewhere.
NOT_NONE = [
    (parameter, way) for parameter in ("q", "q_post", "q_sum", "max") for way in CALLS[parameter]
]


def raised(function, image, no_compute):
    """The error that `function` raises, of an eager image and, without computing, of a lazy one."""
    errors = []
    for given in (image, image.chunk() if isinstance(image, xr.DataArray) else image):
        with no_compute(), pytest.raises(PxprepError) as caught:
            function(given)
        errors.append(caught.value)
    eager, lazy = errors
    assert (type(eager), str(eager)) == (type(lazy), str(lazy))
    return eager


def check(error, kind, parameter, *words):
    assert type(error) is kind
    assert isinstance(error, ValueError)
    message = str(error)
    assert re.search(rf"\b{parameter}\b", message), message
    for word in words:
        assert word in message, message


def refused(function, parameter, cases, image, no_compute):
    for value, kind, *words in cases:
        error = raised(lambda image, value=value: function(image, value), image, no_compute)
        check(error, kind, parameter, *words)


@pytest.mark.parametrize("parameter", BAD_VALUES)
def test_bad_values(parameter, make_image, no_compute):
    function, *_ = CALLS[parameter].values()
    refused(function, parameter, BAD_VALUES[parameter], make_image("uint16"), no_compute)


@pytest.mark.parametrize(("parameter", "way"), WAYS)
def test_bad_values_in_every_way(parameter, way, make_image, no_compute):
    """All ways ask the same: it is enough to see that they ask."""
    one_of_each = {kind: (value, kind, *words) for value, kind, *words in BAD_VALUES[parameter]}
    function = CALLS[parameter][way]
    refused(function, parameter, one_of_each.values(), make_image("uint16"), no_compute)


@pytest.mark.parametrize(("parameter", "way"), NOT_NONE)
def test_none(parameter, way, make_image, no_compute):
    image, function = make_image("uint16"), CALLS[parameter][way]
    if way == "preprocess":
        function(image, None)
        return
    error = raised(lambda image: function(image, None), image, no_compute)
    check(error, ParameterError, parameter, "None")


@pytest.mark.parametrize("way", CALLS["q_sum"])
@pytest.mark.parametrize("q_sum", [0.05, 1])
def test_a_fraction_for_q_sum_warns_and_is_obeyed(q_sum, way, make_image, no_compute):
    image = make_image("uint16", chunks=-1)
    with no_compute(), pytest.warns(PxprepWarning, match=rf"q_sum .*{q_sum}.*fraction") as record:
        result = CALLS["q_sum"][way](image, q_sum)
    assert len(record) == 1
    assert result.count() > CALLS["q_sum"][way](image, 50).count()


@pytest.mark.parametrize("way", CALLS["q_sum"])
def test_warnings_point_at_the_caller(way, make_image):
    with pytest.warns(PxprepWarning) as record:
        CALLS["q_sum"][way](make_image("uint16"), 0.05)
    assert record[0].filename == __file__


def test_labels_that_are_positions(make_image, no_compute):
    image = make_image(labeled=False)
    error = raised(lambda image: ops.quantile_norm(image, {3: 99, ...: 98}), image, no_compute)
    check(error, ChannelError, "q", "no channel 3", "0, 1, 2")
    error = raised(lambda image: ops.blur(image, {"CD3": 1, ...: 2}), image, no_compute)
    check(error, ChannelError, "sigma", "'CD3'", "0, 1, 2")
    error = raised(lambda image: image.pxprep.preprocess(channels=[0, 5]), image, no_compute)
    check(error, ChannelError, "channels", "no channel 5")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("sigma", 1e300),
        ("channels", [["CD3"]]),
        ("scale", 2.0),
        ("threshold", xr.DataArray([1.0, 2.0, 3.0], dims="c")),
        ("threshold", xr.DataArray(np.nan)),
    ],
)
def test_values_of_a_wrong_kind(parameter, value, make_image):
    for function in CALLS[parameter].values():
        with pytest.raises(PxprepError, match=rf"\b{parameter}\b"):
            function(make_image("uint16", (3, 23, 4)), value)


# Images

STEPS = {
    "quantile_norm": ops.quantile_norm,
    "post_norm": ops.post_norm,
    "blur": ops.blur,
    "sum_mask": ops.sum_mask,
    "sum_norm": ops.sum_norm,
    "clip": lambda image: ops.clip(image, 1),
    "arcsinh": ops.arcsinh,
    "log1p": ops.log1p,
    "remove_hot_pixels": lambda image: ops.remove_hot_pixels(image, 1),
    "subtract_background": lambda image: ops.subtract_background(image, 1),
    "subtract_channels": lambda image: ops.subtract_channels(image, {1: 0}),
    "compensate": lambda image: ops.compensate(image, {1: {0: 0.5}}),
    "percentile_clip": ops.percentile_clip,
    "minmax": ops.minmax,
    "robust_zscore": ops.robust_zscore,
    "zscore": ops.zscore,
    "median": ops.median,
    "threshold": lambda image: ops.threshold(image, 3),
    "divide": lambda image: ops.divide(image, xr.DataArray([1.0, 2.0, 3.0], dims="c")),
    "quantile": ops.quantile,
    "pixel_sum": ops.pixel_sum,
    "coarsen": lambda image: ops.coarsen(image, {"x": 1}),
    "rescale": lambda image: ops.rescale(image, 1),
    "fit": lambda image: Pipeline.sparrow().fit(image),
    "fit_transform": Pipeline.sparrow().fit_transform,
    "preprocess": lambda image: image.pxprep.preprocess(),
}
FUNCTIONS = {name: step for name, step in STEPS.items() if name not in ("preprocess", "fit")}


def image_of(values, dims=("c", "y", "x"), **coords):
    return xr.DataArray(values, dims=dims, coords=coords)


BAD_IMAGES = {
    "no c": (image_of(np.ones((4, 5)), ("y", "x")), ImageError, "lacks c", "('y', 'x')"),
    "no y": (image_of(np.ones((3, 5)), ("c", "x")), ImageError, "lacks y"),
    "no x, y": (image_of(np.ones((3, 5)), ("c", "z")), ImageError, "lacks y, x"),
    "other names": (image_of(np.ones((3, 4, 5)), ("C", "Y", "X")), ImageError, "lacks c, y, x"),
    "time": (image_of(np.ones((2, 3, 4, 5)), ("t", "c", "y", "x")), ImageError, "['t']"),
    "no channels": (image_of(np.ones((0, 4, 5))), ImageError, "at least one", "'c': 0"),
    "no rows": (image_of(np.ones((3, 0, 5))), ImageError, "at least one", "'y': 0"),
    "no columns": (image_of(np.ones((3, 4, 0))), ImageError, "at least one", "'x': 0"),
    "complex": (image_of(np.ones((3, 4, 5), complex)), ImageError, "complex128"),
    "object": (image_of(np.ones((3, 4, 5), object)), ImageError, "object"),
    "string": (image_of(np.full((3, 4, 5), "a")), ImageError, "<U1"),
    "bytes": (image_of(np.full((3, 4, 5), b"a")), ImageError, "|S1"),
    "datetime": (image_of(np.zeros((3, 4, 5), "M8[ns]")), ImageError, "datetime64[ns]"),
    "timedelta": (image_of(np.zeros((3, 4, 5), "m8[ns]")), ImageError, "timedelta64[ns]"),
    "long double": (image_of(np.ones((3, 4, 5), np.longdouble)), ImageError, "float128"),
}
if np.dtype(np.longdouble).itemsize == 8:  # Windows, macOS on ARM
    del BAD_IMAGES["long double"]

NO_DATAARRAYS = {
    "array": np.ones((3, 4, 5)),
    "Dask array": da.ones((3, 4, 5)),
    "masked array": np.ma.ones((3, 4, 5)),
    "list": [[[1.0]]],
    "path": "image.tif",
    "None": None,
}


@pytest.mark.parametrize("step", STEPS)
def test_bad_images(step, no_compute):
    for image, kind, *words in BAD_IMAGES.values():
        check(raised(STEPS[step], image, no_compute), kind, "image", *words)


def test_bad_references(make_image, no_compute):
    for reference, kind, *words in BAD_IMAGES.values():
        error = raised(
            lambda reference: ops.sum_mask(make_image(), 5, reference), reference, no_compute
        )
        check(error, kind, "reference", *words)


@pytest.mark.parametrize("step", FUNCTIONS)
def test_what_is_no_dataarray(step, no_compute):
    for value in NO_DATAARRAYS.values():
        error = raised(FUNCTIONS[step], value, no_compute)
        check(error, ImageError, "image", "xarray.DataArray", type(value).__qualname__)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("library", [np, da])
def test_masked_arrays_inside(library, step, no_compute):
    """xarray takes masks for NaN today; this is what it may not have looked at."""
    masked = library.ma.masked_less(library.ones((3, 4, 5)), 0)
    image = xr.DataArray(xr.Variable(("c", "y", "x"), masked, fastpath=True))
    with no_compute(), pytest.raises(ImageError, match=r"image .*NumPy array.* got .*MaskedArray"):
        STEPS[step](image)


@pytest.mark.parametrize("step", STEPS)
def test_unknown_shapes(step, no_compute):
    rows = da.ones((3, 4, 5), chunks=(3, 2, 5))[:, da.ones(4, chunks=2) > 0]
    with no_compute(), pytest.raises(ImageError, match=r"image .*must have a known shape"):
        STEPS[step](image_of(rows))


def test_the_reference_of_one_image_is_one_image(make_image, no_compute):
    image = make_image()
    error = raised(lambda reference: ops.sum_mask(image, 5, reference), [image], no_compute)
    check(error, ImageError, "reference", "must be one image", "a cohort of [0]")


def test_references_with_other_channels(make_image, no_compute):
    image, reference = make_image(), make_image().assign_coords(c=["DAPI", "cd3", "CD8"])
    error = raised(lambda reference: ops.sum_mask(image, 5, reference), reference, no_compute)
    check(error, ChannelError, "reference", "missing 'CD3', 'CD20'", "unknown 'cd3', 'CD8'")
    assert "did you mean 'CD3'" in str(error)
    for reference in (make_image(labeled=False), make_image(shape=(2, 5, 5))):
        error = raised(lambda reference: ops.sum_mask(image, 5, reference), reference, no_compute)
        check(error, ChannelError, "reference", "missing")


def test_a_bad_step_stops_a_chain_before_it_starts(make_image, no_compute):
    """Steps are checked against the channels before the first of them measures anything."""
    pipeline = Pipeline().quantile_norm(99).blur(2).post_norm({"CD4": 99, ...: 98})
    for run in (pipeline.fit, pipeline.fit_transform):
        check(raised(run, make_image(), no_compute), ChannelError, "q_post", "'CD4'")


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "at least 0, got -1"), (np.nan, "nan"), ([1, -2, 1], "[1] must be"), (None, "None")],
)
def test_the_threshold_of_hot_pixels_is_not_negative(make_image, value, words, no_compute):
    image = make_image("uint16")
    for function in (
        lambda image: ops.remove_hot_pixels(image, value),
        lambda image: image.pxprep.remove_hot_pixels(value),
        lambda image: Pipeline([RemoveHotPixels(value)]).fit_transform(image),
    ):
        check(raised(function, image, no_compute), ParameterError, "threshold", words)
