"""Scales that were cropped, or rounded up: they are made again by the nearest whole factors."""

import re

import numpy as np
import pytest
import xarray as xr

import pxprep
from pxprep import Pipeline, PxprepWarning
from pxprep.errors import ImageError
from pxprep.images.datatree import TREES, own_dataset
from pxprep.images.scales import factors_between

RNG = np.random.default_rng(0)


def scale(*shape):
    return xr.DataArray(RNG.integers(1, 999, (2, *shape)).astype("u2"), dims=("c", "y", "x"))


def means(pixels, y, x):
    """Over blocks of the finest pixels, what is left over at the end left out."""
    height, width = pixels.shape[1] // y, pixels.shape[2] // x
    cut = pixels[:, : height * y, : width * x].astype(float)
    return cut.reshape(2, height, y, width, x).mean(axis=(2, 4))


# Sizes of scales; the factors, each relative to the scale before; what is said.
SIZES = {
    "cropped": ([(53, 52), (27, 26), (13, 13)], [(2, 2), (2, 2)], "27 x 26 becomes 26 x 26"),
    "rounded up": (
        [(53, 51), (27, 26), (14, 13)],
        [(2, 2), (2, 2)],
        "27 x 26 becomes 26 x 25, 14 x 13 becomes 13 x 12",
    ),
    "by four": ([(54, 40), (14, 10)], [(4, 4)], "14 x 10 becomes 13 x 10"),
    "each side": ([(53, 60), (27, 20)], [(2, 3)], "27 x 20 becomes 26 x 20"),
    "one side": ([(53, 40), (27, 40)], [(2, 1)], "27 x 40 becomes 26 x 40"),
    "two and a half": ([(53, 50), (22, 20)], [(2, 2)], "22 x 20 becomes 26 x 25"),
    "one and a half": ([(90, 60), (60, 40)], [(2, 2)], "60 x 40 becomes 45 x 30"),
    "far": ([(70, 54), (9, 6)], [(8, 8)], "9 x 6 becomes 8 x 6"),
    "few pixels": ([(53, 4), (27, 3)], [(2, 2)], "27 x 3 becomes 26 x 2"),
}


@pytest.mark.parametrize("case", SIZES)
def test_nearest_factors(case):
    sizes, factors, _ = SIZES[case]
    made = factors_between([scale(*size) for size in sizes], ["s0", "s1", "s2"][: len(sizes)])
    assert [(by_dim["y"], by_dim["x"]) for by_dim in made] == factors


@pytest.mark.parametrize("chunks", [None, {"y": 10}], ids=["numpy", "dask"])
@pytest.mark.parametrize("case", SIZES)
def test_trees_get_new_scales(case, chunks):
    sizes, factors, said = SIZES[case]
    images = [scale(*size) for size in sizes]
    if chunks:
        images = [image.chunk(chunks) for image in images]
    nodes = {
        f"slide/scale{i}": image.assign_coords(
            x=np.arange(image.sizes["x"]) + 0.5, exposure=("c", [1, 2])
        ).to_dataset(name="image")
        for i, image in enumerate(images)
    }
    for tree_class in TREES:
        tree = tree_class.from_dict(nodes)
        expected = re.escape(f"nearest whole factors: 'slide': {said}")
        with pytest.warns(PxprepWarning, match=expected) as told:
            after = tree.pxprep.quantile_norm(90)
        assert len(told) == 1
        finest = images[0].pxprep.quantile_norm(90)
        y, x = 1, 1
        for i, (_, by_dim) in enumerate(zip(sizes, [(1, 1), *factors], strict=True)):
            y, x = y * by_dim[0], x * by_dim[1]
            node = own_dataset(after[f"slide/scale{i}"])
            np.testing.assert_allclose(node.image, means(finest.values, y, x), rtol=1e-6)
            assert (node.image.chunks is not None) == (chunks is not None)
            assert node.exposure.values.tolist() == [1, 2]
            # Where the size is another, pixels lie elsewhere: where those of the finest scale do.
            columns = np.arange(node.sizes["x"]) + 0.5
            fits = node.sizes["x"] == sizes[i][1]
            np.testing.assert_array_equal(node.x, columns if fits else columns * x)
        again = after.pxprep.clip(3)
        assert again["slide/scale1/image"].shape == after["slide/scale1/image"].shape


