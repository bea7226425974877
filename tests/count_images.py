"""Images of counts, as imaging by mass cytometry gives them."""

import numpy as np
import xarray as xr

LABELS = ["CD3", "CD20", "panCK"]


def counts_of(seed, shape=(3, 31, 44), labels=LABELS, scale=1.0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.7, 6 * scale, shape)).astype(np.uint16)
    coords = {} if labels is None else {"c": labels}
    return xr.DataArray(counts, dims=("c", "y", "x"), coords=coords, name=f"fov{seed}")
