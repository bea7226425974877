"""Files that people have become layers of a store: to the bit, all of them or none."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("spatialdata")
pytest.importorskip("tifffile")
pytest.importorskip("readimc")
pytest.importorskip("typer")

import spatialdata
import tifffile
from spatialdata.transformations import get_transformation

import pxprep
from imc_files import write_mcd
from pxprep.cli.stores import chosen_layers
from pxprep.errors import ChannelError, ImageError, LayerError, ParameterError, StoreError
from pxprep.io import import_images, open_images
from stores import files, make_study

PAGE = Path(__file__).parents[2] / "docs" / "import.md"
NAMES = ["CD3", "CD20", "DAPI"]


def pixels(shape=(3, 70, 50), seed=0):
    return np.random.default_rng(seed).integers(0, 2**16, shape, np.uint16)


def write_fovs(folder, n_fovs=2, names=NAMES, **layout):
    """A folder of fields of view, and their pixels by name."""
    stored = {}
    for seed in range(n_fovs):
        fov = folder / f"fov{seed}"
        fov.mkdir(parents=True)
        stored[fov.name] = pixels((len(names), 70, 50), seed)
        for name, channel in zip(names, stored[fov.name], strict=True):
            tifffile.imwrite(fov / f"{name}.tiff", channel, photometric="minisblack", **layout)
    return stored


@pytest.fixture
def study(tmp_path):
    write_fovs(tmp_path / "study")
    return tmp_path / "study"


def check(sdata, stored, names=NAMES, chunks=(1, 70, 50)):
    """The layers hold the pixels and labels, in the object and for who reads the store."""
    for seen in (sdata, spatialdata.read_zarr(sdata.path)):
        for layer, values in stored.items():
            image = seen[layer]
            assert image.c.values.tolist() == names
            assert image.dtype == values.dtype
            assert tuple(sizes[0] for sizes in image.data.chunks) == chunks
            np.testing.assert_array_equal(image.values, values)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib", "tile": (16, 32)}])
def test_a_new_store(tmp_path, layout):
    stored = write_fovs(tmp_path / "study", **layout)
    sdata = import_images(tmp_path / "study", tmp_path / "new.zarr")
    assert list(sdata.images) == ["fov0", "fov1"]
    assert sdata.path == tmp_path / "new.zarr"
    check(sdata, stored)
    assert not (tmp_path / "new.zarr" / ".pxprep").exists()


IMPORTED = {
    "as they are": {},
    "some channels": {"channels": ["CD20", "CD3"]},
    "in one chunk": {"chunks": {"c": -1}},
}


@pytest.mark.parametrize("options", IMPORTED.values(), ids=IMPORTED.keys())
@pytest.mark.parametrize("kind", ["a channel in a file", "stacks"])
def test_local_threads_need_no_graph(tmp_path, kind, options, no_dask):
    """The fields of view are written chunk by chunk, all of them in one queue."""
    stored, source = write_fovs(tmp_path / "study"), tmp_path / "study"
    names = options.get("channels", NAMES)
    if kind == "stacks":
        source, options = tmp_path / "stacks", {**options, "channel_names": NAMES}
        source.mkdir()
        for name, values in stored.items():
            tifffile.imwrite(source / f"{name}.tiff", values, photometric="minisblack")
    sdata = import_images(source, tmp_path / "new.zarr", **options)
    kept = {name: values[[NAMES.index(one) for one in names]] for name, values in stored.items()}
    chunks = (len(names) if "chunks" in options else 1, 70, 50)
    check(sdata, kept, names, chunks)


def test_an_existing_store(tmp_path, study):
    make_study(tmp_path / "old.zarr")
    before = files(tmp_path / "old.zarr" / "images")
    images = {f"{name}-new": image for name, image in open_images(study).items()}
    sdata = import_images(images, tmp_path / "old.zarr", chunks=32)
    assert {"fov0", "fov1", "fov2", "other", "fov0-new", "fov1-new"} == set(sdata.images)
    assert "cells" in sdata.labels
    assert sdata.attrs["study"] == {"name": "kept", "numbers": [0.1, 2]}
    check(sdata, {f"fov{seed}-new": pixels(seed=seed) for seed in range(2)}, chunks=(1, 32, 32))
    after = files(tmp_path / "old.zarr" / "images")
    assert before.items() <= after.items()


def test_channels_chunks_and_scales(tmp_path, study):
    sdata = import_images(
        study,
        tmp_path / "new.zarr",
        channels=["DAPI", "CD3"],
        chunks=(2, 40, 30),
        scale_factors=[2],
    )
    fine, coarse = (sdata["fov0"][scale]["image"] for scale in ("scale0", "scale1"))
    values = pixels()[[2, 0]]
    assert fine.data.chunks == ((2,), (40, 30), (30, 20))
    np.testing.assert_array_equal(fine.values, values)
    assert coarse.dtype == np.uint16
    means = values.reshape(2, 35, 2, 25, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(coarse.values, means.round())


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_of_64_bits(tmp_path, dtype):
    values = pixels((1, 20, 10)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tiff", values[0], photometric="minisblack")
    sdata = import_images(tmp_path / "a.tiff", tmp_path / "new.zarr", channel_names=["CD3"])
    assert sdata["a"].dtype == dtype
    np.testing.assert_array_equal(sdata["a"].values, values)


@pytest.mark.parametrize("kind", [np.array, pd.Series, lambda names: xr.DataArray(names, dims="c")])
def test_names_in_an_array_or_a_column(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tiff", pixels(), photometric="minisblack")
    sdata = import_images(tmp_path / "a.tiff", tmp_path / "s.zarr", channel_names=kind(NAMES))
    assert sdata["a"].c.values.tolist() == NAMES
    assert pxprep.provenance(sdata, "a").parameters["import"]["channel_names"] == NAMES


def test_means_of_large_integers(tmp_path):
    image = xr.DataArray(np.full((1, 4, 4), 2**32 - 1, "uint32"), dims=("c", "y", "x"))
    sdata = import_images({"fov": image}, tmp_path / "new.zarr", scale_factors=[2])
    assert (sdata["fov"]["scale1"]["image"].values == 2**32 - 1).all()


def test_stacks(tmp_path):
    values = pixels((3, 4, 20, 10))
    (tmp_path / "study" / "fov0").mkdir(parents=True)
    for name, channel in zip(NAMES, values, strict=True):
        file = tmp_path / "study" / "fov0" / f"{name}.tiff"
        tifffile.imwrite(file, channel, metadata={"axes": "ZYX"}, photometric="minisblack")
    sdata = import_images(tmp_path / "study", tmp_path / "new.zarr")
    check(sdata, {"fov0": values}, chunks=(1, 1, 20, 10))


def test_imc(tmp_path):
    values = np.random.default_rng(0).gamma(1, 3, (2, 11, 7)).astype("float32")
    panel = {("In", 115): "CD3", ("Ir", 191): "DNA1"}
    write_mcd(tmp_path / "s1.mcd", [("ROI 1", panel, values), ("ROI/2", panel, values * 2)])
    sdata = import_images(tmp_path / "s1.mcd", tmp_path / "new.zarr")
    stored = {"s1_ROI_1": values, "s1_ROI_2": values * 2}
    check(sdata, stored, ["CD3", "DNA1"], chunks=(1, 11, 7))
    scale = get_transformation(sdata["s1_ROI_1"], "microns")
    assert scale.to_affine_matrix(("y", "x"), ("y", "x")).diagonal().tolist() == [2, 1, 1]


def test_pixel_sizes_are_kept(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}, "PhysicalSizeX": 0.5}
    metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    file = tmp_path / "slide.ome.tiff"
    tifffile.imwrite(file, pixels(), photometric="minisblack", metadata=metadata)
    import_images(file, tmp_path / "new.zarr", scale_factors=[2])
    assert diagonals(tmp_path, "slide") == {"global": [1, 1, 1], "microns": [0.25, 0.5, 1]}


@pytest.mark.parametrize(
    ("sizes", "microns"),
    [
        (0.5, [0.5, 0.5, 1]),
        ("0.5", [0.5, 0.5, 1]),
        ({"y": "0.25", "x": 0.5}, [0.25, 0.5, 1]),
        ({"y": 0, "x": 0.5}, None),
        ({"y": 0.5, "x": None}, None),
        ({"y": 0.5, "x": float("inf")}, None),
        (-1, None),
    ],
)
def test_pixel_sizes_of_images_in_memory(tmp_path, sizes, microns):
    """By dim or for all; where one is not known there are no micrometres."""
    image = xr.DataArray(pixels(), dims=("c", "y", "x"), attrs={"um_per_pixel": sizes})
    import_images({"slide": image}, tmp_path / "new.zarr")
    found = {"global": [1, 1, 1], "microns": microns}
    assert diagonals(tmp_path, "slide") == {key: one for key, one in found.items() if one}


def diagonals(folder, layer):
    """The scales of a layer on disk along y and x, by coordinate system."""
    sdata = spatialdata.read_zarr(folder / "new.zarr")
    return {
        system: item.to_affine_matrix(("y", "x"), ("y", "x")).diagonal().tolist()
        for system, item in get_transformation(sdata[layer], get_all=True).items()
    }


def test_images_in_memory(tmp_path):
    """Of whatever dims, and processed before they are stored."""
    values = pixels()
    image = xr.DataArray(values, dims=("c", "y", "x"), coords={"c": NAMES})
    given = {"eager": image.transpose("y", "x", "c"), "lazy": image.chunk({"y": 7}) + 1}
    sdata = import_images(given, tmp_path / "new.zarr")
    check(sdata, {"eager": values, "lazy": values + np.uint16(1)})


def test_where_a_layer_came_from(tmp_path, study):
    sdata = import_images(study, tmp_path / "new.zarr", channels=["CD3"])
    made = pxprep.provenance(sdata, "fov1")
    assert made.source == f"{study / 'fov1'}: fov1"
    assert made.parameters["import"]["channels"] == ["CD3"]
    with pytest.raises(ParameterError, match="it was imported, not computed"):
        made.fitted()


def test_layers_can_be_processed(tmp_path, study):
    sdata = import_images(study, tmp_path / "new.zarr")
    sdata = pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["a", "b"])
    cohort = {
        f"fov{seed}": xr.DataArray(pixels(seed=seed), dims=("c", "y", "x"), coords={"c": NAMES})
        for seed in range(2)
    }
    expected = pxprep.Pipeline.sparrow().fit_transform(cohort)
    np.testing.assert_array_equal(sdata["b"].values, expected["fov1"].values)


def test_overwriting(tmp_path, study):
    store = tmp_path / "new.zarr"
    import_images(study, store)
    with pytest.raises(LayerError, match="layer 'fov0' exists already; overwrite=True replaces"):
        import_images(study, store)
    with pytest.raises(LayerError, match="layer 'FOV0' differs only in case from the element"):
        import_images({"FOV0": open_images(study)["fov0"]}, store)
    check(
        import_images(study, store, channels=["CD20"], overwrite=True),
        {f"fov{seed}": pixels(seed=seed)[[1]] for seed in range(2)},
        ["CD20"],
    )


# --- what is not written --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["new", "existing"])
def test_a_file_that_breaks_on_the_way(tmp_path, study, kind):
    """Nothing of the import is left, not even of the field of view before."""
    store = tmp_path / "some.zarr"
    if kind == "existing":
        make_study(store)
    before = files(store)
    images = {f"{name}-new": image for name, image in open_images(study).items()}
    (study / "fov1" / "CD20.tiff").write_bytes(b"II*\0")
    with pytest.raises(ImageError, match=r"fov1/CD20\.tiff' cannot be read") as caught:
        import_images(images, store)
    assert "['fov0-new', 'fov1-new'] not written" in caught.value.__notes__[0]
    assert files(store) == before
    assert store.exists() == (kind == "existing")


@pytest.mark.once
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_import(tmp_path, study):
    """The store is as it was for readers, and the next import works."""
    store = tmp_path / "old.zarr"
    make_study(store)
    before = files(store)
    code = (
        "import os, signal, sys, pxprep\n"
        "first, last = pxprep.io.open_images(sys.argv[1]).values()\n"
        "def die(block):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "dying = last.data.map_blocks(die, dtype=last.dtype, meta=last.data._meta)\n"
        "images = {'fov0-new': first, 'fov1-new': last.copy(data=dying)}\n"
        "pxprep.io.import_images(images, sys.argv[2])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, study, store], check=False)
    assert done.returncode == -9
    left = {path: content for path, content in files(store).items() if ".pxprep" not in path.parts}
    assert left == before
    images = {f"{name}-new": image for name, image in open_images(study).items()}
    check(import_images(images, store), {"fov0-new": pixels(), "fov1-new": pixels(seed=1)})
    assert not (store / ".pxprep").exists()


BAD = {
    "store": ({"store": 3}, ParameterError, "store must be the path of a SpatialData store, got 3"),
    "below a file": ({"store": Path(__file__) / "new.zarr"}, StoreError, "cannot be written: "),
    "source": ({"source": "nowhere"}, ParameterError, "path does not exist"),
    "no images": ({"source": {}}, ParameterError, "source must hold images by name"),
    "names": ({"source": {1: pixels()}}, ParameterError, "source must hold images by name"),
    "an image": ({"source": {"fov": pixels()}}, ImageError, "image 'fov' must be an xarray"),
    "channels": ({"channels": ["CD4"]}, ChannelError, "channels: no channel 'CD4'"),
    "channel_names": ({"channel_names": NAMES}, ParameterError, "channel_names are for TIFFs"),
    "subfolder": ({"subfolder": "x"}, ParameterError, "none are in 'x'"),
    "chunks": ({"chunks": 0}, ParameterError, "chunks must be"),
    "scale_factors": ({"scale_factors": 2}, ParameterError, "scale_factors must be"),
    "overwrite": ({"overwrite": "yes"}, ParameterError, "overwrite must be True or False"),
    "progress": ({"progress": 3}, ParameterError, "progress must be"),
    "wait": ({"wait": -1}, ParameterError, "wait must be"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_parameters(tmp_path, study, bad):
    given, kind, words = BAD[bad]
    store = tmp_path / "new.zarr"
    with pytest.raises(kind, match=words):
        import_images(**{"source": study, "store": store, **given})
    assert not store.exists()


def test_bad_names(tmp_path):
    image = xr.DataArray(pixels(), dims=("c", "y", "x"))
    for names, words in {
        ("a b", "a/b"): "images 'a b' and 'a/b' would both be layer 'a_b'",
        ("fov", "FOV"): "images 'fov' and 'FOV' would both be layer 'FOV'",
        (".fov",): "layer must be neither empty",
        ("",): "layer must be neither empty",
    }.items():
        with pytest.raises(LayerError, match=words):
            import_images(dict.fromkeys(names, image), tmp_path / "new.zarr")
    with pytest.raises(ParameterError, match="channel_names and crop are for files, got images"):
        import_images({"fov": image}, tmp_path / "new.zarr", channel_names=NAMES, crop=True)
    with pytest.raises(ParameterError, match="crop are for files, got images"):
        import_images({"fov": image}, tmp_path / "new.zarr", crop=np.array([1, 2]))
    assert not list(tmp_path.iterdir())


def test_what_is_no_store(tmp_path, study):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("data")
    (tmp_path / "file").write_text("data")
    for place in ("folder", "file"):
        with pytest.raises(StoreError, match="must be the folder of a SpatialData store"):
            import_images(study, tmp_path / place)
    assert (tmp_path / "folder" / "precious").read_text() == "data"
    assert (tmp_path / "file").read_text() == "data"


def test_a_store_that_cannot_be_read(tmp_path, study):
    make_study(tmp_path / "old.zarr")
    (tmp_path / "old.zarr" / "images" / "fov0" / "zarr.json").write_text("{")
    before = files(tmp_path / "old.zarr")
    with pytest.raises(StoreError, match=r"old\.zarr' cannot be read"):
        import_images({"new": open_images(study)["fov0"]}, tmp_path / "old.zarr")
    assert files(tmp_path / "old.zarr") == before


def test_a_name_that_another_element_has(tmp_path, study):
    make_study(tmp_path / "old.zarr")
    images = open_images(study)
    with pytest.raises(LayerError, match="layer 'cells' is the name of an element in labels"):
        import_images({"cells": images["fov0"]}, tmp_path / "old.zarr", overwrite=True)


# --- the command, and the page about it -----------------------------------------------------------


def make_files(folder):
    """What docs/import.md begins with."""
    write_fovs(folder / "mibi")
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
    gray = {"photometric": "minisblack"}
    tifffile.imwrite(folder / "slide.ome.tiff", pixels(), metadata=metadata, **gray)
    tifffile.imwrite(folder / "codex.tiff", pixels(), **gray)
    table = "".join(f"{number},{name}\n" for number, name in enumerate(NAMES, start=1))
    (folder / "markers.csv").write_text(f"cycle,marker_name\n{table}")
    acquisition = ("ROI 1", {("In", 115): "CD3"}, pixels((1, 7, 5)).astype("float32"))
    write_mcd(folder / "tissue.mcd", [acquisition])


def test_the_page(tmp_path, monkeypatch, call, capsys):
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = "".join(text for kind, text in blocks if kind == "bash").splitlines()
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "pxprep"
        call(*arguments)
    printed = capsys.readouterr().out
    assert f"from {tmp_path / 'mibi' / 'fov1'}: fov1" in printed
    assert "tissue: c 1, y 7, x 5, float32" in printed
    sdata = spatialdata.read_zarr("study.zarr")
    assert sorted(sdata.images) == ["codex", "fov0", "fov1", "slide", "tissue"]
    check(sdata, {"fov1": pixels(seed=1), "codex": pixels()})
    np.testing.assert_array_equal(sdata["slide"]["scale0"]["image"].values, pixels()[[2, 0]])
    assert list(sdata["slide"]) == ["scale0", "scale1", "scale2"]
    # A pattern finds what was imported: it is not made from another layer.
    assert chosen_layers(sdata, ["fov*"]) == ["fov0", "fov1"]
    exec("".join(text for kind, text in blocks if kind == "python"), {})
    sdata = spatialdata.read_zarr("python.zarr")
    check(sdata, {"fov0": pixels()[:, :32, :32]}, chunks=(1, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["codex.tiff"], 1, "0 of 3 channels have a name; give --panel, all of them in"),
        (["codex.tiff", "--names", "nowhere"], 1, "--panel does not exist: 'nowhere'"),
        (["mibi", "--channel", "CD4"], 1, "--channel: no channel 'CD4' (did you mean 'CD3'?)"),
        (["mibi", "--chunks", "0"], 1, "--chunks must be a positive number of pixels"),
        (["mibi", "--chunks", "many"], 2, "must be a whole number or DIM=NUMBER, got 'many'"),
        (["nowhere"], 1, "path does not exist"),
    ],
    ids=["no names", "no file", "channel", "chunks", "usage", "no source"],
)
def test_the_command_with_bad_input(tmp_path, monkeypatch, call, capsys, arguments, code, words):
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    call("import", *arguments, "new.zarr", code=code)
    said = capsys.readouterr().err
    assert words in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said
    assert not (tmp_path / "new.zarr").exists()


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.once
def test_memory(tmp_path):
    """Images of 128 MiB, and less than half of that on top of what a small one takes."""
    pytest.importorskip("resource")
    values = np.zeros((2, 16384, 2048), "uint16")
    values[:, ::32] = np.arange(2048)
    for name, layout in {
        "plain": {},
        "strips": {"compression": "zlib", "rowsperstrip": 256},
        "tiles": {"compression": "zlib", "tile": (512, 512)},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tiff", values, photometric="minisblack", **layout)
    code = (
        "import sys, resource, dask, pxprep, numpy as np, xarray as xr\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "dask.config.set(num_workers=2)\n"
        "small = xr.DataArray(np.ones((1, 64, 64), 'u2'), dims=('c', 'y', 'x'))\n"
        "pxprep.io.import_images({'small': small}, 'new.zarr')\n"
        "before = peak()\n"
        "pxprep.io.import_images('.', 'new.zarr', channel_names=['a', 'b'])\n"
        "print((peak() - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 64
    sdata = spatialdata.read_zarr(tmp_path / "new.zarr")
    for layer in ("plain", "strips", "tiles"):
        np.testing.assert_array_equal(sdata[layer][1].values, values[1])
