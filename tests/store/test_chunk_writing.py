"""Chunks written without zarr: the files that zarr writes, its errors, and no drafts."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import dask
import dask.array as da
import dask.base
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_kinds import CHUNKS, COMPRESSORS, ENCODINGS, LEFT_ALONE, SHAPE, TYPES, some_values
from oracle import assert_same_bits
from pxprep import Pipeline
from pxprep.engine import backends
from pxprep.store import files as files_module
from pxprep.store.zarr_chunks import ZarrChunks, direct

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")
resource = pytest.importorskip("resource")


WHOLE = tuple(slice(0, size) for size in SHAPE)


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


# The same bytes as zarr


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_files_are_those_that_zarr_writes(zarr_format, name, dtype, tmp_path):
    """Also of chunks that reach beyond the array, which are filled up."""
    options = {"zarr_format": zarr_format, "compressors": COMPRESSORS[zarr_format, name]}
    theirs, own = pair(tmp_path, dtype, fill_value=1, **options)
    values = some_values(dtype)
    theirs[...] = values
    own[WHOLE] = values
    assert_same_files(tmp_path)
    assert len(chunk_files(tmp_path / "own")) == 2 * 3 * 3
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], values)


@pytest.mark.parametrize(
    "compressor",
    [
        codecs.ZstdCodec(level=7, checksum=True),
        codecs.GzipCodec(level=1),
        codecs.BloscCodec(cname="zstd", clevel=9, shuffle="noshuffle"),
        codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", blocksize=256),
    ],
    ids=["zstd", "gzip", "blosc of zstd", "blosc of lz4"],
)
def test_options_of_codecs_are_kept(compressor, tmp_path):
    """On values large and smooth enough for each option to change the bytes."""
    shape, chunks = (2, 200, 220), (1, 100, 110)
    values = np.add.outer(np.arange(200), np.arange(220)).astype("<u2")[np.newaxis] // 3
    values = np.concatenate([values, some_values("<u2", (1, 200, 220))])
    theirs, own = pair(tmp_path, "<u2", chunks, shape, compressors=compressor)
    theirs[...] = values
    own[tuple(slice(0, size) for size in shape)] = values
    assert_same_files(tmp_path)
    plain = made(tmp_path / "plain", "<u2", chunks, shape, compressors=type(compressor)())
    plain[...] = values
    assert chunk_files(tmp_path / "plain") != chunk_files(tmp_path / "own")


def test_blosc_gets_the_size_of_values_whatever_the_metadata_says(tmp_path):
    """The bytes may differ from zarr's here: a header of Blosc has the size, and readers use it."""
    compressor = codecs.BloscCodec(typesize=1, shuffle="shuffle")
    own = direct(made(tmp_path / "own", "<f4", compressors=compressor))
    assert isinstance(own, ZarrChunks)
    values = some_values("<f4")
    own[WHOLE] = values
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], values)
    np.testing.assert_array_equal(own[WHOLE], values)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", ">f8", "<c8"])
def test_the_order_of_bytes_on_disk_is_that_of_the_codec(dtype, endian, tmp_path):
    serializer = codecs.BytesCodec(endian=endian)
    theirs, own = pair(tmp_path, dtype, serializer=serializer, fill_value=3)
    values = some_values(dtype)
    theirs[...] = values
    own[WHOLE] = values
    assert_same_files(tmp_path)
    on_disk = np.dtype(dtype).newbyteorder({"little": "<", "big": ">"}[endian])
    chunk = np.frombuffer((tmp_path / "own/c/0/0/0").read_bytes(), on_disk).reshape(CHUNKS)
    np.testing.assert_array_equal(chunk, values[:2, :5, :4])


