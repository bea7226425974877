"""References, functions as steps, and steps of somebody's own, with or without numbers."""

import re
from dataclasses import dataclass

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from count_images import LABELS
from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline
from pxprep.engine.programs import Divide
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import Blur, QuantileNorm, Step, SumMask
from pxprep.steps.percentile_clip import ClipBetween


def test_fitted_numbers_are_not_lazy(image):
    fitted = Pipeline([QuantileNorm(99), Standardise()]).fit(image.chunk({"y": 10}))
    assert all(isinstance(number.data, np.ndarray) for number in fitted.numbers.values())


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


def test_functions_must_keep_the_labels(image):
    def rename(image):
        return image.assign_coords(c=range(image.sizes["c"]))

    with pytest.raises(ImageError, match=r"must return an image .* got other labels of channels"):
        Pipeline([rename]).fit_transform(image)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_results_are_floats_and_never_the_input(image, dtype):
    image = image.astype(dtype)
    before = image.copy(deep=True)
    views = [lambda im: im], [lambda im: im.isel(y=slice(None, None, -1))]
    for steps in ([], *views, [lambda im: im.astype("int32")]):
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
        return {NAMES.get(self.what, "quantile"): MEASURED[self.what]}

    def apply(self, image, numbers):
        return image


def test_own_numbers_of_one_name_are_refused(image):
    pipeline = Pipeline([("a", Numbers("low")), ("a_low", Numbers("scalar"))])
    with pytest.raises(ParameterError, match="got 'a' and 'a_low': 'a_low_quantile' could be"):
        pipeline.fit(image)


def test_own_numbers_must_not_be_called_like_a_dim(image):
    with pytest.raises(ImageError, match="no name may be that of a dim, got 'fov'"):
        Pipeline([Numbers("dim")]).fit(image)


MEASURED = {
    "scalar": 2,
    "array": np.arange(3.0),
    "labeled": xr.DataArray([3.0, 1.0, 2.0], dims="c", coords={"c": ["panCK", "CD3", "CD20"]}),
    "more": xr.DataArray(
        [1.0, 2.0, 3.0],
        dims="c",
        coords={"c": LABELS, "marker": ("c", ["x", "y", "z"]), "stage": 3},
    ),
    "low": 1.0,
    "missing": np.nan,
    "dim": 1.0,
    "square": np.eye(3),
    "short": [1.0, 2.0],
    "strangers": xr.DataArray([1.0, 2.0, 3.0], dims="c", coords={"c": ["a", "b", "d"]}),
}


NAMES = {"low": "low_quantile", "dim": "fov"}


@pytest.mark.parametrize("what", ["scalar", "array", "labeled", "more"])
def test_own_numbers_are_labeled_and_come_back(image, what):
    fitted = Pipeline([Numbers(what)]).fit(image)
    number = fitted.numbers["test_numbers_quantile"]
    assert set(number.coords) == set(number.dims)
    if what == "labeled":
        assert number.values.tolist() == [1, 2, 3]
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    assert re.search(r"test_numbers(_| .*)quantile", repr(fitted))


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


def test_own_steps_may_have_any_fields():
    @dataclass(frozen=True)
    class Deep(Step):
        kind = "deep"
        depth: int = 3

        def apply(self, image, numbers):
            return image + self.depth

    image = xr.DataArray(np.ones((1, 2, 2), "f4"), dims=("c", "y", "x"))
    assert (Pipeline([Deep()]).quantile_norm(50).fit_transform(image) == 1).all()


@dataclass(frozen=True)
class DividedByPeak(Step):
    """Measures by itself, and says what happens to a block."""

    kind = "divided_by_peak"
    operands = ("peak",)

    def measure(self, cohort):
        """The largest value of each channel, the mean over the images."""
        return {"peak": sum(image.max(["y", "x"]) for image in cohort) / len(cohort)}

    def operation(self, labels):
        """Division."""
        return Divide()


@pytest.mark.parametrize("pool", ["mean", None])
def test_a_step_that_measures_by_itself_sees_what_the_steps_before_made(image, pool):
    pipeline = Pipeline().blur(3).then(DividedByPeak())
    blurred = image.astype("float64").pxprep.blur(3)
    expected = blurred.max(["y", "x"]).values
    for given in (image.astype("float64"), image.astype("float64").chunk({"y": 10})):
        cohort = {"a": given, "b": 3 * given}
        peaks = pipeline.fit(cohort, pool=pool).numbers["divided_by_peak_peak"]
        right = [expected, 3 * expected] if pool is None else 2 * expected
        np.testing.assert_allclose(peaks.values, right, rtol=1e-12)
        made = pipeline.fit_transform(given)
        assert_same_bits(made.compute(), pipeline.fit(given).transform(given).compute())
        np.testing.assert_array_equal(made.max(["y", "x"]).values, 1)


def test_an_operation_of_two_numbers_is_told_of_the_reference(image):
    """As one of one number is, so that it can compare with what its step was measured on."""
    told = []

    @dataclass(frozen=True)
    class Between(ClipBetween):
        def noticing(self, make_note, reference):
            told.append(reference)
            return self

    @dataclass(frozen=True)
    class ClippedToRange(Step):
        kind = "clipped_to_range"
        operands = ("low", "high")
        reference: str | None = "input"

        def measure(self, cohort):
            return {"low": cohort[0].min(["y", "x"]), "high": cohort[0].max(["y", "x"])}

        def operation(self, labels):
            return Between()

    Pipeline().quantile_norm(90).then(ClippedToRange()).fit_transform(image)
    assert told
    assert all(reference is not None for reference in told)


@dataclass(frozen=True)
class Kinds(Step):
    """Says of each image whether it is dim."""

    kind = "kinds"

    def measure(self, cohort):
        return {"kind": "dim" if max(one.max() for one in cohort) < 5 else "bright"}

    def apply(self, image, numbers):
        return image


def test_texts_of_each_image_are_shown(image):
    fitted = Pipeline([Kinds()]).fit([image, image * 0, image], pool=None)
    assert "kind = bright or dim\n" in repr(fitted)
    assert "kind = bright\n" in repr(Pipeline([Kinds()]).fit([image, image * 0]))


def test_numbers_that_are_missing_of_all_images_are_shown(image):
    fitted = Pipeline([Numbers("missing")]).fit([image, image], pool=None)
    assert "quantile = nan\n" in repr(fitted)
