"""Reads and writes the chunks of a zarr array in the thread that asks for it.

zarr itself hands each chunk to threads of its own and back, one event loop for all: two threads
that read for themselves decode twice as much, and one that encodes what it has just made finds it
in its cache. Only what needs no more than a file and a codec is done here; the rest is left to
zarr.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ..aliases import DType, NumpyArray, Region
from ..errors import StoreError
from ..memory import scratch
from . import files
from .contents import token_in

# Codecs that need nothing but the bytes.
CODECS = {"zstd", "blosc", "gzip", "zlib"}
# Ways to shuffle bytes: their names in zarr's format 3, and their numbers in numcodecs.
SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
# Modules whose stores any thread may ask; they answer at once.
NEVER_WAIT = {"tifffile.zarr", "zarr.storage._memory"}
# A value of a byte that a codec was to write to: a rare one.
UNTOUCHED = 0xA5
# Names that fsspec has for the file system of this machine.
LOCAL = {"file", "local"}


class ZarrChunks:
    """A zarr array in a folder, whose chunks are read or written by whoever indexes it.

    Parameters
    ----------
    array
        The zarr array.
    dtype
        Type of the values on disk.
    codec
        What encodes and decodes a chunk; None where chunks are plain bytes.
    """

    def __init__(self, array: Any, dtype: DType, codec: Any = None) -> None:
        self._array = array
        self._on_disk = dtype
        self._codec = codec
        self._folder = Path(getattr(array.store, "root", "")) / array.path
        self.shape: tuple[int, ...] = array.shape
        self.dtype: DType = array.dtype
        self.ndim = len(self.shape)
        self._chunks: tuple[int, ...] = array.chunks  # zarr looks for shards each time

    def __getitem__(self, selection: object) -> NumpyArray:
        region = _region(selection, self.shape)
        if region is None:
            return np.asarray(self._array[selection])
        out = scratch(_shape(region), self.dtype)
        for index, part, within in self._parts(region):
            self._read(index, part, out[within])
        return out

    def __setitem__(self, selection: object, values: NumpyArray) -> None:
        """Write whole chunks; whoever reads one meanwhile gets all of it, old or new.

        Each becomes a file, also one that holds nothing but the fill value.
        """
        region = _region(selection, self.shape)
        if region is None or not self._is_of_whole_chunks(region, np.shape(values)):
            self._array[selection] = values
            return
        block = np.asarray(values)
        for index, _, within in self._parts(region):
            self._write(index, block[within])

    def _parts(self, region: Region) -> Iterator[tuple[tuple[int, ...], Region, tuple[slice, ...]]]:
        """The chunks that a region meets: index, common part in the array, and in the region."""
        chunks = self._chunks
        indices = [
            range(start // size, -(-stop // size))
            for (start, stop), size in zip(region, chunks, strict=True)
        ]
        for index in product(*indices):
            part = [
                (max(start, number * size), min(stop, (number + 1) * size))
                for (start, stop), number, size in zip(region, index, chunks, strict=True)
            ]
            within = tuple(
                slice(first - start, last - start)
                for (first, last), (start, _) in zip(part, region, strict=True)
            )
            yield index, part, within

    def _is_of_whole_chunks(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Whether a region consists of whole chunks, and `shape` is its shape."""
        if self._array.read_only or shape != _shape(region):
            return False
        return all(
            start % size == 0 and (stop % size == 0 or stop == end)
            for (start, stop), size, end in zip(region, self._chunks, self.shape, strict=True)
        )

    def _write(self, index: tuple[int, ...], values: NumpyArray) -> None:
        """Write a chunk; one that reaches beyond the array is filled up."""
        if values.shape != self._chunks:
            inner, fill = values, self._array.fill_value
            values = np.full(self._chunks, 0 if fill is None else fill, self._on_disk)
            values[tuple(slice(size) for size in inner.shape)] = inner
        plain = np.ascontiguousarray(values, self._on_disk)
        encoded = plain if self._codec is None else self._codec.encode(plain)
        # It gets its name when it is complete, whoever else writes the same chunk.
        with files.in_place_of(self._file(index)) as draft:
            _write_file(draft, encoded)

    def _read(self, index: tuple[int, ...], part: Region, out: NumpyArray) -> None:
        """Read the pixels of `part`, which lies in one chunk."""
        encoded = self._encoded(index)
        if encoded is None:
            out[...] = self._array[tuple(slice(*ends) for ends in part)]
            return
        sizes = self._chunks
        if (out.shape, out.dtype) == (sizes, self._on_disk) and out.flags.c_contiguous:
            self._decode(encoded, out, index)
            return
        chunk = scratch(sizes, self._on_disk)
        self._decode(encoded, chunk, index)
        within = [
            slice(start - number * size, stop - number * size)
            for (start, stop), number, size in zip(part, index, sizes, strict=True)
        ]
        out[...] = chunk[tuple(within)]

    @cached_property
    def _must_be_whole(self) -> bool:
        """Whether every chunk must have a file: zarr itself leaves out those of the fill value."""
        return token_in(self._folder.parent) is not None

    def _key(self, index: tuple[int, ...]) -> str:
        return str(self._array.metadata.encode_chunk_key(index))

    def _file(self, index: tuple[int, ...]) -> Path:
        return self._folder / self._key(index)

    def _decode(
        self, encoded: bytes | NumpyArray, chunk: NumpyArray, index: tuple[int, ...]
    ) -> None:
        """Decode the bytes of a chunk into an array."""
        content = chunk.reshape(-1).view(np.uint8)
        try:
            if self._codec is not None:
                content[-1] = UNTOUCHED
                self._codec.decode(encoded, out=content)
            # A codec says nothing of a chunk that is too short. Then the last byte is untouched.
            if self._codec is None or content[-1] == UNTOUCHED:
                whole = encoded if self._codec is None else self._codec.decode(encoded)
                chunk[...] = np.frombuffer(whole, self._on_disk).reshape(chunk.shape)
        except MemoryError:
            raise
        except Exception as error:  # each codec has its own
            raise StoreError(f"{str(self._file(index))!r} is damaged: {error}") from error

    def _encoded(self, index: tuple[int, ...]) -> bytes | NumpyArray | None:
        """The bytes of a chunk; None if there is no file: zarr knows what it stands for."""
        file = self._file(index)
        try:
            encoded = _content_of(file)
        except FileNotFoundError:
            require_there(self._array)
            if self._must_be_whole:
                raise StoreError(missing_chunks_message(self._folder, [self._key(index)])) from None
            return None
        # Blosc itself does not notice that bytes are missing.
        is_blosc = getattr(self._codec, "codec_id", None) == "blosc"
        if is_blosc and int.from_bytes(encoded[12:16], "little") != len(encoded):
            raise StoreError(f"{str(file)!r} is damaged: it is not as long as its header says")
        return encoded


