"""Cohorts: each image by itself, numbers of each image, outliers, and more images later."""

import tracemalloc
import warnings
from dataclasses import dataclass
from fractions import Fraction

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline, PxprepWarning, ops
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.images.datatree import TREES
from pxprep.steps import QuantileNorm, Step

POOLS = ["mean", "pixels", None]
any_pool = pytest.mark.parametrize("pool", POOLS)


@dataclass(frozen=True)
class Brightest(Step):
    """Knows nothing of pools: the mean of the largest values of the images that it is shown."""

    kind = "test_cohorts_brightest"

    def measure(self, cohort):
        largest = [image.max(["y", "x"]) for image in cohort]
        return {"value": sum(largest) / len(largest), "images": len(largest)}

    def apply(self, image, numbers):
        return (image / numbers["value"]).rename(image.name)


PIPELINES = {
    "sparrow": Pipeline.sparrow(sigma=1, q_sum=30, cap_max=0.8),
    "pixie": Pipeline.pixie(sigma=None),
    "input": Pipeline().quantile_norm({"CD3": 50, ...: 98}).sum_mask(40, reference="input"),
    "threshold": Pipeline().sum_mask(threshold=60).post_norm(97),
    "range": Pipeline().subtract_background(2).percentile_clip(5, [99, 90, 60]).minmax(),
    "own": Pipeline([QuantileNorm(98), Brightest(), ("root", np.sqrt)]),
}
any_pipeline = pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=list(PIPELINES))


@pytest.fixture
def cohort(make_image):
    return make_cohort(make_image, 4)


def make_cohort(make_image, n, dtype="float32", **kwargs):
    """Images of other sizes and brightness."""
    images = {
        f"fov{i}": make_image(dtype, (3, 21 + i, 17), zeros=0.3, seed=i, **kwargs) for i in range(n)
    }
    return {
        name: (image * (i + 1)).astype(dtype).rename(name)
        for i, (name, image) in enumerate(images.items())
    }


def without_signal(image, channel="CD3"):
    return image.where(image.c != channel, 0)


def lazily(cohort):
    return {name: image.chunk({"c": 2, "y": 12}) for name, image in cohort.items()}


def in_form(cohort, form):
    """The cohort as the user may hold it, and what gives its images back by name."""
    if form == "mapping":
        return cohort, dict
    if form == "list":
        return list(cohort.values()), lambda listed: dict(zip(cohort, listed, strict=True))
    if not TREES:
        pytest.skip("no DataTree here")
    cls = next(iter(TREES))
    tree = cls.from_dict({name: image.to_dataset(name="image") for name, image in cohort.items()})
    return tree, lambda made: {name: made[name]["image"].rename(name) for name in cohort}


# --- each image by itself -------------------------------------------------------------------------


@any_pipeline
@pytest.mark.parametrize("form", ["mapping", "list", "tree"])
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_without_pool_each_image_equals_itself_alone(pipeline, form, lazy, cohort):
    alone = {name: pipeline.fit(image).transform(image) for name, image in cohort.items()}
    images, named = in_form(lazily(cohort) if lazy else cohort, form)
    fitted = pipeline.fit(images, pool=None)
    for result in (fitted.transform(images), pipeline.fit_transform(images, pool=None)):
        for name, image in named(dask.compute(result)[0] if form != "tree" else result).items():
            assert_same_bits(image, alone[name])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("quantile_norm", {"q": 97}),
        ("post_norm", {"q_post": [90, 95, 100]}),
        ("sum_mask", {"q_sum": 40, "zeros": "include"}),
        ("percentile_clip", {"low": [0, 5, 20], "high": 80}),
        ("minmax", {}),
        ("quantile", {"q": 35}),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_functions_without_pool(name, arguments, dtype, make_image):
    cohort = make_cohort(make_image, 3, dtype)
    for images in (cohort, lazily(cohort)):
        result = getattr(ops, name)(images, pool=None, **arguments)
        for fov, image in cohort.items():
            one = result.sel(fov=fov).values if name == "quantile" else result[fov].values
            expected = getattr(oracle, name)(image.values, **arguments)
            np.testing.assert_array_equal(one, expected)


