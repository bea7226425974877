"""Images with masks, and what a step must give for them by the oracle."""

import numpy as np
import xarray as xr

import oracle
from oracle import plain

SHAPE = (3, 45, 38)

MEASURING = {
    "quantile_norm": {"q": 97},
    "post_norm": {"q_post": 99.9},
    "sum_mask": {"q_sum": 20},
    "percentile_clip": {"low": 4, "high": 90, "zeros": "include"},
    "minmax": {},
    "threshold": {"q": 60},
    "quantile": {"q": 35},
}

POOLS = ["mean", "pixels", None]


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
    if name in ("sum_mask", "percentile_clip", "minmax", "threshold"):
        return getattr(oracle, name)(values, reference=inside, **parameters)
    (q,) = parameters.values()
    scale = oracle.quantile(inside, q)
    scale[np.isnan(scale) | (scale == 0)] = 1
    values = oracle.to_float(values)
    return np.stack([c / values.dtype.type(s) for c, s in zip(values, scale, strict=True)])


# --- pipelines and cohorts ------------------------------------------------------------------------


def a_cohort(make_image):
    fovs = {
        "a": make_image("float32", SHAPE, seed=1),
        "b": make_image("float32", (3, 31, 52), seed=2, nan=0.02),
        "c": make_image("float32", (3, 20, 20), seed=3),
    }
    masks = {name: a_mask(fov.shape[1:], seed) for seed, (name, fov) in enumerate(fovs.items())}
    return fovs, masks
