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
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level < depth and node.level:
            continue  # within its room
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
    above = ROOMS[: ROOMS.index(room(path))]
    own = {imported for imported, _ in imports(path) if imported}
    assert own <= {*above, "__version__"}


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("numba", {"_kernels"}),
        ("dask", {"_backends", "_graphs", "_lazy", "_sources", "_threads", "io"}),
        (
            "spatialdata",
            {
                "_backing",
                "_contents",
                "_layer_masks",
                "_layers",
                "_writing",
                "provenance",
                "spatialdata",
                "layer_reports",
                "io",
                "cli",
            },
        ),
        ("matplotlib", {"plot"}),
        ("jinja2", {"_report"}),
        ("PIL", {"_report"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("tqdm", {"_progress"}),
        ("pandas", {"_cohort_review", "pipeline", "plot", "_report", "tables"}),
        ("pyarrow", {"tables"}),
        ("anndata", {"tables"}),
        ("tifffile", {"io"}),
        ("readimc", {"io"}),
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


def test_import_works_where_nothing_can_be_cached(tmp_path):
    """As in a container whose files are read-only: Numba finds no folder for its cache."""
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as record:\n"
        "    warnings.simplefilter('always')\n"
        "    import pxprep\n"
        "assert any('NUMBA_CACHE_DIR' in str(w.message) for w in record), record\n"
        "assert pxprep.datasets.tissue(size=16)['fov0'].pxprep.quantile(50).size == 10\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_is_light():
    code = (
        "import sys, pxprep; "
        "heavy = {'spatialdata', 'matplotlib', 'distributed', 'typer', 'zarr', 'anndata', 'PIL'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
