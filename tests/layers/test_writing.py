import gc
import os
import shutil
import warnings

import dask
import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
import zarr
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline
from pxprep.engine import backends
from pxprep.errors import LayerError, ParameterError, StoreError
from pxprep.layers import backing, new_layers, read_images
from stores import CHANNELS, CHUNKS, arrays, counts, files, image, layers, make_study, same

STEPS = Pipeline().quantile_norm(99)
FOVS = ["fov0", "fov1", "fov2"]


@pytest.fixture(params=["single-scale", "multiscale"])
def sdata(request, tmp_path):
    return make_study(tmp_path / "study.zarr", request.param == "multiscale")


def clean(sdata, sources="fov0", outputs="clean", **parameters):
    return pxprep.pixel_clustering_preprocess(
        sdata, sources, outputs, **{"pipeline": STEPS, **parameters}
    )


def expected(sdata, sources=("fov0",)):
    """What the finest scales of processed sources are."""
    return {
        name: image.values
        for name, image in STEPS.fit_transform(read_images(sdata, sources)).items()
    }


# --- overwrite ------------------------------------------------------------------------------------


def test_overwrite_another_layer(sdata):
    new = expected(sdata)["fov0"]
    before = layers(sdata.path)
    assert clean(sdata, outputs="fov1", overwrite=True) is sdata
    found = layers(sdata.path)
    np.testing.assert_array_equal(found["fov1"][0], new)
    assert same(arrays(sdata["fov1"]), found["fov1"])
    assert all(same(found[name], before[name]) for name in ("fov0", "fov2", "other"))
    assert not (sdata.path / ".pxprep").exists()


def test_overwrite_the_input(sdata):
    new = expected(sdata)["fov0"]
    clean(sdata, outputs="fov0", overwrite=True)
    np.testing.assert_array_equal(arrays(sdata["fov0"])[0], new)
    np.testing.assert_array_equal(layers(sdata.path)["fov0"][0], new)
    assert pxprep.provenance(sdata, "fov0").source == "fov0"


def test_layers_that_change_places(sdata):
    """Each is the input of the other: both are read before either is replaced."""
    new = expected(sdata, ["fov0", "fov1"])
    clean(sdata, ["fov0", "fov1"], ["fov1", "fov0"], overwrite=True)
    found = layers(sdata.path)
    np.testing.assert_array_equal(found["fov1"][0], new["fov0"])
    np.testing.assert_array_equal(found["fov0"][0], new["fov1"])


def test_steps_are_not_applied_twice(sdata, no_compute):
    clean(sdata, outputs="fov0", overwrite=True)
    before = files(sdata.path)
    for again in (sdata, spatialdata.read_zarr(sdata.path)):
        with (
            no_compute(),
            pytest.raises(LayerError, match=r"'fov0' already holds.*not applied twice"),
        ):
            clean(again, outputs="fov0", overwrite=True)
    assert files(sdata.path) == before
    clean(sdata, outputs="fov0", overwrite=True, pipeline=Pipeline().blur(1))


