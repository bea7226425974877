"""Options about files that do not tell all themselves, and tables of markers for the steps."""

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("tifffile")
pytest.importorskip("readimc")
pytest.importorskip("typer")

import spatialdata
import tifffile

import pxprep
from imc_files import PANEL, counts, write_mcd
from pxprep.datasets import tissue
from tiff_files import GRAY, NAMES, pixels, write_fov, write_ome


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path):
    """A file or folder for each option."""
    tifffile.imwrite(
        tmp_path / "codex.tif", pixels((2, 3, 40, 30)), metadata={"axes": "TCYX"}, **GRAY
    )
    (tmp_path / "six.csv").write_text("name,keep\n" + "".join(f"m{n},{n % 2}\n" for n in range(6)))
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as tiff:
        for name in ("left", "right"):
            metadata = {"axes": "CYX", "Name": name, "Channel": {"Name": NAMES}}
            tiff.write(pixels(), metadata=metadata, **GRAY)
    write_mcd(tmp_path / "s1.mcd", [(f"ROI {n}", PANEL, counts(seed=n)) for n in range(3)])
    for name, shape in {"CD3": (40, 31), "CD20": (41, 30)}.items():
        (tmp_path / "fovs" / "fov0").mkdir(parents=True, exist_ok=True)
        write = {"metadata": {"axes": "YX", "Channel": {"Name": f"dye of {name}"}}}
        tifffile.imwrite(
            tmp_path / "fovs" / "fov0" / f"{name}.ome.tif", pixels(shape), **GRAY, **write
        )
    for number, name in enumerate(("CD3", "CD20")):
        write_fov(tmp_path / "unlike" / f"fov{number}", [name])


CASES = {
    "axes": (["codex.tif", "--axes", "ccyx", "--panel", "six.csv"], {"codex": ["m1", "m3", "m5"]}),
    "names": (["codex.tif", "--names", "six.csv"], {"codex": ["m1", "m3", "m5"]}),
    "image": (["two.ome.tif", "--image", "right", "--channel", "CD3"], {"two_right": ["CD3"]}),
    "acquisition": (
        ["s1.mcd", "--acquisition", "2", "--acquisition", "3", "--channel", "CD3"],
        {"s1_ROI_1": ["CD3"], "s1_ROI_2": ["CD3"]},
    ),
    "crop": (["fovs", "--crop", "--names-from", "files"], {"fov0": ["CD3", "CD20"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_options(files, call, case):
    arguments, layers = CASES[case]
    call("import", *arguments, "new.zarr", "--quiet")
    sdata = spatialdata.read_zarr("new.zarr")
    assert {name: image.c.values.tolist() for name, image in sdata.images.items()} == layers
    if "codex" in layers:
        values = pixels((2, 3, 40, 30)).reshape(6, 40, 30)[1::2]
        np.testing.assert_array_equal(sdata["codex"].values, values)
    assert pxprep.provenance(sdata, next(iter(layers))).source.endswith(next(iter(layers)))


def test_the_options_are_kept_with_the_layers(files, call, tmp_path):
    call("import", *CASES["crop"][0], "new.zarr", "--quiet")
    options = {"crop": True, "names_from": "files"}
    sdata = pxprep.io.import_images(tmp_path / "fovs", tmp_path / "other.zarr", **options)
    kept = pxprep.provenance(spatialdata.read_zarr("new.zarr"), "fov0").parameters["import"]
    assert {key: kept[key] for key in options} == options
    assert kept == pxprep.provenance(sdata, "fov0").parameters["import"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["codex.tif"],
            "give --panel for all 6, in the order of the file, or say what the axes are",
        ),
        (["codex.tif"], "as --axes 'CCYX'"),
        (["codex.tif", "--axes", "YX,"], "--axes must name the axes of the file"),
        (["two.ome.tif", "--image", "middle"], "--image must name images in the files, 'middle'"),
        (["s1.mcd", "--acquisition", "7"], "--acquisition must be a sequence of some of [1, 2, 3]"),
        (["s1.mcd", "--image", "a"], "--image must be left out"),
        (["fovs", "--names-from", "files"], "--crop cuts all to the size that they share"),
        (["unlike", "--channel", "CD3"], "--channel, 'CD3': 'fov1' lacks 'CD3'"),
        (["codex.tif", "--panel", "none.csv"], "--panel does not exist: 'none.csv'"),
    ],
)
def test_messages_speak_of_options(files, call, capsys, arguments, words):
    call("import", *arguments, "new.zarr", code=1)
    assert words in capsys.readouterr().err


def test_a_table_of_markers_for_the_steps(tmp_path, call):
    """By channel what the table says; the usual values for the rest; what is typed comes first."""
    pxprep.io.import_images(tissue(1, size=64), tmp_path / "study.zarr")
    (tmp_path / "panel.csv").write_text(
        "name,keep,sigma,q\nDAPI,1,0,\nCD3,1,2.5,98\nCD20,1,,\nCD8,0,1,50\n"
    )
    run = ["run", "study.zarr", "--layer", "fov0", "--panel", "panel.csv", "--quiet"]
    call(*run, "--output", "a")
    call(*run, "--output", "b", "--q", "97", "--channel", "CD8", "--channel", "DAPI")
    sdata, image = spatialdata.read_zarr("study.zarr"), tissue(1, size=64)["fov0"]
    sigma = {"DAPI": 0, "CD3": 2.5, "CD20": 2}
    q = {"DAPI": 99, "CD3": 98, "CD20": 99}
    expected = image.pxprep.preprocess(channels=list(q), sigma=sigma, q=q)
    np.testing.assert_array_equal(sdata["a"].values, expected.values)
    expected = image.pxprep.preprocess(channels=["CD8", "DAPI"], sigma=[1, 0], q=97)
    np.testing.assert_array_equal(sdata["b"].values, expected.values)
    call("fit", "study.zarr", "--layer", "fov0", "--panel", "panel.csv", "--output", "fit.json")
    fitted = pxprep.FittedPipeline.from_json((tmp_path / "fit.json").read_text())
    assert list(fitted.channels) == list(q)


def test_caps_in_a_table_of_markers(tmp_path, call, capsys):
    """They have no usual value: the table tells of every channel that it keeps, or of none."""
    pxprep.io.import_images(tissue(1, size=64), tmp_path / "study.zarr")
    run = ["run", "study.zarr", "--layer", "fov0", "--panel", "panel.csv", "--quiet"]
    panel = tmp_path / "panel.csv"
    panel.write_text("name,keep,cap_max\nDAPI,1,0.5\nCD3,1,0.75\nCD8,0,\n")
    call(*run, "--output", "a")
    image = tissue(1, size=64)["fov0"]
    free = image.pxprep.preprocess(channels=["DAPI", "CD3"])
    limits = np.array([0.5, 0.75])[:, None, None]
    found = spatialdata.read_zarr("study.zarr")["a"].values
    np.testing.assert_array_equal(found, np.minimum(free.values, limits.astype("f4")))
    assert (free.values > limits).any(axis=(1, 2)).all()
    panel.write_text("name,cap_max\nDAPI,0.5\nCD3,\n")
    call(*run, "--output", "b", code=1)
    assert "missing 'CD3'" in capsys.readouterr().err


def test_a_folder_of_slides(tmp_path, call):
    for name in ("s1", "s2"):
        (tmp_path / "slides" / name).mkdir(parents=True)
        write_ome(tmp_path / "slides" / name / "image.ome.tif", pixels())
    call("import", "slides", "new.zarr", "--quiet")
    assert sorted(spatialdata.read_zarr("new.zarr").images) == ["s1", "s2"]
