"""Small TIFFs as people have them, and what is checked of the images that are read from them."""

import pickle

import dask
import numpy as np
import tifffile

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
    "zlib rows": {"compression": "zlib", "rowsperstrip": 1},
    "predictor": {"compression": "zlib", "predictor": True, "tile": (64, 64)},
    "predictor in strips": {"compression": "zlib", "predictor": True, "rowsperstrip": 13},
    "big-endian": {"byteorder": ">"},
    "big-endian strips": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 13},
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
