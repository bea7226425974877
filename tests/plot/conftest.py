"""Fixtures: fields of view, one of them, and what a pipeline makes of it."""

import pytest

from pxprep import Pipeline
from pxprep.datasets import tissue


@pytest.fixture(scope="module")
def fovs():
    """Six fields of view; CD8 is too bright in one, Ki67 too dim in one and missing in another."""
    made = tissue(6, 64)
    made["fov2"].loc[{"c": "CD8"}] *= 20
    made["fov1"].loc[{"c": "panCK"}] //= 20
    made["fov4"].loc[{"c": "Ki67"}] = 0
    return made


@pytest.fixture(scope="module")
def image(fovs):
    return fovs["fov0"]


@pytest.fixture(scope="module")
def fitted(fovs):
    with pytest.warns(match="Ki67"):
        return Pipeline.sparrow().fit(fovs)


@pytest.fixture(scope="module")
def after(image, fitted):
    return fitted.transform(image)
