"""Channels in whatever axes a TIFF keeps them: each is the plane that was written."""

import numpy as np
import pytest

pytest.importorskip("tifffile")

import tifffile

from pxprep.errors import ImageError, ParameterError
from pxprep.io import open_images, read_folder, read_tiff, stacks
from tiff_files import GRAY, check, one, pixels

# As tifffile writes three or four channels if it is not told that they are none.
COLOURS = {"photometric": "rgb", "planarconfig": "separate"}
# What is written, and the axes that it is meant to have.
KINDS = {
    "planar": ((5, 101, 83), {**GRAY, "planarconfig": "separate"}, "CYX"),
    "interleaved": ((101, 83, 7), {**GRAY, "planarconfig": "contig"}, "YXC"),
    "as colours": ((4, 101, 83), COLOURS, "CYX"),
    "said to be channels": ((4, 101, 83), {**COLOURS, "metadata": {"axes": "CYX"}}, "CYX"),
    "slices": ((6, 101, 83), {"imagej": True, "metadata": {"axes": "ZYX"}}, "CYX"),
    "times": ((6, 101, 83), {"ome": True, "metadata": {"axes": "TYX"}, **GRAY}, "CYX"),
    "cycles": ((2, 4, 101, 83), {"imagej": True, "metadata": {"axes": "TCYX"}}, "CCYX"),
    "cycles of slices": ((2, 3, 4, 101, 83), {"metadata": {"axes": "TZCYX"}, **GRAY}, "CZCYX"),
    "pages of samples": ((3, 5, 101, 83), {**GRAY, "planarconfig": "separate"}, "CCYX"),
}
LAYOUTS = [{}, {"tile": (32, 16), "compression": "zlib"}, {"rowsperstrip": 7}]
# ImageJ's pixels are plain.
CASES = [
    pytest.param(kind, layout, id=f"{kind}-{list(layout)}")
    for kind, (_, how, _) in KINDS.items()
    for layout in LAYOUTS
    if not (layout and how.get("imagej"))
]


def as_image(values, axes):
    """The channels, flattened in their order, and what else there is, as (c, z, y, x)."""
    order = [n for letter in "CZYX" for n, axis in enumerate(axes) if axis == letter]
    turned = values.transpose(order)
    return turned.reshape(-1, *turned.shape[axes.count("C") :])


@pytest.mark.parametrize(("kind", "layout"), CASES)
def test_channels_in_other_axes(tmp_path, kind, layout, monkeypatch):
    shape, how, axes = KINDS[kind]
    monkeypatch.setattr(stacks, "SIDE", 70)
    values, file = pixels(shape), tmp_path / "slide.tif"
    tifffile.imwrite(file, values, **how, **layout)
    expected = as_image(values, axes)
    names = [f"m{number}" for number in range(len(expected))]
    check(one(read_tiff(file, channel_names=names)), expected, names)
    check(one(open_images(file, channel_names=names, axes=axes)), expected, names)


def test_axes_that_the_file_tells_wrongly(tmp_path):
    """Rows for channels, columns for rows, and samples for columns; or the other way round."""
    values, file, names = pixels((3, 101, 83)), tmp_path / "slide.tif", ["a", "b", "c"]
    for layout in LAYOUTS:
        tifffile.imwrite(file, values, **GRAY, planarconfig="contig", **layout)
        check(one(read_tiff(file, channel_names=names, axes="cyx")), values, names)
        check(
            one(read_tiff(file, channel_names=names, axes="CXY")), values.transpose(0, 2, 1), names
        )
    stack = pixels((3, 4, 50, 61))
    tifffile.imwrite(file, stack, metadata={"axes": "CZYX"}, **GRAY)
    check(
        one(read_tiff(file, channel_names=[*names, "d"], axes="ZCYX")),
        stack.swapaxes(0, 1),
        [*names, "d"],
    )


def test_axes_of_length_one_may_be_left_out(tmp_path):
    values, file = pixels((1, 3, 1, 40, 30)), tmp_path / "slide.ome.tif"
    tifffile.imwrite(file, values, metadata={"axes": "TCZYX"}, **GRAY)
    for axes in (None, "CYX"):
        image = one(read_tiff(file, channel_names=["a", "b", "c"], axes=axes))
        np.testing.assert_array_equal(image.values, values[0, :, 0])


