"""Pipelines from JSON that may say anything: they are right, or refused when they are read."""

import copy
import json
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pxprep import FittedPipeline, Pipeline, PxprepError
from pxprep.datasets import tissue
from pxprep.errors import ParameterError
from pxprep.steps import Step

FOVS = {name: fov[:3, :24, :20] for name, fov in tissue(size=48).items()}
DIVIDED = Pipeline().quantile_norm(98).sum_mask(5).post_norm({"DAPI": 99, ...: 99.5})
FITTED = {
    "divided": DIVIDED.fit(FOVS),
    "each alone": Pipeline().percentile_clip().minmax().fit(FOVS, pool=None),
    "without labels": Pipeline()
    .subtract_background(radius=2)
    .arcsinh((4, 5, 6))
    .remove_hot_pixels(3)
    .sum_mask(threshold=1)
    .sum_norm()
    .clip(0.5)
    .fit([fov.drop_vars("c") for fov in FOVS.values()]),
}
DOCUMENTS = {name: json.loads(fitted.to_json()) for name, fitted in FITTED.items()}
ODD = [
    *(None, True, False, -1, 0, 1, 3, 0.5, 99, 10**12, 10**400, -(10**400), 1e308, 5e-324),
    *("", "x", "nan", "inf", "-inf", "1e400", "\ud800", "a" * 5000, "input", "DAPI", "include"),
    *("<f4", "<f2", "|b1", "<i8", "<u1", ">f8", "<U5", "<U99999999", "O", "|V8", "f8,f8"),
    *("mean", "pixels", "float64", [], {}, [[]], [0], [1, 2, 3], [10**12], ["c"], ["fov", "c"]),
    *(["c", "c"], {"channels": [["DAPI", 98]], "others": 99}, {"channels": [[[], 1]]}),
]


def places(node, place=()):
    """Where there is something in a document."""
    yield place
    if isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(item, (*place, key))


