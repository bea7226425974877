"""Trees of images, some of them multiscale, and how their scales must agree."""

import dask
import dask.array as da
import numpy as np

import oracle
from oracle import assert_agrees, plain

# Which nodes hold an image, and whether it is a multiscale one.
LAYOUTS = {
    "flat": {"fov0": False, "fov1": False, "fov2": False},
    "nested": {"slide1/fov0": False, "slide1/fov1": False, "slide2/deep/fov0": False},
    "multiscale": {"fov0": True, "fov1": True, "fov2": True},
    "mixed": {"fov0": True, "slide/fov1": False, "slide/fov2": True},
}

# Of each scale relative to the one before, and to the finest.
FACTORS = (2, 3)

CUMULATIVE = (2, 6)


def pyramid(image, factors=FACTORS):
    """The image and coarser scales, of which only the sizes are right; with attrs of their own."""
    scales = [image.assign_attrs(scale=0)]
    for number, factor in enumerate(factors, start=1):
        by_dim = factor if isinstance(factor, dict) else {"y": factor, "x": factor}
        kept = {dim: slice(scales[-1].sizes[dim] // by) for dim, by in by_dim.items()}
        scales.append((scales[-1].isel(kept) + 1).assign_attrs(image.attrs, scale=number))
    return scales


def nodes_of(path, scales):
    """What to call `from_dict` with for a multiscale image."""
    return {
        f"{path}/scale{number}": scale.to_dataset(name="image")
        for number, scale in enumerate(scales)
    }


def grown(tree_class, layout, images, chunks=None):
    """A tree with `images`, and the images by the names that they have in it."""
    mapping = dict(zip(LAYOUTS[layout], images, strict=True))
    nodes = {}
    for path, image in mapping.items():
        scales = pyramid(image) if LAYOUTS[layout][path] else [image]
        scales = scales if chunks is None else [scale.chunk(chunks) for scale in scales]
        one = {path: scales[0].to_dataset(name="image")}
        nodes |= nodes_of(path, scales) if LAYOUTS[layout][path] else one
    return tree_class.from_dict(nodes, name="cohort"), mapping


def scales_at(tree, path):
    node = tree[path]
    names = [name for name in node.children if name.startswith("scale")]
    return [node[name]["image"] for name in names] or [node["image"]]


def leaves_of(tree, layout, lazy):
    """The computed scales of each image, after a look at what they were."""
    leaves = {path: scales_at(tree, path) for path in LAYOUTS[layout]}
    kinds = {type(scale.data) for scales in leaves.values() for scale in scales}
    assert kinds == {da.Array if lazy else np.ndarray}
    return dask.compute(leaves)[0]


def assert_scales_agree(scales, factors=CUMULATIVE):
    """Each scale is what its factors make of the first."""
    first, *others = dask.compute(*scales)
    for scale, factor in zip(others, factors, strict=True):
        by_dim = factor if isinstance(factor, dict) else {"y": factor, "x": factor}
        finest, made = (one if "c" in one.dims else one.expand_dims("c") for one in (first, scale))
        expected = oracle.coarsen(plain(finest), by_dim)
        assert_agrees(made, expected, exact=scale.dtype == np.float32)
