import json
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
import pxprep
from oracle import preprocess
from pxprep import FittedPipeline, Pipeline, PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import Blur, PostNorm, QuantileNorm, Step, SumMask, SumNorm

LABELS = ["CD3", "CD20", "panCK"]


def make_image(seed, shape=(3, 31, 44), labels=LABELS, scale=1.0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.7, 6 * scale, shape)).astype(np.uint16)
    coords = {} if labels is None else {"c": labels}
    return xr.DataArray(counts, dims=("c", "y", "x"), coords=coords, name=f"fov{seed}")


@pytest.fixture
def image():
    return make_image(1)


@pytest.fixture
def cohort():
    return {f"fov{i}": make_image(i, scale=1 + i) for i in range(3)}


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
    expected = preprocess(image.values, sigma=0, zeros=zeros)
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


def test_order_of_images_does_not_matter(cohort):
    backwards = dict(reversed(cohort.items()))
    there, back = (Pipeline.sparrow().fit(images).numbers for images in (cohort, backwards))
    for name in ("quantile_norm_scale", "sum_mask_threshold", "post_norm_scale"):
        xr.testing.assert_identical(there[name], back[name])


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
    exact = float(sum(map(Fraction, values)) / 3)
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


def test_fitted_numbers_are_not_lazy(image):
    fitted = Pipeline([QuantileNorm(99), Standardise()]).fit(image.chunk({"y": 10}))
    assert all(isinstance(number.data, np.ndarray) for number in fitted.numbers.values())


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
    image = make_image(5, labels=None)
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


# --- references and own steps ---------------------------------------------------------------------


def test_reference_names_an_earlier_step_or_the_input(image):
    blurred = image.pxprep.blur(3)
    on_input = Pipeline([Blur(3), SumMask(30, reference="input")]).fit_transform(image)
    xr.testing.assert_identical(on_input, blurred.pxprep.sum_mask(30, reference=image))
    on_itself = Pipeline([Blur(3), SumMask(30)]).fit_transform(image)
    xr.testing.assert_identical(on_itself, blurred.pxprep.sum_mask(30))
    assert not on_itself.equals(on_input)


def test_given_threshold_is_applied(image):
    fitted = Pipeline([SumMask(threshold=20)]).fit(image)
    assert fitted.numbers.sum_mask_threshold == 20
    kept = image.values.sum(axis=0) > 20
    np.testing.assert_array_equal(np.isfinite(fitted.transform(image).values).all(axis=0), kept)


def test_functions_are_steps(image):
    pipeline = Pipeline([QuantileNorm(99)]).then(np.arcsinh).then(lambda im: im * 2, "double")
    expected = np.arcsinh(image.pxprep.quantile_norm(99)) * 2
    xr.testing.assert_allclose(pipeline.fit_transform(image), expected)
    lazy = pipeline.fit_transform(image.chunk({"y": 9}))
    assert isinstance(lazy.data, da.Array)
    xr.testing.assert_identical(lazy.compute(), pipeline.fit_transform(image))


@pytest.mark.parametrize("function", [lambda im: im.mean("x"), lambda im: im.values, lambda im: 1])
def test_functions_must_return_such_an_image(image, function):
    with pytest.raises(ImageError, match="must return an image"):
        Pipeline([function]).fit_transform(image)


def test_results_are_floats_and_never_the_input(image):
    before = image.copy(deep=True)
    for steps in ([], [lambda im: im], [lambda im: im.astype("int32")]):
        pipeline = Pipeline(steps)
        for result in (pipeline.fit_transform(image), pipeline.fit(image).transform(image)):
            assert result.dtype == np.float32
            result[...] = -1
    xr.testing.assert_identical(image, before)


def test_order_of_dims_is_kept(image):
    turned = image.transpose("x", "c", "y")
    product = Pipeline([lambda im: xr.DataArray([1, 2, 3], dims="c") * im]).fit_transform(turned)
    assert product.dims == turned.dims


@dataclass(frozen=True)
class Standardise(Step):
    """A measure/apply pair: subtract the mean, divide by the deviation, over the cohort."""

    kind = "test_standardise"
    ddof: int = 0

    def measure(self, cohort):
        stacked = xr.concat(
            [image.stack(p=["y", "x"], create_index=False) for image in cohort],
            dim="p",
            coords="minimal",
            compat="override",
        )
        return {"mean": stacked.mean("p"), "deviation": stacked.std("p", ddof=self.ddof)}

    def apply(self, image, numbers):
        return (image - numbers["mean"]) / numbers["deviation"]


