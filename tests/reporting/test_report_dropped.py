"""A report of channels that a step drops: in what was measured before, and in no picture."""

import re

import numpy as np
import pytest

pytest.importorskip("jinja2")

from pxprep import Pipeline
from pxprep.reporting.distances import Distances

LEFT = ["DAPI", "CD3"]


@pytest.fixture(scope="module")
def odd(fovs):
    """Too much panCK in one image, and too much DAPI in another."""
    images = {name: fov.copy() for name, fov in fovs.items()}
    images["fov1"].loc["panCK"] *= 40
    images["fov2"].loc["DAPI"] *= 40
    return images


@pytest.fixture(scope="module")
def fitted(odd):
    steps = Pipeline().quantile_norm(99).subtract_channels({"CD3": "panCK"}, 0.01, drop=True)
    return steps.sum_norm().post_norm(90).fit(odd)


@pytest.fixture
def page(odd, fitted, write):
    return write(odd, fitted.transform(odd), fitted)


def test_what_is_said(page, fitted):
    assert "channels 3" in page.said
    assert "channels dropped 1" in page.said
    assert "Steps drop panCK: there are no pictures of these channels." in page.said
    rows = {row[0]: row[1:] for row in page.table("The numbers of each channel")}
    assert [len([cell for cell in rows[name] if cell]) for name in rows] == [2, 2, 1]
    assert list(rows) == [*LEFT, "panCK"]


def test_pictures_are_of_the_channels_that_are_left(page):
    said = " ".join([*(alt for alt, _ in page.images), *map(str, page.histograms)])
    for side in ("before", "after"):
        named = {name for name in (*LEFT, "panCK") if re.search(rf"{name} of \w+, {side}", said)}
        assert named == set(LEFT), said[:300]


def test_heatmap_and_outliers_know_the_channels_of_each_step(page, fitted, odd):
    heat = re.search(r'<svg class="heat" width.*?</svg>', page.text, re.DOTALL)[0]
    titles = re.findall(r"<title>(.*?)</title>", heat)
    assert any(re.match(r"fov1, panCK: .* times the median \(quantile_norm\)", t) for t in titles)
    assert not any("panCK" in t and "post_norm" in t for t in titles)
    distances = Distances.of(fitted)
    assert distances.columns("quantile_norm") == [*LEFT, "panCK"]
    assert distances.columns("post_norm") == LEFT
    first = Pipeline().subtract_channels({"CD3": "DAPI"}, drop=True).post_norm(90).fit(odd)
    assert Distances.of(first).telling_channels(2) == ["panCK", "CD3"]
    quantiles = [fitted.measured[step]["quantile"] for step in ("quantile_norm", "post_norm")]
    ratios = [(one / one.median("fov")).sel(fov="fov2").values for one in quantiles]
    far = [np.maximum(one, 1 / one) for one in ratios]
    expected = [max(far[0][0], far[1][0]), max(far[0][1], far[1][1]), far[0][2]]
    np.testing.assert_allclose(distances.of_channels("fov2"), expected)
    header, *_ = page.files["images.csv"].splitlines()
    assert header.endswith("quantile_norm panCK,post_norm DAPI,post_norm CD3")
