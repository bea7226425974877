"""Cohorts: each image by itself, numbers of each image, whatever their order; memory."""

import tracemalloc

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline, ops
from pxprep.errors import ImageError, ParameterError
from small_cohorts import PIPELINES, Brightest, cohort_of, in_form, lazily

POOLS = ["mean", "pixels", None]
any_pool = pytest.mark.parametrize("pool", POOLS)
any_pipeline = pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=list(PIPELINES))


@pytest.fixture
def cohort(make_image):
    return cohort_of(make_image, n=4)


# --- each image by itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "form", "lazy"),
    [
        *((pipeline, "mapping", False) for pipeline in PIPELINES.values()),
        (PIPELINES["range"], "list", True),
        (PIPELINES["own"], "tree", True),
    ],
)
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
def test_functions_without_pool(name, arguments, make_image):
    cohort = cohort_of(make_image, "uint16" if name == "quantile_norm" else "float32")
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
    assert numbers.brightest_value.dims == ("fov", "c")
    assert numbers.brightest_images.values.tolist() == [1] * 4
    largest = [image.values.max((1, 2)) for image in cohort.values()]
    np.testing.assert_array_equal(numbers.brightest_value, largest)
    assert Pipeline([Brightest()]).fit(cohort).numbers.brightest_images == 4


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
        ([new], "new"),
    ):
        what = "fov, or else" if images is new or fov else "the name of each image"
        named = "0" if isinstance(images, list) and fov is None else "'new'"
        message = rf"{what}.* that was fitted, .* got {named}; there are 'fov0', 'fov1'"
        with no_compute(), pytest.raises(ImageError, match=message):
            fitted.transform(images, fov=fov)
    for images, pool in ((new, "mean"), (lazy, None), (lazy, "pixels")):
        with pytest.raises(ParameterError, match=r"fov is for one image.*'fov0'"):
            Pipeline.sparrow().fit(cohort, pool=pool).transform(images, fov="fov0")
    for odd in (["fov0"], fitted.numbers.fov[:1], {"fov0": 1}, True):
        with no_compute(), pytest.raises(ParameterError, match="fov must be the name of one image"):
            fitted.transform(new, fov=odd)
    fitted.transform(new, fov=fitted.numbers.fov[0])


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
    cohort = cohort_of(make_image, dtype)
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
        scale = [oracle.exact_mean(column) for column in np.transpose(each)]
        threshold = oracle.exact_mean(thresholds)
    else:
        scale, threshold = each, thresholds
    np.testing.assert_array_equal(numbers.quantile_norm_scale, scale)
    np.testing.assert_array_equal(numbers.sum_mask_threshold, threshold)


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_large_integers_among_pooled_floats_are_rounded_as_they_are_alone(lazy):
    """An integer image is processed in float32, whatever the types of the others."""
    counts = np.full((1, 2, 3), 2**32 - 2, np.uint32)
    pair = {"a": np.ones((1, 4, 4)), "b": counts}
    cohort = {
        name: xr.DataArray(array, dims=("c", "y", "x"), coords={"c": ["CD3"]})
        for name, array in pair.items()
    }
    fitted = Pipeline().quantile_norm(100).fit(lazily(cohort) if lazy else cohort, pool="pixels")
    assert fitted.numbers.quantile_norm_scale.values.tolist() == [2.0**32]


@any_pool
def test_a_cohort_of_one_image_is_that_image(pool, cohort):
    image = cohort["fov1"]
    alone = Pipeline.sparrow().fit(image)
    fitted = Pipeline.sparrow().fit({"fov1": image}, pool=pool)
    for name in ("quantile_norm_scale", "sum_mask_threshold", "post_norm_scale"):
        np.testing.assert_array_equal(fitted.numbers[name].squeeze(), alone.numbers[name])


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


@pytest.mark.usefixtures("memory_from_numpy")
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
    assert peak < 6 * images[0].nbytes
