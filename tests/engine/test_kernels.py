"""The compiled loops but the blur, against NumPy on arrays of any size, type and layout."""

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counted_images import gathered
from planes import F4, F8, FLOATS, LAYOUTS, assert_same_bits, nans, some_plane, whole
from pxprep.engine import blocks, digits, kernels
from pxprep.engine.digits import bit_constants
from pxprep.engine.gathering import Bounds, Gathered, Gatherer, Limits
from pxprep.engine.kernels.counts import (
    INFINITE_SLOT,
    N_DIGITS,
    N_SLOTS,
    count_floats,
)
from pxprep.engine.kernels.pointwise import divide_values, keep_values, scale_rows, sum_channels
from pxprep.engine.programs import AddChannels, Divide, Program
from pxprep.steps.blur import BlurEach
from pxprep.steps.sum_mask import KeepAbove

# Counts


@pytest.mark.parametrize("n", [5000, 8 * N_SLOTS + 3])
@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "uint16", "int16"])
def test_integers_are_counted_where_they_belong(name, n):
    dtype = np.dtype(name)
    values = np.random.default_rng(0).integers(0, 1 << 16, n).astype("u2").astype(dtype)
    counts = np.ones(N_SLOTS, np.uint32)
    image = values.reshape(1, 1, 1, -1)
    digits.count_digits(image, None, 0, True, counts.reshape(1, 1, -1))
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
            expected[INFINITE_SLOT] = np.isinf(values).sum()
            np.testing.assert_array_equal(counted(values, level, prefix, zeros), expected)


def test_counts_are_added_to_what_was_counted_before():
    values = np.array([1, 2, np.inf, np.nan, 0, -0.0], F4)
    counts = counted(values)
    bits, (sign, infinity, ones) = values.view("u4"), bit_constants(F4)
    count_floats(bits, sign, infinity, ones, np.uint32(16), np.uint32(0), True, counts)
    np.testing.assert_array_equal(counts, 2 * counted(values))
    assert counts.sum() == 2 * 5


@pytest.mark.parametrize("name", ["uint16", "int16", "float32", "float64"])
def test_digits_of_a_block_do_not_depend_on_its_layout(name):
    plane = some_plane((30, 20)).astype(name)
    plane[:5] = 0

    def counts_of(pixels):
        counts = np.zeros((1, 1, N_SLOTS), np.uint32)
        digits.count_digits(pixels[np.newaxis, np.newaxis], None, 0, False, counts)
        return counts

    for laid_out in LAYOUTS.values():
        found = counts_of(laid_out(plane))
        np.testing.assert_array_equal(found, counts_of(plane))
        assert found.sum() == np.count_nonzero(plane)


# Brackets


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
    found = gathered(values, low, high, zeros=zeros)
    valid = values[np.isfinite(values) & ((values != 0) | zeros)]
    expected = [valid.size, (valid < 0).sum(), np.isinf(values).sum(), (valid < low).sum()]
    expected += [(valid == low).sum(), (valid == high).sum() * (low < high)]
    np.testing.assert_array_equal(found.tally, [expected])
    assert_same_bits(found.inside, valid[(valid > low) & (valid < high)])


def test_a_few_of_many_values_are_gathered_in_their_order():
    values = np.random.default_rng(0).normal(size=3001)
    values[::7], values[1::50] = 0, np.nan
    found = gathered(values, 2.0, 2.5, zeros=False)
    valid = values[np.isfinite(values) & (values != 0)]
    assert found.tally.tolist() == [[valid.size, (valid < 0).sum(), 0, (valid < 2).sum(), 0, 0]]
    assert_same_bits(found.inside, valid[(valid > 2) & (valid < 2.5)])


def test_gathering_nothing_counts_nothing():
    found = gathered(np.empty(0, F4), -np.inf, np.inf)
    assert not found.tally.any()
    assert found.inside.size == 0


def test_zeros_of_either_sign_are_one_value():
    values = np.array([0.0, -0.0, 1, -1], F4)

    def tally(low, high, zeros=True):
        (row,) = gathered(values, low, high, zeros=zeros).tally.tolist()
        return row

    assert gathered(values, -0.5, 0.5).inside.size == 2
    assert gathered(values, -0.5, 0.5, zeros=False).inside.size == 0
    assert tally(0.0, 0.0) == [4, 1, 0, 1, 2, 0]
    assert tally(-0.0, -0.0) == [4, 1, 0, 1, 2, 0]
    assert tally(0.0, 0.0, zeros=False) == [2, 1, 0, 1, 0, 0]
    assert tally(0.0, 1.0) == [4, 1, 0, 1, 2, 1]
    assert tally(-1.0, -0.0) == [4, 1, 0, 0, 1, 2]


def test_tallies_add_up():
    values = np.array([[-1, 2, np.inf, np.nan, 0]], F4)
    limits = Limits(np.full((1, 2), 1 << 40), 1 << 40)
    gatherer = Gatherer(Bounds(np.zeros(1), np.full(1, 2)), limits, zeros=False, dtype=F4)
    for _ in range(3):
        gatherer.take(values)
    assert gatherer.gathered().tally.tolist() == [[6, 3, 3, 3, 0, 3]]


@pytest.mark.parametrize("q", [0, 30, 50, 99, 100])
def test_a_bracket_gives_the_quantile_just_if_the_ranks_around_it_are_inside(q):
    values, percent = np.sort(some_plane(30, F4)), np.array([float(q)])
    first = int(29 * q / 100)
    second = min(first + 1, 29)
    everything = np.array([[-np.inf, np.inf]], F4)
    for below, stop in np.ndindex(31, 31):
        tally, inside = np.array([[30, 0, 0, below, 0, 0]]), values[below:stop][::-1]
        found = Gathered(tally, everything, inside, np.array([inside.size])).quantiles(percent)
        assert (found is not None) == (below <= first and second < stop)
        if found is not None:
            assert found == np.quantile(values.astype(F8), q / 100)


