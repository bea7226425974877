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


@pytest.mark.parametrize("damage", ["too short", "empty"])
def test_thin_strips_that_are_not_as_they_should_be(tmp_path, damage):
    """As tifffile reads each: one that is too short is an error, an empty one has no pixels."""
    file, values = tmp_path / "image.tiff", pixels((1, 40, 30))
    layout = {"compression": "zlib", "rowsperstrip": 1, "photometric": "minisblack"}
    tifffile.imwrite(file, values[0], **layout)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        page = tiff.pages[0]
        if damage == "empty":
            page.tags["StripByteCounts"].overwrite((*page.databytecounts[:-1], 0))
        else:
            tiff.filehandle.seek(page.dataoffsets[7])
            tiff.filehandle.write(zlib.compress(values[0, 7, :20].tobytes()))
    image = read_tiff(file, channel_names=["a"])["image"]
    if damage == "too short":
        with pytest.raises(ImageError, match=r"image\.tiff' cannot be read"):
            image.compute()
        return
    values[0, -1] = 0
    np.testing.assert_array_equal(image.values, values)


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
