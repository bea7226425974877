"""Axes of a TIFF: which of them are channels, depth, rows and columns of an image.

Letters are tifffile's: C channels, Z depth, T time, S samples of a pixel, I pages, Q unknown.
"""

from collections.abc import Collection, Sequence
from math import prod

from ..errors import ImageError, ParameterError, spelled
from .panels import names_or_panel

# What is channels if it is the only axis beside depth, rows and columns.
CHANNEL_AXES = "CSIQ"
KNOWN = "CZYX"


def parse_axes(value: object) -> str | None:
    """What the user says that the axes are: C (several times, too), Z, Y and X."""
    if value is None:
        return None
    letters = value.upper() if isinstance(value, str) else ""
    if not set("YX") <= set(letters) <= set(KNOWN) or any(letters.count(one) > 1 for one in "ZYX"):
        raise ParameterError(
            f"{spelled('axes')} must name the axes of the file in their order: C for channels "
            f"(of several axes, too, as 'CCYX'), Z, Y and X, got {value!r}"
        )
    return letters


def meanings(
    axes: str,
    sizes: Sequence[int],
    asked: str | None,
    channel_counts: Collection[int],
    what: str,
) -> str:
    """What each axis of a file is: C, Z, Y or X; of axes of length 1, what the file says.

    Parameters
    ----------
    axes, sizes
        As the file says.
    asked
        What the user says.
    channel_counts
        The numbers of channels that fit the names the user gave; empty if there are none.
    what
        The image, for messages.
    """
    long = [n for n, (axis, size) in enumerate(zip(axes, sizes, strict=True)) if size > 1]
    if asked is not None:
        letters = as_asked(axes, sizes, asked)
        if letters is None:
            raise ImageError(
                f"{spelled('axes')} {asked!r} must name those of {what}, which has "
                f"{_told(axes, sizes)}"
            )
        return letters
    others = [n for n, axis in enumerate(axes) if n in long and axis not in "YX"]
    but_depth = [n for n in others if axes[n] != "Z"]
    channels = but_depth
    is_natural = len(but_depth) <= 1 and all(axes[n] in CHANNEL_AXES for n in but_depth)
    count, count_all = (prod(sizes[n] for n in some) for some in (but_depth, others))
    if count not in channel_counts and count_all in channel_counts:
        channels = others
    elif not is_natural and count not in channel_counts:
        raise ImageError(f"{what} has {_told(axes, sizes)}: {_remedy(axes, others, count_all)}")
    return "".join("C" if n in channels else axis for n, axis in enumerate(axes))


def as_asked(axes: str, sizes: Sequence[int], asked: str) -> str | None:
    """What each axis of a file is, as the user says; None if that does not fit the file."""
    if len(asked) == len(axes):
        return asked
    # Axes of length 1 may be left out, but for rows and columns.
    kept = [n for n, axis in enumerate(axes) if sizes[n] > 1 or axis in "YX"]
    if len(asked) != len(kept):
        return None
    letters = ["Q"] * len(axes)
    for n, letter in zip(kept, asked, strict=True):
        letters[n] = letter
    return "".join(letters)


def _told(axes: str, sizes: Sequence[int]) -> str:
    told = ", ".join(f"{axis} {size}" for axis, size in zip(axes, sizes, strict=True))
    return f"the axes {told}"


def _remedy(axes: str, others: Sequence[int], n_channels: int) -> str:
    letters = [
        axis if axis in "YX" else "C" for n, axis in enumerate(axes) if n in others or axis in "YX"
    ]
    example = f"axes={''.join(letters)!r}"
    return (
        f"if these are channels, give {names_or_panel()} for all {n_channels}, in the "
        f"order of the file, or say what the axes are, as {spelled(example)}"
    )
