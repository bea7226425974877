"""Images in memory: passes over blocks, and which way a quantile is found."""

from dataclasses import dataclass

import dask
import numpy as np
import pytest
import xarray as xr

import oracle
from pxprep import ops
from pxprep.engine import brackets, measuring, passes, programs
from pxprep.engine.gathering import Bounds
from pxprep.engine.passes import ArrayChain, Pass, run
from pxprep.engine.programs import Divide, Operation
from pxprep.engine.quantiles import exact_quantiles
from pxprep.engine.sinks import Fill
from pxprep.engine.sources import Area
from pxprep.steps.arcsinh import Arcsinh
from pxprep.steps.blur import BlurEach

DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"]
QS = [0, 0.3, 50, 99, 99.97, 100]


def values(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    found = rng.gamma(0.7, 30, shape) * (rng.random(shape) < 0.6)
    if np.dtype(dtype).kind != "u":
        found -= 30 * (rng.random(shape) < 0.2)
    return np.clip(found, -128, 127).astype(dtype) if dtype == "int8" else found.astype(dtype)


@pytest.fixture(params=["few", "between bounds", "misled", "none sampled"])
def way(request, monkeypatch):
    """Each way in which quantiles are found; and blocks of a few rows."""
    monkeypatch.setattr(passes, "LEAST_VALUES", 200)
    if request.param != "few":
        monkeypatch.setattr(measuring, "FEW", 0)
    if request.param == "misled":
        monkeypatch.setattr(
            measuring, "_sample", lambda chain, where: [np.full((3, 1, 4, 4), 1e6)] * 9
        )
    if request.param == "none sampled":
        monkeypatch.setattr(measuring, "_sample", lambda chain, where: [])
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zeros", ["exclude", "include"])
def test_quantiles_are_numpys_whichever_way(way, dtype, zeros):
    image = values(dtype, (3, 1, 50, 41), 1)
    several = np.repeat(np.reshape(QS, (-1, 1)), 3, axis=1).astype(float)
    found = exact_quantiles([image], several, [[0]], zeros=zeros == "include")
    for row, q in zip(found.value[0], QS, strict=True):
        np.testing.assert_array_equal(row, oracle.quantile(image, q, zeros))
    np.testing.assert_array_equal(found.negative[0], (image < 0).sum(axis=(1, 2, 3)))


def test_a_result_is_kept_whole_where_too_much_would_be_gathered(monkeypatch):
    # In place, and in strips of a few rows: some are run before the values are found too many.
    image = np.random.default_rng(0).gamma(2, 3, (1, 1, 200, 30)).astype("f4")
    monkeypatch.setattr(passes, "LEAST_VALUES", 1)
    monkeypatch.setattr(programs, "STRIP_VALUES", 150)
    monkeypatch.setattr(measuring, "FEW", 0)
    arcsinh = Arcsinh(5.0).operation(["a"])
    for most in (1 << 20, 2000, 200, 0):
        monkeypatch.setattr(brackets, "MOST_GATHERED", most)
        monkeypatch.setattr(measuring, "bracket", lambda *_: Bounds(*np.array([[0.2], [1.4]])))
        chain = ArrayChain(image.copy(), is_own=True).then(arcsinh).keeping_result()
        found = exact_quantiles([chain], np.array([50.0]), [[0]])
        expected = np.arcsinh(image / np.float32(5))
        np.testing.assert_array_equal(found.value, oracle.quantile(expected, 50)[np.newaxis])
        np.testing.assert_array_equal(passes.begin_at_result(chain).source, expected)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_quantiles_of_all_pixels_of_several_images(way, dtype):
    images = [values(dtype, (3, 1, n, 20), n) for n in (7, 40, 23)]
    q = np.array([50, 99, 3.0])
    found = exact_quantiles(images, q, [[0], [1], [2], [0, 1, 2], [2, 0]])
    groups = [*images, *(np.concatenate(some, axis=2) for some in (images, images[::-2]))]
    for row, together in zip(found.value, groups, strict=True):
        np.testing.assert_array_equal(row, oracle.quantile(together, q))
    np.testing.assert_array_equal(
        found.counted, [(together != 0).sum(axis=(1, 2, 3)) for together in groups]
    )


@dataclass(frozen=True)
class Squares(Operation):
    """Says of which strips it makes the squares."""

    run_on: list

    def __call__(self, strip, numbers):
        self.run_on.append(strip.window)
        np.square(strip.block(), out=strip.block())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("q", [99.5, 60])
def test_an_image_is_run_once_for_all_groups_that_it_is_in(monkeypatch, q, masked):
    monkeypatch.setattr(passes, "LEAST_VALUES", 100)
    monkeypatch.setattr(programs, "STRIP_VALUES", 150)
    images = [values("float32", (3, 1, n, 20), n) for n in (23, 40)]
    masks = [np.random.default_rng(n).random((n, 20)) < 0.7 for n in (23, 40)]
    run_on = [[], []]
    chains = [
        ArrayChain(image).then(Squares(own)) for image, own in zip(images, run_on, strict=True)
    ]
    areas = [Area(mask, "yx", None, False) for mask in masks] if masked else []
    found = exact_quantiles(chains, np.full(3, q), [[0], [1], [0, 1]], areas=areas)
    for image, own in zip(images, run_on, strict=True):
        rows = sorted(row for window in own for row in range(window.top, window.bottom))
        assert rows == list(range(image.shape[2]))
    squares = [
        np.where(mask, image**2, np.nan) if masked else image**2
        for image, mask in zip(images, masks, strict=True)
    ]
    for row, together in zip(found.value, [*squares, np.concatenate(squares, axis=2)], strict=True):
        np.testing.assert_array_equal(row, oracle.quantile(together, q))


def test_samples_are_of_the_whole_image_if_it_is_in_several_groups(monkeypatch):
    monkeypatch.setattr(measuring, "FEW", 0)
    monkeypatch.setattr(programs, "STRIP_VALUES", 150)
    sampled, sample = [], measuring._sample

    def look_and_sample(opened, where):
        sampled.append(opened.pixels.pieces[0][1])
        return sample(opened, where)

    monkeypatch.setattr(measuring, "_sample", look_and_sample)
    images = [values("float32", (3, 1, n, 20), n) for n in (23, 40)]
    chains = [ArrayChain(image).then(Squares([])) for image in images]
    found = exact_quantiles(chains, np.full(3, 60), [[0], [1], [0, 1]])
    assert set(sampled) == {(0, 23, 0, 20), (0, 40, 0, 20)}
    squares = [image**2 for image in images]
    for row, together in zip(found.value, [*squares, np.concatenate(squares, axis=2)], strict=True):
        np.testing.assert_array_equal(row, oracle.quantile(together, 60))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_integers_are_counted_whatever_their_largest_value(dtype):
    ends = np.iinfo(dtype)
    for some in ([0, 0, 1], [ends.max, 0, 3], [ends.min, ends.max, 0], [ends.min, ends.min, 1]):
        image = np.array(some, dtype).reshape(1, 1, 1, 3).repeat(40_000, 3)
        found = exact_quantiles([image, image // 2], np.array([70.0]), [[0], [1], [0, 1]])
        groups = [image, image // 2, np.concatenate([image, image // 2], axis=3)]
        for row, together in zip(found.value, groups, strict=True):
            np.testing.assert_array_equal(row, oracle.quantile(together, 70))
        assert (found.infinite == 0).all()


def test_what_is_not_measured_is_not_seen(way):
    image = values("float32", (3, 50, 41), 2)
    mask = np.random.default_rng(3).random((50, 41)) < 0.3
    found = ops.quantile(
        xr.DataArray(image, dims=("c", "y", "x")), 90, where=xr.DataArray(mask, dims=("y", "x"))
    )
    np.testing.assert_array_equal(found, oracle.quantile(np.where(mask, image, np.nan), 90))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("least", [1, 300, 10**9])
def test_blocks_change_no_bit(monkeypatch, n_threads, least):
    monkeypatch.setattr(passes, "LEAST_VALUES", least)
    image = values("float32", (3, 2, 37, 23), 4)
    image[1, 0, 5, 6] = np.nan
    chain = ArrayChain(image)
    chain = chain.then(Divide(), np.array([3.0, 2.0, 0.7])).then(BlurEach((2.0, 0.0, 0.9)))
    opened = chain.opened
    whole = opened.values(opened.pixels.pieces[0][1])
    out = np.empty(chain.shape, chain.dtype)
    with dask.config.set(num_workers=n_threads):
        run([Pass(chain, (Fill(out),))])
    assert out.tobytes() == np.ascontiguousarray(whole).tobytes()


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (4, 4), (100, 37)])
def test_blocks_are_all_rows(monkeypatch, n, expected):
    monkeypatch.setattr(passes, "LEAST_VALUES", 1)
    blocks = ArrayChain(np.empty((3, 1, 37, 23))).blocks(n)
    assert len(blocks) == expected
    rows = [row for block in blocks for row in range(block.top, block.bottom)]
    assert rows == list(range(37))


def test_small_images_are_one_block():
    (block,) = ArrayChain(np.empty((3, 1, 64, 64))).blocks(8)
    assert block == (0, 64, 0, 64)


def test_an_error_in_a_pass_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(passes, "LEAST_VALUES", 1)
    chain = ArrayChain(np.ones((3, 1, 37, 23), "f4")).then(Divide(), "no numbers")
    with pytest.raises((TypeError, AttributeError)):
        run([Pass(chain, (Fill(np.empty((3, 1, 37, 23), "f4")),))])
