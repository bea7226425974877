"""The wrapper on SpatialData objects, in memory and on disk: what it makes of which parameters."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("spatialdata")

import spatialdata
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

from pxprep import Pipeline, PxprepWarning, pixel_clustering_preprocess, provenance
from pxprep.errors import LayerError, ParameterError
from pxprep.layers import read_images
from spatial_objects import LABELS, backed, cells, counts, labeled, layer, make, scales
from stores import files


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    return make() if request.param == "memory" else backed(tmp_path)


# --- the main job ---------------------------------------------------------------------------------


def test_one_layer(sdata):
    returned = pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert returned is sdata
    clean = sdata["clean"]
    assert isinstance(clean.data, da.Array)
    assert clean.chunks == sdata["fov0"].chunks
    assert clean.c.values.tolist() == LABELS
    assert get_transformation(clean, get_all=True) == get_transformation(
        sdata["fov0"], get_all=True
    )
    expected = labeled(counts(0)).pxprep.preprocess()
    assert clean.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(clean.values, expected.values)
    np.testing.assert_array_equal(sdata["fov0"].values, counts(0))
    if sdata.path is not None:
        again = spatialdata.read_zarr(sdata.path)
        np.testing.assert_array_equal(again["clean"].values, expected.values)
        assert again["clean"].c.values.tolist() == LABELS
        assert get_transformation(again["clean"], get_all=True) == get_transformation(
            clean, get_all=True
        )
        assert not (sdata.path / ".pxprep").exists()
        assert not list(sdata.path.rglob("*.pxprep*"))


def test_several_layers_are_one_cohort(sdata):
    pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["clean0", "clean1"], q=98, sigma=1)
    fovs = {"fov0": labeled(counts(0)), "fov1": labeled(counts(1, (4, 50, 40)))}
    fitted = Pipeline.sparrow(q=98, sigma=1).fit(fovs)
    for fov, clean in (("fov0", "clean0"), ("fov1", "clean1")):
        np.testing.assert_array_equal(sdata[clean].values, fitted.transform(fovs[fov]).values)
    alone = fovs["fov1"].pxprep.preprocess(q=98, sigma=1)
    assert not np.array_equal(sdata["clean1"].values, alone.values, equal_nan=True)


def test_pooled_pixels(sdata):
    pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["clean0", "clean1"], pool="pixels")
    fovs = [labeled(counts(0)), labeled(counts(1, (4, 50, 40)))]
    fitted = Pipeline.sparrow().fit(fovs, pool="pixels")
    np.testing.assert_array_equal(sdata["clean1"].values, fitted.transform(fovs[1]).values)


def test_parameters_reach_the_steps(sdata):
    parameters = {"q": {"CD3": 90, ...: 99}, "q_sum": 20, "q_post": 95, "sigma": [0, 1, 2, 3]}
    pixel_clustering_preprocess(
        sdata, "fov0", "clean", norm_sum=False, cap_max=1, pool="pixels", **parameters
    )
    expected = labeled(counts(0)).pxprep.preprocess(norm_sum=False, cap_max=1, **parameters)
    np.testing.assert_array_equal(sdata["clean"].values, expected.values)


def test_steps_can_be_left_out(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "clean", q_sum=None, sigma=None, q_post=None)
    expected = labeled(counts(0)).pxprep.quantile_norm(99).pxprep.sum_norm()
    np.testing.assert_array_equal(sdata["clean"].values, expected.values)


def test_channels_are_chosen_by_label_in_their_order(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "clean", channels=["CD20", "DAPI"])
    expected = labeled(counts(0)).sel(c=["CD20", "DAPI"]).pxprep.preprocess()
    np.testing.assert_array_equal(sdata["clean"].values, expected.values)
    assert sdata["clean"].c.values.tolist() == ["CD20", "DAPI"]


@pytest.mark.parametrize("kind", [iter, np.array, pd.Index, lambda names: xr.DataArray(names)])
def test_channels_of_any_kind_are_kept_as_labels(kind, sdata):
    names, new = ["fov0", "fov1"], ["clean0", "clean1"]
    pixel_clustering_preprocess(sdata, names, new, channels=kind(["CD20", "DAPI"]))
    assert [sdata[name].c.values.tolist() for name in new] == [["CD20", "DAPI"]] * 2
    assert provenance(sdata, "clean1").parameters["channels"] == ["CD20", "DAPI"]


def test_dtype(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "clean", dtype="float64")
    expected = labeled(counts(0).astype(np.float64)).pxprep.preprocess()
    assert sdata["clean"].dtype == np.float64
    np.testing.assert_array_equal(sdata["clean"].values, expected.values)


def test_own_pipeline_and_fitted_pipeline(sdata):
    pipeline = Pipeline().quantile_norm(95).blur(1)
    pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=pipeline)
    image = labeled(counts(0))
    np.testing.assert_array_equal(sdata["clean"].values, pipeline.fit_transform(image).values)
    fitted = pipeline.fit(labeled(counts(9)))
    pixel_clustering_preprocess(sdata, "fov0", "refit", pipeline=fitted)
    np.testing.assert_array_equal(sdata["refit"].values, fitted.transform(image).values)


def test_attrs_are_kept_in_memory():
    sdata = make()
    sdata["fov0"].attrs["stain"] = "panel 3"
    pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert sdata["clean"].attrs["stain"] == "panel 3"
    pixel_clustering_preprocess(sdata, "fov0", "coarse", scale_factors=[2])
    assert sdata["coarse"]["scale0"]["image"].attrs["stain"] == "panel 3"
    assert get_transformation(sdata["coarse"], get_all=True) == get_transformation(
        sdata["fov0"], get_all=True
    )


def test_coarser_scales_have_pixel_sizes_of_their_own():
    sdata = make()
    for level, scale in enumerate(scales(sdata["pyramid"])):
        scale.attrs["um_per_pixel"] = 0.5 * 2**level
    pixel_clustering_preprocess(sdata, "pyramid", "clean")
    assert [scale.attrs["um_per_pixel"] for scale in scales(sdata["clean"])] == [0.5, 1, 2]
    pixel_clustering_preprocess(sdata, "pyramid", "coarse", scale_factors=[3])
    assert [scale.attrs["um_per_pixel"] for scale in scales(sdata["coarse"])] == [0.5, 1.5]


def test_dtype_without_steps(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=Pipeline(), dtype="float32")
    assert sdata["clean"].dtype == np.float32
    np.testing.assert_array_equal(sdata["clean"].values, counts(0))


def test_other_elements_are_not_touched(tmp_path):
    sdata = backed(tmp_path)
    before = files(sdata.path)
    pixel_clustering_preprocess(sdata, "fov0", "clean")
    after = files(sdata.path)
    changed = {path for path in before if after[path] != before[path]}
    assert changed <= {sdata.path / "zarr.json"}  # the consolidated metadata of the whole
    added = {path.relative_to(sdata.path).parts[:2] for path in set(after) - set(before)}
    assert added == {("images", "clean")}


def test_store_without_images(tmp_path):
    store = tmp_path / "labels.zarr"
    spatialdata.SpatialData(labels={"cells": cells()}).write(store)
    sdata = spatialdata.read_zarr(store)
    sdata.images["fov0"] = layer(counts(0))
    pixel_clustering_preprocess(sdata, "fov0", "clean")
    again = spatialdata.read_zarr(store)
    assert sorted(again.images) == ["clean"]
    np.testing.assert_array_equal(
        again["clean"].values, labeled(counts(0)).pxprep.preprocess().values
    )


def test_fovs_with_channels_in_another_order(sdata):
    sdata["fov1"].values  # noqa: B018 - readable before
    shuffled = sdata["fov1"].isel(c=[3, 1, 0, 2])
    sdata.images["other"] = Image2DModel.parse(
        shuffled.data, dims=("c", "y", "x"), c_coords=shuffled.c.values.tolist()
    )
    pixel_clustering_preprocess(sdata, ["fov0", "other"], ["a", "b"])
    pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["c", "d"])
    xr.testing.assert_equal(sdata["b"].compute(), sdata["d"].compute())
    xr.testing.assert_equal(sdata["a"].compute(), sdata["c"].compute())


def test_silent_channel(sdata):
    array = counts(0)
    array[2] = 0
    sdata.images["silent"] = layer(array)
    with pytest.warns(PxprepWarning, match="'CD20'") as record:
        pixel_clustering_preprocess(sdata, "silent", "clean")
    assert len([w for w in record if w.category is PxprepWarning]) == 1
    values = sdata["clean"].values
    kept = np.isfinite(values[0])
    assert kept.mean() > 0.9
    assert (values[2][kept] == 0).all()
    assert values[0][kept].max() > 0.5


def test_progress_names_each_pass(sdata, capsys):
    pixel_clustering_preprocess(sdata, "fov0", "clean", progress=True)
    err = capsys.readouterr().err
    assert "measure post_norm: 100%" in err
    assert ("write clean: 100%" in err) == (sdata.path is not None)


def test_read_images(sdata):
    images = read_images(sdata, ["fov0", "pyramid"], channels=["CD3"], dtype="float64")
    assert list(images) == ["fov0", "pyramid"]
    assert images["pyramid"].shape == (1, 96, 130)
    assert all(image.dtype == np.float64 for image in images.values())
    assert all(isinstance(image.data, da.Array) for image in images.values())
    both = read_images(sdata, iter(images), channels=iter(["CD3"]))
    assert [image.shape[0] for image in both.values()] == [1, 1]
    assert read_images(sdata, "fov0", dtype="float32")["fov0"].dtype == np.float32
    assert read_images(sdata, "fov0")["fov0"].dtype == np.uint16
    with pytest.raises(ParameterError, match=r"^layers must be the name of a layer or a sequence"):
        read_images(sdata, 3)
    with pytest.raises(LayerError, match=r"^layers 'fov9' does not exist"):
        read_images(sdata, "fov9")


# --- memory and codecs ----------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, "1 MB", None])
def test_memory_changes_no_bit(memory):
    sdata = make()
    pixel_clustering_preprocess(sdata, "fov0", "clean", memory=memory)
    expected = Pipeline.sparrow().fit_transform(read_images(sdata, "fov0")["fov0"])
    xr.testing.assert_equal(sdata["clean"].compute(), expected.compute())


def test_compressor(tmp_path, sdata):
    from inspect import signature

    from spatialdata import SpatialData

    path = tmp_path / "study.zarr"
    sdata.write(path)
    if "raster_compressor" not in signature(SpatialData.write).parameters:
        with pytest.raises(ParameterError, match=r"compressor needs spatialdata 0\.8"):
            pixel_clustering_preprocess(sdata, "fov0", "clean", compressor={"lz4": 1})
        return
    import zarr

    for codec in ("lz4", "zstd"):
        pixel_clustering_preprocess(sdata, "fov0", codec, compressor={codec: 1})
        (array,) = [item for _, item in zarr.open_group(path / "images" / codec, mode="r").arrays()]
        assert codec in str(array.compressors).lower()
    np.testing.assert_array_equal(sdata["lz4"].values, sdata["zstd"].values)
