"""The notebooks run as plain code, each in a process of its own, from any folder."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
# What the text of a notebook says, as code that runs after its last cell.
CLAIMS = {
    "one-image": "assert at_once.equals(clean) and lazy.compute().equals(at_once)",
    "cohort": """
listed = fitted.outliers()
assert list(zip(listed.fov, listed.channel)) == [("fov4", "CD8"), ("fov3", "panCK")]
assert 1.65 < listed.fold[1] < 1.75
assert 1.3 < scales.ratio["CD8"] < 1.5
assert abs(scales.ratio.drop("CD8") - 1).max() < 0.05
assert list(clean.subtree_with_keys)[-1][0] == "slide2/fov5/scale1"
""",
    "own-steps": "assert again == fitted and lazy.compute().equals(clean)",
    "flowsom": """
assert 16_000 <= len(sample) < 18_000
assert sdata["fov2_clean_clusters"].shape == (256, 256)
""",
    "large-slide": """
assert max(peaks) < 600e6
assert fitted.numbers["quantile_norm_scale"].sel(c="CD8").item() == expected
""",
}
# The site is built with the first, which takes longer.
SMALLER = {"large-slide": ("size = 4096", "size = 2048")}


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
    code = code_of(path).replace(*SMALLER.get(path.stem, ("", "")))
    for package in sorted(set(imported(code))):
        pytest.importorskip(package.split(".")[0])
    if "xr.DataTree" in code and not hasattr(xr, "DataTree"):
        pytest.skip("xarray without trees")
    # Not as a file: processes that a cluster starts would run it again.
    done = subprocess.run(
        [sys.executable, "-c", code + "\n" + CLAIMS.get(path.stem, "")],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
