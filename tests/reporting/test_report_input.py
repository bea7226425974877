"""Bad input of a report is refused before any work; passes are recorded."""

import os
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("jinja2")
import pxprep
from pxprep import Pipeline
from pxprep.engine.progress import PassRecord
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.reporting import Passes

# --- passes ---------------------------------------------------------------------------------------


def test_passes_record_and_show():
    shown = []

    @contextmanager
    def bar(description):
        shown.append(description)
        yield

    passes = Passes(bar)
    with passes("wait"):
        time.sleep(0.05)
    with passes("work"):
        np.ones(10_000_000).sum()
    assert shown == ["wait", "work"] == [one.name for one in passes]
    wait, work = passes
    assert 0.05 <= wait.seconds < 5
    assert wait.cpu_seconds < 0.05
    assert work.peak_memory is None or work.peak_memory > 80_000_000
    assert len(passes[:1]) == 1
    with pytest.raises(ParameterError, match="progress must be"):
        Passes("loud")


def test_a_pass_that_fails_is_not_listed():
    passes = Passes()
    with pytest.raises(KeyError), passes("fail"):
        raise KeyError
    assert len(passes) == 0


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (3, "file must be the path of an HTML file, got 3"),
        (None, "file must be the path"),
        ("report.pdf", r"file must end in .html or .htm, got '.*report.pdf'"),
        ("report", "file must end in .html"),
        ("none/report.html", "must be a file in a folder that exists .*none.report"),
        ("folder.html", "must be a file in a folder"),
    ],
)
def test_bad_file(fovs, after, fitted, tmp_path, no_compute, name, message):
    (tmp_path / "folder.html").mkdir()
    file = str(tmp_path / name) if isinstance(name, str) else name
    lazy = {name: fov.chunk() for name, fov in fovs.items()}
    with no_compute(), pytest.raises(ParameterError, match=message):
        pxprep.report(file, lazy, lazy, fitted)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_folder_that_cannot_be_written_to(fovs, after, fitted, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ParameterError, match="folder that can be written to"):
        pxprep.report(tmp_path / "report.html", fovs, after, fitted)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_says_what_to_install(fovs, after, fitted, tmp_path, monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ParameterError, match=r"pip install 'pxprep\[report\]'"):
        pxprep.report(tmp_path / "report.html", fovs, after, fitted)


def changed(images, **change):
    return {**images, **change}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"fitted": Pipeline()}, ParameterError, "fitted must be a FittedPipeline"),
        ({"title": 3}, ParameterError, "title must be a string, got 3"),
        ({"passes": [1.5]}, ParameterError, "passes must be a pxprep.reporting.Passes"),
        ({"passes": PassRecord("one", 1, 1, 1)}, ParameterError, "passes must be"),
        ({"provenance": "fov0"}, ParameterError, "provenance must be a Provenance"),
        ({"before": "fov0"}, ImageError, "before image must be an xarray.DataArray"),
        ({"after": {}}, ImageError, "after images must hold at least one"),
        ({"before": lambda f: {"a": f["fov0"]}}, ImageError, r"the same images, got \['a'\] and"),
        ({"before": lambda f: f["fov0"]}, ImageError, "the same images"),
        (
            {"before": lambda f: changed(f, fov1=f["fov1"].isel(y=slice(9)))},
            ImageError,
            "image 'fov1': before and after must have the same size",
        ),
        (
            {"before": lambda f: {n: i.sel(c=["DAPI", "CD3"]) for n, i in f.items()}},
            ChannelError,
            "before image 'fov0': channels: no channel 'panCK'",
        ),
        (
            {"after": lambda f: changed(f, fov2=f["fov2"].sel(c=["DAPI"]))},
            ChannelError,
            "after image 'fov2'.*missing 'CD3', 'panCK'",
        ),
        ({"after": lambda f: changed(f, fov2=3)}, ImageError, "after image 'fov2' must be an xarr"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_input(fovs, fitted, tmp_path, no_compute, change, kind, message):
    lazy = {name: fov.chunk() for name, fov in fovs.items()}
    arguments = {"before": lazy, "after": lazy, "fitted": fitted}
    arguments |= {key: value(lazy) if callable(value) else value for key, value in change.items()}
    with no_compute(), pytest.raises(kind, match=message):
        pxprep.report(tmp_path / "report.html", **arguments)
    assert [*tmp_path.iterdir()] == []
