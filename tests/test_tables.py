"""Tables of pixels: which rows, in which order, sampled how, in how much memory."""

import hashlib
import itertools
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
from scipy import stats

import pxprep
from pxprep import Pipeline, pixel_table, tables
from pxprep.engine import backends
from pxprep.errors import ChannelError, ImageError, LayerError, ParameterError, StoreError

CHUNKS = {"c": 1, "y": 5, "x": 7}


@pytest.fixture
def small_strips(monkeypatch):
    """Every row of chunks is a strip of its own, every row of pixels where there are no chunks."""
    monkeypatch.setattr(backends, "STRIP_BYTES", 1)


@pytest.fixture
def cohort(make_image):
    """Two masked images of different sizes."""
    images = {
        "a": make_image(shape=(3, 23, 17), seed=1),
        "b": make_image(shape=(3, 11, 30), seed=2),
    }
    return {name: image.pxprep.sum_mask(40) for name, image in images.items()}


def expected_table(images, labels=None):
    """The table, pixel by pixel."""
    found = []
    for name, image in images.items():
        dims = [dim for dim in ("y", "z", "x") if dim in image.dims]
        plain = image.transpose(*dims, "c").values
        for place in itertools.product(*map(range, plain.shape[:-1])):
            if np.isfinite(plain[place]).all():
                row = dict(zip(map(str, image.c.values), plain[place], strict=True))
                at = dict(zip(dims, place, strict=True))
                row |= {"fov": name} | {dim: at[dim] for dim in ("z", "y", "x") if dim in at}
                if labels is not None:
                    row["label"] = labels[name].transpose(*dims).values[place]
                found.append(row)
    return pd.DataFrame(found)


def check(table, expected):
    assert table.columns.tolist() == expected.columns.tolist()
    assert table.index.equals(pd.RangeIndex(len(expected)))
    for name in expected.columns:
        np.testing.assert_array_equal(table[name].to_numpy(), expected[name].to_numpy())


@pytest.mark.parametrize("chunks", [None, CHUNKS, {"c": 3, "y": 23, "x": 2}])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "bool", "float16"])
def test_a_row_for_each_pixel_that_survived(make_image, dtype, chunks, small_strips):
    image = make_image(dtype, seed=3)
    image = image.pxprep.sum_mask(30) if dtype != "bool" else image
    table = pixel_table(image if chunks is None else image.chunk(chunks))
    check(table, expected_table({"fov0": image}))
    kept = "float64" if dtype == "float64" else "float32"
    assert table.dtypes.astype(str).tolist() == [kept] * 3 + ["category", "int32", "int32"]
    if dtype != "bool":
        dropped = int(np.isnan(image.values).all(axis=0).sum())
        assert 0 < dropped == image[0].size - len(table)


@pytest.mark.parametrize("dims", list(itertools.permutations(("c", "y", "x"))))
def test_dims_in_any_order(cohort, dims):
    turned = {name: image.transpose(*dims) for name, image in cohort.items()}
    expected = expected_table(cohort)
    check(pixel_table(turned), expected)
    lazy = {name: image.chunk(CHUNKS) for name, image in turned.items()}
    check(pixel_table(lazy), expected)


@pytest.mark.parametrize("dims", [("c", "z", "y", "x"), ("x", "y", "c", "z"), ("z", "c", "x", "y")])
@pytest.mark.parametrize("chunks", [None, {"z": 1, "y": 4}, {"z": 3, "y": 9, "x": 5}])
def test_volumes(make_image, dims, chunks, small_strips):
    image = make_image(shape=(2, 3, 9, 11), nan=0.1)
    turned = image.transpose(*dims)
    table = pixel_table(turned if chunks is None else turned.chunk(chunks))
    check(table, expected_table({"fov0": image}))
    assert table.columns.tolist() == ["DAPI", "CD3", "fov", "z", "y", "x"]


