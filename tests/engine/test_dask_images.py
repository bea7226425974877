"""Dask images as users make them: several with one name, chunks that hold nothing, no pixels."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import oracle
import pxprep
from oracle import assert_agrees, assert_same_bits
from pxprep import Pipeline, ops
from pxprep.engine.graphs import adopt
from pxprep.errors import ImageError
from pxprep.pipeline.base_pipeline import Function
from pxprep.steps import Step

SHAPE, CHUNKS = (2, 13, 11), (1, 4, 6)


def values_of(seed, shape=SHAPE):
    return np.random.default_rng(seed).gamma(2, 20 * (1 + seed), shape).astype("f4")


def image_of(array):
    dims = {2: ("y", "x"), 3: ("c", "y", "x"), 4: ("c", "z", "y", "x")}[array.ndim]
    image = xr.DataArray(array, dims=dims)
    image.name = "fov0"  # xarray takes that of a Dask array
    return image.assign_coords(c=list("pq")) if "c" in dims else image


def named(values):
    """An array with a name that the user chose, the same for all."""
    chunks = CHUNKS[-values.ndim :]
    return da.from_array(values, chunks=chunks, name="image")


def mapped(values):
    blocks = da.from_array(values, chunks=CHUNKS[-values.ndim :])
    return blocks.map_blocks(np.copy, name="image", dtype=values.dtype)


def drawn(values):
    """What differs is the function that makes a block, which no name tells."""

    def part(block, block_info):
        return values[tuple(slice(*ends) for ends in block_info[0]["array-location"])]

    blocks = da.zeros(values.shape, chunks=CHUNKS[-values.ndim :], dtype=values.dtype)
    return blocks.map_blocks(part, name="image", dtype=values.dtype, meta=blocks._meta)


def delayed(values):
    load = dask.delayed(partial(np.copy, values), name="load")(dask_key_name="loaded")
    whole = da.from_delayed(load, values.shape, values.dtype, name="image")
    return whole.rechunk(CHUNKS[-values.ndim :])


def from_tuples(values):
    """Tasks and their arguments as older versions of Dask write them."""
    half = len(values) // 2 or 1
    parts = [values[:half], values[half:]]
    graph = {
        ("image", *[0] * values.ndim): (np.concatenate, ["first", "last"]),
        "first": parts[0],
        "last": (np.add, (np.multiply, "second", 1), 0),
        "second": parts[1],
    }
    whole = da.Array(graph, "image", [(size,) for size in values.shape], dtype=values.dtype)
    return whole.rechunk(CHUNKS[-values.ndim :])


# Ways to make an array whose names are those of another one.
WAYS = {
    "named": named,
    "arithmetic": lambda values: named(values) + values.dtype.type(0),
    "rechunked": lambda values: named(values).rechunk((2, 5, 3)[-values.ndim :]),
    "sliced": lambda values: named(np.pad(values, 1))[(slice(1, -1),) * values.ndim],
    "mapped": mapped,
    "drawn": drawn,
    "delayed": delayed,
    "from tuples": from_tuples,
    "persisted": lambda values: named(values).persist(),
    "persisted arithmetic": lambda values: (named(values) + values.dtype.type(0)).persist(),
    "below persisted": lambda values: (named(values) + values.dtype.type(0)).persist()[:, ::1] * 1,
    "optimized": lambda values: dask.optimize(named(values) + values.dtype.type(0))[0],
}
any_way = pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
# Each of what makes names another way: `from_array`, tasks of a function, a graph by hand, memory.
some_ways = pytest.mark.parametrize("make", [named, mapped, from_tuples, WAYS["persisted"]])


def processed(image):
    return ops.quantile_norm(ops.blur(ops.sum_norm(image), 1.2), 97)


@pytest.fixture(scope="module")
def plain_pair():
    return [image_of(values_of(seed)) for seed in range(2)]


@any_way
def test_images_of_one_name_are_told_apart(make, plain_pair):
    first, second = pair = [image_of(make(image.values)) for image in plain_pair]
    # Older versions of Dask add a hash to the name that `map_blocks` is given.
    assert first.data.name == second.data.name or make in (mapped, drawn)
    expected = list(map(processed, plain_pair))
    made = list(map(processed, pair))
    for one_after_the_other, plain in zip(made, expected, strict=True):
        assert_same_bits(one_after_the_other, plain)
    for together, plain in zip(dask.compute(*made), expected, strict=True):
        assert_same_bits(together, plain)
    stacked = xr.concat(made, "fov").compute()
    np.testing.assert_array_equal(stacked.values, np.stack([one.values for one in expected]))
    # Beside an image as it came, whose names the user has in the same graph.
    ours, theirs = dask.compute(made[0], second)
    assert_same_bits(ours, expected[0])
    np.testing.assert_array_equal(theirs.values, plain_pair[1].values)


@pytest.mark.parametrize(
    ("make", "pool"),
    [(named, "mean"), (mapped, "pixels"), (from_tuples, None), (WAYS["persisted"], "pixels")],
)
def test_cohorts_of_images_of_one_name(make, pool, plain_pair):
    pair = [image_of(make(image.values)) for image in plain_pair]
    pipeline = Pipeline().quantile_norm(97).blur(1.2).sum_mask(20).sum_norm()
    fitted = pipeline.fit(plain_pair, pool=pool)
    each = [oracle.quantile(image.values, 97) for image in plain_pair]
    np.testing.assert_array_equal(fitted.numbers.quantile_norm_quantile, each)
    for memory in (0, None):
        assert pipeline.fit(pair, pool=pool, memory=memory) == fitted
    lazily = dask.compute(*pipeline.fit_transform(pair, pool=pool))
    for one, plain in zip(lazily, fitted.transform(plain_pair), strict=True):
        assert_same_bits(one, plain)


def test_an_image_of_another_size(plain_pair):
    larger = image_of(values_of(2, (2, 16, 20)))
    first, second = image_of(named(plain_pair[0].values)), image_of(named(larger.values))
    made, other = processed(first), processed(second)
    assert_same_bits(other, processed(larger))
    assert_same_bits(made, processed(plain_pair[0]))


def test_names_that_look_like_those_of_dask(plain_pair):
    """Dask would not tell them apart in one graph; one after the other they are right."""
    name = f"image-{'0' * 32}"
    blocks = [da.from_array(image.values, chunks=CHUNKS) for image in plain_pair]
    pair = [image_of(one.map_blocks(np.copy, name=name, dtype=one.dtype)) for one in blocks]
    made = list(map(processed, pair))
    for one, plain in zip(made, plain_pair, strict=True):
        assert_same_bits(one, processed(plain))


@some_ways
def test_masks_of_the_name_of_the_image(make, plain_pair):
    masks = [image_of((values_of(seed)[0] > 25).astype("i4")) for seed in range(2)]
    pair = [image_of(make(image.values)) for image in plain_pair]
    lazy_masks = [image_of(make(mask.values)) for mask in masks]
    pipeline = Pipeline().quantile_norm(97).blur(1.2).sum_mask(20)
    fitted = pipeline.fit(plain_pair, where=masks)
    scales = [
        oracle.quantile(np.where(mask.values, image.values, np.nan), 97)
        for image, mask in zip(plain_pair, masks, strict=True)
    ]
    np.testing.assert_array_equal(fitted.numbers.quantile_norm_quantile, scales)
    assert pipeline.fit(pair, where=lazy_masks) == fitted
    kept = dask.compute(*ops.keep_where(pair, lazy_masks))
    for one, plain in zip(kept, ops.keep_where(plain_pair, masks), strict=True):
        assert_same_bits(one, plain)


@some_ways
def test_tables_and_smaller_images_of_one_name(make, plain_pair):
    labels = {f"fov{seed}": image_of(values_of(seed)[0].astype("i4")) for seed in range(2)}
    plain = dict(zip(labels, plain_pair, strict=True))
    images, lazy_labels = (
        {name: image_of(make(image.values)) for name, image in given.items()}
        for given in (plain, labels)
    )
    table = pxprep.pixel_table(images, labels=lazy_labels)
    pd.testing.assert_frame_equal(table, pxprep.pixel_table(plain, labels=labels))
    factors = {"y": 2, "x": 3}
    smaller = dask.compute(ops.coarsen(images, factors))[0]
    for name, image in plain.items():
        assert_agrees(smaller[name], oracle.coarsen(image.values, factors))


def test_own_steps_that_name_what_they_make(plain_pair):
    def doubled(image):
        if not isinstance(image.data, da.Array):
            return image * 2
        return image.copy(data=image.data.map_blocks(np.multiply, 2, name="mine"))

    pipeline = Pipeline((Function(doubled),)).quantile_norm(97)
    pair = [image_of(da.from_array(image.values, chunks=CHUNKS)) for image in plain_pair]
    fitted = pipeline.fit(plain_pair)
    assert pipeline.fit(pair) == fitted
    lazily = dask.compute(*pipeline.fit_transform(pair))
    for one, plain in zip(lazily, fitted.transform(plain_pair), strict=True):
        assert_same_bits(one, plain)


@dataclass(frozen=True)
class Largest(Step):
    """A step of somebody's own whose numbers are lazy, and have a name."""

    kind = "test_dask_images_largest"

    def measure(self, cohort):
        largest = np.max([image.max() for image in cohort])
        return {"largest": xr.DataArray(da.from_array(np.array(largest), name="largest"))}

    def apply(self, image, numbers):
        return image / numbers["largest"]


