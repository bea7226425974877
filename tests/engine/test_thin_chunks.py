"""Lazy images in thin chunks: joined for the work, with the numbers of the same image in memory."""

import dask.array as da
import pytest

import pxprep
from counted_images import counted
from oracle import assert_same_bits
from pxprep.engine import sources
from pxprep.engine.sources import in_thick_chunks

SHAPE = (2, 150, 140)
STEPS = {"q": 99, "sigma": 2, "q_sum": 5}


@pytest.fixture
def thin_chunks():
    """As they are for users, not as in other tests."""


@pytest.fixture
def image(make_image):
    return make_image(shape=SHAPE, nan=0.05)


def joined(sizes, beside=(100,)):
    """The sizes along y of an image in chunks, and of those along x, once it is taken in."""
    image = da.zeros((1, sum(sizes), sum(beside)), chunks=((1,), tuple(sizes), tuple(beside)))
    _, rows, _ = in_thick_chunks(image, "cyx").chunks
    return rows


def test_thin_chunks_are_joined_up_to_a_size():
    assert joined([1] * 600) == (256, 256, 88)
    assert joined([8] * 20) == (160,)
    assert joined([63] * 5) == (252, 63)
    # No more pixels than a block should have; but no thinner than chunks that are left alone.
    assert joined([1] * 600, [2048]) == (128,) * 4 + (88,)
    assert joined([1] * 130, [100_000]) == (64, 64, 2)


@pytest.mark.parametrize("sizes", [[64] * 3, [1024, 1024, 12], [12, 1024, 12], [40]], ids=str)
def test_other_chunks_stay(sizes):
    assert joined(sizes) == tuple(sizes)


def test_thin_chunks_among_others_are_joined():
    assert joined([300, 1, 1, 1, 64, 2, 3, 500, 7]) == (300, 3, 64, 5, 500, 7)


def test_axes_in_any_order():
    array = da.zeros((90, 3, 80), chunks=(1, 1, 2))
    assert in_thick_chunks(array, "xcy").chunks == ((90,), (1, 1, 1), (80,))
    assert in_thick_chunks(array, "cxy").chunks == ((1,) * 90, (3,), (80,))


THIN = {
    "strips of one row": {"c": 1, "y": 1, "x": -1},
    "strips of 9 rows": {"c": 2, "y": 9, "x": -1},
    "columns": {"c": 1, "y": -1, "x": 3},
    "tiles": {"c": -1, "y": 9, "x": 7},
    "of many sizes": {"c": 1, "y": (1,) * 30 + (64, 1, 2, 3, 50), "x": (100, 40)},
}


@pytest.mark.parametrize("most", [(256, 1 << 18), (40, 1 << 12)], ids=["one block", "blocks"])
@pytest.mark.parametrize("chunks", THIN.values(), ids=THIN.keys())
def test_the_bits_are_those_of_the_image_in_memory(chunks, most, image, monkeypatch):
    monkeypatch.setattr(sources, "THICK", most[0])
    monkeypatch.setattr(sources, "THICK_PIXELS", most[1])
    expected = image.pxprep.preprocess(**STEPS)
    lazy = image.chunk(chunks)
    made = (lazy + 0).assign_attrs(lazy.attrs)  # which older versions of xarray drop
    for thin in (lazy, made, lazy.transpose("x", "c", "y")):
        found = thin.pxprep.preprocess(**STEPS)
        assert_same_bits(found.transpose("c", "y", "x").compute(), expected)
    fitted = pxprep.Pipeline.sparrow(**STEPS).fit(lazy)
    assert_same_bits(fitted.transform(image), expected)


def test_one_task_reads_many_chunks(image):
    lazy, reads = counted(image.values, (1, 1, 140))
    blurred = lazy.pxprep.blur(2)
    assert blurred.chunks == ((1, 1), (150,), (140,))
    array = blurred.data
    ours = [key for key in dict(array.__dask_graph__()) if key[0].startswith(array.name)]
    assert len(ours) == 3  # the block, and its two channels
    array.compute()
    assert set(reads.values()) == {1}
    assert len(reads) == 300


def test_a_mask_in_other_thin_chunks(image):
    mask = image.isel(c=0, drop=True) > 10
    expected = image.pxprep.preprocess(**STEPS, where=mask)
    lazy = image.chunk({"y": 1}).pxprep.preprocess(**STEPS, where=mask.chunk({"x": 1}))
    assert_same_bits(lazy.compute(), expected)


def test_what_is_read_of_an_image_is_shared(image):
    """The same array is the same source each time it is taken in, until it is another one."""
    strips = image.chunk({"y": 1}).data
    once = in_thick_chunks(strips, "cyx")
    assert in_thick_chunks(strips, "cyx") is once
    assert in_thick_chunks(strips, "cxy") is not once
    strips[0, 0, 0] = 1  # the same object has another graph
    assert in_thick_chunks(strips, "cyx") is not once
