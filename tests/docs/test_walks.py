"""The walks of docs/design.md: a call really takes the way that the page draws."""

import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pxprep
from pxprep.engine.kernels import Kernel

PACKAGE = Path(pxprep.__file__).parent
DESIGN = (Path(__file__).parents[2] / "docs/design.md").read_text()
# The file, if it is not that of the line before, the names in it, and perhaps a remark.
LINE = re.compile(r"^  ([\w/]+\.py)? +(\w[\w.]*(?:, (?:\w[\w.]*|\.\.\.))*)(?:  .*)?$", re.MULTILINE)


def walk(heading, number=0):
    """The steps that the page lists: (file, name)."""
    block = DESIGN.split(heading)[1].split("```text\n")[1 + number].split("```")[0]
    lines = LINE.findall(block)
    assert len(lines) == len(block.splitlines())
    file = ""
    for own, names in lines:
        file = own or file
        for name in names.split(", "):
            if name != "...":
                yield file, name


def calls_of(function):
    """What is called in the package meanwhile, in any thread, in order: (file, qualified name)."""
    calls = []

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event != "call" or not path.is_relative_to(PACKAGE):
            return
        name = frame.f_code.co_qualname
        if name == "Kernel.__call__":
            kernel = frame.f_locals["self"]._function
            path, name = Path(kernel.__code__.co_filename), kernel.__qualname__
        calls.append((path.relative_to(PACKAGE).as_posix(), name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def check(steps, calls):
    """Each step is called after the one before; a class is called if a method of it is."""
    left = iter(calls)
    for file, name in steps:
        called = re.compile(rf"(.*\.)?{re.escape(name)}(\..*)?")
        assert any(file == where and called.fullmatch(what) for where, what in left), (file, name)


@pytest.fixture
def image():
    values = np.random.default_rng(5).poisson(3, (3, 70, 60)).astype(np.float32)
    return xr.DataArray(values, dims=("c", "y", "x"))


def test_blur(image):
    assert Kernel.__call__.__qualname__ == "Kernel.__call__"
    image.pxprep.blur(2)  # compiles: Numba's own calls take long to note
    check(walk("## The walk of a call"), calls_of(lambda: image.pxprep.blur(2)))


def test_a_measurement(image):
    steps = walk("## The walk of a call", 1)
    check(steps, calls_of(lambda: image.pxprep.quantile_norm(99)))


def test_the_wrapper(tmp_path):
    pytest.importorskip("spatialdata")
    from stores import make_study

    sdata = make_study(tmp_path / "study.zarr")
    pxprep.pixel_clustering_preprocess(sdata, "other", "newest")
    steps = [*walk("## The walk of the wrapper")]
    optional = ("layers/resuming.py", "find_finished"), ("pipeline/run.py", "_evaluate")
    assert set(optional) < set(steps)
    once = [step for step in steps if step not in optional]
    check(once, calls_of(lambda: pxprep.pixel_clustering_preprocess(sdata, "fov0", "new")))
    calls = calls_of(
        lambda: pxprep.pixel_clustering_preprocess(sdata, "fov1", "newer", resume=True)
    )
    check([step for step in steps if step != optional[1]], calls)
