"""What a command answers: words for people, or one JSON document; and whether it shows progress."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

import typer

from .messages import printable


def answer(document: Mapping[str, object], words: str, *, as_json: bool, quiet: bool) -> None:
    """Print a result on stdout."""
    if as_json:
        from ..store.json import encode_floats

        typer.echo(json.dumps(encode_floats(document), indent=2, allow_nan=False))
    elif not quiet:
        typer.echo(printable(words))


@contextmanager
def only_answers_on_stdout() -> Iterator[None]:
    """Whatever else is printed meanwhile, also by other packages, goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield


def shows_progress(quiet: bool) -> bool:
    """Whether there is somebody to look at a bar."""
    return not quiet and sys.stderr.isatty()