def test_own_measure_apply_pair(cohort):
    pipeline = Pipeline([QuantileNorm(99), Standardise(ddof=1)])
    fitted = pipeline.fit(cohort)
    assert fitted.numbers.test_standardise_mean.dims == ("c",)
    pooled = np.concatenate(
        [
            (fov / fitted.numbers.quantile_norm_scale).values.reshape(3, -1)
            for fov in cohort.values()
        ],
        axis=1,
    )
    np.testing.assert_allclose(fitted.numbers.test_standardise_mean, pooled.mean(1), rtol=1e-5)
    after = fitted.transform(cohort["fov0"])
    expected = (
        cohort["fov0"].pxprep.divide(fitted.numbers.quantile_norm_scale)
        - fitted.numbers.test_standardise_mean
    ) / fitted.numbers.test_standardise_deviation
    xr.testing.assert_allclose(after, expected)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    xr.testing.assert_identical(again.transform(cohort["fov0"]), after)


def test_measure_must_return_numbers(image):
    @dataclass(frozen=True)
    class Wrong(Step):
        kind = "test_wrong"

        def measure(self, cohort):
            return 3

        def apply(self, image, numbers):
            return image

    with pytest.raises(ImageError, match=r"test_wrong.*mapping.*3"):
        Pipeline([Wrong()]).fit(image)


@dataclass(frozen=True)
class Numbers(Step):
    """Measures what it is told to."""

    kind = "test_numbers"
    what: object = None

    def measure(self, cohort):
        return {"quantile": MEASURED[self.what]}

    def apply(self, image, numbers):
        return image


MEASURED = {
    "scalar": 2,
    "array": np.arange(3.0),
    "labeled": xr.DataArray([3.0, 1.0, 2.0], dims="c", coords={"c": ["panCK", "CD3", "CD20"]}),
    "more": xr.DataArray(
        [1.0, 2.0, 3.0],
        dims="c",
        coords={"c": LABELS, "marker": ("c", ["x", "y", "z"]), "stage": 3},
    ),
    "square": np.eye(3),
    "short": [1.0, 2.0],
    "strangers": xr.DataArray([1.0, 2.0, 3.0], dims="c", coords={"c": ["a", "b", "d"]}),
}


@pytest.mark.parametrize("what", ["scalar", "array", "labeled", "more"])
def test_own_numbers_are_labeled_and_come_back(image, what):
    fitted = Pipeline([Numbers(what)]).fit(image)
    number = fitted.numbers["test_numbers_quantile"]
    assert set(number.coords) == set(number.dims)
    if what == "labeled":
        assert number.values.tolist() == [1, 2, 3]
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    assert "test_numbers_quantile" in repr(fitted)


@pytest.mark.parametrize("what", ["square", "short", "strangers"])
def test_own_numbers_must_fit(image, what):
    with pytest.raises((ImageError, ChannelError), match="measure of step 'test_numbers'"):
        Pipeline([Numbers(what)]).fit(image)


def test_own_classes_are_checked():
    class NoDataclass(Step):
        kind = "test_no_dataclass"

        def apply(self, image, numbers):
            return image

    @dataclass(frozen=True)
    class NoKind(Step):
        def apply(self, image, numbers):
            return image

    for step in (NoDataclass(), NoKind()):
        with pytest.raises(ParameterError, match=r"dataclass with a kind.*No"):
            Pipeline([step])
    with pytest.raises(ParameterError, match=r"kind must be unique.*'blur'"):
        type("Impostor", (Step,), {"kind": "blur"})
    assert Pipeline.from_json(Pipeline.sparrow().to_json()) == Pipeline.sparrow()


# --- one warning ----------------------------------------------------------------------------------


def test_silent_channel_is_warned_about_once(image, recwarn):
    image[1] = 0
    fitted = Pipeline.sparrow().fit(image)
    messages = [str(w.message) for w in recwarn if w.category is PxprepWarning]
    assert len(messages) == 1
    assert "'CD20'" in messages[0]
    assert "'CD3'" not in messages[0]
    assert fitted.numbers.quantile_norm_scale.values[1] == 1
    assert fitted.numbers.post_norm_scale.values[1] == 1
    after = fitted.transform(image)
    kept = np.isfinite(after[0])
    assert (after[1].where(kept, 0) == 0).all()
    assert float(after[0].max()) > 0.5


def test_silent_channel_is_warned_about_once_when_lazy(image, recwarn):
    image[1] = 0
    lazy = image.chunk({"y": 11}).pxprep.preprocess()
    assert not [w for w in recwarn if w.category is PxprepWarning]
    lazy.compute(scheduler="synchronous")
    assert len([w for w in recwarn if w.category is PxprepWarning]) == 1


