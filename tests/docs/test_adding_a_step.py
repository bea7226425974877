"""The step that docs/adding-a-step.md makes up does what the page says."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from pxprep import FittedPipeline, Pipeline
from pxprep.datasets import tissue
from pxprep.errors import ChannelError, ParameterError
from pxprep.steps import base

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-a-step.md").read_text()
STEP, ORACLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def step(tmp_path, monkeypatch):
    """The class, from its file as the page has it, in place beside the others."""
    file = tmp_path / "sqrt.py"
    file.write_text(STEP)
    spec = importlib.util.spec_from_file_location("pxprep.steps.sqrt", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pxprep.steps.sqrt", module)
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    spec.loader.exec_module(module)
    return module.Sqrt


def test_made_up_step_is_its_oracle(step):
    names = {"np": np}
    exec(ORACLE, names)
    image = tissue(size=40)["fov0"][:3]
    factors = {"DAPI": 2, ...: 0.5}
    after = Pipeline([step(factors)]).fit_transform(image)
    np.testing.assert_array_equal(after, names["sqrt"](image.values, (2, 0.5, 0.5)))
    chain = Pipeline().quantile_norm(99).then(step(factors)).blur(1).post_norm()
    fitted = chain.fit({"one": image, "two": image[:, :30]})
    whole = fitted.transform(image)
    np.testing.assert_array_equal(fitted.transform(image.chunk(y=7, c=1)), whole)
    again = FittedPipeline.from_json(fitted.to_json())
    np.testing.assert_array_equal(again.transform(image), whole)


def test_made_up_step_checks_its_parameters(step):
    image = tissue(size=40)["fov0"][:3]
    with pytest.raises(ParameterError, match="factor must be a number above 0, got -1"):
        step(-1)
    with pytest.raises(ChannelError, match=r"factor.*'CD99'"):
        Pipeline([step({"CD99": 1, ...: 2})]).fit(image)


def test_generator_writes_its_function(step):
    generator = runpy.run_path(str(ROOT / ".ci/generate_methods.py"))
    written = generator["function_text"](step)
    assert "def sqrt(images: AnyImages, factor: PerChannel = 1) -> AnyImages:" in written
    assert "return apply_step(Sqrt(factor), images)" in written
    assert "\n    images\n        An image, dims" in written
