"""How values are shown: as text, and in notebooks, light and dark."""

import re
from datetime import UTC, datetime
from html import unescape

import pytest
import xarray as xr

import pxprep
from pages import acted
from pxprep import Cohort, Pipeline
from pxprep.datasets import tissue
from pxprep.engine.progress import PassRecord
from pxprep.errors import ParameterError
from pxprep.layers import Provenance
from pxprep.methods import StepMethods
from pxprep.reporting import Passes

# What Jupyter says of tables in outputs.
JUPYTER = """<body style="background: #111; color: rgb(220, 221, 222)"><style>
.jp-RenderedHTMLCommon table { border-collapse: collapse; border: none; color: black; }
.jp-RenderedHTMLCommon :is(td, th, tr) { text-align: right; vertical-align: middle; padding: 1em; }
.jp-RenderedHTMLCommon tbody tr:nth-child(odd) { background: #f5f5f5; }
</style><div class="jp-RenderedHTMLCommon">"""
STYLES = """
const of = (element) => getComputedStyle(element);
const cells = (wanted) => [...document.querySelectorAll(wanted)];
found = {
  text: [...new Set(cells("td:not(.number)").map((cell) => of(cell).textAlign))],
  number: [...new Set(cells("td.number, th.number").map((cell) => of(cell).textAlign))],
  colour: [...new Set(cells("td, summary, .title").map((cell) => of(cell).color))],
  rows: [...new Set(cells("tr").map((row) => of(row).backgroundColor))],
  open: cells("details").map((one) => one.open),
};
"""


@pytest.fixture(scope="module")
def fovs():
    return tissue(3, 32)


@pytest.fixture(scope="module")
def fitted(fovs):
    return Pipeline.sparrow().fit(fovs)


@pytest.fixture(scope="module")
def made():
    steps = Pipeline.sparrow().to_dict()
    return Provenance(
        layer="<clean>",
        source="fov0",
        time=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        parameters={"pool": "mean", "dtype": None, "layers": {"a": "b"}, "pipeline": steps},
        versions={"numpy": "2.0"},
        run="abc",
        _fitted=None,
    )


@pytest.fixture(scope="module")
def values(fovs, fitted, made):
    passes = Passes()
    passes._done.extend([PassRecord("read", 1.5, 0.25, 2**30), PassRecord("write", 120, 4, None)])
    return {
        "pxprep methods of 1 image": fovs["fov0"].pxprep,
        "pxprep.Pipeline of 5 steps, not fitted": Pipeline.sparrow(),
        "pxprep.FittedPipeline of 3 images, 10 channels, pool='mean'": fitted,
        "pxprep.Cohort of 3 images, pool='mean'": Cohort(fovs),
        "pxprep.Provenance of layer '<clean>'": made,
        "pxprep.reporting.Passes of 2 passes, 2.0 min": passes,
    }


def page_of(value, path):
    path.write_text(f"{JUPYTER}{value._repr_html_()}</div></body>")
    return path


def lines_of(text, title):
    """The lines of a part, split into cells."""
    part = re.search(rf"^{title}[^\n]*:\n((?:    .*\n?)*)", text, re.MULTILINE)[1]
    return [re.split(r"  +", line.strip()) for line in part.splitlines()]


def test_all_begin_with_what_they_are(values):
    for title, value in values.items():
        assert repr(value).startswith(f"<{title}>\n")
        heading = re.search(r'class="title">(.*?)</div>', value._repr_html_())[1]
        assert unescape(re.sub("</?b>", "", heading)) == title


def test_parameters_are_shown_as_they_are():
    text = repr(Pipeline().quantile_norm(99.99999).clip({"CD3": 1048575.5, ...: 4}))
    assert "q=99.99999)" in text
    assert "max={'CD3': 1048575.5, ...: 4})" in text


def test_text_and_notebook_say_the_same(fitted, tmp_path):
    numbers = lines_of(repr(fitted), "Numbers")
    (table,) = re.findall(r"Numbers</summary>.*?</details>", fitted._repr_html_())
    cells = re.findall(r"<t[dh](?: [^>]*)?>(.*?)</t[dh]>", table)
    assert [cell for row in numbers for cell in row] == cells
    scales = fitted.numbers.quantile_norm_scale.values
    assert [row[1] for row in numbers[1:]] == [f"{scale:.6g}" for scale in scales]


