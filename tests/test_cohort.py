"""`pxprep.Cohort`: images that are measured together, as a value with the steps as methods."""

import numpy as np
import pytest
import xarray as xr

from oracle import assert_same_bits
from pxprep import Cohort, Mask, Pipeline, ops
from pxprep.datasets import tissue
from pxprep.errors import ImageError, ParameterError
from pxprep.images.datatree import TREES

# That of xarray, or of the older package, if there is one.
TREE = next(iter(TREES), None)
with_trees = pytest.mark.skipif(TREE is None, reason="this xarray has no trees")


@pytest.fixture
def fovs():
    return {name: fov[:3, :20, : 24 + n] for n, (name, fov) in enumerate(tissue(size=30).items())}


@pytest.fixture
def masks(fovs):
    return {name: fov.isel(c=0, drop=True) > fov.isel(c=0).median() for name, fov in fovs.items()}


@pytest.mark.parametrize("pool", ["mean", "pixels", None])
def test_steps_chain_as_functions_do(fovs, masks, pool):
    cohort = Cohort(fovs, where=masks, pool=pool)
    made = cohort.quantile_norm(98).blur(1.5).sum_mask(20).sum_norm().post_norm()
    expected = ops.quantile_norm(fovs, 98, pool=pool, where=masks)
    expected = ops.blur(expected, 1.5)
    expected = ops.sum_norm(ops.sum_mask(expected, 20, pool=pool, where=masks))
    expected = ops.post_norm(expected, pool=pool, where=masks)
    assert isinstance(made, Cohort)
    for name, image in made.as_given().items():
        assert_same_bits(image, expected[name])
    assert ops.blur(cohort, 2).as_given().keys() == fovs.keys()


def test_pipelines_measure_it_as_it_says(fovs, masks):
    cohort = Cohort(fovs, where=masks, pool="pixels")
    fitted = cohort.fit(Pipeline.sparrow())
    assert fitted == Pipeline.sparrow().fit(fovs, where=masks, pool="pixels")
    assert fitted == Pipeline.sparrow().fit(cohort)
    for name, image in cohort.transform(fitted).items():
        assert_same_bits(image, fitted.transform(fovs)[name])
    chosen = cohort.preprocess(channels=["CD3", "DAPI"])
    assert chosen.channels == ("CD3", "DAPI")


def test_it_is_a_mapping_of_names_to_images(fovs):
    cohort = Cohort(fovs)
    assert list(cohort) == list(fovs)
    assert len(cohort) == 3
    assert "fov1" in cohort
    xr.testing.assert_identical(cohort["fov1"], fovs["fov1"])
    with pytest.raises(KeyError, match="fov9"):
        cohort["fov9"]
    assert cohort.channels == tuple(fovs["fov0"].c.values.tolist())
    assert cohort.pool == "mean"


@pytest.mark.parametrize("kind", [list, tuple, "one", pytest.param("tree", marks=with_trees)])
def test_images_come_back_as_they_were_given(fovs, kind):
    if kind == "one":
        given = fovs["fov0"]
    elif kind == "tree":
        given = TREE.from_dict({n: f.to_dataset(name="image") for n, f in fovs.items()})
    else:
        given = kind(fovs.values())
    made, expected = Cohort(given).blur(1).as_given(), ops.blur(given, 1)
    assert type(made) is type(expected)
    if kind == "tree":
        assert made.identical(expected)
    else:
        pairs = [(made, expected)] if kind == "one" else zip(made, expected, strict=True)
        for one, other in pairs:
            xr.testing.assert_identical(one, other)


@with_trees
def test_variable_of_a_tree(fovs):
    datasets = {n: xr.Dataset({"raw": f, "seen": f * 2}) for n, f in fovs.items()}
    tree = TREE.from_dict(datasets)
    made = Cohort(tree, variable="seen").clip(10).as_given()
    np.testing.assert_array_equal(made["fov1"]["seen"], np.minimum(fovs["fov1"] * 2, 10))
    xr.testing.assert_identical(made["fov1"]["raw"], fovs["fov1"].rename("raw"))


def test_what_it_says_is_not_said_again(fovs, masks):
    cohort = Cohort(fovs, pool="pixels")
    with pytest.raises(ParameterError, match="a Cohort has its own pool: set it where it is made"):
        Cohort(fovs).quantile_norm(pool="pixels")
    with pytest.raises(ParameterError, match=r"a Cohort has its own pool: .* got None"):
        Cohort(fovs).quantile_norm(pool=None)
    with pytest.raises(ParameterError, match=r"a Cohort has its own pool: .* got None"):
        Pipeline.sparrow().fit(cohort, pool=None)
    with pytest.raises(ParameterError, match="a Cohort has its own where: set it where it is made"):
        ops.quantile_norm(cohort, where=masks)
    with pytest.raises(
        ParameterError, match="a Cohort has its own variable: set it where it is made"
    ):
        Pipeline.sparrow().fit(cohort, variable="raw")


