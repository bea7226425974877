"""Pipelines in files: saved, and read again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ..errors import ParameterError, PxprepError, StoreError
from ..images.parameters import parse_bool, parse_new_file, parse_path
from ..store.files import replace_file

Read = TypeVar("Read")
# JSON text never ends so: a text that does is a path.
JSON = ".json"
YAML = (".yaml", ".yml")


def save(path: object, overwrite: object, texts: Mapping[str, Callable[[], str]]) -> None:
    """Write one of the texts, that of the file's ending; the file has all of it or is as it was.

    Raises
    ------
    ParameterError
        If `path` is no place for it, or a file is there and `overwrite` False.
    StoreError
        If it cannot be written.
    """
    may_replace = parse_bool(overwrite, "overwrite")
    place = parse_new_file(path, "path", "a file", may_replace=may_replace, endings=texts)
    text = texts[place.suffix.lower()]()
    try:
        replace_file(place, text.encode())
    except OSError as error:
        raise StoreError(f"{str(place)!r} cannot be written: {error}") from error


def read(text: str | Path, parse: Callable[[str], Read]) -> Read:
    """What `parse` makes of JSON text, or of that in the file whose path is given.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    if not isinstance(text, Path) and not (isinstance(text, str) and text.lower().endswith(JSON)):
        return parse(text)
    return read_file(parse_path(text, "text", "a JSON file"), lambda held, _: parse(held))


def read_file(path: object, parse: Callable[[str, str], Read]) -> Read:
    """What `parse` makes of the text in a file, and of the file's ending.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    path = parse_path(path, "path", "a file")
    try:
        held = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{str(path)!r} cannot be read: {error}") from error
    try:
        return parse(held, path.suffix.lower())
    except PxprepError as error:
        error.args = (f"{str(path)!r}: {error}",)
        raise
