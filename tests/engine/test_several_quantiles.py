"""Two quantiles in the passes of one, and the numbers of each by itself."""

import re
from itertools import product

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from counted_images import counted, looks_everywhere
from oracle import assert_same_bits
from pxprep import Pipeline, ops
from pxprep.engine import backends, brackets, quantiles
from pxprep.engine.gathering import Bounds
from pxprep.engine.quantiles import exact_quantiles
from pxprep.errors import ParameterError
from pxprep.steps import PercentileClip

POOLS = ["mean", "pixels", None]

any_pool = pytest.mark.parametrize("pool", POOLS)


def above_for_the_last(samples, q, zeros, n_bytes):
    return Bounds(np.where(np.arange(len(q)) == len(q) - 1, 1e29, -np.inf), np.full(len(q), np.inf))


LOOKS = {
    "as it is": quantiles.bracket,
    "everywhere": looks_everywhere,
    "misled": above_for_the_last,
}


@pytest.mark.parametrize(
    ("look", "dtype"),
    [
        ("as it is", "u2"),
        ("as it is", "f4"),
        ("everywhere", "f4"),
        ("misled", "f8"),
    ],
)
def test_two_quantiles_are_read_as_often_as_one(look, dtype, make_image, monkeypatch):
    monkeypatch.setattr(quantiles, "bracket", LOOKS[look])
    values = make_image(dtype, (3, 96, 80)).values
    if dtype != "u2":
        values *= np.array([[[1]], [[1e3]], [[1e6]]], dtype)  # each has its own brackets
    n_reads = []
    for process in (
        lambda image: ops.percentile_clip(image, 3, 90),
        lambda image: ops.quantile_norm(image, 90),
    ):
        image, reads = counted(values, (3, 24, 40))
        result = process(image).compute(scheduler="synchronous")
        (times,) = set(reads.values())
        n_reads.append(times)
        expected = process(xr.DataArray(values, dims=("c", "y", "x"), name="fov0"))
        assert_same_bits(result, expected)
    assert n_reads[0] == n_reads[1]


