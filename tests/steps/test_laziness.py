"""A Dask-backed image stays one: nothing is computed until asked, and then gives the same bits."""

from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from oracle import assert_same_bits
from pxprep import Pipeline, PxprepWarning, ops

CHUNKS = {"c": 2, "y": 9, "x": 8}
IMAGE, MASK = object(), object()
# Every function of `ops` and what to call it with; IMAGE stands for the image, MASK for where its
# first channel is bright.
CALLS = {
    "quantile_norm": [{}, {"q": {"CD3": 50, ...: 99}}, {"where": MASK}],
    "post_norm": [{}, {"q_post": [90, 100, 0]}, {"where": MASK}],
    "blur": [{}, {"sigma": {"CD3": 0, ...: 0.7}}, {"sigma": 50}, {"sigma": 0}, {"sigma": None}],
    "sum_mask": [
        {},
        {"zeros": "include"},
        {"threshold": 30},
        {"reference": IMAGE},
        {"reference": IMAGE, "where": MASK},
    ],
    "sum_norm": [{}],
    "clip": [{"max": 20}, {"max": [1, 20, 300]}],
    "arcsinh": [{}, {"cofactor": [1, 20, 300]}],
    "log1p": [{}],
    "remove_hot_pixels": [{"threshold": 5}],
    "subtract_background": [{"radius": [2, 0, 7]}, {"constant": {"CD3": 9, ...: 30}}],
    "subtract_channels": [{"backgrounds": {"CD3": "DAPI"}, "scale": 0.1}],
    "compensate": [
        {"matrix": {"CD3": {"DAPI": 0.1, "CD20": 0}}, "method": method}
        for method in ("nnls", "linear")
    ],
    "percentile_clip": [{}, {"low": [0, 5, 20], "high": 60, "zeros": "include"}],
    "minmax": [{}],
    "median": [{}, {"size": [5, 1, 3]}],
    "robust_zscore": [{}, {"where": MASK}],
    "zscore": [{}, {"where": MASK}],
    "threshold": [{"value": [1, 20, 300]}, {"q": 50, "below": "nan"}, {"q": 50, "where": MASK}],
    "rescale": [{"factor": 2}, {"factor": 1}],
    "coarsen": [{"factors": {"y": 2, "x": 3}}, {"factors": {"y": 9, "x": 11}}],
    "divide": [{"scale": xr.DataArray([2.0, 3.0, 4.0], dims="c")}],
    "keep_where": [{"where": MASK}],
    "quantile": [{}, {"q": 50, "zeros": "include"}, {"where": MASK}],
    "pixel_sum": [{}],
}
CASES = [(name, arguments) for name, calls in CALLS.items() for arguments in calls]
PREPROCESS = [
    {},
    {"sigma": None},
    {"channels": ["CD20", "DAPI"], "q": {"DAPI": 98, ...: 99}, "cap_max": 1},
    {"q": None, "q_sum": None, "q_post": None, "norm_sum": False},
]


@pytest.fixture(params=["synchronous", "threads"])
def scheduler(request):
    return request.param


def filled_in(arguments, image):
    def value_of(value):
        if value is MASK:
            return image.isel(c=0) > 20
        return image if value is IMAGE else value

    return {key: value_of(value) for key, value in arguments.items()}


def check(function, image, no_compute, scheduler, chunks=CHUNKS):
    expected = function(image)
    lazy_image = image.chunk(chunks)
    with no_compute():
        lazy = function(lazy_image)
        assert isinstance(lazy.data, da.Array)
        assert lazy.dtype == expected.dtype
        repr(lazy)
    assert_same_bits(lazy.compute(scheduler=scheduler), expected)
    assert isinstance(lazy_image.data, da.Array)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_functions(name, arguments, make_image, no_compute):
    def function(image):
        return getattr(ops, name)(image, **filled_in(arguments, image))

    check(function, make_image("uint16"), no_compute, "threads")
    deep = make_image("float32", (3, 2, 9, 11), nan=0.1)
    check(function, deep, no_compute, "synchronous", {"z": 1})


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_accessor_methods(name, arguments, make_image, no_compute):
    function, image = getattr(ops, name), make_image()
    result = getattr(image.pxprep, name)(**filled_in(arguments, image))
    assert_same_bits(result, function(image, **filled_in(arguments, image)))
    with no_compute():
        lazy_image = image.chunk(CHUNKS)
        lazy = getattr(lazy_image.pxprep, name)(**filled_in(arguments, lazy_image))
    assert isinstance(lazy.data, da.Array)


