"""Programs on any window of pixels in pieces, and graphs of few tasks that run them on blocks."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import dask
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.core import flatten
from hypothesis import given, settings
from hypothesis import strategies as st

from counted_images import counted_array, image_of, some_values
from oracle import assert_same_bits
from pxprep.engine import programs
from pxprep.engine.programs import Program
from pxprep.engine.windows import Pixels, Window
from pxprep.steps.arcsinh import TakeArcsinh
from pxprep.steps.blur import BlurEach
from pxprep.steps.clip import ClipAbove
from pxprep.steps.log1p import TakeLog1p
from pxprep.steps.minmax import BringToUnitRange
from pxprep.steps.percentile_clip import ClipBetween
from pxprep.steps.remove_hot_pixels import CoolHotPixels
from pxprep.steps.subtract_background import SubtractConstant, SubtractOpening
from pxprep.steps.sum_mask import KeepAbove
from pxprep.steps.sum_norm import DivideBySums

F4 = np.dtype("float32")

# Programs


@st.composite
def operations(draw):
    """An operation on three channels, and the numbers that it takes."""
    scales = st.sampled_from([0.25, 1.0, 3.3, 77.0])
    three = st.tuples(scales, scales, scales)
    sigmas = st.tuples(*[st.sampled_from([0, 0.1, 0.4, 1, 2.2])] * 3)
    limits = st.sampled_from([0.0, 0.9, 30.0])
    radii = st.tuples(*[st.sampled_from([0, 1, 3, 8])] * 3)
    ends = three.map(lambda low: np.array([low, np.array(low) + 20]))
    return draw(
        st.one_of(
            st.tuples(st.just(programs.Divide()), three.map(np.array)),
            st.tuples(sigmas.map(BlurEach), st.none()),
            st.tuples(st.just(KeepAbove()), limits.map(np.array)),
            st.tuples(st.just(DivideBySums()), st.none()),
            st.tuples(three.map(ClipAbove), st.none()),
            st.tuples(three.map(TakeArcsinh), st.none()),
            st.tuples(st.just(TakeLog1p()), st.none()),
            st.tuples(three.map(CoolHotPixels), st.none()),
            st.tuples(three.map(SubtractConstant), st.none()),
            st.tuples(radii.map(SubtractOpening), st.none()),
            st.tuples(st.just(ClipBetween()), ends),
            st.tuples(st.just(BringToUnitRange()), ends),
        )
    )


def in_pieces(block, rows, columns, runs):
    """`block` cut behind the given rows, columns and channels."""
    rows, columns, runs = (
        list(pairwise([0, *sorted(set(cut)), size]))
        for cut, size in zip((rows, columns, runs), (*block.shape[2:], len(block)), strict=True)
    )
    pieces = [
        (c, Window(top, bottom, left, right), block[c:d, :, top:bottom, left:right].copy())
        for top, bottom in rows
        for left, right in columns
        for c, d in runs
    ]
    return Pixels(pieces, len(block))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(operations(), max_size=5), st.sampled_from(["f4", "f8", "u2"]))
def test_a_program_has_the_same_bits_on_strips_of_any_window_and_pixels_in_pieces(
    data, chosen, kind
):
    height, width = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    block = some_values(kind, (3, 2, height, width))
    if kind != "u2":
        block[np.random.default_rng(0).random(block.shape) < 0.02] = np.nan
    steps, numbers = zip(*chosen, strict=True) if chosen else ((), ())
    program = Program(tuple(steps), np.dtype("f8" if kind == "f8" else "f4"), height, width)
    everything, whole = Window(0, height, 0, width), block
    for step, number in chosen:
        alone = replace(program, operations=(step,))
        whole = alone.run(Pixels.of(whole), everything, [number])

    def inside(size):
        return data.draw(st.lists(st.integers(1, size - 1), max_size=4)) if size > 1 else []

    pixels = in_pieces(block, inside(height), inside(width), inside(3))
    top, bottom = sorted(data.draw(st.sets(st.integers(0, height), min_size=2, max_size=2)))
    left, right = sorted(data.draw(st.sets(st.integers(0, width), min_size=2, max_size=2)))
    window = Window(top, bottom, left, right)
    expected = whole[:, :, top:bottom, left:right]
    assert program.run(pixels, window, numbers).tobytes() == expected.tobytes()

    targets = [np.empty((run, 2, *window.shape), whole.dtype) for run in (1, 2)]
    with patch.object(programs, "STRIP_VALUES", 1):
        assert len(list(program.strips(window, pixels))) >= window.shape[0] / max(
            1, 4 * program.depth
        )
        program.write(pixels, window, numbers, targets)
    assert np.concatenate(targets).tobytes() == expected.tobytes()


# Graphs

CHUNKS = [{"x": 1}, {"z": 1, "c": 2}, {"y": (1, 5, 1, 6), "x": (10, 1)}]
DIMS = {"czyx": "float32", "yxzc": "uint16"}


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_lazy_results_have_the_bits_of_eager_ones(chunks, dims, make_image):
    # The kernel is wider than most of the chunks.
    nan = 0.05 * DIMS[dims].startswith("float")
    image = make_image(DIMS[dims], (3, 2, 13, 11), nan=nan).transpose(*dims)
    lazy = image.chunk(chunks).pxprep.preprocess(sigma={"CD3": 0.3, ...: 1.5}, cap_max=1)
    assert lazy.dims == image.dims
    assert lazy.chunksizes == image.chunk(chunks).chunksizes
    assert_same_bits(lazy, image.pxprep.preprocess(sigma={"CD3": 0.3, ...: 1.5}, cap_max=1))


def step_by_step(image):
    normed = image.pxprep.quantile_norm()
    masked = normed.pxprep.blur().pxprep.sum_mask(reference=normed)
    return masked.pxprep.sum_norm().pxprep.post_norm()


def tasks_of(image, source):
    return len(set(image.__dask_graph__()) - set(source.__dask_graph__()))


@pytest.mark.parametrize("blocks", [2, 5, 12])
def test_a_block_needs_few_tasks(blocks):
    source, _ = counted_array(some_values(shape=(3, 64 * blocks, 64 * blocks)), (3, 64, 64))
    image = image_of(source)
    # Ten passes over the source (a first look; for each of three statistics one that gathers, and
    # two that count digits if that was in vain), each of which merges eight results at a time; the
    # edges that blurs read, and the result.
    per_block = 10 * (1 + 1 / 8) + 1 + 1
    # Of older versions of Dask a source made by tasks gets names of its own, and counts.
    per_block += 3 * (dask.__version__ < "2024.12")
    n_tasks = tasks_of(image.pxprep.preprocess(), source)
    assert n_tasks <= per_block * blocks**2 + 120
    assert tasks_of(step_by_step(image), source) <= n_tasks


@pytest.mark.parametrize("process", [step_by_step, lambda image: image.pxprep.preprocess()])
def test_no_task_makes_an_image_between_the_source_and_the_result(process):
    source, _ = counted_array(some_values(shape=(3, 256, 320)), (3, 64, 80))
    result, large = process(image_of(source)), Counter()

    def look_at(key, value, *_):
        if isinstance(value, np.ndarray) and value.dtype == F4 and value.size >= 64 * 80:
            large[str(key)] += 1

    with Callback(posttask=look_at):
        result.data.persist(scheduler="synchronous")
    wanted = {str(key) for key in flatten(result.__dask_keys__())}
    assert {key for key in large if not key.startswith("('array-")} == wanted
