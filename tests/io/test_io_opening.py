"""Whatever a path is: recognised, or refused."""

import sys

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

import tifffile

from imc_files import PANEL, counts, write_mcd, write_txt
from pxprep import Pipeline
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import export_images, open_images, read_tiff
from tiff_files import GRAY, NAMES, check, pixels, write_fov, write_ome


def test_a_single_field_of_view(tmp_path):
    values = write_fov(tmp_path / "fov7")
    images = open_images(tmp_path / "fov7", NAMES)
    assert list(images) == ["fov7"]
    check(images["fov7"], values)


def test_an_image_has_its_name(tmp_path):
    """Not that of its Dask array, which is another one each time."""
    write_fov(tmp_path / "fov7")
    write_ome(tmp_path / "slide.ome.tiff", pixels())
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, counts())])
    for file in ("fov7", "slide.ome.tiff", "s1.mcd"):
        for name, image in open_images(tmp_path / file).items():
            fitted = Pipeline.sparrow().fit(image.compute())
            assert fitted.fovs == (image.name,) == (name,), file


def test_folders_of_ome_tiffs(tmp_path):
    for number in (10, 9):
        write_ome(tmp_path / f"s{number}.ome.tiff", pixels(seed=number))
    images = open_images(tmp_path)
    assert list(images) == ["s9", "s10"]
    check(images["s10"], pixels(seed=10))
    write_ome(tmp_path / "s11.ome.tiff", pixels(), names=["DAPI", "CD3", "CD8"])
    with pytest.raises(ChannelError, match=r"'s11' lacks 'CD20' and also has 'CD8'"):
        open_images(tmp_path)
    write_ome(tmp_path / "s9.ome.tif", pixels())
    with pytest.raises(
        ImageError, match=r"s9\.ome\.tiff' holds \['s9'\], as another file or folder does"
    ):
        open_images(tmp_path, ["CD3"])


def test_folders_of_tiffs_whose_channels_are_given(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(), **GRAY)
    check(open_images(tmp_path, channel_names=NAMES)["a"], pixels())
    tifffile.imwrite(tmp_path / "b.tif", pixels()[0], **GRAY)
    with pytest.raises(ImageError, match=r"one channel each, or several each: .*b\.tif' holds one"):
        open_images(tmp_path)


def test_folders_of_imc(tmp_path):
    write_mcd(tmp_path / "s2.mcd", [("a", PANEL, counts())])
    write_txt(tmp_path / "s2_a.txt", PANEL, counts())
    (tmp_path / "notes.txt").write_text("Thursday")
    assert list(open_images(tmp_path)) == ["s2"]  # the .txt file holds the same
    (tmp_path / "s2.mcd").unlink()
    assert list(open_images(tmp_path)) == ["s2_a"]


def test_the_home_folder(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    write_ome(tmp_path / "a.ome.tiff", pixels())
    image = read_tiff("~/a.ome.tiff")["a"]
    assert export_images({"b": image}, "~/more") == {"b": tmp_path / "more" / "b.ome.tiff"}
    with pytest.raises(ParameterError, match="path does not exist: '~nobody here"):
        read_tiff("~nobody here/a.ome.tiff")


def test_links_keep_their_names(tmp_path, monkeypatch):
    write_fov(tmp_path / "data" / "2024-11-03")
    write_ome(tmp_path / "data" / "slide.ome.tiff", pixels())
    (tmp_path / "fov0").symlink_to(tmp_path / "data" / "2024-11-03")
    (tmp_path / "s1.ome.tiff").symlink_to(tmp_path / "data" / "slide.ome.tiff")
    assert list(open_images(tmp_path / "fov0")) == ["fov0"]
    assert list(open_images(tmp_path / "s1.ome.tiff")) == ["s1"]
    monkeypatch.chdir(tmp_path / "data" / "2024-11-03")
    assert list(open_images(".")) == ["2024-11-03"]


@pytest.mark.parametrize("package", ["tifffile", "readimc"])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, package):
    write_ome(tmp_path / "s1.ome.tiff", pixels())
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, counts())])
    (tmp_path / "study").mkdir()
    write_fov(tmp_path / "study" / "fov0")
    monkeypatch.setitem(sys.modules, package, None)
    source = {"tifffile": "study", "readimc": "s1.mcd"}[package]
    with pytest.raises(ParameterError, match=r"need.* the package .*pip install 'pxprep\[io\]'"):
        open_images(tmp_path / source)