def test_channel_that_is_nan_everywhere_is_warned_about_once(image):
    image = image.astype(np.float32)
    image[1] = np.nan
    with pytest.warns(PxprepWarning, match=r"'CD20'.*NaN.*drop the pixel") as record:
        after = image.pxprep.preprocess()
    assert len(record) == 1
    assert np.isnan(after).all()  # a sum with NaN is NaN: docs/method.md


def test_fov_without_signal_does_not_count(cohort):
    without = Pipeline.sparrow().fit(cohort)
    cohort["empty"] = xr.zeros_like(cohort["fov0"])
    with pytest.warns(PxprepWarning, match="'CD3' of image 'empty'") as record:
        fitted = Pipeline.sparrow().fit(cohort)
    assert len(record) == 1
    for name in ("quantile_norm_scale", "sum_mask_threshold", "post_norm_scale"):
        np.testing.assert_array_equal(fitted.numbers[name], without.numbers[name])
    assert np.isnan(fitted.numbers.quantile_norm_quantile.sel(fov="empty")).all()
    assert np.isnan(fitted.transform(cohort["empty"])).all()
    assert FittedPipeline.from_json(fitted.to_json()) == fitted


def test_negative_values_are_warned_about_once(image):
    image = image.astype(np.float32)
    image[0, 0, 0] = -3
    with pytest.warns(PxprepWarning, match="negative values in channel 'CD3'") as record:
        Pipeline.sparrow().fit(image)
    assert len(record) == 1


def test_nothing_but_zeros_or_nan():
    for value in (0.0, np.nan):
        image = xr.DataArray(np.full((2, 4, 5), value), dims=("c", "y", "x"))
        with pytest.warns(PxprepWarning) as record:
            after = image.pxprep.preprocess()
        assert len(record) == 1
        assert np.isnan(after).all()


# --- saving and showing ---------------------------------------------------------------------------


def test_json_round_trip_is_exact(cohort):
    pipeline = Pipeline(
        [
            QuantileNorm({"CD3": 98.7654321, ...: 99}),
            ("soft", Blur((0, 1.1, 1 / 3))),
            SumMask(5, reference="quantile_norm", zeros="include"),
            SumNorm(),
            PostNorm(99.9),
        ]
    ).clip(1)
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    fitted = pipeline.fit(cohort)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    xr.testing.assert_identical(again.numbers, fitted.numbers)
    xr.testing.assert_identical(again.transform(cohort["fov1"]), fitted.transform(cohort["fov1"]))
    json.loads(fitted.to_json(), parse_constant=lambda text: pytest.fail(f"{text} in JSON"))


def test_integer_labels_survive_json():
    image = make_image(3, labels=[7, 8, 9])
    fitted = Pipeline([QuantileNorm({8: 50, ...: 99})]).fit(image)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    assert again.channels == (7, 8, 9)


def test_functions_are_found_by_name(image):
    pipeline = Pipeline([QuantileNorm(99), np.sqrt])
    text = pipeline.to_json()
    assert Pipeline.from_json(text, functions={"sqrt": np.sqrt}) == pipeline
    with pytest.raises(ParameterError, match="'sqrt'"):
        Pipeline.from_json(text)


def test_two_functions_of_one_name_stay_two(image):
    pipeline = Pipeline([lambda im: im + 1, ("ten", lambda im: im + 10)])
    (one, step), (ten, other) = pipeline.steps
    text = pipeline.to_json()
    again = Pipeline.from_json(text, functions={one: step.function, ten: other.function})
    assert again == pipeline
    with pytest.raises(ParameterError, match="'ten'"):
        Pipeline.from_json(text, functions={one: step.function})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 99, "steps": []}',
        '{"format": 1, "steps": [{"name": "nope", "configuration": {}}]}',
        '{"format": 1, "steps": [{"name": "blur", "configuration": {"radius": 1}}]}',
        '{"format": 1, "steps": [{"name": "blur"}]}',
        '{"format": 1, "steps": [{"name": "clip", "configuration": {}}]}',
        '{"format": 1, "steps": ["blur"]}',
        '{"format": 1, "steps": [{"name": ["blur"], "configuration": {}}]}',
    ],
)
def test_bad_json(text):
    with pytest.raises(ParameterError):
        Pipeline.from_json(text)
    with pytest.raises(ParameterError):
        FittedPipeline.from_json(text)


DAMAGE = {
    "pipeline": [[], None, "x"],
    "channels": [None, "abc", 0, {}, ["CD3"]],
    "fovs": [3, None, []],
    "pool": ["x", 3],
    "numbers": [[], {}, {"quantile_norm": {}}, {"blur": {}}],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in DAMAGE.items() for v in vs])
