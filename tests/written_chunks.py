"""Zarr arrays in folders, to be written, and their files."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from chunk_kinds import CHUNKS, SHAPE
from pxprep.store.zarr_chunks import ZarrChunks, direct

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")


def made(path, dtype="<u2", chunks=CHUNKS, shape=SHAPE, **options):
    """An empty zarr array in a folder, chunks of nothing but the fill value written as well."""
    options = {"compressors": None, **options}
    config = {"write_empty_chunks": True}
    return zarr.create_array(
        path, shape=shape, chunks=chunks, dtype=dtype, config=config, **options
    )


def pair(folder, *args, **options):
    """The same array twice: one to be written by zarr, one as `ZarrChunks`."""
    theirs, own = (made(folder / name, *args, **options) for name in ("theirs", "own"))
    chosen = direct(own)
    assert isinstance(chosen, ZarrChunks)
    return theirs, chosen


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def chunk_files(folder):
    return {
        name: raw for name, raw in files(folder).items() if ".z" not in name and ".json" not in name
    }


def assert_same_files(folder):
    own, theirs = (
        # Into the header of gzip the codec of both writes the time.
        {k: v[:4] + v[8:] if v[:2] == b"\x1f\x8b" else v for k, v in files(folder / name).items()}
        for name in ("own", "theirs")
    )
    assert own.keys() == theirs.keys()
    assert [name for name, raw in own.items() if raw != theirs[name]] == []


# What fails


def drafts(folder):
    return [path.name for path in Path(folder).rglob("*.partial")]


@contextmanager
def zarr_writes(monkeypatch):
    """How often zarr is asked to write."""
    written, write = [], zarr.Array.__setitem__

    def counting(self, selection, value):
        written.append(selection)
        write(self, selection, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__setitem__", counting)
        yield written
