"""The command: its page, and every option of `run`."""

import inspect
import json
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import spatialdata
from spatialdata.models import Image2DModel, Labels2DModel

import pxprep
from commands import assert_same_layer, elements
from pxprep import FittedPipeline, Pipeline
from pxprep.cli import values
from pxprep.cli.bundled_options import WaitOptions
from pxprep.datasets import tissue
from stores import files, make_study

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
HAS_CODECS = "raster_compressor" in inspect.signature(spatialdata.SpatialData.write).parameters


# --- the page -------------------------------------------------------------------------------------


def test_the_page(tmp_path, call, monkeypatch):
    """Its commands run as they stand there, and do what functions of the library do."""
    monkeypatch.chdir(tmp_path)
    said = {}
    for line in COMMANDS:
        program, command, *arguments = shlex.split(line)
        assert program == "pxprep"
        code, printed, errors = call(command, *arguments)
        assert (code, errors) == (0, ""), line
        said.setdefault((command, "--json" in arguments), printed)
    assert (len(said), len(COMMANDS)) == (9, 12)
    fovs = tissue(n_fovs=3, size=128)
    store = tmp_path / "study" / "tissue.zarr"
    check_demo(said["demo", False], store, fovs)
    check_run(said["run", False], json.loads(said["run", True]), store, fovs)
    of_file = Pipeline.from_file("steps.yaml").fit(fovs)
    for name, fov in fovs.items():
        assert_same_layer(store, f"{name}_file", of_file.transform(fov))
    for name in fovs:
        assert f"{name}_clean: tiffs/{name}_clean.ome.tiff" in said["export", False]
    check_fit_and_apply(said["fit", False], tmp_path / "batch1.json", store, fovs)
    check_inspect(said["inspect", False], json.loads(said["inspect", True]), store, fovs)