def _content_of(file: Path) -> NumpyArray:
    """The bytes of a file."""
    with file.open("rb") as opened:
        content = scratch([os.fstat(opened.fileno()).st_size], np.dtype(np.uint8))
        n_read = opened.readinto(content)
    return content[:n_read]


class StoreChunks(ZarrChunks):
    """As `ZarrChunks`, of a store that is no folder and answers at once: in memory, or of tifffile.

    Only reading is direct: zarr writes.
    """

    def __setitem__(self, selection: object, values: NumpyArray) -> None:
        self._array[selection] = values

    @cached_property
    def _prototype(self) -> object:
        from zarr.core.buffer import default_buffer_prototype

        return default_buffer_prototype()

    def _encoded(self, index: tuple[int, ...]) -> bytes | None:
        """The bytes of a chunk; None if there are none: zarr knows what that stands for."""
        key = f"{self._array.path}/{self._key(index)}".lstrip("/")
        getting = self._array.store.get(key, self._prototype)
        try:
            getting.send(None)
        except StopIteration as got:
            return None if got.value is None else got.value.as_array_like()
        except RuntimeError:  # it needs a loop of events, in which it would wait
            return None
        getting.close()
        return None


def direct(value: object) -> object:
    """A zarr array as `ZarrChunks` if its chunks can be read so; anything else as it is."""
    if not _is_zarr_array(value):
        return value
    # Exactly this class: a derived one may change the bytes. zarr 2 has no such class.
    is_local = type(value.store) is _local_store()
    if not is_local and type(value.store).__module__ not in NEVER_WAIT:
        return value
    if value.metadata.zarr_format == 3 and not _is_regular(value):
        return value
    if value.shards is not None or value.filters or value.order != "C" or not value.ndim:
        return value
    dtype = _dtype_on_disk(value)
    codecs = [_codec(compressor) for compressor in value.compressors]
    if dtype is None or len(codecs) > 1 or None in codecs:
        return value
    return (ZarrChunks if is_local else StoreChunks)(value, dtype, *codecs)