@pytest.mark.parametrize(
    ("dtype", "fill", "zarr_format"),
    [
        ("<u2", 7, 2),
        ("<u2", 0, 3),
        ("<u2", None, 2),
        ("<f4", None, 2),
        ("<f4", np.nan, 2),
        (">f8", np.nan, 3),
        ("<f4", -0.0, 3),
        ("<f4", np.inf, 3),
        ("<f4", 1.5, 2),
        ("?", True, 3),
        ("?", False, 2),
        ("?", None, 2),
    ],
)
def test_chunks_that_reach_beyond_the_array_are_filled_with_its_fill_value(
    dtype, fill, zarr_format, tmp_path
):
    theirs, own = pair(tmp_path, dtype, fill_value=fill, zarr_format=zarr_format)
    values = some_values(dtype)
    theirs[...] = values
    own[WHOLE] = values
    assert_same_files(tmp_path)
    name = "c/1/2/2" if zarr_format == 3 else "1.2.2"
    on_disk = np.dtype(dtype).newbyteorder("<")  # what zarr chooses for both formats here
    chunk = np.frombuffer((tmp_path / "own" / name).read_bytes(), on_disk).reshape(CHUNKS)
    expected = np.full(CHUNKS, 0 if fill is None else fill, on_disk)
    expected[:1, :3, :3] = values[2:, 10:, 8:]
    assert chunk.tobytes() == expected.tobytes()


def test_special_floats_keep_their_bits(tmp_path):
    values = some_values("<f4")
    values[0, 0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    values[1].view("u4")[0, 0] = 0x7FC12345
    _, own = pair(tmp_path, "<f4", compressors=codecs.ZstdCodec())
    own[WHOLE] = values
    assert zarr.open_array(tmp_path / "own")[...].tobytes() == values.tobytes()


@pytest.mark.parametrize(("zarr_format", "encoding"), ENCODINGS)
def test_chunks_have_the_names_that_the_array_says(zarr_format, encoding, tmp_path):
    options = {"zarr_format": zarr_format, "chunk_key_encoding": encoding}
    theirs, own = pair(tmp_path, **options)
    theirs[...] = some_values()
    own[WHOLE] = some_values()
    assert_same_files(tmp_path)


def test_chunks_of_the_fill_value_are_files_also_where_zarr_leaves_them_out(tmp_path):
    array = zarr.create_array(tmp_path / "own", shape=SHAPE, chunks=CHUNKS, dtype="u2")
    array[...] = 0
    assert chunk_files(tmp_path / "own") == {}
    direct(array)[WHOLE] = np.zeros(SHAPE, "u2")
    assert len(chunk_files(tmp_path / "own")) == 2 * 3 * 3
    assert (zarr.open_array(tmp_path / "own")[...] == 0).all()


@pytest.mark.parametrize("name", ["plain", "with spaces", "Gewebe-größe µm 組織", "a%20b"])
def test_arrays_in_groups_in_folders_of_any_name(name, tmp_path):
    group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w").create_group(name)
    group.create_array("0", shape=SHAPE, chunks=CHUNKS, dtype="u2")
    own = direct(zarr.open_group(tmp_path / f"{name}.zarr")[f"{name}/0"])
    assert isinstance(own, ZarrChunks)
    own[WHOLE] = some_values()
    found = zarr.open_array(tmp_path / f"{name}.zarr" / name / "0", mode="r")
    np.testing.assert_array_equal(found[...], some_values())


# Blocks


@pytest.mark.parametrize(
    "turn",
    [
        lambda values: np.asfortranarray(values),
        lambda values: np.repeat(values, 2, axis=2)[:, :, ::2],
        lambda values: values[:, ::-1].copy()[:, ::-1],
        lambda values: np.ascontiguousarray(values.transpose(2, 0, 1)).transpose(1, 2, 0),
        lambda values: values.astype("u1"),
        lambda values: values.astype(">i8"),
        lambda values: values.astype("f8") + 0.7,
        lambda values: values.tolist(),
        lambda values: da.from_array(values, chunks=3),
    ],
    ids=["F", "strided", "reversed", "turned", "u1", "big i8", "f8", "lists", "dask"],
)
@pytest.mark.parametrize("compressor", [None, codecs.BloscCodec()], ids=["none", "blosc"])
def test_blocks_of_any_layout_and_type(turn, compressor, tmp_path):
    theirs, own = pair(tmp_path, "<u2", compressors=compressor)
    block = turn(some_values())
    theirs[...] = np.asarray(block)
    own[WHOLE] = block
    assert_same_files(tmp_path)
    np.testing.assert_array_equal(own[WHOLE], some_values())


def test_read_only_blocks_and_blocks_that_are_used_again(tmp_path):
    _, own = pair(tmp_path, "<u2")
    block = some_values()
    before = block.copy()
    block.flags.writeable = False
    own[WHOLE] = block
    np.testing.assert_array_equal(block, before)
    block.flags.writeable = True
    block[...] = 0
    np.testing.assert_array_equal(own[WHOLE], before)


# Regions


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_region_of_chunks_of_any_size(data, tmp_path_factory):
    """Of whole chunks or not: what is around it stays, and missing chunks have the fill value."""
    sizes = st.integers(1, 7)
    shape = tuple(data.draw(st.lists(sizes, min_size=1, max_size=4)))
    chunks = tuple(data.draw(sizes) for _ in shape)
    folder = tmp_path_factory.mktemp("any")
    own = direct(made(folder / "own", "<f4", chunks, shape, fill_value=-1))
    expected = np.full(shape, -1, "<f4")
    for seed in range(4):
        ends = [
            data.draw(st.sampled_from([(0, size), (0, chunk), (chunk, size), None]))
            or sorted((data.draw(sizes) - 1, data.draw(sizes)))
            for size, chunk in zip(shape, chunks, strict=True)
        ]
        selection = tuple(slice(*pair) for pair in ends)
        block = some_values("<f4", expected[selection].shape, seed)
        own[selection] = block
        expected[selection] = block
    np.testing.assert_array_equal(zarr.open_array(folder / "own")[...], expected)


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


@pytest.mark.parametrize(
    "selection",
    [
        WHOLE,
        (slice(None),) * 3,
        (slice(0, 2), slice(5, 10), slice(4, 8)),
        (slice(2, 3), slice(10, 13), slice(8, 11)),
        (slice(2, 50), slice(0, 10), slice(-3, None)),
        (slice(0, 2), slice(np.int64(5), None), slice(0, 4, 1)),
    ],
    ids=str,
)
def test_whole_chunks_are_written_without_zarr(selection, tmp_path, monkeypatch):
    _, own = pair(tmp_path, "<u2", fill_value=9)
    expected = np.full(SHAPE, 9, "<u2")
    expected[selection] = some_values()[selection]
    with zarr_writes(monkeypatch) as written:
        own[selection] = expected[selection]
    assert written == []
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], expected)