def test_pixels_that_lack_some_channels_have_no_row(make_image):
    image = make_image()
    image[0, 4, 5], image[1, 6, 7], image[2, 8, 9] = np.nan, np.inf, -np.inf
    places = set(zip(*pixel_table(image)[["y", "x"]].to_numpy().T.tolist(), strict=True))
    everywhere = set(itertools.product(range(23), range(17)))
    assert everywhere - places == {(4, 5), (6, 7), (8, 9)}
    # Channels that are not asked for do not count.
    assert len(pixel_table(image, channels=["DAPI"])) == 23 * 17 - 1


def test_a_step_that_finds_pixels_missing(cohort):
    fitted = Pipeline.sparrow(sigma=1).fit(cohort)
    clean = fitted.transform(cohort)
    check(pixel_table(clean), expected_table(clean))


def test_one_pixel():
    image = xr.DataArray(np.array([[[2.5]], [[0]]]), dims=("c", "y", "x"))
    table = pixel_table(image)
    assert table.to_dict("records") == [{"0": 2.5, "1": 0, "fov": "0", "y": 0, "x": 0}]


@pytest.mark.parametrize("fraction", [1, 0.5])
def test_nothing_survived(make_image, fraction, tmp_path):
    image = xr.full_like(make_image(), np.nan)
    labels = xr.DataArray(np.zeros((23, 17), np.uint32), dims=("y", "x"))
    table = pixel_table({"empty": image}, fraction=fraction, labels=[labels])
    assert len(table) == 0
    kinds = ["float32"] * 3 + ["category", "int32", "int32", "uint32"]
    assert table.dtypes.astype(str).tolist() == kinds
    assert table["fov"].cat.categories.tolist() == ["empty"]
    parquet = pytest.importorskip("pyarrow.parquet")
    path = pixel_table(image, fraction=fraction, to="parquet", file=tmp_path / "t.parquet")
    assert parquet.read_table(path).column_names == ["DAPI", "CD3", "CD20", "fov", "y", "x"]


def test_input_is_left_alone(make_image):
    image = make_image(nan=0.1)
    before = image.copy(deep=True)
    image.values.flags.writeable = False
    table = pixel_table(image)
    table["DAPI"] = 0
    table.loc[:, "CD3"] = 0
    xr.testing.assert_identical(image, before)


def test_channels_by_label(cohort):
    table = pixel_table(cohort, channels=["CD20", "DAPI"])
    expected = expected_table(
        {name: image.sel(c=["CD20", "DAPI"]) for name, image in cohort.items()}
    )
    check(table, expected)


def test_images_with_channels_in_other_orders(cohort):
    turned = dict(cohort, b=cohort["b"].isel(c=[2, 0, 1]))
    check(pixel_table(turned), expected_table(cohort))


def test_forms_of_a_cohort(cohort):
    expected = expected_table(cohort)
    table = pixel_table(list(cohort.values()))
    check(table, expected.assign(fov=expected["fov"].map({"a": "0", "b": "1"})))
    if hasattr(xr, "DataTree"):
        tree = xr.DataTree.from_dict(
            {f"slide/{name}": image.to_dataset(name="image") for name, image in cohort.items()}
        )
        check(pixel_table(tree), expected.assign(fov="slide/" + expected["fov"]))


def test_mixed_types_take_the_wider(cohort):
    mixed = dict(cohort, b=cohort["b"].astype("float64"))
    assert pixel_table(mixed)["CD3"].dtype == np.float64


# Samples


def rows_of(table):
    """Each row as a tuple of its FOV and its position."""
    return set(table[["fov", "y", "x"]].itertuples(index=False, name=None))


def flat(size, name="flat", n_channels=1):
    return xr.DataArray(np.ones((n_channels, *size), "f4"), dims=("c", "y", "x"), name=name)