@pytest.mark.parametrize("q", [0, 20, 33, 50, 99, 100])
def test_values_equal_to_a_bound_are_counted_and_found(q):
    values = np.round(np.sort(some_plane(40, F4)) / 40)
    for low, high in product(np.unique(values), repeat=2):
        if low > high:
            continue
        part = gathered(values, low, high)
        assert part.inside.size == ((values > low) & (values < high)).sum()
        found = part.quantiles(np.array([float(q)]))
        below, up_to = (values < low).sum(), (values <= high).sum()
        first = int(39 * q / 100)
        assert (found is not None) == (below <= first and min(first + 1, 39) < up_to)
        if found is not None:
            assert found == np.quantile(values.astype(F8), q / 100)


ORDERS = {
    "random": lambda n: np.random.default_rng(0).normal(size=n),
    "rising": np.arange,
    "falling": lambda n: -np.arange(n),
    "up and down": lambda n: np.minimum(np.arange(n), np.arange(n)[::-1]),
    "few values": lambda n: np.random.default_rng(0).integers(0, 3, n),
    "one value": lambda n: np.zeros(n),
    "saw": lambda n: np.arange(n) % 10,
}


@FLOATS
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_quantiles_are_found_whatever_order_values_come_in(order, n, dtype):
    values = ORDERS[order](n).astype(dtype)
    for q in (0, 0.1, 5, 33.3, 50, 99, 99.9, 100):
        found = gathered(values, -np.inf, np.inf).quantiles(np.array([float(q)]))
        assert found == np.quantile(values.astype(F8), q / 100)


def test_several_quantiles_of_several_channels_are_found_in_one_go():
    values = np.random.default_rng(0).normal(size=(3, 2, 500)).astype(F4)
    q = np.repeat([1.0, 50.0, 99.0], 3)
    limits = Limits(np.full((9, 2), 1 << 40), 1 << 40)
    gatherer = Gatherer(Bounds(np.full(9, -np.inf), np.full(9, np.inf)), limits, True, F4)
    for part in (values[:, :, :100], values[:, :, 100:][:, :, ::-1]):
        gatherer.take(part)
    expected = np.quantile(values.reshape(3, -1).astype(F8), [0.01, 0.5, 0.99], axis=1)
    np.testing.assert_array_equal(gatherer.gathered().quantiles(q), expected.ravel())


VIEWS = {
    "channels of a larger image": lambda values: values[:, :, 1:-1],
    "channels in reverse": lambda values: values[::-1],
    "every other channel": lambda values: values[::2],
    "every other column": lambda values: values[..., ::2],
    "columns first": np.asfortranarray,
    "one plane as several channels": lambda values: np.broadcast_to(
        values[:1], (3, *values[0].shape)
    ),
    "read-only": lambda values: np.frombuffer(values.tobytes(), F4).reshape(values.shape),
}


@pytest.mark.parametrize("view", VIEWS)
def test_values_are_gathered_from_any_view(view):
    values = VIEWS[view](np.random.default_rng(0).normal(size=(4, 30, 20)).astype(F4))
    n, limits = len(values), Limits(np.full((len(values), 2), 1 << 40), 1 << 40)
    gatherer = Gatherer(Bounds(np.full(n, -np.inf), np.full(n, np.inf)), limits, True, F4)
    gatherer.take(values)
    found = gatherer.gathered().quantiles(np.full(n, 99.0))
    np.testing.assert_array_equal(
        found, np.quantile(values.reshape(n, -1).astype(F8), 0.99, axis=1)
    )


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
    one, missing = np.ones(1, dtype), dtype.type(np.nan)
    lines = values, 0, (40, 40, 8), (1, 1, 5, 8)
    sum_channels(*lines, one, missing, total.reshape(1, 5, 8), 0, 0)
    assert_same_bits(total, expected)


@FLOATS
def test_rows_and_columns_are_added_and_divided_just_where_they_are_to_be(dtype):
    values = np.random.default_rng(0).integers(0, 1 << 16, (3, 2, 6, 9)).astype("uint16")
    scale, missing = np.array([3, 1, 0.7], dtype), dtype.type(np.nan)
    total, out = np.ones((2, 5, 7), dtype), np.ones((5, 7), dtype)
    flat, start = values.reshape(-1), 2 * 9 + 4
    sum_channels(flat, start, (108, 54, 9), (3, 2, 3, 5), scale, missing, total, 1, 2)
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
    blocks.drop_low_sums(sums, np.array(2.0))
    keep_values(values, sums, dtype.type(np.nan))
    assert_same_bits(values, expected)


@pytest.mark.parametrize("limit", [0.1, np.nextafter(0.1, 1), -0.3, np.inf])
def test_sums_are_compared_with_the_threshold_before_it_is_rounded(limit):
    sums = np.array([np.nextafter(F4.type(limit), s, dtype=F4) for s in (-9, limit, 9)], F4)
    expected = np.where(sums.astype(F8) > limit, sums, np.nan)
    blocks.drop_low_sums(sums, np.array(limit))
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


def test_no_kernel_assigns_arrays():
    """Numba compiles the text of an error for it, which takes as long as the rest of a step."""
    folder = Path(kernels.__file__).parent
    found = [
        f"{path.name}: {ast.unparse(node)}"
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        and any(isinstance(part, ast.Slice) for part in ast.walk(node.targets[0]))
        and not isinstance(node.value, ast.Constant)
        and ast.unparse(node.value) != "missing"  # a number
    ]
    (of_taps,) = found  # that is no kernel
    assert "filled" in of_taps
