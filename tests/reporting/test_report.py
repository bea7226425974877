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
from pages import decoded, measured, screenshot
from pxprep import FittedPipeline, Pipeline
from pxprep.reporting.fovs import Fov, pictured
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


def test_numbers_are_attached_exactly(page, fitted):
    (link,) = [link for link in page.links if link.startswith("data:")]
    assert FittedPipeline.from_json(decoded(link).decode()) == fitted


def test_pictures_are_the_images(page, fovs, after):
    (before, *_), (cleaned, *_) = page.image("CD3 before"), page.image("CD3 after")
    missing = np.isnan(after["fov0"].sel(c="CD3").values)
    np.testing.assert_array_equal((cleaned == GREY).all(axis=-1), missing)
    assert not (before == GREY).all(axis=-1).any()
    for picture, image in ((before, fovs["fov0"]), (cleaned, after["fov0"])):
        values = image.sel(c="CD3").values.astype(float)
        assert picture.shape == (40, 40, 3)
        # Of two pixels the brighter one has the brighter colour.
        limit = np.nanquantile(values, 0.995)
        levels = np.floor(np.clip(values / limit, 0, 1) * 64)
        brightness = picture.sum(axis=-1)[~missing].astype(float)
        order = np.argsort(levels[~missing], kind="stable")
        assert (np.diff(brightness[order]) >= 0).mean() > 0.99
    masks = page.image("Pixels of fov0 that were dropped")
    np.testing.assert_array_equal((masks[0] == GREY).all(axis=-1), missing)


def test_every_image_and_channel_is_pictured(page, fovs):
    assert [text for text in page.headings if text in fovs] == [*fovs]
    for label in ("DAPI", "CD3", "panCK"):
        assert len(page.image(f"{label} before")) == len(page.image(f"{label} after")) == 4
        assert len(page.image(f"Histograms of {label}")) == 4
        assert page.headings.count(label) == 4
    assert all(image.std() > 5 for image in page.image("Histograms of DAPI"))


