"""A call with the names of harpy is told the names here; the signature stays sparrow's."""

import inspect
import re
from pathlib import Path

import pytest

pytest.importorskip("spatialdata")

from pxprep import pixel_clustering_preprocess
from pxprep.errors import ParameterError
from pxprep.layers.harpy_names import GONE, NAMES
from spatial_objects import make

PAGE = (Path(__file__).parents[2] / "docs" / "migrate-from-harpy.md").read_text()
SPARROW = (
    "(sdata, img_layer, output_layer, channels=None, q=99, q_sum=5, q_post=99.9, sigma=2, "
    "norm_sum=True, chunks=None, scale_factors=None, overwrite=False, *"
)


def test_the_signature_is_that_of_sparrow():
    signature = inspect.signature(pixel_clustering_preprocess)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    shown = str(inspect.Signature(plain))
    assert shown.startswith(SPARROW)
    assert "kwargs" not in shown


@pytest.mark.parametrize(("theirs", "ours"), NAMES.items())
def test_each_name_of_harpy_is_answered_with_the_one_here(theirs, ours):
    assert ours in inspect.signature(pixel_clustering_preprocess).parameters
    with pytest.raises(ParameterError, match=f"got those of harpy: write {ours} for {theirs}$"):
        pixel_clustering_preprocess(make(), **{theirs: "image"})


def test_all_names_of_a_call_are_answered_at_once():
    message = re.search(r"```text\nParameterError: (.*?)```", PAGE, re.DOTALL)[1].split()
    call = re.search(r"```python\n(pxprep[^\n]*image_name[^\n]*)\n```", PAGE)[1]
    with pytest.raises(ParameterError) as caught:
        eval(call.removeprefix("pxprep."), globals(), {"sdata": make()})
    assert str(caught.value).split() == message


def test_what_has_no_counterpart_is_said_to_have_none():
    assert set(GONE) == {"persist_intermediate"}
    with pytest.raises(ParameterError, match=r"no persist_intermediate \(memory says"):
        pixel_clustering_preprocess(make(), "image", "clean", persist_intermediate=False)


def test_other_unknown_names_are_what_python_says():
    with pytest.raises(TypeError, match="unexpected keyword argument 'sigmas'"):
        pixel_clustering_preprocess(make(), "image", "clean", sigmas=2)


def test_the_page_has_each_name():
    rows = dict(re.findall(r"^\| `(\w+)[^|]*` \| [^|]* \| `(\w+)`", PAGE, re.M))
    assert NAMES.items() <= rows.items()
