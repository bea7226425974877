"""Images in batches: each batch is measured as it would be alone."""

import json

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pxprep
from oracle import assert_same_bits
from pxprep import Cohort, FittedPipeline, Pipeline
from pxprep.errors import ImageError, ParameterError
from pxprep.images.datatree import TREES
from small_cohorts import PIPELINES, cohort_of, lazily

# Not in the order of the images, and not of one size.
BATCHES = {"fov0": "late", "fov1": "early", "fov2": "late", "fov3": "early", "fov4": "late"}
STEPS = {
    **PIPELINES,
    "zscore": Pipeline().quantile_norm(80).zscore(),
    "robust_zscore": Pipeline().robust_zscore().arcsinh(),
    "threshold_q": Pipeline().threshold(q=40).quantile_norm(90),
}
SPARROW = Pipeline.sparrow(sigma=1, q_sum=30)


def five(make_image):
    """Images of which no step drops all pixels."""
    scales = (1, 1.1, 1.3, 0.9, 1.2)
    cohort = cohort_of(make_image, n=5).items()
    return {
        name: image * np.float32(s / (i + 1))
        for i, ((name, image), s) in enumerate(zip(cohort, scales, strict=True))
    }


def members(cohort, batch):
    return {name: image for name, image in cohort.items() if BATCHES[name] == batch}


def assert_numbers(fitted, alone, batch):
    """Numbers of a batch are those of a fit to it alone."""
    own = fitted.numbers.sel(fov=list(alone.fovs)).sel(batch=batch, drop=True)
    for name, expected in alone.numbers.items():
        found = own[name]
        assert found.dims == expected.dims
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("name", "pool", "masked"),
    [
        *((name, "mean", True) for name in STEPS),
        *((name, "pixels", True) for name in ("sparrow", "own")),
        ("sparrow", "mean", False),
    ],
)
def test_each_batch_is_as_it_would_be_alone(name, pool, masked, make_image):
    steps, cohort = STEPS[name], five(make_image)
    masks = {one: _mask_of(image) for one, image in cohort.items()} if masked else None
    alone, made = {}, {}
    for batch in ("late", "early"):
        own = members(cohort, batch)
        where = {one: masks[one] for one in own} if masked else None
        alone[batch] = steps.fit(own, pool=pool, where=where)
        made |= alone[batch].transform(own)
    for images in (cohort, lazily(cohort)):
        fitted = steps.fit(images, pool=pool, where=masks, by=BATCHES)
        assert fitted.fovs == tuple(cohort)
        for batch, expected in alone.items():
            assert_numbers(fitted, expected, batch)
        both = [
            fitted.transform(images),
            steps.fit_transform(images, pool=pool, where=masks, by=BATCHES),
        ]
        for one in both:
            assert list(one) == list(cohort)
            computed = dask.compute(one)[0]
            for image in cohort:
                assert_same_bits(computed[image], made[image])


def _mask_of(image):
    plane = image.isel(c=0, drop=True)
    return xr.ones_like(plane, bool).where(plane.x > 4, False)


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("quantile_norm", (90,)),
        ("sum_mask", (40,)),
        ("post_norm", (90,)),
        ("percentile_clip", (5, 90)),
        ("minmax", ()),
        ("threshold", (None, 30)),
        ("zscore", ()),
        ("robust_zscore", ()),
    ],
)
@pytest.mark.parametrize("pool", ["mean", "pixels"])
def test_every_method_of_a_cohort(method, how, pool, make_image):
    cohort = five(make_image)
    for images in (cohort, lazily(cohort)):
        made = getattr(Cohort(images, pool=pool, by=BATCHES), method)(*how)
        assert made.batches == BATCHES
        computed = dask.compute(dict(made))[0]
        for batch in ("late", "early"):
            alone = getattr(Cohort(members(cohort, batch), pool=pool), method)(*how)
            for name, expected in dask.compute(alone)[0].items():
                assert_same_bits(computed[name], expected)


