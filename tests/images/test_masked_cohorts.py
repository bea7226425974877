"""Masks of pipelines, cohorts and trees: what is measured, whoever is in the cohort."""

import json

import numpy as np
import pytest
import xarray as xr

import oracle
import pxprep
from masked_images import POOLS, SHAPE, a_cohort, a_mask, outside_nan
from oracle import plain
from pxprep import Mask, Pipeline, PxprepWarning, ops
from pxprep.errors import ParameterError
from pxprep.images.datatree import TREES
from small_cohorts import Brightest

PIPELINES = {
    "sparrow": Pipeline.sparrow(sigma=1, q_sum=30),
    "range": Pipeline().subtract_background(2).percentile_clip(5, [99, 90, 80]).minmax(),
    "own": Pipeline().quantile_norm(98).then(Brightest()).sum_norm(),
}


def test_an_image_without_a_pixel_inside_does_not_count(make_image):
    fovs = {name: make_image("uint16", SHAPE, seed=seed) for seed, name in enumerate("ab")}
    where = {"a": a_mask(), "b": xr.zeros_like(a_mask())}
    with pytest.warns(PxprepWarning, match="of image 'b'.*not counted in the cohort's mean"):
        fitted = Pipeline().quantile_norm(90).fit(fovs, where=where)
    alone = Pipeline().quantile_norm(90).fit({"a": fovs["a"]}, where={"a": where["a"]})
    np.testing.assert_array_equal(
        fitted.numbers["quantile_norm_scale"], alone.numbers["quantile_norm_scale"]
    )
    assert fitted.numbers["quantile_norm_counted"].sel(fov="b").sum() == 0


@pytest.mark.filterwarnings("ignore:sum_mask. far more:pxprep.PxprepWarning")
@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("sparrow", "pixels"),
        ("own", "mean"),
        ("range", None),
    ],
)
def test_lazy_eager_and_at_once_are_the_same_bits(name, pool, make_image):
    pipeline = PIPELINES[name]
    fovs, masks = a_cohort(make_image)
    fitted = pipeline.fit(fovs, pool=pool, where=masks)
    assert fitted != pipeline.fit(fovs, pool=pool)
    chunks = {"c": 1, "y": 23, "x": 21}
    lazy = {name: fov.chunk(chunks) for name, fov in fovs.items()}
    for where in (masks, {name: mask.chunk(y=9, x=100) for name, mask in masks.items()}):
        assert pipeline.fit(lazy, pool=pool, where=where) == fitted
    assert (
        pipeline.fit(list(fovs.values()), pool=pool, where=list(masks.values()))
        .numbers.drop_vars("fov", errors="ignore")
        .equals(fitted.numbers.drop_vars("fov", errors="ignore"))
    )
    expected = fitted.transform(fovs)
    for images in (fovs, lazy):
        made = pipeline.fit_transform(images, pool=pool, where=masks)
        for name in fovs:
            np.testing.assert_array_equal(made[name], expected[name])


@pytest.mark.parametrize("pool", POOLS)
def test_numbers_of_a_cohort_are_those_of_the_pixels_inside(pool, make_image):
    fovs, masks = a_cohort(make_image)
    fitted = Pipeline().quantile_norm(90).fit(fovs, pool=pool, where=masks)
    inside = {name: plain(outside_nan(fov, masks[name])) for name, fov in fovs.items()}
    each = np.stack([oracle.quantile(one, 90) for one in inside.values()])
    np.testing.assert_array_equal(fitted.numbers["quantile_norm_quantile"], each)
    counted = [(np.isfinite(one) & (one != 0)).sum((1, 2)) for one in inside.values()]
    np.testing.assert_array_equal(fitted.numbers["quantile_norm_counted"], counted)
    pooled = np.concatenate([one.reshape(3, -1) for one in inside.values()], axis=1)
    scale = {None: each, "pixels": oracle.quantile(pooled, 90), "mean": each.mean(axis=0)}[pool]
    np.testing.assert_allclose(fitted.numbers["quantile_norm_scale"], scale, rtol=1e-15)


@pytest.mark.parametrize("pool", POOLS)
def test_own_steps_see_nan_outside(pool, make_image):
    fovs, masks = a_cohort(make_image)
    pipeline = Pipeline([Brightest()])
    masked = {name: outside_nan(fov, masks[name]) for name, fov in fovs.items()}
    fitted = pipeline.fit(fovs, pool=pool, where=masks)
    assert fitted == pipeline.fit(masked, pool=pool)
    assert fitted != pipeline.fit(fovs, pool=pool)


