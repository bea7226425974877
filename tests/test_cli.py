import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import numpy as np
import spatialdata

import pxprep
from pxprep.datasets import tissue

COMMAND = Path(sys.executable).with_name("pxprep")


def run(*arguments, cwd):
    return subprocess.run(
        [COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_demo(tmp_path):
    done = run("demo", "out", "--size", "64", "--fovs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sdata = spatialdata.read_zarr(tmp_path / "out" / "tissue.zarr")
    assert sorted(sdata.images) == ["fov0", "fov0_clean", "fov1", "fov1_clean"]
    fovs = tissue(n_fovs=2, size=64)
    fitted = pxprep.Pipeline.sparrow().fit(fovs)
    for name, fov in fovs.items():
        expected = fitted.transform(fov).values
        np.testing.assert_array_equal(sdata[f"{name}_clean"].values, expected)
    for value in fitted.numbers.quantile_norm_scale.values:
        assert f"{value:.6g}" in done.stdout
    assert f"sum_mask_threshold = {float(fitted.numbers.sum_mask_threshold):.6g}" in done.stdout
    picture = (tmp_path / "out" / "before-after.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_demo_does_not_replace_what_exists(tmp_path):
    store = tmp_path / "pxprep-demo" / "tissue.zarr"
    store.mkdir(parents=True)
    (store / "precious").write_text("data")
    done = run("demo", cwd=tmp_path)
    assert done.returncode == 1
    assert "exists already; --overwrite" in done.stderr
    assert (store / "precious").read_text() == "data"


def test_version_and_help(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"pxprep {pxprep.__version__}\n"
    assert "demo" in run("--help", cwd=tmp_path).stdout


def test_bad_parameter_is_one_line(tmp_path):
    done = run("demo", "--size", "3", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("pxprep: ")
    assert "Traceback" not in done.stderr
