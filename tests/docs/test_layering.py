"""The rules of docs/design.md: which module may import which, and what stays out."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pxprep

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pxprep"
DESIGN = (ROOT / "docs/design.md").read_text()
ROW = re.compile(r"^\| `([\w/]+?)(?:\.py|/)` \|", re.MULTILINE)
# The highest first: a wing is a folder, or a module beside the folders.
WINGS = ROW.findall(DESIGN.split("## Wings")[1].split("### ")[0])
# By wing that is a folder, the modules that the page lists in the first cells of its rows.
LISTED = {
    section.split("/")[0]: re.findall(
        r"`([\w/]+?)(?:\.py|/)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    )
    for section in re.split(r"^### `", DESIGN, flags=re.MULTILINE)[1:]
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def name_of(path):
    """A module as a dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def wing(path):
    return name_of(path).split(".")[0]


@cache
def imports(path):
    """(module of pxprep or None, other package or None) of all imports in a file."""
    return list(imported_by(path))


def imported_by(path):
    folder = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                whole = [*base, alias.name]
                is_module = PACKAGE.joinpath(*whole).with_suffix(".py").exists()
                yield ".".join(whole if is_module or not base else base), None
        elif isinstance(node, ast.ImportFrom):
            yield None, node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield None, alias.name.split(".")[0]


def test_every_wing_has_its_line_in_the_design():
    assert sorted({wing(path) for path in MODULES}) == sorted(WINGS)


def test_every_module_has_its_line_in_the_design():
    for folder in [name for name in WINGS if (PACKAGE / name).is_dir()]:
        there = {name_of(path).split(".")[1] for path in MODULES if wing(path) == folder}
        assert sorted(LISTED[folder]) == sorted(there)


def test_modules_import_only_from_wings_below():
    packages = [folder / "__init__.py" for folder in PACKAGES if folder != PACKAGE]
    for path in [*MODULES, *packages]:
        below = WINGS[WINGS.index(wing(path)) :]
        used = {imported.split(".")[0] for imported, _ in imports(path) if imported}
        assert used <= {*below, "__version__"}, path


def test_no_module_imports_in_a_circle():
    graph = {
        name_of(path): {module for module, _ in imports(path) if module} - {name_of(path)}
        for path in MODULES
    }
    TopologicalSorter(graph).prepare()


def test_no_module_has_a_name_that_hides_it():
    assert not [path for path in MODULES if path.stem.startswith("_")]


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_no_function_has_the_name_of_a_module_beside_it(folder):
    handed_on = getattr(module_of(folder), "__all__", [])
    modules = {p.stem for p in folder.glob("*.py")} | {
        p.name for p in PACKAGES if p.parent == folder
    }
    functions = {name for name in handed_on if callable(getattr(module_of(folder), name))}
    assert not functions & modules


def module_of(folder):
    if folder.name == "cli":
        pytest.importorskip("typer")
    return importlib.import_module(".".join(folder.relative_to(PACKAGE.parent).parts))


def test_the_package_shows_what_is_public_and_nothing_else():
    assert dir(pxprep) == sorted(pxprep.__all__)
    assert not {*pxprep.steps.__all__, *pxprep.errors.__all__} & {*vars(pxprep)} - {
        "PxprepError",
        "PxprepWarning",
    }


@pytest.mark.parametrize(
    ("package", "wings"),
    [
        ("numba", {"engine"}),
        ("dask", {"engine", "io"}),
        ("spatialdata", {"cli", "io", "layers", "store"}),
        ("matplotlib", {"plot"}),
        ("jinja2", {"reporting"}),
        ("PIL", {"reporting"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("tqdm", {"engine"}),
        ("pandas", {"pipeline", "plot", "reporting", "tables"}),
        ("pyarrow", {"tables"}),
        ("anndata", {"tables"}),
        ("tifffile", {"io"}),
        ("readimc", {"io"}),
    ],
)
def test_packages_stay_in_their_wings(package, wings):
    users = {wing(path) for path in MODULES if package in {other for _, other in imports(path)}}
    assert users <= wings


def test_no_module_is_long_and_none_asserts():
    for path in MODULES:
        text = path.read_text()
        # What is generated is as long as the docstrings that it repeats.
        assert len(text.splitlines()) < 600 or text.startswith("# Made by "), path
        if "assert" in text:
            asserts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]
            assert not asserts, path


def test_the_package_works_where_nothing_can_be_cached(tmp_path):
    """As in a container whose files are read-only: Numba finds no folder for its cache."""
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as record:\n"
        "    warnings.simplefilter('always')\n"
        "    import pxprep\n"
        "    assert record == []\n"
        "    assert pxprep.datasets.tissue(size=16)['fov0'].pxprep.quantile(50).size == 10\n"
        "assert any('NUMBA_CACHE_DIR' in str(w.message) for w in record), record\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
