"""Of what is no image, the error shows the line that makes one of it; here that line is run."""

import re
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr

import pxprep
from pxprep import Pipeline, ops
from pxprep.errors import ImageError
from pxprep.images.datatree import TREES

PIXELS = np.random.default_rng(0).gamma(1, 9, (3, 6, 5))
IMAGE = xr.DataArray(PIXELS, dims=("c", "y", "x"))
NAMES = ["DAPI", "CD3", "CD8"]


def array(dims, pixels=PIXELS, **coords):
    return xr.DataArray(pixels, dims=dims, coords=coords)


def line_in(error):
    """What a message says to write."""
    return str(error).split("write ", 1)[1]


def run(line, image=None, **others):
    known = {"image": image, "xr": xr, "dask": dask, "pxprep": pxprep, **others}
    return eval(line, known)


# By the dims of an array of one image: the pixels in them.
ONE = {
    ("channel", "y", "x"): PIXELS,
    ("channels", "Y", "X"): PIXELS,
    ("C", "Y", "X"): PIXELS,
    ("band", "y", "x"): PIXELS,
    ("Channel", "Row", "Column"): PIXELS,
    ("marker", "height", "width"): PIXELS,
    ("rows", "cols", "channels"): np.moveaxis(PIXELS, 0, -1),
    ("c", "Y", "x"): PIXELS,
    ("protein", "y", "x"): PIXELS,
    ("protein", "Y", "X"): PIXELS,
    ("t", "c", "y", "x"): PIXELS[np.newaxis],
    ("c", "y", "x", "s"): PIXELS[..., np.newaxis],
    ("T", "C", "Y", "X"): PIXELS[np.newaxis],
    ("fovs", "rows", "cols", "channels"): np.moveaxis(PIXELS, 0, -1)[np.newaxis],
    ("time", "fov", "c", "y", "x"): PIXELS[np.newaxis, np.newaxis],
    ("odd one", "c", "y", "x"): PIXELS[np.newaxis],
    ("dim_0", "dim_1", "dim_2"): PIXELS,
    ("dim_2", "dim_1", "dim_0"): np.moveaxis(PIXELS, 0, -1),
}


@pytest.mark.parametrize("dims", ONE, ids=" ".join)
def test_other_dims_are_renamed_or_squeezed(dims):
    image = array(dims, ONE[dims])
    for call in (ops.blur, Pipeline().blur().fit, ops.quantile, pxprep.pixel_table):
        with pytest.raises(
            ImageError, match=re.escape(f"its dims are {dims}; write image.")
        ) as one:
            call(image)
    assert one.value.args[0].count("\n") == 0
    mended = run(line_in(one.value), image)
    xr.testing.assert_equal(mended.pxprep.blur(1).transpose("c", "y", "x"), ops.blur(IMAGE, 1))


def test_depth_is_kept():
    pixels = np.stack([PIXELS, PIXELS + 1], axis=1)
    image = array(("T", "C", "Z", "Y", "X"), pixels[np.newaxis])
    with pytest.raises(ImageError) as raised:
        image.pxprep.blur()
    xr.testing.assert_equal(run(line_in(raised.value), image), array(("c", "z", "y", "x"), pixels))


@pytest.mark.parametrize("dims", [("y", "x"), ("Y", "X"), ("t", "y", "x")], ids=" ".join)
def test_an_image_of_one_channel(dims):
    image = array(dims, PIXELS[0].reshape([1] * (len(dims) - 2) + [6, 5]))
    with pytest.raises(ImageError, match="it lacks c") as raised:
        image.pxprep.quantile_norm()
    xr.testing.assert_equal(run(line_in(raised.value), image), IMAGE[:1])


def test_labels_of_a_dim_stay_its_labels():
    named = IMAGE.assign_coords(c=NAMES)
    cases = [
        array(("C", "y", "x"), C=NAMES),
        array(("channel", "y", "x"), c=("channel", NAMES)),
        array(("channel", "y", "x"), c="one number", channel=NAMES),
    ]
    for image in cases:
        with pytest.raises(ImageError) as raised:
            image.pxprep.blur()
        mended = run(line_in(raised.value), image)
        assert mended.c.values.tolist() == NAMES
        xr.testing.assert_equal(mended.pxprep.blur(), named.pxprep.blur())


def test_several_images_in_one_array_are_taken_apart():
    pixels = np.stack([PIXELS, 2 * PIXELS])
    expected = [IMAGE, 2 * IMAGE]
    image = array(("t", "c", "y", "x"), pixels)
    with pytest.raises(ImageError, match="it also has") as raised:
        Pipeline().blur().fit(image)
    made = run(line_in(raised.value), image)
    for one, other in zip(ops.blur(made), ops.blur(expected), strict=True):
        xr.testing.assert_equal(one, other)
    ark = array(("fovs", "rows", "cols", "channels"), np.moveaxis(pixels, 1, -1), fovs=["a", "b"])
    with pytest.raises(ImageError) as raised:
        Pipeline().blur().fit(ark)
    by_name = Pipeline().quantile_norm().fit(run(line_in(raised.value), ark))
    assert by_name.fovs == ("a", "b")
    assert by_name.numbers.drop_vars("fov").equals(
        Pipeline().quantile_norm().fit(expected).numbers.drop_vars("fov")
    )


