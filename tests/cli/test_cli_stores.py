"""The command on several stores and damaged ones: fit, apply, inspect, repair."""

import json
import re

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
import spatialdata

import pxprep
from commands import assert_same_layer, elements
from pxprep import FittedPipeline, Pipeline
from pxprep.datasets import tissue
from pxprep.layers.records import Records
from stores import files, image, make_study

ONE_LAYER = ["--layer", "fov0", "--output", "clean"]


# --- several stores, files ------------------------------------------------------------------------


def test_fit_and_apply_to_several_stores(tmp_path, call):
    for name in ("one", "two"):
        make_study(tmp_path / name / "study.zarr")
    first, second = (tmp_path / name / "study.zarr" for name in ("one", "two"))
    make_study(tmp_path / "other.zarr")
    file = tmp_path / "numbers.json"
    pipeline = tmp_path / "pipeline.json"
    pipeline.write_text(Pipeline().quantile_norm(98).blur(1).to_json())
    steps = ["--pipeline", pipeline, "--channel", "CD20", "--dtype", "float64"]
    code, printed, errors = call(
        *("fit", first, tmp_path / "other.zarr", "--layer", "fov*", "--layer", "fov0"),
        *(*steps, "--output", file, "--json"),
    )
    assert (code, errors) == (0, "")
    images = {
        f"{store}/fov{i}": spatialdata.read_zarr(first)[f"fov{i}"].sel(c=["CD20"]).astype("f8")
        for store in ("study", "other")
        for i in range(3)
    }
    fitted = Pipeline().quantile_norm(98).blur(1).fit(images)
    assert FittedPipeline.from_json(file.read_text()) == fitted
    assert json.loads(printed)["fitted"] == json.loads(file.read_text())
    # Stores of one name are called by their paths.
    code, printed, _ = call("fit", first, second, "--layer", "fov0", "--output", file, "--json")
    assert code == 1  # the file exists
    code, printed, _ = call(
        "fit", first, second, "--layer", "fov0", "--output", file, "--json", "--overwrite"
    )
    assert json.loads(printed)["fitted"]["fovs"] == [f"{first}/fov0", f"{second}/fov0"]
    file.write_text(fitted.to_json())
    code, printed, errors = call(
        "apply", file, first, second, "--layer", "fov1", "--output", "{layer}_x", "--json"
    )
    assert (code, errors) == (0, "")
    assert [each["store"] for each in json.loads(printed)["stores"]] == [str(first), str(second)]
    for store in (first, second):
        chosen = spatialdata.read_zarr(store)["fov1"].sel(c=["CD20"])
        assert_same_layer(store, "fov1_x", fitted.transform(chosen))
    # All stores are checked before the first is written to.
    call("apply", file, second, "--layer", "fov1", "--output", "extra")
    apply = ["apply", file, first, second, "--layer", "fov1", "--output"]
    code, printed, errors = call(*apply, "extra")
    assert (code, printed) == (1, "")
    assert f"{str(second)!r}: --output 'extra' exists already; --overwrite replaces it" in errors
    assert "extra" not in spatialdata.read_zarr(first).images
    # What was done before the second store failed is kept, and said.
    for chunk in (second / "images" / "fov1").rglob("c/*/0/0"):
        chunk.write_bytes(b"rotten")
    code, printed, errors = call(*apply, "more")
    assert (code, printed) == (1, "")
    assert f"pxprep: {str(second)!r}: " in errors
    assert "is damaged" in errors
    assert f"; done before and kept: {str(first)!r}" in errors
    assert "more" in spatialdata.read_zarr(first).images


def test_fit_the_store_that_one_is_in(tmp_path, call, monkeypatch):
    for name in ("one.zarr", "two.zarr"):
        make_study(tmp_path / name)
    monkeypatch.chdir(tmp_path / "one.zarr")
    how = ["--layer", "fov0", "--output", tmp_path / "numbers.json", "--json"]
    code, printed, _ = call("fit", ".", "../two.zarr", *how)
    assert code == 0
    assert json.loads(printed)["fitted"]["fovs"] == ["one/fov0", "two/fov0"]


def test_outliers_are_shown(tmp_path, call):
    fovs = tissue(n_fovs=5, size=64)
    fovs["fov2"][{"c": 3}] *= 5
    fovs["fov4"][{"c": 1}] = 0
    spatialdata.SpatialData(elements(fovs)).write(tmp_path / "study.zarr")
    how = ["--layer", "fov*", "--q-post", "none", "--output", tmp_path / "numbers.json"]
    code, printed, errors = call("fit", tmp_path / "study.zarr", *how)
    assert code == 0
    assert re.search(r"quantile_norm +fov2 +CD8", printed)
    # Warnings are a line each, and no traceback or source line.
    (line,) = errors.splitlines()
    assert line.startswith("pxprep: warning: quantile_norm: no finite non-zero value in 'CD45'")
    _, printed, _ = call("fit", tmp_path / "study.zarr", *how, "--overwrite", "--json")
    rows = json.loads(printed)["outliers"]
    with pytest.warns(pxprep.PxprepWarning, match="CD45"):
        expected = Pipeline.sparrow(q_post=None).fit(fovs).outliers()
    found = {(row["fov"], row["channel"]): row for row in rows}
    assert list(found) == list(zip(expected["fov"], expected["channel"], strict=True))
    far = expected.set_index(["fov", "channel"]).loc[("fov2", "CD8")]
    assert found["fov2", "CD8"]["quantile"] == far["quantile"]
    assert found["fov4", "CD45"]["quantile"] == "nan"


