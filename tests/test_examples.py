"""The notebooks run as plain code, each in a process of its own, from any folder."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def code_of(path):
    """All code cells in a row, without IPython's own commands."""
    cells = json.loads(path.read_text())["cells"]
    lines = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").split("\n")
    return "\n".join(line for line in lines if not line.startswith("%"))


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    code = code_of(path)
    for package in sorted(set(imported(code))):
        pytest.importorskip(package.split(".")[0])
    if "xr.DataTree" in code and not hasattr(xr, "DataTree"):
        pytest.skip("xarray without trees")
    # Not as a file: processes that a cluster starts would run it again.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_cohort_shows_what_it_says():
    """The image that is called odd is the one that the text talks about, and no other."""
    code = code_of(next(path for path in NOTEBOOKS if path.stem == "cohort"))
    code = code.split("pair = ")[0].replace("pxprep.plot.cohort(fitted)", "None;0")
    names = {}
    exec(compile(code, "cohort.ipynb", "exec"), names)
    assert {*zip(names["odd"]["fov"], names["odd"]["channel"], strict=True)} == {("fov4", "CD8")}
