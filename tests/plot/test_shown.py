"""Figures are shown: below the cell of a notebook, by `plt.show()` in a script; and saved."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from pxprep import plot
from pxprep.plot.shown import AxesArray, off_screen

CALLS = {
    "channels": lambda image, after, fitted: plot.channels(image, ["DAPI"]),
    "compare": lambda image, after, fitted: plot.compare(image, after, ["DAPI"]),
    "composite": lambda image, after, fitted: plot.composite(image, ["DAPI"]),
    "histogram": lambda image, after, fitted: plot.histogram(image, channels=["DAPI"]),
    "mask": lambda image, after, fitted: plot.mask(after),
    "cohort": lambda image, after, fitted: plot.cohort(fitted),
}


@pytest.mark.parametrize("name", CALLS)
def test_all_figures_come_as_the_same_kind(name, image, after, fitted, tmp_path):
    axes = CALLS[name](image, after, fitted)
    assert isinstance(axes, AxesArray)
    assert pyplot.get_fignums() == [axes.figure.number]
    assert {axis.figure for axis in axes.flat} == {axes.figure}
    axes.save(tmp_path / "figure.png", dpi=50)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert repr(axes).endswith("Axes of a figure: .figure, .save(path)>")


def test_saved_in_the_home_folder(image, monkeypatch, tmp_path):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    plot.mask(image).save("~/figure.png")
    assert (tmp_path / "figure.png").exists()


def test_given_axes_make_no_figure(image):
    given = Figure().subplots(1, 1)
    assert plot.channels(image, ["DAPI"], axes=np.array([[given]])).figure is given.figure
    assert pyplot.get_fignums() == []


def test_off_screen_nobody_knows_of_it(image):
    with off_screen():
        assert plot.channels(image, ["DAPI"]).figure.get_size_inches().all()
    assert pyplot.get_fignums() == []


def test_scripts_show_them():
    script = (
        "import matplotlib; matplotlib.use('agg')\n"
        "from matplotlib import pyplot\n"
        "from pxprep.datasets import tissue\n"
        "tissue(size=32)['fov0'].pxprep.plot.channels()\n"
        "print(len(pyplot.get_fignums()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_notebooks_show_them_once(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib_inline")
    cell = (
        "import pxprep\nfrom pxprep.datasets import tissue\n"
        "tissue(size=32)['fov0'].pxprep.plot.channels()"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    client.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"]
    assert "image/png" in outputs[0].data