def folder_of(array: Any) -> Path | None:
    """The folder of a zarr array; None if it lies in a zip file, in memory or on a server."""
    store, local = array.store, _local_store()
    if local is None:
        return None
    if isinstance(store, local):
        return Path(store.root, array.path)
    # What Dask makes of the path of an array.
    names = getattr(getattr(store, "fs", None), "protocol", ())
    is_local = LOCAL & set([names] if isinstance(names, str) else names)
    return Path(store.path, array.path) if is_local else None


def require_there(value: object) -> None:
    """Raise StoreError if `value` is a zarr array whose folder is gone.

    All that zarr reads from it would have the fill value.
    """
    if not _is_zarr_array(value):
        return
    folder = folder_of(value)
    # A store that is derived from zarr's may call its files as it likes.
    if folder is None or type(value.store).__module__.partition(".")[0] != "zarr":
        return
    metadata = "zarr.json" if value.metadata.zarr_format == 3 else ".zarray"
    if not (folder / metadata).exists():
        raise StoreError(
            f"{str(folder)!r} is gone: it was removed after it had been opened; read the store "
            "again"
        )


def missing_chunks_message(folder: Path, keys: Sequence[str]) -> str:
    """What to say of chunks that are missing in a layer of ours."""
    return (
        f"{str(folder)!r} is damaged: {len(keys)} chunks are missing, {keys[0]!r} the first; "
        "pxprep wrote all of them. Make the layer again (or, if another program made these pixels "
        "zero, work on a copy by sdata.write)"
    )


def _is_zarr_array(value: object) -> TypeGuard[Any]:
    """Whether `value` is an array of zarr's own; zarr is imported only where it may be."""
    if not type(value).__module__.startswith("zarr."):
        return False
    import zarr

    return isinstance(value, zarr.Array)


def _local_store() -> Any:
    import zarr.storage

    return getattr(zarr.storage, "LocalStore", None)


def _is_regular(array: Any) -> bool:
    """Whether all chunks have one size."""
    name = array.metadata.to_dict()["chunk_grid"]["name"]
    return bool(name == "regular")


def _dtype_on_disk(array: Any) -> DType | None:
    """The type of values in chunks; None if a decoded chunk is more than its values in order."""
    dtype: DType = array.dtype
    if dtype.kind not in "biufc":
        return None
    if array.metadata.zarr_format == 2:
        return dtype
    serializer = array.serializer.to_dict()
    if serializer["name"] != "bytes":
        return None
    return dtype.newbyteorder(serializer.get("configuration", {}).get("endian") or "=")


def _codec(compressor: object) -> object:
    """The codec of numcodecs that a compressor of zarr is, or one of its own; None if unknown."""
    from numcodecs import get_codec

    if not hasattr(compressor, "to_dict"):
        return compressor if getattr(compressor, "codec_id", None) in CODECS else None
    described = compressor.to_dict()
    if described["name"] not in CODECS:
        return None
    options = dict(described.get("configuration", {}))
    options.pop("typesize", None)  # that of the values
    try:
        if "shuffle" in options:
            options["shuffle"] = SHUFFLES[options["shuffle"]]
        return get_codec({"id": described["name"], **options})
    except (KeyError, TypeError):  # an option of later versions
        return None


def _write_file(path: Path, content: bytes | NumpyArray) -> None:
    """Write a file, and the folders that it lies in."""
    try:
        file = path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        file.write(content)


def _shape(region: Region) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in region)


def _region(selection: object, shape: Sequence[int]) -> Region | None:
    """What a selection selects; None if it is no plain part of the array."""
    if not isinstance(selection, tuple) or len(selection) != len(shape):
        return None
    if not all(isinstance(part, slice) and part.step in (None, 1) for part in selection):
        return None
    region = [part.indices(size)[:2] for part, size in zip(selection, shape, strict=True)]
    return region if all(start < stop for start, stop in region) else None
