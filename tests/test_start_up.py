"""What is imported when the package or the command starts: only what is needed at once."""

import inspect
import json
import os
import subprocess
import sys

import pytest
import xarray as xr

import pxprep
from pxprep.accessors import Accessor

# Packages that take long; xarray needs NumPy and pandas.
HEAVY = {"dask.array", "distributed", "numba", "scipy", "zarr", "spatialdata", "matplotlib"}
OF_IMAGES = {"numpy", "pandas", "xarray", "dask", "pxprep.accessors", "pxprep.engine"}
COMMAND = "import sys; sys.argv[0] = 'pxprep'; from pxprep_command import main; main()"


def imported_by(code, *arguments, **environment):
    """What is printed, and all modules that a new process has imported when it ends."""
    hook = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hook + code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def test_the_package_imports_no_more_than_the_accessor_needs():
    _, modules = imported_by("import pxprep")
    assert not (HEAVY | {"typer", "anndata", "PIL"}) & modules
    assert not {name for name in modules if name.startswith(("pxprep.engine", "pxprep.steps"))}
    assert {"pxprep.accessors", "pxprep.errors"} <= modules


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in ("run", "import"))]
)
def test_the_command_helps_without_the_library(arguments):
    pytest.importorskip("typer")
    said, modules = imported_by(COMMAND, *arguments)
    assert "pxprep" in said
    assert not (HEAVY | OF_IMAGES) & modules


@pytest.mark.parametrize(
    ("words", "answer"), [("pxprep r", "run"), ("pxprep run --lay", "--layer")]
)
def test_the_shell_completes_without_the_library(words, answer):
    pytest.importorskip("typer")
    last = str(len(words.split()) - 1)
    said, modules = imported_by(
        COMMAND, _PXPREP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last
    )
    assert answer in said.split()
    assert not (HEAVY | OF_IMAGES) & modules


def test_every_public_name_can_be_had_at_once():
    """Each in a package from which nothing has been had before."""
    _, modules = imported_by(
        "import sys, pxprep\n"
        "assert dir(pxprep) == sorted(pxprep.__all__)\n"
        "for name in sys.argv[1:]:\n"
        "    assert name in vars(pxprep) or getattr(pxprep, name) is vars(pxprep)[name], name\n"
        "from pxprep import *\n"
        "assert set(sys.argv[1:]) <= set(globals())\n",
        *pxprep.__all__,
    )
    assert "pxprep.engine.backends" in modules
    with pytest.raises(AttributeError, match="module 'pxprep' has no attribute 'blurr'"):
        _ = pxprep.blurr


def test_names_are_those_of_their_modules():
    assert pxprep.Pipeline is pxprep.pipeline.Pipeline
    assert pxprep.pixel_clustering_preprocess is pxprep.layers.pixel_clustering_preprocess
    assert pxprep.quantile is pxprep.ops.quantile
    assert pxprep.Mask.__module__ == "pxprep.images.masks"
    assert pxprep.__version__.count(".") >= 1


def test_methods_tell_what_they_take_before_they_are_called():
    """The accessor is the class itself: help and tooltips show its methods and their parameters."""
    assert xr.DataArray.pxprep is Accessor
    assert list(inspect.signature(Accessor.blur).parameters) == ["self", "sigma"]
    assert "Standard deviation" in Accessor.blur.__doc__
    code = (
        "import sys, inspect, xarray as xr, pxprep\n"
        "print(inspect.signature(xr.DataArray.pxprep.fit))\n"
        "assert 'pxprep.pipeline' not in sys.modules\n"
    )
    said, _ = imported_by(code)
    assert said.startswith("(self, pipeline: 'Pipeline', *, pool: ")


def test_a_first_call_compiles_few_kernels_each_for_the_types_at_hand():
    """What is compiled makes up most of a first call."""
    code = (
        "import gc, numpy, xarray, pxprep\n"
        "values = numpy.arange(400, dtype='uint16').reshape(1, 20, 20) % 9\n"
        "xarray.DataArray(values, dims=('c', 'y', 'x')).pxprep.preprocess()\n"
        "from pxprep.engine.kernels import Kernel\n"
        "kernels = [one for one in gc.get_objects() if isinstance(one, Kernel)]\n"
        "used = [one.compiled for one in kernels if 'compiled' in vars(one)]\n"
        "print(len(used), sum(len(one.signatures) for one in used))\n"
    )
    said, _ = imported_by(code)
    assert said.split() == ["9", "10"]  # one both for integers and for floats
