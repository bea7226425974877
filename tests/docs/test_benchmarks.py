"""The benchmarks run, small, so that they cannot rot; nothing is said about their times."""

import argparse
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

spatialdata = pytest.importorskip("spatialdata")
CHOOSES_CODEC = "raster_compressor" in signature(spatialdata.SpatialData.write).parameters
FOLDER = Path(__file__).parents[2] / "benchmarks"
# The second has a worker in a process; "two-workers" is the same with two.
BY_COMMAND = ["wrapper", "one-worker"]
# Their size is a number of images, or of rows of blocks.
MANY = (
    *("slide-graph", "cohort-fit", "cohort-graphs"),
    *("many-layers", "many-layers-one-by-one", "many-imports"),
    *("cohort-floor", "cohort-wrapper", "tiffs-floor", "tiffs-import"),
)
OPTIONAL = {
    "dask-image-crick": ("crick", "dask_image"),
    "harpy": ("harpy",),
    "tiffs-floor": ("tifffile",),
    "tiffs-import": ("tifffile",),
    "cold-help": ("typer",),
    "cold-completion": ("typer",),
}


def imported(name):
    """A module of the folder, which imports its neighbours."""
    path = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = path


def scenarios():
    imported("fields")  # which has some of them
    return imported("scenarios")


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_command_measures(name, tmp_path):
    """Each scenario in a process of its own, some of them with workers."""
    options = ["--sizes", "130", "--chunk", "64", "--most", "3", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--only", name, "--work", tmp_path, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, line = done.stdout.splitlines()
    _, what, _, wall, cpu, memory, _, _ = line.split("|")
    assert what.strip() == name, done.stderr
    assert float(wall) > 0
    assert float(cpu) > 0
    assert float(memory) > 0


def test_the_report_is_measured():
    pytest.importorskip("jinja2")
    options = ["--images", "3", "--channels", "12", "--size", "40"]
    done = subprocess.run(
        [sys.executable, FOLDER / "report.py", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 images, 12 channels, 40 pixels a side: written in ")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "store.zarr"
    scenarios().make_store(path, 130, 64)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted({*scenarios().SCENARIOS} - {*BY_COMMAND, "two-workers"}))
def test_scenarios_run(name, store, tmp_path):
    """All the others, here."""
    for package in OPTIONAL.get(name, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if name == "wrapper-lz4" and not CHOOSES_CODEC:
        pytest.skip("this version of spatialdata chooses the codec")
    shutil.copytree(store, tmp_path / "store.zarr")
    (tmp_path / "work").mkdir()
    scenario = scenarios().SCENARIOS[name]
    scenario(tmp_path / "store.zarr", tmp_path / "work", 3 if name in MANY else 130)()


def rounds_of(walls):
    return [{"wall": wall, "cpu": 2 * wall, "memory": 1e9 * wall} for wall in walls]


def test_a_ratio_is_the_median_of_those_within_rounds():
    ours, theirs = rounds_of([2.0, 3.0, 8.0]), rounds_of([1.0, 2.0, 2.0])
    row = imported("run").row
    assert row("a", 9, ours, {"b": theirs}) == "| a | 9 | 3 | 6 | 8.00 | 2.00 x b |"
    assert row("a", 9, ours, {"b": None}) == "| a | 9 | 3 | 6 | 8.00 |  |"
    assert row("a", 9, [*ours, None], {}) == "| a | 9 | failed | | | |"


def test_figures_are_compared_with_those_of_before(tmp_path, capsys):
    run, files = imported("run"), [tmp_path / "before.json", tmp_path / "now.json"]
    run.main(["--only", "cold-xarray", "--repeats", "1", "--json", str(files[0])])
    assert "before" not in capsys.readouterr().out
    figures = json.loads(files[0].read_text())
    assert figures.keys() == {"cold-xarray 1"}
    figures["cold-xarray 1"] |= {"wall": 1e-9, "cpu": 1e9}
    files[0].write_text(json.dumps(figures))
    run.main(["--only", "cold-xarray", "--repeats", "1", "--compare", str(files[0])])
    note = capsys.readouterr().out.splitlines()[-1].split("|")[-2]
    assert re.fullmatch(r" before: \d{6,}\.\d\d x, CPU 0\.00 x ", note)


def test_every_scenario_is_in_a_group():
    run, options = imported("run"), argparse.Namespace(sizes=[130], most=3)
    grouped = [name for names, _, _ in run._groups(options) for name in names]
    assert set(grouped) == set(scenarios().SCENARIOS)


def test_scenarios_that_are_compared_do_the_same(tmp_path):
    import numpy as np

    module = scenarios()
    plain = module.memory_numpy_scipy(None, None, 80)()
    ours = module.memory_pxprep(None, None, 80)()
    np.testing.assert_allclose(ours.values, plain, rtol=2e-5)
    fields = imported("fields")
    plain = fields.fov_numpy_scipy(None, None, 80)()
    for ours in (fields.fov_preprocess, fields.fov_chain, fields.fov_transform):
        np.testing.assert_allclose(ours(None, None, 80)().values, plain, rtol=2e-5)
    plain, ours = (
        blur(None, None, 80)() for blur in (module.memory_blur_scipy, module.memory_blur)
    )
    np.testing.assert_allclose(ours.values, plain, rtol=2e-5)
