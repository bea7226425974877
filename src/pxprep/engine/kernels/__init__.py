"""Numba kernels on NumPy arrays: short loops that release the GIL and are cached on disk."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from threading import RLock
from typing import Any, TypeVar

from ...errors import warn

Function = TypeVar("Function", bound=Callable[..., Any])

_LOCK = RLock()


class Kernel:
    """A function that is compiled when it is first called.

    Numba itself is imported then, which takes longer than most of this package. Compiled code is
    cached beside this package or else in the user's cache folder.

    `error_model="numpy"` lets divisions vectorise. There is no `fastmath` and no `parallel`: every
    pixel sees the same operations in the same order wherever it lies in a block, and callers bring
    the threads.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Any:
        """What Numba makes of it."""
        with _LOCK:
            # Numba knows kernels that this one calls as what it has made of them itself.
            names = self._function.__globals__
            for name, value in list(names.items()):
                if isinstance(value, Kernel):
                    names[name] = value._jitted
            return self._jitted

    @cached_property
    def _jitted(self) -> Any:
        from numba import njit

        try:
            return njit(nogil=True, error_model="numpy", cache=True)(self._function)
        except RuntimeError:  # Numba found no folder that it may write to
            warn(
                "compiled code cannot be kept: no folder for it can be written to, so every "
                "process compiles again; set NUMBA_CACHE_DIR to one that can"
            )
            return njit(nogil=True, error_model="numpy")(self._function)


def kernel(function: Function) -> Function:
    """A kernel, for type checkers the function itself."""
    return Kernel(function)  # type: ignore[return-value]
