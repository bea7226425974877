"""The same numbers on a real cluster of processes."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pxprep
from pxprep import Pipeline
from pxprep.datasets import tissue
from pxprep.engine import backends, computing
from pxprep.store.zarr_chunks import direct

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
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


@pytest.mark.parametrize("chunks", [None, {"y": 25, "x": 90}])
def test_masks_travel(client, image, chunks):
    labels = (image.isel(c=0) > 2).astype("i4")
    where = labels if chunks is None else labels.chunk(chunks)
    lazy = image.chunk({"c": 2, "y": 30, "x": 40})
    expected = image.pxprep.keep_where(labels).pxprep.preprocess(where=labels, sigma=1)
    made = lazy.pxprep.keep_where(where).pxprep.preprocess(where=where, sigma=1)
    xr.testing.assert_identical(made.compute(), expected)
    fitted = Pipeline.sparrow().fit(image, where=labels)
    assert Pipeline.sparrow().fit(lazy, where=where) == fitted


def test_images_of_one_name_on_a_cluster(client, image):
    def named(one):
        array = da.from_array(one.values, chunks=(2, 30, 40), name="image")
        return one.copy(data=array + array.dtype.type(0))

    pair = [image, image * 2 + 1]
    expected = [one.pxprep.preprocess() for one in pair]
    made = [named(one).pxprep.preprocess() for one in pair]
    for together, plain in zip(dask.compute(*made), expected, strict=True):
        xr.testing.assert_identical(together, plain)
    assert Pipeline.sparrow().fit(list(map(named, pair))) == Pipeline.sparrow().fit(pair)
    # What is held by workers.
    persisted = named(image).persist()
    xr.testing.assert_identical(persisted.pxprep.preprocess().compute(), expected[0])
    above = (persisted * 2 + 1).astype(image.dtype)
    xr.testing.assert_identical(above.pxprep.preprocess().compute(), expected[1])
    del persisted, above


def test_tables_on_a_cluster(client, image):
    lazy = image.chunk({"c": 2, "y": 30, "x": 40}).pxprep.preprocess()
    table = pxprep.pixel_table(lazy, fraction=0.3)
    pd.testing.assert_frame_equal(table, image.pxprep.preprocess().pxprep.pixel_table(fraction=0.3))


def test_pipelines_travel(image):
    fitted = Pipeline.sparrow(sigma={"CD3": 0, ...: 2}).fit(image)
    assert pickle.loads(pickle.dumps(fitted)) == fitted


def test_numpy_images_stay_in_this_process(client, image):
    """A NumPy image is worked on where it is, and so is the place for its result."""
    before = client.run(lambda dask_worker: dask_worker.state.executed_count)
    at_once = Pipeline.sparrow().fit_transform(image)
    assert client.run(lambda dask_worker: dask_worker.state.executed_count) == before
    xr.testing.assert_identical(at_once, Pipeline.sparrow().fit(image).transform(image))


def test_layers_are_written_by_a_cluster(client, tmp_path):
    """Chunks of zeros as well, whose writing is a setting of this process."""
    pytest.importorskip("spatialdata")
    from stores import make_study

    sdata = make_study(tmp_path / "study.zarr")
    sdata["fov0"].data = sdata["fov0"].data * 0
    pxprep.pixel_clustering_preprocess(
        sdata, ["fov0", "fov1"], ["zeros", "blurred"], pipeline=Pipeline().blur(1), chunks=8
    )
    assert (sdata["zeros"].values == 0).all()
    expected = Pipeline().blur(1).fit_transform(sdata["fov1"].compute())
    np.testing.assert_array_equal(sdata["blurred"].values, expected.values)
    assert not (sdata.path / ".pxprep").exists()


def executed(client):
    """How many tasks the workers have run."""
    return sum(client.run(lambda dask_worker: dask_worker.state.executed_count).values())


def test_a_client_is_found(client, image):
    """Whatever is computed, and though nobody asks Dask while there cannot be one."""
    lazy = image.chunk({"c": 2, "y": 30, "x": 40})
    before = executed(client)
    Pipeline.sparrow().fit(lazy)
    measured = executed(client)
    assert measured > before
    (found,) = computing.compute(lazy.data + 1)
    assert executed(client) > measured
    np.testing.assert_array_equal(found, image.values + 1)
    before = executed(client)
    with client.as_current(), dask.config.set(scheduler=None):  # as in a task of a worker
        computing.compute(lazy.data + 2)
    assert executed(client) > before


@pytest.mark.parametrize("n_scales", [1, 2])
def test_workers_write_chunks(client, image, n_scales, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    lazy = image.chunk({"c": 2, "y": 30, "x": 40}).pxprep.clip(5)
    scales = [lazy, lazy.pxprep.coarsen({"y": 2, "x": 2}).chunk({"y": 30, "x": 40})][:n_scales]
    targets = [
        zarr.create_array(tmp_path / str(n), shape=scale.shape, chunks=(2, 30, 40), dtype="f4")
        for n, scale in enumerate(scales)
    ]
    before = executed(client)
    backends.store([scale.data for scale in scales], [direct(target) for target in targets])
    assert executed(client) >= before + 9 * n_scales
    for scale, target in zip(scales, targets, strict=True):
        np.testing.assert_array_equal(target[...], scale.values)
    assert list(tmp_path.rglob("*.partial")) == []


def test_layers_of_several_scales_are_written_by_a_cluster(client, tmp_path, monkeypatch):
    """Their pixels; SpatialData writes the metadata here, as it does without a cluster."""
    spatialdata = pytest.importorskip("spatialdata")
    from stores import arrays, files, make_study, same

    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    write, seen = spatialdata.SpatialData.write, []

    def writing(self, path, **kwargs):
        before = executed(client)
        write(self, path, **kwargs)
        seen.append(executed(client) - before)

    monkeypatch.setattr(spatialdata.SpatialData, "write", writing)
    fitted = Pipeline().blur(1).fit(pxprep.layers.read_images(sdata, "fov0"))
    before = executed(client)
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "made", pipeline=fitted, chunks=8)
    assert executed(client) > before
    with dask.config.set(scheduler="synchronous"):
        pxprep.pixel_clustering_preprocess(sdata, "fov0", "same", pipeline=fitted, chunks=8)
    assert seen == [0, 0]
    found = spatialdata.read_zarr(sdata.path)
    assert same(arrays(found["made"]), arrays(found["same"]))
    written = [
        {
            path.relative_to(sdata.path / "images" / name): raw
            for path, raw in files(sdata.path / "images" / name).items()
            if path.parent.name != name  # our mark
        }
        for name in ("made", "same")
    ]
    assert written[0] == written[1]
    assert len([path for path in written[0] if path.name.isdigit()]) == 9 + 4


def test_the_script_of_the_page_runs(tmp_path):
    """As a file: each worker that starts runs it, too."""
    pytest.importorskip("zarr")
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?LocalCluster.*?)```", page, re.DOTALL)
    image = "from pxprep.datasets import tissue\nimage = tissue(size=64)['fov0'].chunk(y=32)\n"
    script = tmp_path / "script.py"
    script.write_text(image + snippet.replace("n_workers=4", "n_workers=2"))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = tissue(size=64)["fov0"].pxprep.preprocess().values
    np.testing.assert_array_equal(da.from_zarr(tmp_path / "clean.zarr").compute(), expected)


def test_same_numbers_when_a_worker_is_killed(tmp_path):
    """In a process of its own: closing a cluster that lost a worker can hang in distributed."""
    script = Path(__file__).parents[1] / "killed_worker.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=240, check=False
    )
    assert "the same numbers" in done.stdout, done.stderr
