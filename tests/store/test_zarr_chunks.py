"""Chunks read without zarr: values, types and shapes as zarr gives them, and its errors."""

import os
import re

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_kinds import CHUNKS, COMPRESSORS, ENCODINGS, KINDS, LEFT_ALONE, SHAPE, some_values
from oracle import assert_same_bits
from pxprep.errors import StoreError
from pxprep.store.zarr_chunks import UNTOUCHED, ZarrChunks, direct
from stored_arrays import an_image, assert_right_numbers, assert_same_part, file_of, stored
from tiff_files import GRAY, LAYOUTS

zarr = pytest.importorskip("zarr", minversion="3")
numcodecs = pytest.importorskip("numcodecs")
codecs = pytest.importorskip("zarr.codecs")

# Types and codecs


@pytest.mark.parametrize(("zarr_format", "name", "dtype"), KINDS)
def test_parts_are_those_that_zarr_reads(zarr_format, name, dtype, tmp_path):
    compressor = COMPRESSORS[zarr_format, name]
    values = some_values(dtype)
    array = stored(
        tmp_path / "image", values, zarr_format=zarr_format, compressors=compressor, fill_value=1
    )
    assert isinstance(direct(array), ZarrChunks)
    for selection in [
        (slice(None),) * 3,
        (slice(0, 2), slice(5, 10), slice(4, 8)),
        (slice(1, 3), slice(3, 13), slice(2, 11)),
        (slice(2, 3), slice(12, 13), slice(10, 11)),
    ]:
        assert_same_part(array, selection)
        np.testing.assert_array_equal(direct(array)[selection], values[selection])


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", ">f8"])
def test_the_order_of_bytes_on_disk_is_that_of_the_codec(dtype, endian, tmp_path):
    values = some_values(dtype)
    array = stored(tmp_path / "image", values, serializer=codecs.BytesCodec(endian=endian))
    assert isinstance(direct(array), ZarrChunks)
    order = {"little": "<", "big": ">"}[endian]
    on_disk = np.frombuffer(file_of(tmp_path / "image", array).read_bytes(), values.dtype.str[1:])
    chunk = on_disk.view(values.dtype.newbyteorder(order)).reshape(CHUNKS)
    np.testing.assert_array_equal(chunk, values[:2, :5, :4])
    assert_same_part(array, (slice(0, 3), slice(1, 9), slice(0, 11)))
    assert_right_numbers(array, values)


