"""Files with several images in them: pictures and small views are left out, others chosen."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("tifffile")

import tifffile

from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import open_images, read_tiff
from tiff_files import GRAY, NAMES, check, one, pixels, write_ome


def picture(shape=(20, 30, 3)):
    return pixels(shape, "uint8")


def write_two(file, other, **how):
    """An OME-TIFF with a slide, and another image in it."""
    with tifffile.TiffWriter(file, ome=True) as tiff:
        channels = {"axes": "CYX", "Name": "slide", "Channel": {"Name": NAMES}}
        tiff.write(pixels(), metadata=channels, **GRAY)
        tiff.write(other, **how)


@pytest.mark.parametrize("name", ["macro", "Picture 1"])
def test_pictures_are_left_out(tmp_path, name):
    file = tmp_path / "s1.ome.tif"
    write_two(file, picture(), photometric="rgb", metadata={"axes": "YXS", "Name": name})
    with pytest.warns(PxprepWarning, match=rf"left out: 's1_{name}' \(20 x 30, RGB\)"):
        images = open_images(file)
    assert list(images) == ["s1"]
    check(images["s1"], pixels())
    for wanted in ("slide", "s1_slide", 0, "0"):  # nothing to warn of
        assert list(read_tiff(file, images=[wanted])) == ["s1_slide"]
    with pytest.raises(ImageError, match=r"3 samples .* axes='YXC'"):
        read_tiff(file, images=[name])
    chosen = read_tiff(file, images=[name], axes="YXC", channel_names=["r", "g", "b"])
    np.testing.assert_array_equal(one(chosen).values, picture().transpose(2, 0, 1))


def test_images_whose_names_are_numbers(tmp_path):
    """Counted from 1, as programs do: a text is the name, a number the position."""
    file = tmp_path / "s1.ome.tif"
    with tifffile.TiffWriter(file, ome=True) as tiff:
        for number in (1, 2, 3):
            metadata = {"axes": "CYX", "Name": str(number), "Channel": {"Name": NAMES}}
            tiff.write(pixels(seed=number), metadata=metadata, **GRAY)
    for wanted, name in (("2", "s1_2"), (2, "s1_3"), ("0", "s1_1"), ("s1_3", "s1_3")):
        assert list(read_tiff(file, images=[wanted])) == [name]


def test_small_views_are_left_out(tmp_path):
    file = tmp_path / "s1.ome.tif"
    write_two(file, pixels((20, 30)), metadata={"axes": "YX", "Name": "Overview"}, **GRAY)
    with pytest.warns(PxprepWarning, match=r"'s1_Overview' \(20 x 30\)"):
        assert list(read_tiff(file)) == ["s1"]


def test_other_images_are_chosen(tmp_path):
    file = tmp_path / "s1.ome.tif"
    metadata = {"axes": "YX", "Name": "later", "Channel": {"Name": "DAPI"}}
    write_two(file, pixels((20, 30)), metadata=metadata, **GRAY)
    with pytest.raises(ChannelError, match="'s1_later' lacks") as caught:
        read_tiff(file)
    assert "images= chooses some of those in a file: s1_slide, s1_later" in caught.value.__notes__
    assert list(read_tiff(file, images=["later"])) == ["s1_later"]
    assert list(read_tiff(file, ["DAPI"])) == ["s1_slide", "s1_later"]
    write_ome(tmp_path / "s2.ome.tif", pixels())
    assert list(open_images(tmp_path, images=["slide", "s2"])) == ["s1_slide", "s2"]
    with pytest.raises(ParameterError, match=r"'latr' is not there; there are 's1_slide', 's1_la"):
        open_images(tmp_path, images=["latr"])
    for bad in ("slide", [], [1.5], 3):
        with pytest.raises(ParameterError, match="images must be a sequence of names or numbers"):
            read_tiff(file, images=bad)


def test_pages_beside_a_smaller_one(tmp_path):
    file = tmp_path / "s1.tif"
    with tifffile.TiffWriter(file) as tiff:
        for page in [*pixels(), pixels((20, 30))]:
            tiff.write(page, **GRAY)
    with pytest.raises(ChannelError, match="name the 1 channels of image 's1_1'") as caught:
        read_tiff(file, channel_names=NAMES)
    assert "images= chooses some of those in a file: s1_0, s1_1" in caught.value.__notes__
    check(one(read_tiff(file, channel_names=NAMES, images=[0])), pixels())


def test_complex_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels().astype("complex64"), **GRAY)
    with pytest.raises(ImageError, match="must hold integers, bool or floats, got complex64"):
        read_tiff(tmp_path / "a.tif", channel_names=NAMES)


def test_a_file_that_holds_nothing_but_pictures(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb")
    with pytest.raises(ImageError, match="3 samples for each pixel, colours"):
        open_images(tmp_path / "a.tif")


# --- slide scanners and MIBI ----------------------------------------------------------------------


def qpi(kind, name="", dye="Opal 520"):
    named = f"<Name>{dye}</Name>" + (f"<Biomarker>{name}</Biomarker>" if name else "")
    told = named if kind != "Thumbnail" else ""
    tag = "PerkinElmer-QPI-ImageDescription"
    return f"<{tag}><ImageType>{kind}</ImageType>{told}</{tag}>"


def write_qptiff(file, values, names, dyes):
    with tifffile.TiffWriter(file, bigtiff=True) as tiff:
        options = {"metadata": None, "software": "PerkinElmer-QPI"}
        for reduced, scale in (("FullResolution", 1), ("ReducedResolution", 2)):
            for channel, name, dye in zip(values, names, dyes, strict=True):
                text = qpi(reduced, name, dye)
                page = np.ascontiguousarray(channel[::scale, ::scale])
                tiff.write(page, tile=(64, 64), description=text, **GRAY, **options)
            if scale == 1:
                thumb = {"photometric": "rgb", "description": qpi("Thumbnail")}
                tiff.write(picture((24, 18, 3)), **thumb, **options)


@pytest.mark.parametrize(("names", "expected"), [(NAMES, NAMES), (["", "", ""], ["a", "b", "c"])])
def test_qptiff(tmp_path, names, expected):
    """Channels are called by their biomarkers, or else by their dyes."""
    values = pixels((3, 128, 96))
    write_qptiff(tmp_path / "scan.qptiff", values, names, ["a", "b", "c"])
    shutil.copy(tmp_path / "scan.qptiff", tmp_path / "scan.tif")
    for file in ("scan.qptiff", "scan.tif"):
        with pytest.warns(PxprepWarning, match=r"'scan_Thumbnail' \(24 x 18, RGB\)"):
            images = open_images(tmp_path / file)
        assert list(images) == ["scan"]
        check(images["scan"], values, expected)


@pytest.mark.parametrize("suffix", [".btf", ".tf2", ".tf8", ".TIFF"])
def test_other_suffixes(tmp_path, suffix):
    tifffile.imwrite(tmp_path / f"x{suffix}", pixels(), **GRAY)
    check(open_images(tmp_path, channel_names=NAMES)["x"], pixels())


def write_mibi(file, counts, others=(), key=str):
    """A MIBItiff: pages with counts of ions, and others."""
    with tifffile.TiffWriter(file) as tiff:
        for page, (mass, target) in zip(counts, key, strict=True):
            about = {"image.type": "SIMS", "channel.mass": mass, "channel.target": target}
            tags = [(285, "s", 0, f"{target} ({mass})")]
            how = {"compression": "zlib", "software": "IonpathMIBIv1.0", "extratags": tags}
            tiff.write(page, metadata=about, **GRAY, **how)
        for kind, page in others:
            how = {"photometric": "rgb"} if page.ndim == 3 else GRAY
            tiff.write(page, metadata={"image.type": kind}, software="IonpathMIBIv1.0", **how)


TARGETS = [(89, "dsDNA"), (115, "CD45"), (159, "CD3")]


@pytest.mark.parametrize("n_others", [0, 2])
def test_mibitiff(tmp_path, n_others):
    counts = pixels((3, 101, 83))
    others = [("SED", pixels((202, 166), "uint8")), ("Optical", picture())][:n_others]
    write_mibi(tmp_path / "fov1.tiff", counts, others, TARGETS)
    for given in ({}, {"channel_names": ["dsDNA", "CD45", "CD3"]}):
        image = open_images(tmp_path / "fov1.tiff", **given)["fov1"]
        check(image, counts, ["dsDNA", "CD45", "CD3"])


def test_targets_that_do_not_tell_channels_apart(tmp_path):
    targets = [(89, "Au"), (115, None), (159, "Au")]
    write_mibi(tmp_path / "fov1.tiff", pixels(), (), targets)
    image = one(read_tiff(tmp_path / "fov1.tiff"))
    assert image.c.values.tolist() == ["Au (89)", "115", "Au (159)"]


def test_mibitiff_with_one_directory_of_metadata(tmp_path):
    """As written without tifffile's own metadata."""
    with tifffile.TiffWriter(tmp_path / "fov1.tiff") as tiff:
        for page, (mass, target) in zip(pixels(), TARGETS, strict=True):
            about = {"image.type": "SIMS", "channel.mass": mass, "channel.target": target}
            tiff.write(page, description=json.dumps(about), metadata=None, **GRAY)
    check(one(read_tiff(tmp_path / "fov1.tiff")), pixels(), [target for _, target in TARGETS])


