"""Processes and threads that write to one store at once."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline
from pxprep.errors import StoreError
from pxprep.layers import new_layers
from pxprep.layers.writing import Writer
from stores import counts, make_study

TESTS = Path(__file__).parents[1]


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.once
def test_three_writers_keep_all_their_layers(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    code = (
        "import sys; sys.path.insert(0, '.'); from contention import add_at_once\n"
        "if __name__ == '__main__': add_at_once(sys.argv[1], 3, 5)"
    )
    process = python(code, sdata.path)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    names = {f"w{writer}-{number}" for writer in range(3) for number in range(5)}
    consolidated = json.loads((sdata.path / "zarr.json").read_text())["consolidated_metadata"]
    assert {f"images/{name}/s0" for name in names} <= set(consolidated["metadata"])
    found = spatialdata.read_zarr(sdata.path)
    assert names <= set(found.images)
    for name in names:
        assert pxprep.provenance(found, name).source == f"fov{name[1]}"
        np.testing.assert_array_equal(found[name].values, found[f"w{name[1]}-0"].values)
    assert not (sdata.path / ".pxprep").exists()


@pytest.mark.once
def test_two_writers_and_a_reader(tmp_path):
    code = (
        "import sys; sys.path.insert(0, '.'); import json, contention\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "if __name__ == '__main__': print(json.dumps(contention.run(sys.argv[1], 6)))"
    )
    process = python(code, tmp_path)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    report = json.loads(out)
    assert report["reader"]["wrong"] == []
    assert report["reader"]["opened"] > 1
    assert sum(writer["replaced"] for writer in report["writers"]) > 1


@pytest.mark.parametrize("objects", ["one", "several"])
def test_calls_in_threads_of_one_process(tmp_path, objects):
    """Dask's and zarr's settings hold for all threads: one call must not end another's."""
    shared = make_study(tmp_path / "study.zarr")
    expected = Pipeline.sparrow(sigma=1).fit_transform(
        pxprep.layers.read_images(shared, "fov0")["fov0"]
    )

    def work(number):
        sdata = shared if objects == "one" else spatialdata.read_zarr(shared.path)
        return [
            pxprep.pixel_clustering_preprocess(sdata, "fov0", f"t{number}-{i}", sigma=1)
            for i in range(2)
        ]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    found = spatialdata.read_zarr(shared.path)
    for name in [f"t{number}-{i}" for number in range(4) for i in range(2)]:
        np.testing.assert_array_equal(found[name].values, expected.values)
    assert not (shared.path / ".pxprep").exists()


def test_settings_of_one_write_are_not_reset_by_another(tmp_path, monkeypatch):
    """That zarr writes chunks of zeros is a setting of its own, for all threads and stores."""
    zeros = Image2DModel.parse(np.zeros((2, 24, 20), "f4"), dims=("c", "y", "x"))
    for name in ("first", "second"):
        spatialdata.SpatialData(images={"zeros": zeros}).write(tmp_path / f"{name}.zarr")
    write, publish = spatialdata.SpatialData.write, Writer._publish
    first_began, second_came, second_began, first_ended = (threading.Event() for _ in range(4))

    def overlapping(self, path, **kwargs):
        if "first" in self.images:
            first_began.set()
            assert second_came.wait(60)
            second_began.wait(1)  # it should not
        else:
            second_began.set()
            first_ended.wait(5)
        write(self, path, **kwargs)

    def coming(self, parts, group):
        if self.store.name == "second.zarr":
            second_came.set()
        return publish(self, parts, group)

    def work(name):
        sdata = spatialdata.read_zarr(tmp_path / f"{name}.zarr")
        pxprep.pixel_clustering_preprocess(sdata, "zeros", name, pipeline=Pipeline())

    monkeypatch.setattr(spatialdata.SpatialData, "write", overlapping)
    monkeypatch.setattr(Writer, "_publish", coming)
    monkeypatch.setattr(new_layers, "direct", lambda array: array)  # chunks are left to zarr
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work, "first")
        assert first_began.wait(60)
        second = pool.submit(work, "second")
        first.result()
        first_ended.set()
        second.result()  # it would lack chunks, which is an error


def test_fit_in_another_thread_while_layers_are_written(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    images = pxprep.layers.read_images(sdata, ["fov0", "fov1"])
    pipeline = Pipeline.sparrow(sigma=1)
    expected = pipeline.fit(images)

    def write(number):
        return pxprep.pixel_clustering_preprocess(sdata, "fov2", f"clean{number}", sigma=1)

    with ThreadPoolExecutor(2) as pool:
        written = [pool.submit(write, number) for number in range(4)]
        while not all(future.done() for future in written):
            assert pipeline.fit(images) == expected
            np.testing.assert_array_equal(images["fov0"].compute().values, counts(0))
        for future in written:
            future.result()


def test_wait_or_fail(tmp_path):
    """Another process holds the lock for as long as it lives."""
    sdata = make_study(tmp_path / "study.zarr")
    code = (
        "import sys; from pathlib import Path; from pxprep.store import staging\n"
        "with staging.locked(Path(sys.argv[1]), None): print('locked', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, sdata.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"locked\n"
    try:
        for wait in (False, 0.2):
            with pytest.raises(StoreError, match="another process is writing to the store"):
                pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", wait=wait)
        with pytest.raises(StoreError, match="another process is writing"):
            pxprep.repair(sdata.path, wait=False)
        assert set(spatialdata.read_zarr(sdata.path).images) == {"fov0", "fov1", "fov2", "other"}
    finally:
        holder.kill()
        holder.communicate()
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", wait=False)
    assert "clean" in spatialdata.read_zarr(sdata.path)
