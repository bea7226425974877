"""Where `sum_mask` drops far more than `q_sum` percent of the pixels with a sum, it says so."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import oracle
from pxprep import Pipeline, PxprepWarning, ops
from pxprep.datasets import tissue

CHUNKS = {"c": 5, "y": 61, "x": 90}
PIPELINE = Pipeline.sparrow()


def counts(share, size=200, seed=0):
    """The immune markers of a tissue of whose counts only a share is seen."""
    image = tissue(1, size, seed)["fov0"].drop_sel(c=["DAPI", "panCK", "SMA"])
    seen = np.random.default_rng(seed).binomial(image.values.astype(int), share)
    return xr.DataArray(seen.astype("float32"), dims=image.dims)


SPARSE, DENSE = counts(0.03), counts(1)


def told(function):
    """What is said of pixels that are dropped."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        function()
    said = [str(one.message) for one in record if issubclass(one.category, PxprepWarning)]
    return [text for text in said if text.startswith("sum_mask: far more than")]


def expected(image, step=1, q_sum=5):
    """How many pixels in one of `step` rows have a sum before the blur; the share dropped of them.

    And the share that only the blur drops.
    """
    normed = oracle.quantile_norm(image.values)
    before, after = (oracle.pixel_sum(one)[::step] for one in (normed, oracle.blur(normed)))
    threshold = oracle.quantile_of(oracle.pixel_sum(normed), q_sum)
    measured, dropped = before != 0, ~(after > threshold)
    n = measured.sum()
    return n, (measured & dropped).sum() / n, ((before > threshold) & dropped).sum() / n


def text(image, step=1, name=""):
    n, dropped, _ = expected(image, step)
    rows = f" in one of every {step} rows" if step > 1 else ""
    return f"{100 * dropped:.0f} % of {n:,}{rows}{name}"


@pytest.mark.parametrize(
    "run",
    [
        lambda image: image.pxprep.preprocess(),
        lambda image: PIPELINE.fit(image),
        lambda image: Pipeline.sparrow(q_post=None).fit_transform(image),
        lambda image: Pipeline.sparrow(norm_sum=False, q_post=None).fit_transform(image),
        lambda image: PIPELINE.fit(image.chunk(CHUNKS), memory=0),
        lambda image: PIPELINE.fit(image.chunk(CHUNKS), memory="1 GB"),
        lambda image: image.chunk(CHUNKS).pxprep.preprocess().compute(),
        lambda image: ops.sum_mask(
            ops.blur(normed := ops.quantile_norm(image)), 5, reference=normed
        ),
        lambda image: ops.sum_mask(
            ops.blur(normed := ops.quantile_norm(image.chunk(CHUNKS))), 5, reference=normed
        ).compute(),
    ],
)
def test_it_is_told_once_however_it_is_run(run):
    (said,) = told(lambda: run(SPARSE))
    assert (
        f"far more than q_sum=5 % of the pixels that have a sum are dropped: {text(SPARSE)}" in said
    )
    assert 'zeros="include", as in Pipeline.pixie(), lowers the threshold' in said
    assert told(lambda: run(DENSE)) == []


def test_of_large_images_some_rows_are_looked_at():
    image = counts(0.03, 520)
    (said,) = told(lambda: image.pxprep.preprocess())
    assert text(image, step=4) in said
    assert told(lambda: PIPELINE.fit(image.chunk(CHUNKS))) == [said]


def test_of_several_images_those_are_named():
    images = {"a": SPARSE, "b": DENSE, "c": counts(0.02, 190, 1)}
    (said,) = told(lambda: PIPELINE.fit(images, pool=None))
    assert text(SPARSE, name=" of image 'a'") in said
    assert text(images["c"], name=" of image 'c'") in said
    assert "image 'b'" not in said


