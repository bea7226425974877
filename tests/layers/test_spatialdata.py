import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")

import spatialdata
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel
from spatialdata.transformations import Affine, Scale, get_transformation

from pxprep import Pipeline, PxprepError, PxprepWarning, pixel_clustering_preprocess
from pxprep.errors import ChannelError, LayerError, ParameterError, StoreError
from pxprep.layers import read_images
from pxprep.steps import QuantileNorm

LABELS = ["DAPI", "CD3", "CD20", "panCK"]
SHIFT = Affine([[1, 0, 7], [0, 1, -3], [0, 0, 1]], ("x", "y"), ("x", "y"))


def counts(seed, shape=(4, 61, 83)):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.7, 6, shape)).astype(np.uint16)


def labeled(array, dims="cyx"):
    return xr.DataArray(array, dims=tuple(dims), coords={"c": LABELS})


def layer(array, model=Image2DModel, chunks=(1, 32, 48), **kwargs):
    dims = tuple("czyx" if array.ndim == 4 else "cyx")
    if array.ndim == 4:
        chunks = (2, 2, 20, 32)
    return model.parse(
        da.from_array(array, chunks=chunks), dims=dims, c_coords=LABELS, chunks=chunks, **kwargs
    )


def cells():
    return Labels2DModel.parse(np.arange(61 * 83).reshape(61, 83) % 7, dims=("y", "x"))