@pytest.mark.parametrize(
    "process", [ops.minmax, lambda image: ops.percentile_clip(image, 1, 99, zeros="include")]
)
def test_many_zeros_are_not_gathered(process, make_image, monkeypatch):
    values = make_image("float32", (3, 96, 80), zeros=0.7).values
    # A quarter of the image: brackets around a quantile of others take less.
    monkeypatch.setattr(brackets, "MOST_GATHERED", values.nbytes // 4)
    image, reads = counted(values, (3, 24, 40))
    result = process(image).compute(scheduler="synchronous")
    assert_same_bits(result, process(xr.DataArray(values, dims=("c", "y", "x"), name="fov0")))
    # A first look, one pass, and the result.
    assert set(reads.values()) == {3}


@pytest.mark.parametrize("value", [2**24 + 1, 2**24 + 3])
def test_bounds_are_values_of_the_float_type(value):
    """As integers the values lie between those that float32 knows."""
    values = np.full((1, 64, 64), value, "int32")
    values[0, :8] = value - 1000
    image, _ = counted(values, (1, 16, 64))
    expected = [[float(np.float32(value - 1000))], [float(np.float32(value))]]
    for pool in ("mean", None):
        for q, one in zip((0, 50), expected, strict=True):
            assert ops.quantile([image], q, pool=pool).values.ravel().tolist() == one
    fitted = Pipeline([lambda one: one, PercentileClip(2, 90)]).fit(image)
    assert fitted.numbers.percentile_clip_low.values.tolist() == expected[0]
    assert fitted.numbers.percentile_clip_high.values.tolist() == expected[1]


@any_pool
def test_fitting_two_quantiles_reads_once(pool, make_image):
    values = [make_image("float32", (3, 24, 20), seed=seed).values for seed in range(2)]
    # Without memory: one sample, and a pass for each step; of pooled pixels two for each, in all.
    for memory, times in (("1 MB", 1), (0, 4 if pool == "pixels" else 3)):
        images, reads = zip(*(counted(array, (3, 6, 10)) for array in values), strict=True)
        pipeline = Pipeline().quantile_norm(99, name="first").percentile_clip(3, 90)
        fitted = pipeline.fit(list(images), pool=pool, memory=memory)
        eager = [xr.DataArray(array, dims=("c", "y", "x"), name="fov0") for array in values]
        assert fitted == pipeline.fit(eager, pool=pool)
        assert [set(own.values()) for own in reads] == [{times}] * 2


@pytest.mark.parametrize(
    ("kind", "dtype", "zeros"),
    [
        ("eager", "uint8", False),
        ("eager", "float64", True),
        ("lazy", "float32", True),
        ("evaluated", "float64", False),
    ],
)
def test_several_quantiles_are_those_found_singly(kind, dtype, zeros, make_image):
    q = np.array([[0.0, 3, 50], [50.5, 99.9, 100], [20, 20, 20]])
    arrays = [make_image(dtype, (3, 2, 15, 13), seed=seed).values for seed in range(2)]
    arrays = [array if kind == "eager" else da.from_array(array, (3, 2, 8, 9)) for array in arrays]
    evaluate = (lambda lazy: list(dask.compute(*lazy))) if kind == "evaluated" else None
    for groups in ([[0], [1]], [[0], [1], [0, 1]]):
        with backends.keeping(arrays, 1 << 20):
            found = exact_quantiles(arrays, q, groups, zeros=zeros, evaluate=evaluate)
            single = [
                exact_quantiles(arrays, one, groups, zeros=zeros, evaluate=evaluate) for one in q
            ]
        found, single = dask.compute(found, single)
        assert found.value.shape == (len(groups), 3, 3)
        for index, one in enumerate(single):
            np.testing.assert_array_equal(found.value[:, index], one.value)
        for name in ("counted", "negative", "infinite"):
            np.testing.assert_array_equal(getattr(found, name), getattr(single[0], name))
    for group, channel in product(range(2), range(3)):
        values = np.asarray(arrays[group])[channel]
        for index in range(3):
            expected = oracle.quantile_of(
                values, q[index, channel], "include" if zeros else "exclude"
            )
            assert found.value[group, index, channel] == expected


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("shape", "q", "groups", "message"),
    [
        ((2, 1, 3, 4), [50, -1], [[0]], r"q must be percentages, 0 to 100, got \[50.0, -1.0\]"),
        ((2, 1, 3, 4), [50, np.nan], [[0]], "q must be percentages"),
        ((2, 1, 3, 4), [50, 150], [[0]], "q must be percentages"),
        ((2, 1, 3, 4), [50], [[0]], r"q must have the shape \(c,\).*got shape \(1,\)"),
        ((2, 1, 3, 4), 50, [[0]], "q must have the shape"),
        ((2, 3, 4), [50, 50], [[0]], r"images must have the axes.*got shapes \[\(2, 3, 4\)\]"),
        ((2, 1, 0, 4), [50, 50], [[0]], "images must have the axes .* at least one pixel"),
        ((2, 1, 3, 4), [50, 50], [[1]], r"groups must be lists of positions.*got \[\[1\]\]"),
        ((2, 1, 3, 4), [50, 50], [[]], "groups must be lists"),
        ((2, 1, 3, 4), [50, 50], [], "groups must be lists"),
    ],
)
def test_what_quantiles_cannot_be_of_is_refused(lazy, shape, q, groups, message):
    image = np.ones(shape, "f4")
    image = da.from_array(image) if lazy else image
    with pytest.raises(ParameterError, match=message):
        exact_quantiles([image], q, groups)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dtype", ["complex64", "complex128", "datetime64[s]", "object"])
def test_images_of_other_types_are_refused(lazy, dtype):
    image = np.ones((1, 1, 3, 4)).astype(dtype)
    image = da.from_array(image, chunks=2) if lazy else image
    with pytest.raises(ParameterError, match=f"of at most 64 bits.*{re.escape(str(image.dtype))}"):
        exact_quantiles([image], [50], [[0]])


@pytest.mark.parametrize("wrap", [np.ma.asarray, xr.DataArray, np.ndarray.tolist])
def test_images_are_plain_arrays(wrap):
    image = wrap(np.ones((1, 1, 3, 4)))
    with pytest.raises(ParameterError, match=f"NumPy or Dask arrays.*{type(image).__name__}"):
        exact_quantiles([image], [50], [[0]])


def test_large_integers_are_rounded_to_float32():
    image = 2**40 + 3 * np.arange(20).reshape(1, 1, 4, 5)
    found = exact_quantiles([image], [90], [[0]])
    assert found.value == np.quantile(image.astype("f4").astype(float), 0.9)


def test_images_of_several_types_are_no_group():
    images = [np.ones((1, 1, 3, 4), dtype) for dtype in ("f4", "f8")]
    with pytest.raises(ParameterError, match=r"one dtype, got \['float32', 'float64'\]"):
        exact_quantiles(images, [50], [[0], [0, 1]])


def test_percentages_may_be_a_list():
    image = np.arange(24.0).reshape(2, 1, 3, 4)
    found = exact_quantiles([image], [[50, 50], [25, 100]], [[0]], zeros=True)
    np.testing.assert_array_equal(found.value, [[[5.5, 17.5], [2.75, 23]]])