def test_own_steps_that_name_their_numbers(plain_pair):
    pair = [image_of(da.from_array(image.values, chunks=CHUNKS)) for image in plain_pair]
    made = dask.compute(*Pipeline((Largest(),)).fit_transform(pair, pool=None))
    for one, plain in zip(made, plain_pair, strict=True):
        np.testing.assert_array_equal(one.values, plain.values / plain.values.max())


def test_figures_of_images_of_one_name(plain_pair):
    pytest.importorskip("matplotlib")
    pair = [image_of(named(image.values)) for image in plain_pair]
    axes = pxprep.plot.compare(*pair, channels=["p"])
    for axis, image in zip(axes.flat, plain_pair, strict=False):
        np.testing.assert_array_equal(axis.images[0].get_array(), image.values[0])


def test_names_that_dask_made_stay(plain_pair):
    """What is made again in another process has the same name there."""
    values = plain_pair[0].values
    first, second = (
        processed(image_of(da.from_array(values, chunks=CHUNKS) * 2)).data for _ in range(2)
    )
    assert first.name == second.name
    array = da.from_array(values, chunks=CHUNKS)
    assert adopt(array) is array
    own = adopt(named(values))
    assert adopt(own) is own


def test_an_image_with_a_name_is_read_once():
    reads = Counter()

    def load(block, block_info):
        reads[tuple(block_info[0]["chunk-location"])] += 1
        return block

    values = values_of(0)
    blocks = da.from_array(values, chunks=CHUNKS)
    loaded = blocks.map_blocks(load, name="image", dtype=values.dtype, meta=blocks._meta)
    Pipeline.sparrow(sigma=1).fit(image_of(loaded), memory="1 GiB")
    assert set(reads.values()) == {1}


