"""The command in real subprocesses; bad input also by calling `main`."""

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import spatialdata
from spatialdata.models import Image2DModel, Labels2DModel

import pxprep
from pxprep import FittedPipeline, Pipeline
from pxprep.cli import main, values
from pxprep.datasets import tissue
from stores import files, image, make_study

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("pxprep")
PAGE = (ROOT / "docs" / "cli.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
HAS_CODECS = "raster_compressor" in inspect.signature(spatialdata.SpatialData.write).parameters


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """The exit code of the command, called here, and what it prints on stdout and stderr."""

    def function(*arguments):
        monkeypatch.setattr(sys, "argv", ["pxprep", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return function


def same_layer(store, name, expected):
    """Whether a layer on disk is an image, to the last bit, with the same channels."""
    found = spatialdata.read_zarr(store)[name]
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.dtype == expected.dtype
    assert found.c.values.tolist() == expected.c.values.tolist()


def elements(fovs):
    return {
        name: Image2DModel.parse(fov.data, dims=fov.dims, c_coords=fov.c.values.tolist())
        for name, fov in fovs.items()
    }


# --- the page -------------------------------------------------------------------------------------


def test_the_page(tmp_path):
    """Its commands run as they stand there, and do what functions of the library do."""
    results = {line: run(*shlex.split(line)[1:], cwd=tmp_path) for line in COMMANDS}
    for line, result in results.items():
        assert line.startswith("pxprep ")
        assert (result.returncode, result.stderr) == (0, ""), line
    said = {}
    for line, result in results.items():
        _, command, *arguments = shlex.split(line)
        said[command, "--json" in arguments] = result.stdout
    assert len(said) == len(results) == 7
    fovs = tissue(n_fovs=3, size=128)
    store = tmp_path / "study" / "tissue.zarr"
    check_demo(said["demo", False], store, fovs)
    check_run(said["run", False], json.loads(said["run", True]), store, fovs)
    check_fit_and_apply(said["fit", False], tmp_path / "batch1.json", store, fovs)
    check_inspect(said["inspect", False], json.loads(said["inspect", True]), store, fovs)


def check_demo(words, store, fovs):
    fitted = Pipeline.sparrow().fit(fovs)
    for name, fov in fovs.items():
        same_layer(store, f"{name}_clean", fitted.transform(fov))
    for value in fitted.numbers.quantile_norm_scale.values:
        assert f"{value:.6g}" in words
    assert f"sum_mask_threshold = {float(fitted.numbers.sum_mask_threshold):.6g}" in words
    picture = store.with_name("before-after.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


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
        same_layer(store, name, sdata[name])
    assert "fov2_soft: c 3, y 128, x 128, float32, chunks 1 x 128 x 128, " in words
    assert ", from fov2\n" in words
    # The last command replaces the first layer.
    fitted = Pipeline.sparrow(sigma=3).fit({"fov0": fovs["fov0"]})
    same_layer(store, "fov0_soft", fitted.transform(fovs["fov0"]))
    assert document["fitted"] == json.loads(fitted.to_json())
    assert [layer["name"] for layer in document["layers"]] == ["fov0_soft"]


def check_fit_and_apply(words, file, store, fovs):
    fitted = Pipeline.sparrow().fit({name: fovs[name] for name in ("fov0", "fov1")})
    assert file.read_text() == fitted.to_json()
    assert str(fitted) in words
    same_layer(store, "fov2_later", fitted.transform(fovs["fov2"]))
    made = pxprep.provenance(spatialdata.read_zarr(store), "fov2_later")
    assert made.fitted() == fitted


def check_inspect(words, document, store, fovs):
    labels = fovs["fov0"].c.values.tolist()
    assert "fov0: c 10, y 128, x 128, uint16, chunks 1 x 128 x 128, " in words
    assert f"channels: {', '.join(labels)}" in words
    assert "no interrupted writes" in words
    by_name = {layer["name"]: layer for layer in document["layers"]}
    made = {f"{name}{end}" for name in fovs for end in ("", "_clean", "_soft")}
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


def test_help_needs_no_large_package():
    code = (
        "import sys, pxprep.cli; "
        "heavy = {'spatialdata', 'matplotlib', 'zarr'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- every option ---------------------------------------------------------------------------------


def test_all_options_of_run(tmp_path, call):
    """In one subprocess; the same call of the wrapper writes the same bytes of chunks."""
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
    result = run("run", "study.zarr", *options.split(), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
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
    document = json.loads(result.stdout)
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


@pytest.mark.parametrize("option", ["--where-labels=1", "--where-not", "--drop-outside"])
def test_options_about_a_mask_need_one(option, call):
    code, _, errors = call("run", "study.zarr", "--layer", "a", "--output", "b", option)
    assert code == 2
    assert option.partition("=")[0] in errors
    assert "give" in errors


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
    assert values.seconds(None, False) is True
    assert values.seconds(None, True) is False
    assert values.seconds(0.5, False) == 0.5
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
    same_layer(store, "clean", expected)


# --- several stores, files ------------------------------------------------------------------------


def test_fit_and_apply_to_several_stores(tmp_path, call):
    for name in ("one", "two"):
        make_study(tmp_path / name / "study.zarr")
    first, second = (tmp_path / name / "study.zarr" for name in ("one", "two"))
    make_study(tmp_path / "other.zarr")
    file = tmp_path / "numbers.json"
    pipeline = tmp_path / "pipeline.json"
    pipeline.write_text(Pipeline().quantile_norm(98).blur(1).to_json())
    steps = ["--pipeline", pipeline, "--channel", "CD20", "--dtype", "float64"]
    code, printed, errors = call(
        "fit", first, tmp_path / "other.zarr", "--layer", "fov*", *steps, "--output", file, "--json"
    )
    assert (code, errors) == (0, "")
    images = {
        f"{store}/fov{i}": spatialdata.read_zarr(first)[f"fov{i}"].sel(c=["CD20"]).astype("f8")
        for store in ("study", "other")
        for i in range(3)
    }
    fitted = Pipeline().quantile_norm(98).blur(1).fit(images)
    assert FittedPipeline.from_json(file.read_text()) == fitted
    assert json.loads(printed)["fitted"] == json.loads(file.read_text())
    # Stores of one name are called by their paths.
    code, printed, _ = call("fit", first, second, "--layer", "fov0", "--output", file, "--json")
    assert code == 1  # the file exists
    code, printed, _ = call(
        "fit", first, second, "--layer", "fov0", "--output", file, "--json", "--overwrite"
    )
    assert json.loads(printed)["fitted"]["fovs"] == [f"{first}/fov0", f"{second}/fov0"]
    file.write_text(fitted.to_json())
    code, printed, errors = call(
        "apply", file, first, second, "--layer", "fov1", "--output", "{layer}_x", "--json"
    )
    assert (code, errors) == (0, "")
    assert [each["store"] for each in json.loads(printed)["stores"]] == [str(first), str(second)]
    # What was done before the second store failed is kept, and said.
    call("apply", file, second, "--layer", "fov1", "--output", "extra")
    code, printed, errors = call(
        "apply", file, first, second, "--layer", "fov1", "--output", "extra"
    )
    assert (code, printed) == (1, "")
    assert f"{str(second)!r}: --output 'extra' exists already; --overwrite replaces it" in errors
    assert f"; done before and kept: {str(first)!r}" in errors
    assert "extra" in spatialdata.read_zarr(first).images
    for store in (first, second):
        chosen = spatialdata.read_zarr(store)["fov1"].sel(c=["CD20"])
        same_layer(store, "fov1_x", fitted.transform(chosen))


def test_outliers_are_shown(tmp_path, call):
    fovs = tissue(n_fovs=5, size=64)
    fovs["fov2"][{"c": 3}] *= 5
    fovs["fov4"][{"c": 1}] = 0
    spatialdata.SpatialData(elements(fovs)).write(tmp_path / "study.zarr")
    how = ["--layer", "fov*", "--q-post", "none", "--output", tmp_path / "numbers.json"]
    code, printed, errors = call("fit", tmp_path / "study.zarr", *how)
    assert code == 0
    assert re.search(r"quantile_norm +fov2 +CD8", printed)
    # Warnings are a line each, and no traceback or source line.
    (line,) = errors.splitlines()
    assert line.startswith("pxprep: warning: quantile_norm: no finite non-zero value in 'CD45'")
    _, printed, _ = call("fit", tmp_path / "study.zarr", *how, "--overwrite", "--json")
    rows = json.loads(printed)["outliers"]
    with pytest.warns(pxprep.PxprepWarning, match="CD45"):
        expected = Pipeline.sparrow(q_post=None).fit(fovs).outliers()
    found = {(row["fov"], row["channel"]): row for row in rows}
    assert list(found) == list(zip(expected["fov"], expected["channel"], strict=True))
    far = expected.set_index(["fov", "channel"]).loc[("fov2", "CD8")]
    assert found["fov2", "CD8"]["quantile"] == far["quantile"]
    assert found["fov4", "CD45"]["quantile"] == "nan"


def test_inspect_tells_of_damage_and_of_interrupted_writes(tmp_path, call):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "made", sigma=1)
    pxprep.pixel_clustering_preprocess(sdata, "fov1", "lost", sigma=1)
    store = tmp_path / "study.zarr"
    # Another program replaces a layer; a process dies while it writes; metadata are lost.
    sdata = spatialdata.read_zarr(store)
    del sdata.images["lost"]
    sdata.delete_element_from_disk("lost")
    sdata.images["lost"] = image(5)
    sdata.write_element("lost")
    (store / ".pxprep" / ("dead" * 8)).mkdir(parents=True)
    (store / ".pxprep" / "lock").touch()
    (store / "images" / "fov2" / "zarr.json").write_text("{")
    before = files(store)
    code, printed, errors = call("inspect", store, "--json")
    assert (code, errors) == (0, "")
    assert files(store) == before
    document = json.loads(printed)
    assert document["unfinished"] == {"complete": [], "remove": 1, "writing": 0}
    (damaged,) = document["damaged"]
    assert damaged.startswith("images/fov2: ")
    by_name = {layer["name"]: layer for layer in document["layers"]}
    assert "fov2" not in by_name
    assert by_name["lost"]["provenance"] == {"problem": "replaced since pxprep made it"}
    assert by_name["made"]["provenance"]["source"] == "fov0"
    assert len(by_name["made"]["scales"]) == 2
    assert by_name["cells"]["kind"] == "labels"
    assert by_name["cells"]["channels"] is None
    _, words, _ = call("inspect", store)
    assert files(store) == before
    assert "remove 1 unfinished writes" in words
    assert "images/fov2: " in words
    code, _, errors = call("run", store, "--layer", "fov0", "--output", "x")
    assert code == 1
    assert "is damaged: images/fov2" in errors
    assert "pxprep: ended what an interrupted write had left" in errors
    assert not (store / ".pxprep").exists()
    (store / ".pxprep" / ("dead" * 8)).mkdir(parents=True)
    code, printed, _ = call("repair", store, "--json")
    assert json.loads(printed) == {"store": str(store), "completed": [], "removed": 1}
    _, printed, _ = call("repair", store)
    assert printed == "nothing to repair\n"


# --- terminals, Ctrl-C ----------------------------------------------------------------------------


def make_large(path):
    """Large enough for an interrupt to come while blocks are computed."""
    counts = np.random.default_rng(0).poisson(5, (2, 640, 640)).astype(np.uint16)
    raw = Image2DModel.parse(
        da.from_array(counts, chunks=(2, 64, 64)), dims=("c", "y", "x"), c_coords=["CD3", "CD20"]
    )
    spatialdata.SpatialData({"raw": raw}).write(path)
    return path


def interrupted(store, where, *options):
    """A run in a terminal that gets Ctrl-C once `where` is read there: its exit code, the text."""
    pty = pytest.importorskip("pty")
    termios = pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    writer = subprocess.Popen(
        [COMMAND, "run", store, "--layer", "raw", "--output", "clean", "--sigma", "12", *options],
        stderr=theirs,
    )
    os.close(theirs)
    read, sent = b"", False
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        read += part
        if not sent and re.search(where, read):
            writer.send_signal(signal.SIGINT)
            sent = True
    os.close(ours)
    return writer.wait(), read.decode()


@pytest.mark.parametrize("where", ["measure post_norm: +[1-9]", "write clean: +[1-9]"])
def test_ctrl_c_in_a_terminal(tmp_path, where):
    store = make_large(tmp_path / "study.zarr")
    before = files(store)
    code, printed = interrupted(store, where.encode())
    assert code == 130, printed
    assert files(store) == before
    assert not (store / ".pxprep").exists()
    assert "Traceback" not in printed
    *_, last = printed.split("\r\n")[:-1]
    assert last.startswith("\x1b[31mpxprep: interrupted; ")
    assert "as they were" in last
    # One bar for each pass, with tasks done and the time that is left.
    bars = dict.fromkeys(re.findall(r"(measure \w+|write \w+): ", printed))
    passes = ["measure quantile_norm", "measure sum_mask", "measure post_norm", "write clean"]
    assert list(bars) == passes[: 4 if "write" in where else 3]
    assert re.search(r"measure sum_mask: 100%.* (\d\d+)/\1 \[\d\d:\d\d<00:00", printed)


# --- bad input ------------------------------------------------------------------------------------

OUT = ["--output", "clean"]
RAW = ["--layer", "fov0"]
# What is typed after `pxprep`, the exit code, and what the one line must say.
BAD = {
    "no store": (["run", "none.zarr", *RAW, *OUT], 1, r"there is no store 'none\.zarr'"),
    "no store to inspect": (["inspect", "none.zarr"], 1, r"there is no store 'none\.zarr'"),
    "no store to repair": (["repair", "none.zarr"], 1, r"none\.zarr' must be the folder of a"),
    "not a store": (["run", "empty", *RAW, *OUT], 1, r"empty' must be the folder of a SpatialData"),
    "a file": (["inspect", "text.json"], 1, r"text\.json' must be the folder of a SpatialData"),
    "damaged store": (["inspect", "broken.zarr"], 1, r"broken\.zarr' cannot be read"),
    "damaged root": (["run", "broken.zarr", *RAW, *OUT], 1, r"broken\.zarr'"),
    "without images": (["run", "bare.zarr", *RAW, *OUT], 1, r"--layer 'fov0' does not exist"),
    "pattern": (["run", "bare.zarr", "--layer", "f*", *OUT], 1, r"--layer 'f\*' matches no layer"),
    "layer": (["run", "study.zarr", "--layer", "fov9", *OUT], 1, r"--layer 'fov9' .*did you mean"),
    "labels": (["run", "study.zarr", "--layer", "cells", *OUT], 1, r"'cells' must be an image"),
    "taken": (
        ["run", "study.zarr", *RAW, "--output", "fov1"],
        1,
        r"exists already; --overwrite replaces",
    ),
    "too few outputs": (
        ["run", "study.zarr", "--layer", "fov[01]", *OUT],
        1,
        r"--output must name one",
    ),
    "twice": (
        ["run", "study.zarr", *RAW, *RAW, *OUT, *OUT],
        1,
        r"--layer must name each only once",
    ),
    "channel": (
        ["run", "study.zarr", *RAW, *OUT, "--channel", "CD33"],
        1,
        r"layer 'fov0': --channel: no channel 'CD33' \(did you mean 'CD3'\?\)",
    ),
    "channel of a value": (
        ["run", "study.zarr", *RAW, *OUT, "--sigma", "DAPI=0", "--sigma", "*=1"],
        1,
        r"--sigma: no channel 'DAPI'",
    ),
    "missing channel": (
        ["run", "study.zarr", *RAW, *OUT, "--q-post", "CD3=99"],
        1,
        r"--q-post: a mapping must name every channel.*missing 'CD20'",
    ),
    "fraction": (["run", "study.zarr", *RAW, *OUT, "--q", "0.99"], 1, r"--q must be.*mean 99\?"),
    "percent": (["run", "study.zarr", *RAW, *OUT, "--q-sum", "101"], 1, r"--q-sum must be a perc"),
    "negative": (
        ["run", "study.zarr", *RAW, *OUT, "--sigma", "CD3=-1", "--sigma", "*=1"],
        1,
        r"--sigma\['CD3'\] must be a number of pixels",
    ),
    "nan": (["run", "study.zarr", *RAW, *OUT, "--cap-max", "nan"], 1, r"--cap-max must be a fin"),
    "memory": (["run", "study.zarr", *RAW, *OUT, "--memory", "much"], 1, r"--memory must be a num"),
    "wait": (["repair", "study.zarr", "--wait", "-1"], 1, r"--wait must be"),
    "chunks": (["run", "study.zarr", *RAW, *OUT, "--chunks", "0"], 1, r"--chunks must be a posit"),
    "chunk dimension": (
        ["run", "study.zarr", *RAW, *OUT, "--chunks", "z=1"],
        1,
        r"--chunks names dimensions",
    ),
    "scales": (
        ["run", "study.zarr", *RAW, *OUT, "--scale-factors", "100"],
        1,
        r"--scale-factors must leave at least one pixel",
    ),
    "codec": (["run", "study.zarr", *RAW, *OUT, "--compressor", "gz:1"], 1, r"--compressor must"),
    "no file": (["apply", "no.json", "study.zarr", *RAW, *OUT], 1, r"'no\.json' cannot be read"),
    "no JSON": (["apply", "text.json", "study.zarr", *RAW, *OUT], 1, r"text\.json'.*must be JSON"),
    "not fitted": (
        ["apply", "steps.json", "study.zarr", *RAW, *OUT],
        1,
        r"steps\.json'.*must be a fitted pipeline",
    ),
    "no pipeline": (
        ["run", "study.zarr", *RAW, *OUT, "--pipeline", "fitted.json"],
        1,
        r"fitted\.json': text must be a pipeline",
    ),
    "bytes": (
        ["apply", "bytes.json", "study.zarr", *RAW, *OUT],
        1,
        r"'bytes\.json' cannot be read",
    ),
    "second store": (
        ["apply", "fitted.json", "study.zarr", "bare.zarr", *RAW, *OUT],
        1,
        r"bare\.zarr': --layer 'fov0' does not exist",
    ),
    "channels of a fit": (
        ["apply", "fitted.json", "study.zarr", "--layer", "red", *OUT],
        1,
        r"study\.zarr': layer 'red': --channel: no channel 'CD3'",
    ),
    "fit into a file": (
        ["fit", "study.zarr", *RAW, "--output", "text.json"],
        1,
        r"'text\.json' exists already; --overwrite replaces it",
    ),
    "fit into no folder": (
        ["fit", "study.zarr", *RAW, "--output", "no/f.json"],
        1,
        r"--output must be a file in a folder that exists, got 'no/f\.json'",
    ),
    "fit layers that differ": (
        ["fit", "study.zarr", *RAW, "--layer", "red", "--output", "f.json"],
        1,
        r"image 'red': the channels must be 'CD3', 'CD20'",
    ),
    "fit a store twice": (
        ["fit", "study.zarr", "study.zarr", *RAW, "--output", "f.json"],
        1,
        r"STORE must name each only once, got \['study\.zarr'\]",
    ),
    "fit a layer twice": (
        ["fit", "study.zarr", *RAW, *RAW, "--output", "f.json"],
        1,
        r"--layer must name each only once, got \['fov0'\]",
    ),
    "demo": (["demo", "d", "--size", "3"], 1, r"size must be"),
    "demo again": (["demo", "."], 1, r"tissue\.zarr' exists already; --overwrite"),
    "command": (["rum"], 2, r"No such command 'rum'"),
    "option": (["run", "study.zarr", *RAW, *OUT, "--sigmas", "2"], 2, r"--sigmas"),
    "no output": (["run", "study.zarr", *RAW], 2, r"Missing option '--output'"),
    "no number": (["run", "study.zarr", *RAW, *OUT, "--sigma", "wide"], 2, r"--sigma.*got 'wide'"),
    "no number of a name": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=none"],
        2,
        r"--q.*must be.* got 'none'",
    ),
    "name twice": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=9", "--q", "CD3=8"],
        2,
        r"--q.*'CD3' is given twice",
    ),
    "name and all": (
        ["run", "study.zarr", *RAW, *OUT, "--q", "CD3=9", "--q", "99"],
        2,
        r"for the rest write \*=VALUE",
    ),
    "level": (["run", "study.zarr", *RAW, *OUT, "--compressor", "lz4"], 2, r"CODEC:LEVEL"),
    "pool": (["run", "study.zarr", *RAW, *OUT, "--pool", "median"], 2, r"--pool"),
    "steps twice": (
        ["run", "study.zarr", *RAW, *OUT, "--fitted", "fitted.json", "--sigma", "2"],
        2,
        r"--fitted.*takes the place of the other steps",
    ),
    "waits twice": (["repair", "study.zarr", "--wait", "1", "--no-wait"], 2, r"not both"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of stores and files that commands may stumble over."""
    folder = tmp_path_factory.mktemp("bad")
    sdata = make_study(folder / "study.zarr")
    sdata.images["red"] = Image2DModel.parse(
        np.ones((2, 8, 8), "f4"), dims=("c", "y", "x"), c_coords=["red", "CD20"]
    )
    sdata.write_element("red")
    spatialdata.SpatialData().write(folder / "bare.zarr")
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text("{")
    (folder / "empty").mkdir()
    (folder / "tissue.zarr").mkdir()
    (folder / "text.json").write_text("no JSON")
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "steps.json").write_text(Pipeline.sparrow().to_json())
    fitted = Pipeline().quantile_norm(99).fit(sdata["fov0"])
    (folder / "fitted.json").write_text(fitted.to_json())
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input(bad, call, monkeypatch, name):
    """Refused before any work, in one line (or the usage), in words of the command."""
    arguments, expected, message = BAD[name]
    monkeypatch.chdir(bad)
    monkeypatch.setenv("COLUMNS", "500")
    before = files(bad)
    code, printed, errors = call(*arguments)
    assert code == expected, errors
    assert printed == ""
    assert re.search(message, errors), errors
    assert "Traceback" not in errors
    if expected == 1:
        (line,) = errors.splitlines()
        assert line.startswith("pxprep: ")
    assert files(bad) == before


def test_doubtful_input_is_one_warning(tmp_path, call):
    make_study(tmp_path / "study.zarr")
    code, printed, errors = call(
        "run", tmp_path / "study.zarr", *RAW, *OUT, "--q-sum", "0.5", "--quiet"
    )
    assert (code, printed) == (0, "")
    (line,) = errors.splitlines()
    assert line.startswith("pxprep: warning: --q-sum is in percent: 0.5 drops 0.5 % of the pixels")


def test_damaged_chunk(tmp_path, call):
    """It is found on the way, and named; the store is as it was."""
    make_study(tmp_path / "study.zarr")
    (chunk,) = (tmp_path / "study.zarr" / "images" / "fov0").rglob("c/0/0/0")
    chunk.write_bytes(b"rotten")
    before = files(tmp_path)
    code, printed, errors = call("run", tmp_path / "study.zarr", *RAW, *OUT)
    assert (code, printed) == (1, "")
    (line,) = errors.splitlines()
    assert f"{str(chunk)!r} is damaged" in line
    assert files(tmp_path) == before


def test_an_error_that_should_not_happen(bad, call, monkeypatch):
    """The traceback is for those who mend it; JSON is all or nothing."""

    def fail(*args, **kwargs):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("pxprep.cli.run.pixel_clustering_preprocess", fail)
    code, printed, errors = call("run", bad / "study.zarr", *RAW, *OUT, "--json")
    assert (code, printed) == (70, "")
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("pxprep: ZeroDivisionError should not happen here")


# --- shells ---------------------------------------------------------------------------------------


def test_completion(bad, call, monkeypatch):
    """Of bash: its script, and what that gets from the command, the layers of the store."""
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, script, _ = call("--show-completion", "bash")
    assert code == 0
    assert "_PXPREP_COMPLETE=complete_bash" in script
    words = "pxprep run study.zarr --layer f"
    found = run(cwd=bad, _PXPREP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert found.stdout.split() == ["fov0", "fov1", "fov2"]


@pytest.mark.skipif(
    "report" not in inspect.signature(pxprep.pixel_clustering_preprocess).parameters,
    reason="the wrapper writes no reports",
)
def test_report(tmp_path, call):
    make_study(tmp_path / "study.zarr")
    options = ["--layer", "fov0", "--output", "clean", "--report", tmp_path / "report.html"]
    code, _, errors = call("run", tmp_path / "study.zarr", *options)
    assert code == 0, errors
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()
