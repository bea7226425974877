"""Channels and images without signal, and negative values, are told of once."""

import numpy as np
import pytest
import xarray as xr

from pxprep import FittedPipeline, Pipeline, PxprepWarning

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
    with pytest.warns(PxprepWarning, match=r"'CD20'.*NaN there are dropped") as record:
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
