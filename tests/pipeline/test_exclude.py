"""Images that are left out: not measured, but transformed."""

import numpy as np
import pytest

import pxprep
from masked_images import a_mask
from oracle import assert_same_bits
from pxprep import Cohort, Pipeline
from pxprep.errors import ParameterError
from small_cohorts import PIPELINES, cohort_of, lazily

STEPS = Pipeline.sparrow(sigma=1, q_sum=30)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("pool", ["mean", "pixels"])
def test_it_is_as_if_they_were_not_there(pipeline, pool, make_image):
    cohort, steps = cohort_of(make_image), PIPELINES[pipeline]
    others = {name: cohort[name] for name in ("fov0", "fov2")}
    expected = steps.fit(others, pool=pool)
    for images in (cohort, lazily(cohort)):
        fitted = steps.fit(images, pool=pool, exclude="fov1")
        assert fitted == expected
        assert fitted.fovs == ("fov0", "fov2")
        made = fitted.transform(cohort)
        assert_same_bits(made["fov1"], expected.transform(cohort["fov1"]))


def test_every_form_of_images_and_of_names(make_image):
    cohort = cohort_of(make_image)
    expected = STEPS.fit({"fov1": cohort["fov1"]})
    both = ["fov0", "fov2"]
    for exclude in (both, tuple(both), set(both), np.array(both), iter(both), [*both, "fov0"]):
        assert STEPS.fit(cohort, exclude=exclude) == expected
    fovs = STEPS.fit(cohort, pool=None).numbers.fov
    assert STEPS.fit(cohort, exclude=fovs[[0, 2]]) == expected
    for one in (fovs[1], fovs.values[1], np.array("fov1")):
        assert STEPS.fit(cohort, exclude=one) == STEPS.fit(cohort, exclude="fov1")
    assert Cohort(cohort).fit(STEPS, exclude=both) == expected
    for places in ([0, 2], np.flatnonzero([True, False, True]), [np.int64(0), np.uint8(2)]):
        assert STEPS.fit(list(cohort.values()), exclude=places).fovs == (1,)
    assert STEPS.fit(list(cohort.values()), exclude=np.int64(1)).fovs == (0, 2)
    for nothing in (None, (), [], STEPS.fit(cohort).outliers().iloc[:0]):
        assert STEPS.fit(cohort, exclude=nothing) == STEPS.fit(cohort)
        assert STEPS.fit(cohort, pool=None, exclude=nothing) == STEPS.fit(cohort, pool=None)


def test_outliers_are_left_out(make_image):
    image = make_image("float32", (2, 30, 31), zeros=0.1)
    scales = {"a": 1, "b": 1.1, "c": 0.9, "d": 40, "e": 1.05}
    cohort = {name: image * scale for name, scale in scales.items()}
    steps = Pipeline().quantile_norm(90)
    far = steps.fit(cohort).outliers()
    assert set(far.fov) == {"d"}
    again = steps.fit(cohort, exclude=far)
    assert again.fovs == ("a", "b", "c", "e")
    assert again == steps.fit({name: one for name, one in cohort.items() if name != "d"})


def test_masks_stay_with_their_images(make_image):
    cohort = {name: make_image("float32", (3, 45, 38), seed=n) for n, name in enumerate("abc")}
    masks = {"a": None, "b": a_mask(), "c": ~a_mask()}
    fitted = STEPS.fit(cohort, where=masks, exclude="a")
    rest = {name: cohort[name] for name in "bc"}
    assert fitted == STEPS.fit(rest, where={name: masks[name] for name in "bc"})
    assert STEPS.fit(cohort, where=masks, exclude=["b", "c"]).is_masked is False


@pytest.mark.parametrize(
    ("exclude", "how", "message"),
    [
        ("fov9", {}, r"exclude must name images of the cohort, got 'fov9' \(did you mean 'fov"),
        (["fov1", 7], {}, "got 7; they are 'fov0', 'fov1', 'fov2'"),
        pytest.param(10**400, {}, "exclude must name images .* got 1000", id="huge"),
        (["fov0", "fov1", "fov2"], {}, "exclude must leave at least one image to measure"),
        (3.5, {}, "got 3.5; they are"),
        ([["fov1"]], {}, "exclude must be the name of an image, a sequence of names"),
        (object(), {}, "exclude must be the name of an image, a sequence of names"),
        (True, {}, "exclude must be the name of an image, .* got True"),
        ("fov1", {"pool": None}, "with pool=None each has its own"),
    ],
)
def test_bad_names(exclude, how, message, make_image):
    with pytest.raises(ParameterError, match=message):
        STEPS.fit(cohort_of(make_image), exclude=exclude, **how)


@pytest.mark.parametrize("exclude", [False, [True, False, False], np.array([False, True, False])])
def test_true_and_false_are_no_names_of_images_in_a_list(exclude, make_image):
    with pytest.raises(ParameterError, match="exclude must be the name of an image, a sequence"):
        STEPS.fit([*cohort_of(make_image).values()], exclude=exclude)


def test_one_image_cannot_be_left_out(make_image):
    image = make_image("float32", (2, 9, 9)).rename("only")
    with pytest.raises(ParameterError, match="exclude must leave at least one image to measure"):
        image.pxprep.fit(STEPS, exclude="only")


def test_what_is_left_out_has_no_quantiles(make_image):
    fitted = STEPS.fit(cohort_of(make_image), exclude="fov1")
    assert fitted.numbers.fov.values.tolist() == ["fov0", "fov2"]
    assert pxprep.FittedPipeline.from_json(fitted.to_json()) == fitted
