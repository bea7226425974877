"""Kinds of zarr arrays: codecs, encodings of chunk names, types of values."""

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", minversion="3")
numcodecs = pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")


SHAPE, CHUNKS = (3, 13, 11), (2, 5, 4)


# By zarr's format and name: the compressors whose chunks are read without zarr.
COMPRESSORS = {
    (2, "none"): None,
    (2, "zstd"): numcodecs.Zstd(level=1),
    (2, "gzip"): numcodecs.GZip(level=1),
    (2, "zlib"): numcodecs.Zlib(level=1),
    (2, "blosc"): numcodecs.Blosc(),
    (2, "blosc of bits"): numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.BITSHUFFLE),
    (3, "none"): None,
    (3, "zstd"): codecs.ZstdCodec(),
    (3, "zstd with checksum"): codecs.ZstdCodec(checksum=True),
    (3, "gzip"): codecs.GzipCodec(),
    (3, "blosc"): codecs.BloscCodec(),
    (3, "blosc of bits"): codecs.BloscCodec(cname="lz4", shuffle="bitshuffle"),
}


# Zarr's format, and how chunks are named in it.
ENCODINGS = [
    (2, {"name": "v2", "separator": "."}),
    (2, {"name": "v2", "separator": "/"}),
    (3, {"name": "v2", "separator": "."}),
    (3, {"name": "default", "separator": "."}),
    (3, {"name": "default", "separator": "/"}),
]


TYPES = ["<u2", ">u2", "<f4", ">f8", "i1", "?"]
# Each compressor with two types of other sizes and orders of bytes, one in each format with all.
KINDS = [
    (*compressor, dtype)
    for compressor in COMPRESSORS
    for dtype in (TYPES if compressor in [(2, "blosc"), (3, "zstd")] else ["<u2", ">f8"])
]


def some_values(dtype="u2", shape=SHAPE, seed=0):
    values = np.random.default_rng(seed).gamma(2, 20, shape)
    dtype = np.dtype(dtype)
    return (values > 40 if dtype.kind == "b" else np.minimum(values, 120)).astype(dtype)


LEFT_ALONE = {
    "sharded": {"shards": (2, 10, 8), "chunks": (1, 5, 4)},
    "sharded and compressed": {
        "shards": (2, 10, 8),
        "chunks": (1, 5, 4),
        "compressors": codecs.ZstdCodec(),
    },
    "transposed": {"filters": [codecs.TransposeCodec(order=(2, 1, 0))]},
    "delta": {"zarr_format": 2, "filters": [numcodecs.Delta("<u2")]},
    "delta, compressed": {
        "zarr_format": 2,
        "filters": [numcodecs.Delta("<u2")],
        "compressors": numcodecs.Zstd(),
    },
    "Fortran order": {"zarr_format": 2, "order": "F"},
    "Fortran order, compressed": {
        "zarr_format": 2,
        "order": "F",
        "compressors": numcodecs.Zlib(),
    },
    "two compressors": {"compressors": [codecs.GzipCodec(), codecs.ZstdCodec()]},
    "crc32c": {"compressors": [codecs.Crc32cCodec()]},
    "zstd and crc32c": {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]},
    "lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
}
