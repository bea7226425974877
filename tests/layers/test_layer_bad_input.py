"""What the wrapper refuses before any work, and what fails leaves nothing."""

import os
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spatialdata")
import spatialdata

from pxprep import Pipeline, PxprepError, pixel_clustering_preprocess
from pxprep.errors import ChannelError, LayerError, ParameterError, StoreError
from pxprep.steps import QuantileNorm
from spatial_objects import backed, counts, labeled, layer, make
from stores import files


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    return make() if request.param == "memory" else backed(tmp_path)


def one_layer():
    return spatialdata.SpatialData(images={"fov0": layer(counts(0))})


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A backed object for tests that change nothing."""
    return backed(tmp_path_factory.mktemp("untouched"))


def test_what_was_written_is_read_again_before_it_is_published(tmp_path, monkeypatch):
    sdata = backed(tmp_path)
    before = files(sdata.path)
    write = spatialdata.SpatialData.write

    def write_halves(self, path, **kwargs):
        half = self.images["clean"].astype(np.float16, keep_attrs=True)
        write(spatialdata.SpatialData(images={"clean": half}), path, **kwargs)

    monkeypatch.setattr(spatialdata.SpatialData, "write", write_halves)
    with pytest.raises(StoreError, match="not written as it should be"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert files(sdata.path) == before


def test_store_that_cannot_be_consolidated_is_left_as_it_was(tmp_path):
    sdata = backed(tmp_path)
    (sdata.path / "images" / "volume" / "zarr.json").write_text("{broken")
    before = files(sdata.path)
    with pytest.raises(StoreError, match="nothing was changed"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert files(sdata.path) == before
    assert "clean" not in sdata


# --- bad input: refused before any work, and nothing changes --------------------------------------

BAD = [
    ({"img_layer": "fov"}, LayerError, "img_layer 'fov' does not exist.*'fov[01]'"),
    ({"img_layer": "FOV0"}, LayerError, r"'FOV0' does not exist \(did you mean 'fov0'\?\)"),
    ({"img_layer": "cells"}, LayerError, "img_layer 'cells' must be an image.*labels"),
    ({"img_layer": []}, ParameterError, r"img_layer.*\[\]"),
    ({"img_layer": 3}, ParameterError, "img_layer.*3"),
    ({"img_layer": np.array(3)}, ParameterError, "img_layer must be the name"),
    # A set has no order in which its layers would go with the new ones.
    ({"img_layer": {"fov0"}}, ParameterError, "img_layer must be the name.*{'fov0'}"),
    ({"output_layer": frozenset("a")}, ParameterError, "output_layer must be the name"),
    ({"img_layer": ["fov0", "fov0"], "output_layer": ["a", "b"]}, ParameterError, "img_layer"),
    ({"img_layer": ["fov0", "fov1"]}, ParameterError, "output_layer.*1 for 2"),
    (
        {"img_layer": ["fov0", "fov1"], "output_layer": ["a", "A"]},
        ParameterError,
        "output_layer.*'a', 'A'",
    ),
    ({"output_layer": "fov1"}, LayerError, "output_layer 'fov1' exists.*overwrite"),
    ({"output_layer": "fov0"}, LayerError, "output_layer 'fov0' exists"),
    ({"output_layer": "FOV1"}, LayerError, "output_layer 'FOV1'.*case.*'fov1'"),
    ({"output_layer": "cells", "overwrite": True}, LayerError, "'cells'.*labels"),
    ({"output_layer": "a/b"}, LayerError, "output_layer.*'a/b'"),
    ({"output_layer": "a b"}, LayerError, "output_layer.*'a b'"),
    ({"output_layer": ""}, LayerError, "output_layer.*''"),
    ({"output_layer": ".hidden"}, LayerError, "output_layer.*'.hidden'"),
    ({"output_layer": "__x"}, LayerError, "output_layer.*'__x'"),
    ({"output_layer": "zarr.json"}, LayerError, "output_layer.*'zarr.json'"),
    ({"output_layer": None}, ParameterError, "output_layer.*None"),
    ({"channels": ["CD4"]}, ChannelError, "'fov0'.*'CD4'.*did you mean 'CD"),
    ({"channels": ["CD3", "CD3"]}, ChannelError, "channels.*'CD3'"),
    ({"channels": []}, ParameterError, "channels"),
    ({"channels": "CD3"}, ParameterError, r"channels.*did you mean \['CD3'\]"),
    ({"q": 0.99}, ParameterError, "q must.*0.99; did you mean 99"),
    ({"q": 101}, ParameterError, "q must.*101"),
    ({"q": [99, 98]}, ParameterError, "q must have one value per channel.*4 channels.*2"),
    ({"q_post": {"CD4": 99, ...: 98}}, ChannelError, "q_post.*'CD4'"),
    ({"q_sum": -1}, ParameterError, "q_sum.*-1"),
    ({"sigma": -2}, ParameterError, "sigma.*-2"),
    ({"sigma": {"CD3": 1}}, ChannelError, "sigma.*'DAPI'"),
    ({"norm_sum": "no"}, ParameterError, "norm_sum.*'no'"),
    ({"overwrite": "yes"}, ParameterError, "overwrite.*'yes'"),
    ({"cap_max": "1"}, ParameterError, "cap_max.*'1'"),
    ({"cap_max": [1, 2]}, ParameterError, "4 channels"),
    ({"dtype": "int8"}, ParameterError, "dtype.*'int8'"),
    ({"dtype": "nonsense"}, ParameterError, "dtype.*'nonsense'"),
    ({"pool": "max"}, ParameterError, "pool.*'max'"),
    ({"chunks": 0}, ParameterError, "chunks.*0"),
    ({"chunks": -5}, ParameterError, "chunks.*-5"),
    ({"chunks": "foo"}, ParameterError, "chunks.*'foo'"),
    ({"chunks": (1, 2)}, ParameterError, "chunks"),
    ({"chunks": {"z": 1}}, ParameterError, "chunks.*z"),
    ({"chunks": 2.5}, ParameterError, "chunks.*2.5"),
    ({"scale_factors": 2}, ParameterError, "scale_factors.*2"),
    ({"scale_factors": np.array(2)}, ParameterError, "scale_factors.*2"),
    ({"scale_factors": [0]}, ParameterError, "scale_factors.*0"),
    ({"scale_factors": [2.5]}, ParameterError, "scale_factors.*2.5"),
    ({"scale_factors": "2"}, ParameterError, "scale_factors.*'2'"),
    ({"scale_factors": [{"c": 2}]}, ParameterError, "scale_factors.*c"),
    ({"scale_factors": [8, 8]}, ParameterError, "scale_factors.*at least one pixel"),
    ({"pipeline": 3}, ParameterError, "pipeline.*3"),
    ({"pipeline": Pipeline(), "q": 98}, ParameterError, "pipeline.*q"),
    ({"pipeline": Pipeline([QuantileNorm({"CD4": 9})])}, ChannelError, "'CD4'"),
    ({"progress": "loud"}, ParameterError, "progress.*'loud'"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_input(untouched, change, kind, message, no_compute):
    before = files(untouched.path)
    elements = {name: element for _, name, element in untouched.gen_elements()}
    arguments = {"img_layer": "fov0", "output_layer": "clean", **change}
    with no_compute(), pytest.raises(kind, match=f"(?s){message}"):
        pixel_clustering_preprocess(untouched, **arguments)
    assert [name for _, name, _ in untouched.gen_elements()] == list(elements)
    assert all(untouched[name] is element for name, element in elements.items())
    assert files(untouched.path) == before


def test_not_a_spatialdata_object():
    with pytest.raises(ParameterError, match="sdata"):
        pixel_clustering_preprocess({"fov0": 1}, "fov0", "clean")


def test_fitted_pipeline_with_other_channels(untouched, no_compute):
    fitted = Pipeline.sparrow().fit(labeled(counts(0)).sel(c=["CD3", "CD20"]))
    with no_compute(), pytest.raises(ChannelError, match=r"'fov0'.*unknown 'DAPI', 'panCK'"):
        pixel_clustering_preprocess(untouched, "fov0", "clean", pipeline=fitted)


def test_layer_on_disk_that_the_object_does_not_know(tmp_path, no_compute):
    sdata = backed(tmp_path, one_layer)
    other = spatialdata.read_zarr(sdata.path)
    pixel_clustering_preprocess(other, "fov0", "clean")
    with no_compute(), pytest.raises(LayerError, match="'clean' exists"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")


# --- what fails leaves nothing --------------------------------------------------------------------


@contextmanager
def without_rights_of_root():
    """Root would write anyway."""
    rights = os.geteuid(), os.getegid()
    if rights[0] == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(rights[0])
        os.setegid(rights[1])


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_read_only_store(tmp_path):
    sdata = backed(tmp_path, one_layer)
    with pytest.raises(LayerError):  # imports what it needs, which others may not read
        pixel_clustering_preprocess(sdata, "fov0", "/")
    folders = [sdata.path, *(p for p in sdata.path.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    try:
        with (
            without_rights_of_root(),
            pytest.raises(StoreError, match=r"^the store cannot be written to: no permission"),
        ):
            pixel_clustering_preprocess(sdata, "fov0", "clean")
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)
    assert sorted(p.name for p in (sdata.path / "images").iterdir() if p.is_dir()) == ["fov0"]


def test_remote_store_is_refused():
    class Remote(spatialdata.SpatialData):
        path = "s3://bucket/store.zarr"

    remote = Remote(images={"fov0": layer(counts(0))})
    with pytest.raises(StoreError, match="local"):
        pixel_clustering_preprocess(remote, "fov0", "clean")


def test_errors_are_one_family():
    for kind in (ChannelError, LayerError, ParameterError, StoreError):
        assert issubclass(kind, PxprepError)


@pytest.mark.parametrize(
    "compressor",
    ["lz4", {"gzip": 1}, {"lz4": 1, "zstd": 1}, {"lz4": 10}, {"lz4": -1}, {"zstd": 1.5}],
)
def test_bad_compressors(compressor):
    sdata = make()
    with pytest.raises(ParameterError, match="compressor"):
        pixel_clustering_preprocess(sdata, "fov0", "clean", compressor=compressor)
