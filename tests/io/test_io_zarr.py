"""OME-Zarr images of both versions, opened in place and imported."""

import json

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("tifffile")

import zarr

from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import import_images, open_images
from tiff_files import NAMES, one, pixels

UNITS = {"y": "micrometer", "x": "micrometer", "z": "micrometer"}


def write(folder, values, axes, version="0.4", names=NAMES, dtype=None, n_scales=2):
    """An image as its specification says, without ome-zarr."""
    root = zarr.open_group(str(folder), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(n_scales):
        step = 2**level
        data = values[..., ::step, ::step]
        chunks = (*[1] * (data.ndim - 2), 32, 32)
        array = root.create_array(
            str(level), shape=data.shape, chunks=chunks, dtype=dtype or data.dtype
        )
        array[...] = data
        scale = [0.25 * step if axis == "y" else 0.5 * step if axis == "x" else 1 for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"c": "channel", "t": "time"}
    told = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    told = [
        {**axis, "unit": UNITS[axis["name"]]} if axis["name"] in UNITS else axis for axis in told
    ]
    attrs = {"multiscales": [{"axes": told, "datasets": datasets, "version": version}]}
    if names is not None:
        attrs["omero"] = {"channels": [{"label": name} for name in names]}
    root.attrs.update(attrs if version == "0.4" else {"ome": {**attrs, "version": version}})


AXES = {
    "cyx": (3, 64, 48),
    "tczyx": (1, 3, 1, 64, 48),
    "czyx": (3, 1, 64, 48),
    "zcyx": (1, 3, 64, 48),
}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", AXES)
def test_images(tmp_path, axes, version, no_compute):
    values = pixels((3, 64, 48))
    write(tmp_path / "s1.ome.zarr", values.reshape(AXES[axes]), axes, version)
    with no_compute():
        images = open_images(tmp_path / "s1.ome.zarr")
    assert list(images) == ["s1"]
    image = images["s1"]
    assert (image.name, image.dims) == ("s1", ("c", "y", "x"))
    assert image.c.values.tolist() == NAMES
    assert image.attrs["um_per_pixel"]["x"] == 0.5
    assert image.attrs["um_per_pixel"]["y"] == 0.25
    np.testing.assert_array_equal(image.values, values)
    chosen = open_images(tmp_path / "s1.ome.zarr", ["CD20", "DAPI"])["s1"]
    np.testing.assert_array_equal(chosen.values, values[[2, 0]])
    sdata = import_images(tmp_path / "s1.ome.zarr", tmp_path / "new.zarr")
    np.testing.assert_array_equal(sdata["s1"].values, values)


def test_stacks_and_images_of_one_channel(tmp_path):
    stack = pixels((3, 4, 64, 48))
    write(tmp_path / "a.zarr", stack, "czyx")
    image = one(open_images(tmp_path / "a.zarr"))
    assert image.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(image.values, stack)
    write(tmp_path / "b.zarr", stack[0, 0], "yx", names=["DAPI"])
    np.testing.assert_array_equal(one(open_images(tmp_path / "b.zarr")).values, stack[:1, 0])


@pytest.mark.parametrize("names", [None, ["DAPI", "", "CD20"]])
def test_channels_without_names(tmp_path, names):
    values = pixels((3, 64, 48))
    write(tmp_path / "s1.zarr", values, "cyx", names=names)
    with pytest.raises(ChannelError, match="of 3 channels have a name; give channel_names"):
        open_images(tmp_path / "s1.zarr")
    image = one(open_images(tmp_path / "s1.zarr", channel_names=NAMES))
    assert image.c.values.tolist() == NAMES
    (tmp_path / "panel.csv").write_text("name,keep\nDAPI,1\nCD3,0\nCD20,1\n")
    with pytest.warns(PxprepWarning, match="does not keep 'CD3'"):
        image = one(open_images(tmp_path / "s1.zarr", panel=tmp_path / "panel.csv"))
    np.testing.assert_array_equal(image.values, values[[0, 2]])


def test_a_row_without_a_key_is_not_that_of_a_channel_without_a_name(tmp_path):
    values = pixels((3, 64, 48))
    write(tmp_path / "s1.zarr", values, "cyx", names=["DAPI", "", "CD20"])
    (tmp_path / "panel.csv").write_text("channel,name\n,DAPI\nIr191,CD3\n,CD20\n")
    image = one(open_images(tmp_path / "s1.zarr", panel=tmp_path / "panel.csv"))
    assert image.c.values.tolist() == ["DAPI", "CD3", "CD20"]
    np.testing.assert_array_equal(image.values, values)


def test_channels_that_share_a_name(tmp_path):
    values = pixels((3, 64, 48))
    write(tmp_path / "s1.zarr", values, "cyx", names=["DAPI", "CD3", "CD3"])
    image = one(open_images(tmp_path / "s1.zarr"))
    assert image.c.values.tolist() == ["DAPI", "CD3 (2)", "CD3 (3)"]
    chosen = one(open_images(tmp_path / "s1.zarr", ["CD3 (3)", "DAPI"]))
    np.testing.assert_array_equal(chosen.values, values[[2, 0]])


def test_what_bioformats2raw_writes(tmp_path):
    """Images by number, of big-endian values, beside a folder of metadata."""
    stored = [pixels((1, 3, 1, 64, 48), seed=seed) for seed in range(2)]
    group = zarr.open_group(str(tmp_path / "slide.zarr"), mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for number, values in enumerate(stored):
        write(tmp_path / "slide.zarr" / str(number), values, "tczyx", dtype=">u2")
    (tmp_path / "slide.zarr" / "OME").mkdir()
    images = open_images(tmp_path / "slide.zarr")
    assert list(images) == ["slide_0", "slide_1"]
    sdata = import_images(tmp_path / "slide.zarr", tmp_path / "new.zarr")
    for name, values in zip(images, stored, strict=True):
        assert sdata[name].dtype == np.uint16
        np.testing.assert_array_equal(sdata[name].values, values[0, :, 0])


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("angstrom", 1e-4),
        ("Å", 1e-4),
        ("nanometer", 1e-3),
        ("centimeter", 1e4),
        ("meter", 1e6),
        ("inch", None),
    ],
)
def test_units(tmp_path, unit, factor, monkeypatch):
    monkeypatch.setitem(UNITS, "y", unit)
    monkeypatch.setitem(UNITS, "x", unit)
    write(tmp_path / "s1.zarr", pixels((3, 64, 48)), "cyx")
    expected = {} if factor is None else {"y": 0.25 * factor, "x": 0.5 * factor}
    attrs = one(open_images(tmp_path / "s1.zarr")).attrs
    assert attrs.get("um_per_pixel", {}) == pytest.approx(expected)


