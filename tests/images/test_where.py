"""Masks from outside: what they restrict, for every face, on arrays and chunks of any kind."""

import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import pxprep
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Mask, Pipeline, PxprepWarning, ops
from pxprep.engine import brackets, cache, quantiles
from pxprep.errors import ParameterError
from pxprep.images.datatree import TREES
from pxprep.steps import Step

SHAPE = (3, 45, 38)
MEASURING = {
    "quantile_norm": {"q": 97},
    "post_norm": {"q_post": 99.9},
    "sum_mask": {"q_sum": 20},
    "percentile_clip": {"low": 4, "high": 90, "zeros": "include"},
    "minmax": {},
    "quantile": {"q": 35},
}
any_measure = pytest.mark.parametrize("name", MEASURING)
POOLS = ["mean", "pixels", None]


@dataclass(frozen=True)
class Brightest(Step):
    """A step of somebody's own, which knows nothing of masks."""

    kind = "test_where_brightest"

    def measure(self, cohort):
        largest = [image.max(["y", "x"]) for image in cohort]
        return {"largest": sum(largest) / len(largest)}

    def apply(self, image, numbers):
        return image / numbers["largest"]


PIPELINES = {
    "sparrow": Pipeline.sparrow(sigma=1, q_sum=30),
    "pixie": Pipeline.pixie(sigma=None, cap_max=0.9),
    "input": Pipeline().arcsinh(3).blur(0.7).quantile_norm(98).sum_mask(40, reference="input"),
    "range": Pipeline().subtract_background(2).percentile_clip(5, [99, 90, 80]).minmax(),
    "own": Pipeline().quantile_norm(98).then(Brightest()).sum_norm(),
}


def dims_of(array):
    return "zyx" if array.ndim == 3 else "yx"