def test_a_batch_may_have_a_lazy_mask_and_another_none(make_image):
    cohort = five(make_image)
    masks = {name: (image > 1).any("c") for name, image in cohort.items()}
    masks["fov1"] = masks["fov1"].chunk({"y": 7})
    pipeline = Pipeline().percentile_clip(1, 99).sum_mask(20, reference="input")
    found = pipeline.fit_transform(cohort, where=masks, by=BATCHES)
    for batch in ("late", "early"):
        mine = members(cohort, batch)
        alone = {name: masks[name].compute() for name in mine}
        for name, expected in pipeline.fit_transform(mine, where=alone).items():
            assert_same_bits(found[name].compute(), expected)


def test_numbers_against_numpy(make_image):
    cohort = five(make_image)
    fitted = Pipeline().quantile_norm(90).fit(cohort, by=BATCHES)
    each = {
        name: [np.quantile(c[c != 0].astype(float), 0.9) for c in image.values]
        for name, image in cohort.items()
    }
    scales = fitted.numbers["quantile_norm_scale"]
    assert scales.dims == ("batch", "c")
    assert scales.batch.values.tolist() == ["late", "early"]
    for batch in ("late", "early"):
        expected = np.mean([each[name] for name in members(cohort, batch)], axis=0)
        np.testing.assert_allclose(scales.sel(batch=batch).values, expected, rtol=1e-14)
    quantiles = fitted.numbers["quantile_norm_quantile"]
    assert quantiles.dims == ("fov", "c")
    np.testing.assert_allclose(quantiles.values, list(each.values()), rtol=1e-14)
    asked = pxprep.quantile(Cohort(cohort, by=BATCHES), 90)
    xr.testing.assert_identical(asked.rename(None), scales.rename(None).reindex_like(asked))


def test_every_form_of_batches(make_image):
    cohort = five(make_image)
    expected = SPARROW.fit(cohort, by=BATCHES)
    series = pd.Series(BATCHES)
    array = xr.DataArray(list(BATCHES.values()), dims="fov", coords={"fov": list(BATCHES)})
    for by in (series, series.astype("category"), array, dict(reversed(BATCHES.items()))):
        assert SPARROW.fit(cohort, by=by) == expected
    assert Cohort(cohort, by=BATCHES).fit(SPARROW) == expected
    assert Cohort(cohort).fit(SPARROW, by=BATCHES) == expected
    listed = SPARROW.fit(list(cohort.values()), by=pd.Series(list(BATCHES.values())))
    assert listed.batches == dict(enumerate(BATCHES.values()))
    numbered = SPARROW.fit(cohort, by={name: len(batch) for name, batch in BATCHES.items()})
    assert numbered.numbers.batch.values.tolist() == [4, 5]
    assert numbered != expected
    one = SPARROW.fit(cohort["fov1"], by={"fov1": "early"})
    assert one.numbers.sizes["batch"] == 1


@pytest.mark.skipif(not TREES, reason="no DataTree here")
def test_a_level_of_a_tree(make_image):
    cohort = five(make_image)
    nodes = {
        f"study/{BATCHES[name]}/{name}": image.to_dataset(name="image")
        for name, image in cohort.items()
    }
    tree = next(iter(TREES)).from_dict(nodes)
    fitted = SPARROW.fit(tree, by=1)
    expected = SPARROW.fit(cohort, by=BATCHES)
    for batch in ("late", "early"):
        xr.testing.assert_equal(
            fitted.numbers["quantile_norm_scale"].sel(batch=batch),
            expected.numbers["quantile_norm_scale"].sel(batch=batch),
        )
    made = fitted.transform(tree)
    for name, image in expected.transform(cohort).items():
        assert_same_bits(made[f"study/{BATCHES[name]}/{name}"]["image"].rename(name), image)
    for level in (2, -1):
        with pytest.raises(ParameterError, match="by must be a level above all images of a tree"):
            SPARROW.fit(tree, by=level)


