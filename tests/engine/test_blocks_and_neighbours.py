"""What comes out of a block depends on the pixels around it, not on the pieces they come in."""

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from oracle import assert_agrees, assert_same_bits
from pxprep import Pipeline, ops
from pxprep.engine import backends, neighbours, passes, programs
from pxprep.engine.lazy import LazyChain
from pxprep.engine.sinks import Sink
from pxprep.engine.sources import Source
from pxprep.engine.windows import Window
from pxprep.steps.blur import BlurEach

STEPS = {
    "sum_norm": {},
    "sum_mask": {"q_sum": 20},
    "quantile_norm": {"q": 97},
    "blur": {"sigma": 1.2},  # reads 5 pixels around
    "remove_hot_pixels": {"threshold": 0.05},
    "subtract_background": {"radius": 2},  # 4 pixels
    "median": {"size": 5},
}
# What goes wrong where a pixel is seen twice: sums, and behind them what reads neighbours.
PAIRS = [names for names in permutations(STEPS, 2) if names[-1] in list(STEPS)[3:]]
SHAPE, SMALL = (2, 19, 16), (2, 6, 5)
# Blocks of single pixels, smaller than what is read around them, as large, and larger.
CHUNKS = [(1, 1, 1), (1, 3, 4), (2, 5, 16), (2, 19, 2), (1, 14, 12)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Bands, strips and tiles so small that their borders are everywhere."""
    monkeypatch.setattr(passes, "LEAST_VALUES", 50)
    monkeypatch.setattr(backends, "LEAST_ROWS", 7)
    monkeypatch.setattr(programs, "STRIP_VALUES", 64)
    monkeypatch.setattr(neighbours, "BLUR_TILE", (3, 4))
    monkeypatch.setattr(neighbours, "OPENING_TILE", (5, 6))


def values_of(shape=SHAPE):
    rng = np.random.default_rng(sum(shape))
    values = rng.gamma(2, 20, shape).astype("f4")
    values[rng.random(shape) < 0.1] = 0
    values[:, rng.random(shape[1:]) < 0.02] = np.nan
    return values


def image_of(array):
    dims = ("c", "z", "y", "x") if array.ndim == 4 else ("c", "y", "x")
    return xr.DataArray(array, dims=dims, coords={"c": list("pq")}, name="fov0")


def lazily(values, chunks):
    """A Dask image whose blocks are made by tasks, so that neighbours come as their edges."""
    return image_of(da.from_array(values, chunks=chunks) + np.float32(0))


def pipeline_of(names):
    pipeline = Pipeline()
    for name in names:
        pipeline = getattr(pipeline, name)(**STEPS[name])
    return pipeline


@cache
def expected(names, shape=SHAPE):
    """What the steps come to: the oracle, from step to step."""
    made = values_of(shape)
    for name in names:
        made = getattr(oracle, name)(made, **STEPS[name])
    return made


@cache
def in_one_piece(names, shape=SHAPE):
    """The same by functions on whole arrays, each of which has one piece: to the last bit."""
    made = image_of(values_of(shape))
    for name in names:
        made = getattr(ops, name)(made, **STEPS[name])
    assert_agrees(made, expected(names, shape), exact="blur" not in names)
    return made


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_what_reads_neighbours_behind_another_step(names):
    image, pipeline = image_of(values_of()), pipeline_of(names)
    assert_same_bits(pipeline.fit_transform(image), in_one_piece(names))
    assert_same_bits(pipeline.fit(image).transform(image), in_one_piece(names))
    made = lazily(values_of(), (1, 3, 4))
    for name in names:
        made = getattr(ops, name)(made, **STEPS[name])
    assert_same_bits(made, in_one_piece(names))


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(
    "names",
    [
        ("sum_mask", "remove_hot_pixels"),
        ("blur", "sum_mask", "sum_norm", "subtract_background", "quantile_norm"),
    ],
    ids="-".join,
)
def test_pipelines_on_blocks_of_any_size(names, chunks):
    shape = SHAPE if chunks != (1, 1, 1) else SMALL
    image, pipeline = lazily(values_of(shape), chunks), pipeline_of(names)
    assert_same_bits(pipeline.fit_transform(image), in_one_piece(names, shape))
    fitted = pipeline.fit(image_of(values_of(shape)))
    assert_same_bits(fitted.transform(image), in_one_piece(names, shape))
    for memory in (0, "1 GiB"):
        assert pipeline.fit(image, memory=memory) == fitted


def test_planes_have_their_own_neighbours():
    values = np.stack([values_of(), values_of()[:, ::-1]], axis=1)
    image = lazily(values, (1, 1, 4, 6))
    made = ops.blur(ops.sum_norm(image), 1.2)
    planes = [oracle.blur(oracle.sum_norm(values[:, z]), 1.2) for z in range(2)]
    assert_agrees(made.compute(), np.stack(planes, axis=1), exact=False)


def test_blocks_that_are_kept_are_those_that_are_made():
    """What one pass blurred is taken up by the next one, before and behind sums."""
    names = ("sum_mask", "blur", "sum_norm", "quantile_norm")
    image = image_of(values_of())
    assert_same_bits(pipeline_of(names).fit_transform(image), in_one_piece(names))


@dataclass(frozen=True, eq=False)
class Seen(Sink):
    """How often the pieces that a block gets hold each pixel that its program reads: once."""

    in_order = True

    def run_block(self, opened, window, where):
        pixels, reads = opened.pixels, opened.program.reads(window)
        seen = np.zeros((pixels.n_channels, *reads.shape), int)
        for channels, part, _ in pixels.within(reads):
            seen[channels, *part.within(reads)] += 1
        return seen.min(), seen.max()

    def merge(self, parts):
        low, high = zip(*parts, strict=True)
        return min(low), max(high)

    def finish(self, total):
        return np.array(total)


@pytest.mark.parametrize("sigma", [0.3, 1, 2, 9])
@pytest.mark.parametrize(
    "chunks",
    [(1, 1, 1), (2, 3, 4), (1, (1, 9, 1, 3, 5), (5, 1, 1, 9)), (2, 14, 6)],
    ids=str,
)
def test_a_block_gets_each_pixel_once(sigma, chunks):
    values = values_of(SMALL if chunks == (1, 1, 1) else SHAPE)
    array = backends.from_dims(lazily(values, chunks).data, "cyx")
    chain = LazyChain.of(array).then(BlurEach((sigma, sigma)))
    seen = chain._reduced("seen", Seen(), [None], (2,), np.dtype(int))
    assert seen.compute().tolist() == [1, 1]


def test_edges_of_windows_do_not_overlap():
    for height, width, depth in product(range(1, 9), range(1, 9), range(1, 10)):
        seen = np.zeros((height, width), int)
        window = Window(3, 3 + height, 5, 5 + width)
        for part in window.edges(depth):
            seen[part.within(window)] += 1
        y, x = np.ogrid[:height, :width]
        near = np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) < depth
        np.testing.assert_array_equal(seen, near)


def test_chained_calls_share_a_source():
    """One source, so that what is read is shared and steps run together on a block."""
    image = lazily(values_of(), (1, 14, 12))
    made = ops.blur(ops.sum_norm(image), 1.2)
    own = Source.of(image.data, "cyx")
    assert LazyChain.of(backends.from_dims(made.data, "cyx")).source is own
    assert Source.of(image.copy().data, "cyx") is own