def test_folders_that_hold_no_tiffs_need_no_tifffile(tmp_path, monkeypatch):
    for name in ("s10", "s9"):
        write_mcd(tmp_path / f"{name}.mcd", [("a", PANEL, counts())])
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert list(open_images(tmp_path)) == ["s9", "s10"]


def test_folders_of_one_name_are_taken_together(tmp_path):
    for cycle, channel in enumerate(NAMES):
        (tmp_path / "fov0" / f"cycle{cycle}" / "TIFs").mkdir(parents=True)
        file = tmp_path / "fov0" / f"cycle{cycle}" / "TIFs" / f"{channel}.tiff"
        tifffile.imwrite(file, pixels()[cycle], **GRAY)
    check(open_images(tmp_path, NAMES, subfolder="*/TIFs")["fov0"], pixels())


def test_a_subfolder_of_folders_that_are_called_like_cycles(tmp_path):
    for name in ("Cycle1", "Cycle2"):
        write_fov(tmp_path / "roi" / name)
        raw = write_fov(tmp_path / "roi" / name / "raw")
    images = open_images(tmp_path / "roi", NAMES, subfolder="raw")
    assert list(images) == ["Cycle1", "Cycle2"]
    check(images["Cycle2"], raw)


@pytest.mark.parametrize("subfolder", ["", ".", "/raw", "a**", 5])
def test_what_is_no_subfolder(tmp_path, subfolder):
    write_fov(tmp_path / "fov0")
    with pytest.raises(ParameterError, match="subfolder must be the name of a folder in each"):
        open_images(tmp_path, subfolder=subfolder)


def test_what_cannot_be_recognised(tmp_path):
    with pytest.raises(ParameterError, match=r"path must hold images of one kind.* none of them"):
        open_images(tmp_path)
    write_fov(tmp_path / "fov0")
    write_ome(tmp_path / "slide.ome.tiff", pixels())
    with pytest.raises(ParameterError, match="holds TIFFs and folders of TIFFs"):
        open_images(tmp_path)
    with pytest.raises(ParameterError, match="none are in 'TIFs' in the folders of"):
        open_images(tmp_path / "fov0", subfolder="TIFs")
    with pytest.raises(ParameterError, match=r"subfolder must be left out: .* not for the file '"):
        open_images(tmp_path / "slide.ome.tiff", subfolder="TIFs")
    (tmp_path / "slides").mkdir()
    write_ome(tmp_path / "slides" / "s1.ome.tiff", pixels())
    for given in ({"crop": True}, {"names_from": "files"}):
        with pytest.raises(
            ParameterError, match=r"(crop|names_from) must be .* not for the file '"
        ):
            open_images(tmp_path / "slide.ome.tiff", **given)
        with pytest.raises(
            ParameterError, match=r"(crop|names_from) must be .* not for images of several channels"
        ):
            open_images(tmp_path / "slides", **given)
    with pytest.raises(ParameterError, match=r"acquisitions must be left out: .* not for TIFFs"):
        open_images(tmp_path / "slide.ome.tiff", acquisitions=np.array([1, 2]))
    (tmp_path / "slide.ome.tiff").unlink()
    with pytest.raises(ParameterError, match="channel_names are for TIFFs that do not tell them"):
        open_images(tmp_path, channel_names=NAMES)
    write_txt(tmp_path / "a.txt", PANEL, counts())
    with pytest.raises(ParameterError, match="channel_names are for TIFFs that do not tell them"):
        open_images(tmp_path / "a.txt", channel_names=NAMES)
    with pytest.raises(ParameterError, match=r"crop must be left out: .* not for files of IMC"):
        open_images(tmp_path / "a.txt", crop=True)
    with pytest.raises(ParameterError, match="channels must be a sequence of channel labels"):
        open_images(tmp_path / "fov0", "CD3")
