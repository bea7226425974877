"""What a report says of a cohort: outliers, their order, the heatmap, pictures, files."""

import csv
import io
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("jinja2")

from matplotlib.colors import to_rgb

from pxprep import FittedPipeline, Pipeline
from pxprep.plot.cohort_quantiles import SUMS
from pxprep.plot.mixing import COLOURS
from pxprep.reporting.distances import Distances
from pxprep.reporting.fovs import Fov
from pxprep.reporting.pictures import averaged, sides
from pxprep.reporting.sections import MOST_CARDS, Sections

GREY = (0x6B, 0x7A, 0x86)


@pytest.fixture(scope="module")
def odd(fovs):
    """Seven images: one without panCK, one too bright in CD3, one too bright in all."""
    factors = np.random.default_rng(1).lognormal(0, 0.1, (7, 3))
    images = {f"fov{i}": fovs["fov0"] * xr.DataArray(factors[i], dims="c") for i in range(7)}
    images["fov4"].loc[{"c": "CD3"}] *= 90
    images["fov2"].loc[{"c": "panCK"}] = 0
    images["fov5"] = images["fov5"] * 8
    return images


@pytest.fixture(scope="module")
def odd_fit(odd):
    with pytest.warns(match="panCK"):
        return Pipeline().sum_mask(2).quantile_norm().fit(odd)


@pytest.fixture
def odd_page(odd, odd_fit, write):
    return write(odd, odd_fit.transform(odd), odd_fit)


def test_outliers_are_counted_in_whole_images(odd_page):
    assert "images with outliers 3 of 7" in odd_page.said
    assert odd_page.text.count("<details>") == 7


def test_outliers_have_reasons_and_no_infinite_score(odd_page, odd_fit):
    rows = odd_page.table("Quantiles more than 1.5 times")
    table = odd_fit.outliers()
    assert [row[0] for row in rows] == table["fov"].tolist()
    by_place = {(row[0], row[1], row[2]): row[3] for row in rows}
    assert by_place["fov2", "panCK", "quantile_norm"] == "no signal"
    fold = table.set_index(["fov", "channel"]).fold["fov4", "CD3"]
    assert by_place["fov4", "CD3", "quantile_norm"] == f"{fold:.3g} times the median"
    assert by_place["fov5", SUMS, "sum_mask"].endswith("times the median")
    assert "nan" not in str(rows)
    assert "∞" not in odd_page.text
    in_table = {row[0]: row[4] for row in odd_page.table("Pixels without")}
    assert {name for name, where in in_table.items() if where} == {"fov2", "fov4", "fov5"}
    assert "nan" not in str(in_table)


def test_the_farthest_come_first(odd_page, odd_fit, odd):
    """Of outliers as in their table, of the others by the largest ratio to the median."""
    outliers = list(dict.fromkeys(odd_fit.outliers()["fov"]))
    quantiles = odd_fit.numbers.quantile_norm_quantile
    logs = np.abs(np.log(quantiles / quantiles.median("fov"))).max("c")
    others = [name for name in odd if name not in outliers]
    expected = outliers + sorted(others, key=lambda name: -float(logs.sel(fov=name)))
    assert [text for text in odd_page.headings if text in odd] == expected
    composites = [alt for alt, _ in odd_page.images if alt.startswith("Composite")]
    assert composites == [f"Composite of {name}" for name in expected]


def test_every_outlier_links_to_its_pictures(odd_page, odd_fit):
    rows = re.search(r'id="outlier-rows">(.*?)</tbody>', odd_page.text, re.DOTALL)[1]
    targets = re.findall(r'href="#([\w-]+)"', rows)
    assert len(targets) == 2 * len(odd_fit.outliers())
    labels = list(odd_fit.labels)
    table = odd_fit.outliers()
    for row, image, card in zip(table.itertuples(), targets[::2], targets[1::2], strict=True):
        assert image == f"image-{row.fov[-1]}"
        own = "" if row.channel is None else f"-{labels.index(row.channel)}"
        assert card == image + own
    for target in targets:
        assert odd_page.text.count(f'id="{target}"') == 1
    for alt in ("panCK of fov2, before", "CD3 of fov4, after"):
        assert len(odd_page.image(alt)) == 1


# --- the heatmap ----------------------------------------------------------------------------------


