"""Layers and images become OME-TIFFs, which have the same bits, names and pixel sizes."""

import itertools

import dask.array as da
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("tifffile")
pytest.importorskip("spatialdata")

import tifffile
from spatialdata import SpatialData
from spatialdata.transformations import Scale

from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, LayerError, ParameterError, StoreError
from pxprep.io import export_images, exporting, import_images, read_tiff
from spatial_objects import LABELS, backed, counts, layer, make
from tiff_files import NAMES, one, pixels


def image_of(values, **attrs):
    dims = tuple("czyx"[-values.ndim :]) if values.ndim == 4 else ("c", "y", "x")
    return xr.DataArray(values, dims=dims, coords={"c": NAMES}, attrs=attrs)


def bits(values):
    return np.ascontiguousarray(values).view(np.uint8)


SHAPES = [(3, 101, 83), (3, 1, 1), (3, 2, 40, 530)]
# Two whole tiles: their bytes are those of any other tile, whatever the type.
WHOLE_TILES = [((3, 512, 1024), dtype) for dtype in ("uint16", "float64")]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((SHAPES[0], dtype) for dtype in exporting.TYPES),
        *itertools.product(SHAPES[1:], ("uint16", "float32")),
        *WHOLE_TILES,
    ],
)
def test_the_same_bits_are_read_again(dtype, shape, tmp_path):
    values = pixels(shape, dtype)
    if values.dtype.kind == "f":
        values.reshape(-1)[:3] = [np.nan, np.inf, -0.0]
    image = image_of(values, um_per_pixel={"y": 0.5, "x": 0.25})
    nine = image.chunk({"y": -(-shape[-2] // 3), "x": -(-shape[-1] // 3)})
    for given in (image, nine, image.transpose()):
        (file,) = export_images({"a slide é": given}, tmp_path, overwrite=True).values()
        assert file == tmp_path / "a slide é.ome.tiff"
        again = one(read_tiff(file))
        assert again.dims == image.dims
        assert again.dtype == image.dtype
        np.testing.assert_array_equal(bits(again.values), bits(values))
        assert again.c.values.tolist() == NAMES
        assert again.attrs["um_per_pixel"] == {"y": 0.5, "x": 0.25}


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_levels_are_means_of_the_finest_pixels(dtype, tmp_path):
    values = pixels((3, 1301, 2050), dtype)
    if dtype == "float32":
        values[0, :700, :900] = np.nan
    (file,) = export_images({"slide": image_of(values)}, tmp_path).values()
    with tifffile.TiffFile(file) as tiff:
        (series,) = tiff.series
        levels = [level.asarray() for level in series.levels]
        assert all(level.keyframe.is_tiled for level in series.levels)
    assert [level.shape[1:] for level in levels] == [
        (1301, 2050), (650, 1025), (325, 512),
    ]  # fmt: skip
    for factor, level in zip((1, 2, 4), levels, strict=True):
        height, width = (size // factor for size in values.shape[1:])
        blocks = values[:, : height * factor, : width * factor].astype(np.float64)
        blocks = blocks.reshape(3, height, factor, width, factor)
        there = ~np.isnan(blocks)
        with np.errstate(invalid="ignore"):
            means = np.where(there, blocks, 0).sum((2, 4)) / there.sum((2, 4))
        if dtype == "uint16":
            np.testing.assert_array_equal(level, np.round(means))
        else:
            np.testing.assert_allclose(level, means.astype(dtype), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_channels_are_planes_and_no_colours(n_channels, tmp_path):
    names = ["<CD3 & 'CD8'>", "µ", "DAPI (1)", "c"][:n_channels]
    image = xr.DataArray(pixels((n_channels, 30, 40)), dims=("c", "y", "x"), coords={"c": names})
    (file,) = export_images({"slide": image}, tmp_path).values()
    again = one(read_tiff(file))
    assert again.c.values.tolist() == names
    np.testing.assert_array_equal(again.values, image.values)


@pytest.mark.skipif(not exporting._escapes(), reason="this tifffile would write others")
def test_quotes_in_names(tmp_path):
    image = image_of(pixels()).assign_coords(c=['"a"', '<b & "c">', "c"])
    (file,) = export_images({"slide": image}, tmp_path).values()
    np.testing.assert_array_equal(one(read_tiff(file)).c, image.c)


@pytest.mark.parametrize("named", ["image", "channel"])
def test_quotes_in_names_with_an_old_tifffile(named, tmp_path, monkeypatch):
    """It would write others, or XML that is not valid."""
    monkeypatch.setattr(tifffile, "__version__", "2026.1.28")
    image = image_of(pixels())
    images = {"image": {'"a"': image}, "channel": {"a": image.assign_coords(c=['"a"', "b", "c"])}}
    with pytest.raises(
        ParameterError, match=r"quotes need tifffile 2026\.2\.16 .* got \['\"a\"'\]"
    ):
        export_images(images[named], tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_layers_of_a_store(tmp_path):
    sdata = backed(tmp_path)
    files = export_images(sdata, tmp_path / "new" / "tiffs")
    assert set(files) == set(sdata.images)
    for name in ("fov0", "fov1", "volume"):
        np.testing.assert_array_equal(one(read_tiff(files[name])).values, sdata[name].values)
    pyramid = one(read_tiff(files["pyramid"]))
    np.testing.assert_array_equal(pyramid.values, sdata["pyramid"]["scale0"]["image"].values)
    chosen = export_images(sdata, tmp_path, "fov1", channels=["CD20", "DAPI"])["fov1"]
    again = one(read_tiff(chosen))
    np.testing.assert_array_equal(again.values, sdata["fov1"].sel(c=["CD20", "DAPI"]).values)
    assert again.c.values.tolist() == ["CD20", "DAPI"]
    assert not again.attrs.get("um_per_pixel")
    assert one(read_tiff(files["fov1"])).c.values.tolist() == LABELS


def test_channels_from_an_iterator(tmp_path):
    for images in ({name: image_of(pixels()) for name in "ab"}, make()):
        layers = list(images)[:2] if isinstance(images, dict) else ["fov0", "fov1"]
        files = export_images(images, tmp_path, layers, channels=iter(["CD20", "DAPI"]))
        for file in files.values():
            assert one(read_tiff(file)).c.values.tolist() == ["CD20", "DAPI"]


def test_pixel_sizes_go_through_a_store(tmp_path):
    image = image_of(pixels((3, 50, 60)), um_per_pixel={"y": 0.377, "x": 0.5})
    volume = image_of(pixels((3, 2, 50, 60)), um_per_pixel={"z": 1.5, "y": 0.377, "x": 0.5})
    for name, given in {"plane": image, "volume": volume}.items():
        sdata = import_images({name: given}, tmp_path / f"{name}.zarr", scale_factors=[2])
        (file,) = export_images(sdata, tmp_path).values()
        assert one(read_tiff(file)).attrs["um_per_pixel"] == given.attrs["um_per_pixel"]


def test_a_distance_of_planes_that_is_not_known(tmp_path):
    volume = image_of(pixels((3, 2, 50, 60)), um_per_pixel={"y": 0.377, "x": 0.5})
    message = (
        r"'a': how far planes .* in 'microns' it is 1; give it in image\.attrs\['um_per_pixel'\]"
    )
    with pytest.warns(PxprepWarning, match=message):
        import_images({"a": volume}, tmp_path / "new.zarr")
    import_images({"a": volume[:, :1]}, tmp_path / "plane.zarr")  # a single plane is no reason


def test_pixel_sizes_of_layers_in_memory(tmp_path):
    sizes = {"y": 0.25, "x": 0.5}
    micrometres = Scale([0.25, 0.5], ("y", "x"))
    layers = {
        "attrs": layer(counts(0)),
        "um": layer(counts(1), transformations={"um": micrometres}),
        "both": layer(counts(2), transformations={"microns": micrometres}),
    }
    layers["attrs"].attrs["um_per_pixel"] = sizes
    layers["both"].attrs["um_per_pixel"] = {"y": 7, "x": 7}
    files = export_images(SpatialData(images=layers), tmp_path)
    for file in files.values():
        assert one(read_tiff(file)).attrs["um_per_pixel"] == sizes


@pytest.mark.parametrize(
    ("given", "known"),
    [(0.5, {"y": 0.5, "x": 0.5}), ("half", {}), ({"y": -1, "x": 2, "c": 3}, {"x": 2})],
)
def test_pixel_sizes_in_attrs(given, known, tmp_path):
    (file,) = export_images({"a": image_of(pixels(), um_per_pixel=given)}, tmp_path).values()
    assert one(read_tiff(file)).attrs.get("um_per_pixel", {}) == known


def test_a_few_rows_are_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "AT_A_TIME", 1)
    held = []

    def block(part):
        held.append(part.shape)
        return part

    lazy = da.ones((2, 4096, 1500), chunks=(1, 512, 1500), dtype="u2").map_blocks(block, dtype="u2")
    image = xr.DataArray(lazy, dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    held.clear()
    tiles = exporting._tiles(image)
    next(tiles)
    assert held == [(1, 512, 1500)]
    assert sum(1 for _ in tiles) == 2 * 8 * 3 - 1
    assert held == [(1, 512, 1500)] * 16  # each once


def test_what_is_refused_leaves_nothing(tmp_path):
    good = image_of(pixels())
    bad = {
        ImageError: [
            (
                {"a": good, "b": (good // 64).astype("float16")},
                {},
                "types of OME-TIFF.* got float16",
            ),
            ({"a": good.astype("int64")}, {}, "got int64: convert it with image.astype"),
            ({"a": good[:, :0]}, {}, "must have at least one channel and one pixel"),
        ],
        ChannelError: [
            *(
                ({"a": good.assign_coords(c=["a", name, "c"])}, {}, "names that XML can hold")
                for name in ("b\x07", "b\n")
            ),
            ({"a": good}, {"channels": ["CD4"]}, "CD4"),
        ],
        ParameterError: [
            *(
                ({name: good}, {}, "the name of an image must be that of a file")
                for name in ("a/b", "a\x07", "a\udcff", "a" * 250)
            ),
            (good, {}, r"images must be .*, as \{'fov0': image\}, got DataArray"),
            ({}, {}, "images must hold at least one image"),
            (SpatialData(), {}, "images must hold at least one image"),
            ([good], {"img_layer": "a"}, "images must be a SpatialData object, .* got list"),
            ({"a": good, "A": good}, {}, "each layer once"),
            ({"a": good}, {"img_layer": "b"}, r"some of the images \['a'\], got \['b'\]"),
            ({"a": good}, {"overwrite": 1}, "overwrite must be"),
        ],
        LayerError: [(make(), {"img_layer": "fov9"}, "img_layer 'fov9' does not exist")],
    }
    for kind, cases in bad.items():
        for images, how, message in cases:
            with pytest.raises(kind, match=message):
                export_images(images, tmp_path / "none", **how)
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_as_a_whole_or_not_at_all(tmp_path):
    image = image_of(pixels())
    (file,) = export_images({"a": image}, tmp_path).values()
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"exist already; overwrite=True replaces them: \["):
        export_images({"a": image}, tmp_path)

    def broken(part):
        raise RuntimeError("the source cannot be read")

    lazy = image.chunk({"y": 50}).copy()
    lazy.data = lazy.data.map_blocks(broken, dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    with pytest.raises(RuntimeError, match="the source cannot be read"):
        export_images({"a": lazy}, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.tiff"]
    assert file.read_bytes() == before
    with pytest.raises(ParameterError, match="folder must not be a file, got"):
        export_images({"a": image}, file)
    with pytest.raises(StoreError, match=r"a.ome.tiff' cannot be written: .*directory"):
        export_images({"a": image}, file / "below")
