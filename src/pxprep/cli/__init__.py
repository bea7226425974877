"""The command `pxprep`: reads what was typed, calls the library, shows what came of it."""

try:
    import rich as rich
    import typer as typer
except ImportError as error:
    raise SystemExit("the command needs: pip install 'pxprep[cli]'") from error

from .app import main

__all__ = ["main"]