def check_demo(words, store, fovs):
    fitted = Pipeline.sparrow().fit(fovs)
    for name, fov in fovs.items():
        assert_same_layer(store, f"{name}_clean", fitted.transform(fov))
    for value in fitted.numbers.quantile_norm_scale.values:
        assert f"{value:.6g}" in words
    assert f"threshold = {float(fitted.numbers.sum_mask_threshold):.6g}" in words
    picture = store.with_name("before-after.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    report = store.with_name("report.html").read_text(encoding="utf-8")
    for name in fovs:
        assert f"{name} → {name}_clean" in report
    assert "measure post_norm of 3 images" in report  # what the passes took
    *parts, (_, all_of_them) = re.findall(r"^(\w[\w ]+?) +([\d.]+) s$", words, re.M)
    assert [what for what, _ in parts] == [
        "importing and compiling",
        "making the cohort",
        "measuring",
        "writing",
        "checking and reading back",
        "picture",
        "report",
    ]
    assert sum(float(seconds) for _, seconds in parts) == pytest.approx(float(all_of_them), abs=0.4)


def test_seconds_of_the_demo(tmp_path, call):
    """They are those that went by, each once."""
    started = time.perf_counter()
    code, printed, errors = call("demo", tmp_path / "demo", "--size", 64, "--fovs", 1, "--json")
    went_by = time.perf_counter() - started
    assert (code, errors) == (0, "")
    document = json.loads(printed)
    assert Path(document["report"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    seconds = document["seconds"]
    assert min(seconds.values()) >= 0
    # The rest is what describes the layers, on a machine that may be busy.
    assert 0.6 * went_by < sum(seconds.values()) < went_by


def check_run(words, document, store, fovs):
    sdata = spatialdata.SpatialData(elements(fovs))
    soft = [f"{name}_soft" for name in fovs]
    pxprep.pixel_clustering_preprocess(
        sdata,
        list(fovs),
        soft,
        channels=["DAPI", "CD3", "CD20"],
        sigma={"DAPI": 0, ...: 2.5},
        q_post=None,
    )
    for name in soft[1:]:
        assert_same_layer(store, name, sdata[name])
    assert "fov2_soft: c 3, y 128, x 128, float32, chunks 1 x 128 x 128, " in words
    assert ", from fov2\n" in words
    # The last command replaces the first layer.
    fitted = Pipeline.sparrow(sigma=3).fit({"fov0": fovs["fov0"]})
    assert_same_layer(store, "fov0_soft", fitted.transform(fovs["fov0"]))
    assert document["fitted"] == json.loads(fitted.to_json())
    assert [layer["name"] for layer in document["layers"]] == ["fov0_soft"]


def check_fit_and_apply(words, file, store, fovs):
    fitted = Pipeline.sparrow().fit({name: fovs[name] for name in ("fov0", "fov1")})
    assert file.read_text() == fitted.to_json()
    assert str(fitted) in words
    assert_same_layer(store, "fov2_later", fitted.transform(fovs["fov2"]))
    made = pxprep.provenance(spatialdata.read_zarr(store), "fov2_later")
    assert made.fitted() == fitted


def check_inspect(words, document, store, fovs):
    labels = fovs["fov0"].c.values.tolist()
    assert "fov0: c 10, y 128, x 128, uint16, chunks 1 x 128 x 128, " in words
    assert f"channels: {', '.join(labels)}" in words
    assert "no interrupted writes" in words
    by_name = {layer["name"]: layer for layer in document["layers"]}
    made = {f"{name}{end}" for name in fovs for end in ("", "_clean", "_soft", "_file")}
    assert set(by_name) == made | {"fov2_later"}
    raw, soft = by_name["fov1"], by_name["fov1_soft"]
    assert (raw["kind"], raw["dims"], raw["dtype"]) == ("images", ["c", "y", "x"], "uint16")
    assert raw["channels"] == labels
    assert raw["scales"] == [{"shape": [10, 128, 128], "chunks": [1, 128, 128]}]
    assert raw["provenance"] is None
    assert soft["channels"] == ["DAPI", "CD3", "CD20"]
    assert soft["provenance"]["source"] == "fov1"
    steps = soft["provenance"]["parameters"]["pipeline"]["steps"]
    assert [step["as"] for step in steps] == ["quantile_norm", "blur", "sum_mask", "sum_norm"]
    assert soft["provenance"]["versions"]["pxprep"] == pxprep.__version__
    on_disk = files(store / "images" / "fov1_soft").values()
    assert soft["bytes"] == sum(len(content) for content in on_disk)
    assert document["damaged"] == []
    assert document["unfinished"] == {"complete": [], "remove": 0, "writing": 0}


def test_page_tells_all(call):
    """Every command has a row, every exit code its line, and the help says the same."""
    code, printed, _ = call("--help")
    assert code == 0
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    listed = [line.split()[1] for line in printed.splitlines() if re.match(r"│ [a-z]+ ", line)]
    assert rows == listed
    exit_codes = re.findall(r"^\| (\d+) \|", PAGE, re.M)
    assert exit_codes == re.findall(r"\b(\d+)\b", printed[printed.index("Exit codes") :])


# --- every option ---------------------------------------------------------------------------------


def test_all_options_of_run(tmp_path, call):
    """The same call of the wrapper writes the same bytes of chunks."""
    sdata = make_study(tmp_path / "expected.zarr")
    make_study(tmp_path / "study.zarr")
    options = (
        "--layer fov0 --layer fov1 --output a --output b --channel CD20 --channel CD3 --q 98 "
        "--q-sum 7 --q-post CD20=99 --q-post *=99.5 --sigma CD3=1 --sigma CD20=0.5 --no-norm-sum "
        "--cap-max CD3=0.75 --cap-max *=0.5 --pool pixels --dtype float64 --memory 0 "
        "--chunks c=1 --chunks y=8 --chunks x=-1 --scale-factors 2 --scale-factors y=2,x=1 "
        "--resume --wait 5 --json"
    )
    codec = {"compressor": {"zstd": 4}} if HAS_CODECS else {}
    options += " --compressor zstd:4" if HAS_CODECS else ""
    code, printed, errors = call("run", tmp_path / "study.zarr", *options.split())
    assert (code, errors) == (0, "")
    pxprep.pixel_clustering_preprocess(
        sdata,
        ["fov0", "fov1"],
        ["a", "b"],
        channels=["CD20", "CD3"],
        q=98,
        q_sum=7,
        q_post={"CD20": 99, ...: 99.5},
        sigma={"CD3": 1, "CD20": 0.5},
        norm_sum=False,
        cap_max={"CD3": 0.75, ...: 0.5},
        pool="pixels",
        dtype="float64",
        memory=0,
        chunks={"c": 1, "y": 8, "x": -1},
        scale_factors=[2, {"y": 2, "x": 1}],
        resume=True,
        **codec,
    )
    for name in ("a", "b"):
        folders = [tmp_path / store / "images" / name for store in ("study.zarr", "expected.zarr")]
        found, expected = (
            {
                path.relative_to(folder): content
                for path, content in files(folder).items()
                if path != folder / "zarr.json"
            }
            for folder in folders
        )
        assert found == expected
        assert len(found) > 3
    # The same command once more finds all done.
    before = files(tmp_path / "study.zarr")
    code, again, errors = call("run", tmp_path / "study.zarr", *options.split())
    assert (code, errors) == (0, "")
    assert files(tmp_path / "study.zarr") == before
    document = json.loads(printed)
    assert json.loads(again)["layers"] == document["layers"]
    made = pxprep.provenance(sdata, "a")
    assert document["layers"][0]["provenance"]["parameters"] == json.loads(
        json.dumps(made.parameters)
    )
    assert document["layers"][0]["scales"] == [
        {"shape": [2, 24, 20], "chunks": [1, 8, 20]},
        {"shape": [2, 12, 10], "chunks": [1, 8, 10]},
        {"shape": [2, 6, 10], "chunks": [1, 6, 10]},
    ]
    assert document["fitted"] == json.loads(made.fitted().to_json())


WHERE = {
    "one for all": ("--where fov0_cells", ["fov0_cells"] * 2),
    "one for each": (
        "--where fov0_cells --where fov1_cells --where-labels 1 --where-labels 2",
        [pxprep.Mask("fov0_cells", [1, 2]), pxprep.Mask("fov1_cells", [1, 2])],
    ),
    "others": (
        "--where {layer}_cells --where-labels 1 --where-not --drop-outside",
        {name: ~pxprep.Mask(f"{name}_cells", 1) for name in ("fov0", "fov1")},
    ),
}


@pytest.mark.parametrize("kind", WHERE)
def test_masks(kind, tmp_path, call):
    options, where = WHERE[kind]
    sdata = make_study(tmp_path / "study.zarr")
    rng = np.random.default_rng(5)
    for name in ("fov0", "fov1"):
        labels = rng.integers(0, 4, sdata[name].shape[1:])
        sdata[f"{name}_cells"] = Labels2DModel.parse(labels, dims=("y", "x"))
        sdata.write_element(f"{name}_cells")
    layers = ["--layer", "fov0", "--layer", "fov1", "--sigma", "1"]
    command = ["run", tmp_path / "study.zarr", *layers, "--output", "{layer}_new"]
    code, _, errors = call(*command, *options.split(), "--quiet")
    assert (code, errors) == (0, "")
    made = spatialdata.read_zarr(tmp_path / "study.zarr")
    pxprep.pixel_clustering_preprocess(
        sdata,
        ["fov0", "fov1"],
        ["fov0_own", "fov1_own"],
        sigma=1,
        where=where,
        keep_outside="--drop-outside" not in options,
    )
    for name in ("fov0", "fov1"):
        np.testing.assert_array_equal(made[f"{name}_new"], sdata[f"{name}_own"])
        kept, own = (
            pxprep.provenance(one, name).parameters
            for one, name in ((made, f"{name}_new"), (sdata, f"{name}_own"))
        )
        assert (kept["where"], kept["keep_outside"]) == (own["where"], own["keep_outside"])
    # Measured as well.
    options = options.replace("--drop-outside", "").split()
    file = tmp_path / "fitted.json"
    code, _, errors = call("fit", tmp_path / "study.zarr", *layers, *options, "--output", file)
    assert (code, errors) == (0, "")
    expected = pxprep.provenance(sdata, "fov0_own").fitted()
    assert FittedPipeline.from_json(file.read_text()) == expected


def test_every_parameter_of_the_wrapper_is_an_option(call):
    parameters = set(inspect.signature(pxprep.pixel_clustering_preprocess).parameters)
    names = {"img_layer": "layer", "output_layer": "output", "channels": "channel"}
    names |= {"norm_sum": "no-norm-sum", "keep_outside": "drop-outside"}
    _, printed, _ = call("run", "--help")
    options = {names.get(name, name).replace("_", "-") for name in parameters}
    options -= {"sdata", "progress"}
    missing = {option for option in options if f"--{option}" not in printed}
    assert missing == set()


def test_values():
    read = values.per_channel
    assert read(["2"], "--sigma") == 2
    assert read(["none"], "--sigma") is None
    assert read(["DAPI=0", "a = b=1.5", "*=2"], "--sigma") == {"DAPI": 0, "a = b": 1.5, ...: 2}
    assert values.chunk_sizes(["y=8", "x=-1"]) == {"y": 8, "x": -1}
    assert values.scale_factors(["2", "y=2,x=1"]) == [2, {"y": 2, "x": 1}]
    assert values.scale_factors(["none"]) == []
    assert values.memory("1000") == 1000
    assert values.memory("2 GiB") == "2 GiB"
    assert values.memory(None) is None
    assert WaitOptions().seconds is True
    assert WaitOptions(no_wait=True).seconds is False
    assert WaitOptions(wait=0.5).seconds == 0.5
    assert values.with_labels({"0": 1.0, "x": 2.0, ...: 3.0}, [0, 1]) == {0: 1, "x": 2, ...: 3}


def test_channels_without_names(tmp_path, call):
    """SpatialData calls them 0, 1, 2: what is typed is text."""
    pixels = np.random.default_rng(0).gamma(2, 9, (3, 16, 16)).astype("f4")
    raw = Image2DModel.parse(pixels, dims=("c", "y", "x"))
    store = tmp_path / "study.zarr"
    spatialdata.SpatialData({"raw": raw}).write(store)
    options = "--layer raw --output clean --channel 2 --channel 0 --sigma 2=0 --sigma *=1"
    code, _, errors = call("run", store, *options.split())
    assert code == 0, errors
    expected = raw.sel(c=[2, 0]).pxprep.preprocess(sigma=[0, 1])
    assert_same_layer(store, "clean", expected)
    # The same steps from a file, which knows no image.
    assert call("pipeline", *options.split()[-4:], "--write", tmp_path / "steps.yaml")[0] == 0
    options = ["--layer=raw", "--output=again", "--channel=2", "--channel=0"]
    code, _, errors = call("run", store, *options, "--pipeline", tmp_path / "steps.yaml")
    assert code == 0, errors
    assert_same_layer(store, "again", expected)
    pytest.importorskip("tifffile")
    code, _, errors = call("export", store, tmp_path, "--layer", "raw", "--channel", "2")
    assert code == 0, errors
    (image,) = pxprep.io.open_images(tmp_path / "raw.ome.tiff").values()
    np.testing.assert_array_equal(image[0], pixels[2])


def test_report(tmp_path, call):
    make_study(tmp_path / "study.zarr")
    options = ["--layer", "fov0", "--output", "clean", "--report", tmp_path / "report.html"]
    code, _, errors = call("run", tmp_path / "study.zarr", *options)
    assert code == 0, errors
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()