@pytest.mark.parametrize(
    "depend",
    [
        lambda array: array * 2,
        lambda array: dask.optimize(array + 1)[0],
        lambda array: da.from_array(zarr_of(array), chunks=CHUNKS),
        lambda array: da.from_array(zarr_of(array), chunks=CHUNKS, inline_array=True) * 2,
        lambda array: array.map_blocks(lambda block, other: block, zarr_of(array), dtype="u2"),
        lambda array: da.map_blocks(
            closure_over(zarr_of(array)), chunks=array.chunks, dtype="u2", meta=np.empty((0, 0, 0))
        ),
        lambda array: STEPS.fit_transform(labeled(array)).data,
    ],
    ids=["graph", "optimised", "zarr array", "inlined", "argument", "closure", "pxprep"],
)
def test_layer_that_others_are_computed_from_is_kept(tmp_path, depend, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    element = Image2DModel.parse(
        depend(sdata["fov0"].data), dims=("c", "y", "x"), c_coords=CHANNELS
    )
    sdata.images["made"] = element
    before = files(sdata.path)
    with no_compute(), pytest.raises(LayerError, match=r"'fov0' cannot be replaced: \['made'\]"):
        clean(sdata, "fov1", "fov0", overwrite=True)
    assert files(sdata.path) == before
    clean(sdata, "fov1", "fov2", overwrite=True)


def zarr_of(array):
    (found,) = backing._reachable([array.__dask_graph__()], zarr.Array)
    return found


def closure_over(stored):
    return lambda block_id=None: np.asarray(stored[:1, :1, :1])


def labeled(array):
    import xarray as xr

    return xr.DataArray(array, dims=("c", "y", "x"), coords={"c": CHANNELS})


def test_dependence_through_a_lower_scale(tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    mixed = image(7, multiscale=True)
    coarse = mixed["scale1"]["image"]
    mixed["scale1"]["image"] = coarse.copy(data=sdata["fov0"]["scale1"]["image"].data)
    sdata.images["mixed"] = mixed
    with no_compute(), pytest.raises(LayerError, match=r"'fov0' cannot be replaced: \['mixed'\]"):
        clean(sdata, "fov1", "fov0", overwrite=True)


def test_tasks_are_not_searched_again_for_each_task(tmp_path, monkeypatch):
    looked_at, look = [], gc.get_referents

    def noting(item):
        looked_at.append(type(item))
        return look(item)

    monkeypatch.setattr(gc, "get_referents", noting)
    zarr.create_array(tmp_path / "large", shape=(30, 30), chunks=(1, 1), dtype="u1")
    lazy = dask.optimize(da.from_zarr(tmp_path / "large") + 1)[0]
    assert set(backing.arrays_behind([lazy])) == {(tmp_path / "large").resolve()}
    assert len(looked_at) < 20 * 900  # 900 tasks, and a few objects in each


# --- resume ---------------------------------------------------------------------------------------


class StoppedError(Exception):
    pass


def stop_after(monkeypatch, n_layers):
    """The write of a later layer fails; how many layers were written in all."""
    write, written = spatialdata.SpatialData.write, []

    def stopping(self, path, **kwargs):
        if len(written) == n_layers:
            raise StoppedError
        written.extend(self.images)
        write(self, path, **kwargs)

    monkeypatch.setattr(spatialdata.SpatialData, "write", stopping)
    return written


def test_resume_finishes_what_was_interrupted(sdata, monkeypatch):
    new = expected(sdata, FOVS)
    outputs = ["a", "b", "c"]
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError) as caught:
            clean(sdata, FOVS, outputs, resume=True)
    assert "['b'] not written" in caught.value.__notes__[0]
    assert "['a'] had been written before and are kept" in caught.value.__notes__[0]
    again = spatialdata.read_zarr(sdata.path)
    assert {"a", "b", "c"} & set(again.images) == {"a"} == {"a", "b", "c"} & set(sdata.images)
    written = stop_after(monkeypatch, 10)
    monkeypatch.setattr(Pipeline, "fit", None)  # the numbers are those of before
    before = {path: data for path, data in files(sdata.path).items() if "/a/" in str(path)}
    clean(again, FOVS, outputs, resume=True)
    assert written == ["b", "c"]
    for name, fov in zip(outputs, FOVS, strict=True):
        np.testing.assert_array_equal(arrays(again[name])[0], new[fov])
    after = {path: data for path, data in files(sdata.path).items() if "/a/" in str(path)}
    assert after == before
    assert len({pxprep.provenance(again, name).run for name in outputs}) == 1
    clean(again, FOVS, outputs, resume=True)
    assert written == ["b", "c"]


def test_resume_in_place(sdata, monkeypatch):
    """What is done is not applied twice, and the rest gets the numbers of the whole cohort."""
    new = expected(sdata, FOVS)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            clean(sdata, FOVS, FOVS, overwrite=True, resume=True)
    again = spatialdata.read_zarr(sdata.path)
    clean(again, FOVS, FOVS, overwrite=True, resume=True)
    for fov in FOVS:
        np.testing.assert_array_equal(arrays(again[fov])[0], new[fov])
    clean(again, FOVS, FOVS, overwrite=True, resume=True)
    np.testing.assert_array_equal(layers(sdata.path)["fov0"][0], new["fov0"])


@pytest.mark.parametrize("outputs", [["fov1", "fov0"], ["fov1", "new"], ["new", "fov0"]])
def test_resume_replaces_no_input_of_another_layer(sdata, outputs):
    before = files(sdata.path)
    with pytest.raises(LayerError, match=r"output_layer \['fov.'\] would take the place of what"):
        clean(sdata, FOVS[:2], outputs, overwrite=True, resume=True)
    assert files(sdata.path) == before
    clean(sdata, FOVS[:2], outputs, overwrite=True)


@pytest.mark.parametrize("pool", [None, "pixels"])
def test_resume_of_each_way_to_pool(tmp_path, monkeypatch, pool):
    sdata = make_study(tmp_path / "study.zarr")
    whole = make_study(tmp_path / "whole.zarr")
    clean(whole, FOVS, ["a", "b", "c"], pool=pool)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError):
            clean(sdata, FOVS, ["a", "b", "c"], pool=pool, resume=True)
    clean(sdata, FOVS, ["a", "b", "c"], pool=pool, resume=True)
    assert all(same(layers(sdata.path)[name], layers(whole.path)[name]) for name in "abc")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pipeline": Pipeline().quantile_norm(98)}, "other pipeline"),
        ({"channels": ["CD3"]}, "other channels"),
        ({"pool": "pixels"}, "other pool"),
        ({"chunks": 8}, "other chunks"),
        ({"sources": ["fov0", "fov2", "fov1"]}, "other layers"),
    ],
)
def test_resume_does_not_mix_runs(tmp_path, monkeypatch, change, why, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError):
            clean(sdata, FOVS, ["a", "b", "c"], resume=True)
    before = files(sdata.path)
    call = {"sources": FOVS, "outputs": ["a", "b", "c"], "resume": True, "overwrite": True}
    with no_compute(), pytest.raises(LayerError, match=f"'a' is of another run.*{why}"):
        clean(sdata, **{**call, **change})
    assert files(sdata.path) == before


