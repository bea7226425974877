"""A folder-like tree of fields of view: look for the odd one, clean the rest, hand it on.

Run it with ``python examples/tree.py``; the last part needs ``pip install 'pxprep[spatialdata]'``.
"""

import numpy as np
import xarray as xr

import pxprep
from pxprep.datasets import tissue


def make_study():
    """Two slides with fields of view, as they may lie in folders; one is a multiscale image."""
    fovs = tissue(n_fovs=6, size=128)
    # The detector was set too high for one marker in one field of view.
    fovs["fov4"].loc[{"c": "CD8"}] *= 6
    # Another microscope wrote the channels in another order, and smaller copies of the image.
    backwards = fovs["fov5"].isel(c=slice(None, None, -1))
    nodes = {
        "/": xr.Dataset(attrs={"study": "made up"}),
        "slide1": xr.Dataset(attrs={"stained": "Monday"}),
        **{f"slide1/{name}": as_dataset(fovs[name]) for name in ("fov0", "fov1", "fov2")},
        **{f"slide2/{name}": as_dataset(fovs[name]) for name in ("fov3", "fov4")},
        "slide2/fov5/scale0": as_dataset(backwards),
        "slide2/fov5/scale1": as_dataset(backwards.pxprep.coarsen({"y": 2, "x": 2})),
    }
    return xr.DataTree.from_dict(nodes, name="study")


def as_dataset(fov):
    # Lazily: a study may be larger than memory.
    return fov.chunk({"c": -1, "y": 64, "x": 64}).to_dataset(name="image")


def main():
    study = make_study()
    pipeline = pxprep.Pipeline.sparrow(sigma={"DAPI": 1, ...: 2})

    # All leaves are measured together, whatever their place in the tree.
    fitted = study.pxprep.fit(pipeline)
    print(fitted)
    odd = fitted.outliers()
    print(odd.round(2).to_string(index=False))

    # Without the odd one: a tree like the one given, float32, still lazy.
    kept = study.copy()
    del kept["slide2"]["fov4"]
    clean = kept.pxprep.transform(kept.pxprep.fit(pipeline))
    print(clean)

    # Each field of view by itself, as far as it goes without the others.
    alone = kept.pxprep.quantile_norm(99, pool=None)
    print("largest value:", float(alone["slide1/fov0"]["image"].max()))
    return to_spatialdata(clean)


def to_spatialdata(clean):
    """One image element for each image of the tree."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    images = {}
    for path, node in clean.subtree_with_keys:
        is_finest = path.endswith("/scale0") or "/scale" not in path
        if "image" in node.data_vars and is_finest:
            name = path.removesuffix("/scale0").replace("/", "_")
            image = node["image"]
            images[name] = Image2DModel.parse(
                image.data,
                dims=image.dims,
                c_coords=image.c.values.tolist(),
                scale_factors=[2] if path.endswith("/scale0") else None,
            )
    sdata = SpatialData(images=images)
    print(sdata)
    dropped = float(np.isnan(sdata["slide1_fov0"].isel(c=0)).mean())
    print(f"slide1_fov0: {dropped:.1%} of the pixels dropped")
    return sdata


if __name__ == "__main__":
    main()
