"""Building, fitting and transforming: numbers of cohorts, channels by label, progress."""

from itertools import permutations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from count_images import LABELS, counts_of
from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import Blur, PostNorm, QuantileNorm, SumMask, SumNorm

# --- building -------------------------------------------------------------------------------------


def test_list_fluent_and_reference_order_build_the_same_pipeline():
    from_list = Pipeline(
        [
            QuantileNorm(99),
            Blur(2),
            SumMask(5, reference="quantile_norm"),
            SumNorm(),
            PostNorm(99.9),
        ]
    )
    fluent = (
        Pipeline()
        .quantile_norm(99)
        .blur(2)
        .sum_mask(5, reference="quantile_norm")
        .sum_norm()
        .post_norm(99.9)
    )
    assert from_list == fluent == Pipeline.sparrow()
    assert Pipeline.pixie() != Pipeline.sparrow()
    assert dict(Pipeline.pixie().steps)["sum_mask"].zeros == "include"


@pytest.mark.parametrize(
    ("left_out", "names"),
    [
        ({"q": None}, ["blur", "sum_mask", "sum_norm", "post_norm"]),
        ({"sigma": None}, ["quantile_norm", "sum_mask", "sum_norm", "post_norm"]),
        ({"q_sum": None}, ["quantile_norm", "blur", "sum_norm", "post_norm"]),
        ({"norm_sum": False}, ["quantile_norm", "blur", "sum_mask", "post_norm"]),
        ({"q_post": None}, ["quantile_norm", "blur", "sum_mask", "sum_norm"]),
        (
            {"cap_max": 1},
            ["quantile_norm", "blur", "sum_mask", "sum_norm", "post_norm", "clip"],
        ),
    ],
)
def test_reference_order_leaves_out_steps(left_out, names):
    assert [name for name, _ in Pipeline.sparrow(**left_out).steps] == names


def test_names_are_unique_and_chosen():
    pipeline = Pipeline([Blur(1), Blur(2), ("wide", Blur(9)), np.sqrt, np.sqrt])
    assert [name for name, _ in pipeline.steps] == ["blur", "blur_2", "wide", "sqrt", "sqrt_2"]


@pytest.mark.parametrize("first", ["x", "x_quantile"])
def test_no_two_steps_have_numbers_of_one_name(image, first):
    # Of `x` the low quantile of each image, of `x_quantile` the lower limit.
    (second,) = {"x", "x_quantile"} - {first}
    with pytest.raises(ParameterError, match=f"'{first}' and '{second}': 'x_quantile_low'"):
        Pipeline().percentile_clip(name=first).percentile_clip(name=second)
    fitted = Pipeline().percentile_clip(name="x").percentile_clip(name="x_low").fit(image)
    assert len(fitted.numbers) == sum(map(len, fitted.measured.values()))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("a", Blur(1)), ("a", Blur(2))], "'a'"),
        ([("input", Blur(1))], "'input'"),
        ([("", Blur(1))], "''"),
        ([SumMask(5, reference="blur"), Blur(2)], r"reference .* earlier .*'blur'"),
        ([SumMask(5, reference="sum_mask")], "reference"),
        ([3], "Step or a function.*3"),
        ([Blur], "Step or a function.*Blur"),
        (Blur(1), "sequence of steps"),
        (None, "sequence of steps.*None"),
        (["blur"], "Step or a function.*'blur'"),
    ],
)
def test_bad_pipelines(steps, message):
    with pytest.raises(ParameterError, match=message):
        Pipeline(steps)


def test_steps_are_frozen_values():
    step = QuantileNorm([99, 98, 97])
    assert step.q == (99, 98, 97)
    with pytest.raises(AttributeError):
        step.q = 50
    sigma = {"CD3": 0, ...: 2}
    blur = Blur(sigma)
    sigma["CD3"] = 9
    assert blur == Blur({"CD3": 0, ...: 2})
    assert hash(blur) == hash(Blur({...: 2, "CD3": 0}))
    with pytest.raises(TypeError):
        blur.sigma["CD3"] = 9


# --- fitting and transforming ---------------------------------------------------------------------


@pytest.mark.parametrize("zeros", ["exclude", "include"])
def test_reference_orders_match_oracle(image, zeros):
    pipeline = Pipeline.sparrow(sigma=0) if zeros == "exclude" else Pipeline.pixie(sigma=0)
    expected = oracle.preprocess(image.values, sigma=0, zeros=zeros)
    np.testing.assert_array_equal(pipeline.fit_transform(image).values, expected)