def test_the_axes_that_a_message_names_fit(tmp_path):
    file = tmp_path / "slide.tif"
    tifffile.imwrite(file, pixels((3, 1, 1, 40, 30)), metadata={"axes": "TQCYX"}, **GRAY)
    with pytest.raises(ImageError, match=r"T 3, Q 1, C 1, .* as axes='CYX'$"):
        read_tiff(file)
    assert one(read_tiff(file, channel_names=list("abc"), axes="CYX")).sizes["c"] == 3


@pytest.mark.parametrize("planar", [True, False])
def test_colours_are_channels_only_if_said(tmp_path, planar):
    values, file = pixels((3, 40, 30)), tmp_path / "slide.tif"
    stored = values if planar else values.transpose(1, 2, 0)
    how = "separate" if planar else "contig"
    tifffile.imwrite(file, stored, photometric="rgb", planarconfig=how)
    axes = "CYX" if planar else "YXC"
    with pytest.raises(ImageError, match=rf"3 samples .*RGB.* axes='{axes}'"):
        read_tiff(file, channel_names=["a", "b", "c"])
    image = one(read_tiff(file, channel_names=["a", "b", "c"], axes=axes))
    np.testing.assert_array_equal(image.values, values)


def test_several_planes_of_colours(tmp_path):
    values, file = pixels((5, 40, 30, 3), "uint8"), tmp_path / "slide.tif"
    tifffile.imwrite(file, values, photometric="rgb", metadata=None)
    names = [f"m{number}" for number in range(15)]
    with pytest.raises(ImageError, match=r"has 3 samples for each pixel, .* axes='CYXC'$"):
        read_tiff(file, channel_names=names)
    image = one(read_tiff(file, channel_names=names, axes="CYXC"))
    np.testing.assert_array_equal(image.values, values.transpose(0, 3, 1, 2).reshape(15, 40, 30))


def test_colours_with_an_alpha(tmp_path):
    """Four interleaved bytes are a picture, but for who names four channels."""
    values, file = pixels((40, 30, 4), "uint8"), tmp_path / "slide.tif"
    tifffile.imwrite(file, values, photometric="rgb")
    with pytest.raises(ImageError, match=r"4 samples for each pixel, colours"):
        read_tiff(file)
    image = one(read_tiff(file, channel_names=list("abcd")))
    np.testing.assert_array_equal(image.values, values.transpose(2, 0, 1))


def test_names_decide_between_depth_and_channels(tmp_path):
    values, file = pixels((6, 40, 30)), tmp_path / "slide.tif"
    tifffile.imwrite(file, values, imagej=True, metadata={"axes": "ZYX"})
    assert one(read_tiff(file, channel_names=["a"])).sizes == {"c": 1, "z": 6, "y": 40, "x": 30}
    assert one(read_tiff(file, channel_names=list("abcdef"))).sizes["c"] == 6
    both = pixels((2, 3, 40, 30))
    tifffile.imwrite(file, both, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(
        one(read_tiff(file, channel_names=list("abc"))).values, both.swapaxes(0, 1)
    )
    np.testing.assert_array_equal(
        one(read_tiff(file, channel_names=list("abcdef"))).values, both.reshape(6, 40, 30)
    )


def test_a_channel_in_samples_of_one_file(tmp_path):
    """Files with a channel each, one of which has its pixels in another axis."""
    values = pixels((2, 40, 30))
    (tmp_path / "fov").mkdir()
    tifffile.imwrite(tmp_path / "fov" / "a.tif", values[0], **GRAY)
    tifffile.imwrite(tmp_path / "fov" / "b.tif", values[1][None, None], imagej=True)
    np.testing.assert_array_equal(one(read_folder(tmp_path)).values, values)


@pytest.mark.parametrize("axes", ["", "C", "YX,", "CYXQ", "CYYX", "ZZYX", 3])
def test_bad_axes(tmp_path, axes):
    file = tmp_path / "slide.tif"
    tifffile.imwrite(file, pixels((3, 40, 30)), **GRAY)
    with pytest.raises(ParameterError, match="axes must name the axes of the file in their order"):
        read_tiff(file, channel_names=["a", "b", "c"], axes=axes)


def test_axes_of_another_number(tmp_path):
    file = tmp_path / "slide.tif"
    tifffile.imwrite(file, pixels((3, 40, 30)), **GRAY)
    with pytest.raises(ImageError, match=r"axes 'CZYX' must name those of .* axes Q 3, Y 40, X 30"):
        read_tiff(file, channel_names=["a", "b", "c"], axes="CZYX")
