"""Pipelines in files of JSON: saved, and read again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ParameterError, PxprepError, StoreError, spelled
from ..images.parameters import parse_bool, parse_path
from ..store.files import replace_file

Parsed = TypeVar("Parsed")
# No JSON text of ours ends so: what does is a path.
ENDING = ".json"


def save(path: object, overwrite: object, to_json: Callable[[], str]) -> None:
    """Write the JSON text that `to_json` gives to a file, which then has all of it or is as it was.

    Raises
    ------
    ParameterError
        If `path` is no place for it, or a file is there and `overwrite` False.
    StoreError
        If it cannot be written.
    """
    may_replace = parse_bool(overwrite, "overwrite")
    place = parse_path(path, "path", "a JSON file")
    if place.suffix.lower() != ENDING or not place.parent.is_dir() or place.is_dir():
        raise ParameterError(
            f"path must be a file that ends in {ENDING}, in a folder that exists, got "
            f"{str(place)!r}"
        )
    if place.exists() and not may_replace:
        raise ParameterError(
            f"path {str(place)!r} exists already; {spelled('overwrite=True')} replaces it"
        )
    text = to_json()
    try:
        replace_file(place, text.encode())
    except OSError as error:
        raise StoreError(f"{str(place)!r} cannot be written: {error}") from error


def read(text: object, parse: Callable[[Any], Parsed]) -> Parsed:
    """What `parse` makes of JSON text, or of that in the file whose path is given.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    if not isinstance(text, Path) and not (isinstance(text, str) and text.lower().endswith(ENDING)):
        return parse(text)
    path = parse_path(text, "text", "a JSON file")
    try:
        held = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{str(path)!r} cannot be read: {error}") from error
    try:
        return parse(held)
    except PxprepError as error:
        error.args = (f"{str(path)!r}: {error}",)
        raise
