"""Fixtures: each kind of tree, and images to grow it with."""

import numpy as np
import pytest

from pxprep.images.datatree import TREES


@pytest.fixture(params=list(TREES), ids=lambda cls: cls.__module__.split(".")[0])
def tree_class(request):
    return request.param


@pytest.fixture
def images(make_image):
    """Three images of other types, sizes and orders of dims, with coordinates, read-only."""
    made = [
        make_image("uint16", (3, 23, 17), seed=0),
        make_image("float32", (3, 25, 19), nan=0.1, seed=1),
        make_image("float64", (3, 31, 22), seed=2).transpose("x", "c", "y"),
    ]
    for image in made:
        image.values.flags.writeable = False
    return [
        image.rename("image").assign_coords(
            {dim: np.arange(image.sizes[dim]) + 0.5 for dim in "yx"}
        )
        for image in made
    ]