def make():
    """Two FOVs, a multiscale one, a volume and labels."""
    return spatialdata.SpatialData(
        images={
            "fov0": layer(counts(0), transformations={"global": SHIFT, "mm": Scale([2, 2], "yx")}),
            "fov1": layer(counts(1, (4, 50, 40))),
            "pyramid": layer(counts(2, (4, 96, 130)), scale_factors=[2, 2]),
            "volume": layer(counts(3, (4, 3, 30, 41)), Image3DModel),
        },
        labels={"cells": cells()},
    )


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    return make() if request.param == "memory" else backed(make(), tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A backed object for tests that change nothing."""
    return backed(make(), tmp_path_factory.mktemp("untouched"))


def backed(sdata, folder):
    path = folder / "a störe.zarr"
    sdata.write(path)
    return spatialdata.read_zarr(path)


def scales(element):
    if isinstance(element, xr.DataArray):
        return [element]
    return [element[name]["image"] for name in element.children]


def files(path):
    """Every file below a store and its bytes, so that any change shows."""
    return {p: p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}


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


def test_what_was_written_is_read_again_before_it_is_published(tmp_path, monkeypatch):
    sdata = backed(make(), tmp_path)
    before = files(sdata.path)
    write = spatialdata.SpatialData.write

    def write_halves(self, path, **kwargs):
        half = self.images["clean"].astype(np.float16, keep_attrs=True)
        write(spatialdata.SpatialData(images={"clean": half}), path, **kwargs)

    monkeypatch.setattr(spatialdata.SpatialData, "write", write_halves)
    with pytest.raises(StoreError, match="not written as it should be"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert files(sdata.path) == before


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


def test_volume(sdata):
    pixel_clustering_preprocess(sdata, "volume", "clean")
    clean = sdata["clean"]
    assert clean.dims == ("c", "z", "y", "x")
    assert clean.chunks == sdata["volume"].chunks
    expected = labeled(counts(3, (4, 3, 30, 41)), "czyx").pxprep.preprocess()
    np.testing.assert_array_equal(clean.values, expected.values)


def test_pyramid_keeps_its_scales(sdata):
    # Without a blur the mask leaves holes, and the mean of means is not the mean.
    pixel_clustering_preprocess(sdata, "pyramid", "clean", sigma=None)
    expected = labeled(counts(2, (4, 96, 130))).pxprep.preprocess(sigma=None).values
    before, after = scales(sdata["pyramid"]), scales(sdata["clean"])
    np.testing.assert_array_equal(after[0].values, expected)
    for level, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (old.shape, old.chunks) == (new.shape, new.chunks)
        xr.testing.assert_equal(old.coords.to_dataset(), new.coords.to_dataset())
        factor = 2**level
        blocks = expected[:, :96, : 130 // factor * factor].astype(np.float64)
        blocks = blocks.reshape(4, 96 // factor, factor, -1, factor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing but NaN
            mean = np.nanmean(blocks, axis=(2, 4))
        np.testing.assert_allclose(new.values, mean, rtol=1e-6)
    assert get_transformation(sdata["clean"]) == get_transformation(sdata["pyramid"])


@pytest.mark.parametrize(
    ("scale_factors", "sizes"),
    [
        ([], [(61, 83)]),
        ([2, 3], [(61, 83), (30, 41), (10, 13)]),
        ([{"y": 2, "x": 4}], [(61, 83), (30, 20)]),
    ],
)
def test_scale_factors(sdata, scale_factors, sizes):
    pixel_clustering_preprocess(sdata, "fov0", "clean", scale_factors=scale_factors)
    assert [scale.shape[1:] for scale in scales(sdata["clean"])] == sizes


def test_volume_scales_as_asked(sdata):
    factors = [{"y": 2, "x": 2}]
    pixel_clustering_preprocess(sdata, "volume", "clean", scale_factors=factors)
    assert scales(sdata["clean"])[1].shape == (4, 3, 15, 20)
    pixel_clustering_preprocess(sdata, "clean", "again", q_sum=None)
    assert scales(sdata["again"])[1].shape == (4, 3, 15, 20)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (25, ((1,) * 4, (25, 25, 11), (25, 25, 25, 8))),
        ((4, 61, 40), ((4,), (61,), (40, 40, 3))),
        ({"c": -1, "x": -1}, ((4,), (32, 29), (83,))),
    ],
)
def test_chunks(sdata, chunks, expected):
    pixel_clustering_preprocess(sdata, "fov0", "clean", chunks=chunks)
    assert sdata["clean"].chunks == expected
    np.testing.assert_array_equal(
        sdata["clean"].values, labeled(counts(0)).pxprep.preprocess().values
    )


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


def test_overwrite_of_another_layer_and_of_the_input(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "fov1", overwrite=True)
    first = labeled(counts(0)).pxprep.preprocess()
    np.testing.assert_array_equal(sdata["fov1"].values, first.values)
    pixel_clustering_preprocess(sdata, "fov0", "fov0", overwrite=True, scale_factors=[2])
    np.testing.assert_array_equal(scales(sdata["fov0"])[0].values, first.values)
    if sdata.path is not None:
        again = spatialdata.read_zarr(sdata.path)
        np.testing.assert_array_equal(scales(again["fov0"])[0].values, first.values)
        np.testing.assert_array_equal(again["fov1"].values, first.values)
        assert sorted(again.images) == ["fov0", "fov1", "pyramid", "volume"]


def test_layer_that_others_are_computed_from_is_not_replaced(tmp_path, no_compute):
    sdata = backed(make(), tmp_path)
    double = sdata["fov0"].data * 2
    sdata.images["double"] = Image2DModel.parse(double, dims=("c", "y", "x"), c_coords=LABELS)
    with no_compute(), pytest.raises(LayerError, match=r"'fov0' cannot be replaced: \['double'\]"):
        pixel_clustering_preprocess(sdata, "fov1", "fov0", overwrite=True)
    pixel_clustering_preprocess(sdata, "fov0", "fov1", overwrite=True)
    pixel_clustering_preprocess(sdata, "double", "double", overwrite=True)
    np.testing.assert_array_equal(spatialdata.read_zarr(sdata.path)["fov0"].values, counts(0))


def test_store_that_cannot_be_consolidated_is_left_as_it_was(tmp_path):
    sdata = backed(make(), tmp_path)
    (sdata.path / "images" / "volume" / "zarr.json").write_text("{broken")
    before = files(sdata.path)
    with pytest.raises(StoreError, match="nothing was changed"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert files(sdata.path) == before
    assert "clean" not in sdata


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


def test_dtype_without_steps(sdata):
    pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=Pipeline(), dtype="float32")
    assert sdata["clean"].dtype == np.float32
    np.testing.assert_array_equal(sdata["clean"].values, counts(0))


@pytest.mark.parametrize("shape", [(4, 11, 11), (4, 25, 47), (4, 101, 97)])
@pytest.mark.parametrize("factors", [[2], [4], [3, 2]])
def test_odd_pyramids_keep_their_sizes(shape, factors):
    pyramid = layer(counts(5, shape), scale_factors=factors)
    sdata = spatialdata.SpatialData(images={"pyramid": pyramid})
    pixel_clustering_preprocess(sdata, "pyramid", "clean", q_sum=None)
    assert [scale.shape for scale in scales(sdata["clean"])] == [
        scale.shape for scale in scales(pyramid)
    ]


def test_one_factor_is_found_for_all_dimensions():
    """5 pixels become 1 by a factor of 3, 4 or 5; 47 become 11 by 4 alone."""
    pyramid = layer(counts(5, (4, 5, 47)), scale_factors=[4])
    sdata = spatialdata.SpatialData(images={"pyramid": pyramid})
    pixel_clustering_preprocess(sdata, "pyramid", "clean", q_sum=None)
    finest, coarse = scales(sdata["clean"])
    expected = finest.values[:, :4, :44].astype(float).reshape(4, 1, 4, 11, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse.values, expected, rtol=1e-6)


def test_other_elements_are_not_touched(tmp_path):
    sdata = backed(make(), tmp_path)
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


def test_zarr_v2_store(tmp_path):
    from spatialdata._io.format import SpatialDataContainerFormatV01

    store = tmp_path / "old.zarr"
    sdata = spatialdata.SpatialData(images={"fov0": layer(counts(0))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what SpatialData says of its old format
        sdata.write(store, sdata_formats=SpatialDataContainerFormatV01())
        sdata = spatialdata.read_zarr(store)
        pixel_clustering_preprocess(sdata, "fov0", "clean")
        again = spatialdata.read_zarr(store)
    assert (store / "images" / "clean" / ".zattrs").exists()
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


# --- bad input: refused before any work, and nothing changes --------------------------------------

BAD = [
    ({"img_layer": "fov"}, LayerError, "img_layer 'fov' does not exist.*'fov[01]'"),
    ({"img_layer": "cells"}, LayerError, "img_layer 'cells' must be an image.*labels"),
    ({"img_layer": []}, ParameterError, r"img_layer.*\[\]"),
    ({"img_layer": 3}, ParameterError, "img_layer.*3"),
    ({"img_layer": ["fov0", "fov0"], "output_layer": ["a", "b"]}, ParameterError, "img_layer"),
    ({"img_layer": ["fov0", "fov1"]}, ParameterError, "output_layer.*1 for 2"),
    (
        {"img_layer": ["fov0", "fov1"], "output_layer": ["a", "A"]},
        ParameterError,
        "output_layer.*'a', 'A'",
    ),
    ({"output_layer": "fov1"}, LayerError, "output_layer 'fov1' exists.*overwrite"),
    ({"output_layer": "fov0"}, LayerError, "output_layer 'fov0' exists"),
    ({"output_layer": "FOV1"}, LayerError, "output_layer 'FOV1'.*case.*'fov1'"),
    ({"output_layer": "cells", "overwrite": True}, LayerError, "'cells'.*labels"),
    ({"output_layer": "a/b"}, LayerError, "output_layer.*'a/b'"),
    ({"output_layer": "a b"}, LayerError, "output_layer.*'a b'"),
    ({"output_layer": ""}, LayerError, "output_layer.*''"),
    ({"output_layer": ".hidden"}, LayerError, "output_layer.*'.hidden'"),
    ({"output_layer": "__x"}, LayerError, "output_layer.*'__x'"),
    ({"output_layer": "zarr.json"}, LayerError, "output_layer.*'zarr.json'"),
    ({"output_layer": None}, ParameterError, "output_layer.*None"),
    ({"channels": ["CD4"]}, ChannelError, "'fov0'.*'CD4'.*did you mean 'CD"),
    ({"channels": ["CD3", "CD3"]}, ChannelError, "channels.*'CD3'"),
    ({"channels": []}, ParameterError, "channels"),
    ({"channels": "CD3"}, ParameterError, r"channels.*did you mean \['CD3'\]"),
    ({"q": 0.99}, ParameterError, "q must.*0.99; did you mean 99"),
    ({"q": 101}, ParameterError, "q must.*101"),
    ({"q": [99, 98]}, ParameterError, "q must have one value per channel.*4 channels.*2"),
    ({"q_post": {"CD4": 99, ...: 98}}, ChannelError, "q_post.*'CD4'"),
    ({"q_sum": -1}, ParameterError, "q_sum.*-1"),
    ({"sigma": -2}, ParameterError, "sigma.*-2"),
    ({"sigma": {"CD3": 1}}, ChannelError, "sigma.*'DAPI'"),
    ({"norm_sum": "no"}, ParameterError, "norm_sum.*'no'"),
    ({"overwrite": "yes"}, ParameterError, "overwrite.*'yes'"),
    ({"cap_max": "1"}, ParameterError, "cap_max.*'1'"),
    ({"cap_max": [1, 2]}, ParameterError, "4 channels"),
    ({"dtype": "int8"}, ParameterError, "dtype.*'int8'"),
    ({"dtype": "nonsense"}, ParameterError, "dtype.*'nonsense'"),
    ({"pool": "max"}, ParameterError, "pool.*'max'"),
    ({"chunks": 0}, ParameterError, "chunks.*0"),
    ({"chunks": -5}, ParameterError, "chunks.*-5"),
    ({"chunks": "foo"}, ParameterError, "chunks.*'foo'"),
    ({"chunks": (1, 2)}, ParameterError, "chunks"),
    ({"chunks": {"z": 1}}, ParameterError, "chunks.*z"),
    ({"chunks": 2.5}, ParameterError, "chunks.*2.5"),
    ({"scale_factors": 2}, ParameterError, "scale_factors.*2"),
    ({"scale_factors": [0]}, ParameterError, "scale_factors.*0"),
    ({"scale_factors": [2.5]}, ParameterError, "scale_factors.*2.5"),
    ({"scale_factors": "2"}, ParameterError, "scale_factors.*'2'"),
    ({"scale_factors": [{"c": 2}]}, ParameterError, "scale_factors.*c"),
    ({"scale_factors": [8, 8]}, ParameterError, "scale_factors.*at least one pixel"),
    ({"pipeline": 3}, ParameterError, "pipeline.*3"),
    ({"pipeline": Pipeline(), "q": 98}, ParameterError, "pipeline.*q"),
    ({"pipeline": Pipeline([QuantileNorm({"CD4": 9})])}, ChannelError, "'CD4'"),
    ({"progress": "loud"}, ParameterError, "progress.*'loud'"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_input(untouched, change, kind, message, no_compute):
    before = files(untouched.path)
    elements = {name: element for _, name, element in untouched.gen_elements()}
    arguments = {"img_layer": "fov0", "output_layer": "clean", **change}
    with no_compute(), pytest.raises(kind, match=f"(?s){message}"):
        pixel_clustering_preprocess(untouched, **arguments)
    assert [name for _, name, _ in untouched.gen_elements()] == list(elements)
    assert all(untouched[name] is element for name, element in elements.items())
    assert files(untouched.path) == before


def test_not_a_spatialdata_object():
    with pytest.raises(ParameterError, match="sdata"):
        pixel_clustering_preprocess({"fov0": 1}, "fov0", "clean")


def test_fitted_pipeline_with_other_channels(untouched, no_compute):
    fitted = Pipeline.sparrow().fit(labeled(counts(0)).sel(c=["CD3", "CD20"]))
    with no_compute(), pytest.raises(ChannelError, match=r"'fov0'.*unknown 'DAPI', 'panCK'"):
        pixel_clustering_preprocess(untouched, "fov0", "clean", pipeline=fitted)


def test_layer_on_disk_that_the_object_does_not_know(tmp_path, no_compute):
    sdata = backed(spatialdata.SpatialData(images={"fov0": layer(counts(0))}), tmp_path)
    other = spatialdata.read_zarr(sdata.path)
    pixel_clustering_preprocess(other, "fov0", "clean")
    with no_compute(), pytest.raises(LayerError, match="'clean' exists"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")


# --- what fails leaves nothing --------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk on fire"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [False, True])
def test_failing_task_leaves_the_store_as_it_was(tmp_path, error, overwrite):
    sdata = backed(spatialdata.SpatialData(images={"fov0": layer(counts(0))}), tmp_path)
    before = files(sdata.path)
    calls = []

    def fails_when_written(block):
        calls.append(block.shape)
        if block.size and block[0, 0, 0] == marked:
            raise error
        return block

    image = labeled(counts(0)).astype(np.float32)
    marked = image.values[0, 32, 48] = 12345.0
    sdata.images["bad"] = layer(image.values)
    fitted = Pipeline([QuantileNorm(99)]).fit(image)
    sdata.images["bad"].data = sdata.images["bad"].data.map_blocks(
        fails_when_written, dtype=np.float32
    )
    output = "fov0" if overwrite else "clean"
    with pytest.raises(type(error)):
        pixel_clustering_preprocess(sdata, "bad", output, pipeline=fitted, overwrite=overwrite)
    assert len(calls) > 1
    assert files(sdata.path) == before
    assert "clean" not in sdata
    np.testing.assert_array_equal(spatialdata.read_zarr(sdata.path)["fov0"].values, counts(0))


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_read_only_store(tmp_path):
    """In a process without root's rights, which would write anyway."""
    sdata = backed(spatialdata.SpatialData(images={"fov0": layer(counts(0))}), tmp_path)
    folders = [sdata.path, *(p for p in sdata.path.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    code = (
        "import os, sys, spatialdata, pxprep\n"
        f"sdata = spatialdata.read_zarr({str(sdata.path)!r})\n"
        "if os.getuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "try: pxprep.pixel_clustering_preprocess(sdata, 'fov0', 'clean')\n"
        "except pxprep.errors.StoreError as error: print('refused', error)\n"
    )
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)
    assert "refused the store cannot be written to: no permission" in done.stdout, done.stderr
    assert sorted(p.name for p in (sdata.path / "images").iterdir() if p.is_dir()) == ["fov0"]


def test_remote_store_is_refused():
    class Remote(spatialdata.SpatialData):
        path = "s3://bucket/store.zarr"

    remote = Remote(images={"fov0": layer(counts(0))})
    with pytest.raises(StoreError, match="local"):
        pixel_clustering_preprocess(remote, "fov0", "clean")


def test_errors_are_one_family():
    for kind in (ChannelError, LayerError, ParameterError, StoreError):
        assert issubclass(kind, PxprepError)


# --- memory and codecs ----------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, "1 MB", None])
def test_memory_changes_no_bit(memory, sdata):
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


@pytest.mark.parametrize(
    "compressor",
    ["lz4", {"gzip": 1}, {"lz4": 1, "zstd": 1}, {"lz4": 10}, {"lz4": -1}, {"zstd": 1.5}],
)
def test_bad_compressors(compressor, sdata):
    with pytest.raises(ParameterError, match="compressor"):
        pixel_clustering_preprocess(sdata, "fov0", "clean", compressor=compressor)