def test_fit_then_transform_equals_at_once_equals_step_by_step(image):
    fitted = Pipeline.sparrow().fit(image)
    at_once = image.pxprep.preprocess()
    normed = image.pxprep.quantile_norm(99)
    by_step = (
        normed.pxprep.blur(2).pxprep.sum_mask(5, reference=normed).pxprep.sum_norm()
    ).pxprep.post_norm(99.9)
    xr.testing.assert_identical(fitted.transform(image), at_once)
    xr.testing.assert_identical(by_step, at_once)


def test_cohort_numbers_are_means_of_each_images_quantiles(cohort):
    numbers = Pipeline.sparrow().fit(cohort).numbers
    each = np.array([[np.quantile(c[c > 0], 0.99) for c in fov.values] for fov in cohort.values()])
    np.testing.assert_array_equal(numbers.quantile_norm_quantile, each)
    np.testing.assert_allclose(numbers.quantile_norm_scale, each.mean(axis=0), rtol=1e-15)
    assert numbers.fov.values.tolist() == list(cohort)
    assert numbers.c.values.tolist() == LABELS
    assert numbers.quantile_norm_counted.values.tolist() == [
        [int((c > 0).sum()) for c in fov.values] for fov in cohort.values()
    ]


def test_pooled_pixels_are_one_quantile_over_all(cohort):
    numbers = Pipeline([QuantileNorm(99), SumMask(20)]).fit(cohort, pool="pixels").numbers
    pooled = np.concatenate([fov.values.reshape(3, -1) for fov in cohort.values()], axis=1)
    expected = [np.quantile(c[c > 0].astype(float), 0.99) for c in pooled]
    np.testing.assert_array_equal(numbers.quantile_norm_scale, expected)
    sums = (pooled / np.array(expected, np.float32)[:, None]).astype(np.float32)
    sums = (sums[0] + sums[1]) + sums[2]
    threshold = np.quantile(sums[sums > 0].astype(float), 0.2)
    assert numbers.sum_mask_threshold == threshold
    # Which image is off can be asked all the same.
    each = np.array([[np.quantile(c[c > 0], 0.99) for c in fov.values] for fov in cohort.values()])
    np.testing.assert_array_equal(numbers.quantile_norm_quantile, each)


def test_fovs_of_different_sizes_and_types(cohort):
    cohort["fov1"] = cohort["fov1"][:, :17, :20].astype(np.float64)
    for pool in ("mean", "pixels"):
        fitted = Pipeline.sparrow().fit(cohort, pool=pool)
        assert fitted.transform(cohort["fov1"]).dtype == np.float64
        assert fitted.transform(cohort["fov0"]).dtype == np.float32


def test_lazy_fit_gives_the_same_numbers(cohort):
    lazy = {name: fov.chunk({"c": 2, "y": 10, "x": 13}) for name, fov in cohort.items()}
    for pool in ("mean", "pixels"):
        fitted = Pipeline.sparrow().fit(cohort, pool=pool)
        assert Pipeline.sparrow().fit(lazy, pool=pool) == fitted
    result = fitted.transform(lazy["fov2"])
    assert isinstance(result.data, da.Array)
    xr.testing.assert_identical(result.compute(), fitted.transform(cohort["fov2"]))


def test_mean_is_rounded_once():
    """0.1 + 0.2 + 0.3 depends on the order in floats; the exact mean does not."""
    values = [0.1, 0.2, 0.3]
    exact = oracle.exact_mean(values)
    assert np.mean(values) != exact
    for order in permutations(values):
        images = [xr.DataArray([[[value]]], dims=("c", "y", "x")) for value in order]
        assert Pipeline([QuantileNorm(50)]).fit(images).numbers.quantile_norm_scale == exact


def test_fit_does_not_run_what_comes_after_the_last_measurement(image):
    seen = []

    def look(image):
        seen.append(image)
        return image

    pipeline = Pipeline([("first", look), QuantileNorm(99), ("last", look)])
    fitted = pipeline.fit(image)
    assert len(seen) == 1
    fitted.transform(image)
    assert len(seen) == 3


