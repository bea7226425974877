"""Numba kernels on NumPy arrays: short loops that release the GIL and are cached on disk."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from threading import RLock
from typing import Any, TypeVar

from ...errors import warn

Function = TypeVar("Function", bound=Callable[..., Any])

# A numpy.uint64, in a loop's index: of a signed one Numba would ask whether it counts from the end,
# and could not vectorise the loop.
Unsigned = Any

_LOCK = RLock()


class KernelPart:
    """A function that only kernels call: it is compiled when one of them is.

    It has no wrapper for calls from Python, and is not cached by itself: each kernel's cached code
    holds the parts that it calls.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    @cached_property
    def _jitted(self) -> Any:
        return _jit(self._function, no_cpython_wrapper=True)


class Kernel(KernelPart):
    """A function that is compiled when it is first called.

    Numba itself is imported then, which takes longer than most of this package. Compiled code is
    cached beside this package or else in the user's cache folder.

    What a kernel takes to compile grows with the arrays that it makes (a slice is one), and with
    its parts. So rather index than slice. A `KernelPart` is for what is needed twice, and for a
    loop over arrays in a loop, which is vectorised better in a function of its own.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        update_wrapper(self, function)

    def __call__(self, *arguments: object) -> Any:
        """Run it."""
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Any:
        """The function that Numba has made of it, and of the parts that it calls."""
        with _LOCK:
            # Numba cannot call a `KernelPart`: those that this one calls become Numba's functions,
            # as far as they are globals of its own module. So a kernel must not call one of another
            # module that calls parts itself.
            names = self._function.__globals__
            for name, value in list(names.items()):
                if type(value) is KernelPart:
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


def _jit(function: Callable[..., object], **options: Any) -> Any:
    """What Numba makes of a function.

    `error_model="numpy"` lets divisions vectorise. There is no `fastmath` and no `parallel`: every
    pixel sees the same operations in the same order wherever it lies in a block, and the threads
    are those of the caller. C never calls it, so it needs no wrapper for that.
    """
    from numba import njit

    options["no_cfunc_wrapper"] = True
    return njit(nogil=True, error_model="numpy", **options)(function)


def kernel(function: Function) -> Function:
    """Make a kernel of a function; type checkers take it for the function itself."""
    return Kernel(function)  # type: ignore[return-value]


def part(function: Function) -> Function:
    """Make a part of kernels of a function."""
    return KernelPart(function)  # type: ignore[return-value]