def test_resume_notices_another_source_and_other_numbers(tmp_path, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError):
            clean(sdata, FOVS, ["a", "b", "c"], resume=True)
    fitted = STEPS.fit(read_images(sdata, ["fov0"]))
    with pytest.raises(LayerError, match=r"another run.*other numbers"):
        clean(sdata, FOVS, ["a", "b", "c"], resume=True, pipeline=fitted)
    image = sdata.images["fov1"]
    renamed = image.assign_coords(c=image.c.values[::-1])
    for other in (renamed, image.copy(data=image.data * 2)):
        sdata.images["fov1"] = other
        with pytest.raises(LayerError, match=r"another run.*its source \['fov1'\] was another"):
            clean(sdata, FOVS, ["a", "b", "c"], resume=True)


def test_resume_in_a_copy_of_the_store(tmp_path, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr")
    new = expected(sdata, FOVS)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(StoppedError):
            clean(sdata, FOVS, ["a", "b", "c"], resume=True)
    shutil.copytree(sdata.path, tmp_path / "copy.zarr")
    copy = spatialdata.read_zarr(tmp_path / "copy.zarr")
    written = stop_after(monkeypatch, 10)
    clean(copy, FOVS, ["a", "b", "c"], resume=True)
    assert written == ["b", "c"]
    np.testing.assert_array_equal(copy["c"].values, new["fov2"])


def test_resume_needs_a_store_and_plain_parameters(tmp_path):
    memory = spatialdata.SpatialData(images={"fov0": image(0)})
    with pytest.raises(ParameterError, match="resume needs an sdata that is backed"):
        clean(memory, resume=True)
    with pytest.raises(ParameterError, match="resume must be True or False, got 1"):
        clean(memory, resume=1)


@pytest.mark.parametrize("wait", ["long", -1, float("nan"), None])
def test_bad_wait(tmp_path, wait):
    memory = spatialdata.SpatialData(images={"fov0": image(0)})
    with pytest.raises(ParameterError, match="wait must be True, False or a number of seconds"):
        clean(memory, wait=wait)


# --- where stores lie, and who else writes --------------------------------------------------------


def test_paths_with_spaces_links_and_other_alphabets(tmp_path):
    folder = tmp_path / "Études & 组织 \U0001f9ec"
    folder.mkdir()
    sdata = make_study(folder / "a störe.zarr")
    link = tmp_path / "a link.zarr"
    link.symlink_to(folder / "a störe.zarr")
    sdata = spatialdata.read_zarr(link)
    double = sdata["fov0"].data * 2
    new = expected(sdata)["fov0"]
    clean(sdata, outputs="fov0", overwrite=True)
    np.testing.assert_array_equal(spatialdata.read_zarr(link)["fov0"].values, new)
    assert link.is_symlink()
    sdata.images["made"] = Image2DModel.parse(double, dims=("c", "y", "x"), c_coords=CHANNELS)
    with pytest.raises(LayerError, match=r"'fov0' cannot be replaced: \['made'\]"):
        clean(sdata, "fov1", "fov0", overwrite=True)
    assert pxprep.repair(link) == ((), 0)


def test_layer_that_is_a_link_is_not_replaced(tmp_path, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(sdata.path / "images" / "fov1", elsewhere)
    (sdata.path / "images" / "fov1").symlink_to(elsewhere)
    with no_compute(), pytest.raises(LayerError, match=r"'fov1' is a symbolic link to .*elsewhere"):
        clean(sdata, outputs="fov1", overwrite=True)
    clean(sdata, "fov1", "clean")


def test_zarr_format_2(tmp_path):
    from spatialdata._io.format import SpatialDataContainerFormatV01

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what SpatialData says of its old format
        sdata = make_study(tmp_path / "old.zarr", sdata_formats=SpatialDataContainerFormatV01())
        new = expected(sdata)["fov0"]
        clean(sdata)
        clean(sdata, outputs="fov0", overwrite=True)
        found = spatialdata.read_zarr(sdata.path)
    assert (sdata.path / ".zmetadata").exists()
    assert not (sdata.path / "zarr.json").exists()
    for name in ("clean", "fov0"):
        np.testing.assert_array_equal(found[name].values, new)
        assert pxprep.provenance(found, name).source == "fov0"
    assert set(found.attrs) == {"study", "pxprep"}


def test_store_without_consolidated_metadata_stays_so(tmp_path):
    sdata = make_study(tmp_path / "study.zarr", consolidate_metadata=False)
    clean(sdata)
    found = spatialdata.read_zarr(sdata.path)
    assert not found.has_consolidated_metadata()
    assert pxprep.provenance(found, "clean").source == "fov0"


@pytest.mark.parametrize("layer", ["fov0", "fov1"])
def test_other_program_changes_a_layer_while_we_write(tmp_path, monkeypatch, layer):
    """The source, or the layer to be replaced: nothing is published over it."""
    sdata = make_study(tmp_path / "study.zarr")
    chunk = sdata.path / "images" / layer / "s0" / "c" / "0" / "1" / "0"
    stage = new_layers.stage

    def stage_and_change(*args, **options):
        moves = stage(*args, **options)
        zarr.open_array(sdata.path / "images" / layer / "s0")[:, 16:] = 7
        return moves

    assert chunk.exists()
    monkeypatch.setattr(new_layers, "stage", stage_and_change)
    with pytest.raises(StoreError, match=rf"another program changed \['{layer}'\] meanwhile"):
        clean(sdata, outputs="fov1", overwrite=True)
    assert not (sdata.path / ".pxprep").exists()
    found = layers(sdata.path)
    assert (found[layer][0][:, 16:] == 7).all()
    np.testing.assert_array_equal(found["fov1"][0][:, :16], counts(1)[:, :16])


def test_new_layer_that_another_program_has_made_meanwhile(tmp_path, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr")
    other = spatialdata.read_zarr(sdata.path)
    stage = new_layers.stage

    def stage_and_write(*args, **options):
        monkeypatch.setattr(new_layers, "stage", stage)
        clean(other, "fov1", "clean")
        return stage(*args, **options)

    monkeypatch.setattr(new_layers, "stage", stage_and_write)
    with pytest.raises(StoreError, match=r"another program changed \['clean'\]"):
        clean(sdata)
    assert pxprep.provenance(spatialdata.read_zarr(sdata.path), "clean").source == "fov1"


def test_image_that_others_left_half_written(tmp_path, no_compute):
    """In the consolidated metadata it would make the whole store unreadable."""
    sdata = make_study(tmp_path / "study.zarr")
    zarr.open_group(sdata.path / "images", mode="r+", use_consolidated=False).create_group("half")
    with no_compute(), pytest.raises(StoreError, match="half' is not complete: another program"):
        clean(sdata)
    spatialdata.read_zarr(sdata.path)


def test_missing_chunk_is_an_error_and_no_zeros(tmp_path, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr")
    before = files(sdata.path)
    store = backends.store

    def store_without_a_chunk(arrays, targets):
        store(arrays, targets)
        (chunk,) = sdata.path.glob(".pxprep/*/alone.zarr/images/clean/s0/c/0/1/0")
        chunk.unlink()

    monkeypatch.setattr(backends, "store", store_without_a_chunk)
    with pytest.raises(StoreError, match="1 chunks are missing, 'c/0/1/0' the first"):
        clean(sdata)
    assert files(sdata.path) == before


def test_chunks_of_zeros_are_files(tmp_path):
    sdata = spatialdata.SpatialData(
        images={"empty": Image2DModel.parse(np.zeros((2, 24, 20), "f4"), dims=("c", "y", "x"))}
    )
    sdata.write(tmp_path / "study.zarr")
    sdata = spatialdata.read_zarr(sdata.path)
    clean(sdata, "empty", pipeline=Pipeline(), chunks=8)
    found = [p for p in (sdata.path / "images" / "clean" / "s0" / "c").rglob("*") if p.is_file()]
    assert len(found) == 3 * 3
    assert (spatialdata.read_zarr(sdata.path)["clean"].values == 0).all()


@pytest.mark.parametrize("what", ["omero", "chunks"])
def test_stage_is_verified(tmp_path, monkeypatch, what):
    sdata = make_study(tmp_path / "study.zarr")
    write = spatialdata.SpatialData.write

    def write_wrongly(self, path, **kwargs):
        ((name, element),) = self.images.items()
        if what == "chunks":
            element = element.copy(data=element.data.rechunk((1, 8, 8)))
        else:
            element = element.assign_coords(c=["x", "y"])
        write(spatialdata.SpatialData(images={name: element}), path, **kwargs)

    monkeypatch.setattr(spatialdata.SpatialData, "write", write_wrongly)
    with pytest.raises(StoreError, match="not written as it should be: expected ch"):
        clean(sdata)
    assert "clean" not in spatialdata.read_zarr(sdata.path)


def test_repair_of_no_store(tmp_path):
    with pytest.raises(StoreError, match="must be the folder of a SpatialData store"):
        pxprep.repair(tmp_path)
    with pytest.raises(ParameterError, match=r"path must be the path.*3"):
        pxprep.repair(3)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
