"""What pxprep raises and warns."""

import difflib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = [
    "ChannelError",
    "ImageError",
    "LayerError",
    "ParameterError",
    "PxprepError",
    "PxprepWarning",
    "StoreError",
]


class PxprepError(Exception):
    """Base class of every error that pxprep raises on purpose."""


class ParameterError(PxprepError, ValueError):
    """A parameter breaks its rule; the message names the parameter, the rule and the value."""


class ChannelError(PxprepError, ValueError):
    """Channels are missing, unknown or ambiguous; the message lists them all."""


class ImageError(PxprepError, ValueError):
    """What was given is not an image that pxprep can work on."""


class LayerError(PxprepError, ValueError):
    """A layer of a SpatialData object is missing, taken, or not an image."""


class StoreError(PxprepError):
    """A store cannot be read or written; after a failed write the message says what is on disk."""


class PxprepWarning(UserWarning):
    """Something in the data or the parameters that the user should know of."""


_SPELLING: ContextVar[Callable[[str], str]] = ContextVar("spelling", default=str)


def spelled(parameter: str) -> str:
    """The words for a parameter in a message, for example ``sigma['CD3']``.

    In Python they are the parameter as given. The command puts its option in its place
    (``--overwrite``); a parameter without an option stays as given.
    """
    return _SPELLING.get()(parameter)


@contextmanager
def spelling(spell: Callable[[str], str]) -> Iterator[None]:
    """A context in which `spell` makes the words for parameters in messages."""
    token = _SPELLING.set(spell)
    try:
        yield
    finally:
        _SPELLING.reset(token)


def type_name(cls: type) -> str:
    """A type in a message, with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def listed(parts: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """The first parts of a list in a message, and how many more there are."""
    more = len(parts) - most
    # Before "and" stands no comma, but a semicolon does.
    rest = f"{separator.strip(', ')} and {more:,} more" if more > 0 else ""
    return separator.join(parts[:most]) + rest


def listed_names(names: Iterable[object], most: int = 20) -> str:
    """The first names in a message, in quotes, and how many more there are; "none" for none."""
    return listed(list(map(repr, names)), most) or "none"


def did_you_mean(unknown: Sequence[object], known: Iterable[object]) -> str:
    """The known names most like the unknown ones, whatever their case, as a question; or ""."""
    by_lower = {str(name).lower(): name for name in known}
    near: list[object] = []
    for name in map(str, unknown):
        # Channels that share a label are told apart: "DAPI (1)", "DAPI (3)".
        told_apart = re.compile(rf"{re.escape(name.lower())} \(\d+\)")
        sharing = [lower for lower in by_lower if told_apart.fullmatch(lower)]
        close = sharing or difflib.get_close_matches(name.lower(), list(by_lower), n=1)
        near += [by_lower[lower] for lower in close]
    return f" (did you mean {listed_names(dict.fromkeys(near))}?)" if near else ""


def warn(message: str) -> None:
    """Issue a PxprepWarning that points at the first caller outside this package."""
    # Code that `dataclass` generates (`__init__`) has the file name "<string>".
    inside = (f"{Path(__file__).parent}{os.sep}", "<string>")
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, PxprepWarning, stacklevel=level + 1)
