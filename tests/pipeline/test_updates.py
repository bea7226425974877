"""More images later: what can be updated equals a new fit, and what cannot is refused."""

import warnings

import numpy as np
import pytest
import xarray as xr

from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline, PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import QuantileNorm
from small_cohorts import PIPELINES, Brightest, cohort_of, in_form, lazily, without_signal


@pytest.fixture
def cohort(make_image):
    return cohort_of(make_image, n=4)


UPDATABLE = {
    "quantile_norm": Pipeline().quantile_norm(97),
    "blur": Pipeline().blur({"CD3": 0, ...: 1.5}).quantile_norm([97, 50, 100]),
    "sums": Pipeline().quantile_norm(97).sum_mask(30, reference="input"),
    "blurred sums": Pipeline().blur(1).quantile_norm().sum_mask(9, reference="blur").sum_norm(),
    "threshold": Pipeline().sum_mask(threshold=40).quantile_norm(97),
    "clip": Pipeline().subtract_background(constant=3).percentile_clip([0, 5, 20], 80),
    "minmax": Pipeline().subtract_background({"CD3": 0, ...: 2}).minmax(),
    "function": Pipeline([("root", np.sqrt), QuantileNorm(97)]),
}

updatable = pytest.mark.parametrize("pipeline", UPDATABLE.values(), ids=list(UPDATABLE))


def split(cohort, *later):
    """The cohort in two parts, of which the second has the names `later`."""
    old = {name: image for name, image in cohort.items() if name not in later}
    return old, {name: cohort[name] for name in later}


