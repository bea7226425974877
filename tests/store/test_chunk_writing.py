"""Chunks written without zarr: the files that zarr writes, its errors, and no drafts."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_kinds import CHUNKS, COMPRESSORS, ENCODINGS, KINDS, LEFT_ALONE, SHAPE, some_values
from pxprep.engine import backends
from pxprep.store.zarr_chunks import ZarrChunks, direct
from written_chunks import assert_same_files, chunk_files, files, made, pair, zarr_writes

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")

WHOLE = tuple(slice(0, size) for size in SHAPE)


# The same bytes as zarr


@pytest.mark.parametrize(("zarr_format", "name", "dtype"), KINDS)
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


def test_arrays_in_memory_are_written_by_zarr():
    array = made(zarr.storage.MemoryStore())
    lazy = da.from_array(some_values(), chunks=CHUNKS)
    backends.store([lazy], [direct(array)])
    np.testing.assert_array_equal(array[...], some_values())
