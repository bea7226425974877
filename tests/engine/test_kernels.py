"""The compiled loops, each against plain NumPy or SciPy on arrays of any size, type and layout."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.ndimage import gaussian_filter

import oracle
from pxprep.engine import blocks, selection
from pxprep.engine.blocks import bit_constants
from pxprep.engine.gathering import Gathered
from pxprep.engine.kernels.blur import blur_radius, blur_strip, gaussian_taps, mirror, place_rows
from pxprep.engine.kernels.brackets import gather
from pxprep.engine.kernels.counts import INFINITE, N_DIGITS, N_SLOTS, count_floats, count_integers
from pxprep.engine.kernels.pointwise import divide_values, keep_values, scale_rows, sum_channels
from pxprep.engine.programs import AddChannels, Divide, Program
from pxprep.engine.windows import Pixels, Window
from pxprep.steps.blur import BlurEach
from pxprep.steps.sum_mask import KeepAbove

F4, F8 = np.dtype("float32"), np.dtype("float64")
FLOATS = pytest.mark.parametrize("dtype", [F4, F8], ids=str)
SIGMAS = [0.1, 0.124, 0.125, 0.3, 0.6, 1, 1.99, 4, 12.5, 40]
SHAPES = [(1, 1), (1, 50), (50, 1), (3, 4), (2, 7), (70, 33), (131, 5)]
# NaNs as programs make them: of either sign, and with something in their lower bits.
NANS = {
    F4: [0x7FC00000, 0xFFC00000, 0x7FC00123],
    F8: [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF80123 << 32],
}


def some_plane(shape, dtype=F8, seed=0):
    return np.random.default_rng(seed).gamma(2, 100, shape).astype(dtype)


def whole(block):
    return Pixels.of(block), Window(0, block.shape[2], 0, block.shape[3])


def blurred(plane, sigma, dtype, scale=None):
    pixels, window = whole(plane[np.newaxis, np.newaxis])
    height, width = plane.shape
    scale = None if scale is None else np.array([scale])
    sigmas = np.array([sigma])
    return blocks.blur(pixels, window, sigmas, scale, dtype=dtype, height=height, width=width)[0, 0]


def by_scipy(plane, sigma):
    return gaussian_filter(plane.astype(F8), sigma, mode="reflect", truncate=4)


def assert_near(found, expected):
    rounding = {F4: 2e-6, F8: 1e-13}[found.dtype]
    largest = np.nanmax(np.abs(expected), initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * largest)


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def nans(dtype):
    return np.array(NANS[dtype], f"u{dtype.itemsize}").view(dtype)


# Blur


@FLOATS
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blur_is_that_of_scipy_also_where_the_kernel_is_wider_than_the_image(shape, sigma, dtype):
    plane = some_plane(shape, dtype)
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


def read_only(plane):
    plane = plane.copy()
    plane.flags.writeable = False
    return plane


LAYOUTS = {
    "read-only": read_only,
    "transposed": lambda plane: plane.T.copy().T,
    "swapped bytes": lambda plane: plane.astype(plane.dtype.newbyteorder()),
    "every other pixel": lambda plane: np.repeat(np.repeat(plane, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda plane: plane[::-1, ::-1].copy()[::-1, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sigma", [0, 0.1, 1.5, 20])
@pytest.mark.parametrize("name", ["float32", "float64", "uint16", "uint8", "int16", "float16"])
def test_blur_takes_pixels_of_any_type_and_layout(name, sigma, layout):
    plane = some_plane((30, 41)).astype(name)
    dtype = np.dtype(oracle.float_type(name))
    given_plane = LAYOUTS[layout](plane)
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
    monkeypatch.setattr(blocks, "BLUR_TILE", tile)
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
    (part,) = blocks.blur(pixels, window, sigmas, dtype=F4, height=height, width=width)[0]
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
        blur_strip(padded, taps, np.empty((2, 14 + 2 * reach), F4), row, 0)
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
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1, 3, 40])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_missing_pixels_stay_missing_and_weights_are_renormalised(shape, sigma, share, dtype):
    plane = some_plane(shape, dtype)
    rng = np.random.default_rng(2)
    plane[rng.random(shape) < share] = np.nan
    plane[rng.random(shape) < share / 9] = np.inf
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
@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sigma", [0.3, 1, 2.6])
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
    found = blocks.blur(*whole(block), sigmas, dtype=F4, height=12, width=9)
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


# Counts


@pytest.mark.parametrize("n", [5000, 8 * N_SLOTS + 3])
@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "uint16", "int16"])
def test_integers_are_counted_where_they_belong(name, n):
    dtype = np.dtype(name)
    values = np.random.default_rng(0).integers(0, 1 << 16, n).astype("u2").astype(dtype)
    counts = np.ones(N_SLOTS, np.uint32)
    count_integers(values, blocks.integer_offset(dtype), counts)
    distinct, expected = np.unique(values, return_counts=True)
    smallest = 0 if dtype.kind in "bu" else int(np.iinfo(dtype).min)
    slots = distinct.astype(int) - smallest
    np.testing.assert_array_equal(counts[slots], expected + 1)
    assert counts.sum() == N_SLOTS + values.size


@FLOATS
def test_digits_are_in_the_order_of_the_floats(dtype):
    ladder = np.array([-np.finfo(dtype).max, -3e9, -1, -1e-9, 0, 1e-30, 0.5, 1, 1.2, 7e30], dtype)
    digits = [np.flatnonzero(counted(ladder[i : i + 1]))[0] for i in range(ladder.size)]
    assert digits == sorted(set(digits))


def counted(values, level=0, prefix=0, zeros=True):
    dtype = values.dtype
    unsigned = np.dtype(f"u{dtype.itemsize}")
    counts = np.zeros(N_SLOTS, np.uint32)
    shift = unsigned.type(8 * dtype.itemsize - 16 * (level + 1))
    bits = values.view(unsigned)
    count_floats(bits, *bit_constants(dtype), shift, unsigned.type(prefix), zeros, counts)
    return counts


def keys_of(values):
    """Integers in the order of the floats, from the sign and the bits of the magnitude."""
    dtype = values.dtype
    magnitude = np.abs(values).view(f"i{dtype.itemsize}").astype(object)
    half = 1 << (8 * dtype.itemsize - 1)
    return np.where(values < 0, half - 1 - magnitude, half + magnitude)


def any_floats(dtype):
    width = 8 * dtype.itemsize
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]
    values = st.floats(width=width) | st.sampled_from(special)
    return st.lists(values, max_size=60).map(lambda drawn: np.array(drawn, dtype))


@pytest.mark.parametrize("zeros", [False, True])
@FLOATS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_floats_are_counted_by_their_digits(dtype, zeros, data):
    values = data.draw(any_floats(dtype))
    finite = values[np.isfinite(values) & ((values != 0) | zeros)]
    keys = keys_of(finite)
    for level in range(dtype.itemsize // 2):
        shift = 8 * dtype.itemsize - 16 * (level + 1)
        highs = keys >> shift
        for prefix in {high >> 16 for high in highs} | {0}:
            expected = np.zeros(N_SLOTS, np.uint32)
            for high in highs:
                expected[high % N_DIGITS] += high >> 16 == prefix
            expected[INFINITE] = np.isinf(values).sum()
            np.testing.assert_array_equal(counted(values, level, prefix, zeros), expected)


def test_counts_are_added_to_what_was_counted_before():
    values = np.array([1, 2, np.inf, np.nan, 0, -0.0], F4)
    counts = counted(values)
    bits, (sign, infinity, ones) = values.view("u4"), bit_constants(F4)
    count_floats(bits, sign, infinity, ones, np.uint32(16), np.uint32(0), True, counts)
    np.testing.assert_array_equal(counts, 2 * counted(values))
    assert counts.sum() == 2 * 5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["uint16", "int16", "float32", "float64"])
def test_digits_of_a_block_do_not_depend_on_its_layout(name, layout):
    plane = some_plane((30, 20)).astype(name)
    plane[:5] = 0

    def counts_of(pixels):
        counts = blocks.no_counts(1, None)
        blocks.count_digits(pixels[np.newaxis, np.newaxis], None, 0, False, counts)
        return counts

    found = counts_of(LAYOUTS[layout](plane))
    np.testing.assert_array_equal(found, counts_of(plane))
    assert found.sum() == np.count_nonzero(plane)


# Brackets


def gathered(values, low, high, zeros):
    tally, room = np.zeros(6, np.int64), np.empty(values.size + 1, values.dtype)
    n = gather(values, values.dtype.type(low), values.dtype.type(high), zeros, tally, room)
    return tally, room[:n]


@pytest.mark.parametrize("zeros", [False, True])
@FLOATS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_lies_between_bounds_is_gathered_and_the_rest_counted(dtype, zeros, data):
    values = data.draw(any_floats(dtype))
    bound = st.floats(allow_nan=False, width=8 * dtype.itemsize)
    if values.size:
        bound |= st.sampled_from(values[~np.isnan(values)].tolist() or [0.0])
    low, high = sorted([data.draw(bound), data.draw(bound)])
    tally, inside = gathered(values, low, high, zeros)
    valid = values[np.isfinite(values) & ((values != 0) | zeros)]
    expected = [valid.size, (valid < 0).sum(), np.isinf(values).sum(), (valid < low).sum()]
    expected += [(valid == low).sum(), (valid == high).sum() * (low < high)]
    np.testing.assert_array_equal(tally, expected)
    assert_same_bits(inside, valid[(valid > low) & (valid < high)])


def test_a_few_of_many_values_are_gathered_in_their_order():
    values = np.random.default_rng(0).normal(size=3001)
    values[::7], values[1::50] = 0, np.nan
    tally, inside = gathered(values, 2.0, 2.5, False)
    valid = values[np.isfinite(values) & (values != 0)]
    assert tally.tolist() == [valid.size, (valid < 0).sum(), 0, (valid < 2).sum(), 0, 0]
    assert_same_bits(inside, valid[(valid > 2) & (valid < 2.5)])


def test_gathering_nothing_counts_nothing():
    tally, inside = gathered(np.empty(0, F4), -np.inf, np.inf, True)
    assert not tally.any()
    assert inside.size == 0


def test_zeros_of_either_sign_are_one_value():
    values = np.array([0.0, -0.0, 1, -1], F4)
    assert gathered(values, -0.5, 0.5, True)[1].size == 2
    assert gathered(values, -0.5, 0.5, False)[1].size == 0
    assert gathered(values, 0.0, 0.0, True)[0].tolist() == [4, 1, 0, 1, 2, 0]
    assert gathered(values, -0.0, -0.0, True)[0].tolist() == [4, 1, 0, 1, 2, 0]
    assert gathered(values, 0.0, 0.0, False)[0].tolist() == [2, 1, 0, 1, 0, 0]
    assert gathered(values, 0.0, 1.0, True)[0].tolist() == [4, 1, 0, 1, 2, 1]
    assert gathered(values, -1.0, -0.0, True)[0].tolist() == [4, 1, 0, 0, 1, 2]


def test_tallies_add_up():
    values, tally = np.array([-1, 2, np.inf, np.nan, 0], F4), np.zeros(6, np.int64)
    for _ in range(3):
        gather(values, F4.type(0), F4.type(2), False, tally, np.empty(6, F4))
    assert tally.tolist() == [6, 3, 3, 3, 0, 3]


@pytest.mark.parametrize("q", [0, 30, 50, 99, 100])
def test_a_bracket_gives_the_quantile_just_if_the_ranks_around_it_are_inside(q):
    values, percent = np.sort(some_plane(30, F4)), np.array([q])
    first = int(29 * q / 100)
    second = min(first + 1, 29)
    for below, stop in np.ndindex(31, 31):
        tally = np.array([30, 0, 0, below, 0, 0])
        gathered_values = Gathered(tally, values[below:stop][::-1], (-np.inf, np.inf))
        found = selection.select_gathered([gathered_values], percent)
        assert (found is not None) == (below <= first and second < stop)
        if found is not None:
            assert found.value == np.quantile(values.astype(F8), q / 100)


@pytest.mark.parametrize("q", [0, 20, 33, 50, 99, 100])
def test_values_equal_to_a_bound_are_counted_and_found(q):
    values = np.round(np.sort(some_plane(40, F4)) / 40)
    for low, high in product(np.unique(values), repeat=2):
        if low > high:
            continue
        tally, inside = gathered(values, low, high, True)
        assert inside.size == ((values > low) & (values < high)).sum()
        found = selection.select_gathered([Gathered(tally, inside, (low, high))], np.array([q]))
        below, up_to = (values < low).sum(), (values <= high).sum()
        first = int(39 * q / 100)
        assert (found is not None) == (below <= first and min(first + 1, 39) < up_to)
        if found is not None:
            assert found.value == np.quantile(values.astype(F8), q / 100)


# Values on their own


def rough_values(dtype, size=40):
    values = np.random.default_rng(3).normal(0, 5, size).astype(dtype)
    values[:9] = [0, -0.0, np.inf, -np.inf, *nans(dtype), np.finfo(dtype).max, 1e-40]
    return values


def expect(values, result):
    """`result` where `values` are finite; elsewhere the very bits of np.nan."""
    return np.where(np.isfinite(values), result, values.dtype.type(np.nan)).astype(values.dtype)


@FLOATS
def test_values_are_added_and_infinities_are_missing(dtype):
    values, total = rough_values(dtype), np.arange(40, dtype=dtype)
    expected = expect(values, total + values)
    one, missing, line = np.ones(1, dtype), dtype.type(np.nan), np.empty(8, dtype)
    lines = values, 0, (40, 40, 8), (1, 1, 5, 8)
    sum_channels(*lines, one, missing, line, total.reshape(1, 5, 8), 0, 0)
    assert_same_bits(total, expected)


@FLOATS
def test_rows_and_columns_are_added_and_divided_just_where_they_are_to_be(dtype):
    values = np.random.default_rng(0).integers(0, 1 << 16, (3, 2, 6, 9)).astype("uint16")
    scale, missing, line = np.array([3, 1, 0.7], dtype), dtype.type(np.nan), np.empty(9, dtype)
    total, out = np.ones((2, 5, 7), dtype), np.ones((5, 7), dtype)
    flat, start = values.reshape(-1), 2 * 9 + 4
    sum_channels(flat, start, (108, 54, 9), (3, 2, 3, 5), scale, missing, line, total, 1, 2)
    scale_rows(flat, 108 + start, 9, dtype.type(3), missing, out, 1, 2, 3, 5)
    expected = np.ones((2, 5, 7), dtype)
    for channel, divisor in zip(values[:, :, 2:5, 4:9].astype(dtype), scale, strict=True):
        expected[:, 1:4, 2:7] += channel / divisor
    assert_same_bits(total, expected)
    expected = np.ones((5, 7), dtype)
    expected[1:4, 2:7] = values[1, 0, 2:5, 4:9].astype(dtype) / dtype.type(3)
    assert_same_bits(out, expected)


@FLOATS
def test_values_are_kept_where_sums_exceed_the_limit(dtype):
    values = rough_values(dtype)
    sums = np.tile(np.array([1, 2, 3, np.nan, np.inf], dtype), 8)
    expected = np.where(sums > 2, expect(values, values), dtype.type(np.nan))
    blocks.sums_above(sums, np.array(2.0))
    keep_values(values, sums, dtype.type(np.nan))
    assert_same_bits(values, expected)


@pytest.mark.parametrize("limit", [0.1, np.nextafter(0.1, 1), -0.3, np.inf])
def test_sums_are_compared_with_the_threshold_before_it_is_rounded(limit):
    sums = np.array([np.nextafter(F4.type(limit), s, dtype=F4) for s in (-9, limit, 9)], F4)
    expected = np.where(sums.astype(F8) > limit, sums, np.nan)
    blocks.sums_above(sums, np.array(limit))
    np.testing.assert_array_equal(sums, expected)


@FLOATS
def test_values_are_divided_where_divisors_are_positive(dtype):
    values = rough_values(dtype)
    divisors = np.tile(np.array([3, 0, -1, np.nan, 0.7], dtype), 8)
    with np.errstate(all="ignore"):
        quotient = expect(values, values / divisors)
    divide_values(values, divisors, dtype.type(np.nan))
    assert_same_bits(values, np.where(divisors > 0, quotient, dtype.type(np.nan)))


@FLOATS
@pytest.mark.parametrize("name", ["same", "uint8", "int16", "uint16", "bool", "int64"])
def test_values_of_any_type_are_divided_by_a_scale(name, dtype):
    values = rough_values(dtype)
    if name != "same":
        values = np.random.default_rng(0).integers(0, 1 << 20, 40).astype(name)
    out, scale = np.empty(40, dtype), dtype.type(3.3)
    scale_rows(values, 0, 8, scale, dtype.type(np.nan), out.reshape(5, 8), 0, 0, 5, 8)
    converted = values.astype(dtype)
    with np.errstate(over="ignore"):
        assert_same_bits(out, expect(converted, converted / scale))


@FLOATS
def test_missing_values_have_the_bits_of_nan_after_every_operation(dtype):
    block = rough_values(dtype).reshape(1, 1, 5, 8)
    missing = ~np.isfinite(block)
    made = [
        Program(operations, dtype, 5, 8).run(*whole(block), [numbers] * len(operations))
        for operations, numbers in (
            ((Divide(),), np.array([2.0])),
            ((KeepAbove(),), np.array(-np.inf)),
            ((AddChannels(),), None),
            ((BlurEach((1.0,)),), None),
        )
    ]
    ones = np.ones(block.shape[1:], dtype)
    made.append(block.copy())
    blocks.divide_by_sums(made[-1], ones)
    for result in made:
        assert_same_bits(result[missing], np.full(missing.sum(), np.nan, dtype))
        assert np.isfinite(result[~missing]).all()