def test_heatmap_shows_logarithms_of_ratios(odd_page, odd_fit):
    """A pixel for each image and channel: blue below, orange above, stronger the farther off."""
    pixels = dict(heat_pictures(odd_page))["quantile_norm"]
    quantiles = odd_fit.numbers.quantile_norm_quantile
    ratios = (quantiles / quantiles.median("fov")).values
    order = [list(odd_fit.fovs).index(text) for text in odd_page.headings if text in odd_fit.fovs]
    ratios = ratios[order]
    strengths = np.clip(np.log(ratios) / np.log(4), -1, 1)
    silent = np.isnan(ratios)
    assert silent.sum() == 1
    assert (pixels[silent] == (128, 128, 128, 255)).all()
    np.testing.assert_allclose(pixels[..., 3][~silent] / 255, np.abs(strengths[~silent]), atol=0.03)
    seen = ~silent & (np.abs(strengths) > 0.05)
    expected = np.where((strengths < 0)[..., None], (0, 114, 178), (213, 94, 0))
    np.testing.assert_array_equal(pixels[..., :3][seen], expected[seen])


def heat_pictures(page):
    """By step the pixels, RGBA, of the heatmaps."""
    from PIL import Image

    from pages import decoded

    found = re.findall(
        r'class="step"[^>]*>(\w+)<.*?<image[^>]*href="([^"]*)"', page.text, re.DOTALL
    )
    return [
        (step, np.asarray(Image.open(io.BytesIO(decoded(uri))).convert("RGBA")))
        for step, uri in found
    ]


def test_heatmap_marks_outliers(odd_page, odd_fit):
    heat = re.search(r'<svg class="heat" width.*?</svg>', odd_page.text, re.DOTALL)[0]
    titles = re.findall(r"<title>(.*?)</title>", heat)
    table = odd_fit.outliers()
    assert titles == [
        f"{row.fov}, {SUMS if row.channel is None else row.channel}: {row.reason} ({row.step})"
        for row in table.itertuples()
    ]
    fields = dict(
        zip(["sum_mask", "quantile_norm"], re.findall(r'field" x="([\d.]+)"', heat), strict=True)
    )
    marks = re.findall(r'outlier" x="([\d.]+)" y="([\d.]+)"', heat)
    top = float(re.search(r'field" x="[\d.]+" y="([\d.]+)"', heat)[1])
    order = [text for text in odd_page.headings if text in odd_fit.fovs]
    for row, (x, y) in zip(table.itertuples(), marks, strict=True):
        column = 0 if row.channel is None else list(odd_fit.labels).index(row.channel)
        assert float(x) == pytest.approx(float(fields[row.step]) + 12 * column + 1)
        assert float(y) == pytest.approx(top + 12 * order.index(row.fov) + 1)


def test_many_images_have_a_second_heatmap(write):
    image = xr.DataArray(np.ones((1, 2, 2)), dims=("c", "y", "x"), coords={"c": ["a"]})
    images = {f"i{k}": image * (k + 1.0) for k in range(130)}
    fitted = Pipeline().quantile_norm().fit(images)
    page = write(images, fitted.transform(images), fitted)
    assert [picture.shape for _, picture in heat_pictures(page)] == [(100, 1, 4), (30, 1, 4)]
    assert "The other 30 images" in page.said


def test_no_heatmap_of_one_image(fovs, write):
    fitted = Pipeline().quantile_norm().fit(fovs["fov0"])
    page = write(fovs["fov0"], fitted.transform(fovs["fov0"]), fitted)
    assert heat_pictures(page) == []
    assert "images with outliers" not in page.said


# --- pictures -------------------------------------------------------------------------------------


def test_pictures_are_the_images(page, fovs, after):
    missing = np.isnan(after["fov0"].sel(c="CD3").values)
    (before,), (cleaned,) = page.image("CD3 of fov0, before"), page.image("CD3 of fov0, after")
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
    (mask,) = page.image("Pixels of fov0 that were dropped")
    np.testing.assert_array_equal((mask == GREY).all(axis=-1), missing)


def test_every_image_and_channel_is_pictured(page, fovs):
    assert {text for text in page.headings if text in fovs} == {*fovs}
    for label in ("DAPI", "CD3", "panCK"):
        assert len(page.pictures(label, "before")) == len(page.pictures(label, "after")) == 4
        assert page.headings.count(label) == 4


def test_composites_have_the_brightness_of_the_cohort(page, fovs, fitted):
    """The fitted scale of a channel has its full colour, so that images can be compared."""
    check_composites(page, fovs, fitted.numbers.quantile_norm_scale)


def test_composites_of_clipped_images(write, fovs):
    """The upper quantile has the full colour, not the lower one."""
    fitted = Pipeline().percentile_clip(1, 99).minmax().fit(fovs)
    page = write(fovs, fitted.transform(fovs), fitted)
    check_composites(page, fovs, fitted.numbers.percentile_clip_high)


