"""Pipelines in YAML: written by hand or by us, read with the rules that hold everywhere."""

import re

import numpy as np
import pytest

from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ParameterError
from pxprep.steps import Blur, SumMask

# Labels and numbers that YAML 1.1 takes for something else.
LABELS = [
    "NO",
    "y",
    "on",
    "1e3",
    "012",
    "~",
    "null",
    "a: b",
    "#1",
    "é",
    "*",
    "1:30",
    "",
    " x",
    "a\x85b",
]
TRICKY = {**{label: 90 + i / 7 for i, label in enumerate(LABELS)}, 5: 50, 2.5: 1e-7, ...: 99}


def by_hand():
    """Each kind of thing that a pipeline may hold."""
    yield Pipeline()
    yield Pipeline.sparrow()
    yield Pipeline.pixie(q={"DAPI": 99.9, ...: 99}, sigma=0.1 + 0.2, cap_max=1)
    yield Pipeline([("first", Blur(1)), Blur(2), Blur(3), ("blur_3", Blur([1, 2, 3]))])
    yield Pipeline().subtract_channels(
        {"CD8": "AF"}, scale={"CD8": 1e-7}, exposures={"CD8": 3, "AF": 7}
    )
    yield (
        Pipeline()
        .compensate({"CD3": {"CD8": 0.1}})
        .threshold(q=3, below="nan")
        .median({"a": 5, ...: 1})
    )


@pytest.mark.parametrize("pipeline", [*by_hand()], ids=lambda one: str(len(one.steps)))
@pytest.mark.parametrize("ending", ["yaml", "yml", "YAML", "json"])
def test_what_was_saved_is_read_again(pipeline, ending, tmp_path):
    path = tmp_path / f"steps.{ending}"
    pipeline.save(path)
    assert Pipeline.from_file(path) == pipeline
    assert Pipeline.from_file(str(path)).to_json() == pipeline.to_json()


@pytest.mark.parametrize("label", [key for key in TRICKY if key is not ...])
def test_labels_and_numbers_stay_what_they_are(label, tmp_path):
    pipeline = Pipeline().threshold({label: TRICKY[label], ...: 1 / 3})
    pipeline.save(tmp_path / "steps.yaml")
    (again,) = Pipeline.from_file(tmp_path / "steps.yaml").steps
    assert again == pipeline.steps[0]
    assert {type(key) for key in again[1].value} == {
        type(key) for key in pipeline.steps[0][1].value
    }


