"""Bad input of the command is refused before any work, in one line."""

import re

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
import spatialdata
from spatialdata.models import Image2DModel, Labels2DModel
from spatialdata.transformations import Translation

from commands import run
from pxprep import Pipeline, pixel_clustering_preprocess
from stores import files, make_study


@pytest.mark.parametrize("option", ["--where-labels=1", "--where-not", "--drop-outside"])
def test_options_about_a_mask_need_one(option, call):
    code, _, errors = call("run", "study.zarr", "--layer", "a", "--output", "b", option)
    assert code == 2
    assert option.partition("=")[0] in errors
    assert "give" in errors


# --- bad input ------------------------------------------------------------------------------------

OUT = ["--output", "clean"]

RAW = ["--layer", "fov0"]

# What is typed after `pxprep`, the exit code, and what the one line must say.
BAD = {
    "no store": (["run", "none.zarr", *RAW, *OUT], 1, r"there is no store 'none\.zarr'"),
    "no store to inspect": (["inspect", "none.zarr"], 1, r"there is no store 'none\.zarr'"),
    "no store to repair": (["repair", "none.zarr"], 1, r"none\.zarr' must be the folder of a"),
    "not a store": (["run", "empty", *RAW, *OUT], 1, r"empty' must be the folder of a SpatialData"),
    "a file": (["inspect", "text.json"], 1, r"text\.json' must be the folder of a SpatialData"),
    "damaged store": (["inspect", "broken.zarr"], 1, r"broken\.zarr' cannot be read"),
    "damaged root": (["run", "broken.zarr", *RAW, *OUT], 1, r"broken\.zarr'"),
    "without images": (["run", "bare.zarr", *RAW, *OUT], 1, r"--layer 'fov0' does not exist"),
    "pattern": (["run", "bare.zarr", "--layer", "f*", *OUT], 1, r"--layer 'f\*' matches no layer"),
    "misspelt pattern": (
        ["run", "study.zarr", "--layer", "fv*", *OUT],
        1,
        r"--layer 'fv\*' matches no layer \(did you mean 'fov\*'\?\)",
    ),
    "nothing to export": (
        ["export", "study.zarr", "tiffs", "--layer", "*_none"],
        1,
        r"--layer '\*_none' matches no layer; images are",
    ),
    "layer": (["run", "study.zarr", "--layer", "fov9", *OUT], 1, r"--layer 'fov9' .*did you mean"),
    "labels": (["run", "study.zarr", "--layer", "cells", *OUT], 1, r"'cells' must be an image"),
    "taken": (
        ["run", "study.zarr", *RAW, "--output", "fov1"],
        1,
        r"exists already; --overwrite replaces",
    ),
    "too few outputs": (
        ["run", "study.zarr", "--layer", "fov[01]", *OUT],
        1,
        r"--output must name one",
    ),
    "twice": (
        ["run", "study.zarr", *RAW, *RAW, *OUT, *OUT],
        1,
        r"--layer must name each only once",
    ),
    "channel": (
        ["run", "study.zarr", *RAW, *OUT, "--channel", "CD33"],
        1,
        r"layer 'fov0': --channel: no channel 'CD33' \(did you mean 'CD3'\?\)",
    ),
    "channel of a value": (
        ["run", "study.zarr", *RAW, *OUT, "--sigma", "DAPI=0", "--sigma", "*=1"],
        1,
        r"--sigma: no channel 'DAPI'",
    ),
    "missing channel": (
        ["run", "study.zarr", *RAW, *OUT, "--q-post", "CD3=99"],
        1,
        r"--q-post: a mapping must name every channel.*missing 'CD20'",
    ),
    "fraction": (["run", "study.zarr", *RAW, *OUT, "--q", "0.99"], 1, r"--q must be.*mean 99\?"),
    "percent": (["run", "study.zarr", *RAW, *OUT, "--q-sum", "101"], 1, r"--q-sum must be a perc"),
    "negative": (
        ["run", "study.zarr", *RAW, *OUT, "--sigma", "CD3=-1", "--sigma", "*=1"],
        1,
        r"--sigma\['CD3'\] must be a number of pixels",
    ),
    "nan": (["run", "study.zarr", *RAW, *OUT, "--cap-max", "nan"], 1, r"--cap-max must be a fin"),
    "memory": (["run", "study.zarr", *RAW, *OUT, "--memory", "much"], 1, r"--memory must be a num"),
    "wait": (["repair", "study.zarr", "--wait", "-1"], 1, r"--wait must be"),
    "chunks": (["run", "study.zarr", *RAW, *OUT, "--chunks", "0"], 1, r"--chunks must be a posit"),
    "chunk dimension": (
        ["run", "study.zarr", *RAW, *OUT, "--chunks", "z=1"],
        1,
        r"--chunks names dimensions",
    ),
    "scales": (
        ["run", "study.zarr", *RAW, *OUT, "--scale-factors", "100"],
        1,
        r"--scale-factors must leave at least one pixel",
    ),
    "codec": (["run", "study.zarr", *RAW, *OUT, "--compressor", "gz:1"], 1, r"--compressor must"),
    "codec without level": (
        ["run", "study.zarr", *RAW, *OUT, "--compressor", "lz4"],
        2,
        r"CODEC:LEVEL, as lz4:1, got 'lz4'",
    ),
    "kind of file": (["pipeline", "--write", "steps.txt"], 1, r"--write must end in \.json or"),
    "address": (["pipeline", "s3://steps.yaml"], 1, r"FILE must be the path of a pipeline on"),
    "no file": (["apply", "no.json", "study.zarr", *RAW, *OUT], 1, r"'no\.json' cannot be read"),
    "no JSON": (["apply", "text.json", "study.zarr", *RAW, *OUT], 1, r"text\.json'.*must be JSON"),
    "not fitted": (
        ["apply", "steps.json", "study.zarr", *RAW, *OUT],
        1,
        r"steps\.json'.*must be a fitted pipeline",
    ),
    "no pipeline": (
        ["run", "study.zarr", *RAW, *OUT, "--pipeline", "fitted.json"],
        1,
        r"fitted\.json': text must be a pipeline",
    ),
    "bytes": (
        ["apply", "bytes.json", "study.zarr", *RAW, *OUT],
        1,
        r"'bytes\.json' cannot be read",
    ),
    "second store": (
        ["apply", "fitted.json", "study.zarr", "bare.zarr", *RAW, *OUT],
        1,
        r"bare\.zarr': --layer 'fov0' does not exist",
    ),
    "channels of a fit": (
        ["apply", "fitted.json", "study.zarr", "--layer", "red", *OUT],
        1,
        r"study\.zarr': layer 'red': channels: no channel 'CD3'",
    ),
    "fit into a file": (
        ["fit", "study.zarr", *RAW, "--output", "text.json"],
        1,
        r"'text\.json' exists already; --overwrite replaces it",
    ),
    "fit into no folder": (
        ["fit", "study.zarr", *RAW, "--output", "no/f.json"],
        1,
        r"--output must be a file in a folder that exists .*, got 'no/f\.json'",
    ),
    "fit layers that differ": (
        ["fit", "study.zarr", *RAW, "--layer", "red", "--output", "f.json"],
        1,
        r"image 'red': the channels must be 'CD3', 'CD20'",
    ),
    "fit a store twice": (
        ["fit", "study.zarr", "./study.zarr/../study.zarr", *RAW, "--output", "f.json"],
        1,
        r"STORE must name each only once, got \['.*study\.zarr'\]",
    ),
    "exclude without a pool": (
        ["fit", "study.zarr", *RAW, "--pool", "none", "--exclude", "fov0", "--output", "f.json"],
        1,
        r"--exclude names images .* with --pool none each has its own: .* give another --pool; got",
    ),
    "fit a layer twice": (
        ["fit", "study.zarr", *RAW, *RAW, "--output", "f.json"],
        1,
        r"--layer must name each only once, got \['fov0'\]",
    ),
    "apply to a store twice": (
        ["apply", "fitted.json", "study.zarr", "study.zarr/images/..", *RAW, *OUT],
        1,
        r"STORE must name each only once, got \['.*study\.zarr'\]",
    ),
    "demo": (["demo", "d", "--size", "3"], 1, r"size must be"),
    "demo of nothing": (["demo", "d", "--fovs", "0"], 1, r"--fovs must be a whole number"),
    "demo in place of another": (["demo", ".", "--size", "3", "--overwrite"], 1, r"size must be"),
    "demo in a file": (["demo", "text.json"], 1, r"FOLDER must not be a file, got 'text\.json'"),
    "demo again": (["demo", "."], 1, r"tissue\.zarr' exists already; --overwrite"),
    "command": (["rum"], 2, r"No such command 'rum'"),
    "option": (["run", "study.zarr", *RAW, *OUT, "--sigmas", "2"], 2, r"--sigmas"),
    "no output": (["run", "study.zarr", *RAW], 2, r"Missing option '--output'"),
    "no number": (["run", "study.zarr", *RAW, *OUT, "--sigma", "wide"], 2, r"--sigma.*got 'wide'"),
    "no number of a name": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=none"],
        2,
        r"--q.*must be.* got 'none'",
    ),
    "name twice": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=9", "--q", "CD3=8"],
        2,
        r"--q.*'CD3' is given twice",
    ),
    "name and all": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=9", "--q", "99"],
        2,
        r"for the rest write \*=VALUE",
    ),
    "two scales at once": (
        ["run", "study.zarr", *RAW, *OUT, "--scale-factors", "2,2"],
        2,
        r"--scale-factors.*repeated for each scale, got '2,2'",
    ),
    "pool": (["run", "study.zarr", *RAW, *OUT, "--pool", "median"], 2, r"--pool"),
    "steps twice": (
        ["run", "study.zarr", *RAW, *OUT, "--fitted", "fitted.json", "--sigma", "2"],
        2,
        r"--fitted.*takes the place of the other steps",
    ),
    "steps of a file, and of a table": (
        ["run", "study.zarr", *RAW, *OUT, "--fitted", "fitted.json", "--panel", "panel.csv"],
        2,
        r"--fitted.*takes the place of the other steps.*leave out its columns sigma",
    ),
    "pool of a fit": (
        ["run", "study.zarr", *RAW, *OUT, "--fitted", "fitted.json", "--pool", "pixels"],
        1,
        r"--pool says how layers are measured.*got 'pixels', it was fitted with 'mean'",
    ),
    "mask of a fit": (
        ["run", "study.zarr", *RAW, *OUT, "--fitted", "fitted.json", "--where", "cells"],
        1,
        r"--where says what is measured.*, or give --drop-outside$",
    ),
    "mask elsewhere": (
        ["run", "study.zarr", *RAW, *OUT, "--where", "moved"],
        1,
        r"--where: labels 'moved' lie elsewhere",
    ),
    "in place again": (
        ["run", "study.zarr", "--layer", "fov2", "--output", "fov2", "--overwrite"],
        1,
        r"--output 'fov2' already holds .* choose another --output$",
    ),
    "batches of a fit without any": (
        ["apply", "fitted.json", "study.zarr", *RAW, *OUT, "--by", "early"],
        1,
        r"--by names batches, .*, or fit with --by; got 'early'$",
    ),
    "waits twice": (["repair", "study.zarr", "--wait", "1", "--no-wait"], 2, r"not both"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of stores and files that commands may stumble over."""
    folder = tmp_path_factory.mktemp("bad")
    sdata = make_study(folder / "study.zarr")
    sdata.images["red"] = Image2DModel.parse(
        np.ones((2, 8, 8), "f4"), dims=("c", "y", "x"), c_coords=["red", "CD20"]
    )
    moved = Labels2DModel.parse(
        np.ones((24, 20), int),
        dims=("y", "x"),
        transformations={"global": Translation([5], axes=("x",))},
    )
    sdata.labels["moved"] = moved
    sdata.write_element(["red", "moved"])
    pixel_clustering_preprocess(sdata, "fov2", "fov2", overwrite=True)
    spatialdata.SpatialData().write(folder / "bare.zarr")
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text("{")
    (folder / "empty").mkdir()
    (folder / "tissue.zarr").mkdir()
    (folder / "tissue.zarr" / "zarr.json").write_text("{}")
    (folder / "text.json").write_text("no JSON")
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "panel.csv").write_text("channel,sigma\nCD3,2\nCD20,1\n")
    (folder / "steps.json").write_text(Pipeline.sparrow().to_json())
    fitted = Pipeline().quantile_norm(99).fit(sdata["fov0"])
    (folder / "fitted.json").write_text(fitted.to_json())
    return folder


BAD |= {
    f"{name}, planned": ([*arguments, "--dry-run"], *expected)
    for name, (arguments, *expected) in BAD.items()
    if arguments[0] == "run"
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(bad, call, monkeypatch, name):
    """Refused before any work, in one line (or the usage), in words of the command."""
    arguments, expected, message = BAD[name]
    monkeypatch.chdir(bad)
    monkeypatch.setenv("COLUMNS", "500")
    before = files(bad)
    code, printed, errors = call(*arguments)
    assert code == expected, errors
    assert printed == ""
    assert re.search(message, errors), errors
    assert "Traceback" not in errors
    if expected == 1:
        (line,) = errors.splitlines()
        assert line.startswith("pxprep: ")
    assert files(bad) == before


def test_an_error_that_should_not_happen(bad, call, monkeypatch):
    """The traceback is for those who mend it; JSON is all or nothing."""

    def fail(*args, **kwargs):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("pxprep.layers.preprocess.pixel_clustering_preprocess", fail)
    code, printed, errors = call("run", bad / "study.zarr", *RAW, *OUT, "--json")
    assert (code, printed) == (70, "")
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("pxprep: ZeroDivisionError should not happen here")


# --- shells ---------------------------------------------------------------------------------------


def test_completion(bad, call, monkeypatch):
    """Of bash: its script, and what that gets from the command, the layers of the store."""
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, script, _ = call("--show-completion", "bash")
    assert code == 0
    assert "_PXPREP_COMPLETE=complete_bash" in script
    words = "pxprep run study.zarr --layer f"
    found = run(cwd=bad, _PXPREP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert found.stdout.split() == ["fov0", "fov1", "fov2"]