@pytest.mark.parametrize("pipeline", [Pipeline().zscore(), Pipeline().threshold(q=50)])
def test_composites_where_no_number_is_one_of_bright_pixels(write, fovs, pipeline):
    """They are as bright as the image says, as where nothing is measured."""
    fits = [each.fit(fovs) for each in (pipeline, Pipeline().clip(1e9))]
    pages = [write(fovs, fitted.transform(fovs), fitted) for fitted in fits]
    for name in fovs:
        (one,), (other,) = (page.image(f"Composite of {name}") for page in pages)
        np.testing.assert_array_equal(one, other)


def check_composites(page, fovs, scales):
    for name, image in fovs.items():
        expected = np.zeros((40, 40, 3))
        for label, colour in zip(image.c.values, COLOURS, strict=False):
            strength = np.clip(image.sel(c=label).values / float(scales.sel(c=label)), 0, 1)
            expected += strength[..., None] * np.array(to_rgb(colour))
        (shown,) = page.image(f"Composite of {name}")
        # The picture has few colours.
        off = np.abs(shown / 255 - np.minimum(expected, 1))
        assert np.quantile(off, 0.95) < 0.1
        assert off.mean() < 0.03


def test_histograms_are_counts_on_a_logarithmic_scale(write):
    """Whole numbers from 0 to 15: a bar for each, and for some above, of the page's 32 at most."""
    random = np.random.default_rng(3)
    values = np.resize(np.repeat(np.arange(16.0), random.integers(1, 120, 16)), 1024)
    image = xr.DataArray(values.reshape(1, 32, 32), dims=("c", "y", "x"), coords={"c": ["a"]})
    fitted = Pipeline().clip(100).fit(image)
    page = write(image, fitted.transform(image), fitted)
    path = page.histograms["Histogram of a of image 0, before"]["before"]
    n_bins = 20  # up to 1.25 times 15, and so that the last edge is above
    ends = np.round(160 * np.arange(1, n_bins + 1) / n_bins)
    counts = np.bincount(values.astype(int), minlength=n_bins)
    with np.errstate(divide="ignore"):
        heights = np.clip(np.log(counts / 0.7) / np.log(2 * 1024 / 0.7), 0, 1)
    tops = dict(zip(ends, 40 - np.round(40 * heights), strict=True))
    drawn = [(int(end), int(top)) for top, end in re.findall(r"V(\d+)H(\d+)", path)]
    for end, top in drawn:
        assert tops[end] == top
    # Bars that are not drawn are as high as the next.
    assert drawn[-1][0] == 160
    assert len(drawn) >= len({round(top) for top in tops.values()})


def test_fitted_numbers_are_marked(page, fitted, fovs):
    marks = page.histograms["Histogram of CD3 of fov1, before"]
    numbers = fitted.numbers
    fitted_at, own_at = (int(re.match(r"M(\d+) 0V40", marks[k])[1]) for k in ("fitted", "own"))
    scale = float(numbers.quantile_norm_scale.sel(c="CD3"))
    own = float(numbers.quantile_norm_quantile.sel(c="CD3", fov="fov1"))
    # The axis begins half a number below 0.
    assert fitted_at / own_at == pytest.approx((scale + 0.5) / (own + 0.5), abs=0.03)
    assert abs(fitted_at - own_at) > 1