def test_a_warning_of_scales_names_the_option(tmp_path, call):
    """19 columns become 10, which is no whole factor."""
    box = {"min_coordinate": [0, 0], "max_coordinate": [24, 19]}
    cropped = spatialdata.bounding_box_query(
        image(0, multiscale=True), axes=("y", "x"), target_coordinate_system="global", **box
    )
    spatialdata.SpatialData({"fov0": cropped}).write(tmp_path / "study.zarr")
    code, _, errors = call("run", tmp_path / "study.zarr", *ONE_LAYER)
    assert code == 0
    assert "12 x 10 becomes 12 x 9; --scale-factors chooses others" in errors


def test_inspect_checks_the_records_once_not_for_each_layer(tmp_path, call, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr")
    pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["a", "b"], sigma=1)
    parsed, checked = Records.parsed, []
    monkeypatch.setattr(Records, "parsed", lambda kept: checked.append(kept) or parsed(kept))
    code, printed, _ = call("inspect", tmp_path / "study.zarr")
    assert (code, printed.count("from fov")) == (0, 2)
    assert len(checked) == 2  # those of the object in memory, and those on disk


def test_inspect_tells_of_damage_and_of_interrupted_writes(tmp_path, call):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "made", sigma=1)
    pxprep.pixel_clustering_preprocess(sdata, "fov1", "lost", sigma=1)
    store = tmp_path / "study.zarr"
    # Another program replaces a layer; a process dies while it writes; metadata are lost.
    sdata = spatialdata.read_zarr(store)
    del sdata.images["lost"]
    sdata.delete_element_from_disk("lost")
    sdata.images["lost"] = image(5)
    sdata.write_element("lost")
    (store / ".pxprep" / ("dead" * 8)).mkdir(parents=True)
    (store / ".pxprep" / "lock").touch()
    (store / "images" / "fov2" / "zarr.json").write_text("{")
    before = files(store)
    code, printed, errors = call("inspect", store, "--json")
    assert (code, errors) == (0, "")
    assert files(store) == before
    document = json.loads(printed)
    assert document["unfinished"] == {"complete": [], "remove": 1, "writing": 0}
    (damaged,) = document["damaged"]
    assert damaged.startswith("images/fov2: ")
    by_name = {layer["name"]: layer for layer in document["layers"]}
    assert "fov2" not in by_name
    assert by_name["lost"]["provenance"] == {"problem": "replaced since pxprep made it"}
    assert by_name["made"]["provenance"]["source"] == "fov0"
    assert len(by_name["made"]["scales"]) == 2
    assert by_name["cells"]["kind"] == "labels"
    assert by_name["cells"]["channels"] is None
    _, words, _ = call("inspect", store)
    assert files(store) == before
    assert "remove 1 unfinished writes" in words
    assert "images/fov2: " in words
    code, _, errors = call("run", store, "--layer", "fov0", "--output", "x")
    assert code == 1
    assert "is damaged: images/fov2" in errors
    assert "an interrupted write had left something in it" in errors
    assert not (store / ".pxprep").exists()
    (store / ".pxprep" / ("dead" * 8)).mkdir(parents=True)
    code, printed, _ = call("repair", store, "--json")
    assert json.loads(printed) == {"store": str(store), "completed": [], "removed": 1}
    _, printed, _ = call("repair", store)
    assert printed == "nothing to repair\n"


def test_doubtful_input_is_one_warning(tmp_path, call):
    make_study(tmp_path / "study.zarr")
    code, printed, errors = call(
        "run", tmp_path / "study.zarr", *ONE_LAYER, "--q-sum", "0.5", "--quiet"
    )
    assert (code, printed) == (0, "")
    (line,) = errors.splitlines()
    assert line.startswith(
        "pxprep: warning: --q-sum is in percent: 0.5 is the quantile 0.5 % of the sums"
    )


def test_damaged_chunk(tmp_path, call):
    """It is found on the way, and named; the store is as it was."""
    make_study(tmp_path / "study.zarr")
    (chunk,) = (tmp_path / "study.zarr" / "images" / "fov0").rglob("c/0/0/0")
    chunk.write_bytes(b"rotten")
    before = files(tmp_path)
    code, printed, errors = call("run", tmp_path / "study.zarr", *ONE_LAYER)
    assert (code, printed) == (1, "")
    (line,) = errors.splitlines()
    assert f"{str(chunk)!r} is damaged" in line
    assert files(tmp_path) == before