def test_damaged_json(image, key, value):
    data = json.loads(Pipeline.sparrow().fit(image).to_json())
    with pytest.raises(ParameterError):
        FittedPipeline.from_json(json.dumps({**data, key: value}))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        3,
        {"dims": ["c"], "dtype": "<f8"},
        {"dims": ["c"], "dtype": "nonsense", "values": [1, 2, 3]},
        {"dims": ["c"], "dtype": "<f8", "values": [[1]]},
        {"dims": ["c"], "dtype": "<f8", "values": [1]},
    ],
)
def test_damaged_numbers(image, entry):
    data = json.loads(Pipeline.sparrow().fit(image).to_json())
    data["numbers"]["post_norm"]["scale"] = entry
    with pytest.raises(ParameterError, match="post_norm"):
        FittedPipeline.from_json(json.dumps(data))


def test_labels_of_many_types_survive_json():
    image = make_image(3, labels=["a", 1, 2.5])
    fitted = Pipeline.sparrow().fit({1: image, "two": image})
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    with pytest.raises(ImageError, match=r"names that can be written.*\('slide', 1\)"):
        Pipeline.sparrow().fit({("slide", 1): image})


def test_what_json_cannot_keep_is_an_error(image):
    @dataclass(frozen=True)
    class Odd(Step):
        kind = "test_odd"
        thing: object = None

        def apply(self, image, numbers):
            return image

    with pytest.raises(ParameterError, match=r"test_odd\.thing"):
        Pipeline([Odd(object())]).to_json()
    with pytest.raises(ParameterError, match="JSON"):
        Pipeline([Odd(float("inf"))]).to_json()


def test_tables(cohort):
    fitted = Pipeline.sparrow(sigma={"CD3": 0, ...: 2}).fit(cohort)
    text, html = repr(fitted), fitted._repr_html_()
    scale = f"{fitted.numbers.quantile_norm_scale.values[1]:.6g}"
    threshold = f"{float(fitted.numbers.sum_mask_threshold):.6g}"
    for shown in ("panCK", scale, threshold, "3 images", "{'CD3': 0, ...: 2}"):
        assert shown in text
    for shown in ("<td>panCK</td>", f"<td>{scale}</td>", threshold):
        assert shown in html
    assert "Blur(sigma=2)" in repr(Pipeline.sparrow())
    assert "<td>Blur(sigma=2)</td>" in Pipeline.sparrow()._repr_html_()


def test_numbers_stand_beside_their_step(image):
    fitted = Pipeline().sum_mask(5).sum_mask(60).fit(image)
    first, second = (
        f"{float(fitted.numbers[name]):.6g}"
        for name in ("sum_mask_threshold", "sum_mask_2_threshold")
    )
    _, _, row, row_2, *_ = fitted._repr_html_().split("<tr>")
    assert f"<td>threshold = {first}</td>" in row
    assert f"<td>threshold = {second}</td>" in row_2


def test_html_is_escaped(image):
    fitted = Pipeline.sparrow().fit(image.assign_coords(c=["<b>", "&", "c"]))
    html = fitted._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<td><b></td>" not in html


def test_public_names_are_the_modules_names():
    assert pxprep.quantile is pxprep.ops.quantile


@pytest.mark.parametrize("chunks", [None, {"c": (1, 2), "y": (1, 9, 13), "x": 7}], ids=str)
def test_steps_that_measure_nothing_in_a_pipeline(make_image, chunks):
    image = make_image("float32", nan=0.05, chunks=chunks)
    pipeline = (
        Pipeline().remove_hot_pixels({"CD3": 3, ...: 9}).arcsinh([1, 5, 2]).log1p().quantile_norm()
    )
    again = Pipeline.from_json(pipeline.to_json())
    assert again == pipeline
    expected = oracle.remove_hot_pixels(oracle.plain(image), [9, 3, 9])
    expected = oracle.quantile_norm(oracle.log1p(oracle.arcsinh(expected, [1, 5, 2])))
    for result in (again.fit_transform(image), again.fit(image).transform(image)):
        oracle.assert_agrees(result, expected)


def test_own_steps_may_have_any_fields():
    @dataclass(frozen=True)
    class Deep(Step):
        kind = "deep"
        depth: int = 3

        def apply(self, image, numbers):
            return image + self.depth

    image = xr.DataArray(np.ones((1, 2, 2), "f4"), dims=("c", "y", "x"))
    assert (Pipeline([Deep()]).quantile_norm(50).fit_transform(image) == 1).all()
