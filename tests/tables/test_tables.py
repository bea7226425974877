"""Tables of pixels: which rows, in which order, sampled how, in how much memory."""

import itertools

import numpy as np
import pytest
import xarray as xr

from pixel_rows import CHUNKS, check, expected_table, rows_of
from pxprep import Pipeline, pixel_table
from pxprep.errors import ParameterError


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
