"""Larger pixels: means over squares, which stay where they are."""

import numpy as np
import pytest
import xarray as xr

import oracle
import pxprep
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import ops
from pxprep.errors import ImageError, ParameterError


@pytest.mark.parametrize("shape", [(2, 23, 17), (2, 3, 12, 9)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
@pytest.mark.parametrize("factor", [1, 2, 5, np.int64(9)])
def test_pixels_are_means_over_squares(factor, dtype, shape, make_image):
    image = make_image(dtype, shape, nan=0.3 if dtype != "uint8" else 0)
    result = ops.rescale(image, factor)
    expected = oracle.coarsen(plain(image), {"y": int(factor), "x": int(factor)})
    assert_agrees(result, expected, exact=False)
    assert not np.may_share_memory(result.values, image.values)
    for own in (image.chunk(c=1, y=5, x=4), image.transpose("x", ..., "c")):
        assert_same_bits(ops.rescale(own, factor).transpose(*image.dims), result)


def test_coordinates_are_means_over_the_same_pixels():
    image = xr.DataArray(
        np.ones((2, 7, 6)),
        dims=("c", "y", "x"),
        coords={
            "c": ["CD3", "CD8"],
            "x": ("x", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5], {"units": "um"}),
            "row": ("y", np.arange(7)),
            "letter": ("y", list("abcdefg")),
            "distance": (("y", "x"), np.ones((7, 6))),
            "stage": 3,
        },
        attrs={"um_per_pixel": {"y": 0.5, "x": 0.25, "z": 2}, "note": "kept"},
        name="fov",
    )
    made = image.pxprep.rescale(3)
    assert made.x.values.tolist() == [1.5, 4.5]
    assert made.x.attrs == {"units": "um"}
    assert made.row.values.tolist() == [1, 4]
    assert set(made.coords) == {"c", "x", "row", "stage"}
    assert made.attrs == {"um_per_pixel": {"y": 1.5, "x": 0.75, "z": 2}, "note": "kept"}
    assert made.name == "fov"
    assert image.attrs["um_per_pixel"] == {"y": 0.5, "x": 0.25, "z": 2}
    same = image.pxprep.rescale(1)
    xr.testing.assert_identical(same, image)


@pytest.mark.parametrize("sizes", ["0.5 um", {"y": "half"}, None])
def test_attrs_that_are_something_else_stay(sizes, make_image):
    image = make_image().assign_attrs(um_per_pixel=sizes, transform={"global": "none"})
    assert ops.rescale(image, 2).attrs == image.attrs


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((3, 24, 18), 0.5, 1),
        ((3, 24, 18), "0.5", 1),
        ((3, 2, 24, 18), 0.5, {"z": 0.5, "y": 1, "x": 1}),
        ((3, 2, 24, 18), {"z": None, "y": 0.5, "x": 0.25}, {"z": None, "y": 1, "x": 0.5}),
        ((3, 24, 18), {"y": "0.5", "x": "unknown"}, {"y": 1, "x": "unknown"}),
    ],
)
def test_pixel_sizes_that_are_known(shape, sizes, expected, make_image):
    """Along y and x they are larger; z, and what is no size, stays."""
    image = make_image(shape=shape).assign_attrs(um_per_pixel=sizes)
    assert ops.rescale(image, 2).attrs == {**image.attrs, "um_per_pixel": expected}


def test_images_of_two_instruments(make_image):
    cohort = {"fine": make_image(shape=(3, 24, 18)), "coarse": make_image(shape=(3, 12, 9))}
    for factor in ({"fine": 2, "coarse": 1}, {"fine": 2, ...: 1}):
        made = ops.rescale(cohort, factor)
        assert_same_bits(made["fine"], ops.rescale(cohort["fine"], 2))
        assert_same_bits(made["coarse"], cohort["coarse"].astype("float32"))
    again = pxprep.Cohort(cohort).rescale({"fine": 2, ...: 1}).as_given()
    xr.testing.assert_identical(again["fine"], made["fine"])
    two = (cohort["fine"] + 1).assign_attrs(cohort["fine"].attrs)
    dataset = xr.Dataset({"one": cohort["fine"], "two": two})
    smaller = dataset.assign_coords(x=np.arange(18)).pxprep.rescale(2)
    assert smaller.x.values.tolist() == np.arange(0.5, 18, 2).tolist()
    np.testing.assert_array_equal(smaller.two, ops.rescale(two, 2))
    assert smaller.two.attrs["um_per_pixel"] == 2 * cohort["fine"].attrs["um_per_pixel"] == 1


