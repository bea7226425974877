"""Layers of fewer channels: written, planned, kept with what made them, and sampled."""

import pytest

pytest.importorskip("spatialdata")

import numpy as np

import pxprep
from pxprep import Pipeline, pixel_table
from pxprep.layers.plan import plan_layers
from spatial_objects import LABELS, backed, scales

LEFT = ["DAPI", "CD20", "panCK"]
SUBTRACTED = Pipeline().subtract_channels({"DAPI": "CD3", "panCK": "CD3"}, 0.3, drop=True)
# What was blurred for a measurement is kept: with the channels that are dropped, and without.
BLURRED_FIRST = Pipeline([*Pipeline().blur(1).quantile_norm(98).steps, *SUBTRACTED.steps])
CHAINS = {
    "blur, then drop": BLURRED_FIRST.sum_norm(),
    "drop, then blur": SUBTRACTED.blur(1).sum_mask(5).post_norm(99),
    "drop, then measure twice": SUBTRACTED.blur(1).quantile_norm(99).zscore(),
    "drop last": Pipeline().quantile_norm(98).then(SUBTRACTED.steps[0][1]),
}
chains = pytest.mark.parametrize("name", CHAINS)


@pytest.mark.parametrize(
    ("name", "first", "how"),
    [
        *((name, "pyramid", {"chunks": {"c": 2, "y": 40, "x": 48}}) for name in CHAINS),
        ("drop, then blur", "pyramid", {"memory": 0}),
        # Without scales and in the source's chunks: what was kept is written over where it fits.
        ("blur, then drop", "fov1", {"memory": "1 GiB"}),
        ("drop, then blur", "fov1", {"memory": "1 GiB"}),
    ],
)
def test_layers_have_the_channels_that_are_left(name, first, how, tmp_path):
    pipeline = CHAINS[name]
    sdata = backed(tmp_path)
    names, new_names = [first, "fov0"], [f"{first}_new", "fov0_new"]
    images = {name: scales(sdata[name])[0].compute() for name in names}
    expected = pipeline.fit_transform(images)
    plan = plan_layers(sdata, names, new_names, pipeline=pipeline, **how)
    pxprep.pixel_clustering_preprocess(sdata, names, new_names, pipeline=pipeline, **how)
    for name, new in zip(names, new_names, strict=True):
        made = scales(sdata[new])
        np.testing.assert_array_equal(made[0].values, expected[name].values)
        assert [one.c.values.tolist() for one in made] == [LEFT] * len(made)
        planned = [(one.shape, one.chunks, one.c.values.tolist()) for one in plan.writes[new]]
        assert planned == [(one.shape, one.chunks, LEFT) for one in made]
    fitted = pxprep.provenance(sdata, "fov0_new").fitted()
    assert fitted == pipeline.fit(images)
    assert (fitted.channels, fitted.remaining) == (tuple(LABELS), tuple(LEFT))
    table = pixel_table(sdata, new_names, fraction=0.1)
    assert list(table.columns[:3]) == LEFT
    assert not set(table.columns) & {"CD3"}


def test_digits_of_a_result_so_far_whose_channels_were_dropped(tmp_path):
    sdata = backed(tmp_path)
    names, new_names = ["pyramid", "fov0"], ["pyramid_new", "fov0_new"]
    images = {name: scales(sdata[name])[0].compute() for name in names}
    pipeline = SUBTRACTED.blur(1).quantile_norm(60)
    how = {"pipeline": pipeline, "pool": "pixels"}
    pxprep.pixel_clustering_preprocess(sdata, names, new_names, **how)
    expected = pipeline.fit_transform(images, pool="pixels")
    for name, new in zip(names, new_names, strict=True):
        np.testing.assert_array_equal(scales(sdata[new])[0].values, expected[name].values)


def test_a_layer_in_the_place_of_its_source_and_its_report(tmp_path):
    sdata = backed(tmp_path)
    report = tmp_path / "report.html"
    how = {"pipeline": SUBTRACTED.quantile_norm(98), "overwrite": True, "report": report}
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "fov0", **how)
    assert sdata["fov0"].c.values.tolist() == LEFT
    assert "Steps drop CD3: there are no pictures of these channels." in report.read_text()
    again = tmp_path / "again.html"
    pxprep.layers.report_layers(again, sdata, "fov0")
    assert "Steps drop CD3" in again.read_text()