def test_masks_must_still_fit(fovs, masks):
    smaller = Cohort(fovs).coarsen({"y": 2})
    assert smaller["fov0"].sizes["y"] == 10
    with pytest.raises(ImageError, match="a Cohort with a mask keeps its size"):
        Cohort(fovs, where=masks).coarsen({"y": 2})


def test_it_shows_what_is_in_it(fovs, masks):
    cohort = Cohort(fovs, where=masks, pool=None)
    assert repr(cohort).splitlines() == [
        "<pxprep.Cohort of 3 images, pool=None, masked>",
        "Channels (3): DAPI, CD45, CD3",
        "Images (3):",
        "    image  size          dtype   held",
        "    fov0   y: 20, x: 24  uint16  in memory",
        "    fov1   y: 20, x: 25  uint16  in memory",
        "    fov2   y: 20, x: 26  uint16  in memory",
    ]
    page = Cohort({"<b>": fovs["fov0"]}, where=Mask(masks["fov0"]))._repr_html_()
    assert "&lt;b&gt;" in page
    assert "y: 20, x: 24" in page
    many = Cohort([fovs["fov0"]] * 25)
    assert repr(many).splitlines()[-1] == "    ... and 5 more"


def test_keep_where_takes_another_mask_than_that_of_the_cohort(fovs, masks):
    outside = {name: ~mask for name, mask in masks.items()}
    for cohort in (Cohort(fovs), Cohort(fovs, where=masks)):
        kept = cohort.keep_where(outside)
        for name, image in ops.keep_where(fovs, outside).items():
            assert_same_bits(kept[name], image)
            assert_same_bits(ops.keep_where(cohort, outside)[name], image)
        # What is measured is what the cohort's own mask says.
        own = masks if cohort.image_set.is_masked else None
        expected = ops.quantile(ops.keep_where(fovs, outside), 60, where=own)
        np.testing.assert_array_equal(kept.quantile(60), expected)


@with_trees
def test_keep_where_by_the_name_of_a_mask_in_the_tree(fovs, masks):
    beside = {
        name: xr.Dataset({"image": fov, "other": fov, "cells": masks[name]})
        for name, fov in fovs.items()
    }
    cohort = Cohort(TREE.from_dict(beside), variable="image", pool="pixels")
    for given in (cohort, Cohort(cohort, pool="pixels"), cohort.blur(0)):
        for where in ("cells", Mask("cells")):
            kept = given.keep_where(where)
            for name, image in ops.keep_where(fovs, masks).items():
                assert_same_bits(kept[name], image.rename("image"))
    with pytest.raises(ParameterError, match="where takes names, as 'cells', of variables beside"):
        Cohort(fovs).keep_where("cells")


@with_trees
def test_no_image_of_a_generator_is_lost(fovs):
    datasets = [xr.Dataset({"raw": fov.isel(x=slice(24))}) for fov in fovs.values()]
    for held in (datasets, [TREE(dataset) for dataset in datasets]):
        cohort = Cohort((one for one in held), variable="raw")
        assert list(cohort) == [0, 1, 2]
        for image, fov in zip(cohort.values(), fovs.values(), strict=True):
            np.testing.assert_array_equal(image, fov.isel(x=slice(24)))


def test_sums_over_channels_are_shown_and_are_no_images(fovs, masks):
    sums = Cohort(fovs, where=masks).pixel_sum()
    assert sums.channels == ()
    assert repr(sums).startswith("<pxprep.Cohort of 3 images, pool='mean', masked>\nImages (3):\n")
    for name, image in ops.pixel_sum(fovs).items():
        assert_same_bits(sums[name], image)
    for step in (sums.blur, sums.pixel_sum, sums.quantile):
        with pytest.raises(ImageError, match=r"image 'fov0' must have the dims c, y, x .* lacks c"):
            step()


def test_a_reference_with_a_mask_is_measured_inside_it(fovs, masks):
    expected = ops.sum_mask(ops.blur(fovs, 1), 40, fovs, where=masks)
    held = Cohort(fovs, where=masks)
    backwards = dict(reversed(fovs.items()))
    references = (held, Cohort(backwards, where=masks))
    for images in (ops.blur(fovs, 1), held.blur(1), Cohort(fovs).blur(1)):
        for reference in references:
            made = ops.sum_mask(images, 40, reference)
            for name, image in expected.items():
                assert_same_bits(made[name], image)
    alone = ops.sum_mask(fovs["fov0"], 40, Cohort(fovs["fov0"], where=masks["fov0"]))
    assert_same_bits(alone, ops.sum_mask(fovs["fov0"], 40, fovs["fov0"], where=masks["fov0"]))
    with pytest.raises(ParameterError, match="a Cohort has its own where"):
        ops.sum_mask(fovs, 40, held, where=masks)
    batches = {"fov0": "a", "fov1": "a", "fov2": "b"}
    with pytest.raises(ParameterError, match="reference must have the batches of the images, or n"):
        ops.sum_mask(fovs, 40, Cohort(fovs, by=batches))
    both = Cohort(fovs, by=batches)
    assert both.sum_mask(40, reference=both).batches == batches