def test_new_images_name_their_batch(make_image):
    cohort = five(make_image)
    fitted = SPARROW.fit(cohort, by=BATCHES)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    new = make_image("float32", (3, 20, 18), seed=9).rename("new")
    early = SPARROW.fit(members(cohort, "early"))
    for one in (fitted, again):
        for by in ({"new": "early"}, "early", pd.Series({"new": "early", "fov0": "late"})):
            assert_same_bits(one.transform(new, by=by), early.transform(new))
        assert_same_bits(new.pxprep.transform(one, by="early"), early.transform(new))
        mixed = one.transform({"new": new, "fov0": cohort["fov0"]}, by={"new": "early"})
        assert_same_bits(mixed["new"], early.transform(new))
        assert_same_bits(mixed["fov0"], one.transform(cohort)["fov0"])
        own = one.transform(Cohort({"new": new}, by={"new": "early"}))
        assert_same_bits(own["new"], early.transform(new))


@pytest.mark.parametrize("names", [(2, 1), (0.5, 0.25)])
def test_a_batch_with_a_number_for_its_name(make_image, names):
    cohort = five(make_image)
    batches = dict(zip(("early", "late", "third"), (*names, 7), strict=True))
    fitted = SPARROW.fit(cohort, by={name: batches[batch] for name, batch in BATCHES.items()})
    new = make_image("float32", (3, 20, 18), seed=9).rename("new")
    early = SPARROW.fit(members(cohort, "early")).transform(new)
    for by in (names[0], np.array([names[0]])[0]):
        assert_same_bits(fitted.transform(new, by=by), early)
    for by, message in (
        (3, r"that was fitted, got 3 of 'new'; there are"),
        (True, "by must be a "),
    ):
        with pytest.raises(ParameterError, match=message):
            fitted.transform(new, by=by)


def test_images_that_are_left_out_have_their_batch(make_image):
    cohort = five(make_image)
    fitted = SPARROW.fit(cohort, by=BATCHES, exclude="fov0")
    rest = {name: cohort[name] for name in ("fov2", "fov4")}
    late = SPARROW.fit(rest)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    for one in (fitted, again):
        assert_same_bits(one.transform(cohort)["fov0"], late.transform(cohort["fov0"]))
    with pytest.raises(ParameterError, match="leave at least one image of each batch to measure"):
        SPARROW.fit(cohort, by=BATCHES, exclude=["fov1", "fov3"])


@pytest.mark.parametrize("name", ["input", "scores_alone", "range_alone"])
def test_updates_within_batches(name, make_image):
    steps = {
        "input": Pipeline().quantile_norm(90).sum_mask(40, reference="input"),
        "scores_alone": Pipeline().robust_zscore(),
        "range_alone": Pipeline().percentile_clip(5, 90),
    }[name]
    cohort = five(make_image)
    begun = {name: cohort[name] for name in ("fov0", "fov1", "fov2")}
    later = {name: cohort[name] for name in ("fov3",)}
    fitted = steps.fit(begun, by={name: BATCHES[name] for name in begun})
    updated = fitted.update(later, by={"fov3": "early"})
    all_four = {**begun, **later}
    assert updated == steps.fit(all_four, by={name: BATCHES[name] for name in all_four})
    with pytest.raises(
        ParameterError, match="by must give each image a batch, got none for 'fov3'"
    ):
        fitted.update(later)
    with pytest.raises(ParameterError, match="by must give each image a batch that was fitted"):
        fitted.update(later, by="third")
    # Names of both kinds: numbers as in a list, and texts.
    numbered = steps.fit({0: cohort["fov0"], 1: cohort["fov1"]}, by={0: "early", 1: "late"})
    later_of_both = steps.fit(
        {0: cohort["fov0"], 1: cohort["fov1"], **later}, by={0: "early", 1: "late", "fov3": "early"}
    )
    assert numbered.update(later, by="early") == later_of_both