def a_mask(shape=SHAPE[1:], seed=1, part=0.4):
    """Blobs that cover a part of the pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.random([-(-size // 6) for size in shape]) < part
    fine = np.kron(coarse, np.ones((6,) * len(shape), bool))
    cut = fine[tuple(slice(size) for size in shape)]
    return xr.DataArray(cut, dims=tuple(dims_of(cut)))


def outside_nan(image, mask):
    """What a mask means: pixels outside are missing."""
    return image.astype(oracle.float_type(image.dtype)).where(mask).transpose(*image.dims)


def measured_elsewhere(name, image, mask, **parameters):
    """What a step must give: its numbers from the pixels inside, applied to all, by the oracle."""
    inside = plain(outside_nan(image, mask))
    values = plain(image)
    if name == "quantile":
        return oracle.quantile(inside, **parameters)
    if name in ("sum_mask", "percentile_clip", "minmax"):
        return getattr(oracle, name)(values, reference=inside, **parameters)
    (q,) = parameters.values()
    scale = oracle.quantile(inside, q)
    scale[np.isnan(scale) | (scale == 0)] = 1
    values = oracle.to_float(values)
    return np.stack([c / values.dtype.type(s) for c, s in zip(values, scale, strict=True)])


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
@pytest.mark.parametrize("dtype", ["bool", "uint16", "int32", "float64"])
@pytest.mark.parametrize("chunks", [None, {"c": 2, "y": 21, "x": 19}])
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
@pytest.mark.parametrize("chunks", [None, {"z": 1, "y": 9}])
@pytest.mark.parametrize("dims", ["yx", "xy", "zyx", "yzx"])
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


def test_an_image_without_a_pixel_inside_does_not_count(make_image):
    fovs = {name: make_image("uint16", SHAPE, seed=seed) for seed, name in enumerate("ab")}
    where = {"a": a_mask(), "b": xr.zeros_like(a_mask())}
    with pytest.warns(PxprepWarning, match="of image 'b'.*not counted in the cohort's mean"):
        fitted = Pipeline().quantile_norm(90).fit(fovs, where=where)
    alone = Pipeline().quantile_norm(90).fit({"a": fovs["a"]}, where={"a": where["a"]})
    np.testing.assert_array_equal(
        fitted.numbers["quantile_norm_scale"], alone.numbers["quantile_norm_scale"]
    )
    assert fitted.numbers["quantile_norm_counted"].sel(fov="b").sum() == 0


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


# --- pipelines and cohorts ------------------------------------------------------------------------


def a_cohort(make_image):
    fovs = {
        "a": make_image("float32", SHAPE, seed=1),
        "b": make_image("float32", (3, 31, 52), seed=2, nan=0.02),
        "c": make_image("float32", (3, 20, 20), seed=3),
    }
    masks = {name: a_mask(fov.shape[1:], seed) for seed, (name, fov) in enumerate(fovs.items())}
    return fovs, masks


@pytest.mark.filterwarnings("ignore:sum_mask. far more:pxprep.PxprepWarning")
@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("sparrow", "mean"),
        ("pixie", "pixels"),
        ("input", None),
        ("own", "mean"),
        ("own", None),
        ("range", "mean"),
        ("range", "pixels"),
        ("range", None),
    ],
)
def test_lazy_eager_and_at_once_are_the_same_bits(name, pool, make_image):
    pipeline = PIPELINES[name]
    fovs, masks = a_cohort(make_image)
    fitted = pipeline.fit(fovs, pool=pool, where=masks)
    assert fitted != pipeline.fit(fovs, pool=pool)
    chunks = {"c": 1, "y": 23, "x": 21}
    lazy = {name: fov.chunk(chunks) for name, fov in fovs.items()}
    for where in (masks, {name: mask.chunk(y=9, x=100) for name, mask in masks.items()}):
        assert pipeline.fit(lazy, pool=pool, where=where) == fitted
    assert (
        pipeline.fit(list(fovs.values()), pool=pool, where=list(masks.values()))
        .numbers.drop_vars("fov", errors="ignore")
        .equals(fitted.numbers.drop_vars("fov", errors="ignore"))
    )
    expected = fitted.transform(fovs)
    for images in (fovs, lazy):
        made = pipeline.fit_transform(images, pool=pool, where=masks)
        for name in fovs:
            np.testing.assert_array_equal(made[name], expected[name])


@pytest.mark.parametrize("pool", POOLS)
def test_numbers_of_a_cohort_are_those_of_the_pixels_inside(pool, make_image):
    fovs, masks = a_cohort(make_image)
    fitted = Pipeline().quantile_norm(90).fit(fovs, pool=pool, where=masks)
    inside = {name: plain(outside_nan(fov, masks[name])) for name, fov in fovs.items()}
    each = np.stack([oracle.quantile(one, 90) for one in inside.values()])
    np.testing.assert_array_equal(fitted.numbers["quantile_norm_quantile"], each)
    counted = [(np.isfinite(one) & (one != 0)).sum((1, 2)) for one in inside.values()]
    np.testing.assert_array_equal(fitted.numbers["quantile_norm_counted"], counted)
    pooled = np.concatenate([one.reshape(3, -1) for one in inside.values()], axis=1)
    scale = {None: each, "pixels": oracle.quantile(pooled, 90), "mean": each.mean(axis=0)}[pool]
    np.testing.assert_allclose(fitted.numbers["quantile_norm_scale"], scale, rtol=1e-15)


@pytest.mark.parametrize("pool", POOLS)
def test_own_steps_see_nan_outside(pool, make_image):
    fovs, masks = a_cohort(make_image)
    pipeline = Pipeline([Brightest()])
    masked = {name: outside_nan(fov, masks[name]) for name, fov in fovs.items()}
    fitted = pipeline.fit(fovs, pool=pool, where=masks)
    assert fitted == pipeline.fit(masked, pool=pool)
    assert fitted != pipeline.fit(fovs, pool=pool)


def test_one_mask_for_all_and_none_for_some(make_image):
    fovs = [make_image("uint16", SHAPE, seed=seed) for seed in range(3)]
    mask = a_mask()
    pipeline = Pipeline.sparrow(sigma=1)
    assert pipeline.fit(fovs, where=mask) == pipeline.fit(fovs, where=[mask] * 3)
    some = pipeline.fit(fovs, where=[None, mask, None])
    assert some == pipeline.fit(fovs, where=[xr.ones_like(mask), mask, xr.ones_like(mask)])


def test_more_images_later(make_image):
    fovs, masks = a_cohort(make_image)
    pipeline = Pipeline().blur(1).quantile_norm(95)
    whole = pipeline.fit(fovs, where=masks)
    first = pipeline.fit({"a": fovs["a"]}, where={"a": masks["a"]})
    later = {name: fovs[name] for name in "bc"}
    assert first.update(later, where={name: masks[name] for name in "bc"}) == whole
    assert first.update(later) != whole


def test_masks_are_no_part_of_json(make_image):
    image = make_image("uint16", SHAPE)
    fitted = Pipeline.sparrow().fit(image, where=a_mask())
    assert pxprep.FittedPipeline.from_json(fitted.to_json()) == fitted


def test_outliers_are_those_of_the_pixels_inside(make_image):
    fovs = {f"f{seed}": make_image("float32", (3, 40, 40), seed=seed) for seed in range(5)}
    masks = {name: a_mask((40, 40)) for name in fovs}
    fovs["f2"] = fovs["f2"].where(masks["f2"], fovs["f2"] * 50)  # an artefact outside
    pipeline = Pipeline().quantile_norm(99)
    assert set(pipeline.fit(fovs).outliers()["fov"]) == {"f2"}
    assert pipeline.fit(fovs, where=masks).outliers().empty


@pytest.mark.parametrize("kind", TREES, ids=lambda kind: kind.__module__)
def test_trees(kind, make_image):
    fovs, masks = a_cohort(make_image)
    datasets = {f"s/{n}": xr.Dataset({"image": fovs[n], "cells": masks[n] * 3}) for n in fovs}
    tree = kind.from_dict(datasets)
    others = kind.from_dict(
        {f"s/{name}": mask.to_dataset(name="m") for name, mask in masks.items()}
    )
    by_path = {f"s/{name}": mask for name, mask in masks.items()}
    expected = tree.pxprep.quantile_norm(90, pool=None, where=by_path)
    for where in ("cells", Mask("cells", 3), others, ~~Mask("cells")):
        made = tree.pxprep.quantile_norm(90, pool=None, where=where)
        for name in fovs:
            np.testing.assert_array_equal(made[f"s/{name}/image"], expected[f"s/{name}/image"])
    fitted = tree.pxprep.fit(Pipeline().quantile_norm(90), where="cells", pool=None)
    alone = fovs["a"].pxprep.quantile_norm(90, where=masks["a"])
    np.testing.assert_array_equal(expected["s/a/image"], alone)
    np.testing.assert_array_equal(tree.pxprep.transform(fitted)["s/a/image"], alone)
    with pytest.raises(ParameterError, match=r"no variable 'cell' beside image 's/a'.*'cells'"):
        tree.pxprep.quantile(where="cell")


@pytest.mark.parametrize("kind", TREES, ids=lambda kind: kind.__module__)
def test_multiscale_trees(kind, make_image):
    image, mask = make_image("float32", (3, 40, 40)), a_mask((40, 40))
    scales = {
        f"scale{level}": xr.Dataset(
            {"image": image[:, ::step, ::step], "cells": mask[::step, ::step]}
        )
        for level, step in enumerate((1, 2))
    }
    tree = kind.from_dict(scales)
    masks = kind.from_dict({name: scale[["cells"]] for name, scale in scales.items()})
    expected = image.pxprep.quantile_norm(80, where=mask)
    for where in ("cells", masks, mask, [masks]):
        made = tree.pxprep.quantile_norm(80, where=where)
        np.testing.assert_array_equal(made["scale0/image"], expected)
    for where in (masks, {"a": masks, "b": mask}):
        both = ops.quantile(dict.fromkeys("ab", image), 80, pool=None, where=where)
        np.testing.assert_array_equal(both, [image.pxprep.quantile(80, where=mask)] * 2)
    with pytest.raises(ParameterError, match="missing 'b', unknown 'c'"):
        ops.quantile(
            dict.fromkeys("ab", image), where=kind.from_dict({"a": scales["scale0"], "c": masks})
        )


# --- laziness, passes, memory ---------------------------------------------------------------------


def counting(array, chunks):
    """A lazy array, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    lazy = da.from_array(np.asarray(array), chunks=chunks)
    empty = np.empty((0,) * lazy.ndim, lazy.dtype)
    return lazy.map_blocks(load, name=f"c-{uuid4()}", dtype=lazy.dtype, meta=empty), reads


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("fit", [True, False])
def test_a_mask_costs_no_pass(dtype, kind, fit, make_image):
    """Samples are of pixels inside, so that quantiles are still found in one pass."""
    values = make_image(dtype, (2, 128, 192)).values
    inside = a_mask((128, 192), part=0.3)
    values[:, ~inside.values] *= 50  # a sample of everything would mislead
    passes = []
    pipeline = Pipeline().quantile_norm(50).sum_mask(40).blur(1).post_norm(60)
    pipeline = pipeline.percentile_clip(20, 80)
    for masked in (False, True):
        array, reads = counting(values, (2, 32, 64))
        mask = None
        if masked:
            mask = inside if kind == "numpy" else inside.copy(data=counting(inside, (32, 64))[0])
        image = xr.DataArray(array, dims=("c", "y", "x"))
        with dask.config.set(scheduler="synchronous"):
            if fit:
                pipeline.fit(image, where=mask, memory=0)
            else:
                pipeline.fit_transform(image, where=mask).compute()
        assert len(set(reads.values())) == 1
        passes.append(reads[0, 0, 0])
    assert passes[0] == passes[1]


