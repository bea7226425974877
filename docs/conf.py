"""The documentation's site: `python -m sphinx -W -b html docs docs/_build/html`.

Nothing is fetched from the network. Pages are Markdown that can be read on a code host, too; the
notebooks of `examples/` are executed.
"""

import shutil
from pathlib import Path

import sphinx_autosummary_accessors

import pxprep  # registers `.pxprep`, whose methods the API pages list

project = "pxprep"
author = "The pxprep developers"
copyright = author  # noqa: A001 - Sphinx's name
release = pxprep.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_autosummary_accessors",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
# Indented blocks hold shell commands.
highlight_language = "none"

html_theme = "furo"
html_title = "pxprep"
html_static_path = ["_static"]
html_css_files = ["pxprep.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
# Docstrings say what types mean; written-out aliases would bury the signatures.
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# `name` in a docstring is a link where something has that name.
default_role = "py:obj"

# Sphinx reads nothing outside its folder.
here = Path(__file__).parent
shutil.rmtree(here / "examples", ignore_errors=True)
shutil.copytree(here.parent / "examples", here / "examples")

# How pages and notebooks call each other in the repository, and here.
MOVED = {
    "](../docs/": "](../",
    "](../examples/": "](examples/",
    "](../CHANGELOG.md": "](changelog.md",
    "](../README.md": "](index.md",
}


def follow_links(app, docname, source):
    """Let links that work in the repository work on the site."""
    for there, here in MOVED.items():
        source[0] = source[0].replace(there, here)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", follow_links)
