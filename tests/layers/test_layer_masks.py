"""Masks in the wrapper: labels layers and arrays, in memory and on disk."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")

import dask.array as da
import spatialdata
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel, Labels3DModel
from spatialdata.transformations import (
    Identity,
    Scale,
    Sequence,
    Translation,
    set_transformation,
)

import pxprep
from oracle import plain
from pxprep import Mask, Pipeline
from pxprep.errors import LayerError, ParameterError
from stores import files, store_of

CHANNELS = ["CD3", "CD20"]
SIZES = {"fov0": (48, 40), "fov1": (40, 56), "fov2": (48, 40)}
STEPS = Pipeline().quantile_norm(95).blur(1).sum_mask(20).post_norm(99)


def pixels(name):
    seed = int(name[-1])
    return np.random.default_rng(seed).poisson(20, (2, *SIZES[name])).astype(np.uint16)


def regions(name):
    """Labels 0, 1, 2 and 5 in squares of 8 pixels."""
    height, width = SIZES[name]
    coarse = np.random.default_rng(int(name[-1]) + 7).choice(
        [0, 1, 2, 5], (height // 8, width // 8)
    )
    return np.kron(coarse, np.ones((8, 8), int))


def image_layer(name, scale_factors=None):
    return Image2DModel.parse(
        da.from_array(pixels(name), chunks=(2, 16, 20)),
        dims=("c", "y", "x"),
        c_coords=CHANNELS,
        chunks=(2, 16, 20),
        scale_factors=scale_factors,
    )


def make():
    labels = {
        f"regions{name[-1]}": Labels2DModel.parse(
            da.from_array(regions(name), chunks=(24, 24)),
            dims=("y", "x"),
            scale_factors=[2, 2] if name == "fov2" else None,
        )
        for name in SIZES
    }
    images = {name: image_layer(name, [2] if name == "fov2" else None) for name in SIZES}
    return spatialdata.SpatialData(images=images, labels=labels)


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    return make() if request.param == "memory" else backed(tmp_path)


def backed(folder):
    return store_of(folder / "study.zarr", make)


def clean(sdata, names=("fov0", "fov1"), outputs=None, **more):
    names = list(names)
    outputs = [f"{name}_clean" for name in names] if outputs is None else outputs
    more = {"pipeline": STEPS, **more}
    pxprep.pixel_clustering_preprocess(sdata, names, outputs, **more)
    return {name: finest(sdata[output]).values for name, output in zip(names, outputs, strict=True)}


def finest(element):
    return element if isinstance(element, xr.DataArray) else element["scale0"]["image"]


def image(name):
    return xr.DataArray(pixels(name), dims=("c", "y", "x"), coords={"c": CHANNELS})


def inside(name, chosen=None):
    labels = xr.DataArray(regions(name), dims=("y", "x"))
    return labels > 0 if chosen is None else labels.isin(chosen)


def expected(masks, steps=STEPS):
    fovs = {name: image(name) for name in masks}
    return {name: plain(fov) for name, fov in steps.fit(fovs, where=masks).transform(fovs).items()}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


# --- what may be given ----------------------------------------------------------------------------


def test_the_name_of_a_labels_layer(sdata):
    (found,) = clean(sdata, ["fov0"], where="regions0").values()
    wanted = expected({"fov0": inside("fov0")})
    assert_same({"fov0": found}, wanted)
    assert not np.array_equal(found, clean(sdata, ["fov0"], ["all"])["fov0"], equal_nan=True)


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        (["regions0", "regions1"], {"fov0": None, "fov1": None}),
        ({"fov1": "regions1", "fov0": Mask("regions0", 2)}, {"fov0": [2], "fov1": None}),
        ([Mask("regions0", [1, 5]), ~Mask("regions1", 2)], {"fov0": [1, 5], "fov1": [0, 1, 5]}),
        ([~Mask("regions0"), None], {"fov0": [0], "fov1": [0, 1, 2, 5]}),
    ],
    ids=["names", "mapping", "masks", "none"],
)
def test_a_mask_for_each_layer(sdata, where, chosen):
    masks = {name: inside(name, labels) for name, labels in chosen.items()}
    assert_same(clean(sdata, where=where), expected(masks))


@pytest.mark.parametrize("keep_outside", [True, False])
def test_multiscale_images_and_labels_at_the_finest_scale(sdata, keep_outside):
    where = "regions2" if keep_outside else sdata["regions2"]
    found = clean(sdata, ["fov2"], where=where, keep_outside=keep_outside)
    wanted = expected({"fov2": inside("fov2")})["fov2"]
    outside = ~inside("fov2").values
    assert np.isfinite(wanted[:, outside]).any()
    if not keep_outside:
        wanted[:, outside] = np.nan
    np.testing.assert_array_equal(found["fov2"], wanted)
    coarser = sdata["fov2_clean"]["scale1"]["image"].values
    blocks = wanted.reshape(2, 24, 2, 20, 2)
    empty = np.isnan(blocks).all(axis=(2, 4))
    np.testing.assert_array_equal(np.isnan(coarser), empty)
    np.testing.assert_allclose(
        coarser[~empty], np.nanmean(blocks.transpose(0, 1, 3, 2, 4)[~empty], axis=(1, 2)), rtol=1e-6
    )


def test_arrays(sdata):
    masks = {name: inside(name) for name in ("fov0", "fov1")}
    wanted = expected(masks)
    assert_same(clean(sdata, where=masks), wanted)
    assert_same(clean(sdata, outputs=["a", "b"], where=list(masks.values())), wanted)
    lazy = [sdata["regions0"] > 0, sdata["regions1"]]
    assert_same(clean(sdata, outputs=["c", "d"], where=lazy), wanted)


def test_volumes(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.poisson(20, (2, 3, 20, 24)).astype(np.uint16)
    cells = rng.integers(0, 3, (3, 20, 24))
    sdata = spatialdata.SpatialData(
        images={"v": Image3DModel.parse(values, dims="czyx", c_coords=CHANNELS)},
        labels={
            "cells": Labels3DModel.parse(cells, dims=("z", "y", "x")),
            "flat": Labels2DModel.parse(cells[0], dims=("y", "x")),
        },
    )
    sdata.write(tmp_path / "v.zarr")
    volume = xr.DataArray(values, dims=tuple("czyx"), coords={"c": CHANNELS})
    for name, mask in (
        ("cells", xr.DataArray(cells, dims=tuple("zyx"))),
        ("flat", xr.DataArray(cells[0], dims=tuple("yx"))),
    ):
        (found,) = clean(sdata, ["v"], [f"by_{name}"], where=name).values()
        np.testing.assert_array_equal(found, plain(STEPS.fit(volume, where=mask).transform(volume)))


def test_a_fitted_pipeline_measures_nothing_but_keeps_what_is_inside(sdata):
    fitted = STEPS.fit({name: image(name) for name in ("fov0", "fov1")})
    found = clean(sdata, ["fov0"], pipeline=fitted, where="regions0", keep_outside=False)
    wanted = fitted.transform(image("fov0")).where(inside("fov0"))
    np.testing.assert_array_equal(found["fov0"], wanted)
    with pytest.raises(ParameterError, match="a FittedPipeline measures nothing"):
        clean(sdata, ["fov0"], ["x"], pipeline=fitted, where="regions0")
    with pytest.raises(ParameterError, match="pool says how layers are measured, and a Fitted"):
        clean(sdata, ["fov0"], ["x"], pipeline=fitted, pool="pixels")


# --- what is kept of it ---------------------------------------------------------------------------


def test_provenance_knows_the_mask(sdata):
    clean(sdata, where=[~Mask("regions0", [2, 1]), inside("fov1")], keep_outside=False)
    made = pxprep.provenance(sdata, "fov0_clean")
    assert made.parameters["where"] == {
        "fov0": {"source": "regions0", "labels": [2, 1], "inverted": True},
        "fov1": {
            "source": "array of bool {'y': 40, 'x': 56}",
            "labels": "nonzero",
            "inverted": False,
        },
    }
    assert made.parameters["keep_outside"] is False
    clean(sdata, ["fov0"], ["all"])
    assert "where" not in pxprep.provenance(sdata, "all").parameters


def interrupted(sdata, monkeypatch, **call):
    """The second of two layers is not written."""
    write = spatialdata.SpatialData.write
    written = []

    def stopping(self, path, **kwargs):
        if written:
            raise InterruptedError
        written.append(path)
        write(self, path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(spatialdata.SpatialData, "write", stopping)
        with pytest.raises(InterruptedError):
            clean(sdata, resume=True, **call)


def test_resume_goes_on_with_the_same_mask(tmp_path, monkeypatch):
    sdata = backed(tmp_path)
    where = [Mask("regions0", [1, 2]), inside("fov1")]
    interrupted(sdata, monkeypatch, where=where, keep_outside=False)
    again = spatialdata.read_zarr(sdata.path)
    monkeypatch.setattr(Pipeline, "fit", None)  # the numbers are those of before
    found = clean(again, where=where, keep_outside=False, resume=True)
    monkeypatch.undo()
    masks = {"fov0": inside("fov0", [1, 2]), "fov1": inside("fov1")}
    wanted = expected(masks)
    for name, mask in masks.items():
        wanted[name][:, ~mask.values] = np.nan
    assert_same(found, wanted)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"where": None, "keep_outside": True}, "other keep_outside, where"),
        ({"where": ["regions0", Mask("regions1", 1)]}, "other where"),
        ({"where": ["regions0", "other1"]}, "other where"),
        ({"where": ["regions0", ~Mask("regions1")]}, "other where"),
        ({"keep_outside": True}, "other keep_outside"),
    ],
    ids=["none", "labels", "layer", "inverted", "keep"],
)
def test_resume_refuses_another_mask(change, why, tmp_path, monkeypatch, no_compute):
    sdata = backed(tmp_path)
    sdata.labels["other1"] = sdata.labels["regions1"]
    call = {"where": ["regions0", "regions1"], "keep_outside": False}
    interrupted(sdata, monkeypatch, **call)
    before = files(sdata.path)
    with no_compute(), pytest.raises(LayerError, match=f"of another run.*{why}"):
        clean(sdata, resume=True, **{**call, **change})
    assert files(sdata.path) == before


@pytest.mark.parametrize("kind", ["layer", "array"])
def test_resume_refuses_a_mask_with_other_pixels(kind, tmp_path, monkeypatch):
    sdata = backed(tmp_path)
    arrays = [inside("fov0"), inside("fov1")]
    where = ["regions0", "regions1"] if kind == "layer" else arrays
    interrupted(sdata, monkeypatch, where=where)
    if kind == "layer":
        sdata.labels["regions1"].data = sdata.labels["regions1"].data * 0
    else:
        where = [arrays[0], ~arrays[1]]
    with pytest.raises(LayerError, match=r"its source \['where of fov1'\] was another"):
        clean(sdata, where=where, resume=True)


# --- what is refused ------------------------------------------------------------------------------


BAD = {
    "unknown": ("region0", LayerError, r"'region0' does not exist \(did you mean 'regions0'"),
    "image": ("fov1", LayerError, "'fov1' must be labels, but it is one of the images"),
    "size": ("regions1", ParameterError, "sizes of the image, {'y': 48, 'x': 40}, got {'y': 40"),
    "too many": (["regions0"] * 2, ParameterError, "for each of 1 images, got 2"),
    "other layer": ({"fov1": "regions1"}, ParameterError, "missing 'fov0', unknown 'fov1'"),
    "number": (3, ParameterError, r"where must be a mask .* got builtins\.int"),
    "float": (inside("fov0") * 1.0, ParameterError, "got dtype float64: compare it"),
    "labels": (Mask(inside("fov0").astype(int), 9), ParameterError, "no pixel has"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_masks_leave_the_store_as_it_was(bad, tmp_path, no_compute):
    where, error, message = BAD[bad]
    sdata = backed(tmp_path)
    before = files(sdata.path)
    with no_compute(), pytest.raises(error, match=message):
        clean(sdata, ["fov0"], where=where)
    with pytest.raises(ParameterError, match="keep_outside=False needs a mask"):
        clean(sdata, ["fov0"], keep_outside=False)
    with pytest.raises(ParameterError, match="keep_outside must be True or False"):
        clean(sdata, ["fov0"], where="regions0", keep_outside=1)
    assert files(sdata.path) == before


def test_labels_that_lie_elsewhere(sdata):
    shifted = {"global": Scale([2, 2], ("y", "x"))}
    set_transformation(sdata["regions0"], shifted, set_all=True)
    with pytest.raises(LayerError, match="labels 'regions0' lie elsewhere than image 'fov0' in"):
        clean(sdata, ["fov0"], where="regions0")
    clean(sdata, ["fov0"], where=sdata["regions0"])
    same = {"global": Sequence([Identity(), Scale([1, 1], ("y", "x"))]), "other": Identity()}
    set_transformation(sdata["regions0"], same, set_all=True)
    clean(sdata, ["fov0"], ["again"], where="regions0")


@pytest.mark.parametrize("moved", [Translation([5], ("z",)), Scale([3], ("z",))])
def test_labels_in_other_planes(moved):
    image = Image3DModel.parse(np.ones((1, 3, 8, 8)), dims=tuple("czyx"))
    labels = {
        "volume": Labels3DModel.parse(np.ones((3, 8, 8), int), dims=tuple("zyx")),
        "flat": Labels2DModel.parse(np.ones((8, 8), int), dims=tuple("yx")),
    }
    sdata = spatialdata.SpatialData(images={"fov": image}, labels=labels)
    set_transformation(sdata["volume"], moved)
    with pytest.raises(LayerError, match="labels 'volume' lie elsewhere"):
        clean(sdata, ["fov"], where="volume", pipeline=Pipeline())
    set_transformation(sdata["fov"], moved)
    clean(sdata, ["fov"], where="volume", pipeline=Pipeline())
    clean(sdata, ["fov"], ["flat_clean"], where="flat", pipeline=Pipeline())


@pytest.mark.parametrize("unit", [1, 1e-9])
def test_how_far_labels_lie_elsewhere_is_counted_in_pixels(sdata, unit):
    """Far from the origin, and in small units, a few pixels are a small part of the numbers."""
    far, axes = 1e6, ("y", "x")
    for pixels_off in (0, 0.01, 2):
        for name, start in (("fov0", far), ("regions0", far + pixels_off)):
            moved = [Translation([start, start], axes), Scale([unit, unit], axes)]
            set_transformation(sdata[name], Sequence(moved))
        if pixels_off > 1:
            with pytest.raises(LayerError, match="labels 'regions0' lie elsewhere"):
                clean(sdata, ["fov0"], ["no"], where="regions0")
        else:
            clean(sdata, ["fov0"], [f"clean{pixels_off}"], where="regions0")


def test_the_page_on_masks_runs():
    page = (Path(__file__).parents[2] / "docs" / "where.md").read_text()
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(snippet, "where.md", "exec"), names)
    inside = names["inside"]
    fovs = names["fovs"]
    np.testing.assert_array_equal(names["scales"], fovs["fov0"].where(inside).pxprep.quantile(99))
    for result in ("seen", "unseen"):
        assert np.isnan(names[result].where(~inside)).all()
    assert not names["seen"].equals(names["unseen"])
    kept = np.isfinite(names["sdata"]["clean1"].values).any(axis=0)
    assert not (kept & ~names["masks"]["fov1"].values).any()