def test_several_multiscales(tmp_path):
    """The first is read, and the others are named."""
    values = pixels((3, 64, 48))
    write(tmp_path / "s1.zarr", values, "cyx")
    group = zarr.open_group(str(tmp_path / "s1.zarr"))
    (multiscale,) = group.attrs["multiscales"]
    other = {**multiscale, "datasets": multiscale["datasets"][1:]}
    group.attrs["multiscales"] = [multiscale, other]
    message = r"s1\.zarr' has 2 multiscales: '0', the first, is read; left out are '1' \(dask"
    with pytest.warns(PxprepWarning, match=message):
        image = one(open_images(tmp_path / "s1.zarr"))
    np.testing.assert_array_equal(image.values, values)


def test_a_folder_of_images(tmp_path):
    for number in (10, 2):
        write(tmp_path / f"s{number}.zarr", pixels((3, 64, 48), seed=number), "cyx")
    assert list(open_images(tmp_path)) == ["s2", "s10"]
    # A store beside them may be the one that is written.
    import_images(tmp_path, tmp_path / "store.zarr")
    assert list(open_images(tmp_path)) == ["s2", "s10"]


def test_images_are_processed_where_they_are(tmp_path):
    values = np.random.default_rng(0).gamma(1, 9, (3, 64, 48)).astype("float32")
    write(tmp_path / "s1.zarr", values, "cyx")
    image = one(open_images(tmp_path / "s1.zarr"))
    expected = image.compute().pxprep.preprocess()
    np.testing.assert_array_equal(image.pxprep.preprocess().values, expected.values)


def test_other_zarr(tmp_path):
    write(tmp_path / "t.zarr", pixels((4, 3, 64, 48)), "tcyx")
    with pytest.raises(ImageError, match=r"one point in time, it has .*'t': 4"):
        open_images(tmp_path / "t.zarr")
    zarr.open_group(str(tmp_path / "table.zarr"), mode="w")
    with pytest.raises(ImageError, match="no OME-Zarr image: neither it nor a numbered folder"):
        open_images(tmp_path / "table.zarr")
    write(tmp_path / "s1.zarr", pixels((3, 64, 48)), "cyx")
    sdata = import_images(tmp_path / "s1.zarr", tmp_path / "store.zarr")
    with pytest.raises(
        ParameterError, match=r"store\.zarr' is a SpatialData store: spatialdata\.re"
    ):
        open_images(sdata.path)
    with pytest.raises(
        ParameterError, match="axes must be left out: it is for TIFFs and folders of"
    ):
        open_images(tmp_path / "s1.zarr", axes="CYX")
    for text in ("{", "[1]", json.dumps({"multiscales": []}), json.dumps({"multiscales": [3]})):
        (tmp_path / "s1.zarr" / ".zattrs").write_text(text)
        with pytest.raises(ImageError, match=r"cannot be read"):
            open_images(tmp_path / "s1.zarr")
