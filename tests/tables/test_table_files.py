"""Tables as AnnData and as files, whole or not at all; work and memory; layers of a store."""

import subprocess
import sys
import threading
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pxprep
from pixel_rows import CHUNKS, check, expected_table
from pxprep import Pipeline, pixel_table
from pxprep.errors import ParameterError, StoreError
from pxprep.tables import kinds

# AnnData and parquet

# Of anndata, which asks pandas for an option that is to go.
ANNDATA_ASKS = pytest.mark.filterwarnings("ignore:The 'future.infer_string':DeprecationWarning")


@ANNDATA_ASKS
def test_anndata(cohort, labels):
    pytest.importorskip("anndata")
    adata = pixel_table(cohort, labels=labels, to="anndata")
    table = pixel_table(cohort, labels=labels)
    assert adata.var_names.tolist() == ["DAPI", "CD3", "CD20"]
    np.testing.assert_array_equal(adata.X, table[adata.var_names].to_numpy())
    assert adata.X.dtype == np.float32
    pd.testing.assert_frame_equal(
        adata.obs.reset_index(drop=True), table.drop(columns=adata.var_names)
    )
    np.testing.assert_array_equal(adata.obsm["spatial"], table[["x", "y"]].to_numpy())


@ANNDATA_ASKS
def test_anndata_of_a_volume(make_image, tmp_path):
    anndata = pytest.importorskip("anndata")
    empty = xr.full_like(make_image(shape=(2, 2, 3, 4)), np.nan)
    assert pixel_table(empty, to="anndata").shape == (0, 2)
    adata = pixel_table(make_image(shape=(2, 2, 3, 4)), to="anndata")
    np.testing.assert_array_equal(adata.obsm["spatial"], adata.obs[["x", "y", "z"]].to_numpy())
    adata.write_h5ad(tmp_path / "pixels.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "pixels.h5ad").X, adata.X)


def test_parquet(cohort, labels, parquet, tmp_path):
    file = tmp_path / "pixels.parquet"
    assert pixel_table(cohort, labels=labels, to="parquet", file=str(file)) == file
    pd.testing.assert_frame_equal(pd.read_parquet(file), pixel_table(cohort, labels=labels))
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.parquet"]


def test_parquet_in_pieces(cohort, parquet, tmp_path, monkeypatch, small_strips):
    """Row groups are of one size, whatever the strips; and the same bytes whatever the chunks."""
    monkeypatch.setattr(kinds, "GROUP_ROWS", 100)
    contents = []
    for number, chunks in enumerate(({"y": 23}, {"y": 2}, CHUNKS)):
        lazy = {name: image.chunk(chunks) for name, image in cohort.items()}
        file = pixel_table(lazy, to="parquet", file=tmp_path / f"{number}.parquet")
        pd.testing.assert_frame_equal(pd.read_parquet(file), pixel_table(cohort))
        meta = parquet.read_metadata(file)
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        assert set(sizes[:-1]) == {100}
        contents.append(file.read_bytes())
    assert len(set(contents)) == 1


def test_parquet_files_are_not_replaced_unasked(cohort, parquet, tmp_path):
    file = tmp_path / "pixels.parquet"
    file.write_bytes(b"precious")
    with pytest.raises(ParameterError, match=r"pixels.parquet' exists already; overwrite=True"):
        pixel_table(cohort, to="parquet", file=file)
    assert file.read_bytes() == b"precious"
    pixel_table(cohort, to="parquet", file=file, overwrite=True)
    assert len(pd.read_parquet(file)) == len(pixel_table(cohort))


def failing(after):
    """An image whose chunks fail from that row on."""

    def read(block_info):
        start, _ = block_info[None]["array-location"][1]
        if start >= after:
            raise RuntimeError("the disk is gone")
        return np.ones((1, 4, 8), "f4")

    data = da.map_blocks(read, chunks=((1,), (4,) * 6, (8,)), dtype="f4", meta=np.empty((0, 0, 0)))
    return xr.DataArray(data.astype("f4"), dims=("c", "y", "x"))


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("after", [0, 12])
def test_what_fails_leaves_no_file(old, after, parquet, tmp_path, small_strips, monkeypatch):
    monkeypatch.setattr(kinds, "GROUP_ROWS", 10)
    file = tmp_path / "pixels.parquet"
    if old is not None:
        file.write_bytes(old)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        pixel_table(failing(after), to="parquet", file=file, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {} if old is None else {"pixels.parquet": old}
    )


def test_full_disk(parquet, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    image = xr.DataArray(np.random.default_rng(0).random((4, 200, 200)), dims=("c", "y", "x"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"pixels\.parquet' was not written"):
            pixel_table(image, to="parquet", file=tmp_path / "pixels.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


# Work and memory


def counted(image, reads):
    """A lazy image that counts how often each of its blocks is read."""
    lock = threading.Lock()

    def read(block, block_info):
        with lock:
            reads[block_info[0]["array-location"][1][0]] += 1
        return block

    data = da.map_blocks(
        read, image.chunk(y=10).data, dtype=image.dtype, meta=np.empty((0, 0, 0), image.dtype)
    )
    return image.copy(data=data)


@pytest.mark.parametrize("change", [lambda image: image, lambda image: image.isel(c=[1, 0]) * 2])
def test_statistics_are_measured_once(make_image, change, small_strips):
    """Not once for each strip: that would be 8 times as many reads."""
    images = {name: make_image("uint16", (2, 80, 9), seed=i) for i, name in enumerate("ab")}
    reads = Counter()
    lazy = {name: counted(image, reads) for name, image in images.items()}
    made = Pipeline.sparrow().fit_transform(lazy)
    dask.compute(*(change(image).data for image in made.values()))
    at_once = max(reads.values())
    reads.clear()
    made = Pipeline.sparrow().fit_transform(lazy)
    table = pixel_table({name: change(image) for name, image in made.items()})
    # A strip reads the strips above and below it, for the blur.
    assert max(reads.values()) <= at_once + 2 * len(images)
    eager = Pipeline.sparrow().fit_transform(images)
    check(table, expected_table({name: change(image) for name, image in eager.items()}))


def test_lazy_steps_one_after_the_other(make_image, small_strips):
    image = make_image("uint16", (2, 80, 9))

    def steps(image):
        return image.pxprep.quantile_norm(99).astype("f8").pxprep.sum_mask(5).pxprep.post_norm(99)

    check(pixel_table(steps(image.chunk(y=10))), expected_table({"fov0": steps(image)}))


def test_numbers_that_lack_signal_are_warned_about_once(make_image, small_strips):
    image = make_image("uint16", (2, 80, 9))
    image[0] = 0
    with pytest.warns(pxprep.PxprepWarning, match="DAPI") as record:
        pixel_table(image.chunk(y=10).pxprep.quantile_norm(99))
    assert len(record) == 1


MEMORY = """
import resource, sys
import dask, dask.array as da, numpy as np, xarray as xr
import pxprep, pyarrow.parquet as parquet

def read(block_info):
    (_, rows, columns) = block_info[None]["chunk-shape"]
    return np.full((10, rows, columns), 2, "f4")

def image(size):
    chunks = ((10,), (256,) * (size // 256), (2048,))
    data = da.map_blocks(read, chunks=chunks, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    return xr.DataArray(data, dims=("c", "y", "x"), name="large")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with dask.config.set(num_workers=2):
    pxprep.pixel_table(image(512), fraction=0.5, to="parquet", file=sys.argv[1] + "/small.parquet")
    before = peak()
    large, file = image(4096), sys.argv[1] + "/large.parquet"
    pxprep.pixel_table(large, fraction=0.5, to="parquet", file=file)
print(large.nbytes / 2**20, peak() - before, parquet.read_metadata(file).num_rows)
"""


@pytest.mark.once
def test_parquet_needs_little_memory(parquet, tmp_path):
    """An image of 320 MiB, half of it written, in a small part of that."""
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    size, grown, n_rows = map(float, done.stdout.split())
    assert size == 320
    assert n_rows == pytest.approx(4096 * 2048 / 2, rel=0.01)
    assert grown < 120
