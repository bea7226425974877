"""The notebooks run as plain code, each in a process of its own, from any folder.

Not in the run of all tests: the build of the site executes them, with their claims.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from notebooks import CLAIMS, add_claims, code_of, imported

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
# The site is built with the first, which takes longer.
SMALLER = {"large-slide": ("size = 4096", "size = 2048")}


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    code = code_of(path).replace(*SMALLER.get(path.stem, ("", "")))
    for package in sorted(set(imported(code))):
        pytest.importorskip(package.split(".")[0])
    if "xr.DataTree" in code and not hasattr(xr, "DataTree"):
        pytest.skip("xarray without trees")
    # Not as a file: processes that a cluster starts would run it again.
    done = subprocess.run(
        [sys.executable, "-c", code + "\n" + CLAIMS[path.stem]],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_site_can_check_what_notebooks_say(tmp_path):
    for path in NOTEBOOKS:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    add_claims(tmp_path)
    for path in NOTEBOOKS:
        code = code_of(tmp_path / path.name)
        assert code.startswith(code_of(path))
        assert code.strip().endswith(CLAIMS[path.stem].strip())
        ast.parse(code)
