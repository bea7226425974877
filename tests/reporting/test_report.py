import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("jinja2")

import pxprep
from pages import measured
from pxprep import Pipeline
from pxprep.steps import Step

GREY = (0x6B, 0x7A, 0x86)
PHONE, DESKTOP = (390, 844), (1280, 900)


def test_tables_hold_the_numbers(page, fitted, after):
    assert page.headings[0] == "Batch 7"
    steps = page.table("Steps in their order, fitted to 4 images")
    assert [row[0] for row in steps] == [name for name, _ in fitted.pipeline.steps]
    assert steps[0][1] == "QuantileNorm(q={'CD3': 98, ...: 99})"
    assert steps[2][2] == f"threshold = {float(fitted.numbers.sum_mask_threshold):.6g}"
    numbers = fitted.numbers
    for row, label in zip(page.table("The numbers of each channel"), fitted.labels, strict=True):
        scales = [numbers[f"{step}_norm_scale"].sel(c=label) for step in ("quantile", "post")]
        assert row == [label, *(f"{float(scale):.6g}" for scale in scales)]
    counts = {name: np.isnan(image.values).all(axis=0).sum() for name, image in after.items()}
    assert page.table("Pixels without a value") == [
        [name, "40 x 40", f"{n / 16:.1f} %", f"{n:,}", ""] for name, n in counts.items()
    ]
    share = 100 * sum(counts.values()) / 6400
    assert f"pixels dropped {share:.1f} %" in page.said
    assert dict(page.table("Versions"))["numpy"] == version("numpy")


def test_passes_are_listed(page, passes):
    rows = page.table("Each pass")
    assert [row[0] for row in rows] == [
        f"measure {step} of 4 images" for step in ("quantile_norm", "sum_mask", "post_norm")
    ]
    assert rows[0][1:] == [
        f"{passes[0].seconds:.2f} s",
        f"{passes[0].cpu_seconds:.2f} s",
        f"{passes[0].peak_memory / 2**30:.2f} GiB",
    ]


ODD = "<script>alert(1)</script>&\"'" + "n" * 120


def test_odd_names_are_escaped_and_fit(fovs, write, tmp_path):
    names = [ODD, "<b>CD3", "{{ 7 * 7 }}"]
    images = {ODD: fovs["fov0"].assign_coords(c=names), "<i>": fovs["fov1"].assign_coords(c=names)}
    fitted = Pipeline([("<em>norm", pxprep.steps.QuantileNorm(99))]).fit(images)
    page = write(images, fitted.transform(images), fitted, title="<u>title</u>")
    assert not re.search("<(b|i|em|u)>", page.text)
    assert page.text.count("<script>") == 1  # its own
    assert page.headings[0] == "<u>title</u>"
    assert [row[0] for row in page.table("The numbers of each channel")] == names
    assert [row[0] for row in page.table("Pixels without")] == [ODD, "<i>"]
    assert ODD in page.headings
    window, width, broken, *_ = measured(tmp_path / "made.html", PHONE, tmp_path)
    assert width <= window == PHONE[0]
    assert broken == 0


@pytest.mark.parametrize("form", ["list", "tree", "lazy"])
def test_cohorts_of_any_form(fovs, after, fitted, page, write, form):
    if form == "list":
        images, cleaned = ([*cohort.values()] for cohort in (fovs, after))
        alone = Pipeline.sparrow(q={"CD3": 98, ...: 99}).fit(images)
        found = write(images, cleaned, alone)
        names = [f"image {i}" for i in range(4)]
    elif form == "tree":
        if not hasattr(xr, "DataTree"):
            pytest.skip("xarray has no trees")
        images, cleaned = (
            xr.DataTree.from_dict({n: i.to_dataset(name="image") for n, i in cohort.items()})
            for cohort in (fovs, after)
        )
        found, names = write(images, cleaned, fitted), [*fovs]
    else:
        images = {name: fov.chunk(y=16, x=16) for name, fov in fovs.items()}
        found, names = write(images, fitted.transform(images), fitted), [*fovs]
    rows = [[row[0], *row[1:]] for row in found.table("Pixels without")]
    expected = page.table("Pixels without")
    assert rows == [[name, *row[1:]] for name, row in zip(names, expected, strict=True)]
    for i, name in enumerate(fovs):
        for side in ("before", "after"):
            alt = "CD3 of {}, " + side
            (mine,), (other,) = found.image(alt.format(names[i])), page.image(alt.format(name))
            np.testing.assert_array_equal(mine, other)
            label = "Histogram of panCK of {}, " + side
            one = found.histograms[label.format(names[i])]
            assert one == page.histograms[label.format(name)]


def test_lazy_images_are_read_once(write):
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    plain = np.random.default_rng(0).gamma(2, 10, (2, 60, 60))
    array = da.from_array(plain, chunks=(1, 30, 30))
    lazy = xr.DataArray(array.map_blocks(read, meta=array._meta), dims=("c", "y", "x"))
    fitted = Pipeline().quantile_norm().sum_mask(20).fit(xr.DataArray(plain, dims=lazy.dims))
    after = fitted.transform(lazy)
    write(None, after, fitted)
    assert len(reads) == 8
    write(lazy, after, fitted)
    assert len(reads) == 8 + 16


