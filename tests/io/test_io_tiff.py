"""TIFFs of several channels, read lazily: the pixels are those that were written, to the bit."""

import struct

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

import tifffile

from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import read_tiff, stacks
from tiff_files import GRAY, LAYOUTS, NAMES, check, one, pixels, write_ome


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ome_tiff(tmp_path, layout, monkeypatch):
    """However the pixels lie in the file, in blocks smaller than the image."""
    monkeypatch.setattr(stacks, "SIDE", 40)
    values = pixels()
    write_ome(tmp_path / "slide.ome.tiff", values, layout=LAYOUTS[layout])
    images = read_tiff(tmp_path / "slide.ome.tiff")
    assert list(images) == ["slide"]
    image = images["slide"]
    assert image.data.npartitions > 3 or "one strip" in layout
    check(image, values)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("layout", ["big-endian", "zlib tiles"])
def test_types(tmp_path, dtype, layout):
    values = pixels(dtype=dtype)
    write_ome(tmp_path / "slide.ome.tif", values, layout=LAYOUTS[layout])
    check(read_tiff(tmp_path / "slide.ome.tif")["slide"], values)


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX"])
@pytest.mark.parametrize("layout", ["plain", "zlib tiles"])
def test_stacks(tmp_path, axes, layout):
    values = pixels((3, 4, 33, 21))
    stored = values if axes == "CZYX" else values.swapaxes(0, 1)
    write_ome(tmp_path / "stack.ome.tiff", stored, axes, layout=LAYOUTS[layout])
    check(read_tiff(tmp_path / "stack.ome.tiff")["stack"], values)


def test_channels_are_chosen_by_name(tmp_path):
    values = pixels()
    write_ome(tmp_path / "slide.ome.tiff", values)
    image = one(read_tiff(tmp_path / "slide.ome.tiff", ["CD20", "DAPI"]))
    assert image.c.values.tolist() == ["CD20", "DAPI"]
    np.testing.assert_array_equal(image.values, values[[2, 0]])