@pytest.mark.skipif(not TREES, reason="this xarray has no trees")
def test_fitting_says_nothing_of_scales():
    tree = next(iter(TREES)).from_dict(
        {
            f"scale{i}": scale(*size).to_dataset(name="image")
            for i, size in enumerate([(9, 9), (5, 5)])
        }
    )
    assert Pipeline().quantile_norm().fit(tree).n_channels == 2


@pytest.mark.skipif(not TREES, reason="this xarray has no trees")
def test_what_lies_beside_a_scale_must_fit_its_new_size(no_compute):
    nodes = {
        f"scale{i}": scale(*size)
        .chunk()
        .to_dataset(name="image")
        .assign(cells=(("y", "x"), np.ones(size)))
        for i, size in enumerate([(53, 52), (27, 26)])
    }
    tree = next(iter(TREES)).from_dict(nodes)
    with no_compute(), pytest.raises(ImageError, match=r"'scale1' also holds \['cells'\].*\['y'\]"):
        tree.pxprep.quantile_norm()


def test_a_scale_that_is_larger_is_none():
    with pytest.raises(ImageError, match=r"'s1' must not be larger than .* y: 20 to 21$"):
        factors_between([scale(20, 20), scale(21, 10)], ["s0", "s1"])


def test_a_scale_that_is_hardly_smaller_is_none():
    for size in [(40, 30), (20, 30), (30, 28)]:
        with pytest.raises(ImageError, match=r"'s1' must be .* nearly so, got .*scale_factors"):
            factors_between([scale(40, 40), scale(*size), scale(9, 9)], ["s0", "s1", "s2"])


@pytest.mark.skipif(not TREES, reason="this xarray has no trees")
def test_many_images_make_one_warning():
    nodes = {
        f"fov{n}/scale{i}": scale(*size).to_dataset(name="image")
        for n in range(12)
        for i, size in enumerate([(9, 9), (5, 5)])
    }
    with pytest.warns(PxprepWarning, match="'fov9': 5 x 5 becomes 4 x 4; and 2 more$") as told:
        next(iter(TREES)).from_dict(nodes).pxprep.clip(9)
    assert len(told) == 1


@pytest.fixture
def cropped():
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel

    whole = Image2DModel.parse(
        RNG.integers(1, 999, (2, 301, 257)).astype("u2"),
        dims=("c", "y", "x"),
        c_coords=["a", "b"],
        scale_factors=[2, 2],
        chunks=(1, 64, 64),
    )
    box = {"min_coordinate": [7, 9], "max_coordinate": [60, 61]}
    crop = spatialdata.bounding_box_query(
        whole, axes=("y", "x"), target_coordinate_system="global", **box
    )
    assert [crop[name]["image"].shape[1:] for name in crop] == [(53, 52), (27, 26), (13, 13)]
    return spatialdata.SpatialData(images={"crop": crop})


@pytest.mark.parametrize("backed", [False, True])
def test_a_crop_of_a_layer(cropped, tmp_path, backed):
    from spatialdata import read_zarr
    from spatialdata.transformations import get_transformation

    sdata = cropped
    if backed:
        sdata.write(tmp_path / "study.zarr")
        sdata = read_zarr(tmp_path / "study.zarr")
    finest = Pipeline.sparrow(q_sum=None).fit_transform(
        pxprep.layers.read_images(sdata, "crop")["crop"].compute()
    )
    with pytest.warns(
        PxprepWarning, match="'crop': 27 x 26 becomes 26 x 26; scale_factors chooses"
    ) as told:
        pxprep.pixel_clustering_preprocess(sdata, "crop", "clean", q_sum=None)
    assert len(told) == 1
    if backed:
        sdata = read_zarr(tmp_path / "study.zarr")
    for name, factor in zip(sdata["clean"], (1, 2, 4), strict=True):
        made = sdata["clean"][name]["image"]
        np.testing.assert_allclose(made, means(finest.values, factor, factor), rtol=1e-6)
    first, last = (
        get_transformation(sdata[name]).to_affine_matrix(("y", "x"), ("y", "x"))
        for name in ("crop", "clean")
    )
    np.testing.assert_array_equal(first, last)
    # Those that were asked for are not said.
    pxprep.pixel_clustering_preprocess(sdata, "crop", "two", q_sum=None, scale_factors=[2, 2])
    pxprep.pixel_clustering_preprocess(sdata, "crop", "flat", q_sum=None, scale_factors=[])
    assert sdata["two"]["scale1"]["image"].shape == (2, 26, 26)
    # Of the new layer the sizes are those of its factors.
    pxprep.pixel_clustering_preprocess(sdata, "clean", "again", pipeline=Pipeline().clip(1))
