"""What the command says on stderr: one line for each error and warning, in words of its options."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer

from ..errors import PxprepWarning

# What parameters of the library are called here, where it is not their name with dashes.
_OPTIONS = {
    "img_layer": "--layer",
    "output_layer": "--output",
    "channels": "--channel",
    "channel_names": "--panel",
    "images": "--image",
    "acquisitions": "--acquisition",
    "images=": "--image",
    "acquisitions=": "--acquisition",
    "axes=": "--axes ",
    "crop=True": "--crop",
    "names_from=": "--names-from ",
    "overwrite=True": "--overwrite",
    "resume=True": "--resume",
    "pxprep.repair": "pxprep repair",
}
# Words that are nothing but parameters; a text in quotes is the user's.
_PARAMETERS = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<![\w.-])"
    r"(img_layer|output_layer|channel_names|q_sum|q_post|cap_max|norm_sum|scale_factors|"
    r"overwrite=True|resume=True|crop=True|images=|acquisitions=|axes=|names_from=|pxprep\.repair)(?![\w=])"
)
# Words that are parameters where a message begins to speak of one.
_SUBJECTS = re.compile(
    r"(?:^|(?<=: ))"
    r"(q|sigma|channels|panel|axes|images|acquisitions|chunks|dtype|pool|exclude|memory|compressor|overwrite|resume|wait)"
    r"(?=\[| must|: | needs| names| \(or)"
)


def as_options(message: str) -> str:
    """A message of the library in which parameters have the names of the command's options."""
    message = _PARAMETERS.sub(lambda found: _option(found[1]) if found[1] else found[0], message)
    return _SUBJECTS.sub(lambda found: _option(found[1]), message)


def _option(parameter: str) -> str:
    return _OPTIONS.get(parameter, "--" + parameter.replace("_", "-"))


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
    """What went wrong, and what is left."""
    say(as_options("; ".join([str(error), *_notes(error)])), "red")


def say_interrupted(interrupt: KeyboardInterrupt) -> None:
    """That the user ended the command, and what is left."""
    typer.echo(err=True)  # the terminal shows ^C, perhaps behind a bar
    say("; ".join(["interrupted", *_notes(interrupt)]), "red")


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


@contextmanager
def names_of_any_bytes() -> Iterator[None]:
    """What the terminal has no letters for is printed as an escape, and is no error."""
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

        def show_in_a_line(message: Any, category: type[Warning], *where: Any) -> None:
            if issubclass(category, PxprepWarning):
                say(f"warning: {as_options(str(message))}", "yellow")
            else:
                show(message, category, *where)

        warnings.showwarning = show_in_a_line  # type: ignore[assignment]
        try:
            yield
        finally:
            logging.disable(disabled)
