"""Masks from outside: what they restrict, for every face, on arrays and chunks of any kind."""

import warnings

import numpy as np
import pytest
import xarray as xr

import oracle
from masked_images import MEASURING, SHAPE, a_mask, measured_elsewhere, outside_nan
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Mask, Pipeline, PxprepWarning, ops

any_measure = pytest.mark.parametrize("name", MEASURING)


def reference_order(image, mask, q=99, q_sum=5, q_post=99.9, sigma=2, zeros="exclude"):
    """`oracle.preprocess` with a mask, on our own blur so that all bits can be compared."""
    norm = measured_elsewhere("quantile_norm", image, mask, q=q)
    labeled = image.astype(norm.dtype).copy(data=norm)
    blurred = plain(ops.blur(labeled, sigma))
    inside = plain(outside_nan(labeled, mask))
    masked = oracle.sum_mask(blurred, q_sum, reference=inside, zeros=zeros)
    summed = oracle.sum_norm(masked)
    return measured_elsewhere("post_norm", labeled.copy(data=summed), mask, q_post=q_post)


# --- what a mask means ----------------------------------------------------------------------------


@any_measure
@pytest.mark.parametrize(
    ("dtype", "chunks"),
    [("bool", None), ("uint16", None), ("float64", {"c": 2, "y": 21, "x": 19})],
)
def test_steps_measure_inside_only(name, dtype, chunks, make_image):
    image, mask = make_image(dtype, SHAPE), a_mask()
    expected = measured_elsewhere(name, image, mask, **MEASURING[name])
    image = image if chunks is None else image.chunk(chunks)
    for one in (mask, mask.astype("int16") * 7, mask.chunk(y=16, x=16), Mask(mask)):
        assert_agrees(getattr(ops, name)(image, **MEASURING[name], where=one), expected)
    assert_agrees(getattr(image.pxprep, name)(**MEASURING[name], where=mask), expected)
    everywhere = getattr(ops, name)(image, **MEASURING[name])
    if dtype != "bool":
        assert not np.array_equal(plain(everywhere), expected, equal_nan=True)


