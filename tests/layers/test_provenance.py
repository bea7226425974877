import dataclasses
import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata

import pxprep
from pxprep import Pipeline, PxprepError, provenance
from pxprep.errors import LayerError, ParameterError, StoreError
from pxprep.layers import read_images
from stores import ATTRS, counts, image, make_study


@pytest.fixture(params=["memory", "zarr"])
def sdata(request, tmp_path):
    if request.param == "zarr":
        return make_study(tmp_path / "study.zarr")
    images = {f"fov{seed}": image(seed) for seed in range(3)}
    return spatialdata.SpatialData(images=images, attrs=json.loads(json.dumps(ATTRS)))


def again(sdata):
    return sdata if sdata.path is None else spatialdata.read_zarr(sdata.path)


def clean(sdata, sources="fov0", outputs="clean", **parameters):
    return pxprep.pixel_clustering_preprocess(sdata, sources, outputs, **parameters)


def test_what_made_a_layer(sdata):
    pipeline = Pipeline.sparrow(q={"CD3": 98.5, ...: 99}, sigma=1)
    before = datetime.now(UTC) - timedelta(seconds=1)
    clean(sdata, ["fov0", "fov1"], ["clean0", "clean1"], pipeline=pipeline, chunks=10)
    fovs = read_images(sdata, ["fov0", "fov1"])
    for source in (sdata, again(sdata)):
        made = provenance(source, "clean1")
        assert (made.layer, made.source) == ("clean1", "fov1")
        assert made.run == provenance(source, "clean0").run
        assert before <= made.time <= datetime.now(UTC)
        assert made.versions["pxprep"] == pxprep.__version__
        assert made.versions["zarr"] == version("zarr")
        assert set(made.versions) == {"pxprep", "spatialdata", "zarr", "numpy", "dask"}
        assert made.parameters["layers"] == {"clean0": "fov0", "clean1": "fov1"}
        assert made.parameters["chunks"] == 10
        assert made.fitted() == pipeline.fit(fovs)
        assert made.fitted().pipeline == pipeline
    reapplied = provenance(again(sdata), "clean1").fitted().transform(fovs["fov1"])
    np.testing.assert_array_equal(reapplied.values, sdata["clean1"].values)


def test_other_attrs_are_never_touched(sdata):
    clean(sdata)
    assert sdata.attrs["study"] == ATTRS["study"]
    assert set(again(sdata).attrs) == {"study", "pxprep"}
    assert again(sdata).attrs["study"] == ATTRS["study"]


def test_attrs_on_disk_count_and_not_those_of_a_stale_object(tmp_path):
    stale = make_study(tmp_path / "study.zarr")
    other = spatialdata.read_zarr(stale.path)
    other.attrs["note"] = "written later"
    other.write_attrs()
    clean(other, "fov1", "first")
    clean(stale)
    found = spatialdata.read_zarr(stale.path)
    assert found.attrs["note"] == "written later"
    assert provenance(found, "first").source == "fov1"
    assert provenance(found, "clean").source == "fov0"


def test_overwritten_layer_has_the_newer_provenance_and_old_runs_go(sdata):
    clean(sdata, pipeline=Pipeline().blur(1))
    first = provenance(sdata, "clean")
    clean(sdata, pipeline=Pipeline().quantile_norm(99), overwrite=True)
    second = provenance(again(sdata), "clean")
    assert first.run != second.run
    assert second.parameters["pipeline"]["steps"][0]["name"] == "quantile_norm"
    assert list(again(sdata).attrs["pxprep"]["runs"]) == [second.run]


def test_copies_that_spatialdata_writes_keep_it(sdata, tmp_path):
    clean(sdata)
    made = provenance(sdata, "clean")
    sdata.write(tmp_path / "copy.zarr")
    copy = spatialdata.read_zarr(tmp_path / "copy.zarr")
    assert provenance(copy, "clean") == made


def test_layer_that_was_replaced_by_others_has_none(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    clean(sdata)
    del sdata.images["clean"]
    sdata.delete_element_from_disk("clean")
    sdata.images["clean"] = image(5)
    sdata.write_element("clean")
    with pytest.raises(LayerError, match="'clean' has been replaced"):
        provenance(spatialdata.read_zarr(sdata.path), "clean")


def test_layers_without_provenance(sdata):
    with pytest.raises(LayerError, match="'fov0' has no provenance"):
        provenance(sdata, "fov0")
    with pytest.raises(LayerError, match=r"'none' does not exist.*fov0"):
        provenance(sdata, "none")
    with pytest.raises(LayerError, match=r"layer must be the name of one, got \['fov0'\]"):
        provenance(sdata, ["fov0"])
    with pytest.raises(ParameterError, match="sdata"):
        provenance({}, "fov0")


def root(block):
    return np.sqrt(block)


def test_own_functions_are_named_and_not_kept(sdata):
    pipeline = Pipeline([root, pxprep.steps.QuantileNorm(99)])
    clean(sdata, pipeline=pipeline)
    made = provenance(again(sdata), "clean")
    assert made.parameters["pipeline"]["steps"][0]["as"] == "root"
    with pytest.raises(ParameterError, match="functions must give the function of step 'root'"):
        made.fitted()
    fitted = made.fitted({"root": root})
    fov = read_images(sdata, "fov0")["fov0"]
    np.testing.assert_array_equal(fitted.transform(fov).values, sdata["clean"].values)


@dataclasses.dataclass(frozen=True)
class Shift(pxprep.steps.Step):
    kind: ClassVar[str] = "test_shift"
    by: object = None

    def apply(self, image, numbers):
        return image + 1


def test_parameters_that_json_cannot_keep_leave_their_text(sdata):
    clean(sdata, pipeline=Pipeline([Shift(by=object)]))
    np.testing.assert_array_equal(sdata["clean"].values, counts(0) + 1.0)
    made = provenance(again(sdata), "clean")
    assert "shift" in str(made.parameters["pipeline"]).lower()
    with pytest.raises(ParameterError, match=r"'clean' could not be kept.*by"):
        made.fitted()


def test_records_of_another_format_are_not_touched(sdata, no_compute):
    sdata.attrs["pxprep"] = {"format": 99, "future": True}
    if sdata.path is not None:
        sdata.write_attrs()
    with (
        no_compute(),
        pytest.raises(StoreError, match=r"attrs\['pxprep'\] must be of format 1.*99"),
    ):
        clean(sdata)
    assert again(sdata).attrs["pxprep"] == {"format": 99, "future": True}
    assert "clean" not in again(sdata)


def test_provenance_is_a_value(sdata):
    clean(sdata)
    made = provenance(sdata, "clean")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.source = "fov1"
    assert "fov0" in repr(made)
    assert issubclass(LayerError, PxprepError)


def test_none_is_shown_where_the_default_is_another(sdata):
    clean(sdata, pipeline=Pipeline().blur(None).median())
    said = repr(provenance(sdata, "clean"))
    assert "sigma: not given" in said
    assert "reference" not in said
