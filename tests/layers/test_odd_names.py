"""Names that are not UTF-8, or longer than a file system holds: written, or refused before work."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")
pytest.importorskip("tifffile")
pytest.importorskip("typer")

import spatialdata
import tifffile
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline, PxprepError
from pxprep.cli import main
from pxprep.errors import ChannelError, LayerError, ParameterError, StoreError
from pxprep.io import import_images, read_folder
from stores import files, make_study

LATIN = b"sl\xefde"  # in Latin-1 with a diaeresis, and no UTF-8
ODD = os.fsdecode(LATIN)
LONG = "x" * 300
# Of 200 letters and 400 bytes.
WIDE = "é" * 200

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")


def run(*arguments, cwd, **environment):
    code = "import sys\nfrom pxprep_command import main\nsys.exit(main())\n"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def sdata(tmp_path):
    return make_study(tmp_path / "study.zarr")


@pytest.fixture
def slides(tmp_path):
    """A folder of fields of view, one of which has a name that is not UTF-8."""
    folder = tmp_path / "slides"
    rng = np.random.default_rng(0)
    for name in (LATIN, b"other"):
        place = folder / os.fsdecode(name)
        place.mkdir(parents=True)
        for channel in ("CD3", "CD20"):
            tifffile.imwrite(place / f"{channel}.tiff", rng.poisson(9, (24, 20)).astype("u2"))
    return folder


def test_folders_that_are_not_utf8(slides, tmp_path):
    """Layers have names of letters; where they came from is told, with escapes."""
    done = run("import", slides, "study.zarr", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    done = run("inspect", "study.zarr", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"slides/sl\udcefde: sl_de" in done.stdout
    done = run("inspect", "study.zarr", "--json", cwd=tmp_path)
    made = [layer["provenance"]["source"] for layer in json.loads(done.stdout)["layers"]]
    assert f"{slides / ODD}: sl_de" in made
    options = ["--output", "{layer}_clean", "--report", "study.html", "--sigma", "none"]
    done = run("run", "study.zarr", "--layer", "sl_de", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    sdata = spatialdata.read_zarr(tmp_path / "study.zarr")
    made = pxprep.provenance(sdata, "sl_de")
    fov = read_folder(slides)["other"]
    fitted = Pipeline().quantile_norm().fit(fov)
    page = pxprep.report(tmp_path / "r.html", fov, fitted.transform(fov), fitted, provenance=made)
    assert r"slides/sl\udcefde: sl_de" in page.read_text(encoding="utf-8")


def test_channels_that_are_not_utf8(slides, tmp_path):
    for place in slides.iterdir():
        (place / "CD3.tiff").rename(place / f"{ODD}.tiff")
    with pytest.raises(ChannelError, match=r"can be written, got \['sl\\udcefde'\].*rename"):
        read_folder(slides)
    done = run("import", slides, "study.zarr", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "study.zarr").exists()
    images = read_folder(slides, channels=["CD20"])
    assert images["other"].c.values.tolist() == ["CD20"]


def test_store_that_is_not_utf8(sdata, tmp_path):
    store = tmp_path / f"{ODD}.zarr"
    sdata.path.rename(store)
    options = ["--layer", "fov0", "--output", "clean", "--report", f"{ODD}.html"]
    for more in ([], ["--overwrite", "--json"]):
        done = run("run", store, *options, *more, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert json.loads(done.stdout)["store"] == str(store)
    assert (tmp_path / f"{ODD}.html").read_text(encoding="utf-8")
    assert pxprep.repair(store) == ((), 0)
    done = run("run", store, "--layer", ODD, "--output", "clean", cwd=tmp_path)
    assert done.returncode == 1
    assert rb"--layer 'sl\udcefde' does not exist" in done.stderr


@pytest.mark.parametrize("use", ["fit", "op", "fov", "table", "layer"])
def test_labels_and_names_that_are_no_text(use, tmp_path, sdata):
    image = xr.DataArray(np.ones((2, 4, 4), "f4"), dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    odd = image.assign_coords(c=["a", ODD])
    calls = {
        "fit": lambda: Pipeline().quantile_norm().fit(odd),
        "op": lambda: odd.pxprep.blur(1),
        "fov": lambda: Pipeline().blur().fit({ODD: image}),
        "table": lambda: pxprep.pixel_table(
            {"fov": odd}, to="parquet", file=tmp_path / "a.parquet"
        ),
        "layer": lambda: pxprep.pixel_clustering_preprocess(sdata, "fov0", ODD),
    }
    with pytest.raises(PxprepError, match=r"sl\\udcefde"):
        calls[use]()
    assert not (tmp_path / "a.parquet").exists()


# --- long names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LONG, WIDE])
@pytest.mark.parametrize("resume", [False, True])
def test_layer_name_that_is_too_long(sdata, no_compute, name, resume):
    before = files(sdata.path)
    with no_compute(), pytest.raises(LayerError, match="output_layer must be no longer than 255 b"):
        pxprep.pixel_clustering_preprocess(sdata, "fov0", name, resume=resume)
    memory = spatialdata.SpatialData(images={"fov0": sdata["fov0"]})
    with pytest.raises(LayerError, match="no longer than 255 bytes"):
        pxprep.pixel_clustering_preprocess(memory, "fov0", name)
    done = run("run", sdata.path, "--layer", "fov0", "--output", name, cwd=sdata.path.parent)
    assert done.returncode == 1
    assert done.stderr.startswith(b"pxprep: --output must be no longer than 255 bytes")
    assert files(sdata.path) == before


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_longest_name(sdata, name):
    for _ in range(2):
        pxprep.pixel_clustering_preprocess(sdata, "fov0", name, overwrite=True)
    found = spatialdata.read_zarr(sdata.path)
    assert pxprep.provenance(found, name).source == "fov0"
    assert not (sdata.path / ".pxprep").exists()


def test_image_whose_layer_would_have_too_long_a_name(tmp_path):
    image = xr.DataArray(np.ones((1, 4, 4)), dims=("c", "y", "x"), coords={"c": ["a"]})
    with pytest.raises(LayerError, match="layer must be no longer than 255 bytes"):
        import_images({LONG: image}, tmp_path / "study.zarr")
    assert not (tmp_path / "study.zarr").exists()


PATHS = [LONG, WIDE, "a/" + LONG + "/b", "a\0b", "\ud800", ""]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_that_no_file_can_have(path, tmp_path, monkeypatch, no_compute):
    monkeypatch.chdir(tmp_path)
    image = xr.DataArray(np.ones((2, 4, 4)), dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    element = Image2DModel.parse(image.values, dims=image.dims, c_coords=["a", "b"])
    sdata = spatialdata.SpatialData(images={"fov": element})
    fitted = Pipeline().blur(1).fit(image)
    with no_compute():
        for call in (
            lambda: pxprep.repair(path),
            lambda: import_images({"fov": image}, path),
            lambda: import_images(path, "study.zarr"),
            lambda: read_folder(path),
            lambda: pxprep.report(path and path + ".html", image, image, fitted),
            lambda: pxprep.pixel_clustering_preprocess(sdata, "fov", "new", report=path + ".html"),
            lambda: pxprep.pixel_table(image, to="parquet", file=path),
        ):
            with pytest.raises((ParameterError, StoreError), match=r"path|report"):
                call()
    assert not list(tmp_path.iterdir())


def test_paths_of_the_command_that_no_file_can_have(tmp_path, sdata, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store, output = ["--layer", "fov0"], ["--output", "clean"]
    for arguments in (
        ["run", LONG, *store, *output],
        ["inspect", LONG],
        ["repair", WIDE],
        ["import", LONG, "study.zarr"],
        ["import", tmp_path, LONG],
        ["run", sdata.path, *store, *output, "--report", LONG + ".html"],
        ["run", sdata.path, *store, *output, "--fitted", LONG],
        ["fit", sdata.path, *store, "--output", LONG],
        ["fit", sdata.path, *store, "--output", "f.json", "--pipeline", WIDE],
        ["apply", LONG, sdata.path, *store, *output],
        ["demo", LONG],
    ):
        monkeypatch.setattr(sys, "argv", ["pxprep", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert (caught.value.code, out, err.count("\n")) == (1, "", 1), (arguments, err)
        assert err.startswith("pxprep: ")


def test_longest_name_of_a_file(tmp_path):
    """Its draft has a name of its own."""
    image = xr.DataArray(np.ones((2, 4, 4)), dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    for letter in ("x", "é"):
        name = letter * ((255 - 8) // len(letter.encode()))
        pxprep.pixel_table(image, to="parquet", file=tmp_path / (name + ".parquet"))
    assert len(list(tmp_path.iterdir())) == 2
