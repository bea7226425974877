"""What is checked before a run, so that its report does not fail at the end."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import ParameterError, spelled
from ..images.parameters import parse_new_file

ENDINGS = (".html", ".htm")
NEEDED = {"jinja2": "Jinja2", "matplotlib": "Matplotlib"}


def check_file(file: object, parameter: str = "file") -> Path:
    """The path of a report that can be written, also over another; raises if it cannot."""
    path = parse_new_file(file, parameter, "an HTML file", may_replace=True, endings=ENDINGS)
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
