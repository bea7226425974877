"""Files that people have, read lazily: the pixels are those that were written, to the bit."""

import pickle
import sys

import dask
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("tifffile")
pytest.importorskip("ome_types")
pytest.importorskip("readimc")

import tifffile

import pxprep
from imc_files import write_mcd, write_txt
from pxprep import ChannelError, ImageError, ParameterError, PxprepWarning
from pxprep.io import imc, open_images, read_folder, read_imc, read_tiff, stacks
from pxprep.io.arrays import FilePixels

NAMES = ["DAPI", "CD3", "CD20"]
GRAY = {"photometric": "minisblack"}
LAYOUTS = {
    "plain": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "zlib in one strip": {"compression": "zlib", "rowsperstrip": 100_000},
    "zlib strips": {"compression": "zlib", "rowsperstrip": 13},
    "zlib tiles": {"compression": "zlib", "tile": (32, 48)},
    "LZW strips": {"compression": "lzw", "rowsperstrip": 13},
    "predictor": {"compression": "zlib", "predictor": True, "tile": (64, 64)},
    "big-endian": {"byteorder": ">"},
    "big-endian tiles": {"byteorder": ">", "compression": "zlib", "tile": (16, 16)},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 50},
}


def pixels(shape=(3, 101, 83), dtype="uint16", seed=0):
    """Values that use all bits of their type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1e6, shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_ome(file, values, axes="CYX", names=NAMES, layout=None, **metadata):
    layout = dict(layout or {})
    opening = {key: layout.pop(key) for key in ("byteorder", "bigtiff") if key in layout}
    metadata = {"axes": axes, "Channel": {"Name": list(names)}, **metadata}
    if names is None:
        del metadata["Channel"]
    with tifffile.TiffWriter(file, ome=True, **opening) as tiff:
        tiff.write(values, metadata=metadata, **GRAY, **layout)


def write_fov(folder, names=NAMES, suffix=".tiff", values=None, **layout):
    """One TIFF for each channel."""
    folder.mkdir(parents=True, exist_ok=True)
    values = pixels((len(names), 40, 30)) if values is None else values
    for name, channel in zip(names, values, strict=True):
        tifffile.imwrite(folder / f"{name}{suffix}", channel, **GRAY, **layout)
    return values


def one(images):
    (image,) = images.values()
    return image


def check(image, values, names=NAMES):
    """An image is lazy, of native bytes, labelled, and has the values: all of it and parts."""
    assert dask.is_dask_collection(image)
    assert image.dtype == values.dtype.newbyteorder("=")
    assert image.dtype.isnative
    assert image.dims == (("c", "y", "x") if values.ndim == 3 else ("c", "z", "y", "x"))
    assert image.c.values.tolist() == list(names)
    computed = image.values
    assert computed.dtype == image.dtype
    np.testing.assert_array_equal(computed, values)
    for part in ((0, ..., slice(5, 6), 7), (slice(1, 3), ..., slice(30, 35), slice(3, 60, 4))):
        np.testing.assert_array_equal(image.data[part].compute(), values[part])
    np.testing.assert_array_equal(image.isel(c=[2, 0]).values, values[[2, 0]])
    elsewhere = pickle.loads(pickle.dumps(image))  # as to another process
    np.testing.assert_array_equal(elsewhere[:, ..., 3].values, values[..., 3])


# --- OME-TIFF and other TIFFs of several channels -------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ome_tiff(tmp_path, layout, monkeypatch):
    """However the pixels lie in the file, in blocks smaller than the image."""
    monkeypatch.setattr(stacks, "BLOCK", 40)
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


def test_an_ome_tiff_in_several_files(tmp_path):
    """The metadata of one file name the pages of another."""
    values = pixels((2, 20, 30))
    files = [tmp_path / "a.ome.tiff", tmp_path / "b.ome.tiff"]
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:{0}0000000-0000-0000-0000-000000000000">'
        '<Image ID="Image:0" Name="both"><Pixels ID="Pixels:0" DimensionOrder="XYZTC" '
        'Type="uint16" SizeX="30" SizeY="20" SizeZ="1" SizeT="1" SizeC="2">'
        '<Channel ID="Channel:0:0" Name="CD3"/><Channel ID="Channel:0:1" Name="CD20"/>'
        '<TiffData FirstC="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tiff">'
        "urn:uuid:10000000-0000-0000-0000-000000000000</UUID></TiffData>"
        '<TiffData FirstC="1" IFD="0" PlaneCount="1"><UUID FileName="b.ome.tiff">'
        "urn:uuid:20000000-0000-0000-0000-000000000000</UUID></TiffData></Pixels></Image></OME>"
    )
    for number, (file, plane) in enumerate(zip(files, values, strict=True), start=1):
        tifffile.imwrite(file, plane, description=xml.format(number), metadata=None, **GRAY)
    image = read_tiff(files[0])["a"]
    np.testing.assert_array_equal(image.values, values)
    files[1].unlink()
    with pytest.raises(ImageError, match=r"a\.ome\.tiff' lacks page 1: is one of its files miss"):
        read_tiff(files[0])


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
    with pytest.raises(ParameterError, match=r"channel_names must be a sequence of names, got 'CD"):
        read_tiff(file, channel_names="CD3")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["DAPI", "", "CD20"], "2 of 3 channels have a name"),
        (["DAPI", "CD3", "CD3"], "'CD3' names more than one channel"),
    ],
)
def test_names_that_do_not_tell_channels_apart(tmp_path, names, words):
    file = tmp_path / "slide.ome.tiff"
    write_ome(file, pixels(), names=names)
    with pytest.raises(ChannelError, match=words) as caught:
        read_tiff(file)
    assert "give channel_names, all of them" in str(caught.value)
    check(read_tiff(file, channel_names=NAMES)["slide"], pixels())


@pytest.mark.parametrize(
    ("shape", "how", "words"),
    [
        ((40, 30, 3), {"photometric": "rgb"}, "3 samples for each pixel"),
        ((4, 3, 40, 30), {"ome": True, "metadata": {"axes": "TCYX"}, **GRAY}, "4 points in time"),
        ((3, 2, 40, 30), {"metadata": {"axes": "CQYX"}, **GRAY}, "must have the axes C, Z, Y and"),
    ],
    ids=["rgb", "time", "axes"],
)
def test_images_of_other_kinds(tmp_path, shape, how, words):
    file = tmp_path / "slide.tiff"
    tifffile.imwrite(file, pixels(shape), **how)
    with pytest.raises(ImageError, match=words) as caught:
        read_tiff(file)
    assert str(file) in str(caught.value)


def test_a_compression_that_is_not_known(tmp_path):
    file = tmp_path / "slide.tiff"
    tifffile.imwrite(file, pixels()[0], compression="zlib", **GRAY)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(50999)
    with pytest.raises(ImageError, match=r"cannot be decoded.*pip install imagecodecs"):
        read_tiff(file, channel_names=["CD3"])


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


# --- folders of fields of view --------------------------------------------------------------------


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
    with pytest.raises(ImageError, match=r"CD8\.tiff' must hold one channel"):
        read_folder(tmp_path / "study")
    assert list(read_folder(tmp_path / "study", ["CD3"])) == ["fov0"]  # CD8 is not looked at
    tifffile.imwrite(folder / "CD8.tiff", np.zeros((40, 30, 3), "u1"), photometric="rgb")
    with pytest.raises(ImageError, match=r"CD8\.tiff' has 3 samples"):
        read_folder(tmp_path / "study")


# --- laziness -------------------------------------------------------------------------------------


def test_opening_reads_no_pixels(tmp_path, no_compute):
    """A hundred fields of view, one with broken pixels: which shows when that one is computed."""
    values = pixels((2, 64, 64))
    for number in range(100):
        write_fov(tmp_path / f"fov{number}", NAMES[:2], values=values, compression="zlib")
    broken = tmp_path / "fov50" / "CD3.tiff"
    with tifffile.TiffFile(broken, mode="r+") as tiff:
        tiff.filehandle.seek(tiff.pages[0].dataoffsets[0])
        tiff.filehandle.write(b"\xff" * 64)
    with no_compute():
        images = read_folder(tmp_path)
    assert len(images) == 100
    np.testing.assert_array_equal(images["fov49"].values, values[::-1])
    np.testing.assert_array_equal(images["fov50"].sel(c="DAPI").values, values[0])
    with pytest.raises(ImageError, match=r"fov50/CD3\.tiff' cannot be read"):
        images["fov50"].compute()


def test_only_tiles_of_a_window_are_decoded(tmp_path):
    """Broken tiles elsewhere do no harm."""
    values, file = pixels((3, 2048, 2048)), tmp_path / "slide.ome.tiff"
    write_ome(file, values, layout={"tile": (256, 256), "compression": "zlib"})
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for number, offset in enumerate(tiff.pages[1].dataoffsets):
            if number % 8 > 3 or number > 31:  # but for the upper left quarter
                tiff.filehandle.seek(offset)
                tiff.filehandle.write(b"\xff" * 64)
    image = read_tiff(file)["slide"]
    assert image.chunks == ((1, 1, 1), (1024, 1024), (1024, 1024))
    np.testing.assert_array_equal(image[:, :1024, :1024].values, values[:, :1024, :1024])
    with pytest.raises(ImageError, match=r"slide\.ome\.tiff' cannot be read"):
        image[1, 1024:].compute()


def test_images_are_processed_where_they_are(tmp_path):
    """Pipelines read the files directly: the same numbers and bits as in memory."""
    from pxprep.datasets import tissue

    cohort = {name: fov.astype("uint16") for name, fov in tissue(2, size=64).items()}
    for name, fov in cohort.items():
        write_fov(tmp_path / name, fov.c.values.tolist(), values=fov.values)
    labels = cohort["fov0"].c.values.tolist()
    images = read_folder(tmp_path, labels)
    fitted = pxprep.Pipeline.sparrow().fit(images)
    expected = pxprep.Pipeline.sparrow().fit(cohort)
    xr.testing.assert_identical(fitted.numbers, expected.numbers)
    np.testing.assert_array_equal(
        fitted.transform(images["fov1"]).values, expected.transform(cohort["fov1"]).values
    )


class InMemory(FilePixels):
    def __init__(self, values):
        super().__init__(values.shape, values.dtype)
        self.values = values

    def read(self, region):
        return self.values[tuple(slice(*ends) for ends in region)]


@pytest.mark.parametrize(
    "selection",
    [
        (),
        (1,),
        (slice(1, None), slice(None), 7),
        (slice(None), slice(20, 5), slice(3, 9)),
        (slice(None, None, -1), slice(4, 30, 7), [8, 2, 5]),
        (np.array([True, False, True]), 3),
    ],
    ids=["all", "channel", "column", "nothing", "steps", "mask"],
)
def test_any_selection_is_as_that_of_numpy(selection):
    """Dask may ask for more than plain parts."""
    values = pixels()
    np.testing.assert_array_equal(InMemory(values)[selection], values[selection])


# --- imaging mass cytometry -----------------------------------------------------------------------

PANEL = {("In", 115): "CD3", ("Ir", 191): "DNA", ("Ir", 193): "DNA", ("Xe", 131): ""}
LABELS = ["CD3", "DNA(Ir191)", "DNA(Ir193)", "Xe131"]


def counts(shape=(4, 11, 9), seed=0):
    return np.random.default_rng(seed).gamma(1, 3, shape).astype("float32")


def test_mcd(tmp_path, no_compute):
    first, second = counts(), counts((4, 5, 9), seed=1)
    write_mcd(tmp_path / "s1.mcd", [("ROI 1", PANEL, first), ("ROI 2", PANEL, second)])
    with no_compute():
        images = read_imc(tmp_path / "s1.mcd")
    assert list(images) == ["s1_ROI 1", "s1_ROI 2"]
    check(images["s1_ROI 1"], first, LABELS)
    np.testing.assert_array_equal(images["s1_ROI 2"].values, second)
    with imc._opened(tmp_path / "s1.mcd") as mcd:
        pixels, _ = imc._of_mcd(mcd, tmp_path / "s1.mcd")
    np.testing.assert_array_equal(pixels[1:3, 4:, 2], first[1:3, 4:, 2])
    assert images["s1_ROI 2"].attrs["um_per_pixel"] == {"y": 2.0, "x": 1.0}
    chosen = open_images(tmp_path / "s1.mcd", ["Xe131", "CD3"])["s1_ROI 1"]
    np.testing.assert_array_equal(chosen.values, first[[3, 0]])


def test_acquisitions_without_names_of_their_own(tmp_path):
    write_mcd(tmp_path / "s1.mcd", [("ROI", PANEL, counts()), ("ROI", PANEL, counts())])
    assert list(read_imc(tmp_path / "s1.mcd")) == ["s1_1", "s1_2"]
    assert list(read_imc(tmp_path / "s1.mcd", acquisitions=[2])) == ["s1"]
    for bad in ([3], [], "1", 1):
        with pytest.raises(ParameterError, match=r"acquisitions must be a sequence of some of \[1"):
            read_imc(tmp_path / "s1.mcd", acquisitions=bad)


def test_broken_acquisitions(tmp_path):
    whole = ("ROI 1", PANEL, counts())
    cut = ("ROI 2", PANEL, counts(), 5)
    write_mcd(tmp_path / "s1.mcd", [whole, cut, ("ROI 3", PANEL, counts(), 11 * 9 * 28)])
    with pytest.raises(ImageError) as caught:
        read_imc(tmp_path / "s1.mcd")
    assert "broken acquisitions: 2, its last pixel is not whole; 3, it has no pixels; " in str(
        caught.value
    )
    assert "acquisitions=[1]) reads the others" in str(caught.value)
    np.testing.assert_array_equal(
        one(read_imc(tmp_path / "s1.mcd", acquisitions=[1])).values, counts()
    )


def test_an_acquisition_that_was_stopped_is_zero_after_that(tmp_path):
    values = counts()
    write_mcd(tmp_path / "s1.mcd", [("ROI 1", PANEL, values, 9 * 28)])
    image = one(read_imc(tmp_path / "s1.mcd"))
    np.testing.assert_array_equal(image[:, :-1].values, values[:, :-1])
    assert not image[:, -1].values.any()


def test_acquisitions_that_differ_in_their_channels(tmp_path):
    other = {("In", 115): "CD3", ("Ir", 191): "DNA1"}
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, counts()), ("b", other, counts((2, 5, 5)))])
    with pytest.raises(
        ChannelError, match=r"'s1_b' lacks 'DNA\(Ir191\)', .* all images have 'CD3'$"
    ):
        read_imc(tmp_path / "s1.mcd")
    assert list(read_imc(tmp_path / "s1.mcd", ["CD3"])) == ["s1_a", "s1_b"]


def test_txt(tmp_path, no_compute):
    values = counts()
    write_txt(tmp_path / "s1_ROI_1.txt", PANEL, values)
    with no_compute():
        images = read_imc(tmp_path / "s1_ROI_1.txt")
    assert list(images) == ["s1_ROI_1"]
    assert images["s1_ROI_1"].c.values.tolist() == LABELS
    np.testing.assert_array_equal(images["s1_ROI_1"].values, values)


def test_a_txt_whose_last_line_is_not_its_last_pixel(tmp_path):
    file = tmp_path / "s1.txt"
    write_txt(file, PANEL, counts())
    header, first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([header, *rest, first]))
    image = one(read_imc(file))
    with pytest.raises(ImageError, match=r"s1\.txt.*must have the shape \(4, 1, 1\)"):
        image.compute()


@pytest.mark.parametrize("suffix", [".mcd", ".txt"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"Start_push\tEnd_push\n"])
def test_what_is_no_imc(tmp_path, suffix, content):
    file = tmp_path / f"s1{suffix}"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"s1\{suffix}' cannot be read as IMC"):
        read_imc(file)


# --- whatever it is -------------------------------------------------------------------------------


def test_a_single_field_of_view(tmp_path):
    values = write_fov(tmp_path / "fov7")
    images = open_images(tmp_path / "fov7", NAMES)
    assert list(images) == ["fov7"]
    check(images["fov7"], values)


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
    with pytest.raises(ImageError, match=r"s9\.ome\.tiff' holds \['s9'\], as another file does"):
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


def test_links_keep_their_names(tmp_path, monkeypatch):
    write_fov(tmp_path / "data" / "2024-11-03")
    write_ome(tmp_path / "data" / "slide.ome.tiff", pixels())
    (tmp_path / "fov0").symlink_to(tmp_path / "data" / "2024-11-03")
    (tmp_path / "s1.ome.tiff").symlink_to(tmp_path / "data" / "slide.ome.tiff")
    assert list(open_images(tmp_path / "fov0")) == ["fov0"]
    assert list(open_images(tmp_path / "s1.ome.tiff")) == ["s1"]
    monkeypatch.chdir(tmp_path / "data" / "2024-11-03")
    assert list(open_images(".")) == ["2024-11-03"]


@pytest.mark.parametrize("package", ["tifffile", "ome_types", "readimc"])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, package):
    write_ome(tmp_path / "s1.ome.tiff", pixels())
    write_txt(tmp_path / "s1.txt", PANEL, counts())
    (tmp_path / "study").mkdir()
    write_fov(tmp_path / "study" / "fov0")
    monkeypatch.setitem(sys.modules, package, None)
    source = {"tifffile": "study", "ome_types": "s1.ome.tiff", "readimc": "s1.txt"}[package]
    with pytest.raises(ParameterError, match=r"need.* the package .*pip install 'pxprep\[io\]'"):
        open_images(tmp_path / source)


def test_what_cannot_be_recognised(tmp_path):
    with pytest.raises(ParameterError, match=r"path must hold images of one kind.* none of them"):
        open_images(tmp_path)
    write_fov(tmp_path / "fov0")
    write_ome(tmp_path / "slide.ome.tiff", pixels())
    with pytest.raises(ParameterError, match="holds TIFFs and folders of TIFFs"):
        open_images(tmp_path)
    with pytest.raises(ParameterError, match="none are in 'TIFs' in the folders of"):
        open_images(tmp_path / "fov0", subfolder="TIFs")
    (tmp_path / "slide.ome.tiff").unlink()
    with pytest.raises(ParameterError, match="channel_names are for TIFFs that do not tell them"):
        open_images(tmp_path, channel_names=NAMES)
    write_txt(tmp_path / "a.txt", PANEL, counts())
    with pytest.raises(ParameterError, match="channel_names are for TIFFs that do not tell them"):
        open_images(tmp_path / "a.txt", channel_names=NAMES)
    with pytest.raises(ParameterError, match="channels must be a sequence of channel labels"):
        open_images(tmp_path / "fov0", "CD3")
