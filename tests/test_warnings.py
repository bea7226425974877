"""Warnings point at the code that called the package."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pxprep


@pytest.mark.parametrize("behind", ["_lab", "_command.py"])
def test_a_warning_points_at_code_whose_path_begins_like_that_of_the_package(behind):
    caller = f"{Path(pxprep.__file__).parent}{behind}"
    caller = caller if caller.endswith(".py") else f"{caller}{os.sep}steps.py"
    code = compile("def mask(image):\n    image.pxprep.sum_mask(0.5)\n", caller, "exec")
    names = {}
    exec(code, names)
    with pytest.warns(pxprep.PxprepWarning, match="in percent") as caught:
        names["mask"](xr.DataArray(np.ones((1, 2, 2)), dims=("c", "y", "x")))
    assert [(one.filename, one.lineno) for one in caught] == [(caller, 2)]