def test_what_a_person_writes(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(
        """
        # DAPI is sharp enough
        steps:
          - remove_hot_pixels: {threshold: 5e1}
          - quantile_norm: {q: {DAPI: 99.9, ...: 99}}
          - blur:
              sigma:
                DAPI: 0
                ...: 2
            as: soft
          - sum_mask: {reference: quantile_norm}
          - sum_norm
          - sqrt
        """.replace("- sqrt", "- function:\n            as: sqrt")
    )
    expected = (
        Pipeline()
        .remove_hot_pixels(50)
        .quantile_norm({"DAPI": 99.9, ...: 99})
        .blur({"DAPI": 0, ...: 2}, name="soft")
        .then(SumMask(reference="quantile_norm"))
        .sum_norm()
        .then(np.sqrt)
    )
    assert Pipeline.from_file(path, functions={"sqrt": np.sqrt}) == expected
    with pytest.raises(ParameterError, match="functions must give the function of step 'sqrt'"):
        Pipeline.from_file(path)


BAD = {
    "steps: [blur": "it must be YAML: .* line 1",
    "steps: [&one blur, *one]": r"aliases \(\*\) are not used.* line 1, column 20",
    "steps: [!!python/object:os.system x]": "it must be YAML: could not determine a constructor",
    "steps: [{blur: {sigma: 1, sigma: 2}}]": "key 'sigma' is given twice",
    "steps:\n- blur: {true: 2}": "key True must be a text or a number: quote it.* line 2",
    "steps:\n- blur: {sigma: 012}": "sigma must be a number of pixels.*, got '012'",
    "steps:\n- blur: {sigma: .inf}": "sigma must be a number of pixels.*, got '.inf'",
    "steps:\n- blur: {sigma: 1e999}": "sigma must be",
    "steps:\n- blur: {sigm: 2}": r"step 'blur' has the parameters \['sigma'\], got \['sigm'\]",
    "steps:\n- blur: {1: 2, a: 3}": r"has the parameters \['sigma'\], got \[1, 'a'\]",
    "steps:\n- blurr": "no step is called 'blurr'; known are",
    "steps:\n- 3": r"a step must be its kind, or 'kind: {parameter: value}'.*, got 3",
    "steps:\n- {blur: 2}": "a step must be its kind",
    "steps:\n- {blur: , clip: {max: 1}}": "a step must be its kind",
    "steps:\n- {as: x}": "a step must be its kind",
    "steps:\n- {blur: , as: 3}": "a step must have a name under 'as'",
    "steps:\n- {blur: , as: x}\n- {blur: , as: x}": "a step's name must be a text that no earlier",
    "steps:\n- sum_mask: {reference: no}": "reference of step 'sum_mask' must name an earlier",
    "steps:\n- quantile_norm: {q: 0.99}": "q",
    "step:\n- blur": "it must have a list of steps under 'steps:'",
    "steps: blur": "it must have a list of steps under 'steps:'",
    "steps: []\nq: 99": r"it must have 'steps' and perhaps 'format', got \['q'\], too",
    "steps: []\nformat: 2": "text must be a pipeline of format 1",
    "": "it must have a list of steps under 'steps:', got None",
    "steps: " + 5000 * "[": "it must be YAML",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_mistakes_are_told_with_the_file(text, message, tmp_path):
    path = tmp_path / "steps.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=rf"(?s)^'{re.escape(str(path))}': .*{message}"):
        Pipeline.from_file(path)


def test_files_that_cannot_be_read_or_written(tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="cannot be read: "):
        Pipeline.from_file(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("steps: [é]".encode("latin-1"))
    with pytest.raises(ParameterError, match="cannot be read: "):
        Pipeline.from_file(tmp_path / "latin.yaml")
    with pytest.raises(ParameterError, match=r"end in \.json or \.yaml or \.yml"):
        Pipeline().save(tmp_path / "steps.toml")
    (tmp_path / "there.yaml").write_text("old")
    with pytest.raises(ParameterError, match="exists already; overwrite=True"):
        Pipeline().save(tmp_path / "there.yaml")
    assert (tmp_path / "there.yaml").read_text() == "old"
    with pytest.raises(ParameterError, match=r"YAML cannot keep .*: save it as JSON"):
        Pipeline().blur({"...": 2}).save(tmp_path / "dots.yaml")


def test_names_are_written_where_they_are_not_the_usual_ones():
    pipeline = Pipeline().blur(1).sum_norm().blur(2).blur(3, name="wide").sum_norm(name="blur_4")
    words = [line.strip(" -") for line in pipeline.to_yaml().splitlines()[3:]]
    blurs = ["blur:", "sigma: 1.0", "sum_norm", "blur:", "sigma: 2.0", "blur:", "sigma: 3.0"]
    assert words == [*blurs, "as: wide", "sum_norm: null", "as: blur_4"]


def test_fitted_numbers_are_json_only(make_image, tmp_path):
    fitted = Pipeline.sparrow().fit(make_image())
    with pytest.raises(ParameterError, match=r"path must end in \.json, got"):
        fitted.save(tmp_path / "fit.yaml")
    fitted.save(tmp_path / "fit.json")
    assert FittedPipeline.from_json(tmp_path / "fit.json") == fitted


def test_none_is_written_where_the_default_is_another(tmp_path):
    pipeline = Pipeline().blur(None).blur()
    path = tmp_path / "steps.yaml"
    pipeline.save(path)
    assert Pipeline.from_file(path) == pipeline
    assert "sigma: null\n" in path.read_text()
    assert "reference" not in path.read_text()
    assert "Blur(sigma=None)" in repr(pipeline)
    assert "reference" not in repr(pipeline)