def test_special_floats_keep_their_bits(tmp_path):
    values = some_values("f4")
    values[0, 0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    values[1].view("u4")[0, 0] = 0x7FC12345
    array = stored(tmp_path / "image", values, compressors=codecs.ZstdCodec())
    part = slice(0, 3), slice(0, 13), slice(0, 11)
    assert direct(array)[part].tobytes() == values.tobytes()


@pytest.mark.parametrize(("zarr_format", "encoding"), ENCODINGS)
def test_chunks_have_the_names_that_the_array_says(zarr_format, encoding, tmp_path):
    values = some_values()
    array = stored(tmp_path / "image", values, zarr_format=zarr_format, chunk_key_encoding=encoding)
    assert isinstance(direct(array), ZarrChunks)
    assert file_of(tmp_path / "image", array, (1, 2, 2)).is_file()
    np.testing.assert_array_equal(direct(array)[(slice(0, 3),) * 3], values[:, :3, :3])
    assert_right_numbers(array, values)


# Selections


@pytest.mark.parametrize(
    "selection",
    [
        (slice(1, 1), slice(0, 5), slice(0, 5)),
        (slice(0, 3), slice(9, 2), slice(0, 5)),
        (slice(0, 3), slice(50, 60), slice(0, 5)),
        (slice(0, 3), slice(0, 13, 3), slice(1, 11, 2)),
        (slice(0, 3, 1), slice(None, 50), slice(-5, -1)),
        (slice(np.int64(0), np.int64(2)), slice(3, np.int32(9)), slice(2, None, np.int64(1))),
        (0, slice(0, 5), slice(0, 5)),
        (2, 12, 10),
        (slice(0, 3), slice(0, 7), -1),
        (slice(0, 3),),
        slice(1, 3),
        1,
        ...,
        (..., slice(0, 2)),
        (0, ...),
        (),
        slice(None),
        ([0, 2], slice(0, 7), slice(0, 11)),
        (slice(0, 3), slice(0, 7), [0, 5, 9]),
        (np.array([True, False, True]), slice(0, 7), slice(0, 11)),
    ],
    ids=str,
)
def test_any_selection_is_that_of_zarr(selection, tmp_path):
    array = stored(tmp_path / "image", some_values(), compressors=codecs.ZstdCodec())
    assert_same_part(array, selection)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_region_of_chunks_of_any_size(data, tmp_path_factory):
    sizes = st.integers(1, 9)
    shape = tuple(data.draw(st.lists(sizes, min_size=1, max_size=4)))
    chunks = tuple(data.draw(sizes) for _ in shape)
    values = some_values("f4", shape, seed=1)
    array = stored(tmp_path_factory.mktemp("any") / "image", values, chunks)
    chosen = direct(array)
    assert isinstance(chosen, ZarrChunks)
    for _ in range(5):
        ends = [sorted((data.draw(sizes) - 1, data.draw(sizes))) for _ in shape]
        selection = tuple(slice(*pair) for pair in ends)
        found = chosen[selection]
        assert found.shape == values[selection].shape
        np.testing.assert_array_equal(found, values[selection])


@pytest.mark.parametrize("selection", ["lists", "too many", "beyond"])
def test_bad_selections_are_errors_as_in_zarr(selection, tmp_path):
    array = stored(tmp_path / "image", some_values())
    bad = {
        "lists": ([0, 7], slice(0, 5), slice(0, 5)),
        "too many": (slice(0, 1),) * 4,
        "beyond": (3, slice(0, 5), slice(0, 5)),
    }[selection]
    with pytest.raises(IndexError):
        array[bad]
    with pytest.raises(IndexError):
        direct(array)[bad]


# What is missing or broken


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill"), [("u2", 7), ("f4", np.nan), ("f4", 1.5), ("?", True)])
def test_missing_chunks_have_the_fill_value(dtype, fill, zarr_format, tmp_path):
    values = some_values(dtype)
    array = stored(tmp_path / "image", values, zarr_format=zarr_format, fill_value=fill)
    file_of(tmp_path / "image", array, (0, 1, 0)).unlink()
    expected = values.copy()
    expected[:2, 5:10, :4] = fill
    for selection in [
        (slice(0, 2), slice(5, 10), slice(0, 4)),
        (slice(0, 1), slice(7, 8), slice(1, 3)),
        (slice(0, 3), slice(0, 13), slice(0, 11)),
        (slice(1, 3), slice(6, 12), slice(3, 6)),
    ]:
        assert_same_part(array, selection)
        np.testing.assert_array_equal(direct(array)[selection], expected[selection])
    if dtype != "?":
        assert_right_numbers(array, expected)


def test_an_array_that_nothing_was_written_to(tmp_path):
    zarr.create_array(tmp_path / "image", shape=SHAPE, chunks=CHUNKS, dtype="u2", fill_value=9)
    array = zarr.open_array(tmp_path / "image", mode="r")
    assert (direct(array)[(slice(0, 3), slice(2, 9), slice(0, 11))] == 9).all()


DAMAGES = {
    "emptied": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "one byte short": lambda raw: raw[:-1],
    "something else": lambda raw: b"no chunk of any array" * (1 + len(raw) // 21),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_damaged_chunks_are_errors(zarr_format, name, damage, tmp_path):
    values = some_values("f4", (3, 40, 44))
    array = stored(
        tmp_path / "image",
        values,
        (2, 20, 16),
        zarr_format=zarr_format,
        compressors=COMPRESSORS[zarr_format, name],
    )
    file = file_of(tmp_path / "image", array)
    raw = file.read_bytes()
    damaged = DAMAGES[damage](raw)
    assert damaged != raw
    file.write_bytes(damaged)
    message = re.escape(f"{str(file)!r} is damaged: ")
    for selection in [
        (slice(0, 2), slice(0, 20), slice(0, 16)),
        (slice(0, 1), slice(3, 4), slice(5, 6)),
        (slice(0, 3), slice(0, 40), slice(0, 44)),
    ]:
        with pytest.raises(StoreError, match=message):
            direct(array)[selection]
    with pytest.raises(StoreError, match=message):
        an_image(da.from_zarr(array)).pxprep.quantile_norm(99).compute()


@pytest.mark.parametrize("rows", [0, 19, 21])
@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_sound_chunks_of_another_size_are_errors(zarr_format, name, rows, tmp_path):
    """As of an array that was written again with other chunks: what is decoded does not fit."""
    paths, options = [tmp_path / "image", tmp_path / "other"], {"zarr_format": zarr_format}
    options["compressors"] = COMPRESSORS[zarr_format, name]
    array = stored(paths[0], some_values("f4", (2, 40, 16)), (2, 20, 16), **options)
    damaged = file_of(paths[0], array)
    if rows:
        other = some_values("f4", (2, rows, 16), seed=2)
        other = stored(paths[1], other, other.shape, **options)
        damaged.write_bytes(file_of(paths[1], other).read_bytes())
    elif options["compressors"] is None:
        damaged.write_bytes(b"")
    else:
        codec = name.split()[0]
        damaged.write_bytes(numcodecs.get_codec({"id": codec}).encode(b""))
    for selection in [
        (slice(0, 2), slice(0, 20), slice(0, 16)),
        (slice(0, 2), slice(0, 40), slice(0, 16)),
        (slice(0, 1), slice(3, 4), slice(5, 6)),
    ]:
        with pytest.raises(Exception):  # noqa: B017, PT011
            array[selection]
        with pytest.raises(StoreError, match=re.escape(f"{str(damaged)!r} is damaged: ")):
            direct(array)[selection]


@pytest.mark.parametrize(("zarr_format", "name"), COMPRESSORS)
def test_values_that_look_as_if_nothing_had_been_decoded(zarr_format, name, tmp_path):
    values = np.full((2, 40, 16), UNTOUCHED, np.uint8)
    options = {"zarr_format": zarr_format, "compressors": COMPRESSORS[zarr_format, name]}
    array = stored(tmp_path / "image", values, (2, 20, 16), **options)
    for rows in (slice(0, 20), slice(3, 4), slice(0, 40)):
        assert_same_part(array, (slice(0, 2), rows, slice(0, 16)))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_chunks_that_may_not_be_read_are_errors(tmp_path):
    array = stored(tmp_path / "image", some_values())
    file_of(tmp_path / "image", array).chmod(0)
    with pytest.raises(PermissionError):
        direct(array)[(slice(0, 2), slice(0, 5), slice(0, 4))]


# Places


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["plain", "with spaces", "Gewebe-größe µm 組織", "a%20b", "é"])
def test_folders_of_any_name_and_nested_groups(name, zarr_format, tmp_path):
    values, root = some_values(), tmp_path / name / f"{name}.zarr"
    group = zarr.open_group(root, mode="w", zarr_format=zarr_format)
    inner = group.create_group("images").create_group(name)
    made = inner.create_array("0", shape=SHAPE, chunks=CHUNKS, dtype="u2", compressors=None)
    made[...] = values
    for array in (
        made,
        zarr.open_group(root, mode="r")[f"images/{name}/0"],
        zarr.open_group(root / "images", mode="r")[f"{name}/0"],
        zarr.open_array(root / "images" / name / "0", mode="r"),
        zarr.open_array(str(root), path=f"images/{name}/0", mode="r"),
    ):
        assert isinstance(direct(array), ZarrChunks)
        whole = tuple(slice(0, size) for size in SHAPE)
        np.testing.assert_array_equal(direct(array)[whole], values)
    assert_right_numbers(made, values)


def test_relative_paths(tmp_path, monkeypatch):
    values = some_values()
    stored(tmp_path / "image", values)
    monkeypatch.chdir(tmp_path)
    assert_right_numbers(zarr.open_array("image", mode="r"), values)


def test_read_only_folders(tmp_path):
    values = some_values()
    array = stored(tmp_path / "image", values, compressors=codecs.ZstdCodec())
    folders = [path for path in (tmp_path / "image").rglob("*") if path.is_dir()]
    try:
        for path in folders:
            path.chmod(0o555)
        assert_right_numbers(array, values)
    finally:
        for path in folders:
            path.chmod(0o755)


# Stores that answer at once


@pytest.mark.parametrize(("zarr_format", "name", "dtype"), KINDS)
def test_parts_of_arrays_in_memory(zarr_format, name, dtype):
    values, store = some_values(dtype), zarr.storage.MemoryStore()
    options = {"compressors": COMPRESSORS[zarr_format, name], "zarr_format": zarr_format}
    array = zarr.create_array(
        store, name="a/b", data=values, chunks=CHUNKS, fill_value=1, **options
    )
    del store._store_dict[f"a/b/{array.metadata.encode_chunk_key((0, 1, 0))}"]
    values[:2, 5:10, :4] = 1
    assert isinstance(direct(array), ZarrChunks)
    for part in [(slice(0, 3),) * 3, (slice(0, 2), slice(5, 10), slice(0, 4)), (slice(1, 3),) * 3]:
        assert_same_part(array, part)
        np.testing.assert_array_equal(direct(array)[part], values[part])


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        *((layout, {}) for layout in LAYOUTS),
        *(("zlib tiles", {"maxworkers": number}) for number in (1, 2)),
    ],
    ids=str,
)
def test_parts_of_a_tiff_that_tifffile_opens_as_zarr(layout, options, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = some_values(shape=(3, 101, 83))
    layout = dict(LAYOUTS[layout])
    order = {key: layout.pop(key) for key in ("byteorder", "bigtiff") if key in layout}
    tifffile.imwrite(tmp_path / "a.tif", values, **order, **layout, **GRAY)
    with tifffile.imread(tmp_path / "a.tif", aszarr=True, **options) as store:
        array = zarr.open_array(store, mode="r")
        assert isinstance(direct(array), ZarrChunks)
        for part in [(slice(0, 3), slice(0, 101), slice(0, 83)), (slice(1, 2),) * 3]:
            assert_same_part(array, part)
            np.testing.assert_array_equal(direct(array)[part], values[part])
        assert_right_numbers(array, values)


def test_a_tiff_that_was_cut_short_is_an_error(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    file = tmp_path / "a.tif"
    layout = {"compression": "zlib", "rowsperstrip": 1, **GRAY}
    tifffile.imwrite(file, some_values(shape=(3, 64, 64)), **layout)
    with tifffile.imread(file, aszarr=True) as store:
        array = zarr.open_array(store, mode="r")
        file.write_bytes(file.read_bytes()[:-300])
        with pytest.raises(Exception):  # noqa: B017, PT011 - zlib's own
            # In this thread: another might read on, and open the file again behind the test.
            an_image(da.from_zarr(array)).pxprep.blur(1).compute(scheduler="synchronous")


# What is left to zarr


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_what_needs_more_than_a_codec_is_left_to_zarr(kind, tmp_path):
    values, options = some_values(), {"chunks": CHUNKS, **LEFT_ALONE[kind]}
    array = stored(tmp_path / "image", values, **options)
    assert direct(array) is array
    assert_right_numbers(array, values)


def test_other_stores_are_left_to_zarr(tmp_path):
    values = some_values()
    with zarr.storage.ZipStore(tmp_path / "image.zip", mode="w") as store:
        zarr.create_array(store, data=values, chunks=CHUNKS)
    with zarr.storage.ZipStore(tmp_path / "image.zip", mode="r") as store:
        array = zarr.open_array(store, mode="r")
        assert direct(array) is array
        assert_right_numbers(array, values)


class Inverting(zarr.storage.LocalStore):
    """A store in a folder whose files are not what it gives: chunks are written inverted."""

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is None or "zarr.json" in key:
            return found
        return prototype.buffer.from_bytes(bytes(~np.frombuffer(found.to_bytes(), "u1")))

    async def set(self, key, value):
        if "zarr.json" not in key:
            value = type(value).from_bytes(bytes(~np.frombuffer(value.to_bytes(), "u1")))
        await super().set(key, value)


def test_stores_that_change_what_is_in_the_folder_are_left_to_zarr(tmp_path):
    values = some_values()
    array = zarr.create_array(
        Inverting(tmp_path / "image"),
        shape=SHAPE,
        chunks=CHUNKS,
        dtype="u2",
        compressors=None,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    np.testing.assert_array_equal(array[...], values)
    assert_right_numbers(array, values)


def test_arrays_without_axes_and_things_that_are_no_arrays(tmp_path):
    alone = zarr.create_array(tmp_path / "alone", shape=(), dtype="u2")
    alone[...] = 5
    group = zarr.open_group(tmp_path / "group", mode="w")
    for value in (alone, group, alone.store, None, 3, "zarr", np.arange(3), zarr, zarr.Array):
        assert direct(value) is value


def test_chunks_of_several_sizes_are_left_to_zarr(tmp_path):
    values = some_values()
    try:
        with zarr.config.set({"array.rectilinear_chunks": True}):
            array = zarr.create_array(
                tmp_path / "image", shape=SHAPE, chunks=[[3], [5, 8], [4, 7]], dtype="u2"
            )
    except (TypeError, ValueError):
        pytest.skip("this zarr has no such chunks")
    array[...] = values
    assert direct(array) is array


def test_functions_of_the_user_get_the_array_that_they_were_given(tmp_path):
    values = some_values()
    array = dask.delayed(stored(tmp_path / "image", values, (3, 5, 11)))

    def load(array, number):
        return array.blocks[0, number, 0].astype(array.attrs.get("dtype", "u2"))

    rows = [
        da.from_delayed(dask.delayed(load)(array, number), (3, size, 11), "u2")
        for number, size in enumerate((5, 5, 3))
    ]
    lazy = an_image(da.concatenate(rows, axis=1))
    np.testing.assert_array_equal(lazy.values, values)
    assert_same_bits(lazy.pxprep.preprocess(), an_image(values).pxprep.preprocess())


@pytest.mark.parametrize(
    "compressor", [None, codecs.ZstdCodec(), codecs.BloscCodec()], ids=["none", "zstd", "blosc"]
)
def test_functions_of_the_user_may_write_to_the_blocks_that_they_get(compressor, tmp_path):
    values = some_values("f4")

    def double(block):
        block *= 2
        return block

    array = stored(tmp_path / "image", values, compressors=compressor)
    empty = np.empty((0, 0, 0), "f4")
    lazy = an_image(da.from_zarr(array).map_blocks(double, dtype="f4", meta=empty))
    np.testing.assert_array_equal(lazy.values, values * 2)
    assert_same_bits(lazy.pxprep.preprocess(), an_image(values * 2).pxprep.preprocess())
