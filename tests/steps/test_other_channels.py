"""Channels from which others are subtracted, by label."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import oracle
from checked_steps import row
from oracle import assert_agrees, assert_same_bits
from pxprep import FittedPipeline, Pipeline, ops
from pxprep.errors import ChannelError, ParameterError
from pxprep.steps import Step, SubtractChannels

TYPES = ("bool", "uint8", "uint16", "int16", "float16", "float32", "float64", ">f4")
EXPOSURES = {"DAPI": 100, "CD3": 150.5, "CD20": 30}
# By label, and by position.
CALLS = [
    (({"CD3": "DAPI"},), ({1: 0},)),
    (({"CD3": "DAPI", "CD20": "DAPI"}, 0.3), ({1: 0, 2: 0}, 0.3)),
    (({"CD20": "DAPI", "DAPI": "CD3"}, {"DAPI": 0, ...: 1.7}), ({2: 0, 0: 1}, {0: 0, ...: 1.7})),
    (({"CD3": "CD20", "CD20": "CD3"}, 0.5), ({1: 2, 2: 1}, 0.5)),
    (
        ({"CD3": "DAPI", "CD20": "CD3"}, 1, EXPOSURES),
        ({1: 0, 2: 1}, 1, dict(enumerate(EXPOSURES.values()))),
    ),
]
calls = pytest.mark.parametrize(("labeled", "placed"), CALLS)


@calls
def test_subtraction_is_the_oracle(labeled, placed, make_image):
    for dtype in TYPES:
        image = make_image(dtype, (3, 11, 7), nan=0.1 if np.dtype(dtype).kind == "f" else 0)
        if np.dtype(dtype).kind == "f":
            image.values[0, 0, 0], image.values[1, 1, 1] = np.inf, -np.inf
        result = ops.subtract_channels(image, *labeled)
        expected = oracle.subtract_channels(image.values, *placed)
        assert_agrees(result, expected)
        moved = image.isel(c=[2, 0, 1])
        assert_same_bits(ops.subtract_channels(moved, *labeled), result.isel(c=[2, 0, 1]))
        assert_same_bits(
            ops.subtract_channels(image.drop_vars("c"), *placed).drop_vars("c", errors="ignore"),
            result.drop_vars("c"),
        )


@calls
def test_subtraction_fuses_with_steps_around_it(labeled, placed, make_image):
    image = make_image("uint16", (3, 2, 23, 17))
    pipeline = Pipeline().quantile_norm(98).subtract_channels(*labeled).blur(1).sum_norm()
    fitted = pipeline.fit(image)
    one = ops.blur(ops.subtract_channels(ops.quantile_norm(image, 98), *labeled), 1)
    assert_same_bits(fitted.transform(image), ops.sum_norm(one))
    chunks = {"c": 1, "y": (1, 20, 2), "x": 5}
    lazy = fitted.transform(image.chunk(chunks))
    assert_same_bits(lazy.compute(scheduler="synchronous"), fitted.transform(image))
    again = FittedPipeline.from_json(fitted.to_json())
    assert_same_bits(again.transform(image.isel(c=[1, 2, 0])), fitted.transform(image))


def test_a_pixel_is_missing_where_one_of_the_two_is():
    image = row([8, 8, np.nan, 8], [1, np.nan, 1, 9], [np.inf, 1, 2, 3], c=["a", "b", "c"])
    result = ops.subtract_channels(image, {"a": "b"}).values[:, 0]
    expected = [[7, np.nan, np.nan, 0], [1, np.nan, 1, 9], [np.inf, 1, 2, 3]]
    np.testing.assert_array_equal(result, expected)


def test_exposures_come_in_any_form():
    image = row([100, 7], [10, 2], c=["a", "b"])
    image = image.assign_coords(exposure=("c", [300, 150.0]))
    expected = [[80, 3]]
    for exposures in (
        {"a": 300, "b": 150, "other": 1},
        pd.Series([150, 300], ["b", "a"]),
        pd.Series([150, 300, np.nan, 1, 2], ["b", "a", "empty", "twice", "twice"]),
        image.exposure,
    ):
        step = SubtractChannels({"a": "b"}, exposures=exposures)
        assert Pipeline([step]).fit_transform(image).values[0].tolist() == expected
        again = Step.from_dict(json.loads(json.dumps(step.to_dict())))
        assert again == step
        assert hash(again) == hash(step)


BAD = {
    "no mapping": ((["CD3", "DAPI"],), ParameterError, "backgrounds must be a mapping"),
    "empty": (({},), ParameterError, r"backgrounds must be a mapping .*got \{\}"),
    "others": (({...: "DAPI"},), ParameterError, "Ellipsis"),
    "list": (({"CD3": ["DAPI"]},), ParameterError, r"'CD3': \['DAPI'\]"),
    "itself": (({"CD3": "CD3"},), ParameterError, "'CD3' for itself"),
    "unknown": (({"cd3": "DAPI"},), ChannelError, "backgrounds.*'cd3' .did you mean 'CD3'"),
    "no background": (({"CD3": "AF"},), ChannelError, "backgrounds: no channel 'AF'"),
    "negative": (({"CD3": "DAPI"}, -1), ParameterError, r"scale must be .*0, got -1"),
    "sequence": (({"CD3": "DAPI"}, [1, 2, 3]), ParameterError, "scale must be a number or a map"),
    "infinite": (({"CD3": "DAPI"}, {"CD3": np.inf}), ParameterError, r"scale\['CD3'\] .*inf"),
    "left out": (
        ({"CD3": "DAPI", "CD20": "DAPI"}, {"CD3": 1}),
        ChannelError,
        "scale: .*missing 'CD20'",
    ),
    "not changed": (
        ({"CD3": "DAPI"}, {"DAPI": 1, ...: 2}),
        ChannelError,
        "scale: .*unknown 'DAPI'",
    ),
    "no exposure": (
        ({"CD3": "DAPI"}, 1, {"CD3": 3}),
        ChannelError,
        "exposures: .*missing 'DAPI'",
    ),
    "negative exposure": (
        ({"CD3": "DAPI"}, 1, {"CD3": 3, "DAPI": -2}),
        ParameterError,
        r"exposures\['DAPI'\] must be a number above 0, got -2",
    ),
    "no exposure time": (
        ({"CD3": "DAPI"}, 1, {"CD3": 3, "DAPI": 0}),
        ParameterError,
        "number above 0",
    ),
    "empty exposure": (
        ({"CD3": "DAPI"}, 1, {"CD3": 3, "DAPI": np.nan}),
        ParameterError,
        r"exposures\['DAPI'\] must be a number above 0, got nan",
    ),
    "one exposure": (({"CD3": "DAPI"}, 1, 5), ParameterError, "exposures must be a mapping"),
    "exposures over another dim": (
        ({"CD3": "DAPI"}, 1, xr.DataArray([3, 7, 9], dims="channel")),
        ParameterError,
        "exposures must be a mapping",
    ),
    "twice": (
        ({"CD3": "DAPI"}, 1, pd.Series([1, 2], ["CD3", "CD3"])),
        ParameterError,
        "exposures must name each channel once",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_subtraction_is_refused_before_work(name, make_image, no_compute):
    arguments, kind, words = BAD[name]
    image = make_image("uint16").chunk()
    for function in (
        lambda: ops.subtract_channels(image, *arguments),
        lambda: Pipeline().subtract_channels(*arguments).fit(image),
    ):
        with no_compute(), pytest.raises(kind, match=words):
            function()
