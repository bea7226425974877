"""Tables of markers: what channels are called and which are kept, in whatever form."""

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

import tifffile

from imc_files import PANEL, counts, write_mcd
from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ParameterError
from pxprep.io import Panel, open_images, read_panel, read_tiff
from tiff_files import GRAY, NAMES, check, one, pixels, write_fov, write_ome

FORMS = {
    "names": "DAPI\nCD3\nCD20\n",
    "names, and empty lines": "DAPI\r\n\r\nCD3\r\nCD20\r\n\r\n",
    "one column": "marker_name\nDAPI\nCD3\nCD20\n",
    "steinbock": "channel,name,keep,ilastik\nIr191,DAPI,1,1\nPr141,CD3,1,\nNd142,CD20,1,2\n",
    "mcmicro": "channel_number,cycle,marker_name,Filter\n1,1,DAPI,a\n2,1,CD3,a\n3,1,CD20,b\n",
    "no header": "1,1,DAPI\n2,1,CD3\n3,1,CD20\n",
    "no header, metals": "Ir191,DAPI\nPr141,CD3\nNd142,CD20\n",
    "tabs": "Marker\tsigma\nDAPI\t0\nCD3\t2\nCD20\t\n",
    "semicolons": "Name;Keep\nDAPI;true\nCD3;true\nCD20;TRUE\n",
    "quotes": '"name","note"\n"DAPI","a, b"\n"CD3",""\n"CD20","c"\n',
    "a column of channels": "channel\nDAPI\nCD3\nCD20\n",
}