@any_measure
def test_nan_infinities_and_negative_pixels_count_where_the_mask_is(name, make_image):
    image, mask = make_image("float32", SHAPE, nan=0.1, negative=0.2), a_mask()
    image.values[:, 0, :] = np.inf
    mask.values[0] = False
    expected = measured_elsewhere(name, image, mask, **MEASURING[name])
    for one in (image, image.chunk(y=9)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = getattr(ops, name)(one, **MEASURING[name], where=mask).compute()
        assert_agrees(result, expected)
        said = " ".join(str(warning.message) for warning in caught)
        assert ("inside the mask: negative values" in said) == (name != "quantile")
        assert "infinite" not in said


def test_the_blur_sees_all_pixels(make_image):
    image, mask = make_image("uint16", SHAPE), a_mask()
    parameters = {"q": 98, "q_sum": 15, "q_post": 99, "sigma": 1.3}
    expected = reference_order(image, mask, **parameters)
    assert_agrees(image.pxprep.preprocess(**parameters, where=mask), expected)
    lazy = image.chunk(c=1, y=13, x=17).pxprep.preprocess(**parameters, where=mask.chunk(y=7))
    assert_agrees(lazy, expected)
    fitted = Pipeline.sparrow(**parameters).fit(image, where=mask)
    assert_agrees(fitted.transform(image), expected)


@any_measure
@pytest.mark.parametrize(("dims", "chunks"), [("xy", {"z": 1, "y": 9}), ("yzx", None)])
def test_volumes_and_dims_in_any_order(name, chunks, dims, make_image):
    image = make_image("float32", (2, 4, 20, 17)).transpose("y", "c", "x", "z")
    mask = a_mask((4, 20, 17) if "z" in dims else (20, 17)).transpose(*dims)
    expected = measured_elsewhere(name, image, mask, **MEASURING[name])
    for one in (mask, mask.chunk(y=8)):
        lazy = image if chunks is None else image.chunk(chunks)
        assert_agrees(getattr(ops, name)(lazy, **MEASURING[name], where=one), expected)


def test_given_labels_and_their_opposite(make_image):
    image = make_image("uint16", SHAPE)
    labels = xr.DataArray(np.random.default_rng(4).integers(0, 5, SHAPE[1:]), dims=("y", "x"))
    for lazy in (False, True):
        source = labels.chunk(y=10) if lazy else labels
        pixels = image.chunk(y=20, x=11) if lazy else image
        for asked, chosen in ((2, [2]), ([1, 3], [1, 3]), (np.array([0]), [0])):
            inside = labels.isin(chosen)
            for mask, where in (
                (Mask(source, asked), inside),
                (~Mask(source, labels=asked), ~inside),
                (~~Mask(source, asked), inside),
            ):
                expected = oracle.quantile(plain(outside_nan(image, where)), 60)
                np.testing.assert_array_equal(ops.quantile(pixels, 60, where=mask), expected)


def test_all_pixels_inside_are_the_bits_of_no_mask(make_image):
    image = make_image("float32", SHAPE, nan=0.05)
    mask = xr.ones_like(a_mask())
    expected = image.pxprep.preprocess(sigma=1)
    lazy = image.chunk(c=2, y=20, x=20)
    for where in (mask, {"fov0": mask.chunk(y=10)}, [None]):
        for one in (image, lazy):
            assert_same_bits(one.pxprep.preprocess(sigma=1, where=where), expected)


def test_an_empty_mask_is_an_empty_image(make_image):
    image, nothing = make_image("uint16", SHAPE), xr.zeros_like(a_mask())
    for one in (image, image.astype("f4").chunk(y=9)):
        with pytest.warns(PxprepWarning, match="inside the mask: no finite non-zero") as caught:
            result = ops.quantile_norm(one, where=nothing).compute()
        assert len(caught) == 1
        np.testing.assert_array_equal(result, image.astype("f4"))
        for step, said in ((ops.percentile_clip, "no value"), (ops.minmax, "no two different")):
            with pytest.warns(PxprepWarning, match=f"inside the mask: {said}"):
                np.testing.assert_array_equal(step(one, where=nothing).compute(), image)
        with pytest.warns(PxprepWarning, match="inside the mask: no pixel has a sum"):
            kept = ops.sum_mask(one, where=nothing.chunk()).compute()
        np.testing.assert_array_equal(np.isnan(kept[0]), image.sum("c") == 0)


# --- kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint16", "float32", "float64"])
def test_keep_where_leaves_nan_outside(dtype, make_image):
    image, mask = make_image(dtype, SHAPE), a_mask()
    expected = outside_nan(image, mask)
    for one in (image, image.chunk(c=1, y=11, x=9), image.transpose("x", "c", "y")):
        for where in (mask, mask.chunk(x=5), ~Mask(~mask)):
            kept = ops.keep_where(one, where)
            assert_same_bits(kept, expected.transpose(*one.dims))
    assert not np.isnan(image.astype("f8")).any()


@pytest.mark.parametrize("chunks", [{"c": 2, "y": 16, "x": 13}, {"y": 45, "x": 5}])
def test_steps_after_keep_where_see_nothing_outside(chunks, make_image):
    """Also those that read neighbours, where masks are read around each block."""
    image, mask = make_image("float32", SHAPE), a_mask()
    masked = outside_nan(image, mask)
    for where in (mask, mask.astype("u1").chunk(y=11, x=20)):
        kept = ops.keep_where(image.chunk(chunks), where)
        for function in (
            lambda one: one.pxprep.blur(2).pxprep.quantile_norm(80),
            lambda one: one.pxprep.preprocess(sigma=1.2, q_sum=20),
            lambda one: one.pxprep.blur(1).pxprep.remove_hot_pixels(2).pxprep.quantile(30),
            lambda one: Pipeline.sparrow(sigma=1).fit(one).transform(one),
        ):
            assert_same_bits(function(kept), function(masked))


def test_twice_kept_and_measured_elsewhere(make_image):
    image, first, second = make_image("float32", SHAPE), a_mask(part=0.7), a_mask(seed=5, part=0.7)
    third = a_mask(seed=8, part=0.6)
    chained = ops.keep_where(image.chunk(y=10), first.chunk(y=9)).pxprep.blur(1)
    chained = chained.pxprep.keep_where(second)
    lazy = chained.pxprep.quantile_norm(70, where=third.chunk(x=7))
    plainly = outside_nan(ops.blur(outside_nan(image, first), 1), second)
    assert_agrees(lazy, measured_elsewhere("quantile_norm", plainly, third, q=70))


# --- whatever the chunks --------------------------------------------------------------------------


def test_schedulers_change_no_bit(make_image):
    image, mask = make_image("uint16", SHAPE), a_mask()
    expected = image.pxprep.preprocess(where=mask)
    lazy = image.chunk(c=2, y=15, x=10).pxprep.preprocess(where=mask.chunk(y=20, x=20))
    for scheduler in ("synchronous", "threads"):
        assert_same_bits(lazy.compute(scheduler=scheduler), expected)


def test_inputs_are_not_changed(make_image):
    image, mask = make_image("float32", SHAPE), a_mask()
    image.values.flags.writeable = mask.values.flags.writeable = False
    before = image.copy(deep=True), mask.copy(deep=True)
    image.pxprep.keep_where(mask).pxprep.preprocess(where=~Mask(~mask))
    Pipeline.sparrow().fit([image, image], where=mask)
    assert image.identical(before[0])
    assert mask.identical(before[1])
