"""What the command says on stderr: one line for each error and warning, in words of its options."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer

from ..errors import PxprepWarning

# Options of parameters of the library that have another name here.
_NAMES_HERE = {
    "img_layer": "layer",
    "output_layer": "output",
    "channels": "channel",
    "channel_names": "panel",
    "images": "image",
    "acquisitions": "acquisition",
    "n_fovs": "fovs",
    "keep_outside": "drop_outside",
    "path": "write",
}


def as_option(parameter: str, options: Mapping[str, str]) -> str:
    """The option for a parameter of the library: ``--axes 'CYX'`` for ``axes='CYX'``.

    `options` are those of the command, by parameter. A parameter without an option stays as it is.
    """
    if parameter == "...":
        return "'*', as in '*=VALUE'"
    if parameter.startswith("pxprep.repair("):
        return f"pxprep repair {parameter.removeprefix('pxprep.repair(').removesuffix(')')}"
    name = re.split(r"[^A-Za-z0-9_]", parameter, maxsplit=1)[0]
    option = options.get(_NAMES_HERE.get(name, name))
    if option is None:
        return parameter
    value = re.sub("=(True|False)", "", parameter[len(name) :])
    return option + value.replace("=None", " none").replace("=", " ").rstrip()


def printable(text: str) -> str:
    """`text` with names in it that could not be printed, or would do something to the terminal."""
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in text
    )


def say(message: str, color: str | None = None) -> None:
    """One line on stderr."""
    line = printable(" ".join(message.splitlines()))
    typer.secho(f"pxprep: {line}", err=True, fg=color)


def say_error(error: BaseException) -> None:
    """Say what went wrong, and what is left."""
    say("; ".join([str(error), *_notes(error)]), "red")


def say_interrupted(interrupt: KeyboardInterrupt) -> None:
    """Say that the user ended the command, and what is left."""
    typer.echo(err=True)  # the terminal shows ^C, perhaps behind a bar
    say("; ".join(["interrupted", *_notes(interrupt)]), "red")


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


@contextmanager
def printing_escapes() -> Iterator[None]:
    """Letters that the terminal cannot show are printed as escapes, in place of an error."""
    before = {
        stream: stream.errors
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, TextIOWrapper)
    }
    for stream in before:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in before.items():
            stream.reconfigure(errors=errors)


@contextmanager
def only_own_messages() -> Iterator[None]:
    """Warnings of pxprep are a line each; what other packages warn of is for programmers."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        warnings.simplefilter("default", PxprepWarning)
        show = warnings.showwarning

        def show_in_a_line(
            message: Warning | str, category: type[Warning], *where: Any, **how: Any
        ) -> None:
            if issubclass(category, PxprepWarning):
                say(f"warning: {message}", "yellow")
            else:
                show(message, category, *where, **how)

        warnings.showwarning = show_in_a_line
        try:
            yield
        finally:
            logging.disable(disabled)
