"""Images in a Dataset: what a method does to it is what it does to the images by name."""

import numpy as np
import pytest
import xarray as xr

import pxprep
from oracle import assert_same_bits
from pxprep import Pipeline, ops
from pxprep.errors import ChannelError, ImageError, ParameterError

CHANNELS = ["DAPI", "CD3", "CD20"]


@pytest.fixture(params=[None, {"c": 1, "y": 8}], ids=["numpy", "dask"])
def dataset(request, make_image):
    images = {f"fov{seed}": make_image("uint16", (3, 20, 12), seed=seed) for seed in range(2)}
    others = {
        "cells": (("y", "x"), np.arange(240).reshape(20, 12) % 3),
        "exposure": ("c", [5, 6, 7]),
        "bounds": ("corner", [1, 2]),
    }
    coords = {"c": CHANNELS, "y": np.arange(20) / 2, "batch": ("c", [0, 0, 1])}
    made = xr.Dataset({**images, **others}, coords=coords, attrs={"study": "first"})
    return made if request.param is None else made.chunk(request.param)


def by_name(dataset):
    return {name: dataset[name] for name in ("fov0", "fov1")}


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_images_of_a_dataset_are_a_cohort(dataset, pool):
    after = dataset.pxprep.preprocess(pool=pool)
    expected = Pipeline.sparrow().fit_transform(by_name(dataset), pool=pool)
    for name, image in expected.items():
        assert_same_bits(after[name], image)
        xr.testing.assert_identical(after[name], image)
    rest = list(by_name(dataset))
    xr.testing.assert_identical(after.drop_vars(rest), dataset.drop_vars(rest))
    fitted = dataset.pxprep.fit(Pipeline.sparrow(), pool=pool)
    assert fitted == Pipeline.sparrow().fit(by_name(dataset), pool=pool)
    xr.testing.assert_identical(dataset.pxprep.transform(fitted), after)


def test_a_variable_is_named(dataset):
    after = pxprep.Cohort(dataset, variable="fov1").quantile_norm().as_given()
    xr.testing.assert_identical(after.fov1, dataset.fov1.pxprep.quantile_norm())
    xr.testing.assert_identical(after.fov0, dataset.fov0)


def test_the_only_image_is_the_one(dataset):
    one = dataset.drop_vars("fov1")
    xr.testing.assert_identical(one.pxprep.blur().fov0, dataset.fov0.pxprep.blur())
    assert Pipeline().quantile_norm().fit(one).fovs == ("fov0",)
    xr.testing.assert_identical(ops.quantile(one), ops.quantile(dataset.fov0))


def test_chosen_channels_are_chosen_of_everything_that_has_them(dataset):
    after = dataset.pxprep.preprocess(channels=["CD20", "DAPI"])
    expected = Pipeline.sparrow().fit_transform(
        {name: image.sel(c=["CD20", "DAPI"]) for name, image in by_name(dataset).items()}
    )
    for name, image in expected.items():
        xr.testing.assert_identical(after[name], image)
    assert after.exposure.values.tolist() == [7, 5]
    assert after.batch.values.tolist() == [1, 0]


def test_channels_keep_the_order_that_they_have(dataset):
    fitted = Pipeline().quantile_norm().fit(dataset)
    turned = dataset.isel(c=[2, 0, 1])
    after = turned.pxprep.transform(fitted)
    xr.testing.assert_identical(after, dataset.pxprep.transform(fitted).isel(c=[2, 0, 1]))


def test_sums_and_smaller_images(dataset):
    sums = dataset.pxprep.pixel_sum()
    np.testing.assert_array_equal(sums.fov1, dataset.fov1.astype("f4").sum("c"))
    assert sums.fov1.dims == ("y", "x")
    with pytest.raises(ImageError, match=r"dataset also holds \['cells'\], which would no longer"):
        dataset.pxprep.coarsen({"y": 2})
    smaller = dataset.drop_vars("cells").pxprep.coarsen({"y": 2})
    assert smaller.sizes["y"] == 10
    assert "y" not in smaller.coords
    expected = dataset.fov0.values.reshape(3, 10, 2, 12).mean(axis=2, dtype="f4")
    np.testing.assert_array_equal(smaller.fov0, expected)


def test_masks_beside_the_images(dataset):
    after = dataset.pxprep.quantile_norm(90, where="cells")
    expected = ops.quantile_norm(by_name(dataset), 90, where=dataset.cells)
    xr.testing.assert_identical(after.fov1, expected["fov1"])
    with pytest.raises(ParameterError, match=r"no variable 'cell' beside image 'fov0'.*'cells'"):
        dataset.pxprep.quantile_norm(where="cell")


def test_datasets_in_a_cohort(dataset):
    each = {name: dataset[[name, "cells"]] for name in by_name(dataset)}
    after = ops.quantile_norm(each)
    expected = ops.quantile_norm(by_name(dataset))
    for name, one in after.items():
        xr.testing.assert_identical(one[name], expected[name])
        xr.testing.assert_identical(one.cells, dataset.cells)
    with pytest.raises(ImageError, match="image 0 must be one image, got 2 in a Dataset"):
        ops.blur([dataset])


def test_errors(dataset):
    with pytest.raises(ImageError, match=r"a variable called 'fov9'; its variables are {'fov0':"):
        pxprep.Cohort(dataset, variable="fov9")
    with pytest.raises(ImageError, match="optionally z; it lacks c"):
        pxprep.Cohort(dataset, variable="cells")
    with pytest.raises(ImageError, match="at least one image, a variable with the dims c, y, x"):
        xr.Dataset().pxprep.blur()
    with pytest.raises(ChannelError, match="no channel 'CD4'"):
        dataset.pxprep.preprocess(channels=["CD4"])
    with pytest.raises(ImageError, match=r"got xarray.core.dataset.Dataset; write image\['fov0'\]"):
        dataset.pxprep.plot.channels()