@pytest.mark.parametrize(
    "selection",
    [
        (slice(0, 1), slice(0, 5), slice(0, 4)),
        (slice(1, 3), slice(0, 5), slice(0, 4)),
        (slice(0, 2), slice(0, 12), slice(0, 4)),
        (slice(0, 2), slice(3, 13), slice(0, 11)),
        (slice(0, 3), slice(0, 13, 2), slice(0, 11)),
        (0, slice(0, 5), slice(0, 4)),
        (slice(0, 2), slice(0, 5)),
        (2, 12, 10),
        slice(0, 2),
        ...,
        (..., slice(0, 4)),
        (slice(1, 1), slice(0, 5), slice(0, 4)),
    ],
    ids=str,
)
def test_other_selections_are_left_to_zarr(selection, tmp_path, monkeypatch):
    _, own = pair(tmp_path, "<u2", fill_value=9, compressors=codecs.ZstdCodec())
    own[WHOLE] = some_values(seed=4)
    expected = some_values(seed=4)
    expected[selection] = some_values()[selection]
    with zarr_writes(monkeypatch) as written:
        own[selection] = some_values()[selection]
    assert written == [selection]
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], expected)


def test_one_value_for_a_region_is_left_to_zarr(tmp_path):
    theirs, own = pair(tmp_path, "<u2")
    theirs[...] = 5
    own[WHOLE] = 5
    assert_same_files(tmp_path)


