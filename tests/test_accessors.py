import gc
import inspect
import re
import weakref

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pxprep import Pipeline, ops, pixel_table
from pxprep.accessors import Accessor
from pxprep.errors import ParameterError
from pxprep.steps import Blur

ARGUMENTS = {
    "quantile_norm": (98,),
    "blur": (1.5,),
    "sum_mask": (10,),
    "sum_norm": (),
    "post_norm": (99,),
    "clip": (3,),
    "arcsinh": (2,),
    "log1p": (),
    "remove_hot_pixels": (1.5,),
    "subtract_background": (2,),
    "subtract_channels": ({"b": "a"}, 0.5),
    "compensate": ({"a": {"b": 0.1}}, "linear"),
    "percentile_clip": (3, 95),
    "minmax": (),
    "robust_zscore": (),
    "zscore": (),
    "median": (5,),
    "threshold": (3,),
    "quantile": (42,),
    "pixel_sum": (),
    "divide": (xr.DataArray([2.0, 3.0], dims="c"),),
    "keep_where": (xr.DataArray(np.eye(9, 12, dtype=bool), dims=("y", "x")),),
    "coarsen": ({"y": 2},),
    "rescale": (2,),
}


@pytest.fixture
def image():
    counts = np.random.default_rng(0).poisson(4, (2, 9, 12))
    return xr.DataArray(counts, dims=("c", "y", "x"), coords={"c": ["a", "b"]}, name="fov")


@pytest.mark.parametrize("name", ops.__all__)
def test_pixels_are_freed_with_the_image(image, name):
    # At once, and not when Python collects garbage: or a chain would hold all that it made. In a
    # first call, Numba may compile, which may leave garbage of its own.
    getattr(image.astype(np.float32).pxprep, name)(*ARGUMENTS[name])
    gc.disable()
    try:
        made = image.astype(np.float32).copy()
        pixels = weakref.ref(made.data)
        after = getattr(made.pxprep, name)(*ARGUMENTS[name])
        del made
        assert pixels() is None
        assert after.size
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ops.__all__)
def test_method_is_the_function(image, name):
    method, function = getattr(image.pxprep, name), getattr(ops, name)
    xr.testing.assert_identical(method(*ARGUMENTS[name]), function(image, *ARGUMENTS[name]))
    _, *parameters = inspect.signature(function).parameters.values()
    assert list(inspect.signature(method).parameters.values()) == parameters
    # The whole docstring, and not a word of where to find it.
    own, whole = (inspect.cleandoc(one.__doc__).split("\n\n") for one in (method, function))
    assert own[0] == whole[0]
    for parameter in parameters:
        assert re.search(
            rf"^(\w+, )*{parameter.name}(, \w+)*\n    \S", inspect.getdoc(method), re.M
        )


def test_every_public_method_is_tested():
    methods = {name for name in dir(Accessor) if not name.startswith("_")}
    assert methods == {*ops.__all__, "preprocess", "fit", "transform", "pixel_table", "plot"}


def test_fit_shows_progress(image, capsys):
    pytest.importorskip("tqdm")
    image.chunk().pxprep.fit(Pipeline.sparrow(), progress=True)
    assert "measure quantile_norm" in capsys.readouterr().err


def test_fit_and_transform(image):
    pipeline = Pipeline.sparrow()
    fitted = image.pxprep.fit(pipeline)
    assert fitted == pipeline.fit(image)
    xr.testing.assert_identical(image.pxprep.transform(fitted), fitted.transform(image))
    for method, odd, message in (
        ("fit", Blur(2), r"fit takes a Pipeline, got Blur\(.*put steps into one"),
        ("fit", fitted, "fit takes a Pipeline, got a FittedPipeline: transform takes it"),
        ("fit", "sparrow", "fit takes a Pipeline, got 'sparrow'$"),
        ("transform", pipeline, "transform takes a FittedPipeline, got a Pipeline: fit takes it"),
        ("transform", Blur(2), r"transform takes a FittedPipeline, got Blur\("),
    ):
        with pytest.raises(ParameterError, match=message):
            getattr(image.pxprep, method)(odd)


def test_pixel_table(image):
    labels = image.isel(c=0, drop=True)
    how = {"fraction": 0.7, "seed": 3, "labels": labels, "drop_background": True, "channels": ["b"]}
    pd.testing.assert_frame_equal(image.pxprep.pixel_table(**how), pixel_table(image, **how))
    given, own = (
        {name: each.default for name, each in inspect.signature(function).parameters.items()}
        for function in (pixel_table, image.pxprep.pixel_table)
    )
    assert own == {name: given[name] for name in given if name not in ("images", "img_layer")}
    with pytest.raises(ParameterError, match="'parquet', got 'csv'"):
        image.pxprep.pixel_table(to="csv")
    with pytest.raises(ParameterError, match="overwrite must be"):
        image.pxprep.pixel_table(overwrite=3)
    with pytest.raises(ParameterError, match="file needs"):
        image.pxprep.pixel_table(file="pixels")
    with pytest.raises(ParameterError, match="variable names the image"):
        image.pxprep.pixel_table(variable="image")


@pytest.mark.parametrize("chunks", [None, {"y": 10}], ids=["NumPy", "Dask"])
def test_results_do_not_say_how_the_image_was_stored(chunks, make_image):
    """Else xarray would store floats as the integers that the image was stored as."""
    image = make_image("uint16", chunks=chunks)
    image.encoding = {"dtype": "uint16", "chunksizes": (1, 5, 5)}
    result = image.pxprep.blur(1)
    assert result.encoding == {}
    assert image.encoding["dtype"] == "uint16"
    result.attrs["um_per_pixel"] = 7
    assert image.attrs["um_per_pixel"] == 0.5