def test_means_of_squares():
    plane = np.arange(42.0).reshape(6, 7)
    plane[0, :2], plane[4:, :3] = np.nan, np.nan
    found = averaged(plane, 3)
    assert found.shape == (2, 3)
    for row, column in np.ndindex(found.shape):
        square = plane[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        missing = 2 * np.isfinite(square).sum() < square.size
        expected = np.nan if missing else np.nanmean(square)
        assert found[row, column] == pytest.approx(expected, nan_ok=True)
    np.testing.assert_array_equal(averaged(plane, 7), plane)
    assert np.isnan(found).sum() == 1


def test_large_images_are_thinned(write):
    image = xr.DataArray(np.arange(2 * 600 * 1300.0).reshape(2, 600, 1300), dims=("c", "y", "x"))
    image[:, :100] = np.nan
    fitted = Pipeline().quantile_norm().fit(image)
    page = write(image, fitted.transform(image), fitted)
    assert "Shown here: 1 in 3 pixels of 1 in 3 rows in means of 4 x 4 pixels." in page.said
    assert page.table("Pixels without") == [["image 0", "600 x 1,300", "16.7 %", "130,000", ""]]
    (picture,) = page.image("1 of image 0, after")
    assert max(picture.shape) <= 128
    assert len(page.text) < 400_000


def test_how_wide_an_image_is(write):
    image = xr.DataArray(np.ones((1, 8, 20)), dims=("c", "y", "x"))
    fitted = Pipeline().clip(1).fit(image)
    image = image.assign_attrs(um_per_pixel={"y": 0.5, "x": 0.25})
    page = write(image, fitted.transform(image), fitted)
    assert "0 % of the pixels dropped. The image is 5 µm wide, the bars are 1 µm long." in page.said
    # The sections of a few images are open.
    assert page.text.count("<details open>") == 1


@pytest.mark.parametrize(("n", "channels"), [(60, 40), (2, 3), (1000, 40), (1500, 1)])
def test_the_more_pictures_the_smaller(n, channels):
    thumbnail, composite = sides(n * channels, n)
    assert 32 <= thumbnail <= 128
    assert 48 <= composite <= 160
    assert 2 * n * channels * thumbnail**2 <= max(18e6, 2 * n * channels * 32**2)


@pytest.fixture
def large():
    """What is known of 1,000 images of 40 channels: each has its farthest channels, 7 is odd."""
    random = np.random.default_rng(0)
    ratios = random.lognormal(0, 0.1, (1000, 40))
    outliers = pd.DataFrame(
        [("q", 7, c, "far") for c in (3, 30, 9, 12, 39)],
        columns=["step", "fov", "channel", "reason"],
    )
    labels = tuple(range(40))
    fitted = SimpleNamespace(
        fovs=tuple(range(1000)), labels=labels, remaining=labels, seen_by={"q": labels}
    )
    return Distances(fitted, {"q": ratios}, frozenset(), outliers)


def test_of_many_images_the_farthest_channels_are_pictured(large):
    fovs = [Fov(i, str(i), None, None) for i in range(1000)]
    channels = Sections.of(fovs, large).channels
    assert channels[7] == [3, 30, 9, 12, 39]
    far = np.abs(np.log(large.ratios["q"]))
    for name in (0, 8, 999):
        assert channels[name] == sorted(np.argsort(-far[name])[: MOST_CARDS // 1000])
    assert large.sorted(range(1000))[0] == 7


# --- files ----------------------------------------------------------------------------------------


def rows_of(text):
    return [*csv.DictReader(io.StringIO(text))]


def test_numbers_are_attached_exactly(page, fitted, fovs, after):
    assert FittedPipeline.from_json(page.files["fitted.json"]) == fitted
    rows = rows_of(page.files["images.csv"])
    assert [row["image"] for row in rows] == [*fovs]
    for row in rows:
        missing = np.isnan(after[row["image"]].values).all(axis=0)
        assert (int(row["pixels"]), int(row["dropped"])) == (missing.size, missing.sum())
        for step in ("quantile_norm", "post_norm"):
            for label in fitted.labels:
                exact = fitted.numbers[f"{step}_quantile"].sel(fov=row["image"], c=label)
                assert float(row[f"{step} {label}"]) == float(exact)
        exact = fitted.numbers.sum_mask_quantile.sel(fov=row["image"])
        assert float(row[f"sum_mask {SUMS}"]) == float(exact)


def test_outliers_are_a_file(odd_page, odd_fit):
    rows = rows_of(odd_page.files["outliers.csv"])
    table = odd_fit.outliers()
    assert [row["image"] for row in rows] == table["fov"].tolist()
    assert [row["reason"] for row in rows] == table["reason"].tolist()
    assert {row["channel"] for row in rows} == {SUMS, *table["channel"].dropna()}
    folds = [float(row["fold"]) for row in rows]
    np.testing.assert_array_equal(folds, table["fold"])
    (image,) = [r for r in rows_of(odd_page.files["images.csv"]) if r["image"] == "fov2"]
    assert image["outlier in"].split("; ")[0] == "panCK"


def test_two_images_of_which_one_is_silent(fovs):
    pair = {name: fovs[name].astype("float32") for name in ("fov0", "fov1")}
    pair["fov0"] = pair["fov0"].where(pair["fov0"].c != "CD3", 0)
    with pytest.warns(match="CD3"):
        distances = Distances.of(Pipeline().quantile_norm().fit(pair))
    assert distances.headline("fov0") == "no signal, or below 0, in CD3"
    assert distances.headline("fov1").startswith("at most ")