def test_reference_without_pool_is_each_images_own(cohort):
    blurred = ops.blur(cohort, 2)
    result = ops.sum_mask(blurred, 40, reference=cohort, pool=None)
    for name, image in cohort.items():
        expected = oracle.sum_mask(blurred[name].values, 40, reference=image.values)
        np.testing.assert_array_equal(result[name], expected)


@any_pipeline
def test_without_pool_numbers_survive_json(pipeline, cohort):
    fitted = pipeline.fit(cohort, pool=None)
    functions = {name: step.function for name, step in pipeline.steps if name == "root"}
    again = FittedPipeline.from_json(fitted.to_json(), functions)
    assert again == fitted
    for name, image in again.transform(cohort).items():
        assert_same_bits(image, fitted.transform(cohort[name], fov=name))


def test_own_step_sees_one_image_at_a_time(cohort):
    numbers = Pipeline([Brightest()]).fit(cohort, pool=None).numbers
    assert numbers.test_cohorts_brightest_value.dims == ("fov", "c")
    assert numbers.test_cohorts_brightest_images.values.tolist() == [1] * 4
    largest = [image.values.max((1, 2)) for image in cohort.values()]
    np.testing.assert_array_equal(numbers.test_cohorts_brightest_value, largest)
    assert Pipeline([Brightest()]).fit(cohort).numbers.test_cohorts_brightest_images == 4


def test_one_image_takes_its_own_numbers(cohort):
    fitted = Pipeline.sparrow().fit(cohort, pool=None)
    for name, image in cohort.items():
        expected = image.pxprep.preprocess()
        assert_same_bits(fitted.transform(image), expected)  # by its own name
        assert_same_bits(fitted.transform(image.rename("x"), fov=name).rename(name), expected)
    some = fitted.transform({"fov2": cohort["fov2"], "fov0": cohort["fov0"]})
    assert_same_bits(some["fov2"], cohort["fov2"].pxprep.preprocess())


def test_one_fitted_image_needs_no_name(cohort):
    fitted = Pipeline.sparrow().fit(cohort["fov1"], pool=None)
    other = fitted.transform(cohort["fov2"])
    assert_same_bits(other, Pipeline.sparrow().fit(cohort["fov1"]).transform(cohort["fov2"]))


def test_lists_match_by_position(cohort):
    images = list(cohort.values())
    fitted = Pipeline.sparrow().fit(images, pool=None)
    assert fitted.fovs == (0, 1, 2, 3)
    for result, image in zip(fitted.transform(images[:2]), images, strict=False):
        assert_same_bits(result, image.pxprep.preprocess())
    assert_same_bits(fitted.transform(images[3], fov=3), images[3].pxprep.preprocess())


def test_unknown_names_are_errors(cohort, no_compute):
    fitted = Pipeline.sparrow().fit(cohort, pool=None)
    lazy = lazily(cohort)
    new = lazy["fov0"].rename("new")
    for images, fov in (
        ({"fov0": new, "new": new}, None),
        (new, None),
        (new, "new"),
        ([new], None),
    ):
        named = "0" if isinstance(images, list) else "'new'"
        with no_compute(), pytest.raises(ImageError, match=rf"not for {named}.*'fov0', 'fov1'"):
            fitted.transform(images, fov=fov)
    for images, pool in ((new, "mean"), (lazy, None), (lazy, "pixels")):
        with pytest.raises(ParameterError, match=r"fov is for one image.*'fov0'"):
            Pipeline.sparrow().fit(cohort, pool=pool).transform(images, fov="fov0")


