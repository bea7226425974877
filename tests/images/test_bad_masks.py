"""Masks that cannot be meant are refused before any work."""

import numpy as np
import pytest
import xarray as xr

import pxprep
from masked_images import SHAPE, a_mask
from pxprep import Mask, Pipeline, PxprepWarning, ops
from pxprep.errors import ParameterError

# --- what is refused ------------------------------------------------------------------------------

BAD = {
    "numpy": (np.ones(SHAPE[1:], bool), r"got numpy.ndarray; xr.DataArray\(mask, dims="),
    "number": (3, "where must be a mask .* got builtins.int"),
    "float": (a_mask().astype("f4"), "bool or integer labels, got dtype float32: compare it"),
    "channels": (a_mask().expand_dims(c=3), "for all channels, without the dim 'c'"),
    "z": (a_mask((4, *SHAPE[1:])), r"dims of the image, \['y', 'x'\], got \('z', 'y', 'x'\)"),
    "only y": (a_mask()[:, 0], r"dims of the image"),
    "size": (a_mask((45, 37)), "sizes of the image, {'y': 45, 'x': 38}, got {'y': 45, 'x': 37}"),
    "one pixel": (a_mask((1, 1)), "sizes of the image"),
    "coordinates": (
        a_mask().assign_coords(y=np.arange(45) + 0.5),
        "coordinates along 'y', got 0.5 where the image has 0 ",
    ),
    "other end": (
        a_mask().assign_coords(y=[*range(44), 99]),
        "coordinates along 'y', got 99 where the image has 44 ",
    ),
    "name": ("cells", "takes names, as 'cells', of variables beside the images in a tree"),
    "labels": (Mask(a_mask().astype("i4"), [1, 9]), "no pixel has the labels 9; there are 0, 1"),
    "bool labels": (Mask(a_mask(), 1), r"must hold integers for labels=\(1,\), got bool"),
    "too few": ([], "for each of 1 images, got 0"),
    "other name": ({"fov1": a_mask()}, "'fov0'; missing 'fov0', unknown 'fov1'"),
    "one of two": ([a_mask(), 5], "for each of 1 images, got 2"),
    "bad entry": ([5], r"where\['fov0'\] must be a mask"),
    "dataset": (a_mask().to_dataset(name="m"), "got xarray.core.dataset.Dataset"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_masks_are_refused_before_any_work(bad, make_image, no_compute):
    where, message = BAD[bad]
    image = make_image("uint16", SHAPE).assign_coords(y=np.arange(SHAPE[1]))
    calls = [
        lambda one: ops.quantile_norm(one, where=where),
        lambda one: ops.sum_mask(one, where=where),
        lambda one: ops.post_norm(one, where=where),
        lambda one: ops.quantile(one, where=where),
        lambda one: ops.keep_where(one, where),
        lambda one: one.pxprep.preprocess(where=where),
        lambda one: Pipeline.sparrow().fit(one, where=where),
        lambda one: Pipeline.sparrow().fit_transform(one, where=where),
    ]
    for one in (image, image.chunk(y=9)):
        for call in calls:
            with no_compute(), pytest.raises(ParameterError, match=message):
                call(one)


def test_an_unknown_label_is_told_the_labels_of_all_images(make_image):
    images = [make_image("uint16", SHAPE)] * 2
    where = [Mask(a_mask().astype("i4") + more, 9) for more in (0, 4)]
    with pytest.raises(ParameterError, match=r"labels 9; there are 0, 1, 4, 5$"):
        ops.quantile(images, where=where)


@pytest.mark.parametrize("labels", ["all", 1.5, [], [1.5], [True], None, {"a": 1}])
def test_bad_labels(labels):
    with pytest.raises(ParameterError, match="labels must be 'nonzero', a whole number"):
        Mask("cells", labels)


def test_bad_sources():
    with pytest.raises(ParameterError, match=r"source of a mask must be .* got builtins.int"):
        Mask(3)
    with pytest.raises(ParameterError, match="inverted must be True or False, got 1"):
        Mask("cells", inverted=1)
    with pytest.raises(ParameterError, match="where must be a mask, got None"):
        ops.keep_where(xr.DataArray(np.ones((1, 2, 2)), dims=("c", "y", "x")), None)


def test_a_reference_must_have_the_size_of_the_mask(make_image):
    image = make_image("float32", SHAPE)
    smaller = image.isel(y=slice(20))
    with pytest.raises(
        pxprep.errors.ImageError, match="reference must have the sizes of the images"
    ):
        ops.sum_mask(image, reference=smaller, where=a_mask())


def test_labels_that_no_image_has_are_told_of_where_some_have(make_image):
    """A label may be missing in some images of a cohort, and outside what is left out."""
    images = [make_image("uint16", SHAPE, seed=seed) for seed in range(2)]
    labels = [a_mask().astype("i4") * number for number in (1, 2)]
    with pytest.warns(PxprepWarning, match="of image 0"):
        ops.quantile_norm(images, where=[Mask(one, 2) for one in labels])
    with pytest.raises(ParameterError, match="no pixel has the labels 3"):
        ops.quantile_norm(images, where=[Mask(one, [2, 3]) for one in labels])
    ops.quantile_norm(images, where=[~Mask(one, 3) for one in labels])
