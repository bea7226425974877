"""Reads the chunks of a zarr array in the thread that asks for them.

zarr itself hands each chunk to threads of its own and back, one event loop for all that read: two
threads that read for themselves decode twice as much. Only what needs no more than a file and a
codec is read here; the rest is left to zarr.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ._typing import Block

# Codecs whose decoder needs nothing but the bytes: module and class in numcodecs.
CODECS = {"zstd": ("zstd", "Zstd"), "blosc": ("blosc", "Blosc"), "gzip": ("gzip", "GZip")}
BYTE_ORDERS = {"little": "<", "big": ">", None: "="}


class ZarrChunks:
    """A zarr array in a folder, whose chunks are read and decoded by whoever indexes it.

    Parameters
    ----------
    array
        The zarr array.
    dtype
        As it is on disk.
    codec
        What decodes a chunk; None where chunks are plain bytes.
    """

    def __init__(self, array: Any, dtype: np.dtype[Any], codec: Any) -> None:
        self._array = array
        self._on_disk = dtype
        self._codec = codec
        self._folder = Path(array.store.root) / array.path
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, selection: Any) -> Block:
        region = _region(selection, self.shape)
        if region is None:
            return np.asarray(self._array[selection])
        places = [
            range(start // size, -(-stop // size))
            for (start, stop), size in zip(region, self._array.chunks, strict=True)
        ]
        if all(len(along) == 1 for along in places):
            return self._part(tuple(along[0] for along in places), region)
        out = np.empty([stop - start for start, stop in region], self.dtype)
        for place in product(*places):
            part = [
                (max(start, index * size), min(stop, (index + 1) * size))
                for (start, stop), index, size in zip(
                    region, place, self._array.chunks, strict=True
                )
            ]
            target = tuple(
                slice(first - start, last - start)
                for (first, last), (start, _) in zip(part, region, strict=True)
            )
            out[target] = self._part(place, part)
        return out

    def _part(self, place: tuple[int, ...], region: Sequence[tuple[int, int]]) -> Block:
        """The pixels of `region`, which lies in the chunk at `place`."""
        file = self._folder / self._array.metadata.encode_chunk_key(place)
        try:
            encoded = file.read_bytes()
        except FileNotFoundError:  # zarr knows what that means
            return np.asarray(self._array[tuple(slice(*ends) for ends in region)])
        values = encoded if self._codec is None else self._codec.decode(encoded)
        chunk = np.frombuffer(values, self._on_disk).reshape(self._array.chunks)
        part = chunk[
            tuple(
                slice(start - index * size, stop - index * size)
                for (start, stop), index, size in zip(
                    region, place, self._array.chunks, strict=True
                )
            )
        ]
        return part.astype(self.dtype, copy=False)


def direct(value: Any) -> Any:
    """A zarr array as `ZarrChunks` if its chunks can be read so; anything else as it is."""
    if not type(value).__module__.startswith("zarr."):
        return value
    import numcodecs
    import zarr

    if not isinstance(value, zarr.Array) or not isinstance(value.store, zarr.storage.LocalStore):
        return value
    plain = value.shards is None and not value.filters and value.order == "C" and value.ndim
    if not plain or len(value.compressors) > 1:
        return value
    dtype = value.dtype
    if value.metadata.zarr_format == 3:
        serializer = value.serializer.to_dict()
        if serializer["name"] != "bytes":
            return value
        dtype = dtype.newbyteorder(BYTE_ORDERS[serializer.get("configuration", {}).get("endian")])
    codec = None
    for compressor in value.compressors:
        # A codec of zarr's own, or one of numcodecs in zarr format 2.
        is_own = hasattr(compressor, "to_dict")
        name = compressor.to_dict()["name"] if is_own else compressor.codec_id
        if name not in CODECS:
            return value
        module, kind = CODECS[name]
        codec = getattr(getattr(numcodecs, module), kind)()
    return ZarrChunks(value, dtype, codec)


def _region(selection: Any, shape: Sequence[int]) -> list[tuple[int, int]] | None:
    """Start and stop along each axis; None if the selection is no plain part of the array."""
    if not isinstance(selection, tuple) or len(selection) != len(shape):
        return None
    if not all(isinstance(part, slice) and part.step in (None, 1) for part in selection):
        return None
    region = [part.indices(size)[:2] for part, size in zip(selection, shape, strict=True)]
    return region if all(start < stop for start, stop in region) else None
