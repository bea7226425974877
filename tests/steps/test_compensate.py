"""Spillover: against the inverse, and SciPy's least squares pixel by pixel; forms of matrices."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import oracle
from checked_steps import row
from oracle import assert_agrees, assert_same_bits
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.errors import ChannelError, ParameterError
from pxprep.steps import Compensate, Step

TYPES = ("bool", "uint8", "uint16", "int16", "float16", "float32", "float64", ">f4")
LABELS = ["DAPI", "CD3", "CD20"]
METHODS = pytest.mark.parametrize("method", ["linear", "nnls"])


def mixing_of(n_channels, most, seed=0):
    """Fractions up to `most` to the neighbours, and less beyond."""
    rng = np.random.default_rng(seed)
    away = np.abs(np.subtract.outer(np.arange(n_channels), np.arange(n_channels)))
    matrix = most * rng.random((n_channels, n_channels)) / np.maximum(away, 1) ** 3
    np.fill_diagonal(matrix, 1)
    return matrix


def assert_solved(result, expected, method):
    """To the bit; least squares up to the rounding of the float type."""
    if method == "linear":
        assert_agrees(result, expected)
        return
    values = oracle.plain(result)
    assert values.dtype == expected.dtype
    limit = (2**-22 if values.dtype == np.float32 else 2**-44) * np.nanmax(np.abs(expected))
    np.testing.assert_allclose(values, expected, rtol=0, atol=limit)
    assert not (values < 0).any()


@METHODS
def test_compensation_is_the_oracle(method, make_image):
    matrix = mixing_of(3, 0.3)
    frame = pd.DataFrame(matrix, LABELS, LABELS)
    for dtype in TYPES:
        is_float = np.dtype(dtype).kind == "f"
        image = make_image(dtype, (3, 11, 7), nan=0.1 if is_float else 0)
        if is_float:
            image.values[0, 0, 0], image.values[1, 1, 1] = np.inf, -np.inf
        result = ops.compensate(image.assign_coords(c=LABELS), frame, method)
        assert_solved(result, oracle.compensate(image.values, matrix, method), method)


@METHODS
def test_compensation_fuses_with_steps_around_it(method, make_image):
    image = make_image("uint16", (3, 2, 23, 17), zeros=0.5).assign_coords(c=LABELS)
    frame = pd.DataFrame(mixing_of(3, 0.2), LABELS, LABELS)
    fitted = Pipeline().quantile_norm(98).compensate(frame, method).blur(1).fit(image)
    whole = fitted.transform(image)
    one = ops.blur(ops.compensate(ops.quantile_norm(image, 98), frame, method), 1)
    assert_same_bits(whole, one)
    lazy = fitted.transform(image.chunk({"c": 1, "y": (1, 20, 2), "x": 5}))
    assert_same_bits(lazy.compute(scheduler="synchronous"), whole)
    again = FittedPipeline.from_json(fitted.to_json())
    assert_same_bits(again.transform(image.isel(c=[1, 2, 0])), whole)


# The last has unknowns that are hard to tell apart: they take more rounds than there are.
@pytest.mark.parametrize(("n_channels", "most"), [(12, 0.1), (40, 0.05), (7, 0.6), (9, 1.0)])
@pytest.mark.parametrize("content", ["counts", "dense", "zeros", "negative", "tiny"])
def test_least_squares_are_those_of_scipy(n_channels, most, content):
    rng = np.random.default_rng(n_channels)
    matrix = mixing_of(n_channels, most, seed=1)
    size = n_channels, 9, 17
    values = {
        "counts": rng.poisson(rng.gamma(0.3, 2, size)),
        "dense": rng.gamma(2, 5, size),
        "zeros": rng.gamma(2, 5, size) * (rng.random(size) < 0.3),
        "negative": rng.normal(0, 5, size),
        "tiny": rng.gamma(2, 5, size) * 1e-30,
    }[content].astype(float)
    image = xr.DataArray(values, dims=("c", "y", "x"))
    result = ops.compensate(image, pd.DataFrame(matrix))
    assert_solved(result, oracle.compensate(values, matrix), "nnls")


def test_both_are_the_same_where_nothing_is_negative(make_image):
    matrix = pd.DataFrame(mixing_of(3, 0.1))
    image = make_image("float32", (3, 40, 50)).drop_vars("c") + 5
    linear, result = ops.compensate(image, matrix, "linear").values, ops.compensate(image, matrix)
    same = (linear >= 0).all(axis=0)
    assert 0.2 < same.mean() < 1
    np.testing.assert_array_equal(result.values[:, same], linear[:, same])


@METHODS
@pytest.mark.filterwarnings("ignore:compensate. channel 'b' is not in the matrix")
def test_channels_that_are_not_in_the_matrix_stay(method):
    image = row([10, np.nan, 4, 5], [-1, np.inf, np.nan, 0], [5, 5, 5, np.inf], c=["a", "b", "c"])
    result = ops.compensate(image, {"c": {"a": 0.5}}, method).values[:, 0]
    np.testing.assert_array_equal(result[1], image.values[1, 0])
    np.testing.assert_array_equal(np.isnan(result), [[0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]])
    assert result[0, 0] == 7.5
    assert result[2, 0] == 5


@METHODS
def test_channels_that_are_not_in_the_matrix_are_named_once(method):
    image = row([100], [7], [10], [3], c=["a", "b", "c", "d"])
    cohort, matrix = {"one": image, "two": image + 1}, {"c": {"a": 0.5}}
    words = "compensate: channels 'b', 'd' are not in the matrix: they stay as they are"
    pipeline = Pipeline().blur(0).compensate(matrix, method).quantile_norm()
    for call in (
        lambda: ops.compensate(cohort, matrix, method),
        lambda: image.chunk().pxprep.compensate(matrix, method).compute(),
        lambda: pipeline.fit(cohort),
        lambda: pipeline.fit_transform({name: one.chunk() for name, one in cohort.items()}),
    ):
        assert warned(call) == [words]
    fitted = pipeline.fit(image.isel(c=[0, 2]))
    assert warned(lambda: Pipeline().compensate(matrix, method).fit(image.sel(c=["c", "b", "a"])))
    assert warned(lambda: fitted.transform(image.isel(c=[2, 0]))) == []
    with pytest.warns(PxprepWarning, match="channels 'b', 'd'"):
        fitted = pipeline.fit({"one": image})
    assert warned(lambda: fitted.transform(image)) == []
    assert warned(lambda: fitted.update({"two": image})) == []
    assert warned(lambda: FittedPipeline.from_json(fitted.to_json())) == []
    assert warned(lambda: image.isel(c=[0, 1, 2]).pxprep.compensate(matrix, method)) == [
        "compensate: channel 'b' is not in the matrix: it stays as it is"
    ]


def warned(call):
    """What pxprep warns of meanwhile."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in record if one.category is PxprepWarning]


