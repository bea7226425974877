"""A step measured on the output of an earlier one gets that, whatever was made of it since."""

import numpy as np
import pytest
import xarray as xr

from oracle import assert_same_bits
from pxprep import Pipeline, ops


def image(seed=0):
    values = np.random.default_rng(seed).gamma(2, 10, (3, 60, 50)).astype("float32")
    return xr.DataArray(values, dims=("c", "y", "x"))


def by_hand(images):
    """Costly steps between the reference and its use, each of which is measured."""
    reference = ops.quantile_norm(ops.blur(images, 1))
    later = ops.quantile_norm(ops.arcsinh(reference), 97)
    later = ops.percentile_clip(ops.log1p(later), 2, 98)
    return ops.sum_mask(later, 30, reference=reference)


PIPELINE = (
    Pipeline()
    .blur(1)
    .quantile_norm()
    .arcsinh()
    .quantile_norm(97)
    .log1p()
    .percentile_clip(2, 98)
    .sum_mask(30, reference="quantile_norm")
)


# Sums on another scale than the threshold.
@pytest.mark.filterwarnings("ignore:sum_mask. far more than")
@pytest.mark.parametrize("n_images", [1, 3])
@pytest.mark.parametrize("chunks", [None, {"y": 25}], ids=["numpy", "dask"])
def test_the_reference_is_what_it_was(n_images, chunks):
    images = [image(seed) for seed in range(n_images)]
    given = images if chunks is None else [one.chunk(chunks) for one in images]
    fitted = PIPELINE.fit(given)
    for results in (PIPELINE.fit_transform(given), fitted.transform(given)):
        for result, expected in zip(results, by_hand(images), strict=True):
            assert_same_bits(result, expected)