def test_no_line_is_shown_where_the_dims_do_not_tell():
    for dims in [("y", "a", "b", "d"), ("c", "x", "z"), ("x",)]:
        with pytest.raises(ImageError, match="its dims are") as raised:
            array(dims, np.ones(range(2, len(dims) + 2))).pxprep.blur()
        assert "write" not in str(raised.value)


# Arrays without labels, and the image that their axes are likely to be.
ARRAYS = {
    "channels first": (PIXELS, IMAGE),
    "channels last": (np.moveaxis(PIXELS, 0, -1), IMAGE),
    "a plane": (PIXELS[0], IMAGE[:1]),
    "one of a stack": (PIXELS[np.newaxis], IMAGE),
    "planes": (PIXELS[:, np.newaxis].repeat(2, 1), IMAGE.expand_dims(z=2, axis=1)),
    "time": (PIXELS[np.newaxis, :, np.newaxis], IMAGE.expand_dims("z", axis=1)),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_are_labeled(case, kind):
    pixels, expected = ARRAYS[case]
    if kind == "zarr":
        pixels = pytest.importorskip("zarr").array(pixels)
    elif kind == "dask":
        pixels = dask.array.from_array(pixels)
    calls = {"alone": pixels, "list": [pixels], "mapping": {"fov0": pixels}}
    for images in calls.values():
        with pytest.raises(ImageError, match=re.escape(f"of shape {pixels.shape}")) as raised:
            Pipeline().blur().fit(images)
        assert "coords={'c': names}" in str(raised.value)
        made = run(line_in(raised.value), pixels)
        xr.testing.assert_equal(made.transpose(*expected.dims), expected)
        made.pxprep.blur()
    with pytest.raises(ImageError, match=r"write xr\.DataArray"):
        pxprep.plot.channels(pixels)


@pytest.mark.parametrize("dims", [("channel", "Y", "X"), ("t", "C", "Y", "X")], ids=" ".join)
def test_datasets_and_trees_with_other_dims(dims):
    image = array(dims, PIXELS.reshape([1] * (len(dims) - 3) + [3, 6, 5]))
    dataset = image.to_dataset(name="counts")
    with pytest.raises(ImageError, match="its variables are") as raised:
        dataset.pxprep.blur()
    xr.testing.assert_equal(run(line_in(raised.value), dataset).counts, IMAGE)
    for tree_class in TREES:
        tree = tree_class.from_dict({"slide/a": dataset, "slide/b": dataset})
        has_line = hasattr(tree, "map_over_datasets")
        with pytest.raises(ImageError, match="tree must hold at least one image") as raised:
            tree.pxprep.blur()
        assert ("write tree." in str(raised.value)) == has_line
        if has_line:
            mended = run(line_in(raised.value), tree=tree)
            xr.testing.assert_equal(mended["slide/b/counts"], IMAGE)


def test_layers_and_files_are_opened(tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel

    elements = {name: Image2DModel.parse(IMAGE, c_coords=NAMES) for name in ("fov0", "fov1")}
    sdata = spatialdata.SpatialData(images=elements)
    expected = Pipeline().quantile_norm().fit(pxprep.layers.read_images(sdata, ["fov0", "fov1"]))
    store = tmp_path / "study.zarr"
    sdata.write(store)
    file = tmp_path / "fov0.tiff"
    pytest.importorskip("tifffile").imwrite(file, PIXELS[0])
    for given in (sdata, store, str(store)):
        for call in (Pipeline().blur().fit, ops.blur, expected.transform):
            with pytest.raises(ImageError, match="layers") as raised:
                call(given)
        images = run(line_in(raised.value), sdata=sdata, spatialdata=spatialdata)
        assert Pipeline().quantile_norm().fit(images) == expected
    for given in (file, [str(file)]):
        with pytest.raises(ImageError, match="the path ") as raised:
            Pipeline().blur().fit(given)
        line = line_in(raised.value)
        assert line == f"pxprep.io.open_images({str(file)!r})"
    for nothing in (Path("nothing.zarr"), "nothing" * 100):
        with pytest.raises(ImageError, match=r"the path 'nothing.*; write pxprep\.io\.open"):
            Pipeline().blur().fit(nothing)


@pytest.mark.parametrize("given", [None, 3, [[1.0, 2.0]], {"a": None}, b"text"])
def test_what_nothing_can_be_made_of(given):
    with pytest.raises(ImageError, match=r"must be an xarray.DataArray .* got builtins"):
        ops.blur(given)