@pytest.mark.parametrize("fraction", [0.3, 0.999])
def test_a_sample_is_what_philox_draws(cohort, fraction, small_strips):
    """One draw for each pixel, dropped or not, in the order of the table."""
    key = hashlib.blake2b(b"7 b", digest_size=16).digest()
    draws = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(11 * 30)
    taken = (draws / 2**64 < fraction).reshape(11, 30)
    expected = expected_table({"b": cohort["b"].where(xr.DataArray(taken, dims=("y", "x")))})
    check(pixel_table({"b": cohort["b"]}, fraction=fraction, seed=7), expected)
    check(pixel_table({"b": cohort["b"].chunk(y=3)}, fraction=fraction, seed=7), expected)


PROMISED = [(0, 1), (6, 16), (7, 1), (11, 14), (16, 4), (17, 1)]


def test_a_sample_stays_what_it_is():
    """These rows are a promise: the same in later versions and on other machines."""
    table = pixel_table(flat((20, 20)), fraction=0.02, seed=0)
    assert list(zip(table["y"], table["x"], strict=True)) == PROMISED


@pytest.mark.parametrize("chunks", [None, CHUNKS, {"y": 1}, {"y": 23, "x": 1}, {"y": (2, 20, 1)}])
def test_samples_do_not_depend_on_chunks(make_image, chunks, monkeypatch):
    image = make_image(nan=0.1)
    expected = pixel_table(image, fraction=0.4, seed=5)
    other = image if chunks is None else image.chunk(chunks)
    for n_bytes in (1, 1000, 10**9):
        monkeypatch.setattr(backends, "STRIP_BYTES", n_bytes)
        pd.testing.assert_frame_equal(pixel_table(other, fraction=0.4, seed=5), expected)


@pytest.mark.parametrize("chunks", [{"z": 1, "y": 2}, {"z": 3, "y": 4, "x": 5}])
def test_samples_of_volumes(make_image, chunks, small_strips):
    image = make_image(shape=(2, 3, 9, 11), nan=0.1)
    expected = pixel_table(image.chunk(y=-1), fraction=0.4, seed=5)
    pd.testing.assert_frame_equal(pixel_table(image.chunk(chunks), fraction=0.4, seed=5), expected)


def test_samples_do_not_depend_on_other_images_channels_or_workers(cohort):
    expected = pixel_table(cohort, fraction=0.4, seed=5)
    turned = pixel_table(dict(reversed(cohort.items())), fraction=0.4, seed=5)
    assert rows_of(turned) == rows_of(expected)
    alone = pixel_table(cohort["b"].rename("b"), fraction=0.4, seed=5)
    assert rows_of(alone) == {row for row in rows_of(expected) if row[0] == "b"}
    others = {name: image.isel(c=[2, 1]) for name, image in cohort.items()}
    assert rows_of(pixel_table(others, fraction=0.4, seed=5)) == rows_of(expected)
    for how in ({"scheduler": "synchronous"}, {"num_workers": 3}):
        with dask.config.set(how):
            lazy = {name: image.chunk(CHUNKS) for name, image in cohort.items()}
            pd.testing.assert_frame_equal(pixel_table(lazy, fraction=0.4, seed=5), expected)


def test_smaller_samples_are_parts_of_larger_ones(cohort):
    fractions = (0.05, 0.2, 0.21, 0.9, 1)
    samples = [rows_of(pixel_table(cohort, fraction=part, seed=3)) for part in fractions]
    for smaller, larger in itertools.pairwise(samples):
        assert smaller < larger


def test_seeds_and_names_give_samples_of_their_own():
    images = {"a": flat((200, 200)), "b": flat((200, 200))}
    first = pixel_table(images, fraction=0.3, seed=1)
    other = pixel_table(images, fraction=0.3, seed=2)
    one, two = ({row[1:] for row in rows_of(first) if row[0] == name} for name in "ab")
    for a, b in ((one, two), (rows_of(first), rows_of(other))):
        # Independent samples have in common what chance gives.
        assert len(a & b) / len(a) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("size", [(512, 512), (512, 513), (3, 80_000)])