@st.composite
def changed(draw, document):
    """A document in which something was replaced, removed, repeated or called otherwise."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from([place for place in places(document) if place]))
        node = document
        for key in place[:-1]:
            node = node[key]
        key = place[-1]
        how = draw(st.sampled_from(["remove", "repeat", *["replace"] * 4]))
        if how == "remove":
            del node[key]
        elif how == "repeat" and isinstance(node, list):
            node.append(node[key])
        elif how == "repeat":
            node[draw(st.sampled_from(["x", "c", "fov", "", "scale", "DAPI"]))] = node.pop(key)
        else:
            numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
            node[key] = copy.deepcopy(draw(st.sampled_from(ODD) | numbers | st.text()))
    return document


def read(document):
    """What a document says; None if it is refused, as it should be."""
    try:
        return FittedPipeline.from_json(json.dumps(document))
    except PxprepError:
        return None


def image_for(fitted):
    """An image with the channels that were fitted."""
    image = FOVS["fov1"].astype("f4")
    if fitted.channels is None:
        return image.drop_vars("c")
    # As objects, since NumPy would make strings of all labels where one is a string.
    return image.assign_coords(c=np.array([*fitted.channels, None], dtype=object)[:-1])


def numbers_of(document, step, name):
    """Numbers as they stand in a document."""
    return np.array(document["numbers"][step][name]["values"], float)


def divided(image, document):
    """What the pipeline `DIVIDED` does, with the numbers that stand in a document."""
    first, _, last = (step["as"] for step in document["pipeline"]["steps"])
    with np.errstate(all="ignore"):
        values = image / numbers_of(document, first, "scale").astype("f4")[:, None, None]
        sums = values[0] + values[1] + values[2]
        mask = list(document["numbers"])[1]
        # What overflows is infinite, and what is infinite counts as missing: it has no sum.
        is_kept = (sums > numbers_of(document, mask, "threshold")) & np.isfinite(sums)
        kept = np.where(is_kept, values, np.float32("nan"))
        return kept / numbers_of(document, last, "scale").astype("f4")[:, None, None]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=changed(DOCUMENTS["divided"]))
@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
def test_changed_document_is_right_or_refused(document):
    fitted = read(document)
    # Without a step and its numbers, it is a pipeline, too: but not the one that `divided` knows.
    if fitted is None or len(document["pipeline"]["steps"]) < 3:
        return
    image = image_for(fitted)
    result = fitted.transform(image)
    np.testing.assert_array_equal(result.values, divided(image.values, document))
    assert FittedPipeline.from_json(fitted.to_json()) == fitted


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=st.sampled_from(sorted(DOCUMENTS)).flatmap(lambda name: changed(DOCUMENTS[name])))
@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
def test_changed_document_can_be_used_or_is_refused(document):
    fitted = read(document)
    if fitted is None:
        return
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    if fitted.n_channels != 3:  # any number is right where no channel has a number
        assert not any("c" in numbers.dims for numbers in fitted.measured.values())
        return
    assert repr(fitted)
    assert fitted._repr_html_()
    fitted.outliers()
    image = image_for(fitted)
    eager = fitted.transform(image, fov=fitted.fovs[0] if fitted.pool is None else None)
    lazy = fitted.transform(image.chunk(10), fov=fitted.fovs[0] if fitted.pool is None else None)
    np.testing.assert_array_equal(lazy.values, eager.values)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=changed(DOCUMENTS["divided"]["pipeline"]))
@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
def test_changed_pipeline_can_be_used_or_is_refused(document):
    try:
        pipeline = Pipeline.from_json(json.dumps(document))
        pipeline.fit_transform(FOVS["fov0"])
    except PxprepError:
        return
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_what_is_not_changed_is_right():
    """The document that the tests above change, and what they compare with."""
    image = FOVS["fov1"].astype("f4")
    expected = divided(image.values, DOCUMENTS["divided"])
    np.testing.assert_array_equal(read(DOCUMENTS["divided"]).transform(image).values, expected)
    assert np.isnan(expected).any()
    for name, document in DOCUMENTS.items():
        assert read(document) == FITTED[name]


# --- texts ----------------------------------------------------------------------------------------


def text_with(token):
    """The text of a document in which a number is another token."""
    document = copy.deepcopy(DOCUMENTS["divided"])
    document["numbers"]["quantile_norm"]["scale"]["values"][0] = "HERE"
    return json.dumps(document).replace('"HERE"', token)


DEEP = "[" * 100_000
TEXTS = {
    "deep": (DEEP, "at most 100 lists and objects"),
    "deep and closed": (DEEP + "]" * 100_000, "at most 100 lists and objects"),
    "deep objects": ('{"a":' * 100_000, "at most 100"),
    "deep number": (text_with("[" * 200 + "1" + "]" * 200), "at most 100 lists and objects"),
    "deep for Python": (text_with("[" * 2000 + "1" + "]" * 2000), "at most 100"),
    "many digits": (text_with("1" * 5000), "must be JSON"),
    "too large": (text_with("1" + "0" * 400), "'scale' of step 'quantile_norm'.*too large"),
    "1e400": (text_with("1e400"), "a number must be finite, got 1e400"),
    "NaN": (text_with("NaN"), "a number must be finite, got NaN"),
    "Infinity": (text_with("-Infinity"), "a number must be finite, got -Infinity"),
    "twice": ('{"pool": "mean", "pool": null}', "each name once, got 'pool' again"),
    "empty": ("", "must be JSON"),
    "bytes": (b"\xff\xfe\x00\x01\xff", "must be JSON"),
    "zero": (b"\x00", "must be JSON"),
    "no text": (None, "must be JSON"),
    "list": ("[]", "must be a JSON object"),
    "string": ('"' + "x" * 100_000 + '"', "must be a JSON object"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_document(name):
    text, message = TEXTS[name]
    with pytest.raises(ParameterError, match=message) as caught:
        FittedPipeline.from_json(text)
    assert len(str(caught.value)) < 1000
    if name not in ("too large",):
        with pytest.raises(ParameterError):
            Pipeline.from_json(text)


def set_at(place, value):
    def change(document):
        for key in place[:-1]:
            document = document[key]
        if value is ...:
            del document[place[-1]]
        else:
            document[place[-1]] = value

    return change


SCALE = ("numbers", "quantile_norm", "scale")
RULES = [
    *[(set_at((key,), ...), "must be a fitted pipeline with") for key in DOCUMENTS["divided"]],
    (set_at(("other",), 1), "must be a fitted pipeline with"),
    (set_at(("channels",), 10**12), "from 1 to 100,000"),
    (set_at(("channels",), True), "from 1 to 100,000"),
    (set_at(("channels",), ["DAPI", "CD3"]), r"must have the shape \(2,\), got \(3,\)"),
    (set_at(("channels",), ["DAPI", "CD3", "CD3"]), "each of them once"),
    (set_at(("channels",), ["DAPI", "CD3", None]), "strings or numbers"),
    (set_at(("channels",), ["CD4", "CD3", "CD8"]), "q_post.*no channel 'DAPI'"),
    (set_at(("channels",), ["DAPI", "CD3", "\ud800"]), "strings or numbers"),
    (set_at(("fovs",), ["a", "b"]), r"shape \(2, 3\), got \(3, 3\)"),
    (set_at(("fovs",), ["a", "b", {}]), "fovs must be a list of strings or numbers"),
    (set_at(("pool",), None), r"quantile_norm'.*scale must be floats over \('fov', 'c'\)"),
    (set_at(("dtype",), "float16"), "dtype must be one of"),
    (set_at(("numbers",), {}), "numbers for each step"),
    (set_at(("numbers", "quantile_norm"), {}), r"numbers of step 'quantile_norm': they must be \["),
    (set_at(("numbers", "quantile_norm"), None), "must be a mapping"),
    (set_at(SCALE, ...), "numbers of step 'quantile_norm': they must be"),
    (set_at(SCALE, 5), "'scale' of step 'quantile_norm': it must have dims, dtype and values"),
    (set_at((*SCALE, "dims"), []), r"must have the shape \(\), got \(3,\)"),
    (set_at((*SCALE, "dims"), ["fov"]), r"scale must be floats over \('c',\)"),
    (set_at((*SCALE, "dims"), ["x"]), "dims must be some of"),
    (set_at((*SCALE, "dims"), ["c", "c"]), "dims must be some of"),
    (set_at((*SCALE, "dtype"), "O"), "dtype must be that of"),
    (set_at((*SCALE, "dtype"), "<U99999999"), "dtype must be that of"),
    (set_at((*SCALE, "dtype"), "<i8"), "is no value of int64"),
    (set_at((*SCALE, "dtype"), ["f8"]), "dtype must be that of"),
    (set_at((*SCALE, "values"), [1, 2]), r"must have the shape \(3,\)"),
    (set_at((*SCALE, "values"), [1, 2, [3]]), r"must have|is no value"),
    (set_at((*SCALE, "values"), [1, 2, "3"]), "one of"),
    (set_at((*SCALE, "values"), [1, 2, True]), "True is no value of float64"),
    (set_at((*SCALE, "values"), [1, 2, "nan"]), "scale must be finite and not 0"),
    (set_at((*SCALE, "values"), [1, 2, 0]), "scale must be finite and not 0"),
    (set_at(("numbers", "sum_mask", "threshold", "values"), "inf"), "threshold must be finite"),
    (
        set_at(("numbers", "sum_mask", "counted", "values"), [1, 2, -3]),
        "counted must be at least 0",
    ),
    (set_at(("numbers", "sum_mask", "counted", "dtype"), "<f8"), "counted must be whole numbers"),
    (
        set_at(("pipeline", "steps", 0, "configuration", "q"), 10**400),
        "q must be a percentage from 0 to 100",
    ),
    (set_at(("pipeline", "steps", 1, "configuration", "reference"), ["input"]), "reference"),
    (set_at(("pipeline", "steps", 1, "as"), ["a"]), "must have a name under 'as'"),
]


@pytest.mark.parametrize(("change", "message"), RULES, ids=[message for _, message in RULES])
def test_document_that_breaks_a_rule(change, message):
    document = copy.deepcopy(DOCUMENTS["divided"])
    change(document)
    with pytest.raises(PxprepError, match=message):
        FittedPipeline.from_json(json.dumps(document))


@pytest.mark.parametrize(("low", "high"), [("low", "high"), ("min", "max")])
def test_limits_that_are_no_limits(low, high):
    step = "percentile_clip" if low == "low" else "minmax"
    for name, value in ((low, 1e9), (high, -1e9), (low, "nan"), (low, "inf"), (high, "-inf")):
        document = copy.deepcopy(DOCUMENTS["each alone"])
        document["numbers"][step][name]["values"][1][2] = value
        with pytest.raises(ParameterError, match=f"numbers of step '{step}': ({low}|{high}) must"):
            FittedPipeline.from_json(json.dumps(document))


def test_numbers_where_nothing_is_measured():
    document = copy.deepcopy(DOCUMENTS["without labels"])
    document["numbers"]["arcsinh"] = {"x": {"dims": [], "dtype": "<f8", "values": 1}}
    with pytest.raises(ParameterError, match=r"step 'arcsinh': it measures nothing, got \['x'\]"):
        FittedPipeline.from_json(json.dumps(document))


# --- steps of one's own ---------------------------------------------------------------------------


def own_step():
    from dataclasses import dataclass
    from typing import ClassVar

    @dataclass(frozen=True)
    class Named(Step):
        kind: ClassVar[str] = "test_fitted_json_named"
        least: float = 0

        def __post_init__(self):
            if self.least < 0:
                raise ValueError("least is negative")

        def measure(self, cohort):
            texts = xr.DataArray(["low", "höher"], dims="c")
            flags = xr.DataArray([[True, False]] * len(cohort), dims=("fov", "c"))
            half = xr.DataArray(np.float16(0.1))
            return {"text": texts, "flag": flags, "half": half, "none": xr.DataArray(np.nan)}

        def apply(self, image, numbers):
            return image

        def check_numbers(self, numbers, labels, pool):
            if "text" not in numbers:
                raise ParameterError("text is missing")

    return Named


def test_own_numbers_keep_their_types():
    fov = FOVS["fov0"][:2]
    fitted = Pipeline([own_step()()]).fit({"a": fov, "b": fov})
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    for name, array in fitted.measured["test_fitted_json_named"].items():
        assert again.measured["test_fitted_json_named"][name].dtype == array.dtype
    document = json.loads(fitted.to_json())
    del document["numbers"]["test_fitted_json_named"]["text"]
    with pytest.raises(ParameterError, match="named': text is missing"):
        FittedPipeline.from_json(json.dumps(document))
    for value, message in ((-1, "least is negative"), ("x", "not supported"), ([], "not supp")):
        document["pipeline"]["steps"][0]["configuration"]["least"] = value
        with pytest.raises(ParameterError, match=f"cannot have .*{message}"):
            FittedPipeline.from_json(json.dumps(document))


@pytest.mark.parametrize(("dtype", "number"), [("<f4", 1e39), ("<f2", 7e4)])
def test_own_numbers_that_are_too_large(dtype, number):
    fov = FOVS["fov0"][:2]
    document = json.loads(Pipeline([own_step()()]).fit({"a": fov, "b": fov}).to_json())
    numbers = document["numbers"]["test_fitted_json_named"]
    numbers["large"] = {"dims": [], "dtype": dtype, "values": number}
    with pytest.raises(
        ParameterError, match=rf"'large' of step .*: {re.escape(repr(number))} is too large"
    ):
        FittedPipeline.from_json(json.dumps(document))


@pytest.mark.parametrize("value", [1j, np.datetime64("2024-01-01", "ns"), "x" * 1000])
def test_own_numbers_that_cannot_be_kept(value):
    from dataclasses import dataclass
    from typing import ClassVar

    @dataclass(frozen=True)
    class Odd(Step):
        kind: ClassVar[str] = "test_fitted_json_odd"

        def measure(self, cohort):
            return {"odd": xr.DataArray(np.asarray(value))}

        def apply(self, image, numbers):
            return image

    with pytest.raises(ParameterError, match="must be bool, numbers or short texts to be saved"):
        Pipeline([Odd()]).fit(FOVS["fov0"]).to_json()


# --- names that cannot be written -----------------------------------------------------------------


def test_names_of_files_that_are_not_utf8(tmp_path):
    fov = FOVS["fov0"]
    name = b"CD\xff3".decode("utf-8", "surrogateescape")
    with pytest.raises(PxprepError, match=r"channel labels must be text.*CD\\udcff3.*rename"):
        Pipeline.sparrow().fit(fov.assign_coords(c=["a", name, "b"]))
    with pytest.raises(PxprepError, match="names that can be written"):
        Pipeline.sparrow().fit({name: fov})
    with pytest.raises(ParameterError, match="a step's name must be a text"):
        Pipeline().blur(1, name=name)


# --- files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deep", "too large", "bytes", "zero", "empty", "1e400"])
def test_files(tmp_path, name):
    text, _ = TEXTS[name]
    file = tmp_path / "fitted.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParameterError, match=re.escape(repr(str(file)))):
        FittedPipeline.from_json(file)
    with pytest.raises(ParameterError, match="cannot be read"):
        FittedPipeline.from_json(tmp_path)
    with pytest.raises(
        ParameterError, match="text must be the path of a JSON file, of names of at"
    ):
        FittedPipeline.from_json(tmp_path / ("x" * 300))