def test_only_the_finest_level_of_a_pyramid_is_read(tmp_path):
    values, file = pixels((3, 128, 96)), tmp_path / "slide.ome.tiff"
    with tifffile.TiffWriter(file, ome=True) as tiff:
        metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
        how = {**GRAY, "tile": (32, 32), "compression": "zlib"}
        tiff.write(values, subifds=2, metadata=metadata, **how)
        for factor in (2, 4):
            tiff.write(values[:, ::factor, ::factor] // 2, subfiletype=1, **how)
    images = read_tiff(file)
    assert list(images) == ["slide"]
    check(images["slide"], values)


def test_several_images_in_a_file(tmp_path):
    file, stored = tmp_path / "slide.ome.tiff", [pixels(seed=1), pixels((3, 50, 60), seed=2)]
    with tifffile.TiffWriter(file, ome=True) as tiff:
        for name, values in zip(["left", "right"], stored, strict=True):
            metadata = {"axes": "CYX", "Channel": {"Name": NAMES}, "Name": name}
            tiff.write(values, metadata=metadata, **GRAY)
    images = read_tiff(file)
    assert list(images) == ["slide_left", "slide_right"]
    for image, values in zip(images.values(), stored, strict=True):
        check(image, values)


def test_images_of_one_name_are_numbered(tmp_path):
    file = tmp_path / "slide.ome.tiff"
    with tifffile.TiffWriter(file, ome=True) as tiff:
        for seed in range(2):
            metadata = {"axes": "CYX", "Channel": {"Name": NAMES}, "Name": "ROI"}
            tiff.write(pixels(seed=seed), metadata=metadata, **GRAY)
    assert list(read_tiff(file)) == ["slide_0", "slide_1"]


def test_pixel_sizes(tmp_path):
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    sizes |= {"PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
    write_ome(tmp_path / "slide.ome.tiff", pixels(), **sizes)
    write_ome(tmp_path / "none.ome.tiff", pixels())
    image = read_tiff(tmp_path / "slide.ome.tiff")["slide"]
    assert image.attrs["um_per_pixel"] == {"y": 0.25, "x": 0.5}
    assert image.attrs["source"] == str(tmp_path / "slide.ome.tiff")
    assert "um_per_pixel" not in read_tiff(tmp_path / "none.ome.tiff")["none"].attrs


@pytest.mark.parametrize("kind", ["pages", "imagej", "one directory"])
def test_tiffs_that_name_no_channels(tmp_path, kind):
    how = {
        "pages": {"metadata": None},
        "imagej": {"imagej": True, "metadata": {"axes": "CYX"}},
        "one directory": {"metadata": {"axes": "CYX"}, "contiguous": True, "truncate": True},
    }
    values, file = pixels(), tmp_path / "slide.tif"
    tifffile.imwrite(file, values, **GRAY, **how[kind])
    with pytest.raises(ChannelError, match=r"'slide' of .*0 of 3 channels have a name.*channel_na"):
        read_tiff(file)
    check(read_tiff(file, channel_names=NAMES)["slide"], values)
    with pytest.raises(ChannelError, match=r"channel_names must name the 3 channels .* got 2"):
        read_tiff(file, channel_names=NAMES[:2])
    with pytest.raises(ChannelError, match=r"channel_names: .*'CD3' more than once"):
        read_tiff(file, channel_names=["CD3", "CD3", "CD20"])
    with pytest.raises(ParameterError, match=r"channel_names must be a sequence of .*, got 'CD3'"):
        read_tiff(file, channel_names="CD3")
    with pytest.raises(
        ParameterError, match=r"channel_names must be texts, none empty, got \['CD3"
    ):
        read_tiff(file, channel_names=["CD3", "", "CD20"])


@pytest.mark.parametrize("order", ["abb", "baa", "abab", "cab"])
def test_pages_that_are_stored_in_different_ways(tmp_path, order):
    """They are channels of one image, in the order of the file."""
    file, values, names = tmp_path / "slide.tif", pixels((len(order), 101, 83)), list("wxyz")
    layouts = {"a": {}, "b": LAYOUTS["zlib strips"], "c": LAYOUTS["tiles"]}
    with tifffile.TiffWriter(file) as tiff:
        for page, layout in zip(values, order, strict=True):
            tiff.write(page, metadata=None, **GRAY, **layouts[layout])
    check(one(read_tiff(file, channel_names=names[: len(order)])), values, names[: len(order)])


def test_a_channel_without_a_name(tmp_path):
    file = tmp_path / "slide.ome.tiff"
    write_ome(file, pixels(), names=["DAPI", "", "CD20"])
    with pytest.raises(ChannelError, match="2 of 3 channels have a name") as caught:
        read_tiff(file)
    assert "give channel_names or panel, all of them" in str(caught.value)
    check(read_tiff(file, channel_names=NAMES)["slide"], pixels())


@pytest.mark.parametrize(
    ("shape", "how", "words"),
    [
        ((40, 30, 3), {"photometric": "rgb"}, "3 samples for each pixel"),
        (
            (4, 3, 40, 30),
            {"ome": True, "metadata": {"axes": "TCYX"}, **GRAY},
            "T 4, C 3, Y 40, .* all 12, .*='CCYX'",
        ),
        ((3, 2, 40, 30), {"metadata": {"axes": "CQYX"}, **GRAY}, "axes C 3, Q 2, .* for all 6"),
    ],
    ids=["rgb", "time", "axes"],
)
def test_images_of_other_kinds(tmp_path, shape, how, words):
    file = tmp_path / "slide.tiff"
    tifffile.imwrite(file, pixels(shape), **how)
    with pytest.raises(ImageError, match=words) as caught:
        read_tiff(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("number", [0, 1])
def test_a_compression_that_is_not_known(tmp_path, number):
    file = tmp_path / "slide.tiff"
    tifffile.imwrite(file, pixels()[:2], compression="zlib", metadata=None, **GRAY)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tiff.pages[number].tags["Compression"].overwrite(50999)
    with pytest.raises(ImageError, match=r"cannot be decoded.*pip install imagecodecs"):
        read_tiff(file, channel_names=["CD3", "CD20"])


def test_what_is_no_tiff(tmp_path):
    file = tmp_path / "slide.tiff"
    file.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"slide\.tiff' cannot be read as a TIFF"):
        read_tiff(file)
    with pytest.raises(ParameterError, match=r"path does not exist: .*other"):
        read_tiff(tmp_path / "other.tiff")
    with pytest.raises(ParameterError, match="path must be the path of a file or a folder, got 3"):
        read_tiff(3)


@pytest.mark.parametrize("layout", ["plain", "zlib tiles"])
def test_a_file_that_ends_early(tmp_path, layout):
    file = tmp_path / "CD3.tiff"
    tifffile.imwrite(file, pixels()[0], **GRAY, **LAYOUTS[layout])
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"is not complete: .*CD3\.tiff' ends before its last"):
        read_tiff(file, channel_names=["CD3"])


def write_directories_last(file, values, names):
    """Pages, each with its directory after its pixels, as libtiff writes them."""
    content, link = bytearray(b"II*\0\0\0\0\0"), 4
    for name, page in zip(names, values, strict=True):
        start = len(content)
        content += page.tobytes()
        tags = {256: page.shape[1], 257: page.shape[0], 258: 16, 262: 1, 273: start, 277: 1}
        tags |= {278: page.shape[0], 279: page.nbytes, 285: name}
        content[link : link + 4] = struct.pack("<I", len(content))
        content += struct.pack("<H", len(tags))
        for tag, value in tags.items():
            if tag == 285:
                content += struct.pack("<HHI4s", tag, 2, len(value) + 1, value.encode())
            else:
                content += struct.pack("<HHII", tag, 4, 1, value)
        link = len(content)
        content += bytes(4)
    file.write_bytes(content)


def test_a_file_that_ends_between_pages(tmp_path):
    """The pages before are not all there are."""
    file, values = tmp_path / "slide.tif", pixels((3, 8, 6))
    write_directories_last(file, values, ["a", "b", "c"])
    image = one(read_tiff(file))
    assert image.c.values.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(image.values, values)
    content = file.read_bytes()
    for size in range(8, len(content)):
        file.write_bytes(content[:size])
        with pytest.raises(ImageError, match=r"slide\.tif'"):
            read_tiff(file)


@pytest.mark.parametrize("tag", ["StripOffsets", "StripByteCounts"])
def test_a_file_that_does_not_tell_of_all_strips(tmp_path, tag):
    file = tmp_path / "CD3.tiff"
    tifffile.imwrite(file, pixels()[0], **GRAY, **LAYOUTS["zlib strips"])
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tags = tiff.pages[0].tags
        tags[tag].overwrite(tags[tag].value[:-1])
    with pytest.raises(
        ImageError, match=r"is not complete: .*CD3\.tiff' tells where 7 tiles or st"
    ):
        read_tiff(file, channel_names=["CD3"])


def test_sparse_tiles_are_zeros(tmp_path):
    """A tile without bytes in the file."""
    file, values = tmp_path / "slide.ome.tiff", pixels((3, 64, 64))
    write_ome(file, values, layout={"tile": (32, 32), "compression": "zlib"})
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[1].tags[name]
            tag.overwrite((tag.value[0], 0, *tag.value[2:]))
    values[1, :32, 32:] = 0
    check(read_tiff(file)["slide"], values)


def test_a_sparse_page_is_zeros(tmp_path):
    """A strip without bytes in the file is not read from its beginning."""
    file = tmp_path / "CD3.tiff"
    tifffile.imwrite(file, pixels()[0], metadata=None, **GRAY)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for name in ("StripOffsets", "StripByteCounts"):
            tiff.pages[0].tags[name].overwrite(0)
    image = one(read_tiff(file, channel_names=["CD3"]))
    assert image.shape == (1, 101, 83)
    assert not image.values.any()
