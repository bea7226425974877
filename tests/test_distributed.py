"""The same numbers on a real cluster of processes."""

import pickle

import numpy as np
import pytest
import xarray as xr

from pxprep import Pipeline

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.7, 6, (3, 70, 90))).astype(np.uint16)
    return xr.DataArray(counts, dims=("c", "y", "x"), coords={"c": ["CD3", "CD20", "panCK"]})


def test_same_bits_on_a_cluster(client, image):
    lazy = image.chunk({"c": 2, "y": 30, "x": 40})
    xr.testing.assert_identical(lazy.pxprep.preprocess().compute(), image.pxprep.preprocess())
    assert Pipeline.sparrow().fit(lazy) == Pipeline.sparrow().fit(image)


def test_pipelines_travel(image):
    fitted = Pipeline.sparrow(sigma={"CD3": 0, ...: 2}).fit(image)
    assert pickle.loads(pickle.dumps(fitted)) == fitted