def test_outliers_are_far_from_their_batch(make_image):
    image = make_image("float32", (2, 30, 31), zeros=0.1)
    scales = {"a": 1, "b": 1.1, "c": 0.9, "d": 3, "A": 50, "B": 55, "C": 45, "D": 48}
    cohort = {name: image * scale for name, scale in scales.items()}
    by = {name: "dim" if name.islower() else "bright" for name in cohort}
    far = Pipeline().quantile_norm(90).fit(cohort, by=by).outliers()
    alone = Pipeline().quantile_norm(90).fit({name: cohort[name] for name in "abcd"}).outliers()
    assert far.columns[1:4].tolist() == ["fov", "batch", "channel"]
    pd.testing.assert_frame_equal(far.drop(columns="batch"), alone)
    assert set(zip(far.fov, far.batch, strict=True)) == {("d", "dim")}
    again = Pipeline().quantile_norm(90).fit(cohort, by=by, exclude=far)
    assert again.fovs == tuple(name for name in cohort if name != "d")
    # Of whichever type batches are; no outliers, the same columns.
    numbered = Pipeline().quantile_norm(90).fit(cohort, by={**by, "d": 2, "c": 2, "b": 2})
    assert numbered.outliers(score=1e9).columns.tolist() == far.columns.tolist()
    cohort["d"].loc["CD3"] = 0
    with pytest.warns(match="CD3"):
        far = Pipeline().quantile_norm(90).fit(cohort, by={**by, "d": 2, "c": 2, "b": 2}).outliers()
    assert far.batch.tolist() == [2]


@pytest.mark.filterwarnings("default")
def test_warnings_name_the_batch(make_image):
    cohort = five(make_image)
    for name in ("fov1", "fov3"):
        cohort[name] = cohort[name].where(cohort[name].c != "CD3", 0)
    with pytest.warns(pxprep.PxprepWarning) as said:
        fitted = Pipeline().quantile_norm(90).post_norm(99).fit(cohort, by=BATCHES)
    assert [str(one.message) for one in said] == [
        "quantile_norm of batch 'early': no finite non-zero value in channel 'CD3': the "
        "scale is 1 (pixels that are NaN there are dropped by sum_mask and sum_norm)"
    ]
    assert fitted.numbers["quantile_norm_scale"].sel(batch="early", c="CD3") == 1


@pytest.mark.parametrize(
    ("by", "how", "message"),
    [
        ({"fov0": "a", "fov1": "b"}, {}, "by must give each image a batch, got none for 'fov2'"),
        ({"fov0": "a", "fov1": None, "fov2": "a"}, {}, "got none for 'fov1'"),
        (pd.Series({"fov0": 1, "fov1": np.nan, "fov2": 1}), {}, "got none for 'fov1'"),
        *(
            (pd.Series(values, list(BATCHES)[:3], dtype=dtype), {}, "got none for 'fov1'")
            for values, dtype in ((["a", None, "b"], "string"), ([1, None, 2], "Int64"))
        ),
        (
            {"fov0": 1, "fov1": 1, "fov2": 1, "fvo2": 1},
            {},
            r"by must name images of the cohort, got 'fvo2' \(did you mean 'fov2'\?\); they are",
        ),
        (BATCHES, {"pool": None}, "by says which images are measured together, and with pool=None"),
        ("batch", {}, "by must be a mapping of the names of images to their batches"),
        (["a", "b", "a"], {}, "by must be a mapping"),
        (True, {}, "by must be a mapping"),
        (pd.DataFrame({"batch": ["a"]}), {}, "by must be a mapping"),
        (xr.DataArray(["a", "b", "a"], dims="fov"), {}, "by must be a mapping"),
        (0, {}, "by must be a level above all images of a tree, 0 for the uppermost, got 0 for"),
        ({"fov0": [1], "fov1": 1, "fov2": 1}, {}, r"by must call batches by texts .* got \[1\]"),
        ({"fov0": np.eye(2), "fov1": 1, "fov2": 1}, {}, "by must call batches by texts .* array"),
        (pd.Series(list("abab"), ["fov0", "fov1", "fov2", "fov0"]), {}, "once, got 'fov0' again"),
    ],
)
def test_bad_batches(by, how, message, make_image):
    cohort = cohort_of(make_image)
    with pytest.raises(ParameterError, match=message):
        SPARROW.fit(cohort, by=by, **how)
    with pytest.raises(ParameterError, match=message):
        SPARROW.fit_transform(cohort, by=by, **how)
    with pytest.raises(ParameterError, match=message):
        Cohort(cohort, by=by, **how)


