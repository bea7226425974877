"""Background: top-hats against SciPy and their definition, and constants."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import white_tophat

import oracle
from checked_steps import row
from oracle import assert_agrees, assert_same_bits
from pxprep import Pipeline, ops
from pxprep.errors import ParameterError
from pxprep.steps import SubtractBackground

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])

few = settings(deadline=None, max_examples=12)


# Background by a disc


@pytest.mark.parametrize(
    ("radius", "dtype"),
    [(1, "float32"), (2, "uint16"), (5, "float64"), (25, "float32")],
)
def test_a_top_hat_is_that_of_scipy_with_a_disc(radius, dtype, make_image):
    image = make_image(dtype, (2, 37, 51))
    expected = np.stack(
        [
            white_tophat(plane.astype(oracle.float_type(dtype)), footprint=oracle.disc(radius))
            for plane in image.values
        ]
    )
    result = ops.subtract_background(image, radius)
    assert_agrees(result, expected)
    # Chunks smaller than the radius.
    chunks = {"c": 1, "y": (1, 5, 2, 29), "x": (3, 40, 8)}
    assert_same_bits(ops.subtract_background(image.chunk(chunks), radius), result)


def by_definition(plane, radius):
    """The largest, over all discs that hold a pixel, of the smallest value in the disc."""
    places = list(np.ndindex(plane.shape))

    def around(place):
        return [(y, x) for y, x in places if (y - place[0]) ** 2 + (x - place[1]) ** 2 <= radius**2]

    def lowest(place):
        values = [plane[one] for one in around(place) if not np.isnan(plane[one])]
        return min(values, default=np.nan)

    result = np.full_like(plane, np.nan)
    for place in places:
        if not np.isnan(plane[place]):
            result[place] = plane[place] - max(lowest(centre) for centre in around(place))
    return result


@few
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    radius=st.integers(1, 6),
    nan=st.sampled_from([0, 0.1, 0.7]),
    negative=st.sampled_from([0, 0.5]),
    seed=st.integers(0, 99),
)
def test_a_top_hat_is_what_its_page_says(make_image, size, radius, nan, negative, seed):
    image = make_image("float64", (1, *size), nan=nan, negative=negative, seed=seed)
    result = ops.subtract_background(image, radius)
    np.testing.assert_array_equal(result[0], by_definition(image.values[0], radius))
    assert_agrees(result, oracle.subtract_background(image.values, radius))


@few
@given(
    radius=st.tuples(*[st.integers(0, 15)] * 2),
    nan=st.sampled_from([0, 0.02, 0.5]),
    seed=st.integers(0, 999),
    rows=st.integers(1, 23),
    columns=st.integers(1, 29),
)
def test_chunks_change_no_bit_of_a_top_hat(make_image, radius, nan, seed, rows, columns):
    image = make_image("float32", (2, 23, 29), nan=nan, seed=seed)
    result = ops.subtract_background(image, radius)
    assert_agrees(result, oracle.subtract_background(image.values, radius))
    lazy = ops.subtract_background(image.chunk(c=1, y=max(3, rows), x=max(4, columns)), radius)
    assert_same_bits(lazy.compute(scheduler="synchronous"), result)


@pytest.mark.parametrize("nan", [0, 0.001])
def test_a_top_hat_of_more_than_one_tile_and_band(nan, make_image):
    image = make_image("float32", (1, 300, 2100), nan=nan)
    result = ops.subtract_background(image, 3)
    assert_agrees(result, oracle.subtract_background(image.values, 3))
    assert_same_bits(ops.subtract_background(image.chunk(y=270, x=1500), 3), result)


def test_what_is_wider_than_the_disc_is_background():
    y, x = np.mgrid[:60, :90]
    distance = np.hypot(y - 30, x - 20), np.hypot(y - 30, x - 65)
    values = 7.0 + 0.125 * x + 50 * (distance[0] <= 4) + 50 * (distance[1] <= 15)
    result = ops.subtract_background(xr.DataArray(values[None], dims=("c", "y", "x")), 6).values[0]
    assert (result[distance[0] <= 4] > 49).all()
    assert (result[distance[1] <= 13] <= 3).all()
    assert result.min() >= 0


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_disc_has_no_direction(turn, make_image):
    image = make_image("float32", (1, 40, 40), nan=0.05)
    turned = image.copy(data=np.rot90(image.values, turn, (1, 2)))
    expected = np.rot90(ops.subtract_background(image, 5).values, turn, (1, 2))
    np.testing.assert_array_equal(ops.subtract_background(turned, 5).values, expected)


def test_a_disc_wider_than_the_image_leaves_the_smallest_value(make_image):
    image = make_image("float32", (2, 5, 400), zeros=0)
    result = ops.subtract_background(image, 1000)
    np.testing.assert_array_equal(result, image - image.min(["y", "x"]))


@FLOATS
@pytest.mark.parametrize("chunks", [None, {"x": 2}])
def test_radius_0_keeps_every_bit(dtype, chunks):
    tiny = np.finfo(dtype).smallest_subnormal
    image = row([-0.0, 0, tiny, -tiny, np.nan, np.inf, -7, 8], np.arange(8), dtype=dtype)
    image = image if chunks is None else image.chunk(chunks)
    assert_same_bits(ops.subtract_background(image, 0), image)
    mixed = ops.subtract_background(image, [0, 2])
    assert_same_bits(mixed[:1], image[:1])
    assert not np.array_equal(mixed[1], image[1])


def test_zeros_of_both_signs_make_one_zero():
    values = np.array([0.0, -0.0] * 8, "f4")
    for order in (values, values[::-1], np.sort(values)):
        result = ops.subtract_background(row(order, [3, *order[1:]]), 2).values
        assert result.tobytes() == np.array([[[0] * 16], [[3] + [0] * 15]], "f4").tobytes()


def test_planes_have_their_own_background(make_image):
    image = make_image(shape=(2, 3, 12, 11), nan=0.1)
    result = ops.subtract_background(image, 2)
    for z in range(3):
        assert_same_bits(result.isel(z=z), ops.subtract_background(image.isel(z=z), 2))


def test_nan_stays_where_it_is_and_hides_nothing(make_image):
    image = make_image("float32", (1, 30, 30), zeros=0)
    holes = image.copy(deep=True)
    holes[0, 4:9, 11:13] = np.nan
    holes[0, 20:, 20:] = np.nan  # wider than a disc
    result = ops.subtract_background(holes, 3)
    np.testing.assert_array_equal(result.isnull(), holes.isnull())
    far = np.ones((30, 30), bool)
    far[:15, 5:19] = far[14:, 14:] = False
    expected = ops.subtract_background(image, 3)
    np.testing.assert_array_equal(result.values[0, far], expected.values[0, far])


def test_huge_values_do_not_warn():
    image = row([3e38, -3e38, 3e38, -3e38, -3e38])
    assert ops.subtract_background(image, 1).values.tolist() == [[[np.inf, 0, np.inf, 0, 0]]]


@pytest.mark.parametrize("radius", [2, 2.0, np.int16(2), [2, 2.0, np.float32(2)], np.full(3, 2)])
def test_whole_numbers_of_any_type(radius, make_image):
    image = make_image()
    assert_same_bits(ops.subtract_background(image, radius), ops.subtract_background(image, 2))


# Background by a constant


@pytest.mark.parametrize("dtype", ["bool", "int32", "float16", "float64"])
@pytest.mark.parametrize("constant", [0, 31.7, (0, 0.1, 1e300)])
def test_a_constant_is_subtracted_down_to_0(constant, dtype, make_image):
    kind = np.dtype(dtype).kind
    image = make_image(dtype, nan=0.1 * (kind == "f"), negative=0.3 * (kind in "if"))
    image.values.flags.writeable = False
    with np.errstate(over="ignore"):
        expected = oracle.subtract_background(image.values, constant=constant)
    result = ops.subtract_background(image, constant=constant)
    assert_agrees(result, expected)
    assert not (result < 0).any()
    assert_same_bits(ops.subtract_background(image.chunk(c=2, y=5), constant=constant), result)


def test_constants_by_label_and_infinities():
    image = row([1, 5, np.inf, np.nan, -2], [1, 5, -np.inf, 9, 3], c=["CD3", "CD8"])
    result = ops.subtract_background(image, constant={"CD8": 4, ...: 1})
    nan = np.nan
    np.testing.assert_array_equal(result.values[:, 0], [[0, 4, nan, nan, 0], [0, 1, nan, 5, 0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda **given: ops.subtract_background(row([1.0]).chunk(), **given),
        lambda **given: row([1.0]).chunk().pxprep.subtract_background(**given),
        lambda **given: SubtractBackground(**given),
        lambda **given: Pipeline().subtract_background(**given),
    ],
)
def test_a_radius_or_a_constant(call, no_compute):
    with no_compute(), pytest.raises(ParameterError, match=r"one of radius and constant must be"):
        call()
    with no_compute(), pytest.raises(ParameterError, match=r"radius=3 and constant=0\.5"):
        call(radius=3, constant=0.5)
