"""Folders with a TIFF for each channel, read lazily."""

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

import tifffile

from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import open_images, read_folder
from tiff_files import GRAY, LAYOUTS, NAMES, check, one, pixels, write_fov


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".TIF", ".ome.tiff"])
@pytest.mark.parametrize("subfolder", ["", "TIFs"])
def test_folders(tmp_path, subfolder, suffix):
    names = ["CD20", "CD3", "H3K27me3"]
    stored = {}
    for fov in ("fov10", "fov2"):
        folder = tmp_path / fov / subfolder
        stored[fov] = write_fov(folder, names, suffix, pixels((3, 40, 30), seed=len(fov)))
        (folder / f"._CD3{suffix}").write_bytes(b"hidden")
        (folder / "Thumbs.db").write_bytes(b"of no interest")
    (tmp_path / ".hidden").mkdir()
    images = read_folder(tmp_path)
    assert list(images) == ["fov2", "fov10"]  # in natural order, as the channels
    for fov, image in images.items():
        check(image, stored[fov][[1, 0, 2]], ["CD3", "CD20", "H3K27me3"])
        assert image.attrs["source"] == str(tmp_path / fov / subfolder)
    chosen = open_images(tmp_path, ["H3K27me3", "CD3"])
    np.testing.assert_array_equal(chosen["fov2"].values, stored["fov2"][[2, 1]])


def test_a_field_of_view_in_tifs(tmp_path):
    """It has the name of its folder; beside another folder, TIFs is one like that."""
    values = write_fov(tmp_path / "fov0" / "TIFs")
    write_fov(tmp_path / "fov0" / "masks", ["whole_cell"])
    images = open_images(tmp_path / "fov0", NAMES)
    assert list(images) == ["fov0"]
    np.testing.assert_array_equal(images["fov0"].values, values)
    write_fov(tmp_path / "fov0" / "other" / "TIFs")
    with pytest.warns(PxprepWarning, match="seem to hold masks"):
        assert list(open_images(tmp_path / "fov0", NAMES)) == ["TIFs", "other"]


def test_a_subfolder_by_name(tmp_path):
    values = write_fov(tmp_path / "fov0" / "rescaled")
    write_fov(tmp_path / "fov0" / "masks", ["whole_cell"])
    with pytest.raises(ParameterError, match="must hold a folder of TIFFs for each field of view"):
        read_folder(tmp_path)
    for read in (read_folder, open_images):
        image = one(read(tmp_path, NAMES, subfolder="rescaled"))
        np.testing.assert_array_equal(image.values, values)
    with pytest.raises(ParameterError, match="none are in 'other' in the folders of"):
        read_folder(tmp_path, subfolder="other")


def test_stacks_of_one_channel(tmp_path):
    stored = pixels((3, 4, 40, 10))
    for name, values in zip(NAMES, stored, strict=True):
        (tmp_path / "fov0").mkdir(exist_ok=True)
        file = tmp_path / "fov0" / f"{name}.tiff"
        tifffile.imwrite(file, values, metadata={"axes": "ZYX"}, **GRAY)
    check(read_folder(tmp_path, NAMES)["fov0"], stored)


@pytest.mark.parametrize("channels", [None, NAMES])
def test_axes_say_how_many_channels_a_file_has(tmp_path, channels):
    stored = pixels((3, 4, 40, 10))
    (tmp_path / "fov0").mkdir()
    for name, values in zip(NAMES, stored, strict=True):
        tifffile.imwrite(tmp_path / "fov0" / f"{name}.tiff", values, **GRAY)
    image = read_folder(tmp_path, channels, axes="ZYX")["fov0"].sel(c=NAMES)
    check(image, stored)
    for name, values in zip(NAMES, stored, strict=True):
        file = tmp_path / "fov0" / f"{name}.tiff"
        tifffile.imwrite(file, values, metadata={"axes": "ZYX"}, **GRAY)
    with pytest.raises((ChannelError, ImageError), match=r"0 of 4 channels|one channel, it ho"):
        read_folder(tmp_path, channels, axes="CYX")


