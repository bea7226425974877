"""Numba kernels on NumPy arrays: short loops that release the GIL and are cached on disk."""

from collections.abc import Callable
from typing import Any

from numba import njit

from ...errors import warn


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel, cached beside this package or else in the user's cache folder.

    `error_model="numpy"` lets divisions vectorise. There is no `fastmath` and no `parallel`: every
    pixel sees the same operations in the same order wherever it lies in a block, and callers bring
    the threads.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # Numba found no folder that it may write to
        warn(
            "compiled code cannot be kept: no folder for it can be written to, so every process "
            "compiles again; set NUMBA_CACHE_DIR to one that can"
        )
        return njit(nogil=True, error_model="numpy")(function)
