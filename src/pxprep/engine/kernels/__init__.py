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
    pixel sees the same operations in the same order wherever it lies in a block, and the threads
    are those of the caller.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: object) -> Any:
        """Run it."""
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Any:
        """The function that Numba has made of it, and of the kernels that it calls."""
        with _LOCK:
            # Numba cannot call a `Kernel`: those that this one calls become Numba's functions, as
            # far as they are globals of its own module. So a kernel must not call one of another
            # module that calls kernels itself.
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
    """Make a kernel of a function; type checkers take it for the function itself."""
    return Kernel(function)  # type: ignore[return-value]
