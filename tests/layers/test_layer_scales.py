"""Scales and chunks of layers: those of the source, or as asked."""

import warnings

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")
import spatialdata
from spatialdata.transformations import get_transformation

from pxprep import pixel_clustering_preprocess
from spatial_objects import backed, counts, labeled, layer, make, scales


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    return make() if request.param == "memory" else backed(tmp_path)


def test_volume(sdata):
    pixel_clustering_preprocess(sdata, "volume", "clean")
    clean = sdata["clean"]
    assert clean.dims == ("c", "z", "y", "x")
    assert clean.chunks == sdata["volume"].chunks
    expected = labeled(counts(3, (4, 3, 30, 41)), "czyx").pxprep.preprocess()
    np.testing.assert_array_equal(clean.values, expected.values)


def test_pyramid_keeps_its_scales(sdata):
    # Without a blur the mask leaves holes, and the mean of means is not the mean.
    pixel_clustering_preprocess(sdata, "pyramid", "clean", sigma=None)
    expected = labeled(counts(2, (4, 96, 130))).pxprep.preprocess(sigma=None).values
    before, after = scales(sdata["pyramid"]), scales(sdata["clean"])
    np.testing.assert_array_equal(after[0].values, expected)
    for level, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (old.shape, old.chunks) == (new.shape, new.chunks)
        xr.testing.assert_equal(old.coords.to_dataset(), new.coords.to_dataset())
        factor = 2**level
        blocks = expected[:, :96, : 130 // factor * factor].astype(np.float64)
        blocks = blocks.reshape(4, 96 // factor, factor, -1, factor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing but NaN
            mean = np.nanmean(blocks, axis=(2, 4))
        np.testing.assert_allclose(new.values, mean, rtol=1e-6)
    assert get_transformation(sdata["clean"]) == get_transformation(sdata["pyramid"])


@pytest.mark.parametrize(
    ("scale_factors", "sizes"),
    [
        ([], [(61, 83)]),
        ([2, 3], [(61, 83), (30, 41), (10, 13)]),
        (np.array([2, 3]), [(61, 83), (30, 41), (10, 13)]),
        ([{"y": 2, "x": 4}], [(61, 83), (30, 20)]),
    ],
)
def test_scale_factors(scale_factors, sizes):
    sdata = make()
    pixel_clustering_preprocess(sdata, "fov0", "clean", scale_factors=scale_factors)
    assert [scale.shape[1:] for scale in scales(sdata["clean"])] == sizes


def test_volume_scales_as_asked(sdata):
    factors = [{"y": 2, "x": 2}]
    pixel_clustering_preprocess(sdata, "volume", "clean", scale_factors=factors)
    assert scales(sdata["clean"])[1].shape == (4, 3, 15, 20)
    pixel_clustering_preprocess(sdata, "clean", "again", q_sum=None)
    assert scales(sdata["again"])[1].shape == (4, 3, 15, 20)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (25, ((1,) * 4, (25, 25, 11), (25, 25, 25, 8))),
        ((4, 61, 40), ((4,), (61,), (40, 40, 3))),
        ({"c": -1, "x": -1}, ((4,), (32, 29), (83,))),
    ],
)
def test_chunks(chunks, expected):
    sdata = make()
    pixel_clustering_preprocess(sdata, "fov0", "clean", chunks=chunks)
    assert sdata["clean"].chunks == expected
    np.testing.assert_array_equal(
        sdata["clean"].values, labeled(counts(0)).pxprep.preprocess().values
    )


@pytest.mark.parametrize(
    ("shape", "factors"), [((4, 11, 11), [2]), ((4, 25, 47), [4]), ((4, 101, 97), [3, 2])]
)
def test_odd_pyramids_keep_their_sizes(shape, factors):
    pyramid = layer(counts(5, shape), scale_factors=factors)
    sdata = spatialdata.SpatialData(images={"pyramid": pyramid})
    pixel_clustering_preprocess(sdata, "pyramid", "clean", q_sum=None)
    assert [scale.shape for scale in scales(sdata["clean"])] == [
        scale.shape for scale in scales(pyramid)
    ]


def test_one_factor_is_found_for_all_dimensions():
    """5 pixels become 1 by a factor of 3, 4 or 5; 47 become 11 by 4 alone."""
    pyramid = layer(counts(5, (4, 5, 47)), scale_factors=[4])
    sdata = spatialdata.SpatialData(images={"pyramid": pyramid})
    pixel_clustering_preprocess(sdata, "pyramid", "clean", q_sum=None)
    finest, coarse = scales(sdata["clean"])
    expected = finest.values[:, :4, :44].astype(float).reshape(4, 1, 4, 11, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse.values, expected, rtol=1e-6)