def test_one_mask_for_all_and_none_for_some(make_image):
    fovs = [make_image("uint16", SHAPE, seed=seed) for seed in range(3)]
    mask = a_mask()
    pipeline = Pipeline.sparrow(sigma=1)
    assert pipeline.fit(fovs, where=mask) == pipeline.fit(fovs, where=[mask] * 3)
    some = pipeline.fit(fovs, where=[None, mask, None])
    assert some == pipeline.fit(fovs, where=[xr.ones_like(mask), mask, xr.ones_like(mask)])


def test_more_images_later(make_image):
    fovs, masks = a_cohort(make_image)
    pipeline = Pipeline().blur(1).quantile_norm(95)
    whole = pipeline.fit(fovs, where=masks)
    first = pipeline.fit({"a": fovs["a"]}, where={"a": masks["a"]})
    later = {name: fovs[name] for name in "bc"}
    assert first.update(later, where={name: masks[name] for name in "bc"}) == whole
    assert first.update(later) != whole


def test_masks_are_no_part_of_json(make_image):
    image = make_image("uint16", SHAPE)
    fitted = Pipeline.sparrow().fit(image, where=a_mask())
    assert pxprep.FittedPipeline.from_json(fitted.to_json()) == fitted
    masked, whole = (json.loads(one.to_json()) for one in (fitted, Pipeline.sparrow().fit(image)))
    assert masked.keys() == whole.keys()


def test_outliers_are_those_of_the_pixels_inside(make_image):
    fovs = {f"f{seed}": make_image("float32", (3, 40, 40), seed=seed) for seed in range(5)}
    masks = {name: a_mask((40, 40)) for name in fovs}
    fovs["f2"] = fovs["f2"].where(masks["f2"], fovs["f2"] * 50)  # an artefact outside
    pipeline = Pipeline().quantile_norm(99)
    assert set(pipeline.fit(fovs).outliers()["fov"]) == {"f2"}
    assert pipeline.fit(fovs, where=masks).outliers().empty


@pytest.mark.parametrize("kind", TREES, ids=lambda kind: kind.__module__)
def test_trees(kind, make_image):
    fovs, masks = a_cohort(make_image)
    datasets = {f"s/{n}": xr.Dataset({"image": fovs[n], "cells": masks[n] * 3}) for n in fovs}
    tree = kind.from_dict(datasets)
    others = kind.from_dict(
        {f"s/{name}": mask.to_dataset(name="m") for name, mask in masks.items()}
    )
    by_path = {f"s/{name}": mask for name, mask in masks.items()}
    expected = tree.pxprep.quantile_norm(90, pool=None, where=by_path)
    for where in ("cells", Mask("cells", 3), others, ~~Mask("cells")):
        made = tree.pxprep.quantile_norm(90, pool=None, where=where)
        for name in fovs:
            np.testing.assert_array_equal(made[f"s/{name}/image"], expected[f"s/{name}/image"])
    fitted = tree.pxprep.fit(Pipeline().quantile_norm(90), where="cells", pool=None)
    alone = fovs["a"].pxprep.quantile_norm(90, where=masks["a"])
    np.testing.assert_array_equal(expected["s/a/image"], alone)
    np.testing.assert_array_equal(tree.pxprep.transform(fitted)["s/a/image"], alone)
    with pytest.raises(ParameterError, match=r"no variable 'cell' beside image 's/a'.*'cells'"):
        tree.pxprep.quantile(where="cell")


@pytest.mark.parametrize("kind", TREES, ids=lambda kind: kind.__module__)
def test_multiscale_trees(kind, make_image):
    image, mask = make_image("float32", (3, 40, 40)), a_mask((40, 40))
    scales = {
        f"scale{level}": xr.Dataset(
            {"image": image[:, ::step, ::step], "cells": mask[::step, ::step]}
        )
        for level, step in enumerate((1, 2))
    }
    tree = kind.from_dict(scales)
    masks = kind.from_dict({name: scale[["cells"]] for name, scale in scales.items()})
    expected = image.pxprep.quantile_norm(80, where=mask)
    for where in ("cells", masks, mask, [masks]):
        made = tree.pxprep.quantile_norm(80, where=where)
        np.testing.assert_array_equal(made["scale0/image"], expected)
    for where in (masks, {"a": masks, "b": mask}):
        both = ops.quantile(dict.fromkeys("ab", image), 80, pool=None, where=where)
        np.testing.assert_array_equal(both, [image.pxprep.quantile(80, where=mask)] * 2)
    with pytest.raises(ParameterError, match="missing 'b', unknown 'c'"):
        ops.quantile(
            dict.fromkeys("ab", image), where=kind.from_dict({"a": scales["scale0"], "c": masks})
        )
