"""Pipelines as JSON, there and back, and as they are shown."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import oracle
from count_images import counts_of
from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ImageError, ParameterError
from pxprep.steps import Blur, PostNorm, QuantileNorm, Step, SumMask, SumNorm

# --- saving and showing ---------------------------------------------------------------------------


def test_json_round_trip_is_exact(cohort):
    pipeline = Pipeline(
        [
            QuantileNorm({"CD3": 98.7654321, ...: 99}),
            ("soft", Blur((0, 1.1, 1 / 3))),
            SumMask(5, reference="quantile_norm", zeros="include"),
            SumNorm(),
            PostNorm(99.9),
        ]
    ).clip(1)
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    fitted = pipeline.fit(cohort)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    xr.testing.assert_identical(again.numbers, fitted.numbers)
    xr.testing.assert_identical(again.transform(cohort["fov1"]), fitted.transform(cohort["fov1"]))
    json.loads(fitted.to_json(), parse_constant=lambda text: pytest.fail(f"{text} in JSON"))


def test_integer_labels_survive_json():
    image = counts_of(3, labels=[7, 8, 9])
    fitted = Pipeline([QuantileNorm({8: 50, ...: 99})]).fit(image)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    assert again.channels == (7, 8, 9)


def test_functions_are_found_by_name(image):
    pipeline = Pipeline([QuantileNorm(99), np.sqrt])
    text = pipeline.to_json()
    assert Pipeline.from_json(text, functions={"sqrt": np.sqrt}) == pipeline
    with pytest.raises(ParameterError, match="'sqrt'"):
        Pipeline.from_json(text)


def test_two_functions_of_one_name_stay_two(image):
    pipeline = Pipeline([lambda im: im + 1, ("ten", lambda im: im + 10)])
    (one, step), (ten, other) = pipeline.steps
    text = pipeline.to_json()
    again = Pipeline.from_json(text, functions={one: step.function, ten: other.function})
    assert again == pipeline
    with pytest.raises(ParameterError, match="'ten'"):
        Pipeline.from_json(text, functions={one: step.function})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("blur", "must have a name under 'as', got 'blur'"),
        ({"name": "blur", "configuration": {"sigma": 1}}, "must have a name under 'as'"),
        ({"name": "blur", "as": "a"}, "must be a mapping with name and configuration"),
        ({"name": "nope", "as": "a", "configuration": {}}, "no step is called 'nope'; known are"),
        ({"name": ["blur"], "as": "a", "configuration": {}}, r"no step is called \['blur'\]"),
        ({"name": "blur", "as": "a", "configuration": {"radius": 1}}, r"got \['radius'\]"),
        ({"name": "clip", "as": "a", "configuration": {}}, r"parameters \['max'\], got \[\]"),
    ],
)
def test_bad_steps_in_json(step, message):
    with pytest.raises(ParameterError, match=message):
        Pipeline.from_json(json.dumps({"format": 1, "steps": [step]}))


@pytest.mark.parametrize("text", ["{}", '{"format": 99, "steps": []}', '{"format": 1, "steps": 3}'])
def test_json_that_is_no_pipeline(text):
    with pytest.raises(ParameterError, match="must be a pipeline of format 1"):
        Pipeline.from_json(text)


@pytest.mark.parametrize(
    "sigma",
    [
        {"CD3": 2},
        {"channels": [["CD3"]]},
        {"channels": [[[], 2]]},
        {"channels": [["CD3", 2], ["CD3", 3]]},
        {"channels": [["CD3", 2]], "other": 3},
    ],
)
def test_mapping_of_channels_that_is_none(sigma):
    step = {"name": "blur", "as": "blur", "configuration": {"sigma": sigma}}
    with pytest.raises(ParameterError, match=r"blur\.sigma: in JSON a mapping .*, got \{"):
        Pipeline.from_json(json.dumps({"format": 1, "steps": [step]}))


DAMAGE = {
    "pipeline": [[], None, "x"],
    "channels": [None, "abc", 0, {}, ["CD3"]],
    "fovs": [3, None, []],
    "pool": ["x", 3],
    "numbers": [[], {}, {"quantile_norm": {}}, {"blur": {}}],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in DAMAGE.items() for v in vs])
def test_damaged_json(image, key, value):
    data = json.loads(Pipeline.sparrow().fit(image).to_json())
    with pytest.raises(ParameterError):
        FittedPipeline.from_json(json.dumps({**data, key: value}))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        3,
        {"dims": ["c"], "dtype": "<f8"},
        {"dims": ["c"], "dtype": "nonsense", "values": [1, 2, 3]},
        {"dims": ["c"], "dtype": "<f8", "values": [[1]]},
        {"dims": ["c"], "dtype": "<f8", "values": [1]},
    ],
)
def test_damaged_numbers(image, entry):
    data = json.loads(Pipeline.sparrow().fit(image).to_json())
    data["numbers"]["post_norm"]["scale"] = entry
    with pytest.raises(ParameterError, match="post_norm"):
        FittedPipeline.from_json(json.dumps(data))


def test_labels_of_many_types_survive_json():
    image = counts_of(3, labels=["a", 1, 2.5])
    fitted = Pipeline.sparrow().fit({1: image, "two": image})
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    with pytest.raises(ImageError, match=r"names that can be written.*\('slide', 1\)"):
        Pipeline.sparrow().fit({("slide", 1): image})


def test_what_json_cannot_keep_is_an_error(image):
    @dataclass(frozen=True)
    class Odd(Step):
        kind = "test_odd"
        thing: object = None

        def apply(self, image, numbers):
            return image

    with pytest.raises(ParameterError, match=r"test_odd\.thing"):
        Pipeline([Odd(object())]).to_json()
    with pytest.raises(ParameterError, match="JSON"):
        Pipeline([Odd(float("inf"))]).to_json()


def test_tables(cohort):
    fitted = Pipeline.sparrow(sigma={"CD3": 0, ...: 2}).fit(cohort)
    text, html = repr(fitted), fitted._repr_html_()
    scale = f"{fitted.numbers.quantile_norm_scale.values[1]:.6g}"
    threshold = f"{float(fitted.numbers.sum_mask_threshold):.6g}"
    for shown in ("panCK", scale, threshold, "3 images", "{'CD3': 0, ...: 2}"):
        assert shown in text
    for shown in ("<td>panCK</td>", f'<td class="number">{scale}</td>', threshold):
        assert shown in html
    assert "Blur(sigma=2)" in repr(Pipeline.sparrow())
    assert "<td>Blur(sigma=2)</td>" in Pipeline.sparrow()._repr_html_()


def test_numbers_stand_beside_their_step(image):
    fitted = Pipeline().sum_mask(5).sum_mask(60).fit(image)
    first, second = (
        f"{float(fitted.numbers[name]):.6g}"
        for name in ("sum_mask_threshold", "sum_mask_2_threshold")
    )
    _, _, row, row_2, *_ = fitted._repr_html_().split("<tr>")
    assert f"<td>threshold = {first}</td>" in row
    assert f"<td>threshold = {second}</td>" in row_2


def test_html_is_escaped(image):
    fitted = Pipeline.sparrow().fit(image.assign_coords(c=["<b>", "&", "c"]))
    html = fitted._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<td><b></td>" not in html


@pytest.mark.parametrize("chunks", [None, {"c": (1, 2), "y": (1, 9, 13), "x": 7}], ids=str)
def test_steps_that_measure_nothing_in_a_pipeline(make_image, chunks):
    image = make_image("float32", nan=0.05, chunks=chunks)
    pipeline = (
        Pipeline().remove_hot_pixels({"CD3": 3, ...: 9}).arcsinh([1, 5, 2]).log1p().quantile_norm()
    )
    again = Pipeline.from_json(pipeline.to_json())
    assert again == pipeline
    expected = oracle.remove_hot_pixels(oracle.plain(image), [9, 3, 9])
    expected = oracle.quantile_norm(oracle.log1p(oracle.arcsinh(expected, [1, 5, 2])))
    for result in (again.fit_transform(image), again.fit(image).transform(image)):
        oracle.assert_agrees(result, expected)