def test_layers_of_one_name(plain_pair, tmp_path):
    pytest.importorskip("spatialdata")
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    from pxprep.io import import_images

    def parsed(image):
        return Image2DModel.parse(named(image.values), dims=image.dims, c_coords=list("pq"))

    sdata = SpatialData(images={f"fov{seed}": parsed(one) for seed, one in enumerate(plain_pair)})
    assert len({element.data.name for element in sdata.images.values()}) == 1
    pairs = {"fov0": "out0", "fov1": "out1"}
    pxprep.pixel_clustering_preprocess(sdata, list(pairs), list(pairs.values()))
    expected = Pipeline.sparrow().fit_transform(dict(zip(pairs, plain_pair, strict=True)))
    for name, out in pairs.items():
        np.testing.assert_array_equal(sdata[out].values, expected[name].values)
    lazy = {name: image_of(named(one.values)) for name, one in zip(pairs, plain_pair, strict=True)}
    imported = import_images(lazy, tmp_path / "study.zarr", scale_factors=[2])
    for name, plain in zip(pairs, plain_pair, strict=True):
        finest, coarser = (imported[name][scale].image for scale in ("scale0", "scale1"))
        np.testing.assert_array_equal(finest.values, plain.values)
        np.testing.assert_array_equal(
            coarser.values, oracle.coarsen(plain.values, {"y": 2, "x": 2})
        )


def test_layers_with_channels_in_another_order_are_read_once(plain_pair, tmp_path):
    pytest.importorskip("spatialdata")
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    reads = Counter()

    def counted(image, labels):
        def load(block, block_info):
            reads[(*labels, *block_info[0]["chunk-location"])] += 1
            return block

        blocks = da.from_array(image.values, chunks=CHUNKS)
        array = blocks.map_blocks(load, dtype=image.dtype, meta=blocks._meta)
        return Image2DModel.parse(array, dims=image.dims, c_coords=labels)

    pairs = zip(plain_pair, (list("pq"), list("qp")), strict=True)
    sdata = SpatialData()
    sdata.write(tmp_path / "study.zarr")
    for i, each in enumerate(pairs):
        sdata[f"fov{i}"] = counted(*each)
    pxprep.pixel_clustering_preprocess(
        sdata, ["fov0", "fov1"], ["out0", "out1"], pipeline=Pipeline().quantile_norm().post_norm()
    )
    assert set(reads.values()) == {1}


