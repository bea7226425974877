"""The rules of docs/design.md: which module may import which, and what stays out."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "pxprep"
ROOMS = re.findall(r"^\| `([\w/]+?)(?:\.py|/)` \|", (ROOT / "docs/design.md").read_text(), re.M)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(room of pxprep or None, other package or None) of all imports in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = (node.module or "").split(".")[0]
            for alias in node.names:
                yield module or alias.name, None
        elif isinstance(node, ast.ImportFrom):
            yield None, node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield None, alias.name.split(".")[0]


def test_every_module_has_its_line_in_the_design():
    assert sorted({room(path) for path in MODULES}) == sorted(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_import_only_from_rooms_above(path):
    above = ROOMS[: ROOMS.index(room(path)) + (path.parent != PACKAGE)]
    own = {imported for imported, _ in imports(path) if imported}
    assert own <= {*above, "__version__"}


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("numba", {"_kernels"}),
        ("dask", {"_backends"}),
        ("spatialdata", {"spatialdata", "cli"}),
        ("matplotlib", {"plot"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("tqdm", {"_progress"}),
    ],
)
def test_packages_stay_in_their_rooms(package, rooms):
    users = {room(path) for path in MODULES if package in {other for _, other in imports(path)}}
    assert users <= rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_is_long_and_none_asserts(path):
    text = path.read_text()
    assert len(text.splitlines()) < 600
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]


def test_import_is_light():
    code = (
        "import sys, pxprep; "
        "heavy = {'spatialdata', 'matplotlib', 'distributed', 'typer', 'zarr'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