def test_files_of_several_types_and_layouts(tmp_path):
    folder = tmp_path / "fov0"
    folder.mkdir()
    stored = [pixels((2000, 9), dtype) for dtype in ("uint8", "uint16", "float32")]
    for name, values, layout in zip(
        NAMES, stored, ("plain", "big-endian tiles", "zlib in one strip"), strict=True
    ):
        tifffile.imwrite(folder / f"{name}.tiff", values, **GRAY, **LAYOUTS[layout])
    image = read_folder(tmp_path, NAMES)["fov0"]
    assert image.chunksizes["y"] == (2000,)  # one strip is decoded once
    check(image, np.stack(stored).astype("float32"))


def test_folders_that_differ_in_their_channels(tmp_path):
    for fov in ("fov0", "fov1", "fov2"):
        write_fov(tmp_path / fov)
    write_fov(tmp_path / "fov3", ["DAPI", "cd3", "CD20", "CD8"])
    (tmp_path / "fov1" / "DAPI.tiff").unlink()
    with pytest.raises(ChannelError) as caught:
        read_folder(tmp_path)
    assert str(caught.value) == (
        "all images must have the same channels, 'CD3', 'CD20', 'DAPI': 'fov1' lacks 'DAPI'; "
        "'fov3' lacks 'CD3' and also has 'CD8', 'cd3'; all images have 'CD20'"
    )
    assert [image.c.values.tolist() for image in read_folder(tmp_path, ["CD20"]).values()] == [
        ["CD20"]
    ] * 4
    with pytest.raises(ChannelError, match=r"channels, 'CD3', 'CD20': 'fov3' lacks 'CD3'; all"):
        read_folder(tmp_path, ["CD3", "CD20"])
    with pytest.raises(ChannelError, match=r"channels: no channel 'CD2' \(did you mean 'CD20'"):
        read_folder(tmp_path, ["CD3", "CD2"])
    with pytest.raises(ChannelError, match=r"'fov0' lacks 'CD8'; .*; all images have none of them"):
        read_folder(tmp_path, ["CD8"])


def test_folders_without_tiffs_are_told_of(tmp_path):
    write_fov(tmp_path / "fov0")
    (tmp_path / "logs").mkdir()
    (tmp_path / "notes.md").write_text("# Notes")
    with pytest.warns(PxprepWarning, match=r"no TIFFs are in \['logs'\]"):
        assert list(read_folder(tmp_path)) == ["fov0"]


def test_bad_folders(tmp_path):
    folder = tmp_path / "study" / "fov0"
    values = write_fov(folder)
    with pytest.raises(ParameterError, match=r"path must be a folder of fields of view, got .*CD3"):
        read_folder(folder / "CD3.tiff")
    tifffile.imwrite(folder / "CD3.tif", values[0], **GRAY)
    with pytest.raises(ChannelError, match=r"'CD3' has two files: '.*CD3\.tif.?' and '.*CD3\.tif"):
        read_folder(tmp_path / "study")
    (folder / "CD3.tif").unlink()
    tifffile.imwrite(folder / "CD8.tiff", values[0][:-1], **GRAY)
    with pytest.raises(
        ImageError, match=r"all have \(40, 30\) pixels: .*CD8\.tiff' has \(39, 30\)"
    ):
        read_folder(tmp_path / "study")
    tifffile.imwrite(folder / "CD8.tiff", values, **GRAY)
    with pytest.raises(ImageError, match=r"one channel each, or.*CD3\.tiff' holds one, .*CD8\.tif"):
        read_folder(tmp_path / "study")
    assert list(read_folder(tmp_path / "study", ["CD3"])) == ["fov0"]  # CD8 is not looked at
    tifffile.imwrite(folder / "CD8.tiff", np.zeros((40, 30, 3), "u1"), photometric="rgb")
    with pytest.warns(PxprepWarning, match=r"'CD8\.tiff'\] of .* hold RGB pictures: they are left"):
        assert list(read_folder(tmp_path / "study")) == ["fov0"]
    with pytest.raises(ImageError, match=r"CD8\.tiff' has 3 samples"):
        read_folder(tmp_path / "study", ["CD3", "CD8"])
