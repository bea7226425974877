import inspect
import sys
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("jinja2")

import spatialdata
from spatialdata.models import Image2DModel

import pxprep
from pages import Page
from pxprep import Pipeline, pixel_clustering_preprocess
from pxprep.datasets import tissue
from pxprep.errors import ImageError, LayerError, ParameterError, StoreError
from pxprep.layers import report_layers
from stores import store_of

CHANNELS = ["DAPI", "CD3"]
NAMES = ["fov0", "fov1"]
NEW = ["new0", "new1"]


def element(image, **how):
    return Image2DModel.parse(
        image.data, dims=image.dims, c_coords=image.c.values.tolist(), chunks=(5, 20, 20), **how
    )


def make():
    images = {name: element(fov) for name, fov in tissue(2, 40).items()}
    images["pyramid"] = element(tissue(1, 40, seed=3)["fov0"], scale_factors=[2])
    return spatialdata.SpatialData(images=images)


@pytest.fixture
def memory():
    return make()


@pytest.fixture
def backed(tmp_path):
    return store_of(tmp_path / "study.zarr", make)


@pytest.fixture(params=["memory", "backed"])
def sdata(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "report.html"


def share(values):
    n = int(np.isnan(values).all(axis=0).sum())
    return [f"{n / 16:.1f} %" if n else "0 %", f"{n:,}"]


def test_wrapper_reports_the_run(sdata, file):
    shown = []

    @contextmanager
    def bar(description):
        shown.append(description)
        yield

    pixel_clustering_preprocess(
        sdata, NAMES, NEW, channels=CHANNELS, q=98, report=file, progress=bar
    )
    page = Page(file)
    assert page.table("Steps in their order")[0][1] == "QuantileNorm(q=98)"
    fitted = pxprep.provenance(sdata, "new0").fitted()
    scales = fitted.numbers.quantile_norm_scale.values
    rows = page.table("The numbers of each channel")
    assert [row[:2] for row in rows] == [
        [label, f"{scale:.6g}"] for label, scale in zip(CHANNELS, scales, strict=True)
    ]
    assert page.table("Pixels without") == [
        [f"{old} → {new}", "40 x 40", *share(sdata[new].values), ""]
        for old, new in zip(NAMES, NEW, strict=True)
    ]
    measured = [
        f"measure {step} of 2 images" for step in ("quantile_norm", "sum_mask", "post_norm")
    ]
    written = ["write 2 layers"] if sdata.path is not None else []
    assert [row[0] for row in page.table("Each pass")] == measured + written == shown
    made = pxprep.provenance(sdata, "new1")
    layers = page.table("Layers, and what")
    assert [row[:2] for row in layers] == [["new0", "fov0"], ["new1", "fov1"]]
    assert layers[1][3] == made.run
    assert layers[1][2].startswith(f"{made.time:%Y-%m-%d %H:%M}")
    asked = dict(page.table(f"What run {made.run}"))
    assert asked["channels"] == "DAPI, CD3"
    assert asked["layers"] == "new0: fov0, new1: fov1"
    assert asked["dtype"] == "not given"
    assert dict(page.table(f"Versions that run {made.run}")) == dict(made.versions)
    assert len(page.pictures("CD3", "before")) == len(page.pictures("CD3", "after")) == 2
    assert "measured on other images" not in page.said


def test_wrapper_without_report_writes_none(backed, tmp_path):
    pixel_clustering_preprocess(backed, "fov0", "new0", channels=CHANNELS)
    assert [*tmp_path.rglob("*.html")] == []


def test_in_place_there_is_nothing_from_before(sdata, file):
    pixel_clustering_preprocess(
        sdata, NAMES, ["fov0", "new1"], channels=CHANNELS, overwrite=True, report=file
    )
    page = Page(file)
    assert "There are no pictures from before of fov0: not there any more." in page.said
    assert len(page.pictures("CD3", "before")) == 1
    assert len(page.pictures("CD3", "after")) == 2


def test_multiscale_layers(backed, file):
    pixel_clustering_preprocess(backed, "pyramid", "new", channels=CHANNELS, report=file)
    assert Page(file).table("Pixels without")[0][:2] == ["pyramid → new", "40 x 40"]


def test_given_numbers_are_noted(sdata, file):
    fitted = Pipeline().quantile_norm().fit({"other": tissue(1, 30)["fov0"].sel(c=CHANNELS)})
    pixel_clustering_preprocess(sdata, "fov0", "new0", CHANNELS, pipeline=fitted, report=file)
    page = Page(file)
    assert "The numbers were measured on other images than fov0 → new0." in page.said
    if sdata.path is None:
        assert "Time and memory" not in page.headings
    else:
        assert [row[0] for row in page.table("Each pass")] == ["write new0"]


def test_resuming_what_is_done_reports_it(backed, file):
    pixel_clustering_preprocess(backed, NAMES, NEW, channels=CHANNELS, resume=True)
    pixel_clustering_preprocess(backed, NAMES, NEW, channels=CHANNELS, resume=True, report=file)
    page = Page(file)
    assert [row[0] for row in page.table("Pixels without")] == ["fov0 → new0", "fov1 → new1"]
    assert "Time and memory" not in page.headings


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (3, "report must be the path of an HTML file, got 3"),
        ("none/report.html", "report must be a file in a folder that exists"),
        ("report.txt", "report must end in .html"),
        (".html", "report must end in .html"),
    ],
)
def test_bad_path_is_refused_before_any_work(sdata, tmp_path, no_compute, report, message):
    before = sorted(tmp_path.rglob("*"))
    path = str(tmp_path / report) if isinstance(report, str) else report
    with no_compute(), pytest.raises(ParameterError, match=message):
        pixel_clustering_preprocess(sdata, "fov0", "new0", CHANNELS, report=path)
    assert "new0" not in sdata.images
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_package_is_refused_before_any_work(memory, file, no_compute, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with no_compute(), pytest.raises(ParameterError, match="report needs Jinja2"):
        pixel_clustering_preprocess(memory, "fov0", "new0", CHANNELS, report=file)


def test_layers_are_kept_if_the_report_cannot_be_written(backed, tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()

    @contextmanager
    def remove(description):
        yield
        if folder.exists():
            folder.rmdir()

    with pytest.raises(StoreError, match=r"report.html' could not be written: .*; the layers were"):
        pixel_clustering_preprocess(
            backed, "fov0", "new0", CHANNELS, report=folder / "report.html", progress=remove
        )
    assert np.isfinite(backed["new0"].values).any()


# --- later ----------------------------------------------------------------------------------------


def test_report_later(sdata, file):
    pixel_clustering_preprocess(sdata, NAMES, NEW, channels=CHANNELS)
    if sdata.path is not None:
        sdata = spatialdata.read_zarr(sdata.path)
    assert report_layers(file, sdata, NEW, title="Again") == file
    page = Page(file)
    assert page.headings[0] == "Again"
    assert [row[:2] for row in page.table("Layers, and what")] == [
        ["new0", "fov0"],
        ["new1", "fov1"],
    ]
    assert len(page.pictures("DAPI", "before")) == 2
    del sdata.images["fov0"]
    report_layers(str(file), sdata, "new0")
    page = Page(file)
    assert "no pictures from before of fov0 → new0" in page.said
    assert [row[0] for row in page.table("Pixels without")] == ["fov0 → new0"]


def test_report_later_with_functions(memory, file):
    pipeline = Pipeline().then(np.sqrt).quantile_norm()
    pixel_clustering_preprocess(memory, "fov0", "new0", CHANNELS, pipeline=pipeline, report=file)
    assert Page(file).table("Steps")[0][1] == "Function(function=sqrt)"
    with pytest.raises(ParameterError, match="sqrt"):
        report_layers(file, memory, "new0")
    report_layers(file, memory, "new0", functions={"sqrt": np.sqrt})
    assert len(Page(file).pictures("CD3", "before")) == 1


def test_layers_of_several_runs(memory, file):
    pixel_clustering_preprocess(memory, "fov0", "new0", channels=CHANNELS)
    pixel_clustering_preprocess(memory, "fov1", "new1", channels=CHANNELS)
    with pytest.raises(LayerError, match=r"layers must be of one run, got .*'new0'"):
        report_layers(file, memory, NEW)
    with pytest.raises(ParameterError, match=r"layers must name each layer once, .*'new0', 'new0'"):
        report_layers(file, memory, ["new0", "new0"])


def test_layers_from_an_iterator(memory, file):
    pixel_clustering_preprocess(memory, NAMES, NEW, channels=CHANNELS)
    report_layers(file, memory, iter(NEW))
    assert all(name in file.read_text() for name in NEW)


def test_source_that_has_another_size(memory, file):
    pixel_clustering_preprocess(memory, "fov0", "new0", channels=CHANNELS)
    del memory.images["fov0"]
    memory.images["fov0"] = element(tissue(1, 36)["fov0"])
    with pytest.raises(ImageError, match="layer 'new0': before and after must have the same size"):
        report_layers(file, memory, "new0")


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ("new", LayerError, "'new' does not exist"),
        ("fov0", LayerError, "'fov0' has no provenance"),
        (
            [],
            ParameterError,
            r"layers must be the name of a layer or a sequence of names, got \[\]",
        ),
        (3, ParameterError, "layers must be the name of a layer"),
    ],
)
def test_bad_layers(memory, file, no_compute, layers, kind, message):
    with no_compute(), pytest.raises(kind, match=message):
        report_layers(file, memory, layers)
    assert not file.exists()


def test_report_layers_bad_input(memory, file, tmp_path):
    pixel_clustering_preprocess(memory, "fov0", "new0", channels=CHANNELS)
    with pytest.raises(ParameterError, match=r"file must end in .html"):
        report_layers(tmp_path / "x.pdf", memory, "new0")
    with pytest.raises(ParameterError, match="title must be a string"):
        report_layers(file, memory, "new0", title=3)
    with pytest.raises(ParameterError, match="sdata must be"):
        report_layers(file, {}, "new0")


def test_report_is_the_last_parameter():
    *_, last = inspect.signature(pixel_clustering_preprocess).parameters.values()
    assert (last.name, last.default, last.kind) == ("report", None, last.KEYWORD_ONLY)