def test_nothing_is_loaded_from_elsewhere(page):
    assert all(uri.startswith("data:image/png;base64,") for _, uri in page.images)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"url\(|@import|https?:|<script", page.text)
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert targets
    assert all(f'id="{target}"' in page.text for target in targets)
    assert all(alt for alt, _ in page.images)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_fits_the_window(file, page, size, tmp_path):
    window, width, broken, n_images, elsewhere = measured(file, size, tmp_path)
    assert window == size[0]
    assert width <= window
    assert (broken, n_images, elsewhere) == (0, len(page.images), 0)
    shown = screenshot(file, size, tmp_path)
    assert shown.shape == (size[1], size[0], 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20


ODD = "<script>alert(1)</script>&\"'" + "n" * 120


def test_odd_names_are_escaped_and_fit(fovs, write, tmp_path):
    names = [ODD, "<b>CD3", "{{ 7 * 7 }}"]
    images = {ODD: fovs["fov0"].assign_coords(c=names), "<i>": fovs["fov1"].assign_coords(c=names)}
    fitted = Pipeline([("<em>norm", pxprep.steps.QuantileNorm(99))]).fit(images)
    page = write(images, fitted.transform(images), fitted, title="<u>title</u>")
    assert not re.search("<(script|b|i|em|u)>", page.text)
    assert page.headings[0] == "<u>title</u>"
    assert [row[0] for row in page.table("The numbers of each channel")] == names
    assert [row[0] for row in page.table("Pixels without")] == [ODD, "<i>"]
    assert ODD in page.headings
    window, width, broken, *_ = measured(tmp_path / "made.html", PHONE, tmp_path)
    assert width <= window == PHONE[0]
    assert broken == 0


def test_outliers_are_listed_and_pictured(fovs, write):
    images = {f"fov{i}": fovs[f"fov{i % 4}"].copy() for i in range(6)}
    images["fov4"].loc[{"c": "CD3"}] *= 90
    images["fov2"].loc[{"c": "panCK"}] = 0
    with pytest.warns(match="panCK"):
        fitted = Pipeline().quantile_norm().fit(images)
    page = write(images, fitted.transform(images), fitted)
    rows = page.table("Quantiles more than 1.5 times")
    assert [row[:3] for row in rows] == [
        ["fov2", "panCK", "quantile_norm"],
        ["fov4", "CD3", "quantile_norm"],
    ]
    assert rows[0][3] == "no signal"
    outliers = fitted.outliers().set_index("fov")
    assert rows[1][5] == f"{outliers.fold['fov4']:.3g}"
    in_table = {row[0]: row[4] for row in page.table("Pixels without")}
    assert in_table == {f"fov{i}": {2: "panCK", 4: "CD3"}.get(i, "") for i in range(6)}
    assert "outliers 2" in page.said


@pytest.mark.parametrize(
    ("n_fovs", "n_channels", "far", "expected"),
    [
        (3, 100, [], [0, 1, 2][:3]),
        (12, 10, [], [*range(12)]),
        (20, 40, [], [0, 1, 2, 3]),
        (20, 40, [9, 5], [0, 1, 5, 9]),
        (20, 40, [9, 5, 7, 19, 3], [0, 5, 7, 9]),
        (20, 1000, [9], [0, 9]),
        (20, 80, [*range(20)][::-1], [18, 19]),
    ],
)
def test_which_images_are_pictured(n_fovs, n_channels, far, expected):
    import pandas as pd

    fovs = [Fov(i, str(i), None, None) for i in range(n_fovs)]
    outliers = pd.DataFrame({"fov": [*far, *far]})
    chosen, rule = pictured(fovs, n_channels, outliers)
    if n_channels == 100:
        expected = expected[:2]
    assert [fov.name for fov in chosen] == expected
    if len(expected) == n_fovs:
        assert rule == ""
    else:
        n_far = len(set(expected) & set(far))
        assert rule.startswith(f"Pictures of {len(expected)} of the {n_fovs} images")
        assert f"{n_far} of the {len(far)} with outliers" in rule


def test_large_images_are_thinned(write):
    image = xr.DataArray(np.arange(2 * 600 * 1300.0).reshape(2, 600, 1300), dims=("c", "y", "x"))
    image[:, :100] = np.nan
    fitted = Pipeline().quantile_norm().fit(image)
    page = write(image, fitted.transform(image), fitted)
    assert "Shown here: 1 in 3 pixels of 1 in 3 rows." in page.said
    assert page.table("Pixels without") == [["image 0", "600 x 1,300", "16.7 %", "130,000", ""]]
    (picture,) = page.image("1 after")
    assert max(picture.shape) <= 128
    assert len(page.text) < 400_000


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
    for alt in ("CD3 before", "CD3 after", "Histograms of panCK"):
        for mine, other in zip(found.image(alt), page.image(alt), strict=True):
            np.testing.assert_array_equal(mine, other)


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
    assert "fitted to one image" in next(iter(page.tables))
    assert [row[0] for row in page.table("Pixels without")] == ["fov0"]
    assert "No image is far from the others." in page.said


def test_a_channel_looks_the_same_among_others(fovs, write):
    pictures = []
    for channels in (["DAPI", "CD3", "panCK"], ["panCK"]):
        image = fovs["fov1"].sel(c=channels)
        fitted = Pipeline().quantile_norm().fit(image)
        page = write(image, fitted.transform(image), fitted)
        pictures.append(page.image("Histograms of panCK")[0])
    np.testing.assert_array_equal(*pictures)


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
    assert len(page.image("panCK before")) == 2
    assert page.image("CD3 before") == []


def test_without_images_from_before(after, fitted, write):
    page = write(None, after, fitted)
    assert "no pictures from before of fov0, fov1, fov2, fov3" in page.said
    assert page.image("CD3 before") == []
    assert len(page.image("CD3 after")) == len(page.image("Histograms of CD3")) == 4


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
    assert page.image("a after")[0].shape == (2, 100, 3)
    page = write(None, fitted.transform(image), fitted)
    assert (page.image("b after")[0] == GREY).all()


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
    assert json.loads(decoded(next(u for u in page.links if u.startswith("data:"))))
    fitted = Pipeline().then(Shifted(Path())).quantile_norm().fit(images)
    page = write(images, fitted.transform(images), fitted)
    assert "The exact numbers are not attached" in page.said
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