# --- what pages are called ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one by one", "page name", "description", "imagej"])
def test_names_of_pages(tmp_path, how):
    file = tmp_path / "slide.tif"
    if how == "imagej":
        tifffile.imwrite(file, pixels(), imagej=True, metadata={"axes": "CYX", "Labels": NAMES})
    else:
        with tifffile.TiffWriter(file) as tiff:
            for page, name in zip(pixels(), NAMES, strict=True):
                told = {
                    "one by one": {},
                    "page name": {"metadata": None, "extratags": [(285, "s", 0, name)]},
                    "description": {"metadata": None, "description": name},
                }[how]
                tiff.write(page, **GRAY, **told)
    if how == "one by one":
        with pytest.raises(ChannelError, match="0 of 3 channels have a name"):
            read_tiff(file)
        check(one(read_tiff(file, channel_names=NAMES)), pixels())
    else:
        check(one(read_tiff(file)), pixels())


@pytest.mark.parametrize("names", [["DAPI", "CD3", "CD3"], ["DAPI", "", "CD3"]])
def test_names_of_pages_that_do_not_tell_them_apart(tmp_path, names):
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        for page, name in zip(pixels(), names, strict=True):
            tags = [(285, "s", 0, name)] if name else []
            tiff.write(page, metadata=None, extratags=tags, **GRAY)
    with pytest.raises(ChannelError, match="0 of 3 channels have a name"):
        read_tiff(tmp_path / "slide.tif")


def test_labels_of_slices_are_no_channels(tmp_path):
    """Until the user says so."""
    file = tmp_path / "slide.tif"
    tifffile.imwrite(file, pixels(), imagej=True, metadata={"axes": "ZYX", "Labels": NAMES})
    with pytest.raises(ChannelError, match="0 of 1 channels have a name"):
        read_tiff(file)
    check(one(read_tiff(file, axes="CYX")), pixels())
