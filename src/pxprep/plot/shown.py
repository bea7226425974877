"""What figures come as: their axes, in an array that a notebook shows as the figure."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images.parameters import parse_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
_OFF_SCREEN: ContextVar[bool] = ContextVar("off_screen", default=False)


class AxesArray(np.ndarray):
    """The Matplotlib Axes of one figure.

    A notebook shows the figure below the cell that made it, a script by ``plt.show()``.
    """

    @property
    def figure(self) -> "Figure":
        """The figure."""
        return self.flat[0].figure

    def save(self, path: str | Path, **options: Any) -> None:
        """Write the figure to a file, as `matplotlib.figure.Figure.savefig`."""
        self.figure.savefig(parse_path(path, "path", "a picture"), **options)

    def _ipython_display_(self) -> None:
        """Nothing but the figure itself, which pyplot shows."""

    def __repr__(self) -> str:
        return f"<{' x '.join(map(str, self.shape))} Axes of a figure: .figure, .save(path)>"


def as_axes_array(axes: object) -> AxesArray:
    """One of the Axes, or an array of them, as an array of their figure."""
    return np.atleast_1d(np.asarray(axes, object)).view(AxesArray)


@contextmanager
def off_screen() -> Iterator[None]:
    """Figures that are made meanwhile are for files alone: nothing shows them."""
    token = _OFF_SCREEN.set(True)
    try:
        yield
    finally:
        _OFF_SCREEN.reset(token)


def new_figure(width: float, height: float) -> "Figure":
    """A figure of so many inches; pyplot, and so a notebook, knows of it unless `off_screen`."""
    if _OFF_SCREEN.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), dpi=DPI)
    from matplotlib import pyplot

    return pyplot.figure(figsize=(width, height), dpi=DPI)
