"""The page on viewers: what needs no viewer runs as it stands there; the rest parses."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
pytest.importorskip("tifffile")
import tifffile

from commands import run
from notebooks import imported

PAGE = (Path(__file__).parents[2] / "docs" / "viewers.md").read_text()
BLOCKS = re.findall(r"(\S[^\n]*)\n\n```(\w+)\n(.*?)```", PAGE, re.DOTALL)
VIEWERS = {"napari", "napari_spatialdata", "vitessce"}


def test_blocks_that_need_no_viewer_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("demo", "study", "--size", "64", "--fovs", "2", cwd=tmp_path).returncode == 0
    names, ran = {}, 0
    for before, language, code in BLOCKS:
        if "runs in the tests*" not in before:
            assert language == "python"
            assert VIEWERS & set(imported(code))  # the reason why it does not run
            continue
        ran += 1
        if language == "bash":
            (line,) = code.splitlines()
            program, *arguments = shlex.split(line)
            assert program == "pxprep"
            done = run(*arguments, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        else:
            exec(compile(code, "viewers.md", "exec"), names)
    assert (ran, len(BLOCKS)) == (3, 7)
    clean = names["clean"].values
    assert np.isnan(clean).any()
    found = tifffile.imread(tmp_path / "tiffs" / "fov0_clean.ome.tiff")
    np.testing.assert_array_equal(found, clean)
    shown = tifffile.imread(tmp_path / "shown" / "fov0_shown.ome.tiff")
    np.testing.assert_array_equal(shown, np.nan_to_num(clean))
    # The other files and layers that the page names.
    for path in set(re.findall(r"(?:tiffs|shown)/[\w.]+tiff", PAGE)):
        assert (tmp_path / path).is_file()
    assert (tmp_path / "study" / "tissue.zarr" / "images" / "fov0_clean").is_dir()
