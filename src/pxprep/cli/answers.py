"""How a command answers: with words or one JSON document; and whether it shows progress."""

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from .messages import printable

# An answer in JSON, or an object in it.
Document = Mapping[str, Any]


@dataclass(frozen=True)
class AnswerOptions:
    """How a command answers."""

    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON document.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, and no result in words.")] = (
        False
    )

    def give(self, document: Document, words: str) -> None:
        """Print a result on stdout."""
        if self.as_json:
            from ..store.json import encode_floats

            typer.echo(json.dumps(encode_floats(document), indent=2, allow_nan=False))
        elif not self.quiet:
            typer.echo(printable(words))

    @property
    def has_progress(self) -> bool:
        """Whether there is somebody to look at a bar."""
        return not self.quiet and sys.stderr.isatty()


def only_answers_on_stdout() -> AbstractContextManager[object]:
    """Whatever else is printed meanwhile, also by other packages, goes to stderr."""
    return redirect_stdout(sys.stderr)