def test_one_image(fovs, write):
    image = fovs["fov0"]
    fitted = Pipeline.sparrow().fit(image)
    page = write(image, fitted.transform(image).rename(None), fitted)
    assert page.table("Steps in their order, fitted to one image")
    assert [row[0] for row in page.table("Pixels without")] == ["fov0"]
    assert "No image is far from the others." in page.said


def test_each_by_itself(pair, write):
    fitted = Pipeline().quantile_norm().fit(pair, pool=None)
    page = write(pair, fitted.transform(pair), fitted)
    rows = page.table("The numbers of each channel; a scale is what it is divided by: the median")
    scales = fitted.numbers.quantile_norm_scale.sel(c="DAPI").values
    assert rows[0][1] == f"{np.median(scales):.6g} ({scales.min():.6g} to {scales.max():.6g})"


def test_more_channels_before(pair, write):
    chosen = {name: fov.sel(c=["panCK", "DAPI"]) for name, fov in pair.items()}
    fitted = Pipeline.sparrow().fit(chosen)
    page = write(pair, fitted.transform(chosen), fitted)
    assert len(page.pictures("panCK", "before")) == 2
    assert page.pictures("CD3", "before") == []


def test_without_images_from_before(after, fitted, write):
    page = write(None, after, fitted)
    assert "no pictures from before of fov0, fov1, fov2, fov3" in page.said
    assert page.pictures("CD3", "before") == []
    assert len(page.pictures("CD3", "after")) == 4
    assert [*page.histograms["Histogram of CD3 of fov0, after"]] == ["after", "fitted", "own"]


def test_images_that_were_not_measured(fovs, fitted, write):
    new = {"new": fovs["fov0"]}
    page = write(new, fitted.transform(new), fitted)
    assert "The numbers were measured on other images than new." in page.said


def test_what_was_odd_is_noted(pair, write):
    images = {name: fov.astype(float) for name, fov in pair.items()}
    for image in images.values():
        image.loc[{"c": "CD3"}] = 0
    images["fov1"].loc[{"c": "DAPI"}][0, :3] = [-1, np.inf, np.nan]
    with pytest.warns(match="CD3"):
        fitted = Pipeline().quantile_norm().fit(images)
    page = write(images, fitted.transform(images), fitted)
    assert "quantile_norm: No finite non-zero pixel in CD3" in page.said
    assert "quantile_norm: Negative pixels in DAPI." in page.said
    assert "quantile_norm: Infinite pixels in DAPI" in page.said


def test_all_dropped_and_odd_sizes(write):
    image = xr.DataArray(np.ones((2, 3, 200)), dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    fitted = Pipeline().sum_mask(50).fit(image)
    page = write(image, fitted.transform(image), fitted)
    assert page.table("Pixels without")[0][2:4] == ["100 %", "600"]
    assert page.pictures("a", "after")[0].shape == (2, 100, 3)
    page = write(None, fitted.transform(image), fitted)
    assert (page.pictures("b", "after")[0] == GREY).all()


def test_volumes(write):
    volume = xr.DataArray(np.arange(1.0, 241).reshape(2, 3, 5, 8), dims=("c", "z", "y", "x"))
    volume[:, 0] = np.nan
    fitted = Pipeline().quantile_norm().fit(volume)
    page = write(volume, fitted.transform(volume), fitted)
    assert page.table("Pixels without")[0] == ["image 0", "3 x 5 x 8", "33.3 %", "40", ""]
    assert "Shown here: the middle plane." in page.said


@dataclass(frozen=True)
class Shifted(Step):
    """A step with a parameter that JSON cannot keep."""

    kind = "test_report_shifted"
    path: Path

    def apply(self, image, numbers):
        return image + 1


def test_own_functions_cannot_be_attached(pair, write):
    fitted = Pipeline().then(np.sqrt).quantile_norm().fit(pair)
    images = {1.5: pair["fov0"], 2: pair["fov1"]}
    page = write(pair, fitted.transform(pair), fitted)
    assert json.loads(page.files["fitted.json"])
    fitted = Pipeline().then(Shifted(Path())).quantile_norm().fit(images)
    page = write(images, fitted.transform(images), fitted)
    assert "The exact numbers are not attached" in page.said
    assert [*page.files] == ["images.csv", "outliers.csv"]
    assert [row[0] for row in page.table("Pixels without")] == ["1.5", "image 2"]


def test_replaces_a_report_only_when_it_is_complete(pair, fitted, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    path.chmod(0o640)

    def fail(block):
        raise OSError("no such chunk")

    broken = {name: fov.chunk() for name, fov in pair.items()}
    broken = {
        name: fov.copy(data=fov.data.map_blocks(fail, meta=fov.data._meta))
        for name, fov in broken.items()
    }
    with pytest.raises(OSError, match="no such chunk"):
        pxprep.report(path, pair, broken, fitted)
    assert path.read_text() == "the old one"
    assert [*tmp_path.iterdir()] == [path]
    pxprep.report(path, pair, fitted.transform(pair), fitted)
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o777 == 0o640
