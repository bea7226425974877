"""NumPy images that are fitted and transformed at once: the bits of one after the other."""

import itertools
import tracemalloc

import numpy as np
import pytest

import pxprep
from counted_images import image_of, some_values, with_infinities
from oracle import assert_same_bits
from pxprep import Pipeline

# NumPy images at once

# Some images here have nothing, or infinities, in a channel: that is said, and not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")

STEPS = {
    "q": lambda pipeline: pipeline.quantile_norm(98),
    "b": lambda pipeline: pipeline.blur(0.7),
    "m": lambda pipeline: pipeline.sum_mask(10),
    "r": lambda pipeline: pipeline.sum_mask(10, reference="input"),
    "s": lambda pipeline: pipeline.sum_norm(),
    "p": lambda pipeline: pipeline.post_norm(99),
    "c": lambda pipeline: pipeline.clip(0.8),
}

ORDERS = [
    *("q", "b", "bq", "qbmspc", "qmbsp", "qbpb", "qbr", "rbq", "mbsp", "bqbqc", "sb"),
]


def pipeline_of(order):
    pipeline = Pipeline()
    for letter in order:
        pipeline = STEPS[letter](pipeline)
    return pipeline


@pytest.mark.parametrize("order", ORDERS)
def test_at_once_has_the_bits_of_fit_and_transform(order):
    pipeline = pipeline_of(order)
    for dtype in ("f8", "u2") if len(order) % 2 else ("f4", "u2"):
        values = some_values(dtype, (3, 70, 45))
        if dtype != "u2":
            values[0, 5:9, 3], values[1, 7, 8:11] = np.nan, np.inf
        before = values.copy()
        values.flags.writeable = False
        image = image_of(values)
        at_once = pipeline.fit_transform(image)
        assert values.tobytes() == before.tobytes()
        assert not np.shares_memory(at_once.values, values)
        assert at_once.values.flags.writeable
        assert_same_bits(at_once, pipeline.fit(image).transform(image))


@pytest.mark.parametrize(("order", "pool"), [("qbmspc", "mean"), ("qbr", "pixels"), ("bq", None)])
def test_lists_at_once_have_the_bits_of_fit_and_transform(order, pool, monkeypatch):
    monkeypatch.setattr(pxprep.engine.backends, "LEAST_ROWS", 8)
    one = some_values(shape=(3, 50, 30))
    dims = ("y", "c", "x")
    images = [
        image_of(one),
        image_of(one),
        image_of(some_values("f8", (40, 3, 20), seed=1), dims),
        image_of(with_infinities("f4")[:, ::-1, ::2]),
    ]
    before = [image.values.copy() for image in images]
    pipeline = pipeline_of(order)
    at_once = pipeline.fit_transform(images, pool=pool)
    fitted = pipeline.fit(images, pool=pool)
    expected = fitted.transform(images)
    for made, other, image, values in zip(at_once, expected, images, before, strict=True):
        assert made.dims == image.dims
        assert image.values.tobytes() == values.tobytes()
        assert_same_bits(made, other)
    for first, second in itertools.combinations(at_once, 2):
        assert not np.shares_memory(first.values, second.values)


@pytest.mark.parametrize("order", ["bq", "qbmspc"])
def test_images_of_one_type_at_once_may_pool_their_pixels(order):
    # Each image is then measured by itself and with the others, in one pass.
    images = [image_of(some_values("f4", (3, rows, 40), seed=rows)) for rows in (30, 50)]
    pipeline = pipeline_of(order)
    expected = pipeline.fit(images, pool="pixels").transform(images)
    for made, other in zip(pipeline.fit_transform(images, pool="pixels"), expected, strict=True):
        assert_same_bits(made, other)


def peak_at_once(pipeline, image):
    tracemalloc.start()
    try:
        pipeline.fit_transform(image)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("memory_from_numpy")
@pytest.mark.parametrize(("dtype", "order"), [("u2", "qbmspc"), ("f4", "bq")])
def test_at_once_needs_little_more_than_its_result(dtype, order, monkeypatch):
    monkeypatch.setattr(pxprep.engine.programs, "STRIP_VALUES", 1 << 18)
    pipeline = pipeline_of(order)
    images = [image_of(some_values(dtype, (3, rows, 512))) for rows in (600, 1200, 3600)]
    _, small, large = (peak_at_once(pipeline, image) for image in images)  # the first compiles
    assert large - small < 1.4 * 4 * (images[2].size - images[1].size)