def test_bad_batches_of_new_images(make_image):
    cohort = five(make_image)
    fitted = SPARROW.fit(cohort, by=BATCHES)
    new = {"new": cohort["fov1"].rename("new")}
    for by, message in (
        (None, "by must give each image a batch, got none for 'new'"),
        ({"new": "erly"}, r"fitted, got 'erly' of 'new' \(did you mean 'early'\?\); there are"),
        ({"nwe": "early"}, r"got 'nwe' \(did you mean 'new'\?\)"),
        (["early"], "by must be a mapping"),
        ([["early"], ["late", "early"]], "by must be a mapping"),
        (xr.Dataset({"new": "early"}), "by must be a mapping"),
        *((tree(), "by must be a mapping") for tree in TREES),
    ):
        with pytest.raises(ParameterError, match=message):
            fitted.transform(new, by=by)
    with pytest.raises(ParameterError, match="fitted without any: leave it out, or fit with by="):
        SPARROW.fit(cohort).transform(cohort, by=BATCHES)
    with pytest.raises(ParameterError, match="a Cohort has its own by: set it where it is made"):
        Cohort(cohort, by=BATCHES).fit(SPARROW, by=BATCHES)


def test_numbers_of_batches_that_are_not_there(make_image):
    cohort = Cohort(five(make_image), by=BATCHES)
    thresholds = xr.DataArray([1.0, 2.0], {"batch": ["late", "early"]}, "batch")
    assert cohort.sum_mask(threshold=thresholds)["fov1"].equals(
        cohort["fov1"].pxprep.sum_mask(threshold=2)
    )
    for numbers, known in (
        (thresholds.drop_vars("batch"), "0, 1"),
        (thresholds.assign_coords(batch=["late", "x"]), "'late', 'x'"),
    ):
        with pytest.raises(ImageError, match=f"each batch .* not for .*'early'.* those of {known}"):
            cohort.sum_mask(threshold=numbers)


def _changed(change, document):
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("batches"), "dims must be some of"),
        (lambda d: d["batches"].pop(), "by must give each image a batch, got none for 'fov4'"),
        (lambda d: d["batches"].append(["fov0", "late"]), "each of them once"),
        (lambda d: d["batches"].append(["fov9"]), "batches must be pairs of an image and its"),
        (lambda d: d["batches"].append(["fov9", []]), "batches must be pairs of an image and its"),
        (lambda d: d.update(batches={"fov0": "late"}), "batches must be pairs of an image and its"),
        (lambda d: d.update(pool=None), "pool must not be null"),
        (
            lambda d: _scale(d).update(dims=["c"], values=_scale(d)["values"][0]),
            "scale must be over fov or batch first, got dims",
        ),
        (
            lambda d: _scale(d)["values"][1].__setitem__(0, "nan"),
            "scale must be",
        ),
    ],
)
def test_damaged_json(change, message, make_image):
    text = Pipeline().quantile_norm(90).fit(five(make_image), by=BATCHES).to_json()
    with pytest.raises(ParameterError, match=message):
        FittedPipeline.from_json(_changed(change, json.loads(text)))


def _scale(document):
    return document["numbers"]["quantile_norm"]["scale"]


def test_what_is_shown(make_image):
    cohort = Cohort(five(make_image), by=BATCHES)
    assert "of 5 images in 2 batches, pool='mean'" in repr(cohort)
    assert "Batches (2): late, early" in repr(SPARROW.fit(cohort))
    assert "Batches" not in repr(SPARROW.fit(five(make_image)))
    one = Cohort(five(make_image), by=dict.fromkeys(BATCHES, 7))
    assert "of 5 images in 1 batch, pool" in repr(one)
