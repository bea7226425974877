"""The site's own pictures: each step has one, and each shows what the step does."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from pxprep import steps
from pxprep.datasets import tissue

pytest.importorskip("matplotlib")

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = {
    name: runpy.run_path(str(DOCS / "images" / f"{name}.py")) for name in ("steps", "choosing")
}
OF_STEPS = SCRIPTS["steps"]["PICTURES"]
# The two backgrounds of a step have a picture each.
ALSO = {"subtract_background": ("top_hat", "constant")}


def asked_for():
    """The pictures that pages show, in their order."""
    for page in sorted(DOCS.glob("*.md")):
        yield from re.findall(r"<!-- picture: (\w+)(?: \|[^>]*)? -->", page.read_text())


def test_pictures_are_shown_once():
    drawn = [*OF_STEPS, *(f"choose_{name}" for name in SCRIPTS["choosing"]["PICTURES"])]
    assert sorted(asked_for()) == sorted(drawn)


def test_every_step_has_a_picture():
    classes = [getattr(steps, name) for name in steps.__all__]
    kinds = {vars(cls)["kind"] for cls in classes if "kind" in vars(cls)} - {"function"}
    assert len(kinds) == 18
    shown = {name for kind in kinds for name in ALSO.get(kind, (kind,))}
    # Functions that are no steps have pictures, too.
    assert shown == OF_STEPS.keys() - {"keep_where", "rescale"}


@pytest.mark.parametrize("name", sorted(OF_STEPS))
def test_the_channel_is_another_one_after_the_step(name):
    shown = OF_STEPS[name]
    image = shown.image()
    before = image.sel(c=shown.channel).values
    after = shown.step(image).sel(c=shown.channel).values
    size = len(before) // len(after)
    after = after.repeat(size, axis=0).repeat(size, axis=1)
    both = np.isfinite(before) & np.isfinite(after)
    dropped = np.isfinite(before) & ~np.isfinite(after)
    assert both.any()
    assert dropped.any() if name in ("sum_mask", "keep_where") else (before != after)[both].any()
    if shown.by_value:  # one value becomes one value
        pairs = np.unique(np.stack([before[both], after[both]]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_larger_pixels_lie_where_the_smaller_ones_were():
    figure = SCRIPTS["steps"]["draw"](OF_STEPS["rescale"])
    before, after, row = (axis for axis in figure.axes if axis.get_label() != "<colorbar>")
    small, large = (axis.images[0] for axis in (before, after))
    assert small.get_extent() == large.get_extent()
    values = np.asarray(small.get_array())
    place = int(before.lines[0].get_ydata()[0])
    rows = values[place // 4 * 4 :][:4].reshape(4, -1, 4)
    drawn = row.lines[1].get_ydata()
    np.testing.assert_allclose(drawn, rows.mean(axis=(0, 2)).repeat(4), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(large.get_array())[place // 4], drawn[::4])


@pytest.mark.parametrize(("script", "name"), [("steps", "blur"), ("choosing", "sigma")])
def test_a_picture_is_drawn(tmp_path, script, name):
    found = SCRIPTS[script]["PICTURES"][name]
    figure = found() if callable(found) else SCRIPTS[script]["draw"](found)
    figure.savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


def test_pipelines_of_the_page_drop_the_glass():
    """Those of docs/choosing.md, on the images of its pictures; and where the constant is from."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "choosing.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(snippet, "choosing.md", "exec"), names)
    counts = tissue()["fov0"]
    camera = SCRIPTS["choosing"]["seen_by_a_camera"](counts)
    glass = (counts == 0).all("c").values
    for pipeline, image in ((names["ions"], counts), (names["camera"], camera)):
        dropped = pipeline.fit_transform(image).isnull().any("c").values
        assert dropped[glass].mean() > 0.9
        assert dropped[~glass].mean() < 0.05
    left = camera.pxprep.subtract_background(radius=40).values[:, glass]
    assert 80 < np.quantile(left, 0.99) < 90