@pytest.mark.skipif(not hasattr(xr, "DataTree"), reason="xarray has no DataTree")
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((0.5, 1.0), (1.5, 3.0)), ((0.5, 0.5), (1.5, 1.5)), ((0.5, {"x": 1}), (1.5, {"x": 3}))],
)
def test_coarser_scales_keep_their_own_sizes_of_pixels(sizes, expected, make_image):
    scales = (make_image(shape=(2, size, size)) for size in (24, 12))
    tree = xr.DataTree.from_dict(
        {
            f"scale{i}": scale.assign_attrs(um_per_pixel=size).to_dataset(name="image")
            for i, (scale, size) in enumerate(zip(scales, sizes, strict=True))
        }
    )
    made = ops.rescale(tree, 3)
    got = tuple(made[f"scale{i}/image"].attrs["um_per_pixel"] for i in (0, 1))
    assert got == expected


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0, "factor must be a whole number of pixels, at least 1, got 0"),
        (2.0, r"at least 1, got 2\.0"),
        (True, "at least 1, got True"),
        (10, r"not more than an image has, got 10 for \{'y': 12, 'x': 9\} of image 'b'"),
        ({"a": 2}, r"under the key \.\.\. \(Ellipsis\); missing \['b'\]"),
        ({"a": 2, "b": 0.5}, r"got 0\.5"),
        ({"aa": 2, ...: 1}, r"must name images of the cohort, got 'aa' \(did you mean 'a'\?\)"),
    ],
)
def test_bad_factors(factor, message, make_image, no_compute):
    cohort = {"a": make_image(shape=(2, 24, 18)).chunk(), "b": make_image(shape=(2, 12, 9)).chunk()}
    with no_compute(), pytest.raises(ParameterError, match=message):
        ops.rescale(cohort, factor)


def test_a_cohort_with_masks_keeps_its_size(make_image):
    image = make_image()
    cohort = pxprep.Cohort({"a": image}, where=image.isel(c=0) > 2)
    with pytest.raises(ImageError, match="a Cohort with a mask keeps its size"):
        cohort.rescale(2)


@pytest.mark.parametrize("scale_factors", [None, [2, 2]])
@pytest.mark.parametrize("shape", [(2, 32, 48), (2, 3, 32, 48)])
def test_layers_stay_where_they_lie(shape, scale_factors):
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel, Image3DModel
    from spatialdata.transformations import Affine, Identity, Scale, Sequence

    turned = Affine([[0, 2, 7], [1, 0, -3], [0, 0, 1]], ("x", "y"), ("x", "y"))
    places = {
        "pixels": Identity(),
        "um": Scale([0.5, 0.25], ("y", "x")),
        "slide": Sequence([Scale([3, 2], ("x", "y")), turned]),
    }
    model, dims = (Image2DModel, "cyx") if len(shape) == 3 else (Image3DModel, "czyx")
    pixels = np.random.default_rng(0).random(shape)
    factors = scale_factors and [dict.fromkeys("yx", factor) for factor in scale_factors]
    given = {"dims": tuple(dims), "transformations": places, "scale_factors": factors}
    element = model.parse(pixels, **given)
    made = element.pxprep.rescale(4)
    model().validate(made)
    for system in places:
        before, after = (spatialdata.get_extent(one, system) for one in (element, made))
        assert before.keys() == after.keys()
        for dim, ends in before.items():
            np.testing.assert_allclose(after[dim], ends)
        moved = spatialdata.get_extent(element.pxprep.coarsen({"y": 4, "x": 4}), system)
        for dim, ends in moved.items():
            np.testing.assert_allclose(ends, after[dim])
    expected = model.parse(oracle.coarsen(pixels, {"y": 4, "x": 4}), **given)
    for one, other, own in zip(*map(scales, (made, expected, element)), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.x, 4 * other.x)
        assert one.attrs.keys() == own.attrs.keys()
        for system in places:
            axes = tuple(dims[1:])
            moved, first = (
                each.attrs["transform"][system].to_affine_matrix(axes, axes) for each in (one, own)
            )
            larger = np.diag([4 if dim in "yx" else 1 for dim in axes] + [1])
            np.testing.assert_allclose(moved, first @ larger)


def scales(element):
    """The images of an element, finest first."""
    return [element] if hasattr(element, "data") else [element[n]["image"] for n in element]
