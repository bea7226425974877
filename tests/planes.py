"""Planes of pixels in any type and layout, and their bits."""

import numpy as np
import pytest

from pxprep.engine.windows import Pixels, Window

F4, F8 = np.dtype("float32"), np.dtype("float64")
FLOATS = pytest.mark.parametrize("dtype", [F4, F8], ids=str)
# NaNs as programs make them: of either sign, and with something in their lower bits.
NANS = {
    F4: [0x7FC00000, 0xFFC00000, 0x7FC00123],
    F8: [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF80123 << 32],
}


def some_plane(shape, dtype=F8, seed=0):
    return np.random.default_rng(seed).gamma(2, 100, shape).astype(dtype)


def whole(block):
    """A block, and the window that is all of it."""
    return Pixels.of(block), Window(0, block.shape[2], 0, block.shape[3])


def nans(dtype):
    return np.array(NANS[dtype], f"u{dtype.itemsize}").view(dtype)


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def read_only(plane):
    plane = plane.copy()
    plane.flags.writeable = False
    return plane


LAYOUTS = {
    "read-only": read_only,
    "transposed": lambda plane: plane.T.copy().T,
    "swapped bytes": lambda plane: plane.astype(plane.dtype.newbyteorder()),
    "every other pixel": lambda plane: np.repeat(np.repeat(plane, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda plane: plane[::-1, ::-1].copy()[::-1, ::-1],
}