def test_what_is_outside_takes_no_room():
    """Of what may be gathered: a mask that leaves little is measured in one pass, too."""
    sample = np.random.default_rng(0).gamma(2, 20, (1, 1, 100, 100)).astype("f4")
    few = np.where(np.arange(100) < 10, sample, np.nan)
    n_bytes = int(brackets.MOST_GATHERED / 0.3)
    assert quantiles.bracket([sample], np.array([50.0]), True, n_bytes) is None
    low, high = quantiles.bracket([few], np.array([50.0]), True, n_bytes)
    assert low < np.nanmedian(few) < high
    assert np.mean((few >= low) & (few <= high)) < 0.3


def test_memory_keeps_masks_too(make_image):
    where, reads = counting(a_mask((128, 192)), (32, 64))
    image = make_image("float32", (2, 128, 192)).chunk(y=32, x=64)
    mask = xr.DataArray(where, dims=("y", "x"))
    Pipeline.sparrow(sigma=1).fit(image, where=mask, memory="1 GiB")
    assert set(reads.values()) == {1}


def test_zarr_masks_are_read_in_parts_and_not_held(tmp_path, make_image):
    """Whatever their chunks: a stored mask is read again in the blocks of the image."""
    zarr = pytest.importorskip("zarr")
    labels = np.random.default_rng(0).integers(0, 3, (600, 800)).astype("i4")
    stored = zarr.create_array(tmp_path / "labels", data=labels, chunks=(500, 300))
    mask = xr.DataArray(da.from_zarr(stored), dims=("y", "x"))
    image = make_image("uint16", (2, 600, 800))
    lazy = image.chunk(y=128, x=100)
    for where, inside in ((mask, labels > 0), (Mask(mask, 2), labels == 2)):
        expected = oracle.quantile(
            plain(outside_nan(image, xr.DataArray(inside, dims=("y", "x")))), 90
        )
        made = lazy.pxprep.quantile(90, where=where)
        names = {str(key[0]) for key in made.data.dask if isinstance(key, tuple)}
        assert not any("rechunk" in name for name in names)
        np.testing.assert_array_equal(made, expected)


