"""The command in a process of its own, and what it should have written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import spatialdata
from spatialdata.models import Image2DModel

COMMAND = Path(sys.executable).with_name("pxprep")


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_same_layer(store, name, expected):
    """A layer on disk is an image, to the last bit, with the same channels."""
    found = spatialdata.read_zarr(store)[name]
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.dtype == expected.dtype
    assert found.c.values.tolist() == expected.c.values.tolist()


def elements(fovs):
    return {
        name: Image2DModel.parse(fov.data, dims=fov.dims, c_coords=fov.c.values.tolist())
        for name, fov in fovs.items()
    }
