"""Numba kernels on NumPy arrays: short loops that release the GIL and are cached on disk."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from threading import RLock
from typing import Any, TypeVar

from ...errors import warn

Function = TypeVar("Function", bound=Callable[..., Any])

_LOCK = RLock()


class Part:
    """A function that kernels call, and only they: it is compiled when one of them is.

    It is compiled once for each set of types, without what calls from Python need, and not cached:
    the kernels that are hold it.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        update_wrapper(self, function)

    @cached_property
    def _jitted(self) -> Any:
        return _jit(self._function, no_cpython_wrapper=True)


class Kernel(Part):
    """A function that is compiled when it is first called.

    Numba itself is imported then, which takes longer than most of this package. Compiled code is
    cached beside this package or else in the user's cache folder.

    A kernel takes the shorter to compile, the fewer arrays it makes: a slice of an array is one.
    Where one function vectorises its loops only if its arrays are arguments, or where several need
    it, it is a `Part`.
    """

    def __call__(self, *arguments: object) -> Any:
        """Run it."""
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Any:
        """The function that Numba has made of it, and of the parts that it calls."""
        with _LOCK:
            # Numba cannot call a `Part`: those that this one calls become Numba's functions, as far
            # as they are globals of its own module. So a kernel must not call one of another module
            # that calls parts itself.
            names = self._function.__globals__
            for name, value in list(names.items()):
                if type(value) is Part:
                    names[name] = value._jitted
            return self._jitted

    @cached_property
    def _jitted(self) -> Any:
        try:
            return _jit(self._function, cache=True)
        except RuntimeError:  # Numba found no folder that it may write to
            warn(
                "compiled code cannot be kept: no folder for it can be written to, so every "
                "process compiles again; set NUMBA_CACHE_DIR to one that can"
            )
            return _jit(self._function)


def _jit(function: Callable[..., object], **options: bool) -> Any:
    """What Numba makes of a function.

    `error_model="numpy"` lets divisions vectorise. There is no `fastmath` and no `parallel`: every
    pixel sees the same operations in the same order wherever it lies in a block, and the threads
    are those of the caller. Only Python calls these functions, so they need no wrapper for C.
    """
    from numba import njit

    return njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)


def kernel(function: Function) -> Function:
    """Make a kernel of a function; type checkers take it for the function itself."""
    return Kernel(function)  # type: ignore[return-value]


def part(function: Function) -> Function:
    """Make of a function a part of the kernels that call it."""
    return Part(function)  # type: ignore[return-value]
