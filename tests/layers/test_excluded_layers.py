"""Layers that are not measured: in the wrapper, resumed, in a report."""

import pytest

pytest.importorskip("spatialdata")

import numpy as np

import pxprep
from pages import Page
from pxprep import Pipeline
from pxprep.errors import LayerError, ParameterError
from stores import files, make_study

NAMES = ["fov0", "fov1", "fov2"]
NEW = ["new0", "new1", "new2"]
STEPS = Pipeline().quantile_norm(95).blur(1).sum_mask(20).post_norm(99)


def clean(sdata, **how):
    return pxprep.pixel_clustering_preprocess(sdata, NAMES, NEW, **{"pipeline": STEPS, **how})


@pytest.mark.parametrize("pool", ["mean", "pixels"])
def test_they_get_the_numbers_of_the_others(pool, tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), exclude=["fov1"], pool=pool)
    images = {name: sdata[name] for name in NAMES}
    fitted = STEPS.fit({name: images[name] for name in ("fov0", "fov2")}, pool=pool)
    for name, made in fitted.transform(images).items():
        np.testing.assert_array_equal(sdata[name.replace("fov", "new")], made)
    record = pxprep.provenance(sdata, "new1")
    assert record.fitted() == fitted
    assert record.parameters["exclude"] == ["fov1"]


def test_only_what_was_left_out_is_kept(tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), exclude=[])
    assert "exclude" not in pxprep.provenance(sdata, "new1").parameters


def test_resume_compares_what_is_left_out(tmp_path):
    sdata = clean(make_study(tmp_path / "study.zarr"), exclude="fov1", resume=True)
    before = files(sdata.path)
    clean(sdata, exclude=["fov1"], resume=True)
    assert files(sdata.path) == before
    for exclude in (None, "fov0"):
        with pytest.raises(LayerError, match=r"of another run.*other exclude"):
            clean(sdata, exclude=exclude, resume=True)


def test_the_report_says_who_was_not_measured(tmp_path):
    pytest.importorskip("jinja2")
    file = tmp_path / "run.html"
    clean(make_study(tmp_path / "study.zarr"), exclude="fov1", report=file)
    page = Page(file)
    assert "The numbers were measured on other images than fov1 → new1." in page.said
    assert dict(page.table("What run"))["exclude"] == "fov1"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"exclude": "fov3"}, r"exclude must name images of the cohort, got 'fov3' \(did you mean"),
        ({"exclude": NAMES}, "exclude must leave at least one image to measure"),
        ({"exclude": "fov1", "pool": None}, "with pool=None each has its own"),
    ],
)
def test_bad_names_are_refused_before_work(how, message, tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    with no_compute(), pytest.raises(ParameterError, match=message):
        clean(sdata, **how)


def test_known_numbers_leave_nothing_out(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    fitted = STEPS.fit({name: sdata[name] for name in NAMES})
    with pytest.raises(ParameterError, match="exclude says what is not measured, and a FittedP"):
        clean(sdata, pipeline=fitted, exclude="fov1")
