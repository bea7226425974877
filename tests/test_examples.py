"""The examples run, from where a user would run them, and print what they are for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_notebook(name, folder):
    """Its code as a script: what Jupyter adds is not needed to see whether it runs."""
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "outputs are to be cleared"
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cohort(tmp_path):
    printed = run("cohort.py", tmp_path)
    assert "FittedPipeline of 3 images, 10 channels" in printed
    assert "subtract_background_level" in printed
    assert "fov3: 10 channels" in printed


@pytest.mark.skipif(not hasattr(xr, "DataTree"), reason="xarray without trees")
def test_tree(tmp_path):
    pytest.importorskip("spatialdata")
    printed = run("tree.py", tmp_path)
    assert "FittedPipeline of 6 images, 10 channels" in printed
    far = [
        line.split()[:3] for line in printed.splitlines() if line.split()[1:2] == ["slide2/fov4"]
    ]
    assert ["quantile_norm", "slide2/fov4", "CD8"] in far
    assert "largest value" in printed
    assert "slide2_fov5" in printed
    assert "slide2_fov4" not in printed


def test_flowsom(tmp_path):
    pytest.importorskip("flowsom")
    printed = run_notebook("flowsom.ipynb", tmp_path)
    assert re.search(r"trained on 1[67]\d{3} pixels", printed)
    assert "'fov2_clean_clusters': DataArray[yx] (256, 256)" in printed
