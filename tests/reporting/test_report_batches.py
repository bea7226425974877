"""What a report and figures say of a cohort in batches."""

import csv
import io

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("jinja2")

from pxprep import Pipeline
from pxprep.plot import histogram
from pxprep.reporting.distances import Distances

BATCHES = {f"fov{i}": "dim" if i < 4 else "bright" for i in range(8)}


@pytest.fixture(scope="module")
def cohort(fovs):
    """Eight images of which four are fifty times as bright; one of the others is too bright."""
    factors = np.random.default_rng(1).lognormal(0, 0.05, (8, 3))
    factors[4:] *= 50
    factors[1] *= 6
    return {f"fov{i}": fovs["fov0"] * xr.DataArray(factors[i], dims="c") for i in range(8)}


@pytest.fixture(scope="module")
def fitted(cohort):
    return Pipeline().quantile_norm(90).fit(cohort, by=BATCHES)


def test_a_report_compares_images_with_their_batch(cohort, fitted, write):
    page = write(cohort, fitted.transform(cohort), fitted)
    captions = " ".join(page.tables)
    assert "fitted to 8 images in 2 batches, each with the mean of their numbers" in captions
    assert "the median of all images of the batch" in captions
    assert "the median of all batches (and from the lowest to the highest)" in captions
    assert "far each image is from the median of all images of its batch: the ratio" in page.said
    assert {row[0] for row in page.table("Quantiles more than 1.5 times")} == {"fov1"}
    rows = page.table("Pixels without a value")
    assert {row[0]: row[-1] for row in rows} == BATCHES
    assert "images with outliers 1 of 8" in page.said
    listed = csv.DictReader(io.StringIO(page.files["images.csv"]))
    assert {row["image"]: row["batch"] for row in listed} == BATCHES


def test_ratios_are_those_to_the_median_of_the_batch(fitted):
    quantiles = fitted.numbers["quantile_norm_quantile"].values
    expected = np.concatenate(
        [quantiles[rows] / np.median(quantiles[rows], axis=0) for rows in (slice(4), slice(4, 8))]
    )
    ratios = Distances.of(fitted).ratios["quantile_norm"]
    np.testing.assert_array_equal(ratios, expected)


@pytest.mark.parametrize(("fov", "batch"), [("fov1", "dim"), ("fov6", "bright")])
def test_a_histogram_has_the_scale_of_the_batch(fov, batch, cohort, fitted):
    image = cohort[fov]
    axes = histogram(image, fitted=fitted, fov=fov)
    scales = fitted.numbers["quantile_norm_scale"].sel(batch=batch).values
    for axis, scale in zip(axes.flat, scales, strict=False):
        lines = {line.get_label(): line.get_xdata()[0] for line in axis.lines}
        assert lines["quantile_norm"] == scale
        assert "quantile_norm of this image" in lines


def test_a_histogram_of_another_image_has_no_scale(cohort, fitted):
    axes = histogram(cohort["fov0"].rename("other"), fitted=fitted)
    assert not any(len(axis.lines) for axis in axes.flat)