def write(folder, text, name="panel.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form, encoding):
    panel = write(tmp_path, FORMS[form], encoding=encoding)
    assert read_panel(panel).names == tuple(NAMES)
    tifffile.imwrite(tmp_path / "slide.tif", pixels(), **GRAY)
    check(one(read_tiff(tmp_path / "slide.tif", panel=panel)), pixels())


def test_letters_of_other_encodings(tmp_path):
    for encoding in ("utf-8", "latin-1", "utf-16"):
        panel = write(tmp_path, "µ-actin\n", encoding=encoding)
        assert read_panel(panel).names == ("µ-actin",)


def test_names_with_commas_and_spaces(tmp_path):
    panel = write(tmp_path, "HLA-A,B,C\nCD3 e\nKi-67\n", "names.txt")
    assert read_panel(panel).names == ("HLA-A,B,C", "CD3 e", "Ki-67")


def test_numbers_for_the_pipeline(tmp_path):
    panel = read_panel(write(tmp_path, "name,sigma,q,q_post\nDAPI,0,99.5,\nCD3,2.5,,99.9\n"))
    assert panel.sigma == {"DAPI": 0, "CD3": 2.5}
    assert panel.q == {"DAPI": 99.5}
    assert panel.q_post == {"CD3": 99.9}


def test_numbers_of_channels_that_are_not_kept(tmp_path):
    """A name of several cycles is kept once, and has the number of that row, or none."""
    text = "marker_name,remove,sigma,q,q_post,cap_max\nCD3,,2,,97,3\nCD8,,1,,,\n"
    panel = read_panel(write(tmp_path, text + "CD3,TRUE,0,90,91,1\nBlank,TRUE,0,,,\n"))
    # Blank may still be chosen by hand.
    assert panel.sigma == {"CD3": 2, "CD8": 1, "Blank": 0}
    assert (panel.q, panel.q_post, panel.cap_max) == ({}, {"CD3": 97}, {"CD3": 3})


METALS = ["Ir191", "Pr141", "Nd142"]
KEEP = "channel,name,keep\nIr191,DAPI,1\nPr141,CD3,0\nNd142,CD20,1\n"


def test_channels_that_are_not_kept(tmp_path):
    """Of a file with all channels they are left out; one with the others is named by them."""
    panel = write(tmp_path, KEEP)
    tifffile.imwrite(tmp_path / "all.tif", pixels(), **GRAY)
    tifffile.imwrite(tmp_path / "kept.tif", pixels((2, 101, 83)), **GRAY)
    with pytest.warns(PxprepWarning, match=r"panel\.csv' does not keep 'CD3': they are left out"):
        image = one(read_tiff(tmp_path / "all.tif", panel=panel))
    assert image.c.values.tolist() == ["DAPI", "CD20"]
    np.testing.assert_array_equal(image.values, pixels()[[0, 2]])
    image = one(read_tiff(tmp_path / "kept.tif", panel=panel))
    assert image.c.values.tolist() == ["DAPI", "CD20"]
    np.testing.assert_array_equal(image.values, pixels((2, 101, 83)))
    gone = write(tmp_path, "marker_name,remove\nDAPI,\nCD3,TRUE\nCD20,FALSE\n", "markers.csv")
    with pytest.warns(PxprepWarning, match="does not keep 'CD3'"):
        assert one(read_tiff(tmp_path / "all.tif", panel=gone)).c.values.tolist() == NAMES[::2]


def test_channels_by_what_the_file_calls_them(tmp_path):
    """In the table's order: it need not be the file's."""
    metals = ["Nd142", "Ir191", "Pr141"]
    write_ome(tmp_path / "slide.ome.tif", pixels(), names=metals)
    panel = write(tmp_path, KEEP.replace(",0", ",1"))
    image = one(read_tiff(tmp_path / "slide.ome.tif", panel=panel))
    check(image, pixels()[[1, 2, 0]])
    write_ome(tmp_path / "slide.ome.tif", pixels(), names=NAMES[::-1])
    check(one(read_tiff(tmp_path / "slide.ome.tif", panel=panel)), pixels()[::-1])


@pytest.mark.parametrize("rows", ["CD3,A\nCD3,B\n", "CD3,A\nCD3,B\nDAPI,C\n"])
def test_two_names_for_a_channel(tmp_path, rows):
    write_ome(tmp_path / "slide.ome.tif", pixels(), names=NAMES)
    panel = write(tmp_path, "channel,name\n" + rows)
    words = r"must keep each channel of image 'slide' of .* once, 'CD3' is there as 'A', 'B'$"
    with pytest.raises(ChannelError, match=words):
        read_tiff(tmp_path / "slide.ome.tif", panel=panel)


HEADINGS = [
    "channel,metal",
    "channel,Metal Tag",
    "name,metal",
    "name,channel",
    "marker,metal_tag",
    "name,marker",
]


@pytest.mark.parametrize("headings", HEADINGS)
def test_a_column_of_metals(tmp_path, headings):
    """It is what the file calls the channels, also where the names are in `channel`."""
    panel = write(tmp_path, f"{headings}\nDAPI,Ir191\nCD3,Pr141\nCD20,Nd142\n")
    assert read_panel(panel).names == tuple(NAMES)
    assert read_panel(panel).keys == ("Ir191", "Pr141", "Nd142")
    write_ome(tmp_path / "slide.ome.tif", pixels(), names=["Nd142", "Ir191", "Pr141"])
    check(one(read_tiff(tmp_path / "slide.ome.tif", panel=panel)), pixels()[[1, 2, 0]])


def test_a_column_of_metals_beside_two_of_names(tmp_path):
    panel = write(tmp_path, "name,channel,metal\nDAPI,DAPI,Ir191\nCD3,CD3,Pr141\n")
    assert read_panel(panel).keys == ("Ir191", "Pr141")
    panel = write(tmp_path, "name,channel\nDAPI,DAPI\nCD3,CD3\n")
    assert read_panel(panel).keys == ()


def test_imc(tmp_path):
    values = counts()
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, values)])
    panel = write(tmp_path, "channel,name,keep\nXe131,gas,0\nIr193,nuclei,1\nIn115,T cells,1\n")
    with pytest.warns(PxprepWarning, match="does not keep 'gas'"):
        image = one(open_images(tmp_path / "s1.mcd", panel=panel))
    assert image.c.values.tolist() == ["nuclei", "T cells"]
    np.testing.assert_array_equal(image.values, values[[2, 0]])
    other = write(tmp_path, "name\na\nb\nc\nd\n")
    with pytest.raises(
        ChannelError, match=r"must tell of the 4 channels .*'In.*: 'a', 'b', 'c', 'd'"
    ):
        open_images(tmp_path / "s1.mcd", panel=other)


