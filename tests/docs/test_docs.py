"""The documentation is complete and leads somewhere; `.ci/run` builds the site itself."""

import importlib
import json
import re
from pathlib import Path

import pytest

import pxprep
from pxprep.accessors import Accessor

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# What autosummary lists in the API page: a name on an indented line of its own.
LISTED = set(re.findall(r"^   ([A-Za-z][\w.]+)$", (DOCS / "api.rst").read_text(), re.M))
# Modules whose `__all__` is public, beside the package's own.
MODULES = ("datasets", "engine", "errors", "io", "layers", "ops", "plot", "reporting", "steps")


def public_names():
    """Every public class and function as the API page has it, relative to the package."""
    yield from set(pxprep.__all__) - {*MODULES, "quantile", "__version__"}
    for name in MODULES:
        module = importlib.import_module(f"pxprep.{name}")
        for member in module.__all__:
            if callable(getattr(module, member)) and (
                name == "ops" or member not in pxprep.__all__
            ):
                yield f"{name}.{member}"


def test_every_public_name_is_in_the_api():
    assert set(public_names()) <= LISTED


def test_every_accessor_method_is_in_the_api():
    methods = [name for name in dir(Accessor) if not name.startswith("_")]
    assert {f"DataArray.pxprep.{name}" for name in methods} <= LISTED


def markdown(path):
    """The text of a page, or of a notebook's text cells."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def headings(path):
    """The anchors of a page's headings, as code hosts and the site make them."""
    for heading in re.findall(r"^#+ (.+)$", markdown(path), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *PAGES, *NOTEBOOKS]:
        for target in re.findall(r"\]\(([^)\s]+)\)", markdown(path)):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), (path.name, target)
            assert not anchor or anchor in set(headings(there)), (path.name, target)


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text()
    entries = "\n".join(re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL)).split()
    pages = {path.stem for path in PAGES} - {"index"}
    assert pages | {f"examples/{path.stem}" for path in NOTEBOOKS} <= set(entries)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), cell["id"]


@pytest.mark.parametrize("name", ["index", "migrate-from-pixie"])
def test_snippets_of_pages_run(name):
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL):
        exec(compile(snippet, name, "exec"), names)
    assert set(names["clean"]) == {"fov0", "fov1", "fov2"}