def test_samples_are_uniform(size):
    """Their number, their places in the large and in the small, and those of neighbours."""
    table = pixel_table(flat(size), fraction=0.25, seed=4)
    n_pixels = size[0] * size[1]
    assert stats.binomtest(len(table), n_pixels, 0.25).pvalue > 1e-3
    taken = np.zeros(size)
    taken[table["y"], table["x"]] = 1
    for blocks in ((2, 2), (1, 16), (3, 8)):
        parts = [
            np.array_split(rows, blocks[1], axis=1) for rows in np.array_split(taken, blocks[0])
        ]
        counts = np.array([[part.sum(), part.size] for row in parts for part in row])
        assert stats.chisquare(counts[:, 0], len(table) * counts[:, 1] / n_pixels).pvalue > 1e-3
    for period in (2, 3, 4, 7):
        found = np.bincount((table["y"] * size[1] + table["x"]) % period, minlength=period)
        assert stats.chisquare(found).pvalue > 1e-3
    for shift in ((0, 1), (1, 0), (1, 1), (0, 4)):
        near = taken * np.roll(taken, shift, axis=(0, 1))
        assert near.mean() == pytest.approx(0.0625, abs=0.003)


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


@pytest.mark.parametrize("lazy", [False, True])
def test_labels(cohort, labels, lazy, small_strips):
    expected = expected_table(cohort, labels)
    if lazy:
        cohort = {name: image.chunk(CHUNKS) for name, image in cohort.items()}
        labels = {name: image.chunk(y=4).T for name, image in labels.items()}
    turned = dict(reversed(labels.items()))
    for given in (turned, list(labels.values())):
        check(pixel_table(cohort, labels=given), expected)
    table = pixel_table(cohort, labels=labels, drop_background=True)
    check(table, expected[expected["label"] > 0].reset_index(drop=True))
    assert table["label"].dtype == np.uint32
    sampled = pixel_table(cohort, labels=labels, fraction=0.3)
    assert rows_of(sampled) == rows_of(pixel_table(cohort, fraction=0.3))


def test_labels_of_one_image_and_of_a_volume(make_image):
    image = make_image(shape=(2, 3, 5, 6))
    mask = image.isel(c=0, drop=True) > 20
    table = pixel_table(image, labels=mask)
    check(table, expected_table({"fov0": image}, {"fov0": mask}))
    assert table["label"].dtype == bool
    kept = pixel_table(image, labels=mask, drop_background=True)
    assert kept["label"].all()
    assert len(kept) == int(mask.sum())


def test_labels_of_types_that_no_integer_holds(cohort, labels, no_compute):
    lazy = {name: image.chunk(CHUNKS) for name, image in cohort.items()}
    mixed = {"a": labels["a"].astype("uint64"), "b": labels["b"].astype("int64")}
    with no_compute(), pytest.raises(ParameterError, match=r"labels must.*'int64', 'uint64'"):
        pixel_table(lazy, labels=mixed)


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


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")


def test_parquet(cohort, labels, parquet, tmp_path):
    file = tmp_path / "pixels.parquet"
    assert pixel_table(cohort, labels=labels, to="parquet", file=str(file)) == file
    pd.testing.assert_frame_equal(pd.read_parquet(file), pixel_table(cohort, labels=labels))
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.parquet"]


def test_parquet_in_pieces(cohort, parquet, tmp_path, monkeypatch, small_strips):
    """Row groups are of one size, whatever the strips; and the same bytes whatever the chunks."""
    monkeypatch.setattr(tables, "GROUP_ROWS", 100)
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
    monkeypatch.setattr(tables, "GROUP_ROWS", 10)
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


# SpatialData


@pytest.fixture
def sdata(tmp_path):
    pytest.importorskip("spatialdata")
    from stores import make_study

    return make_study(tmp_path / "study.zarr", multiscale=True)