@pytest.mark.parametrize(
    "shape", [(2, 4, 4), (2, 5, 5), (1, 5, 4), (5, 4), (0, 0, 0), (2, 5, 4, 1)]
)
def test_blocks_of_another_shape_are_no_chunks(shape, tmp_path):
    """A block that is too small must not be filled up, one that is too large not cut."""
    _, own = pair(tmp_path, "<u2", fill_value=9)
    place = (slice(0, 2), slice(5, 10), slice(4, 8))
    try:
        made(tmp_path / "zarr")[place] = np.ones(shape, "u2")
    except Exception as error:
        with pytest.raises(type(error)):
            own[place] = np.ones(shape, "u2")
        assert (zarr.open_array(tmp_path / "own")[...] == 9).all()
    else:
        own[place] = np.ones(shape, "u2")
        assert (own[place] == 1).all()


def test_arrays_that_were_opened_to_be_read_are_not_written(tmp_path):
    _, own = pair(tmp_path)
    own[WHOLE] = some_values()
    before = files(tmp_path)
    reader = direct(zarr.open_array(tmp_path / "own", mode="r"))
    assert isinstance(reader, ZarrChunks)
    with pytest.raises(ValueError, match="read-only"):
        reader[WHOLE] = np.ones(SHAPE, "u2")
    assert files(tmp_path) == before


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_what_needs_more_than_a_codec_is_written_by_zarr(kind, tmp_path):
    array = made(tmp_path / "image", **{"chunks": CHUNKS, **LEFT_ALONE[kind]})
    assert direct(array) is array
    chunks = dict(zip("cyx", array.shards or CHUNKS, strict=True))
    image = xr.DataArray(some_values(), dims=("c", "y", "x")).chunk(chunks)
    backends.store([image.pxprep.clip(30).data], [direct(array)])
    found = zarr.open_array(tmp_path / "image", mode="r")[...]
    np.testing.assert_array_equal(found, np.minimum(some_values(), 30))


def test_types_that_are_no_numbers_are_left_to_zarr(tmp_path):
    times = zarr.create_array(tmp_path / "t", shape=(4,), chunks=(3,), dtype="M8[s]")
    names = zarr.create_array(tmp_path / "n", shape=(4,), chunks=(3,), dtype="<U5", zarr_format=2)
    assert direct(times) is times
    assert direct(names) is names


def test_arrays_in_memory_are_left_to_zarr():
    array = made(zarr.storage.MemoryStore())
    assert direct(array) is array
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    backends.store([lazy], [direct(array)])
    np.testing.assert_array_equal(array[...], some_values())


# What fails


def drafts(folder):
    return [path.name for path in Path(folder).rglob("*.partial")]


@pytest.fixture
def written(tmp_path):
    """An array with old values in it, and its folder."""
    own = direct(made(tmp_path / "own", "<u2", fill_value=9, compressors=codecs.ZstdCodec()))
    own[WHOLE] = some_values(seed=1)
    return own, tmp_path / "own"


