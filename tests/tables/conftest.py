"""Fixtures: masked images, labels for them, and what is needed for files."""

import numpy as np
import pytest
import xarray as xr

from pxprep.engine import backends


@pytest.fixture
def small_strips(monkeypatch):
    """Every row of chunks is a strip of its own, every row of pixels where there are no chunks."""
    monkeypatch.setattr(backends, "BAND_BYTES", 1)


@pytest.fixture
def cohort(make_image):
    """Two masked images of different sizes."""
    images = {
        "a": make_image(shape=(3, 23, 17), seed=1),
        "b": make_image(shape=(3, 11, 30), seed=2),
    }
    return {name: image.pxprep.sum_mask(40) for name, image in images.items()}


# Labels


@pytest.fixture
def labels(cohort):
    rng = np.random.default_rng(6)
    return {
        name: xr.DataArray(
            rng.integers(0, 4, (image.sizes["y"], image.sizes["x"]), np.uint32), dims=("y", "x")
        )
        for name, image in cohort.items()
    }


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")
