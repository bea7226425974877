"""Layers in batches: in the wrapper, resumed, with known numbers."""

import pytest

pytest.importorskip("spatialdata")

import numpy as np

import pxprep
from pxprep import Pipeline
from pxprep.errors import ImageError, LayerError, ParameterError
from pxprep.layers.plan import plan_layers
from stores import files, make_study

BATCHES = {"fov0": "May", "fov1": "June", "fov2": "May"}
NEW = ["new0", "new1", "new2"]
STEPS = Pipeline().quantile_norm(95).blur(1).sum_mask(20).post_norm(99)


def clean(sdata, layers=tuple(BATCHES), new=tuple(NEW), **how):
    return pxprep.pixel_clustering_preprocess(
        sdata, list(layers), list(new), **{"pipeline": STEPS, **how}
    )


def assert_made(sdata, fitted):
    images = {name: sdata[name] for name in BATCHES}
    for name, made in fitted.transform(images).items():
        np.testing.assert_array_equal(sdata[name.replace("fov", "new")], made)


@pytest.mark.parametrize("pool", ["mean", "pixels"])
def test_each_batch_is_measured_alone(pool, tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), by=BATCHES, pool=pool)
    for batch in ("May", "June"):
        images = {name: sdata[name] for name in BATCHES if BATCHES[name] == batch}
        for name, made in STEPS.fit(images, pool=pool).transform(images).items():
            np.testing.assert_array_equal(sdata[name.replace("fov", "new")], made)
    record = pxprep.provenance(sdata, "new1")
    assert record.fitted().batches == BATCHES
    assert record.parameters["by"] == BATCHES


def test_resume_compares_batches(tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), by=BATCHES, resume=True)
    before = files(sdata.path)
    clean(sdata, by=BATCHES, resume=True)
    assert files(sdata.path) == before
    for by in (None, {**BATCHES, "fov2": "June"}):
        with pytest.raises(LayerError, match=r"of another run.*other by"):
            clean(sdata, by=by, resume=True)


def test_the_rest_of_an_interrupted_run_has_its_batches(tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), by=BATCHES, resume=True)
    fitted = pxprep.provenance(sdata, "new1").fitted()
    del sdata["new1"]
    sdata.delete_element_from_disk("new1")
    clean(sdata, by=BATCHES, resume=True)
    assert_made(sdata, fitted)


def test_known_numbers_for_new_layers(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    known = {name: sdata[name] for name in ("fov0", "fov1")}
    fitted = STEPS.fit(known, by={name: BATCHES[name] for name in known})
    clean(sdata, pipeline=fitted, by={"fov2": "May"})
    np.testing.assert_array_equal(sdata["new2"], fitted.transform(sdata["fov2"], by="May"))
    np.testing.assert_array_equal(sdata["new1"], fitted.transform(known)["fov1"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"by": {**BATCHES, "fov3": "May"}}, r"by must name images .* got 'fov3' \(did you mean"),
        ({"by": {"fov0": "May"}}, "by must give each image a batch, got none for 'fov1', 'fov2'"),
        ({"by": BATCHES, "pool": None}, "with pool=None each is measured by itself"),
        ({"by": "May"}, "by must be a mapping"),
        ({"by": 0}, "by must be a level above all images"),
        ({"by": BATCHES, "exclude": "fov1"}, "leave at least one image of each batch to measure"),
    ],
)
def test_bad_batches_are_refused_before_work(how, message, tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    with no_compute(), pytest.raises(ParameterError, match=message):
        clean(sdata, **how)
    with no_compute(), pytest.raises(ParameterError, match=message):
        plan_layers(sdata, list(BATCHES), NEW, **{"pipeline": STEPS, **how})


def test_layers_without_numbers_of_their_own(tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    fitted = STEPS.fit({name: sdata[name] for name in ("fov0", "fov1")}, pool=None)
    for make in (pxprep.pixel_clustering_preprocess, plan_layers):
        with no_compute(), pytest.raises(ImageError, match=r"that was fitted, .* got 'fov2'"):
            make(sdata, list(BATCHES), NEW, pipeline=fitted)


def test_layers_without_a_known_batch(tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    known = {name: sdata[name] for name in ("fov0", "fov1")}
    fitted = STEPS.fit(known, by={name: BATCHES[name] for name in known})
    with no_compute(), pytest.raises(ParameterError, match="got none for 'fov2'"):
        clean(sdata, pipeline=fitted)
    with no_compute(), pytest.raises(ParameterError, match="a batch that was fitted, got 'Mai'"):
        clean(sdata, pipeline=fitted, by={"fov2": "Mai"})