@pytest.mark.parametrize("chunks", [CHUNKS, -1])
def test_of_lazy_images_those_without_a_mask_are_named(chunks):
    """Of lazy images with a mask it is not looked at, however many pixels are dropped."""
    images = {"a": SPARSE.chunk(chunks), "b": counts(0.03, seed=1).chunk(chunks)}
    where = {"a": (SPARSE.isel(c=0, drop=True) * 0 == 0).compute(), "b": None}
    (said,) = told(lambda: PIPELINE.fit(images, where=where, pool=None))
    assert text(images["b"].compute(), name=" of image 'b'") in said
    assert "image 'a'" not in said


@pytest.mark.parametrize("share", [1, 0.1, 0.05, 0.03, 0.01])
@pytest.mark.parametrize("q_sum", [1, 5, 50])
def test_it_depends_on_what_only_the_blur_drops(share, q_sum):
    image = counts(share)
    n, _, lost = expected(image, q_sum=q_sum)
    assert n > 500
    assert abs(lost - 0.15) > 1e-3
    said = told(lambda: image.pxprep.preprocess(q_sum=q_sum))
    assert len(said) == (lost > 0.15)


# --- nothing is said ------------------------------------------------------------------------------


@pytest.mark.parametrize("fov", tissue())
def test_of_the_demo(fov):
    image = tissue()[fov]
    result = image.pxprep.preprocess()
    assert result.isnull().any("c").mean() > 0.1  # the glass
    _, dropped, _ = expected(image)
    assert dropped < 0.005


def test_of_empty_glass():
    glass = np.zeros((7, 200, 200), "float32")
    image = xr.DataArray(np.concatenate([DENSE.values, glass, glass], axis=1), dims=DENSE.dims)
    result = image.pxprep.preprocess()
    assert result.isnull().any("c").mean() > 0.65


@pytest.mark.parametrize("offset", [0.5, 3])
def test_of_a_flat_background(offset):
    image = DENSE.where(DENSE.sum("c") > 30, 0) + offset
    result = image.pxprep.preprocess()
    assert result.isnull().any("c").mean() > 0.2


@pytest.mark.parametrize("to", [lambda image: image, lambda image: image.chunk(CHUNKS)])
def test_of_what_is_outside_a_mask(to):
    """Noise around the tissue is dropped, as it should be; it was not measured."""
    noise = np.random.default_rng(0).poisson(0.02, (7, 400, 200))
    image = xr.DataArray(np.concatenate([DENSE.values, noise], axis=1), dims=DENSE.dims)
    where = xr.DataArray(np.arange(600) < 200, dims="y").expand_dims(x=200).transpose("y", "x")
    fitted = PIPELINE.fit(to(image), where=where)
    result = fitted.transform(to(image)).compute()
    assert result[:, 200:].isnull().any("c").mean() > 0.9


def test_where_zeros_count_or_it_is_left_out():
    SPARSE.pxprep.preprocess(q_sum=None)
    Pipeline.pixie().fit_transform(SPARSE)
    Pipeline().quantile_norm().blur().sum_mask(5).sum_norm().post_norm().fit(SPARSE)
    Pipeline().quantile_norm().blur().sum_mask(threshold=0.2).fit_transform(SPARSE)


def test_of_few_pixels():
    image = SPARSE[:, :60, :60]
    n, _, lost = expected(image)
    assert n < 500
    assert lost > 0.15
    image.pxprep.preprocess(q_post=None)


def test_the_page_says_what_is_so():
    """The numbers of docs/q-sum.md."""
    page = " ".join((Path(__file__).parents[2] / "docs" / "q-sum.md").read_text().split())
    fov = tissue()["fov0"]
    sparse = counts(0.03, 256)
    assert f"{100 * float((fov == 0).all('c').mean()):.0f} % of all pixels have no counts" in page
    assert f"{100 * expected(fov)[1]:.1f} % of the pixels with" in page
    assert f"{100 * float((sparse == 0).mean()):.0f} % of the values are zeros" in page
    _, dropped, lost = expected(sparse)
    assert f"{100 * dropped:.0f} % of the pixels with counts are dropped, and with them" in page
    assert f"here they are {100 * lost:.0f} %" in page
    (said,) = told(lambda: sparse.rename("fov0").pxprep.preprocess())
    assert said == re.search(r"```text (.*?) ```", page)[1]
