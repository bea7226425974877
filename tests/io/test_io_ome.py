"""OME-XML as programs write it: read leniently, and hostile text does no harm."""

import numpy as np
import pytest

pytest.importorskip("tifffile")

import tifffile

from pxprep import PxprepWarning
from pxprep.errors import ChannelError
from pxprep.io import open_images, read_tiff
from pxprep.io.ome import parse_ome
from tiff_files import GRAY, check, one, pixels

NAMES = ["DAPI", "CD3"]
XML = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="i">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="83" SizeY="101" SizeC="2" '
    'SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25" '
    'PhysicalSizeYUnit="µm"><Channel ID="Channel:0:0" Name="DAPI" SamplesPerPixel="1"/>'
    '<Channel ID="Channel:0:1" Name="CD3" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="2"/>'
    "</Pixels></Image></OME>"
)
LENIENT = {
    "valid": XML,
    "a value that is none": XML.replace('Name="DAPI"', 'Name="DAPI" AcquisitionMode="Not Set"'),
    "an unknown element": XML.replace("<Pixels", "<AcquisitionData/><Pixels"),
    "another unit": XML.replace("µm", "um"),
    "the Greek letter": XML.replace("µm", "\u03bcm"),
    "Latin-1": XML.replace("UTF-8", "ISO-8859-1").encode("latin-1"),
    "an old schema": XML.replace("2016-06", "2013-06"),
    "a schema that is none": XML.replace("2016-06", "2013-06s"),
    "no schema": XML.replace(' xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"', ""),
    "no unit": XML.replace(' PhysicalSizeXUnit="µm"', "").replace(' PhysicalSizeYUnit="µm"', ""),
}
MORE = "".join(f'<Channel ID="Channel:0:{i}" Name="c{i}" SamplesPerPixel="1"/>' for i in (2, 3, 4))
BOMB = (
    '<!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
UNREADABLE = {
    "a stale one": (
        XML.replace("<TiffData", MORE + "<TiffData").replace('SizeC="2"', 'SizeC="5"'),
        "they tell of 5 planes, 3 of them without a page",
    ),
    "two images": (
        XML.replace("</Image>", '</Image><Image ID="Image:1" Name="j"/>'),
        "they tell of 2 images, it has 1",
    ),
    "the same pages twice": (
        XML.replace("</OME>", XML[XML.index("<Image") :]),
        "they tell of the same pages for several images",
    ),
    "elsewhere": (
        XML[: XML.index("<Image")] + '<BinaryOnly MetadataFile="a" UUID="b"/></OME>',
        "they name another file that holds them",
    ),
    "broken": (XML.replace("</Image>", ""), "mismatched tag"),
    "a bomb": (
        XML.replace("<OME", f"{BOMB}<OME", 1).replace('Name="DAPI"', 'Name="&j;"'),
        "they define a type of document",
    ),
    "a file of the system": (
        XML.replace("<OME", '<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME', 1),
        "they define a type of document",
    ),
}


def write(file, xml):
    with tifffile.TiffWriter(file) as tiff:
        for number, page in enumerate(pixels((2, 101, 83))):
            text = xml.encode() if isinstance(xml, str) else xml
            tiff.write(page, metadata=None, description=None if number else text, **GRAY)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """tifffile logs what it cannot read."""
    caplog.set_level("CRITICAL", logger="tifffile")


@pytest.mark.parametrize("case", LENIENT)
def test_what_is_not_valid_is_read(tmp_path, case):
    write(tmp_path / "s1.ome.tif", LENIENT[case])
    image = open_images(tmp_path / "s1.ome.tif")["s1"]
    np.testing.assert_array_equal(image.values, pixels((2, 101, 83)))
    assert image.c.values.tolist() == NAMES
    assert image.attrs["um_per_pixel"] == {"y": 0.25, "x": 0.5}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_tells_nothing_is_not_needed(tmp_path, case):
    """The error says why there are no names; with names given all is well."""
    xml, why = UNREADABLE[case]
    write(tmp_path / "s1.ome.tif", xml)
    with pytest.raises(ChannelError, match="0 of 2 channels have a name") as caught:
        read_tiff(tmp_path / "s1.ome.tif")
    assert f"(its OME metadata: {why}" in str(caught.value)
    assert len(str(caught.value)) < 600
    image = one(read_tiff(tmp_path / "s1.ome.tif", channel_names=NAMES))
    np.testing.assert_array_equal(image.values, pixels((2, 101, 83)))


def test_a_text_without_end(monkeypatch):
    with pytest.raises(ValueError, match="they are 67108865 characters long"):
        parse_ome("<" * ((1 << 26) + 1))


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 1e-3), ("mm", 1e3), ("pixel", None), ("reference frame", None)]
)
def test_units(unit, factor):
    ome = parse_ome(XML.replace("µm", unit))
    expected = {} if factor is None else {"y": 0.25 * factor, "x": 0.5 * factor}
    assert ome.images[0].um_per_pixel == pytest.approx(expected)
    assert parse_ome(XML.replace('"0.5"', '"-1"')).images[0].um_per_pixel == {"y": 0.25}
    assert parse_ome(XML.replace('"0.5"', '"wide"')).images[0].um_per_pixel == {"y": 0.25}


def test_images_of_one_file_have_their_own_names(tmp_path):
    file = tmp_path / "s.ome.tif"
    with tifffile.TiffWriter(file, ome=True) as tiff:
        for seed, name in enumerate(["left", "right"]):
            metadata = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}, "Name": name}
            tiff.write(pixels(seed=seed), metadata=metadata, **GRAY)
    images = read_tiff(file)
    check(images["s_right"], pixels(seed=1), ["a", "b", "c"])


def test_pages_that_the_metadata_do_not_tell_of(tmp_path):
    file = tmp_path / "a.ome.tiff"
    tifffile.imwrite(file, pixels(), metadata=None, description=XML.encode(), **GRAY)
    with pytest.warns(PxprepWarning, match="1 pages of .* not in its OME metadata"):
        image = one(read_tiff(file))
    assert image.c.values.tolist() == NAMES
    np.testing.assert_array_equal(image.values, pixels()[:2])


def test_pages_in_another_order_than_the_planes():
    """Which channel each page has is not told by the order of pages."""
    stack = XML.replace('SizeC="2" SizeZ="1"', 'SizeC="1" SizeZ="2"')
    for ifds, expected in (((0, 1), {"u": [0, 0]}), ((1, 0), {})):
        data = "".join(
            f'<TiffData FirstZ="{z}" IFD="{ifd}"><UUID FileName="a.tif">u</UUID></TiffData>'
            for z, ifd in enumerate(ifds)
        )
        ome = parse_ome(stack.replace('<TiffData IFD="0" PlaneCount="2"/>', data))
        assert ome.images[0].channels_of_pages == expected
        assert ome.repeats_channels == (not expected)  # the files are only read together


def test_positions_whose_channels_have_no_names():
    """They are no channels of one image."""
    image = (
        '<Image><Pixels SizeC="1"><Channel/><TiffData><UUID FileName="{0}.tif">{0}</UUID>'
        "</TiffData></Pixels></Image>"
    )
    assert parse_ome(f"<OME>{image.format(0)}{image.format(1)}</OME>").repeats_channels
