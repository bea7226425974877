"""The compiled blur against SciPy: sizes, types, layouts, parts, missing pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.ndimage import gaussian_filter

import oracle
from planes import F4, F8, FLOATS, LAYOUTS, assert_same_bits, nans, some_plane, whole
from pxprep.engine import neighbours
from pxprep.engine.kernels.blur import blur_inner, blur_radius, gaussian_taps, mirror, place_rows
from pxprep.engine.windows import Pixels, Window

SIGMAS = [0.1, 0.124, 0.125, 0.3, 0.6, 1, 1.99, 4, 12.5, 40]

SHAPES = [(1, 1), (1, 50), (50, 1), (3, 4), (2, 7), (70, 33), (131, 5)]


def blurred(plane, sigma, dtype, scale=None):
    pixels, window = whole(plane[np.newaxis, np.newaxis])
    height, width = plane.shape
    scale = None if scale is None else np.array([scale])
    sigmas = np.array([sigma])
    return neighbours.blur(pixels, window, sigmas, scale, dtype=dtype, height=height, width=width)[
        0, 0
    ]


def by_scipy(plane, sigma):
    return gaussian_filter(plane.astype(F8), sigma, mode="reflect", truncate=4)


def assert_near(found, expected):
    rounding = {F4: 2e-6, F8: 1e-13}[found.dtype]
    largest = np.nanmax(np.abs(expected), initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * largest)


@FLOATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blur_is_that_of_scipy_also_where_the_kernel_is_wider_than_the_image(shape, dtype):
    plane = some_plane(shape, dtype)
    for sigma in SIGMAS:
        found = blurred(plane, sigma, dtype)
        assert found.dtype == dtype
        assert_near(found, by_scipy(plane, sigma))


@settings(max_examples=40, deadline=None)
@given(
    nps.array_shapes(min_dims=2, max_dims=2, max_side=40),
    st.floats(0.1, 40),
    st.integers(0, 9),
)
def test_blur_is_that_of_scipy_for_any_size_and_sigma(shape, sigma, seed):
    plane = some_plane(shape, seed=seed)
    assert_near(blurred(plane, sigma, F8), by_scipy(plane, sigma))


@pytest.mark.parametrize("sigma", [0, 0.1, 20])
@pytest.mark.parametrize("name", ["float32", "float64", "uint16", "int16", "float16"])
def test_blur_takes_pixels_of_any_type_and_layout(name, sigma):
    plane = some_plane((30, 41)).astype(name)
    dtype = np.dtype(oracle.float_type(name))
    for laid_out in LAYOUTS.values():
        given_plane = laid_out(plane)
        before = given_plane.tobytes()
        found = blurred(given_plane, sigma, dtype)
        assert_same_bits(found, blurred(plane, sigma, dtype))
        assert given_plane.tobytes() == before
        assert_near(found, plane if sigma == 0 else by_scipy(plane, sigma))


@pytest.mark.parametrize("tile", [(1, 9), (3, 1), (64, 7), (1000, 1000)])
@pytest.mark.parametrize("share", [0, 0.01])
@pytest.mark.parametrize("sigma", [0.3, 1, 2.4])
def test_blur_does_not_depend_on_where_tiles_begin(sigma, share, tile, monkeypatch):
    plane = some_plane((150, 23), F4)
    plane[np.random.default_rng(1).random(plane.shape) < share] = np.nan
    expected = blurred(plane, sigma, F4)
    monkeypatch.setattr(neighbours, "BLUR_TILE", tile)
    assert_same_bits(blurred(plane, sigma, F4), expected)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([0.2, 0.7, 2, 9]), st.sampled_from([0, 0.05, 0.9]))
def test_blur_of_a_part_with_its_halo_has_the_bits_of_the_whole(data, sigma, share):
    height, width = data.draw(nps.array_shapes(min_dims=2, max_dims=2, max_side=30))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    plane = some_plane((height, width), F4)
    plane[np.random.default_rng(1).random(plane.shape) < share] = np.nan
    halo = blur_radius(sigma)
    window = Window(top, bottom, left, right)
    have = window.grown(halo, height, width)
    rows, columns = have.within(Window(0, height, 0, width))
    pixels = Pixels.of(plane[np.newaxis, np.newaxis, rows, columns], have)
    sigmas = np.array([sigma])
    (part,) = neighbours.blur(pixels, window, sigmas, dtype=F4, height=height, width=width)[0]
    assert_same_bits(part, blurred(plane, sigma, F4)[top:bottom, left:right])


def surround(plane, top, reach, radius, padded):
    """Fill `padded` with rows of `plane` from `top` on, and what surrounds them."""
    rows, width = len(padded) - 2 * reach, plane.shape[1]
    have = Window(top, top + rows, 0, width).grown(radius, *plane.shape)
    above, height = reach - (top - have.top), have.shape[0]
    one = plane.dtype.type(1)
    rows = plane.reshape(-1), have.top * width, width
    assert not place_rows(*rows, one, padded, above, reach, height, width)
    mirror(padded, reach - radius, above, above + height, reach, reach + width)


@pytest.mark.parametrize("sigma", [0.2, 1.3, 6])
def test_blur_of_each_row_by_the_kernels_alone_has_the_bits_of_the_whole(sigma):
    plane = some_plane((9, 14), F4)
    taps = gaussian_taps(sigma, F4)
    reach = taps.size - 1
    padded = np.full((2 + 2 * reach, 14 + 2 * reach), np.nan, F4)
    row = np.empty((1, 14), F4)
    for top, expected in enumerate(blurred(plane, sigma, F4)):
        # The last row may hold anything.
        surround(plane, top, reach, blur_radius(sigma), padded[:-1])
        blur_inner(padded, taps, np.empty((2, 14 + 2 * reach), F4), row, 0)
        assert_same_bits(row[0], expected)


@pytest.mark.parametrize("sigma", [0.3, 1, 5.2])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (40, 31)], ids=str)
def test_surroundings_are_mirrored_as_often_as_needed_and_zero_beyond_the_radius(shape, sigma):
    plane = some_plane(shape, F4)
    radius = blur_radius(sigma)
    reach = gaussian_taps(sigma, F4).size - 1
    padded = np.full([size + 2 * reach for size in shape], 7, F4)
    surround(plane, 0, reach, radius, padded)
    expected = np.pad(np.pad(plane, radius, mode="symmetric"), reach - radius)
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize("sigma", [0.05, 0.125, 0.3, 1, 1.125, 2, 40])
def test_taps_are_those_of_scipy_and_fill_whole_sweeps(sigma):
    taps = gaussian_taps(sigma, F8)
    impulse = np.zeros(2 * taps.size + 401)
    impulse[impulse.size // 2] = 1
    expected = gaussian_filter(impulse, sigma, mode="constant", truncate=4)
    side = expected[impulse.size // 2 :][: taps.size]
    np.testing.assert_allclose(taps, side, rtol=1e-14, atol=0)
    assert np.count_nonzero(expected) == 2 * blur_radius(sigma) + 1
    assert (taps.size - 1) % 4 == 0


# Blur of images with missing pixels


@FLOATS
@pytest.mark.parametrize("share", [0.02, 0.97])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_missing_pixels_stay_missing_and_weights_are_renormalised(shape, share, dtype):
    plane = some_plane(shape, dtype)
    rng = np.random.default_rng(2)
    plane[rng.random(shape) < share] = np.nan
    plane[rng.random(shape) < share / 9] = np.inf
    for sigma in (0.1, 0.3, 1, 3, 40):
        found = blurred(plane, sigma, dtype)
        expected = oracle.blur(plane[np.newaxis], sigma)[0].astype(F8)
        np.testing.assert_array_equal(np.isnan(found), ~np.isfinite(plane))
        assert_near(found, expected)


@FLOATS
@pytest.mark.parametrize("sigma", [0.1, 2])
def test_a_plane_without_any_pixel_stays_without_and_a_single_one_keeps_its_value(sigma, dtype):
    plane = np.full((40, 30), np.nan, dtype)
    assert np.isnan(blurred(plane, sigma, dtype)).all()
    plane[17, 3] = 5.5
    found = blurred(plane, sigma, dtype)
    assert np.isnan(found).sum() == plane.size - 1
    assert found[17, 3] == pytest.approx(5.5, rel=1e-6)


@FLOATS
@pytest.mark.parametrize("missing", [np.nan, -np.inf])
@pytest.mark.parametrize("sigma", [0.3, 2.6])
def test_a_missing_pixel_changes_no_bit_beyond_the_radius(sigma, missing, dtype):
    plane = some_plane((60, 50), dtype)
    expected = blurred(plane, sigma, dtype)
    plane[31, 20] = missing
    found, radius = blurred(plane, sigma, dtype), blur_radius(sigma)
    near = np.zeros(plane.shape, bool)
    near[31 - radius : 32 + radius, 20 - radius : 21 + radius] = True
    assert_same_bits(found[~near], expected[~near])
    assert (found[30:33, 19:22] != expected[30:33, 19:22]).all()


@pytest.mark.parametrize("sigma", [0, 0.1, 1, 40])
def test_zero_stays_exactly_zero_where_all_around_is_zero(sigma):
    assert_same_bits(blurred(np.zeros((9, 70), F4), sigma, F4), np.zeros((9, 70), F4))
    plane = np.zeros((150, 10), F4)
    plane[0] = some_plane((1, 10), F4)
    plane[0, 2] = np.nan
    rows = 1 + blur_radius(sigma)
    found = blurred(plane, sigma, F4)
    assert (found[rows:] == 0).all()
    assert np.nanmin(found[:rows], initial=1, where=plane[:rows] > 0) > 0


def test_sigma_zero_leaves_every_bit():
    plane = np.array([[1.5, -0.0, np.inf], [-np.inf, *nans(F4)[1:]]], F4)
    assert_same_bits(blurred(plane, 0, F4), plane)


@pytest.mark.parametrize("sigma", [0.3, 2])
def test_every_plane_and_channel_is_blurred_by_itself(sigma):
    block = some_plane((2, 3, 12, 9), F4)
    sigmas = np.array([sigma, 3 * sigma])
    found = neighbours.blur(*whole(block), sigmas, dtype=F4, height=12, width=9)
    for c, z in np.ndindex(2, 3):
        assert_same_bits(found[c, z], blurred(block[c, z], sigma * (1, 3)[c], F4))


@pytest.mark.parametrize("place", [(0, 0), (3, 8), (6, 4)])
def test_one_missing_value_is_found_wherever_it_is(place):
    rows, padded = np.ones((7, 9), F4), np.empty((7, 9), F4)
    everything = rows.reshape(-1), 0, 9, F4.type(3), padded, 0, 0, 7, 9
    assert not place_rows(*everything)
    for value in (nans(F4)[1], np.inf, -np.inf):
        rows[place] = value
        assert place_rows(*everything)
        assert np.isnan(padded[place])
        assert np.count_nonzero(padded == F4.type(1) / F4.type(3)) == 62


@FLOATS
@pytest.mark.parametrize("sigma", [0, 0.1, 0.4, 2])
def test_blur_of_quotients_has_the_bits_of_division_and_blur(sigma, dtype):
    plane = (some_plane((20, 31)) * 9).astype("uint16")
    quotients = plane.astype(dtype) / dtype.type(3.3)
    found = blurred(plane, sigma, dtype, scale=3.3)
    assert_same_bits(found, blurred(quotients, sigma, dtype))
