"""Scale bars in the report's pictures, names that stay in sight, and findings about z-scores."""

import shutil

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("jinja2")

from pages import acted
from pxprep import Pipeline

WHITE, RIM = (255, 255, 255), (28, 33, 38)
SCROLLED = """
const box = document.querySelector("#cohort .scroll");
box.style.width = "120px";
const start = (node) => Math.round(node.getBoundingClientRect().left);
const left = (node) => start(node) - start(box);
const parts = [...box.querySelectorAll("svg")];
const before = parts.map(left); box.scrollLeft = 60;
const names = parts[0].querySelectorAll("text").length;
found = [before, parts.map(left), box.scrollLeft, names];
"""


def count(picture, colour):
    return int((picture == colour).all(axis=-1).sum(axis=1).max())


@pytest.mark.parametrize("width", [60, 600])
def test_pictures_have_scale_bars(width, write):
    rng = np.random.default_rng(1)
    pixels = rng.uniform(0, 1, (2, 50, width))
    image = xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    fitted = Pipeline().clip(1).fit(image)
    plain = write(image, fitted.transform(image), fitted)
    assert "bar:" not in plain.said
    assert "the bars are" not in plain.said
    image = image.assign_attrs(um_per_pixel={"y": 0.5, "x": 0.5})
    page = write(image, fitted.transform(image), fitted)
    # At most 30 % of the width: 9 or 90 of 30 or 300 micrometres.
    length, text = {60: (10, "5 µm"), 600: (100, "50 µm")}[width]
    assert f"the bars are {text} long" in page.said
    assert f"bar: {text}" in page.said
    for side in ("before", "after"):
        (found,) = page.pictures("a", side)
        (without,) = plain.pictures("a", side)
        columns = round(length / width * found.shape[1])
        assert count(found, WHITE) == columns
        assert count(found, RIM) == columns + 2
        assert count(without, WHITE) == 0
        # The bar and its rim only are other than they were, near the corner.
        rows, places = np.nonzero((found != without).any(axis=-1))
        assert rows.min() >= found.shape[0] - 7
        assert places.min() >= found.shape[1] - columns - 4
    (composite,) = page.image("Composite of image 0")
    (without,) = plain.image("Composite of image 0")
    columns = round(length / width * composite.shape[1])
    row = composite[-4, composite.shape[1] - 3 - columns : -3]
    assert len(row) == columns
    assert row.min() == 255
    assert without[-4, composite.shape[1] - 3 - columns : -3].min() < 255


def test_a_picture_that_is_too_small_has_none(write):
    image = xr.DataArray(np.ones((1, 4, 5)), dims=("c", "y", "x"))
    image.attrs["um_per_pixel"] = {"y": 0.5, "x": 0.5}
    fitted = Pipeline().clip(1).fit(image)
    page = write(image, fitted.transform(image), fitted)
    assert page.image("0 of image 0, after")[0].shape == (4, 5, 3)


def test_names_of_the_heatmap_stay_in_sight(file, tmp_path):
    page = shutil.copy(file, tmp_path / "scrolled.html")
    _, (before, after, scrolled, names) = acted(page, SCROLLED, tmp_path)
    assert before[0] == after[0] == 0
    assert scrolled > 0
    assert before[1] - after[1] == scrolled
    assert names == 4


def test_findings_about_z_scores(write):
    values = np.random.default_rng(0).normal(size=(4, 6, 6))
    values[1], values[2], values[3] = np.nan, 3, 0
    image = xr.DataArray(values, dims=("c", "y", "x"), coords={"c": ["good", "none", "flat", "0"]})
    with pytest.warns(match="none"):
        fitted = Pipeline().zscore().fit(image)
    page = write(image, fitted.transform(image), fitted)
    assert "zscore: No finite pixel in none." in page.said
    assert "zscore: All finite pixels are equal in flat, 0." in page.said
    assert "non-zero" not in page.said
