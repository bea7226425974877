"""Tables of pixels, made pixel by pixel."""

import itertools

import numpy as np
import pandas as pd
import xarray as xr

CHUNKS = {"c": 1, "y": 5, "x": 7}


def expected_table(images, labels=None):
    """The table, pixel by pixel."""
    found = []
    for name, image in images.items():
        dims = [dim for dim in ("y", "z", "x") if dim in image.dims]
        plain = image.transpose(*dims, "c").values
        for place in itertools.product(*map(range, plain.shape[:-1])):
            if np.isfinite(plain[place]).all():
                row = dict(zip(map(str, image.c.values), plain[place], strict=True))
                at = dict(zip(dims, place, strict=True))
                row |= {"fov": name} | {dim: at[dim] for dim in ("z", "y", "x") if dim in at}
                if labels is not None:
                    row["label"] = labels[name].transpose(*dims).values[place]
                found.append(row)
    return pd.DataFrame(found)


def check(table, expected):
    assert table.columns.tolist() == expected.columns.tolist()
    assert table.index.equals(pd.RangeIndex(len(expected)))
    for name in expected.columns:
        np.testing.assert_array_equal(table[name].to_numpy(), expected[name].to_numpy())


# Samples


def rows_of(table):
    """Each row as a tuple of its FOV and its position."""
    return set(table[["fov", "y", "x"]].itertuples(index=False, name=None))


def flat(size, name="flat", n_channels=1):
    return xr.DataArray(np.ones((n_channels, *size), "f4"), dims=("c", "y", "x"), name=name)
