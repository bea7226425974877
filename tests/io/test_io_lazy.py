"""What is read of files, and when."""

import zlib

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

import tifffile

import pxprep
from pxprep.errors import ImageError
from pxprep.io import pages, read_folder, read_tiff
from pxprep.io.arrays import FilePixels
from tiff_files import NAMES, pixels, write_fov, write_ome


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


THIN = {
    "rows": {"rowsperstrip": 1},
    "a predictor": {"rowsperstrip": 13, "predictor": True},
    "big-endian": {"rowsperstrip": 63, "byteorder": ">", "predictor": True},
    "samples together": {"rowsperstrip": 3, "planarconfig": "contig"},
    "samples apart": {"rowsperstrip": 3, "planarconfig": "separate"},
}


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("layout", THIN.values(), ids=THIN.keys())
def test_thin_strips_are_decoded_together(tmp_path, layout, compression, monkeypatch):
    """Not one after the other by tifffile, which takes longer than they need."""
    monkeypatch.delattr(pages, "_decoded_segments")
    layout, file = {**layout, "compression": compression}, tmp_path / "image.tiff"
    values = pixels((4, 101, 83))
    stored = values.transpose(1, 2, 0) if layout.get("planarconfig") == "contig" else values
    axes = "CYX" if stored is values else "YXC"
    tifffile.imwrite(file, stored, photometric="minisblack", **layout)
    image = read_tiff(file, channel_names=list("abcd"), axes=axes)["image"]
    for part in ((), (slice(None), slice(70, 71)), (slice(1, 3), slice(30, 80), slice(5, 60))):
        np.testing.assert_array_equal(image.data[part].compute(), values[part])


@pytest.mark.parametrize("damage", ["too short", "as long as it should be with another", "empty"])
def test_thin_strips_that_are_not_as_they_should_be(tmp_path, damage):
    """As tifffile reads each: one that is too short is an error, an empty one has no pixels."""
    strips = {"too short": [(7, 2)], "as long as it should be with another": [(7, 1), (13, 3)]}
    file, values = tmp_path / "image.tiff", pixels((1, 40, 30))
    layout = {"compression": "zlib", "rowsperstrip": 3, "photometric": "minisblack"}
    tifffile.imwrite(file, values[0], **layout)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        page = tiff.pages[0]
        if damage == "empty":
            page.tags["StripByteCounts"].overwrite((*page.databytecounts[:-1], 0))
        for strip, n_rows in strips.get(damage, ()):
            tiff.filehandle.seek(page.dataoffsets[strip])
            tiff.filehandle.write(zlib.compress(bytes(n_rows * 30 * 2)))
    image = read_tiff(file, channel_names=["a"])["image"]
    if damage in strips:
        message = r"image\.tiff' cannot be read: .*strip 7 has \d+ bytes, not 180"
        with pytest.raises(ImageError, match=message):
            image.compute()
        return
    values[0, -1] = 0
    np.testing.assert_array_equal(image.values, values)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 1}, {"rowsperstrip": 64}, {"tile": (32, 32)}])
def test_what_is_missing_shifts_nothing_else(tmp_path, layout):
    """A tile or strip of no bytes between others: all the others are as they were written."""
    file, values = tmp_path / "image.tiff", pixels((320, 30))
    tifffile.imwrite(file, values, compression="packbits", photometric="minisblack", **layout)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        page = tiff.pages[0]
        n_rows = page.chunks[0]
        counts = [*page.databytecounts]
        counts[2] = 0
        page.tags["TileByteCounts" if page.is_tiled else "StripByteCounts"].overwrite(counts)
    values[2 * n_rows : 3 * n_rows] = 0
    image = read_tiff(file, channel_names=["a"])["image"]
    np.testing.assert_array_equal(image.values[0], values)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 16)}])
def test_jpeg(tmp_path, layout):
    file, values = tmp_path / "image.tiff", pixels((50, 40), "uint8")
    tifffile.imwrite(file, values, compression="jpeg", photometric="minisblack", **layout)
    image = read_tiff(file, channel_names=["a"])["image"]
    np.testing.assert_array_equal(image.values[0], tifffile.imread(file))


def test_a_page_of_another_type(tmp_path):
    """Its numbers are not taken for others."""
    file, layout = tmp_path / "image.tiff", {"compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(file, pixels((2, 40, 30), "int16"), **layout)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tiff.pages[1].tags["SampleFormat"].overwrite(1)
    image = read_tiff(file, channel_names=["a", "b"])["image"]
    with pytest.raises(ImageError, match=r"image\.tiff' cannot be read: .*type of a page .*uint16"):
        image.compute()


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
