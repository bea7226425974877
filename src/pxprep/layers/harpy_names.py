"""Refuses calls that use the names of harpy 0.4 and 0.5, and says the names here."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from ..errors import ParameterError

P = ParamSpec("P")
R = TypeVar("R")

NAMES = {
    "image_name": "img_layer",
    "output_image_name": "output_layer",
    "p": "q",
    "p_sum": "q_sum",
    "p_post": "q_post",
    "cast_dtype": "dtype",
}
GONE = {"persist_intermediate": "memory says how much of the input may be held"}


def refusing_harpy_names(function: Callable[P, R]) -> Callable[P, R]:
    """The function with an error that says what harpy's names are here, not just "unexpected"."""

    @wraps(function)
    def refusing(*args: P.args, **kwargs: P.kwargs) -> R:
        renamed = [f"{NAMES[name]} for {name}" for name in kwargs if name in NAMES]
        gone = [f"no {name} ({GONE[name]})" for name in kwargs if name in GONE]
        if renamed or gone:
            raise ParameterError(
                "parameters must have their names here, which are sparrow's, got those of harpy: "
                f"write {', '.join([*renamed, *gone])}"
            )
        return function(*args, **kwargs)

    return refusing
