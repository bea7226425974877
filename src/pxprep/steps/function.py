"""A function of the user's as a step."""

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

from ..aliases import Json
from ..errors import ParameterError
from .base import Step

__all__ = ["Function"]

# Of an image, and whatever else.
ImageFunction = Callable[..., xr.DataArray]


@dataclass(frozen=True)
class Function(Step):
    """Call any function that takes an image and returns one of the same shape and channels.

    Parameters
    ----------
    function
        Called with the image, an `xarray.DataArray` that may be lazy.

    Notes
    -----
    JSON keeps the step's name, not the function's code: see ``functions`` of
    `Pipeline.from_json`.
    """

    kind = "function"
    function: ImageFunction

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, type):
            raise ParameterError(
                f"a step must be a Step or a function image -> image, got {self.function!r}"
            )

    @property
    def name(self) -> str:
        """The function's own name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def apply(self, image: xr.DataArray, numbers: xr.Dataset) -> xr.DataArray:
        """Call the function."""
        return self.function(image)

    def to_dict(self) -> Json:
        """The kind of step only: code is not kept."""
        return {"name": self.kind, "configuration": {}}