# What spatialdata's own dependencies say of each other.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")
def test_layers_by_themselves(cohort):
    pytest.importorskip("spatialdata")
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    from pxprep import pixel_clustering_preprocess

    layers = {
        name: Image2DModel.parse(image, c_coords=image.c.values) for name, image in cohort.items()
    }
    sdata = pixel_clustering_preprocess(
        SpatialData(images=layers), list(cohort), [f"{name}_clean" for name in cohort], pool=None
    )
    for name, image in cohort.items():
        expected = image.pxprep.preprocess()
        np.testing.assert_array_equal(sdata[f"{name}_clean"], expected)


# --- numbers --------------------------------------------------------------------------------------


@any_pool
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_numbers_keep_the_quantiles_of_each_image(pool, dtype, lazy, make_image):
    cohort = make_cohort(make_image, 3, dtype)
    pipeline = Pipeline().quantile_norm([97, 50, 100]).sum_mask(30, reference="input")
    numbers = pipeline.fit(lazily(cohort) if lazy else cohort, pool=pool).numbers
    arrays = [image.values for image in cohort.values()]
    each = [oracle.quantile(array, [97, 50, 100]) for array in arrays]
    sums = [oracle.pixel_sum(array) for array in arrays]
    thresholds = [oracle.quantile_of(one, 30) for one in sums]
    assert numbers.quantile_norm_quantile.dims == ("fov", "c")
    assert numbers.sum_mask_quantile.dims == ("fov",)
    assert numbers.quantile_norm_quantile.dtype == np.float64
    np.testing.assert_array_equal(numbers.quantile_norm_quantile, each)
    np.testing.assert_array_equal(numbers.sum_mask_quantile, thresholds)
    assert numbers.fov.values.tolist() == list(cohort)
    counted = [[int((channel != 0).sum()) for channel in array] for array in arrays]
    assert numbers.quantile_norm_counted.values.tolist() == counted
    if pool == "pixels":
        pixels = np.concatenate([array.reshape(3, -1) for array in arrays], axis=1)
        scale = oracle.quantile(pixels, [97, 50, 100])
        threshold = oracle.quantile_of(np.concatenate([one.ravel() for one in sums]), 30)
    elif pool == "mean":
        scale = [exact_mean(column) for column in np.transpose(each)]
        threshold = exact_mean(thresholds)
    else:
        scale, threshold = each, thresholds
    np.testing.assert_array_equal(numbers.quantile_norm_scale, scale)
    np.testing.assert_array_equal(numbers.sum_mask_threshold, threshold)


def exact_mean(values):
    return float(sum(map(Fraction, values)) / len(values))


@any_pool
def test_a_cohort_of_one_image_is_that_image(pool, cohort):
    image = cohort["fov1"]
    alone = Pipeline.sparrow().fit(image)
    fitted = Pipeline.sparrow().fit({"fov1": image}, pool=pool)
    for name in ("quantile_norm_scale", "sum_mask_threshold", "post_norm_scale"):
        np.testing.assert_array_equal(fitted.numbers[name].squeeze(), alone.numbers[name])


# --- outliers -------------------------------------------------------------------------------------


def like_one_another(make_image, n, dtype="float64"):
    """Images that differ a little, by a known factor for each image and channel."""
    base = make_image(dtype, (3, 15, 16), zeros=0.2)
    factors = np.random.default_rng(1).lognormal(0, 0.1, (n, 3))
    return {f"fov{i}": base * xr.DataArray(factors[i], dims="c") for i in range(n)}


