"""A flat background, whose blurred sums equal the threshold but for rounding, is dropped."""

from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import binary_dilation

import oracle
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Pipeline, ops
from pxprep.engine import blocks

SIZE, RADIUS = 64, 8
FLOATS = ["float32", "float64"]
# The offset of each channel is another one, so that sums are added up from unlike parts.
SCALES = np.array([1, 3, 7, 11, 2])[:, np.newaxis]
CASES = [
    *product((3, 9), ("uint16", *FLOATS), (1,), range(2), (True,)),
    *product((9,), ("uint16", *FLOATS), (3,), range(2), (False,)),
]


def flat(offset, dtype, seed, has_signal):
    """An image of a constant in each channel, where it is that after a blur, too, and signal."""
    rng = np.random.default_rng(seed)
    values = np.broadcast_to(offset[..., np.newaxis], (5, SIZE, SIZE)).copy()
    signal = np.zeros((SIZE, SIZE), bool)
    if has_signal:
        y, x = rng.integers(SIZE // 4, SIZE // 2, 2)
        signal[y : y + 20, x : x + 14] = True
        values[:, signal] += SCALES * rng.poisson(rng.gamma(2, 10, (5, signal.sum())))
    values = values if dtype == "uint16" else 0.1 * values
    image = xr.DataArray(values.astype(dtype), dims=("c", "y", "x"))
    square = np.ones((2 * RADIUS + 1,) * 2, bool)
    return image, ~binary_dilation(signal, square), signal


@pytest.mark.parametrize(("offset", "dtype", "n_fovs", "seed", "has_signal"), CASES)
def test_a_flat_background_is_dropped(offset, dtype, n_fovs, seed, has_signal):
    made = [flat(offset + seed * SCALES, dtype, fov, has_signal) for fov in range(n_fovs)]
    pipeline = Pipeline.sparrow(norm_sum=False, q_post=None)
    results = pipeline.fit_transform([image for image, *_ in made])
    for result, (_, background, signal) in zip(results, made, strict=True):
        kept = np.isfinite(result.values).all(axis=0)
        assert not kept[background].any()
        assert not has_signal or kept[signal].mean() > 0.9
    if n_fovs == 1:
        expected = oracle.preprocess(
            plain(made[0][0]), norm_sum=False, q_post=None, blur=lambda image, _: blurred(image)
        )
        assert_agrees(results[0], expected)


def blurred(values):
    return plain(ops.blur(xr.DataArray(values, dims=("c", "y", "x"))))


@pytest.mark.parametrize("dtype", ["uint16", *FLOATS])
def test_all_ways_draw_the_line_at_the_same_pixels(dtype):
    images = [flat(9 * SCALES, dtype, fov, True)[0] for fov in range(3)]
    lazy = [image.chunk({"c": 2, "y": 25, "x": 64}) for image in images]
    pipeline = Pipeline.sparrow(norm_sum=False, q_post=None)
    normed = ops.quantile_norm(images)
    ways = (
        pipeline.fit_transform(lazy),
        pipeline.fit(lazy).transform(images),
        ops.sum_mask(ops.blur(normed), 5, reference=normed),
    )
    for result in ways:
        for one, expected in zip(result, pipeline.fit_transform(images), strict=True):
            assert_same_bits(one, expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sigma", [0.7, 3, 20])
def test_rounding_is_less_than_a_tie(dtype, sigma):
    """So much less that it stays so with other numbers; next to missing pixels, too."""
    rng = np.random.default_rng(0)
    for n_channels in (1, 3, 60):
        levels = rng.integers(1, 4000, (n_channels, 32)) / rng.gamma(2, 500, (n_channels, 1))
        values = np.tile(levels[..., np.newaxis, np.newaxis], (5, 5)).astype(dtype)
        image = xr.DataArray(values, dims=("c", "z", "y", "x"))
        sums = ops.pixel_sum(image)
        for one in (image, image.where((image.y != 2) | (image.x != 1))):
            error = abs(ops.pixel_sum(ops.blur(one, sigma)) / sums - 1).max()
            assert error < blocks.TIE * np.finfo(dtype).eps / 2


def one_row(values, dtype):
    return xr.DataArray(np.array([[values]], dtype), dims=("c", "y", "x"))


@pytest.mark.filterwarnings("ignore:sum_mask. negative values")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("threshold", [0.7, -0.7, 5e-5, 3e7 / 7])
def test_what_exceeds_the_threshold_by_rounding_is_a_tie(dtype, threshold):
    """Of a reference; a threshold of these sums themselves, or a given one, is met exactly."""
    tie = 2.0**-18 if dtype == "float32" else 2.0**-47
    steps = np.array([-1, 0, 0.5, 0.97, 1.05, 2, 1e3])
    image = one_row(threshold + abs(threshold) * tie * steps, dtype)
    reference = one_row([threshold], dtype)
    threshold = float(reference[0, 0, 0])
    result = ops.sum_mask(image, 50, reference=reference)
    assert np.isfinite(plain(result)).ravel().tolist() == [False] * 4 + [True] * 3
    assert_agrees(result, oracle.sum_mask(plain(image), 50, reference=plain(reference)))
    for exact in (ops.sum_mask(image, threshold=threshold), ops.sum_mask(image, 100 / 6)):
        assert np.isfinite(plain(exact)).ravel().tolist() == [False] * 2 + [True] * 5


@pytest.mark.parametrize("level", [5, 2**18, 2**20 + 3, 2**24 - 2])
@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_numbers_are_not_rounded(level, dtype):
    image = one_row([level - 1, level, level + 1], dtype)
    result = ops.sum_mask(image, 50, reference=image)
    assert np.isfinite(plain(result)).ravel().tolist() == [False, False, True]
    assert_agrees(result, oracle.sum_mask(plain(image), 50, reference=plain(image)))
