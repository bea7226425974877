"""Layers in batches: `--by`."""

import json

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import numpy as np
import spatialdata

import pxprep
from pxprep import FittedPipeline, Pipeline
from stores import make_study

STEPS = Pipeline().quantile_norm(95).blur(1).sum_mask(20).post_norm(99)
BATCHES = {"fov0": "May", "fov1": "June", "fov2": "May"}


@pytest.fixture
def table(tmp_path):
    rows = ["layer,day,staining", *(f"{name},1,{batch}" for name, batch in BATCHES.items())]
    file = tmp_path / "staining.csv"
    file.write_text("\n".join(rows))
    return file


@pytest.fixture
def steps(tmp_path):
    file = tmp_path / "steps.json"
    file.write_text(STEPS.to_json())
    return ["--pipeline", file, "--quiet"]


def test_a_column_of_a_table(tmp_path, table, steps, call):
    store, file = tmp_path / "study.zarr", tmp_path / "fitted.json"
    sdata = make_study(store)
    expected = STEPS.fit({name: sdata[name] for name in BATCHES}, by=BATCHES)
    options = ["--layer", "fov*", *steps, "--by", f"{table}:staining"]
    code, _, errors = call("run", store, *options, "--output", "{layer}_new")
    assert (code, errors) == (0, "")
    made = spatialdata.read_zarr(store)
    assert pxprep.provenance(made, "fov1_new").fitted() == expected
    code, printed, errors = call("fit", store, *options, "--output", file, "--json")
    assert (code, errors) == (0, "")
    assert FittedPipeline.from_json(file) == expected
    assert dict(json.loads(printed)["fitted"]["batches"]) == BATCHES
    for by in ("May", f"{_table(tmp_path, 'other,May')}:staining"):
        name = f"other_{by[-3:]}"
        code, _, errors = call(
            "apply", file, store, "--layer", "other", "--output", name, "--by", by, "--quiet"
        )
        assert (code, errors) == (0, "")
        found = spatialdata.read_zarr(store)[name]
        np.testing.assert_array_equal(found, expected.transform(sdata["other"], by="May"))
    code, _, errors = call("apply", file, store, "--layer", "other", "--output", "no", "--quiet")
    assert code == 1
    assert "--by must give each image a batch, got none for 'other'" in errors


def _table(folder, *rows):
    file = folder / "others.csv"
    file.write_text("\n".join(["layer,staining", *rows]))
    return file


@pytest.mark.parametrize("as_numbers", [False, True])
def test_batches_that_are_called_by_numbers(tmp_path, as_numbers, call):
    """As texts, as a table has them, or as numbers, of a fit in Python."""
    store, file = tmp_path / "study.zarr", tmp_path / "fitted.json"
    sdata = make_study(store)
    batches = {name: number if as_numbers else str(number) for number, name in enumerate(BATCHES)}
    fitted = STEPS.fit({name: sdata[name] for name in BATCHES}, by=batches)
    file.write_text(fitted.to_json())
    expected = fitted.transform(sdata["other"], by=batches["fov2"])
    for by in ("2", f"{_table(tmp_path, 'other,2')}:staining"):
        for command in (["apply", file, store], ["run", store, "--fitted", file]):
            options = ["--layer", "other", "--output", "new", "--by", by, "--overwrite", "--quiet"]
            code, _, errors = call(*command, *options)
            assert (code, errors) == (0, "")
            np.testing.assert_array_equal(spatialdata.read_zarr(store)["new"], expected)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a.zarr", "b.zarr"], ["a", "b"]),
        # Stores of the same name are called by their paths, which have several parts.
        (["may/tissue.zarr", "june/tissue.zarr"], None),
        (["may/x/tissue.zarr", "june/tissue.zarr", "b.zarr"], None),
    ],
)
def test_each_store_by_itself(folders, names, tmp_path, steps, call):
    stores = [tmp_path / folder for folder in folders]
    names = names or [str(store) for store in stores]
    images, by = {}, {}
    for store, name in zip(stores, names, strict=True):
        store.parent.mkdir(parents=True, exist_ok=True)
        study = make_study(store)
        images |= {f"{name}/{layer}": study[layer] for layer in BATCHES}
        by |= {f"{name}/{layer}": name for layer in BATCHES}
    file = tmp_path / "fitted.json"
    code, _, errors = call("fit", *stores, "--layer", "fov*", *steps, "--output", file, "--by", "0")
    assert (code, errors) == (0, "")
    fitted = FittedPipeline.from_json(file)
    assert fitted == STEPS.fit(images, by=by)
    assert fitted.numbers["batch"].values.tolist() == names


@pytest.mark.parametrize("folders", [["a.zarr", "b.zarr"], ["may/a.zarr", "june/a.zarr"]])
def test_a_part_of_a_path_is_no_batch(folders, tmp_path, steps, call):
    stores = [tmp_path / folder for folder in folders]
    for store in stores:
        store.parent.mkdir(exist_ok=True)
        make_study(store)
    file = tmp_path / "no.json"
    code, _, errors = call("fit", *stores, "--layer", "fov*", *steps, "--output", file, "--by", "1")
    assert code == 1
    assert "in its first column, or 0 with several stores, got '1'" in errors
    assert not file.exists()


def test_a_table_of_another_program(tmp_path, steps, call):
    """With semicolons and in Latin-1, as Excel writes it in some countries."""
    store, file, table = (tmp_path / name for name in ("a.zarr", "fitted.json", "färbung.csv"))
    make_study(store)
    rows = ["layer;Färbung", *(f"{name};{batch}" for name, batch in BATCHES.items())]
    table.write_text("\n".join(rows), encoding="latin-1")
    options = ["--layer", "fov*", *steps, "--output", file, "--by", f"{table}:Färbung"]
    assert call("fit", store, *options) == (0, "", "")
    assert FittedPipeline.from_json(file).batches == BATCHES


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (["fov0,May", "fov1,May"], "staining", "--by must give each image a batch, got none for"),
        (["fov0,May", "fov1,", "fov2,May"], "staining", "got none for 'fov1'"),
        (
            ["fov0,May", "fov1,May", "fov2,May", "fov7,May"],
            "staining",
            "--by must name images of the cohort, got 'fov7' (did you mean 'fov2'?)",
        ),
        (["fov0,May"], "stainin", "got the column 'stainin' (did you mean 'staining'?), "),
        (["fov0,May", "", "fov1"], "staining", "2 cells in each line, line 4 has 1"),
        (["fov0,May", "fov0,June"], "staining", "must name each once, got ['fov0'] again"),
    ],
)
def test_bad_tables(rows, column, message, tmp_path, steps, call):
    store = tmp_path / "study.zarr"
    make_study(store)
    by = f"{_table(tmp_path, *rows)}:{column}"
    options = ["--layer", "fov*", *steps, "--output", tmp_path / "no.json", "--by", by]
    code, _, errors = call("fit", store, *options)
    assert code == 1
    assert message in errors


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("no.csv:staining", "with the names of layers in its first column; 'no.csv' cannot be"),
        ("May", "--by must be FILE.csv:COLUMN, a table with the names of layers in its first"),
        ("0", "or 0 with several stores, got '0'"),
    ],
)
def test_bad_values(by, message, tmp_path, steps, call):
    store = tmp_path / "study.zarr"
    make_study(store)
    options = ["--layer", "fov*", *steps, "--output", "{layer}_new", "--by", by]
    code, _, errors = call("run", store, *options)
    assert code == 1
    assert message in errors