def test_progress_is_called_for_each_pass(image):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def bar(description):
        seen.append(description)
        yield

    Pipeline.sparrow().fit(image.chunk({"y": 10}), progress=bar)
    assert seen == ["measure quantile_norm", "measure sum_mask", "measure post_norm"]
    seen.clear()
    Pipeline.sparrow().fit([image.chunk({"y": 10})] * 2, pool="pixels", progress=bar)
    # Without a sample of its own a float32 takes two passes.
    names = ["quantile_norm", "sum_mask", "sum_mask", "post_norm", "post_norm"]
    assert seen == [f"measure {name} of 2 images" for name in names]
    with pytest.raises(ParameterError, match="progress"):
        Pipeline.sparrow().fit(image, progress="yes")
    with pytest.raises(ParameterError, match=r"context manager.*returned None"):
        Pipeline.sparrow().fit(image.chunk(), progress=lambda description: None)


def test_progress_bar_writes_to_stderr(image, capsys):
    pytest.importorskip("tqdm")
    Pipeline.sparrow().fit(image.chunk({"y": 10}), progress=True)
    captured = capsys.readouterr()
    assert "measure quantile_norm: 100%" in captured.err
    assert captured.out == ""


def test_transform_matches_channels_by_label(cohort):
    fitted = Pipeline.sparrow().fit(cohort)
    image = cohort["fov1"]
    shuffled = image.isel(c=[2, 0, 1])
    xr.testing.assert_identical(fitted.transform(shuffled), fitted.transform(image))


def test_fit_matches_channels_by_label(cohort):
    fitted = Pipeline.sparrow().fit(cohort)
    cohort["fov2"] = cohort["fov2"].isel(c=[1, 2, 0])
    assert Pipeline.sparrow().fit(cohort) == fitted


def test_transform_lists_missing_and_unknown_channels(image):
    fitted = Pipeline.sparrow().fit(image)
    other = image.assign_coords(c=["CD3", "cd20", "SMA"])
    with pytest.raises(ChannelError) as error:
        fitted.transform(other)
    message = str(error.value)
    assert "missing 'CD20', 'panCK'" in message
    assert "unknown 'cd20', 'SMA'" in message
    assert "did you mean 'CD20'" in message
    with pytest.raises(ChannelError, match="missing 'CD3'"):
        fitted.transform(image.isel(c=[1, 2]))
    with pytest.raises(ChannelError, match="unknown 0, 1, 2"):
        fitted.transform(image.drop_vars("c"))


def test_images_without_labels_work_by_position():
    image = counts_of(5, labels=None)
    fitted = Pipeline([QuantileNorm({0: 98, ...: 99}), Blur([0, 1, 2])]).fit(image)
    assert fitted.channels is None
    assert fitted.labels == (0, 1, 2)
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    xr.testing.assert_identical(
        fitted.transform(image),
        image.pxprep.quantile_norm([98, 99, 99]).pxprep.blur([0, 1, 2]),
    )
    with pytest.raises(ChannelError, match="missing 2"):
        fitted.transform(image[:2])


@pytest.mark.parametrize(
    "step", [QuantileNorm({"CD4": 99, ...: 98}), Blur([1, 2]), PostNorm({"CD3": 99})]
)
def test_parameters_are_checked_before_any_work(image, step, no_compute):
    with no_compute(), pytest.raises((ChannelError, ParameterError)):
        Pipeline([QuantileNorm(), step]).fit(image.chunk())


def test_bad_cohorts(image):
    pipeline = Pipeline.sparrow()
    with pytest.raises(ImageError, match="at least one image"):
        pipeline.fit([])
    with pytest.raises(ImageError, match="image 'b'"):
        pipeline.fit({"a": image, "b": image.values})
    with pytest.raises(ChannelError, match=r"image 1.*missing 'CD3'"):
        pipeline.fit([image, image[1:]])
    with pytest.raises(ParameterError, match=r"pool.*'median'"):
        pipeline.fit(image, pool="median")
    with pytest.raises(ImageError, match=r"image must be an xarray.DataArray .*, or several.*int"):
        pipeline.fit(3)
    with pytest.raises(ImageError, match=r"image must be an xarray.DataArray .*several.*ndarray"):
        pipeline.fit(image.values)
    assert pipeline.fit(fov for fov in [image, image]) == pipeline.fit([image, image])
