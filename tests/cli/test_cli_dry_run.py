"""`pxprep run --dry-run`: what it says is what a run then does, and it writes nothing."""

import json
import os
from contextlib import nullcontext

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import pxprep
from commands import run
from pxprep.layers.plan import plan_layers
from stores import files, make_study

LAYERS = ["--layer", "fov0", "--layer", "fov1", "--output", "{layer}_new"]


def test_numbers_are_those_of_the_run(tmp_path, call):
    store = tmp_path / "study.zarr"
    make_study(store)
    how = ["--channel", "CD20", "--dtype", "float64", "--chunks", "8", "--scale-factors", "2"]
    how += ["--memory", "5000", "--report", tmp_path / "report.html"]
    before = files(tmp_path)
    code, printed, errors = call("run", store, *LAYERS, *how, "--dry-run", "--json")
    assert (code, errors) == (0, "")
    assert files(tmp_path) == before
    plan = json.loads(printed)
    assert plan["dry_run"] is True
    # By hand: one channel of 24 x 20 pixels is read, and written beside its half.
    read = [(one["name"], one["dtype"], one["channels"], one["bytes"]) for one in plan["read"]]
    assert read == [(name, "float64", ["CD20"], 24 * 20 * 8) for name in ("fov0", "fov1")]
    written = {one["name"]: one for one in plan["write"]}
    assert list(written) == ["fov0_new", "fov1_new"]
    for one in plan["write"]:
        assert one["bytes"] == 8 * (24 * 20 + 12 * 10)
        assert one["replaces"] is False
    assert plan["disk"]["bytes"] == 2 * 8 * (24 * 20 + 12 * 10)
    assert plan["disk"]["free"] > plan["disk"]["bytes"]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert plan["memory"] == {"kept": 5000, "block": 16 * 20 * 8, "threads": threads}
    assert plan["report"] == str(tmp_path / "report.html")
    # What the run itself then says of the layers.
    code, printed, errors = call("run", store, *LAYERS, *how, "--json")
    assert (code, errors) == (0, "")
    document = json.loads(printed)
    for layer in document["layers"]:
        expected = written[layer["name"]]
        for key in ("dims", "dtype", "channels", "scales"):
            assert layer[key] == expected[key]
        assert layer["provenance"]["source"] == expected["provenance"]["source"]
    recipe = document["layers"][0]["provenance"]["parameters"]["pipeline"]
    assert plan["steps"] == [step["as"] for step in recipe["steps"]]


@pytest.mark.parametrize("exclude", [None, "fov1"])
def test_passes_are_those_of_the_run(exclude, tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    layers = ["fov0", "fov1", "fov2"], ["a", "b", "c"]
    parameters = {"q_post": None, "sigma": 1, "exclude": exclude}
    seen = []

    def shown(name):
        seen.append(name)
        return nullcontext()

    plan = plan_layers(sdata, *layers, **parameters, progress=shown)
    assert seen == []
    pxprep.pixel_clustering_preprocess(sdata, *layers, **parameters, progress=shown)
    *measuring, writing = seen
    assert list(plan.passes) == measuring
    assert writing == "write 3 layers"


def test_words(tmp_path, call):
    store = tmp_path / "study.zarr"
    make_study(store, multiscale=True)
    code, printed, errors = call("run", store, *LAYERS, "--memory", "5000", "--dry-run")
    assert (code, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[:3] == [
        "would read:",
        "  fov0: c 2, y 24, x 20, uint16, chunks 2 x 16 x 20, 1.9 kB",
        "  fov1: c 2, y 24, x 20, uint16, chunks 2 x 16 x 20, 1.9 kB",
    ]
    assert "  measure sum_mask of 2 images" in lines
    assert "  quantile_norm, blur, sum_mask, sum_norm, post_norm" in lines
    assert (
        "  fov1_new: c 2, y 24, x 20, float32, chunks 2 x 16 x 20, 2 scales, 4.8 kB, from fov1"
    ) in lines
    assert any(line.startswith("disk: 9.6 kB uncompressed") for line in lines)
    assert lines[-1] == "nothing was written"


def test_what_is_there(tmp_path, call):
    """A layer is replaced only if that was asked for; with --resume those that are done stay."""
    store = tmp_path / "study.zarr"
    sdata = make_study(store)
    both = ["--layer", "fov0", "--layer", "fov1", "--output", "a", "--output", "b"]
    pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["a", "b"], resume=True)
    before = files(store)
    code, printed, errors = call("run", store, *both, "--dry-run")
    assert (code, printed) == (1, "")
    assert "exists already; --overwrite replaces it" in errors
    _, printed, _ = call("run", store, *both, "--sigma", "1", "--overwrite", "--dry-run", "--json")
    assert [one["replaces"] for one in json.loads(printed)["write"]] == [True, True]
    _, printed, _ = call("run", store, *both, "--resume", "--dry-run", "--json")
    plan = json.loads(printed)
    assert (plan["done"], plan["write"], plan["passes"]) == (["a", "b"], [], [])
    _, printed, _ = call("run", store, *both, "--resume", "--dry-run")
    assert printed.splitlines()[:2] == ["is finished already:", "  a"]
    assert files(store) == before


def test_what_died_is_left(tmp_path, call):
    store = tmp_path / "study.zarr"
    make_study(store)
    (store / ".pxprep" / ("dead" * 8)).mkdir(parents=True)
    (store / ".pxprep" / "lock").touch()
    command = ["run", store, *LAYERS, "--dry-run"]
    code, printed, errors = call(*command)
    assert (code, errors) == (0, "")
    assert "remove 1 unfinished writes" in printed
    assert (store / ".pxprep" / ("dead" * 8)).is_dir()


DIES = (
    "import os, sys\n"
    "def hook(event, arguments):\n"
    "    if event == 'os.remove' and str(arguments[0]).endswith('journal.json'): os._exit(9)\n"
    "sys.addaudithook(hook)\n"
)


def test_layers_that_have_to_be_completed_first(tmp_path, call):
    """What will be in the store is not known before that."""
    store = tmp_path / "study.zarr"
    make_study(store)
    (tmp_path / "sitecustomize.py").write_text(DIES)
    died = run("run", store, *LAYERS, cwd=tmp_path, PYTHONPATH=path_with(tmp_path))
    assert died.returncode == 9
    before = files(store)
    code, printed, errors = call("run", store, "--layer", "fov2", "--output", "c", "--dry-run")
    assert (code, printed) == (1, "")
    assert "of the layers ['fov0_new', 'fov1_new']" in errors
    assert "pxprep repair" in errors
    assert files(store) == before


def path_with(folder):
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
