"""`pxprep pipeline`: steps as YAML, shown, written, checked, and used by the other commands."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
import spatialdata

from commands import assert_same_layer
from pxprep import Pipeline
from stores import make_study

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_the_page_shows_what_is_written(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    shown = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    typed = ["--sigma", "DAPI=0", "--sigma", "*=2.5", "--q-post", "none"]
    assert call("pipeline", *typed) == (0, shown, "")
    assert call("pipeline", *typed, "--write", "steps.yaml") == (0, "written to steps.yaml\n", "")
    assert (tmp_path / "steps.yaml").read_text() == shown
    assert call("pipeline", "steps.yaml") == (0, shown, "")
    expected = Pipeline.sparrow(sigma={"DAPI": 0, ...: 2.5}, q_post=None)
    assert Pipeline.from_file("steps.yaml") == expected


def test_orders_and_json(tmp_path, call):
    code, printed, _ = call("pipeline", "--order", "pixie", "--q", 98, "--json")
    assert (code, json.loads(printed)["file"]) == (0, None)
    assert json.loads(printed)["pipeline"] == json.loads(Pipeline.pixie(q=98).to_json())
    Pipeline.pixie().save(tmp_path / "old.json")
    assert call("pipeline", tmp_path / "old.json", "--write", tmp_path / "new.yml")[0] == 0
    assert Pipeline.from_file(tmp_path / "new.yml") == Pipeline.pixie()


def test_what_is_refused(tmp_path, call):
    file = tmp_path / "steps.yaml"
    file.write_text("steps:\n- blur: {sigma: -1}\n")
    code, printed, errors = call("pipeline", file)
    assert (code, printed) == (1, "")
    assert errors.startswith(f"pxprep: '{file}': --sigma must be a number of pixels")
    assert call("pipeline", "--write", file)[0] == 1
    assert file.read_text().startswith("steps:\n- blur")
    assert call("pipeline", "--write", file, "--overwrite")[0] == 0
    assert call("pipeline", file, "--q", 98)[0] == 2
    assert call("pipeline", file, "--order", "pixie")[0] == 2
    code, _, errors = call("pipeline", file, "--sigma", "1")
    assert code == 2
    assert "Invalid value for FILE: takes the place" in errors


def test_run_and_fit_take_it(tmp_path, call):
    make_study(tmp_path / "study.zarr")
    file = tmp_path / "steps.yaml"
    file.write_text("steps:\n- quantile_norm: {q: 98}\n- blur: {sigma: 1}\n")
    steps = ["--layer", "fov0", "--pipeline", file]
    assert call("run", tmp_path / "study.zarr", *steps, "--output", "clean")[0] == 0
    image = spatialdata.read_zarr(tmp_path / "study.zarr")["fov0"]
    expected = Pipeline().quantile_norm(98).blur(1).fit_transform(image)
    assert_same_layer(tmp_path / "study.zarr", "clean", expected)
    assert call("fit", tmp_path / "study.zarr", *steps, "--output", tmp_path / "fit.json")[0] == 0