def test_layers(sdata):
    names = ["fov1", "fov0"]
    table = pixel_table(sdata, names, channels=["CD20"], fraction=0.5)
    images = {name: sdata[name]["scale0"]["image"].sel(c=["CD20"]) for name in names}
    pd.testing.assert_frame_equal(table, pixel_table(images, fraction=0.5))
    check(pixel_table(sdata, "fov0"), expected_table({"fov0": sdata["fov0"]["scale0"]["image"]}))


def test_what_the_wrapper_makes(sdata):
    names = ["clean0", "clean1"]
    pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], names, sigma=None, q_sum=20)
    layers = {name: sdata[name]["scale0"]["image"].compute() for name in names}
    dropped = {name: np.isnan(layer.values) for name, layer in layers.items()}
    for name, layer in layers.items():
        assert layer.dtype == np.float32
        assert dropped[name].any()
        assert (dropped[name].all(axis=0) == dropped[name].any(axis=0)).all()
    check(pixel_table(sdata, names), expected_table(layers))


@pytest.mark.parametrize("multiscale", [False, True])
def test_labels_layer(sdata, multiscale):
    from spatialdata.models import Labels2DModel

    cells = np.arange(480).reshape(24, 20) % 7
    sdata["more"] = Labels2DModel.parse(
        cells, dims=("y", "x"), scale_factors=[2] if multiscale else None
    )
    table = pixel_table(sdata, ["fov0", "fov1"], labels=["cells", "more"])
    at = table["y"].to_numpy() * 20 + table["x"].to_numpy()
    expected = np.where(table["fov"] == "fov0", at % 5, at % 7)
    np.testing.assert_array_equal(table["label"].to_numpy(), expected)
    alone = pixel_table(sdata, "fov1", labels="more", drop_background=True)
    assert sorted(set(alone["label"])) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"img_layer": "fov"}, LayerError, "img_layer 'fov' does not exist.*'fov[0-2]'"),
        ({"img_layer": "cells"}, LayerError, "img_layer 'cells' must be an image.*labels"),
        ({"img_layer": 3}, ParameterError, "img_layer must be the name of a layer"),
        ({}, ParameterError, r"img_layer must name the image layers.*'fov0', 'fov1'"),
        ({"img_layer": "fov0", "labels": "cell"}, LayerError, "labels 'cell' does not.*'cells'"),
        (
            {"img_layer": "fov0", "labels": "fov1"},
            LayerError,
            "labels 'fov1' must be labels.*images",
        ),
        ({"img_layer": ["fov0", "fov1"], "labels": "cells"}, ParameterError, "labels.*2 images.*1"),
        (
            {"img_layer": "fov0", "labels": "small"},
            ParameterError,
            "'small'.*size.*'y': 24.*'y': 2",
        ),
        ({"img_layer": "fov0", "channels": ["CD4"]}, ChannelError, "layer 'fov0'.*'CD4'.*'CD3'"),
    ],
)
def test_layers_that_do_not_fit(sdata, arguments, kind, message, no_compute):
    from spatialdata.models import Labels2DModel

    sdata["small"] = Labels2DModel.parse(np.ones((2, 2), int), dims=("y", "x"))
    with no_compute(), pytest.raises(kind, match=message):
        pixel_table(sdata, **arguments)


# Bad input