# Of images of the shape (2, 3, 8, 9).
EMPTY = [
    ((2,), (3,), (0, 8), (9,)),
    ((2,), (3,), (8,), (4, 0, 5)),
    ((0, 2), (3,), (8,), (9,)),
    ((1, 0, 1), (1, 0, 2, 0), (0, 3, 0, 0, 5), (0, 4, 5, 0)),
]
CUT_SO = list(zip(EMPTY, ["memory", "named", "tasks", "tasks"], strict=True))


def in_chunks(values, chunks, cut="tasks"):
    array = da.from_array(values, chunks=chunks, name="image" if cut == "named" else None)
    return array + values.dtype.type(0) if cut == "tasks" else array


@pytest.mark.parametrize("name", oracle.STEPS)
def test_chunks_that_hold_nothing(name):
    values, parameters = values_of(0, (2, 3, 8, 9)), oracle.STEPS[name]
    if name == "sum_mask" or name == "quantile_norm":
        values[0, 0, 1] = np.nan
    plain = getattr(ops, name)(image_of(values), **parameters)
    assert_agrees(plain, getattr(oracle, name)(values, **parameters), exact=name != "blur")
    for chunks, cut in CUT_SO:
        made = getattr(ops, name)(image_of(in_chunks(values, chunks, cut)), **parameters)
        assert_same_bits(made, plain)
        assert all(map(all, made.chunks))


@pytest.mark.parametrize(("chunks", "cut"), CUT_SO, ids=str)
def test_pipelines_masks_and_tables_of_such_chunks(chunks, cut):
    values, inside = values_of(0, (2, 3, 8, 9)), values_of(1, (3, 8, 9)) > 30
    plain, mask = image_of(values), xr.DataArray(inside, dims=("z", "y", "x"))
    lazy = image_of(in_chunks(values, chunks, cut))
    cut_mask = mask.copy(data=da.from_array(inside, chunks=chunks[1:]) & True)
    pipeline = Pipeline.sparrow(sigma=1)
    assert pipeline.fit(lazy) == pipeline.fit(plain)
    assert_same_bits(pipeline.fit_transform(lazy), pipeline.fit_transform(plain))
    fitted = pipeline.fit(plain, where=mask)
    assert pipeline.fit(lazy, where=cut_mask) == fitted
    assert pipeline.fit(plain, where=cut_mask) == fitted
    assert_same_bits(ops.keep_where(lazy, cut_mask), ops.keep_where(plain, mask))
    labels = cut_mask.astype("i4")
    expected = pxprep.pixel_table(plain, labels=labels.compute())
    pd.testing.assert_frame_equal(pxprep.pixel_table(lazy, labels=labels), expected)


@pytest.mark.parametrize("in_tree", [False, True])
def test_coordinates_in_other_chunks_than_the_image(in_tree):
    if in_tree and not hasattr(xr, "DataTree"):
        pytest.skip("this xarray has no trees")
    image = image_of(da.from_array(values_of(0), chunks=(2, 4, 11)))
    image = image.assign_coords(row=("y", da.arange(13, chunks=5)))
    if in_tree:
        scales = {"scale0": image, "scale1": image[:, :12:2, :10:2]}
        image = xr.DataTree.from_dict({at: xr.Dataset({"image": of}) for at, of in scales.items()})
    made = image.pxprep.preprocess().compute()
    xr.testing.assert_identical(made, image.compute().pxprep.preprocess())


@pytest.mark.parametrize("dim", ["c", "z", "y", "x"])
@pytest.mark.parametrize("make", [np.asarray, partial(da.from_array, chunks=1)])
def test_an_image_without_pixels_is_refused(dim, make):
    image = image_of(make(np.ones((2, 3, 8, 9), "f4"))).isel({dim: slice(0)})
    asked = (ops.blur, ops.quantile, Pipeline.sparrow().fit, pxprep.pixel_table)
    for function in asked:
        with pytest.raises(ImageError, match="must have at least one channel and one pixel"):
            function(image)
