"""The documentation's site: `python -m sphinx -W -b html docs docs/_build/html`.

Nothing is fetched from the network, unless PXPREP_INTERSPHINX=1 or Read the Docs asks for links to
the pages of other packages. Pages are Markdown that can be read on a code host, too. The notebooks
of `examples/` are executed, and pictures that pages ask for are drawn by the scripts in `images/`.
"""

import os
import re
import runpy
import shutil
from importlib.util import find_spec
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
    "sphinx.ext.viewcode",
    "sphinx_autosummary_accessors",
]
# In the extra `docs`; a site without it lacks only the buttons that copy code.
if find_spec("sphinx_copybutton"):
    extensions.append("sphinx_copybutton")
    copybutton_exclude = ".linenos, .gp, .go"
if {"READTHEDOCS", "PXPREP_INTERSPHINX"} & os.environ.keys():
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
        "dask": ("https://docs.dask.org/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "spatialdata": ("https://spatialdata.scverse.org/en/stable", None),
    }
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
autosummary_context = {"functions": pxprep.ops.__all__}
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

# `<!-- picture: NAME -->`, perhaps with `| what it shows`: nothing is seen of it in the repository.
PICTURE = re.compile(r"<!-- picture: (\w+)(?: \| (.*?))? -->", re.DOTALL)
DRAWN = here / "_pictures"
SCRIPTS = [runpy.run_path(str(here / "images" / f"{name}.py")) for name in ("steps", "choosing")]

# How pages and notebooks call each other in the repository, and here.
MOVED = {
    "](../docs/": "](../",
    "](../examples/": "](examples/",
    "](../CONTRIBUTING.md": "](contributing.md",
}


def follow_links(app, docname, source):
    """Let links that work in the repository work on the site."""
    for there, here in MOVED.items():
        source[0] = source[0].replace(there, here)


def draw_pictures(app):
    """Draw what pages ask for."""
    DRAWN.mkdir(exist_ok=True)
    for script in SCRIPTS:
        script["main"](DRAWN)


def put_pictures(app, docname, source):
    """Show a picture where a page asks for it."""

    def shown(found):
        name, text = found.groups()
        text = " ".join(text.split()) if text else SCRIPTS[0]["PICTURES"][name].words
        return f"![{text}](_pictures/{name}.png)"

    source[0] = PICTURE.sub(shown, source[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", draw_pictures)
    app.connect("source-read", put_pictures)
    app.connect("source-read", follow_links)