PLANE = xr.DataArray(np.ones((23, 17), int), dims=("y", "x"))
BAD = [
    ({"fraction": 0}, "fraction must be a number above 0 and at most 1, got 0"),
    ({"fraction": 10}, r"fraction must be .*, got 10; did you mean 0\.1\?"),
    ({"fraction": -0.1}, "fraction must be"),
    ({"fraction": float("nan")}, "fraction must be"),
    ({"fraction": "0.1"}, "fraction must be"),
    ({"fraction": True}, "fraction must be"),
    ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ({"seed": 1.5}, "seed must be"),
    ({"to": "csv"}, "to must be one of 'pandas', 'anndata', 'parquet', got 'csv'"),
    ({"to": None}, "to must be one of"),
    ({"file": "pixels.parquet"}, "file needs to=\"parquet\", got to='pandas'"),
    ({"overwrite": 1}, "overwrite must be True or False"),
    ({"drop_background": 1}, "drop_background must be True or False"),
    ({"drop_background": True}, "drop_background needs labels"),
    ({"labels": PLANE[:5]}, r"labels of image 'fov0' must have the image's size .*23.*'y': 5"),
    ({"labels": PLANE.expand_dims("z")}, "labels of image 'fov0' must have the image's size"),
    ({"labels": PLANE.astype(float)}, "labels of image 'fov0' must hold integers or bool.*float64"),
    ({"labels": PLANE.values}, "labels must be one for each of 1 images"),
    ({"labels": [PLANE, PLANE]}, "labels must be one for each of 1 images, got 2"),
    ({"labels": {"fov1": PLANE}}, r"labels must be given for each image.*'fov0'.*'fov1'"),
    ({"labels": "cells"}, "labels of image 'fov0' must be an xarray.DataArray, got str"),
    ({"labels": [3]}, "labels of image 'fov0' must be an xarray.DataArray, got int"),
    ({"image": "image"}, "image names a variable of a tree's datasets"),
    ({"img_layer": "fov0"}, "sdata must be a spatialdata.SpatialData"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_parameters(make_image, no_compute, arguments, message):
    if "img_layer" in arguments:
        pytest.importorskip("spatialdata")
    with no_compute(), pytest.raises(ParameterError, match=message):
        pixel_table(make_image(chunks=CHUNKS), **arguments)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, "file must be the path of a file"),
        (3, "file must be the path of a file"),
        ("", "file must be the path of a file"),
        (
            "none/pixels.parquet",
            r"file must be in a folder that exists, got .*none/pixels\.parquet",
        ),
        (".", "is a folder"),
    ],
)
def test_bad_files(make_image, no_compute, parquet, tmp_path, monkeypatch, file, message):
    monkeypatch.chdir(tmp_path)
    with no_compute(), pytest.raises(ParameterError, match=message):
        pixel_table(make_image(chunks=CHUNKS), to="parquet", file=file, overwrite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fov", "x", "y", "label"])
def test_channels_called_like_other_columns(make_image, no_compute, name):
    image = make_image(chunks=CHUNKS).assign_coords(c=["DAPI", name, "CD20"])
    with (
        no_compute(),
        pytest.raises(ParameterError, match=rf"channels must not.*'{name}'.*assign_coords"),
    ):
        pixel_table(image, labels=PLANE)


def test_a_channel_called_z_where_there_is_no_such_column(make_image):
    image = make_image().assign_coords(c=["DAPI", "z", "label"])
    assert pixel_table(image).columns.tolist() == ["DAPI", "z", "label", "fov", "y", "x"]


def test_names_that_differ_only_in_their_type(make_image, no_compute):
    image = make_image(chunks=CHUNKS)
    with no_compute(), pytest.raises(ParameterError, match=r"images must differ as text.*'0'"):
        pixel_table({0: image, "0": image})
    twice = image.assign_coords(c=np.array([1, "1", 2], object))
    with no_compute(), pytest.raises(ParameterError, match=r"channels must differ as text.*'1'"):
        pixel_table(twice)


def test_what_is_no_image(make_image):
    with pytest.raises(ImageError, match=r"image must be an xarray\.DataArray"):
        pixel_table(make_image().values)
    with pytest.raises(ChannelError, match=r"'CD4'.*'CD3'"):
        pixel_table(make_image(), channels=["CD4"])


@pytest.mark.parametrize(("to", "package"), [("anndata", "anndata"), ("parquet", "pyarrow")])
def test_missing_packages(make_image, no_compute, monkeypatch, tmp_path, to, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / "pixels.parquet" if to == "parquet" else None
    with no_compute(), pytest.raises(ParameterError, match=r"pip install 'pxprep\[table\]'"):
        pixel_table(make_image(chunks=CHUNKS), to=to, file=file)
