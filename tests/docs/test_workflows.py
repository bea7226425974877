"""The examples for Snakemake, Nextflow and Docker: their commands are run as they stand there.

Snakemake itself and hadolint are run where they are installed, as by `.ci/run`; Nextflow is not.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from string import Formatter
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
pytest.importorskip("tifffile")
import spatialdata
import tifffile

import pxprep
from tiff_files import NAMES, write_fov

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / "examples" / "workflows"
FOVS = ("fov0", "fov1")


@pytest.fixture
def folder(tmp_path):
    """A folder with two fields of view in a folder whose name has a space."""
    rng = np.random.default_rng(7)
    for name in FOVS:
        values = rng.gamma(2, 40, (len(NAMES), 48, 40)).astype("u2")
        write_fov(tmp_path / "my images" / name, values=values)
    return tmp_path


def run(command, folder):
    """In bash as Snakemake and Nextflow have it, with this environment's `pxprep`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def check_results(folder, images, panel=None):
    """The store has the layers that the library makes, the TIFFs their bits, the report all."""
    opened = pxprep.io.open_images(images, panel=panel)
    fitted = pxprep.Pipeline.sparrow().fit(opened)
    sdata = spatialdata.read_zarr(folder / "study.zarr")
    assert set(sdata.images) == {*FOVS, *(f"{name}_clean" for name in FOVS)}
    report = (folder / "report.html").read_text(encoding="utf-8")
    for name in FOVS:
        expected = fitted.transform(opened[name]).compute()
        np.testing.assert_array_equal(sdata[f"{name}_clean"].values, expected.values)
        tiff = tifffile.imread(folder / "tiffs" / f"{name}_clean.ome.tiff")
        np.testing.assert_array_equal(tiff, expected.values)
        assert f"{name} → {name}_clean" in report


# --- Snakemake ------------------------------------------------------------------------------------


class Quoted(str):
    """A path; with ``:q`` it is formatted as Snakemake does, quoted for the shell."""

    def __format__(self, kind):
        return shlex.quote(self) if kind == "q" else str(self)


class Paths(SimpleNamespace):
    """Named paths of a rule."""


def rules():
    """The shell command of each rule in the Snakefile, by its name."""
    text = (WORKFLOWS / "Snakefile").read_text()
    found = {}
    for name, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, re.M):
        if "    shell:\n" in body:
            found[name] = ast.literal_eval(f"({body.split('    shell:')[1]})")
    return found


def test_rules_of_snakemake(folder):
    store, report, tiffs = Quoted("study.zarr"), Quoted("report.html"), Quoted("tiffs")
    params = Paths(panel="")
    values = {
        "import_images": {"input": Quoted("my images"), "output": store, "params": params},
        "preprocess": {
            "input": Paths(store=store),
            "output": Paths(report=report),
            "params": params,
        },
        "export": {"input": Paths(store=store, report=report), "output": Paths(tiffs=tiffs)},
    }
    commands = rules()
    assert list(commands) == list(values)
    for name, command in commands.items():
        run(Formatter().vformat(command, (), values[name]), folder)
    check_results(folder, folder / "my images")
    # What is made again takes the place of what was there.
    run(Formatter().vformat(commands["preprocess"], (), values["preprocess"]), folder)


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed")
def test_snakemake(folder):
    panel = folder / "panel.csv"
    panel.write_text("channel\n" + "".join(f"{name}\n" for name in NAMES))
    command = (
        f"snakemake --snakefile {shlex.quote(str(WORKFLOWS / 'Snakefile'))} --cores 1 "
        "--config 'images=my images' results=out panel=panel.csv"
    )
    run(command, folder)
    check_results(folder / "out", folder / "my images", panel)
    assert "Nothing to be done" in run(command, folder)


# --- Nextflow -------------------------------------------------------------------------------------


def test_commands_of_nextflow(folder):
    text = (WORKFLOWS / "main.nf").read_text()
    (script,) = re.findall(r'    script:\n    """\n(.*?)    """', text, re.DOTALL)
    # Groovy puts values in place of these alone.
    assert re.findall(r"\$.", script) == ["${"]
    run(script.replace("${images}", "my images"), folder)
    check_results(folder, folder / "my images")
    declared = re.findall(r"path\('(.+?)'\), emit", text)
    assert declared == ["study.zarr", "report.html", "tiffs/*.ome.tiff"]
    for pattern in declared:
        assert list(folder.glob(pattern))


# --- Docker ---------------------------------------------------------------------------------------


def instructions():
    """Each instruction of the Dockerfile and its arguments."""
    lines = (WORKFLOWS / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def test_dockerfile():
    """What is copied is there, nobody is root in the end, and nothing is kept that is not used."""
    found = instructions()
    copied = [
        source
        for kind, text in found
        if kind == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]
    sent = (WORKFLOWS / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(f"!{source}" for source in copied) == sorted(
        line for line in sent if line.startswith("!")
    )
    for source in copied:
        assert (ROOT / source).exists()
    (user,) = [text for kind, text in found if kind == "USER"]
    commands = [text for kind, text in found if kind == "RUN"]
    assert int(user) > 0
    assert any(f"useradd --create-home --uid {user} " in command for command in commands)
    installing = [command for command in commands if "pip install" in command]
    assert installing
    for command in installing:
        assert "--no-cache-dir" in command
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "all" in extras["optional-dependencies"]
    assert found[-1] == ["CMD", '["pxprep", "--help"]']


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_dockerfile_by_hadolint():
    assert run(f"hadolint {shlex.quote(str(WORKFLOWS / 'Dockerfile'))}", ROOT) == ""
