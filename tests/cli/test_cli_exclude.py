"""Layers that are not measured: `--exclude`."""

import json

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import spatialdata

import pxprep
from pxprep import FittedPipeline, Pipeline
from stores import make_study

STEPS = Pipeline().quantile_norm(95).blur(1).sum_mask(20).post_norm(99)


def test_they_get_the_numbers_of_the_others(tmp_path, call):
    store, steps, file = (tmp_path / name for name in ("study.zarr", "steps.json", "fitted.json"))
    sdata = make_study(store)
    steps.write_text(STEPS.to_json())
    options = ["--layer", "fov*", "--pipeline", steps, "--exclude", "fov1", "--quiet"]
    code, _, errors = call("run", store, *options, "--output", "{layer}_new")
    assert (code, errors) == (0, "")
    made = spatialdata.read_zarr(store)
    expected = STEPS.fit({name: sdata[name] for name in ("fov0", "fov2")})
    assert pxprep.provenance(made, "fov1_new").fitted() == expected
    code, printed, errors = call("fit", store, *options, "--output", file, "--json")
    assert (code, errors) == (0, "")
    assert FittedPipeline.from_json(file) == expected
    assert json.loads(printed)["fitted"]["fovs"] == ["fov0", "fov2"]
    for command in (["run", "--output", "{layer}_again"], ["fit", "--output", tmp_path / "no"]):
        code, _, errors = call(*command, store, *options, "--exclude", "fov4")
        assert code == 1
        assert errors.startswith("pxprep: --exclude must name images of the cohort, got 'fov4'")