def test_graphs_stay_small(make_image):
    """A mask adds no task to a chain on a stored array, and one for each block from anywhere."""
    image = make_image("float32", (2, 120, 120)).chunk(y=30, x=30)
    n_blocks = image.data.npartitions
    mask = a_mask((120, 120))
    for where, more in ((mask, n_blocks), (mask.chunk(y=30, x=30), 2 * n_blocks)):
        plain_tasks = len(dict(image.pxprep.blur(1).pxprep.quantile(50).data.__dask_graph__()))
        masked = image.pxprep.blur(1).pxprep.quantile(50, where=where)
        assert len(dict(masked.data.__dask_graph__())) <= plain_tasks + more + 1


def test_fitting_a_large_lazy_image_holds_little(make_image):
    n_rows = 4096
    rng = np.random.default_rng(0)
    tile = rng.gamma(2, 20, (2, 256, 512)).astype("f4")
    array = da.map_blocks(
        lambda: tile,
        chunks=((2,), (256,) * (n_rows // 256), (512,) * 4),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    labels = da.map_blocks(
        lambda: (tile[0] > 20).astype("i4"),
        chunks=((256,) * (n_rows // 256), (512,) * 4),
        dtype="i4",
        meta=np.empty((0, 0), "i4"),
    )
    image = xr.DataArray(array, dims=("c", "y", "x"))
    where = xr.DataArray(labels, dims=("y", "x"))
    Pipeline().quantile_norm(99).fit(image.isel(y=slice(256)), where=where[:256], memory=0)
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        Pipeline().quantile_norm(99).fit(image, where=where, memory=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * image.nbytes, f"{peak / image.nbytes:.2f} of the image"


# --- whatever the chunks --------------------------------------------------------------------------


@st.composite
def cuts(draw, size):
    places = draw(st.sets(st.integers(1, size - 1), max_size=2))
    return tuple(int(length) for length in np.diff([0, *sorted(places), size]))


@settings(deadline=None, max_examples=10)
@given(data=st.data(), seed=st.integers(0, 1000), kind=st.sampled_from(["measure", "keep"]))
def test_chunks_change_no_bit(make_image, data, seed, kind):
    image = make_image("float32", (2, 15, 12), seed=seed, nan=0.05)
    labels = xr.DataArray(
        np.random.default_rng(seed).integers(0, 3, (15, 12)).astype("u1"), dims=("y", "x")
    )
    chunks = {dim: data.draw(cuts(size), label=dim) for dim, size in image.sizes.items()}
    over = {dim: data.draw(cuts(size), label=f"mask {dim}") for dim, size in labels.sizes.items()}
    which = data.draw(st.sampled_from([[1], [1, 2], [0, 2]]))

    def function(one, mask):
        mask = Mask(mask, which)
        if kind == "keep":
            return ops.keep_where(one, mask).pxprep.preprocess(sigma=0.8, q_sum=20)
        return one.pxprep.preprocess(sigma=0.8, q_sum=20, where=mask)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PxprepWarning)
        expected = function(image, labels)
        assert_same_bits(function(image.chunk(chunks), labels.chunk(over)), expected)
        assert_same_bits(function(image, labels.chunk(over)), expected)


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


def test_a_keeper_beside_another_samples_the_same_places():
    block = np.arange(2 * 800 * 2100).reshape(2, 1, 800, 2100)
    nothing = cache.Budget(0)
    keeper = cache.Keeper(nothing, nothing, cache.Sampling(1 << 20, 1))
    beside = keeper.beside("mask")
    beside.blocks((0, 0, 0), lambda: [block[:1] % 2])  # read before the image: no sample yet
    assert not beside.samples()
    keeper.blocks((0, 0, 0), lambda: [block])
    beside.blocks((0, 0, 0), lambda: [block[:1] % 2])
    (tiles,), (masks,) = keeper.samples().values(), beside.samples().values()
    assert len(tiles) > 1
    for tile, mask in zip(tiles, masks, strict=True):
        np.testing.assert_array_equal(tile[:1] % 2, mask)
    assert keeper.beside("mask") is beside
    keeper.close()
    assert not beside.samples()
    assert not keeper.beside("late")._is_open


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
        "coordinates along 'y', which begin with 0, got 0.5",
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
    if bad == "other dims":
        image = image.drop_vars("y")
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