def said(call):
    """What a call returns, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(one.message) for one in caught if one.category is PxprepWarning]


@updatable
def test_update_equals_a_new_fit(pipeline, cohort):
    old, new = split(cohort, "fov2", "fov3")
    everything = pipeline.fit(cohort)
    fitted = pipeline.fit(old)
    before = fitted.numbers
    assert fitted.update(lazily(new)) == everything
    assert fitted.numbers.identical(before)
    one_by_one = fitted
    for name, image in new.items():
        one_by_one = one_by_one.update({name: image})
    assert one_by_one == everything
    assert one_by_one.transform(cohort["fov0"]).identical(everything.transform(cohort["fov0"]))


@pytest.mark.parametrize("pipeline", [PIPELINES["sparrow"], PIPELINES["own"]])
def test_update_without_pool_equals_a_new_fit(pipeline, cohort):
    old, new = split(cohort, "fov1", "fov3")
    everything = pipeline.fit({**old, **new}, pool=None)
    fitted = pipeline.fit(old, pool=None).update(new)
    assert fitted == everything
    for name, image in fitted.transform(cohort).items():
        assert_same_bits(image, pipeline.fit(cohort[name]).transform(cohort[name]))


def test_saved_numbers_can_be_updated(cohort):
    old, new = split(cohort, "fov2", "fov3")
    fitted = UPDATABLE["sums"].fit(old)
    again = FittedPipeline.from_json(fitted.to_json()).update(new)
    assert again == UPDATABLE["sums"].fit({**old, **new})


@pytest.mark.parametrize("form", ["image", "tree"])
def test_other_forms_of_more_images(form, cohort):
    old, new = split(cohort, "fov3")
    images = new["fov3"] if form == "image" else in_form(new, "tree")[0]
    assert UPDATABLE["sums"].fit(old).update(images) == UPDATABLE["sums"].fit(cohort)


def test_channels_of_more_images_are_matched_by_label(cohort):
    old, new = split(cohort, "fov3")
    shuffled = {"fov3": new["fov3"].isel(c=[2, 0, 1])}
    assert UPDATABLE["sums"].fit(old).update(shuffled) == UPDATABLE["sums"].fit(cohort)


@pytest.mark.parametrize(
    ("pipeline", "empty"),
    [
        *((pipeline, "both") for pipeline in UPDATABLE.values()),
        *((UPDATABLE["sums"], empty) for empty in ("fov0", "fov3", "all")),
    ],
)
def test_update_with_empty_channels_equals_a_new_fit(pipeline, empty, cohort):
    for name in {"both": ["fov0", "fov3"], "all": list(cohort)}.get(empty, [empty]):
        cohort[name] = without_signal(cohort[name]).rename(name)
    old, new = split(cohort, "fov2", "fov3")
    everything, at_once = said(lambda: pipeline.fit(cohort))
    fitted, first = said(lambda: pipeline.fit(old))
    result, then = said(lambda: fitted.update(new))
    assert result == everything
    assert len(at_once) == 1
    assert len(first) == (empty != "fov3")
    # What is new is said, once, and what was said is not said again.
    assert len(then) == (empty != "fov0")
    assert all("'CD3'" in message for message in then)
    if empty in ("fov3", "both"):
        assert "image 'fov3'" in then[0]
        assert "image 'fov0'" not in then[0]


def test_update_without_pool_warns_of_what_is_new(cohort):
    cohort["fov3"] = without_signal(cohort["fov3"])
    old, new = split(cohort, "fov3")
    pipeline = Pipeline().quantile_norm().sum_mask().post_norm()  # which finds it again
    fitted = pipeline.fit(old, pool=None)
    everything, at_once = said(lambda: pipeline.fit(cohort, pool=None))
    result, then = said(lambda: fitted.update(new))
    assert result == everything
    assert then == at_once
    assert len(then) == 1


@pytest.mark.parametrize("value", [-5.0, np.inf, "all negative"])
def test_update_warns_of_odd_values_once(value, cohort):
    if value == "all negative":
        cohort["fov3"][0] *= -90
    else:
        cohort["fov3"][0, 0, :3] = value
    old, new = split(cohort, "fov3")
    everything, at_once = said(lambda: Pipeline().quantile_norm(50).fit(cohort))
    result, then = said(lambda: Pipeline().quantile_norm(50).fit(old).update(new))
    assert result == everything
    assert then == at_once
    assert len(then) == 1


def test_update_keeps_scales_that_float32_cannot_hold(make_image):
    """The old images were float64, and so is what a new fit divides by."""
    old = {"a": make_image("float64") * 1e-50, "b": make_image("float64", seed=1) * 1e-50}
    new = {"c": xr.zeros_like(make_image("float32"))}
    everything, _ = said(lambda: Pipeline().quantile_norm().fit({**old, **new}))
    result, _ = said(lambda: Pipeline().quantile_norm().fit(old).update(new))
    assert (everything.numbers.quantile_norm_scale < 1e-40).all()
    assert result == everything


@pytest.mark.parametrize(
    ("pipeline", "pool", "message"),
    [
        (Pipeline().quantile_norm(), "pixels", "pool='pixels'.*fit all"),
        (Pipeline.sparrow(), "mean", "step 'sum_mask'.*fit all"),
        (Pipeline.sparrow(q_sum=None, norm_sum=False), "mean", "step 'post_norm'.*fit all"),
        (Pipeline().quantile_norm().sum_norm().sum_mask(), "mean", "step 'sum_mask'"),
        (Pipeline().percentile_clip().minmax(), "mean", "step 'minmax'.*fit all"),
        (Pipeline().minmax(), "pixels", "pool='pixels'.*fit all"),
        (Pipeline([("mine", Brightest())]), "mean", "step 'mine'.*fit all"),
    ],
)
def test_what_cannot_be_updated_exactly_is_refused(pipeline, pool, message, cohort, no_compute):
    old, new = split(cohort, "fov3")
    fitted = pipeline.fit(old, pool=pool)
    with no_compute(), pytest.raises(ParameterError, match=message):
        fitted.update(lazily(new))


@pytest.mark.parametrize("pool", ["mean", None])
def test_update_checks_the_new_images(pool, cohort, no_compute):
    fitted = Pipeline().quantile_norm().fit(cohort, pool=pool)
    new = cohort["fov0"].rename("new").chunk()
    for images, error, message in (
        ({"new": new, "fov2": new, "fov0": new}, ImageError, r"\['fov2', 'fov0'\]"),
        (cohort["fov1"].chunk(), ImageError, r"\['fov1'\]"),
        ({"new": new[:2]}, ChannelError, "'new'.*missing 'CD20'"),
        ({"new": new.assign_coords(c=["DAPI", "cd3", "CD20"])}, ChannelError, "unknown 'cd3'"),
        ({"new": new.expand_dims("t")}, ImageError, r"'new'.*\['t'\]"),
        ([], ImageError, "at least one"),
    ):
        with no_compute(), pytest.raises(error, match=message):
            fitted.update(images)
