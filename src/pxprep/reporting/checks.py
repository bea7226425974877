"""What is checked before a run, so that its report does not fail at the end."""

import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import ParameterError, spelled
from ..images.parameters import parse_path

NEEDED = {"jinja2": "Jinja2", "matplotlib": "Matplotlib"}


def check_file(file: object, parameter: str = "file") -> Path:
    """The path of a report that can be written; raises ParameterError if it cannot.

    Its folder must exist; a file that is there is replaced.
    """
    path = parse_path(file, parameter, "an HTML file")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ParameterError(f"{spelled(parameter)} must end in .html, got {str(file)!r}")
    if path.is_dir():
        raise ParameterError(f"{spelled(parameter)} must be a file, got the folder {str(file)!r}")
    if not path.parent.is_dir():
        raise ParameterError(
            f"{spelled(parameter)} must lie in a folder that exists: {str(path.parent)!r} "
            f"does not, got {str(file)!r}"
        )
    if not os.access(path.parent, os.W_OK):
        raise ParameterError(
            f"{spelled(parameter)} must lie in a folder that can be written to, got {str(file)!r}"
        )
    missing = [name for package, name in NEEDED.items() if find_spec(package) is None]
    if missing:
        raise ParameterError(
            f"{spelled(parameter)} needs {' and '.join(missing)}, not installed: "
            "pip install 'pxprep[report]'"
        )
    return path


def check_title(title: object) -> str | None:
    """The heading of a report; None for the usual one."""
    if title is not None and not isinstance(title, str):
        raise ParameterError(f"title must be a string, got {title!r}")
    return title