def test_full_disk(tmp_path):
    """The system refuses what is larger than so many bytes, of which some are written."""
    own = direct(made(tmp_path / "own", "<f8", (1, 64, 64), (2, 64, 64)))
    old = np.zeros((2, 64, 64))
    own[:, :, :] = old
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            own[:, :, :] = np.ones((2, 64, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert drafts(tmp_path) == []
    np.testing.assert_array_equal(own[:, :, :], old)


def test_chunks_whose_place_is_taken(written):
    """When the draft is complete: a folder has the name of the chunk."""
    own, folder = written
    (folder / "c/0/1/0").unlink()
    (folder / "c/0/1/0").mkdir()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        own[:2, 5:10, :4] = np.ones((2, 5, 4), "u2")
    assert caught.value.errno in (errno.EISDIR, errno.EACCES, errno.EEXIST)
    assert drafts(folder) == []


def test_folders_that_are_files(written):
    own, folder = written
    for path in (folder / "c/0/1").iterdir():
        path.unlink()
    (folder / "c/0/1").rmdir()
    (folder / "c/0/1").touch()
    with pytest.raises(NotADirectoryError):
        own[:2, 5:10, :4] = np.ones((2, 5, 4), "u2")
    assert drafts(folder) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="POSIX permissions")
def test_folders_without_permission():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = direct(made(folder / "own"))
        own[WHOLE] = some_values()
        places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        user = os.geteuid()
        try:
            for path in places:
                path.chmod(0o555)
            if user == 0:
                os.seteuid(65534)  # root may write everywhere
            with pytest.raises(PermissionError):
                own[WHOLE] = np.ones(SHAPE, "u2")
        finally:
            os.seteuid(user)
            for path in places:
                path.chmod(0o755)
        assert drafts(folder) == []
        np.testing.assert_array_equal(own[WHOLE], some_values())


def test_codecs_that_refuse(written):
    own, folder = written

    class Refusing:
        def encode(self, values):
            raise RuntimeError("no more memory for tables")

    before, own._codec = files(folder), Refusing()
    with pytest.raises(RuntimeError, match="tables"):
        own[WHOLE] = np.ones(SHAPE, "u2")
    assert files(folder) == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_moment(tmp_path):
    """Each finds another moment of writing; chunks are old or new, and no draft stays."""
    shape, chunks = (2, 96, 96), (1, 32, 32)
    own = direct(made(tmp_path / "own", "<u2", chunks, shape, compressors=codecs.ZstdCodec()))

    def interrupt(*args):
        raise KeyboardInterrupt

    def write_until(seconds, number):
        # Again later: Python may be where it says of an interrupt only that there was one.
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
        try:
            while True:
                own[:, :, :] = np.full(shape, number, "u2")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(80):
            with pytest.raises(KeyboardInterrupt):
                write_until(1e-3 + number * 2e-5, number)
            assert drafts(tmp_path) == []
    finally:
        signal.signal(signal.SIGALRM, before)
    found = zarr.open_array(tmp_path / "own")[...]
    blocks = found.reshape(2, 3, 32, 3, 32)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_drafts_are_not_flushed_and_chunks_are(tmp_path, monkeypatch):
    """`flushing` finds drafts by their names, and a chunk when it has its own."""
    flushed, flush = [], files_module.flush_entry
    monkeypatch.setattr(files_module, "FLUSHING_PAUSE", 0.001)
    monkeypatch.setattr(
        files_module, "flush_entry", lambda path: (flushed.append(Path(path).name), flush(path))
    )
    own = direct(made(tmp_path / "own"))
    seen = []

    class Waiting:
        def encode(self, values):
            return values

    class Slow(type(Path())):
        def open(self, *args, **kwargs):
            file = super().open(*args, **kwargs)
            if args == ("wb",):
                seen.append(self.name)
                time.sleep(0.02)
            return file

    own._folder, own._codec = Slow(own._folder), Waiting()
    with files_module.flushing(tmp_path / "own"):
        own[WHOLE] = some_values()
        time.sleep(0.1)
    assert len(seen) == 2 * 3 * 3
    assert all(name.endswith(".partial") for name in seen)
    assert not [name for name in flushed if "partial" in name]
    assert sorted(name for name in flushed if name.isdigit()) == sorted("012" * 6)


# Threads and other processes


@pytest.mark.parametrize("name", ["none", "zstd", "blosc"])
def test_several_threads_write_the_same_and_neighbouring_chunks(name, tmp_path):
    shape, chunks = (2, 60, 70), (2, 16, 16)
    array = made(tmp_path / "own", "<u2", chunks, shape, compressors=COMPRESSORS[3, name])
    own, start, done = direct(array), threading.Barrier(5), threading.Event()
    own[:, :, :] = np.zeros(shape, "u2")

    def write(seed):
        rng = np.random.default_rng(seed)
        start.wait(5)
        for number in range(30):
            top, left = 16 * rng.integers(0, 3), 16 * rng.integers(0, 4)
            part = slice(0, 2), slice(top, min(60, top + 32)), slice(left, min(70, left + 32))
            own[part] = np.full([each.stop - each.start for each in part], seed * 100 + number)
        return True

    def read():
        start.wait(5)
        while not done.is_set():
            for top in range(0, 60, 16):
                block = own[:2, top : top + 16, 16:32]
                if not (block == block[0, 0, 0]).all():
                    return False
        return True

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        try:
            assert all(pool.map(write, range(1, 5)))
        finally:
            done.set()
        assert reading.result()
    assert drafts(tmp_path) == []
    last = zarr.open_array(tmp_path / "own")[...]
    assert set(np.unique(last)) <= {0, *(100 * seed + n for seed in range(1, 5) for n in range(30))}


@pytest.mark.parametrize("dumps", ["pickle", "cloudpickle"])
@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_arrays_to_be_written_travel(zarr_format, name, dumps, tmp_path):
    dump = pytest.importorskip(dumps).dumps
    options = {"zarr_format": zarr_format, "compressors": COMPRESSORS[zarr_format, name]}
    theirs, own = pair(tmp_path, **options)
    theirs[...] = some_values()
    copy = pickle.loads(dump(own))
    copy[WHOLE] = some_values()
    assert_same_files(tmp_path)
    assert len(dump(own)) < 4000


# Lazy arrays


def counted(shape, chunks, values):
    """An array, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    source = da.from_array(values, chunks=chunks)
    return source.map_blocks(
        load, dtype=values.dtype, meta=np.empty((0,) * len(shape), "u2")
    ), reads


SIZES = {"c": 3, "z": 4, "y": 13, "x": 11}


@pytest.mark.parametrize(
    ("dims", "planes"),
    [*product(["cyx", "yxc", "xcy"], [4]), *product(["czyx", "yzcx"], [4, 2, 1])],
)
@pytest.mark.parametrize("channels", [3, 2, 1])
def test_images_with_axes_in_any_order(dims, channels, planes, tmp_path, monkeypatch):
    sizes = {"c": channels, "z": planes, "y": 5, "x": 4}
    shape, chunks = (tuple(kind[dim] for dim in dims) for kind in (SIZES, sizes))
    values = some_values("<u2", shape)
    array, reads = counted(shape, chunks, values)
    image = xr.DataArray(array, dims=tuple(dims)).pxprep.clip(30)
    target = direct(made(tmp_path / "own", "<f4", chunks, shape, compressors=codecs.ZstdCodec()))
    with zarr_writes(monkeypatch) as by_zarr:
        backends.store([image.data], [target])
    expected = xr.DataArray(values, dims=tuple(dims)).pxprep.clip(30)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "own")[...], expected.values)
    assert by_zarr == []
    assert set(reads.values()) == {1}
    assert len(reads) == np.prod(array.numblocks)


def pyramid(array, fitted):
    """Three scales of one image, each computed from the first."""
    finest = fitted.transform(xr.DataArray(array, dims=("c", "y", "x")))
    coarser = [finest.pxprep.coarsen({"y": factor, "x": factor}) for factor in (2, 4)]
    return [scale.chunk(dict(zip("cyx", CHUNKS, strict=True))) for scale in (finest, *coarser)]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_scales_are_written_together_and_the_finest_is_made_once(scheduler, tmp_path, monkeypatch):
    shape = (3, 26, 22)
    values = some_values("<u2", shape, seed=len(scheduler))
    fitted = Pipeline().quantile_norm(99).blur(1).fit(xr.DataArray(values, dims=("c", "y", "x")))
    array, reads = counted(shape, CHUNKS, values)
    scales = pyramid(array, fitted)
    targets = [
        direct(made(tmp_path / str(number), "<f4", shape=scale.shape))
        for number, scale in enumerate(scales)
    ]
    with dask.config.set(scheduler=scheduler), zarr_writes(monkeypatch) as by_zarr:
        backends.store([scale.data for scale in scales], targets)
    for number, scale in enumerate(pyramid(da.from_array(values), fitted)):
        found = zarr.open_array(tmp_path / str(number))[...]
        np.testing.assert_array_equal(found, scale, err_msg=f"scale {number}")
    assert by_zarr == []
    if scheduler != "processes":  # others count for themselves
        # Once for a block itself, and once for the edges that its neighbours blur with.
        assert set(reads.values()) == {2}
        assert len(reads) == np.prod(array.numblocks)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_one_array_is_written_by_any_scheduler(scheduler, tmp_path):
    values = some_values("<u2", (3, 26, 22))
    image = xr.DataArray(values, dims=("c", "y", "x"))
    fitted = Pipeline().quantile_norm(99).blur(1).fit(image)
    lazy = fitted.transform(image.chunk({"c": 2, "y": 5, "x": 4}))
    target = direct(made(tmp_path / "own", "<f4", (2, 5, 4), values.shape))
    with dask.config.set(scheduler=scheduler):
        backends.store([lazy.data], [target])
    found = image.copy(data=zarr.open_array(tmp_path / "own")[...])
    assert_same_bits(found, fitted.transform(image))


def test_blocks_of_the_user_that_are_too_small_are_errors(tmp_path):
    """Of several arrays: Dask hands on what a function returns, whatever its shape."""
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    small = lazy.map_blocks(lambda block: block[:, :-1], dtype="u2", meta=lazy._meta)
    targets = [direct(made(tmp_path / name)) for name in ("first", "second")]
    with pytest.raises(ValueError):  # noqa: PT011
        backends.store([lazy, small], targets)
    assert drafts(tmp_path) == []


def test_nothing_is_written_of_arrays_without_pixels(tmp_path):
    """That Dask leaves out empty blocks is what the metadata of layers are written with."""
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    empty = backends.without_pixels(lazy)
    assert (empty.shape, empty.chunks, empty.dtype) == (lazy.shape, lazy.chunks, lazy.dtype)
    before = files(tmp_path / "own") if made(tmp_path / "own") else {}
    da.store([empty], [zarr.open_array(tmp_path / "own")], lock=False)
    assert files(tmp_path / "own") == before
    assert chunk_files(tmp_path / "own") == {}


def test_what_is_left_out_is_so_in_this_thread_alone(tmp_path):
    """Who computes at the same moment in another thread gets what was asked for."""
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    made(tmp_path / "own")
    with ThreadPoolExecutor(1) as other, backends.left_out():
        da.store([lazy], [zarr.open_array(tmp_path / "own")], lock=False)
        found = other.submit(lazy.compute).result()
    np.testing.assert_array_equal(found, some_values())
    assert chunk_files(tmp_path / "own") == {}
    np.testing.assert_array_equal(lazy.compute(), some_values())


WITHOUT_CLUSTER = """
import sys
import numpy as np, dask, dask.array as da, xarray as xr, zarr
from pxprep import Pipeline; from pxprep.engine import backends
from pxprep.store.zarr_chunks import direct
values = np.random.default_rng(0).random((2, 20, 20), "f4")
image = xr.DataArray(da.from_array(values, chunks=10), dims=("c", "y", "x"))
lazy = Pipeline.sparrow().fit(image).transform(image)
array = zarr.create_array(sys.argv[1], shape=image.shape, chunks=(2, 10, 10), dtype="f4")
backends.store([lazy.data], [direct(array)])
backends.store([lazy.data, image.data], [direct(array), direct(array)])
with backends.threads_at_rest():
    backends.compute(lazy.data)
assert "distributed" not in sys.modules
lazy.compute()
assert "distributed" in sys.modules, "Dask does not import it itself"
print("as fast as can be")
"""


def test_nothing_that_is_computed_imports_distributed(tmp_path):
    pytest.importorskip("distributed")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLUSTER, tmp_path / "array"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "as fast as can be\n", done.stderr


def test_the_scheduler_that_the_user_chose_computes(no_compute):
    lazy = da.ones((2, 10, 10), chunks=5)
    for scheduler in ("synchronous", "threads", "processes"):
        with dask.config.set(scheduler=scheduler):
            assert backends._scheduler([lazy]) is dask.base.get_scheduler(scheduler=scheduler)
    with no_compute(), pytest.raises(pytest.fail.Exception):
        backends.compute(lazy)
    with no_compute(), pytest.raises(pytest.fail.Exception):
        backends.store([lazy, lazy], [np.zeros(lazy.shape)] * 2)
