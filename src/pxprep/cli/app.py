"""All commands together, and how they end."""

import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pxprep_command import INTERRUPTED, interrupt_behind

from ..errors import PxprepError, spelling
from .bundling import spread
from .demo import demo
from .export import export
from .fit import apply, fit
from .import_ import import_
from .inspect_store import inspect
from .messages import (
    as_option,
    only_own_messages,
    printing_escapes,
    say,
    say_error,
    say_interrupted,
)
from .pipeline import pipeline
from .repair import repair
from .run import run

FAILED, BUG = 1, 70
EXIT_CODES = (
    f"Exit codes: 0 done; {FAILED} an error that one line tells; 2 wrong usage; {BUG} an error "
    f"that should not happen, with a traceback; {INTERRUPTED} interrupted (Ctrl-C)."
)


class Command(TyperCommand):
    """A command: its messages call parameters as its options, its help gives switches no type."""

    def get_params(self, ctx: Any) -> Any:
        """Arguments and options."""
        return _without_types_of_switches(super().get_params(ctx))

    def invoke(self, ctx: Any) -> object:
        """Run it."""
        names = {param.name: param.opts[0] for param in self.params}
        options = {name: option for name, option in names.items() if option.startswith("--")}
        with spelling(partial(as_option, options=options)):
            return super().invoke(ctx)


class Commands(TyperGroup):
    """Commands that end with a line about what is left when the user interrupts them."""

    def get_params(self, ctx: Any) -> Any:
        """Options before the command."""
        return _without_types_of_switches(super().get_params(ctx))

    def invoke(self, ctx: Any) -> object:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            say_interrupted(interrupt)
            raise SystemExit(INTERRUPTED) from interrupt


def _without_types_of_switches(options: Any) -> object:
    """The options of a command, without ``<bool>`` in the help of its switches."""
    for option in options:
        if getattr(option, "is_flag", False) and option.metavar is None:
            option.metavar = ""
    return options


app = typer.Typer(
    cls=Commands,
    help="Prepare multiplexed tissue images for pixel clustering.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# The commands, in the order in which the help lists them, and the examples in the help of each.
EXAMPLES: dict[Callable[..., None], list[str]] = {
    demo: ["pxprep demo", "pxprep demo folder --fovs 6 --size 512"],
    import_: [
        "pxprep import mibi study.zarr",
        "pxprep import slide.ome.tiff study.zarr --channel DAPI --channel CD3 --scale-factors 2",
    ],
    inspect: ["pxprep inspect study.zarr", "pxprep inspect study.zarr --json"],
    run: [
        "pxprep run study.zarr --layer 'fov*' --output '{layer}_clean' --report study.html",
        "pxprep run study.zarr --layer fov0 --output clean --sigma DAPI=0 --sigma '*=2'",
        "pxprep run study.zarr --layer fov0 --output own --pipeline steps.yaml --dry-run",
    ],
    fit: ["pxprep fit study.zarr --layer 'fov*' --output batch1.json"],
    apply: ["pxprep apply batch1.json next.zarr --layer 'fov*' --output '{layer}_clean'"],
    export: ["pxprep export study.zarr tiffs --layer '*_clean'"],
    pipeline: [
        "pxprep pipeline --sigma 1 --q-post none --write steps.yaml",
        "pxprep pipeline steps.yaml",
    ],
    repair: ["pxprep repair study.zarr"],
}
for _command, _examples in EXAMPLES.items():
    _name, _lines = _command.__name__.rstrip("_"), "\n\n".join(["Examples:", *_examples])
    app.command(_name, cls=Command, epilog=_lines)(spread(_command))


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"pxprep {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command and exit; see `EXIT_CODES`."""
    try:
        with only_own_messages(), printing_escapes():
            app(prog_name="pxprep")
    except BaseException as error:
        if (interrupt := interrupt_behind(error)) is None:
            sys.exit(_code_of(error))
        if not isinstance(error, SystemExit):  # else it has been said
            say_interrupted(interrupt)
        sys.exit(INTERRUPTED)


def _code_of(error: BaseException) -> str | int | None:
    """The exit code after an error; says what went wrong."""
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, PxprepError) or _is_not_written(error):
        say_error(error)
        return FAILED
    traceback.print_exception(error)
    name = type(error).__name__
    say(f"{name} should not happen here: please report it with the lines above", "red")
    return BUG


def _is_not_written(error: BaseException) -> bool:
    """Whether something could not be written, of which the system told."""
    number = getattr(error, "errno", None)
    if number is None:
        return False
    from ..store.files import WRITE_ERRORS

    return number in WRITE_ERRORS
