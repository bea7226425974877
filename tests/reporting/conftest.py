"""Fixtures: fields of view, what a pipeline makes of them, and a report."""

import pytest

import pxprep
from pages import Page
from pxprep import Pipeline
from pxprep.datasets import tissue
from pxprep.reporting import Passes


@pytest.fixture(scope="module")
def fovs():
    made = tissue(4, 40)
    return {name: fov.sel(c=["DAPI", "CD3", "panCK"]) for name, fov in made.items()}


@pytest.fixture(scope="module")
def pair(fovs):
    return {name: fovs[name] for name in ("fov0", "fov1")}


@pytest.fixture(scope="module")
def passes():
    return Passes()


@pytest.fixture(scope="module")
def fitted(fovs, passes):
    return Pipeline.sparrow(q={"CD3": 98, ...: 99}).fit(fovs, progress=passes)


@pytest.fixture(scope="module")
def after(fovs, fitted):
    return fitted.transform(fovs)


@pytest.fixture(scope="module")
def file(tmp_path_factory, fovs, after, fitted, passes):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert pxprep.report(path, fovs, after, fitted, title="Batch 7", passes=passes) == path
    return path


@pytest.fixture(scope="module")
def page(file):
    return Page(file)


@pytest.fixture
def write(tmp_path):
    """A function that writes a report and reads it."""
    path = tmp_path / "made.html"

    def written(*arguments, **how):
        pxprep.report(path, *arguments, **how)
        assert [*tmp_path.iterdir()] == [path]
        return Page(path)

    return written
