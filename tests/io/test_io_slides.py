"""Folders as scanners and pipelines leave them: slides, cycles, masks, sizes that differ."""

import numpy as np
import pytest

pytest.importorskip("tifffile")

import tifffile

from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import open_images, read_folder
from tiff_files import GRAY, NAMES, check, one, pixels, write_fov, write_ome


def write_channel(file, values, channel=None):
    """An OME-TIFF of one channel, perhaps with its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    named = {} if channel is None else {"Channel": {"Name": channel}}
    tifffile.imwrite(file, values, metadata={"axes": "YX", **named}, **GRAY)


# --- a folder for each slide ----------------------------------------------------------------------


@pytest.mark.parametrize("subfolder", [None, "registration"])
def test_a_folder_for_each_slide(tmp_path, subfolder):
    for number in (2, 10):
        folder = tmp_path / f"s{number}" / (subfolder or "")
        folder.mkdir(parents=True)
        write_ome(folder / f"s{number}.ome.tif", pixels(seed=number))
    images = open_images(tmp_path, subfolder=subfolder)
    assert list(images) == ["s2", "s10"]
    check(images["s10"], pixels(seed=10))


def test_slides_without_names(tmp_path):
    """The remedies that messages name lead to the names."""
    for name in ("s1", "s2"):
        (tmp_path / "study" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "study" / name / "x.tif", pixels(), **GRAY)
    with pytest.raises(ChannelError, match="give channel_names or panel, all of them in the order"):
        read_folder(tmp_path / "study")
    with pytest.raises(ParameterError, match="for folders of TIFFs give panel"):
        open_images(tmp_path / "study", channel_names=NAMES)
    (tmp_path / "panel.csv").write_text("\n".join(["name", *NAMES]))
    for image in read_folder(tmp_path / "study", panel=tmp_path / "panel.csv").values():
        check(image, pixels())


def test_several_slides_in_a_folder(tmp_path):
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
        for number in range(2):
            write_ome(tmp_path / patient / f"s{number}.ome.tif", pixels(seed=number))
    assert list(read_folder(tmp_path)) == ["p1_s0", "p1_s1", "p2_s0", "p2_s1"]


@pytest.mark.parametrize("write", [write_fov, lambda folder: write_ome(folder / "s.tif", pixels())])
def test_a_folder_that_is_called_like_an_image_of_another(write, tmp_path):
    for name in ("p1", "p1_s0"):
        (tmp_path / name).mkdir()
    for number in range(2):
        write_ome(tmp_path / "p1" / f"s{number}.ome.tif", pixels(seed=number))
    write(tmp_path / "p1_s0")
    with pytest.raises(ImageError, match=r"p1_s0' holds \['p1_s0'\], as another file or folder"):
        read_folder(tmp_path, NAMES)


def test_slides_beside_fields_of_view(tmp_path):
    """A folder with a TIFF for each channel, and one with a TIFF of all."""
    values = write_fov(tmp_path / "a", NAMES)
    (tmp_path / "b").mkdir()
    write_ome(tmp_path / "b" / "whatever.ome.tif", pixels())
    images = read_folder(tmp_path, NAMES)
    np.testing.assert_array_equal(images["a"].values, values)
    check(images["b"], pixels())


def test_masks_beside_images(tmp_path):
    for name in ("s1", "s2"):
        write_ome(tmp_path / f"{name}.ome.tif", pixels())
        tifffile.imwrite(tmp_path / f"{name}_mask.tif", pixels((101, 83)), **GRAY)
    tifffile.imwrite(tmp_path / "nuclei.tif", pixels((101, 83)), **GRAY)
    with pytest.warns(
        PxprepWarning, match=r"\['nuclei.tif', 's1_mask.tif', 's2_mask.tif'\].*masks"
    ):
        images = open_images(tmp_path)
    assert list(images) == ["s1", "s2"]
    tifffile.imwrite(tmp_path / "CD8.tif", pixels((101, 83)), **GRAY)
    with (
        pytest.warns(PxprepWarning, match="seem to be masks"),
        pytest.raises(ImageError, match=r"CD8\.tif' holds one, '.*s1\.ome\.tif' several"),
    ):
        open_images(tmp_path)


def test_folders_of_masks(tmp_path):
    """As steinbock leaves them, and Pixie."""
    (tmp_path / "img").mkdir()
    for number in range(2):
        write_ome(tmp_path / "img" / f"p{number}.tiff", pixels(seed=number))
    write_fov(tmp_path / "masks", ["p0", "p1"])
    with pytest.warns(PxprepWarning, match=r"\['masks'\] of .* seem to hold masks: they are left"):
        images = open_images(tmp_path)
    assert list(images) == ["p0", "p1"]
    check(images["p1"], pixels(seed=1))
    for number in range(2):
        write_fov(tmp_path / "pixie" / f"fov{number}")
    write_fov(tmp_path / "pixie" / "segmentation", ["fov0_whole_cell", "fov1_whole_cell"])
    with pytest.warns(PxprepWarning, match=r"\['segmentation'\]"):
        assert list(read_folder(tmp_path / "pixie")) == ["fov0", "fov1"]
    write_fov(tmp_path / "alone" / "masks", ["a", "b"])
    assert list(open_images(tmp_path / "alone")) == ["masks"]


@pytest.mark.parametrize("place", ["study", "study/fov0"])
def test_files_of_other_channels_are_not_opened(tmp_path, place):
    values = write_fov(tmp_path / "study" / "fov0", NAMES)
    (tmp_path / "study" / "fov0" / "overlay.tiff").write_bytes(b"no TIFF")
    (tmp_path / "study" / "fov0" / "cells.tiff").write_bytes(b"no TIFF")
    image = open_images(tmp_path / place, ["CD3", "DAPI"])["fov0"]
    np.testing.assert_array_equal(image.values, values[[1, 0]])


# --- cycles ---------------------------------------------------------------------------------------


def write_cycles(folder, roi=1, seed=0):
    """MACSima: a folder for each cycle, names of files with the ROI in them."""
    values = pixels((4, 101, 83), seed=seed)
    channels = [(1, "DAPI"), (1, "CD3"), (2, "CD8"), (2, "CD20")]
    for page, (cycle, name) in zip(values, channels, strict=True):
        file = f"C-{cycle:03}_S-000_S_{name}_R-01_W-B-1_ROI-{roi:02}_A-{name}.ome.tif"
        write_channel(folder / f"Cycle{cycle}" / file, page, name)
    return values


def test_a_folder_for_each_cycle(tmp_path):
    stored = [write_cycles(tmp_path / f"ROI{roi}", roi, roi) for roi in (1, 2)]
    order, names = [1, 0, 2, 3], ["CD3", "DAPI", "CD8", "CD20"]  # by cycle, then by file
    images = open_images(tmp_path)
    assert list(images) == ["ROI1", "ROI2"]
    for image, values in zip(images.values(), stored, strict=True):
        check(image, values[order], names)
    alone = open_images(tmp_path / "ROI2")
    assert list(alone) == ["ROI2"]
    check(alone["ROI2"], stored[1][order], names)
    assert images["ROI1"].attrs["source"] == str(tmp_path / "ROI1")
    chosen = open_images(tmp_path, ["CD8"])["ROI1"]
    np.testing.assert_array_equal(chosen.values, stored[0][[2]])


def test_a_cycle_without_tiffs(tmp_path):
    values = write_cycles(tmp_path / "ROI1")
    (tmp_path / "ROI1" / "Cycle3").mkdir()
    for path in (tmp_path, tmp_path / "ROI1"):
        check(open_images(path)["ROI1"], values[[1, 0, 2, 3]], ["CD3", "DAPI", "CD8", "CD20"])


@pytest.mark.parametrize("is_named", [True, False])
def test_a_channel_of_every_cycle(is_named, tmp_path):
    """Whether metadata name the channels or the files."""
    values = pixels((4, 101, 83))
    for number, (cycle, name) in enumerate([(1, "DAPI"), (1, "CD3"), (2, "DAPI"), (2, "CD8")]):
        file = tmp_path / "ROI1" / f"cyc{cycle}" / f"{name}.ome.tif"
        write_channel(file, values[number], name if is_named else None)
    image = one(open_images(tmp_path))
    assert image.c.values.tolist() == ["CD3", "DAPI(cyc1)", "CD8", "DAPI(cyc2)"]
    np.testing.assert_array_equal(image.values, values[[1, 0, 3, 2]])
    second = one(open_images(tmp_path, ["DAPI(cyc2)"]))
    np.testing.assert_array_equal(second.values, values[[2]])
    with pytest.raises(ChannelError, match=r"DAPI\(cyc1\)"):
        open_images(tmp_path, ["DAPI"])


def test_folders_that_are_taken_together(tmp_path):
    """Whatever they are called."""
    values = pixels((2, 101, 83))
    for folder, name, page in zip(("first", "second"), ("a", "b"), values, strict=True):
        write_channel(tmp_path / "ROI1" / folder / f"{name}.tif", page)
    check_two = one(open_images(tmp_path, subfolder="*"))
    assert check_two.c.values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(check_two.values, values)


def test_masks_among_folders_that_are_taken_together(tmp_path):
    """They are no channels, unless they are asked for alone; nor are they a cycle."""
    values = write_fov(tmp_path / "a" / "ROI1" / "img")
    write_fov(tmp_path / "a" / "ROI1" / "masks", ["whole_cell"])
    with pytest.warns(PxprepWarning, match=r"subfolder '\*' finds \['masks'\], which seem to hold"):
        image = one(open_images(tmp_path / "a", subfolder="*"))
    assert image.c.values.tolist() == ["CD3", "CD20", "DAPI"]
    np.testing.assert_array_equal(image.values, values[[1, 2, 0]])
    masks = one(open_images(tmp_path / "a", subfolder="mask*"))
    assert masks.c.values.tolist() == ["whole_cell"]
    values = write_cycles(tmp_path / "b" / "ROI1")
    write_fov(tmp_path / "b" / "ROI1" / "masks", ["whole_cell"])
    for path in (tmp_path / "b", tmp_path / "b" / "ROI1"):
        check(open_images(path)["ROI1"], values[[1, 0, 2, 3]], ["CD3", "DAPI", "CD8", "CD20"])


def test_hidden_folders_on_the_way_to_a_subfolder(tmp_path):
    write_fov(tmp_path / "ROI1" / "img" / "TIFs")
    write_fov(tmp_path / "ROI1" / ".old" / "TIFs", ["CD8"])
    assert "CD8" not in one(open_images(tmp_path, subfolder="*/TIFs")).c.values


# --- names ----------------------------------------------------------------------------------------


def test_names_in_the_metadata(tmp_path):
    """Those of the files hold the ROI, so that fields of view would share no channel."""
    for roi in (1, 2):
        for name, page in zip(NAMES, pixels(seed=roi), strict=True):
            write_channel(tmp_path / f"ROI{roi}" / f"ROI-{roi}_A-{name}.ome.tif", page, name)
    order = ["CD3", "CD20", "DAPI"]
    for names_from in (None, "metadata"):
        images = open_images(tmp_path, names_from=names_from)
        check(images["ROI2"], pixels(seed=2)[[1, 2, 0]], order)
    with pytest.raises(ChannelError, match="'ROI2' lacks 'ROI-1_A-CD3', 'ROI-1_"):
        open_images(tmp_path, names_from="files")
    labels = one(open_images(tmp_path / "ROI1", names_from="files")).c.values.tolist()
    assert labels == ["ROI-1_A-CD3", "ROI-1_A-CD20", "ROI-1_A-DAPI"]


def test_names_that_contradict_each_other(tmp_path):
    for name, dye, page in zip(NAMES, ("Opal 520", "Opal 570", "Opal 690"), pixels(), strict=True):
        write_channel(tmp_path / f"{name}.ome.tif", page, dye)
    with pytest.warns(PxprepWarning, match="'Opal 570' for 'CD3.ome.tif'; names_from='files' call"):
        image = one(open_images(tmp_path))
    assert image.c.values.tolist() == ["Opal 570", "Opal 690", "Opal 520"]
    image = one(open_images(tmp_path, names_from="files"))
    assert image.c.values.tolist() == ["CD3", "CD20", "DAPI"]
    assert one(open_images(tmp_path, ["CD3"])).c.values.tolist() == ["CD3"]


def test_a_table_knows_files_by_either_name(tmp_path):
    """It says what the channels are called: a warning only if the names contradict each other."""
    folder, table = tmp_path / "fov", tmp_path / "panel.csv"
    for name, metal, page in zip(NAMES, ("Ir191", "Pr141", "Nd142"), pixels(), strict=True):
        write_channel(folder / f"{name}.ome.tif", page, metal)
    for rows in (["Pr141,T", "Nd142,B", "Ir191,DNA"], ["CD3,T", "CD20,B", "DAPI,DNA"]):
        table.write_text("\n".join(["channel,name", *rows]))
        check(one(open_images(folder, panel=table)), pixels()[[1, 2, 0]], ["T", "B", "DNA"])
    for name, other, page in zip(NAMES, NAMES[::-1], pixels(), strict=True):
        write_channel(folder / f"{name}.ome.tif", page, other)
    with pytest.warns(
        PxprepWarning, match="as their metadata say, '(CD20' for 'DAPI|DAPI' for 'CD20)"
    ):
        check(one(open_images(folder, panel=table)), pixels()[[1, 0, 2]], ["T", "B", "DNA"])


@pytest.mark.parametrize("names", [("DAPI", None, "CD3"), ("DAPI", "CD3", "CD3")])
def test_names_in_the_metadata_that_do_not_tell_channels_apart(tmp_path, names):
    for number, (name, page) in enumerate(zip(names, pixels(), strict=True)):
        write_channel(tmp_path / f"f{number}.ome.tif", page, name)
    assert one(open_images(tmp_path)).c.values.tolist() == ["f0", "f1", "f2"]
    with pytest.raises(ChannelError, match="names_from='metadata' needs a name of its own"):
        open_images(tmp_path, names_from="metadata")


# --- sizes ----------------------------------------------------------------------------------------


def test_sizes_that_differ_are_cut_if_asked_for(tmp_path):
    shapes = {"CD3": (100, 84), "CD20": (102, 83), "DAPI": (101, 83)}
    stored = {name: pixels(shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    for name, values in stored.items():
        write_channel(tmp_path / "ROI1" / f"{name}.tif", values)
    with pytest.raises(ImageError, match="crop=True cuts all to the size that they share"):
        open_images(tmp_path)
    image = one(open_images(tmp_path, crop=True))
    check(image, np.stack([values[:100, :83] for values in stored.values()]), list(shapes))


def test_a_stack_among_planes_is_not_to_be_cut(tmp_path):
    stack = {"metadata": {"axes": "ZYX"}, **GRAY}
    write_channel(tmp_path / "ROI1" / "CD3.tif", pixels((101, 83)))
    tifffile.imwrite(tmp_path / "ROI1" / "CD20.tif", pixels((4, 101, 83)), **stack)
    for crop in (False, True):
        with pytest.raises(ImageError, match=r"must all have .* has \([0-9, ]*\)$"):
            open_images(tmp_path, crop=crop)


@pytest.mark.parametrize("third", [0.5, np.float32(0.5) * (1 + 2e-7), None, 1])
def test_pixel_sizes_in_the_metadata_of_channels(tmp_path, third):
    (tmp_path / "ROI1").mkdir()
    for name, size in zip(NAMES, (0.5, 0.5, third), strict=True):
        told = {} if size is None else {"PhysicalSizeX": size, "PhysicalSizeY": size}
        write_ome(tmp_path / "ROI1" / f"{name}.ome.tif", pixels()[:1], names=[name], **told)
    if third == 1:
        with pytest.warns(PxprepWarning, match=r"those along y, x are not kept: '.*CD20\.ome"):
            assert "um_per_pixel" not in one(open_images(tmp_path)).attrs
    else:
        assert one(open_images(tmp_path)).attrs["um_per_pixel"] == {"y": 0.5, "x": 0.5}


def test_pixel_sizes_of_cycles_whose_files_are_called_alike(tmp_path):
    """Distances of planes that only some tell are no contradiction; other pixels are."""
    for number, depth in enumerate(({}, {"PhysicalSizeZ": 2})):
        (tmp_path / "ROI1" / f"Cycle{number}").mkdir(parents=True)
        sizes = {"PhysicalSizeX": 0.5 + number, "PhysicalSizeY": 0.5, **depth}
        write_ome(
            tmp_path / "ROI1" / f"Cycle{number}" / "a.ome.tif", pixels()[:1], names=["a"], **sizes
        )
    with pytest.warns(PxprepWarning, match=r"those along x are not kept: .*Cycle0.*Cycle1"):
        image = one(open_images(tmp_path))
    assert image.attrs["um_per_pixel"] == {"z": 2, "y": 0.5}