@pytest.mark.parametrize("arguments", PREPROCESS)
def test_preprocess(arguments, make_image, no_compute):
    check(lambda image: image.pxprep.preprocess(**arguments), make_image(), no_compute, "threads")


@pytest.mark.parametrize("pipeline", [Pipeline.sparrow(), Pipeline.pixie(sigma=1)])
def test_pipelines(pipeline, make_image, no_compute, scheduler):
    image = make_image()
    fitted = pipeline.fit(image)
    for transform in (pipeline.fit_transform, fitted.transform):
        check(transform, image, no_compute, scheduler)
    check(lambda image: image.pxprep.transform(fitted), image, no_compute, scheduler)


def test_every_function_is_here():
    assert set(CALLS) == set(ops.__all__)


def test_a_lazy_reference_or_threshold_makes_the_result_lazy(make_image, no_compute):
    image = make_image()
    lazy_image = image.chunk(CHUNKS)
    threshold = ops.pixel_sum(lazy_image).mean()
    with no_compute():
        by_reference = ops.sum_mask(image, 40, reference=lazy_image)
        by_threshold = ops.sum_mask(image, threshold=threshold)
        assert isinstance(by_reference.data, da.Array)
        assert isinstance(by_threshold.data, da.Array)
    assert_same_bits(by_reference, ops.sum_mask(image, 40))
    assert_same_bits(by_threshold, ops.sum_mask(image, threshold=threshold.compute()))


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda image: ops.quantile_norm(image), "^quantile_norm: .*'CD3'.*negative.*'DAPI'"),
        (lambda image: ops.post_norm(image), "^post_norm: .*'CD3'"),
        (lambda image: ops.sum_mask(image), "^sum_mask: negative values in the sums"),
        (lambda image: image.pxprep.preprocess(sigma=1), "^quantile_norm: .*'CD3'"),
    ],
    ids=["quantile_norm", "post_norm", "sum_mask", "preprocess"],
)
def test_warnings_come_when_computed(function, match, make_image, no_compute, scheduler):
    image = make_image()
    image[1] = 0
    image[:, 4, 4] = -1
    image[1, 4, 4] = 0
    with no_compute():
        lazy = function(image.chunk(CHUNKS))
    with pytest.warns(PxprepWarning, match=match) as record:
        lazy.compute(scheduler=scheduler)
    assert len(record) == 1


@pytest.fixture
def read_counted(make_image):
    """An image in two chunks, and a list that grows when one of them is read."""
    reads = []
    image = make_image("uint16")

    def load(block):
        reads.append(block.shape)
        return block

    chunked = image.chunk(y=12).data
    # Older versions of Dask give equal functions with other closures one name.
    name = f"load-{uuid4().hex}"
    loaded = da.map_blocks(load, chunked, name=name, dtype=image.dtype, meta=np.empty(0, "u2"))
    return image.copy(data=loaded), reads


def test_a_lazy_chain_reads_its_source_again_for_each_pass(read_counted):
    image, reads = read_counted
    image.pxprep.preprocess(sigma=1).compute()
    # One pass over uint16, one over sums, one over the end of the chain, one for the result; each
    # chunk is read once more for what its neighbour's blur needs.
    assert len(reads) == (1 + 1 + 1 + 1 + 1) * image.data.npartitions


@pytest.mark.parametrize(("memory", "times"), [("1 MB", 1), (None, 1), (0, 3)])
def test_fitting_reads_once_what_fits_into_memory(memory, times, read_counted):
    image, reads = read_counted
    fitted = Pipeline.sparrow(sigma=1).fit(image, memory=memory)
    # Without memory: one pass for each of the three statistics; the edges are always kept.
    assert len(reads) == times * image.data.npartitions
    assert fitted == Pipeline.sparrow(sigma=1).fit(image.compute())


def test_nothing_that_was_read_outlives_the_fit(read_counted):
    image, reads = read_counted
    for _ in range(2):
        reads.clear()
        Pipeline.sparrow(sigma=1).fit(image)
        assert len(reads) == image.data.npartitions


def test_scales_of_a_pyramid_are_made_from_one_computation(read_counted):
    image, reads = read_counted
    clean = image.pxprep.clip(30)
    coarser = clean.pxprep.coarsen({"y": 2, "x": 2})
    dask.compute(clean.data, coarser.data)
    assert len(reads) == image.data.npartitions
