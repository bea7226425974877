"""Samples of pixels: what is drawn, uniform, nested, whatever the chunks."""

import hashlib
import itertools

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from pixel_rows import CHUNKS, check, expected_table, flat, rows_of
from pxprep import pixel_table
from pxprep.engine import backends


@pytest.mark.parametrize("fraction", [0.3, 0.999])
def test_a_sample_is_what_philox_draws(cohort, fraction, small_strips):
    """One draw for each pixel, dropped or not, in the order of the table."""
    key = hashlib.blake2b(b"7 b", digest_size=16).digest()
    draws = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(11 * 30)
    taken = (draws / 2**64 < fraction).reshape(11, 30)
    expected = expected_table({"b": cohort["b"].where(xr.DataArray(taken, dims=("y", "x")))})
    check(pixel_table({"b": cohort["b"]}, fraction=fraction, seed=7), expected)
    check(pixel_table({"b": cohort["b"].chunk(y=3)}, fraction=fraction, seed=7), expected)


PROMISED = [(0, 1), (6, 16), (7, 1), (11, 14), (16, 4), (17, 1)]


def test_a_sample_stays_what_it_is():
    """These rows are a promise: the same in later versions and on other machines."""
    table = pixel_table(flat((20, 20)), fraction=0.02, seed=0)
    assert list(zip(table["y"], table["x"], strict=True)) == PROMISED


@pytest.mark.parametrize("chunks", [None, CHUNKS, {"y": 1}, {"y": 23, "x": 1}, {"y": (2, 20, 1)}])
def test_samples_do_not_depend_on_chunks(make_image, chunks, monkeypatch):
    image = make_image(nan=0.1)
    expected = pixel_table(image, fraction=0.4, seed=5)
    other = image if chunks is None else image.chunk(chunks)
    for n_bytes in (1, 1000, 10**9):
        monkeypatch.setattr(backends, "BAND_BYTES", n_bytes)
        pd.testing.assert_frame_equal(pixel_table(other, fraction=0.4, seed=5), expected)


@pytest.mark.parametrize("chunks", [{"z": 1, "y": 2}, {"z": 3, "y": 4, "x": 5}])
def test_samples_of_volumes(make_image, chunks, small_strips):
    image = make_image(shape=(2, 3, 9, 11), nan=0.1)
    expected = pixel_table(image.chunk(y=-1), fraction=0.4, seed=5)
    pd.testing.assert_frame_equal(pixel_table(image.chunk(chunks), fraction=0.4, seed=5), expected)


def test_samples_do_not_depend_on_other_images_channels_or_workers(cohort):
    expected = pixel_table(cohort, fraction=0.4, seed=5)
    turned = pixel_table(dict(reversed(cohort.items())), fraction=0.4, seed=5)
    assert rows_of(turned) == rows_of(expected)
    alone = pixel_table(cohort["b"].rename("b"), fraction=0.4, seed=5)
    assert rows_of(alone) == {row for row in rows_of(expected) if row[0] == "b"}
    others = {name: image.isel(c=[2, 1]) for name, image in cohort.items()}
    assert rows_of(pixel_table(others, fraction=0.4, seed=5)) == rows_of(expected)
    for how in ({"scheduler": "synchronous"}, {"num_workers": 3}):
        with dask.config.set(how):
            lazy = {name: image.chunk(CHUNKS) for name, image in cohort.items()}
            pd.testing.assert_frame_equal(pixel_table(lazy, fraction=0.4, seed=5), expected)


def test_smaller_samples_are_parts_of_larger_ones(cohort):
    fractions = (0.05, 0.2, 0.21, 0.9, 1)
    samples = [rows_of(pixel_table(cohort, fraction=part, seed=3)) for part in fractions]
    for smaller, larger in itertools.pairwise(samples):
        assert smaller < larger


def test_seeds_and_names_give_samples_of_their_own():
    images = {"a": flat((200, 200)), "b": flat((200, 200))}
    first = pixel_table(images, fraction=0.3, seed=1)
    other = pixel_table(images, fraction=0.3, seed=2)
    one, two = ({row[1:] for row in rows_of(first) if row[0] == name} for name in "ab")
    for a, b in ((one, two), (rows_of(first), rows_of(other))):
        # Independent samples have in common what chance gives.
        assert len(a & b) / len(a) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("size", [(512, 512), (512, 513), (3, 80_000)])
def test_samples_are_uniform(size):
    """Their number, their places in the large and in the small, and those of neighbours."""
    table = pixel_table(flat(size), fraction=0.25, seed=4)
    n_pixels = size[0] * size[1]
    assert stats.binomtest(len(table), n_pixels, 0.25).pvalue > 1e-3
    taken = np.zeros(size)
    taken[table["y"], table["x"]] = 1
    for blocks in ((2, 2), (1, 16), (3, 8)):
        parts = [
            np.array_split(rows, blocks[1], axis=1) for rows in np.array_split(taken, blocks[0])
        ]
        counts = np.array([[part.sum(), part.size] for row in parts for part in row])
        assert stats.chisquare(counts[:, 0], len(table) * counts[:, 1] / n_pixels).pvalue > 1e-3
    for period in (2, 3, 4, 7):
        found = np.bincount((table["y"] * size[1] + table["x"]) % period, minlength=period)
        assert stats.chisquare(found).pvalue > 1e-3
    for shift in ((0, 1), (1, 0), (1, 1), (0, 4)):
        near = taken * np.roll(taken, shift, axis=(0, 1))
        assert near.mean() == pytest.approx(0.0625, abs=0.003)