def test_matrices_come_in_any_form(tmp_path):
    square = np.array([[1, 0.02, 0], [0.01, 1, 0], [0, 0.005, 1]])
    names = ["Gd155", "Gd156", "Gd158"]
    # As write.csv of R does.
    catalyst = tmp_path / "sm.csv"
    lines = [f'"{name}",{",".join(map(str, one))}' for name, one in zip(names, square, strict=True)]
    catalyst.write_text("\n".join(['"","Gd155","Gd156","Gd158"', *lines]) + "\n")
    headless = tmp_path / "headless.csv"
    headless.write_text("\ufeff" + "\r\n".join(['"Gd155","Gd156","Gd158"', *lines]), "utf-8")
    spills = {"Gd155": {"Gd156": 0.02}, "Gd156": {"Gd155": 0.01}, "Gd158": {"Gd156": 0.005}}
    forms = [
        pd.DataFrame(square, names, names),
        pd.DataFrame(square, names, names).iloc[[2, 0, 1], [1, 0, 2]],
        xr.DataArray(square, dims=("from", "to"), coords={"from": names, "to": names}),
        catalyst,
        str(headless),
        spills,
        # Gd158 gets nothing, and need not be a column.
        pd.DataFrame(square, names, names)[["Gd155", "Gd156"]],
    ]
    steps = [Compensate(form, "linear") for form in forms]
    for step in steps:
        assert step == steps[0]
        assert hash(step) == hash(steps[0])
        assert Step.from_dict(json.loads(json.dumps(step.to_dict()))) == step
    image = row([10], [7], [100], c=names)
    result = ops.compensate(image, catalyst, "linear").values.ravel()
    np.testing.assert_allclose(result @ square, [10, 7, 100], rtol=1e-6)


def frame(values, rows=("CD3", "CD20"), columns=("CD3", "CD20")):
    return pd.DataFrame(np.array(values), list(rows), list(columns))


BAD = {
    "unknown": ({"CD3": {"CD19": 0.1}}, ChannelError, "matrix: no channel 'CD19'"),
    "twice": (frame(np.eye(2), ("CD3", "CD3")), ChannelError, "matrix, rows: .*'CD3' more than"),
    "columns": (
        frame(np.eye(2), columns=("CD3", "CD3")),
        ChannelError,
        "matrix, columns: .*'CD3' more than",
    ),
    "singular": (frame(np.ones((2, 2))), ParameterError, "matrix must be .* inverted"),
    "negative": (frame([[1, -0.1], [0, 1]]), ParameterError, r"matrix\['CD3', 'CD20'\] .*-0.1"),
    "percent": (frame([[100, 2], [0, 100]]), ParameterError, r"\['CD3', 'CD3'\] .*got 100"),
    "own": (frame([[0.9, 0], [0, 1]]), ParameterError, "1 where row and column .*got 0.9"),
    "NaN": (frame([[1, np.nan], [0, 1]]), ParameterError, r"matrix\['CD3', 'CD20'\] .*nan"),
    "array": (np.eye(3), ParameterError, "matrix must be a pandas.DataFrame.*got ndarray"),
    "unlabeled": (xr.DataArray(np.eye(3)), ParameterError, "with labels along two dims"),
    "empty": ({}, ParameterError, "matrix must name at least one channel, got none"),
    "no file": ("there/is/none.csv", ParameterError, "matrix must be a CSV file.*none.csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_matrix_is_refused_before_work(name, make_image, no_compute):
    matrix, kind, words = BAD[name]
    image = make_image("uint16").chunk()
    for function in (
        lambda: ops.compensate(image, matrix),
        lambda: Pipeline().compensate(matrix).fit(image),
    ):
        with no_compute(), pytest.raises(kind, match=words):
            function()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "matrix must be a CSV file"),
        (",CD3,CD20\nCD3,1,x\n", "could not convert"),
        (",CD3,CD20\nCD3,1,0\nCD20,1\n", "as many numbers .*2; got others in .'CD20'"),
        (",CD3,CD20\n", "as many numbers"),
        ("0" * 200_000, "matrix must be a CSV file .*: field larger"),
        (",CD3,CD3\nCD3,1,0\n", "'CD3' more than once"),
    ],
)
def test_bad_file_is_refused(text, words, tmp_path):
    path = tmp_path / "matrix.csv"
    path.write_text(text)
    with pytest.raises((ParameterError, ChannelError), match=words):
        Compensate(path)


def test_bad_method_is_refused():
    with pytest.raises(ParameterError, match="method must be one of 'nnls', 'linear', got 'flow'"):
        Compensate({"CD3": {"CD20": 0.1}}, "flow")