def test_a_folder_with_a_file_for_each_channel(tmp_path):
    values = write_fov(tmp_path / "fov0", ["Ir191", "Pr141", "Nd142"])
    panel = write(tmp_path, KEEP.replace(",0", ",1"))
    for path in (tmp_path, tmp_path / "fov0"):
        image = one(open_images(path, ["CD20", "DAPI"], panel=panel))
        assert image.c.values.tolist() == ["CD20", "DAPI"]
        np.testing.assert_array_equal(image.values, values[[2, 0]])


BAD = {
    "empty": ("\n\n", "must hold names of channels, it is empty"),
    "empty cells": (",,\n,,\n", "must hold names of channels, it is empty"),
    "two columns of names": (
        "DAPI,nuclei\nCD3,T cells\n",
        "must say in its first row which column",
    ),
    "no name": ("name,keep\nDAPI,1\n,1\n", "a name for each channel, line 3 has none"),
    "no name after an empty line": ("name,keep\nDAPI,1\n\n,0\n", "line 4 has none"),
    "no name without a header": ("DAPI,1\n,2\n", "line 2 has none"),
    "twice": ("name\nDAPI\nDAPI\n", "'DAPI' more than once"),
    "keep": ("name,keep\nDAPI,maybe\n", "keep must be 0 or 1, got 'maybe'"),
    "only a header": ("name,sigma\n", "must hold names of channels, it has only a header"),
    "nothing kept": ("name,keep\nDAPI,0\n", "keeps no channel"),
    "a number": ("name,sigma\nDAPI,wide\n", "sigma must be a number, got 'wide'"),
    "no table": ("name,keep\n" + "0" * 200_000, "is no table: field larger"),
    "cells": ("name,keep\n\nDAPI,1\n,\nCD3\n", "must have 2 cells in each line, line 5 has 1"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_tables(tmp_path, bad):
    text, words = BAD[bad]
    with pytest.raises((ParameterError, ChannelError), match=words) as caught:
        read_panel(write(tmp_path, text))
    assert "panel.csv" in str(caught.value)


@pytest.mark.parametrize("what", ["keys", "keep", "cycle"])
def test_own_panels_of_other_lengths(what):
    column = {what: ("Ir191",)}
    given = {"other_numbers": column} if what == "cycle" else column
    with pytest.raises(ParameterError, match=f"^{what} must have an entry for each of the 3 names"):
        Panel(tuple(NAMES), **given)


def test_tables_that_do_not_fit(tmp_path):
    tifffile.imwrite(tmp_path / "slide.tif", pixels(), **GRAY)
    panel = write(tmp_path, "DAPI\nCD3\n")
    with pytest.raises(
        ChannelError, match=r"of the 3 channels of image 'slide'.* has 2 to keep: 'D"
    ):
        read_tiff(tmp_path / "slide.tif", panel=panel)
    with pytest.raises(ParameterError, match="give channel_names or panel, not both"):
        read_tiff(tmp_path / "slide.tif", panel=panel, channel_names=NAMES)
    with pytest.raises(ParameterError, match="panel does not exist"):
        read_tiff(tmp_path / "slide.tif", panel=tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("names", "table", "message"),
    [
        (NAMES, "name\nDAPI\nCD20\nCD8\n", r"row 2 is 'CD20', and the file has 'DAPI', 'CD3'"),
        (NAMES, "name,keep\nCD20,1\nCD8,1\nx,1\ny,0\n", r"row 1 is 'CD20', and the file has"),
        (NAMES, "channel,name\nDAPI,a\nCD20,b\nIr191,c\n", r"row 2 is 'CD20', and the file has"),
        (NAMES, "name\ndapi\ncd20\ncd3\n", r"row 2 is 'cd20', and the file has 'DAPI', 'CD3'"),
        (METALS, "channel,name\n191Ir,a\n142Nd,b\n141Pr,c\n", r"row 2 is '142Nd', and the file"),
        (None, "channel,name\n3,DAPI\n1,CD3\n2,CD20\n", r"channel numbers, got 3, 1, 2"),
        (None, "channel,name\n3.0,DAPI\n1.0,CD3\n,CD20\n", r"channel numbers, got 3, 1"),
        (None, "channel_number,name\n3,DAPI\n1,CD3\n2,CD20\n", r"channel numbers, got 3, 1, 2"),
    ],
)
def test_rows_in_another_order_than_the_channels(tmp_path, names, table, message):
    """Then no channel gets the name of another one."""
    write_ome(tmp_path / "a.ome.tiff", pixels(), names=names or ["", "", ""])
    (tmp_path / "panel.csv").write_text(table)
    with pytest.raises(ChannelError, match=message):
        open_images(tmp_path / "a.ome.tiff", panel=tmp_path / "panel.csv")


OTHER_ORDERS = {
    "no header": ("3,DAPI\n1,CD3\n2,CD20\n", r"its column '1' has 3, 1, 2: sort the rows"),
    "any heading": ("name,Index\nDAPI,2\nCD3,0\nCD20,1\n", r"its column 'Index' has 2, 0, 1:"),
    "cycles": ("cycle,name\n1,DAPI\n2,CD3\n1,CD20\n", r"its column 'cycle' has 1, 2, 1:"),
}


@pytest.mark.parametrize("case", OTHER_ORDERS)
def test_other_numbers_in_another_order(tmp_path, case):
    """They may be those of the channels: a warning says so."""
    text, words = OTHER_ORDERS[case]
    tifffile.imwrite(tmp_path / "a.tiff", pixels(), **GRAY)
    with pytest.warns(PxprepWarning, match=words):
        image = one(read_tiff(tmp_path / "a.tiff", panel=write(tmp_path, text)))
    check(image, pixels())


@pytest.mark.parametrize(
    "table",
    [
        "channel_number,cycle,name\n1,2,DAPI\n2,1,CD3\n3,1,CD20\n",
        "name,keep,ilastik\nDAPI,1,3\nCD3,1,1\nCD20,1,2\n",
        "name,exposure\nDAPI,100\nCD3,50\nCD20,200\n",
        "name,is_nuclear\nDAPI,1\nCD3,0\nCD20,0\n",
        "metal,name\n191,DAPI\n141,CD3\n142,CD20\n",
        "channel,metal\nDAPI,191\nCD3,141\nCD20,142\n",
        "metal,channel\n191,DAPI\n141,CD3\n142,CD20\n",
        "name,index,keep\nDAPI,0,1\nCD3,1,1\nx,3,0\nCD20,2,1\n",
    ],
)
def test_other_numbers_that_tell_no_order(tmp_path, table):
    """The last table has rows in another order, but not those of the file's channels."""
    tifffile.imwrite(tmp_path / "a.tiff", pixels(), **GRAY)
    check(one(read_tiff(tmp_path / "a.tiff", panel=write(tmp_path, table))), pixels())


@pytest.mark.parametrize("numbers", [(1, 2, 3), (9, 10, 11), (1, 2, 1)])
def test_numbers_of_channels_in_order_or_of_each_cycle(tmp_path, numbers):
    tifffile.imwrite(tmp_path / "a.tiff", pixels(), **GRAY)
    rows = [f"{number},{name}" for number, name in zip(numbers, NAMES, strict=True)]
    (tmp_path / "panel.csv").write_text("\n".join(["channel,name", *rows]))
    check(one(open_images(tmp_path / "a.tiff", panel=tmp_path / "panel.csv")), pixels())


def test_names_of_fewer_channels_than_there_are(tmp_path):
    """With two time points, the second name is not that of the second plane."""
    metadata = {"axes": "CTYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(tmp_path / "a.ome.tiff", pixels((3, 2, 20, 30)), metadata=metadata, **GRAY)
    panel = Panel(tuple(NAMES))
    with pytest.raises(ChannelError, match=r"^panel must tell of the 6 channels"):
        read_tiff(tmp_path / "a.ome.tiff", panel=panel, axes="CCYX")