@any_pool
@pytest.mark.parametrize("factor", [6.0, 1 / 6])
def test_planted_pair_is_found(pool, factor, make_image):
    cohort = like_one_another(make_image, 7)
    cohort["fov4"][{"c": 2}] *= factor
    fitted = Pipeline().quantile_norm(97).sum_mask(5, reference="input").fit(cohort, pool=pool)
    table = fitted.outliers()
    table = table[table.step == "quantile_norm"]
    assert table[["fov", "channel"]].values.tolist() == [["fov4", "CD20"]]
    quantiles = fitted.numbers.quantile_norm_quantile.sel(c="CD20")
    (row,) = table.itertuples()
    assert row.quantile == quantiles.sel(fov="fov4")
    assert row.median == np.median(quantiles)
    assert row.fold == pytest.approx(row.quantile / row.median, rel=1e-14)
    assert FittedPipeline.from_json(fitted.to_json()).outliers().equals(fitted.outliers())


def test_planted_image_is_found_by_its_sums(make_image):
    cohort = like_one_another(make_image, 5)
    cohort["fov3"] = cohort["fov3"] * 9
    table = Pipeline().sum_mask(50).fit(cohort).outliers()
    assert table[["step", "fov"]].values.tolist() == [["sum_mask", "fov3"]]
    assert table.channel.tolist() == [None]


def test_channel_without_signal_in_one_image_is_found(make_image):
    cohort = like_one_another(make_image, 5)
    cohort["fov1"] = without_signal(cohort["fov1"])
    cohort["fov2"][{"c": 0}] *= 30
    with pytest.warns(PxprepWarning, match="'CD3' of image 'fov1'"):
        table = Pipeline().quantile_norm(97).fit(cohort).outliers()
    pairs = table[["fov", "channel", "fold"]].values.tolist()
    assert pairs[0] == ["fov1", "CD3", 0]  # the farthest first
    assert [pair[:2] for pair in pairs[1:]] == [["fov2", "DAPI"]]
    assert np.isnan(table["quantile"][0])


def test_channel_without_signal_in_most_images_is_no_outlier(make_image):
    cohort = like_one_another(make_image, 5)
    for name in ("fov0", "fov1", "fov3"):
        cohort[name] = without_signal(cohort[name])
    with pytest.warns(PxprepWarning, match="'CD3'"):
        assert Pipeline().quantile_norm(97).fit(cohort).outliers().empty


def test_equal_images_have_no_outliers_but_one_other_is(make_image):
    image = make_image()
    cohort = dict.fromkeys("abcd", image)
    assert Pipeline.sparrow().fit(cohort).outliers().empty
    table = Pipeline().quantile_norm().fit({**cohort, "e": image * 2}).outliers()
    assert set(table.fov) == {"e"}
    assert len(table) == 3
    assert np.isinf(table.score).all()


@pytest.mark.parametrize("n", [1, 2])
def test_few_images_have_no_outliers(n, make_image):
    cohort = like_one_another(make_image, n)
    cohort["fov0"] = cohort["fov0"] * 100
    table = Pipeline().quantile_norm().fit(cohort).outliers()
    columns = ["step", "fov", "channel", "quantile", "median", "fold", "score"]
    assert table.empty
    assert list(table.columns) == columns


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("score", "fold"), [(3.5, 1.5), (0, 1), (1, 3), (2, 1.1)])
def test_rule_of_outliers(seed, score, fold):
    rng = np.random.default_rng(seed)
    quantiles = rng.lognormal(3, 0.8, (9, 2))
    images = [xr.DataArray(row[:, None, None], dims=("c", "y", "x")) for row in quantiles]
    table = Pipeline().quantile_norm(50).fit(images).outliers(score, fold)
    expected = {}
    for channel, column in enumerate(quantiles.T):
        distance = np.abs(np.log(column) - np.median(np.log(column)))
        z = 0.6745 * distance / np.median(distance)
        for fov in range(9):
            ratio = column[fov] / np.median(column)
            if z[fov] > score and max(ratio, 1 / ratio) > fold:
                expected[fov, channel] = (ratio, z[fov])
    found = {(row.fov, row.channel): (row.fold, row.score) for row in table.itertuples()}
    assert found.keys() == expected.keys()
    for pair, values in found.items():
        assert values == pytest.approx(expected[pair], rel=1e-9)
    far = np.abs(np.log(table["fold"].to_numpy()))
    assert (np.diff(far) <= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": -1}, "score must be .*at least 0.*-1"),
        ({"score": "3"}, "score.*'3'"),
        ({"score": np.nan}, "score.*nan"),
        ({"fold": 0.5}, "fold must be .*at least 1.*0.5"),
        ({"fold": None}, "fold.*None"),
    ],
)
def test_bad_limits(arguments, message, cohort):
    fitted = Pipeline().quantile_norm().fit(cohort)
    with pytest.raises(ParameterError, match=message):
        fitted.outliers(**arguments)


