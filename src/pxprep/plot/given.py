"""Images as they are given to a figure; and how large their pixels are."""

from collections.abc import Mapping
from math import hypot

import xarray as xr

from ..errors import ImageError
from ..images.datatree import is_tree
from ..images.image import checked
from ..images.scales import MICRON_SYSTEMS, TRANSFORMS, known_length, known_sizes
from ..images.trees import named_leaves, read_leaf


def one_image(image: object, parameter: str = "image") -> xr.DataArray:
    """An image, checked; of a multiscale image its finest scale."""
    if is_tree(image):
        leaves = [*named_leaves(image).values()]
        if len(leaves) > 1 or len(leaves[0].scales) == 1:
            name = leaves[0].scales[0]
            raise ImageError(
                f"plot shows one image, {parameter} is a tree of {len(leaves)}: choose one of its "
                f"images, as tree[{name + '/' + str(leaves[0].variable)!r}].pxprep.plot"
            )
        image = read_leaf(image, leaves[0])
    return checked(image, parameter)


def um_per_pixel(image: xr.DataArray) -> float | None:
    """Micrometres from one pixel to the next along x; None where they are not known."""
    sizes = known_sizes(image)
    if "x" in sizes:
        return sizes["x"]
    # What SpatialData keeps: a transformation by the name of a coordinate system.
    systems: object = image.attrs.get(TRANSFORMS)
    for name in MICRON_SYSTEMS:
        if isinstance(systems, Mapping) and hasattr(systems.get(name), "to_affine_matrix"):
            matrix = systems[name].to_affine_matrix(("x", "y"), ("x", "y"))
            return known_length(hypot(matrix[0][0], matrix[1][0]))
    return None