def test_numbers_end_below_each_other(fitted, values):
    lines = repr(fitted).split("Numbers:\n")[1].splitlines()[:11]
    assert len({len(line) for line in lines}) == 1
    passes = repr(values["pxprep.reporting.Passes of 2 passes, 2.0 min"]).splitlines()
    assert passes[2:] == [
        "    pass      time  CPU time  peak memory",
        "    read    1.50 s    0.25 s     1.00 GiB",
        "    write  2.0 min    4.00 s      unknown",
    ]


@pytest.mark.parametrize("number", range(6))
def test_notebooks_align_and_keep_the_colours_of_the_page(values, number, tmp_path):
    value = [*values.values()][number]
    _, found = acted(page_of(value, tmp_path / "page.html"), STYLES, tmp_path)
    assert found["text"] == ["left"]
    assert found["number"] in ([], ["right"])
    assert found["colour"] == ["rgb(220, 221, 222)"]
    assert found["rows"] == ["rgba(0, 0, 0, 0)"]


def test_provenance_shows_what_was_asked_for(made):
    text = repr(made)
    assert lines_of(text, "Made from") == [
        ["source", "fov0"],
        ["time", "2025-01-02 03:04:05 UTC"],
        ["run", "abc"],
    ]
    assert lines_of(text, "Parameters") == [["pool", "mean"], ["layers", "a: b"]]
    assert lines_of(text, "Steps")[0] == ["quantile_norm", "q: 99"]
    assert lines_of(text, "Versions") == [["numpy", "2.0"]]
    assert "<clean>" not in made._repr_html_()
    assert "&lt;clean&gt;" in made._repr_html_()


def test_the_accessor_lists_its_methods(fovs):
    accessor = fovs["fov0"].chunk().pxprep
    text = re.sub(r"\s+", " ", repr(accessor))
    methods = text.split("Methods (")[1].partition("): ")[2].split(", ")
    public = {name for name in dir(accessor) if not name.startswith("_")}
    assert set(methods) == public
    assert {name for name in vars(StepMethods) if not name.startswith("_")} < public
    assert "lazy" in text
    assert "Divide each channel by its quantile." in accessor._repr_html_()


def test_nothing_is_computed(fovs, no_compute):
    with no_compute():
        lazy = {name: fov.chunk() for name, fov in fovs.items()}
        for value in (lazy["fov0"].pxprep, Cohort(lazy)):
            assert "lazy" in repr(value)
            assert "lazy" in value._repr_html_()


def test_what_is_odd_is_shown_as_well(fovs, made):
    plane = fovs["fov0"][0]
    assert repr(plane.pxprep).startswith("<pxprep methods of no image>\nProblem: image must have")
    assert "image must have" in plane.pxprep._repr_html_()
    assert repr(Pipeline()) == "<pxprep.Pipeline of 0 steps, not fitted>\nSteps (0): none"
    assert repr(Passes()) == "<pxprep.reporting.Passes of 0 passes, 0.00 s>"
    odd = Provenance("a", "b", made.time, {"pipeline": {"steps": [{"as": "x"}]}}, {}, "r", None)
    assert "    x  not given" in repr(odd)
    imported = Provenance("a", "b", made.time, {"import": True}, {}, "r", None)
    assert "Steps" not in repr(imported)


def test_long_lists_fold():
    image = xr.concat([tissue(1, 16)["fov0"]] * 5, "c").assign_coords(
        c=[f"c{i}" for i in range(50)]
    )
    text = repr(image.pxprep)
    assert max(map(len, text.splitlines())) <= 88
    assert " open>" not in image.pxprep._repr_html_().split("Methods")[1]
    names = {f"image{i}": image for i in range(30)}
    shown = Pipeline().quantile_norm().fit(names)
    assert "image11 and 18 more" in re.sub(r"\s+", " ", repr(shown))


def test_a_pipeline_says_fit_first(fovs):
    with pytest.raises(ParameterError, match=r"no numbers yet: fit it first, pipeline\.fit\(im"):
        Pipeline.sparrow().transform(fovs["fov0"])
    with pytest.raises(ParameterError, match=r"pipeline\.fit_transform\(images\)"):
        pxprep.Pipeline().transform(fovs, variable="image")