# --- more images ----------------------------------------------------------------------------------


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
@pytest.mark.parametrize("later", [("fov3",), ("fov1", "fov2", "fov3")])
def test_update_equals_a_new_fit(pipeline, later, cohort):
    old, new = split(cohort, *later)
    everything = pipeline.fit(cohort)
    fitted = pipeline.fit(old)
    before = fitted.numbers
    assert fitted.update(new) == everything
    assert pipeline.fit(lazily(old)).update(lazily(new)) == everything
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


@updatable
@pytest.mark.parametrize("empty", ["fov0", "fov3", "both", "all"])
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
    fitted = Pipeline().quantile_norm().fit(old, pool=None)
    everything, at_once = said(lambda: Pipeline().quantile_norm().fit(cohort, pool=None))
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


# --- what holds for any cohort --------------------------------------------------------------------


few = settings(deadline=None, max_examples=10)
POOLED = ("quantile_norm_scale", "sum_mask_threshold")


@few
@given(order=st.permutations(range(5)), seed=st.integers(0, 2**32 - 1), pool=st.sampled_from(POOLS))
def test_order_of_images_changes_no_number(make_image, order, seed, pool):
    images = [make_image("float32", (2, 7, 5 + i), seed=seed + i, nan=0.1) for i in range(5)]
    pipeline = Pipeline().quantile_norm(90).sum_mask(20)
    there = pipeline.fit({f"fov{i}": images[i] for i in range(5)}, pool=pool).numbers
    back = pipeline.fit({f"fov{i}": images[i] for i in order}, pool=pool).numbers
    xr.testing.assert_identical(back.sel(fov=there.fov), there)
    if pool is not None:
        assert all("fov" not in there[name].dims for name in POOLED)


@few
@given(
    rows=st.lists(st.integers(4, 9), min_size=3, max_size=3),
    columns=st.lists(st.integers(3, 8), min_size=3, max_size=3),
    pool=st.sampled_from(POOLS),
)
def test_chunks_of_images_change_no_bit(make_image, rows, columns, pool):
    images = [make_image("float32", (2, 9 + i, 8), seed=i, nan=0.1) for i in range(3)]
    pipeline = Pipeline.sparrow(sigma=0.7, q_sum=20, q_post=None)
    lazy = [
        image.chunk({"y": y, "x": x}) for image, y, x in zip(images, rows, columns, strict=True)
    ]
    with dask.config.set(scheduler="synchronous"):
        fitted = pipeline.fit(lazy, pool=pool)
        assert fitted == pipeline.fit(images, pool=pool)
        for one, other in zip(fitted.transform(lazy), fitted.transform(images), strict=True):
            assert_same_bits(one, other)


def test_numpy_images_are_measured_a_few_at_a_time():
    n, shape = 12, (3, 512, 512)
    rng = np.random.default_rng(0)
    images = [
        xr.DataArray(rng.gamma(2, 20, shape).astype(np.float32), dims=("c", "y", "x"))
        for _ in range(n)
    ]
    pipeline = Pipeline.sparrow()
    pipeline.fit([image[:, :64, :64] for image in images[:2]])  # what is only made once
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        pipeline.fit(images)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    counts = n * 65537 * 3 * 8 * 4
    assert peak < counts + 8 * images[0].nbytes
