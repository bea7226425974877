"""Pixels that a step makes NaN are told of: how many, in which channels, and once."""

import pickle
import warnings

import numpy as np
import pytest
import xarray as xr

import pxprep
from pxprep import Pipeline, PxprepWarning, ops
from pxprep.engine.notes import Note, say_missing
from pxprep.engine.windows import Window
from pxprep.steps import QuantileNorm

CHUNKS = {"c": 2, "y": 50, "x": 40}


def dark(seed=0, dims="cyx", sizes=(3, 130, 90)):
    """An image of which some pixels are -1 and below, in two of the channels; some are missing."""
    rng = np.random.default_rng(seed)
    values = (
        rng.normal(2, 2, sizes).astype("float32")
        * np.array([1, 2, 0.1], "float32")[(slice(None), *[np.newaxis] * (len(sizes) - 1))]
    )
    values[0].flat[:5] = -1
    values[1].flat[7:9] = np.nan, -np.inf
    coords = {"c": ["CD3", "CD8", "DAPI"]}
    return xr.DataArray(values, dims=tuple(dims), coords=coords, name="fov0")


def low(*images):
    """How many values of each channel have no logarithm once 1 is added."""
    found = 0
    for image in images:
        flat = image.values.reshape(3, -1)
        found = found + (np.isfinite(flat) & (flat <= -1)).sum(axis=1)
    return found.tolist()


def told(function):
    """What was said in warnings of this package meanwhile, and the result."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        result = function()
    said = [str(one.message) for one in record if issubclass(one.category, PxprepWarning)]
    return [text for text in said if "negative values" not in text], result


def expected(*images, step="log1p"):
    counts, n_values = low(*images), sum(image.size for image in images)
    assert counts[2] == 0
    return (
        f"{step}: {sum(counts):,} of {n_values:,} values became NaN, as they were -1 or below: "
        f"in channels 'CD3' ({counts[0]:,}), 'CD8' ({counts[1]:,})"
    )


# --- the ways to run a step -----------------------------------------------------------------------


LONG = Pipeline().log1p().blur(1).quantile_norm(99).sum_mask(5).post_norm()


@pytest.mark.parametrize(
    "run",
    [
        lambda image: image.pxprep.log1p(),
        lambda image: ops.log1p([image]),
        lambda image: Pipeline().log1p().fit_transform(image),
        lambda image: LONG.fit_transform(image),
        lambda image: LONG.fit(image),
        lambda image: LONG.fit(image.chunk(CHUNKS), memory=0),
        lambda image: LONG.fit(image.chunk(CHUNKS), memory="1 GB"),
        lambda image: Pipeline().then(lambda one: one + 0).log1p().fit_transform(image),
        lambda image: image.chunk(CHUNKS).pxprep.log1p().compute(),
        lambda image: image.chunk(CHUNKS).pxprep.log1p().pxprep.quantile_norm().compute(),
        lambda image: LONG.fit_transform(image.chunk(CHUNKS)).compute(),
    ],
)
def test_is_told_once_however_it_is_run(run):
    said, _ = told(lambda: run(dark()))
    assert said == [expected(dark())]


def test_a_cohort_is_told_of_together():
    images = [dark(seed) for seed in range(3)]
    assert told(lambda: ops.log1p(images))[0] == [expected(*images)]
    said, fitted = told(lambda: LONG.fit(images))
    assert said == [expected(*images)]
    assert told(lambda: fitted.transform(images))[0] == [expected(*images)]
    assert told(lambda: LONG.fit_transform(dict(zip("abc", images, strict=True))))[0] == said


def test_each_step_is_told_of_by_its_name():
    pipeline = Pipeline().log1p().then(lambda one: one - 3, "darker").log1p()
    said, _ = told(lambda: pipeline.fit_transform(dark()))
    assert said[0] == expected(dark())
    assert said[1].startswith("log1p_2: ")
    assert len(said) == 2


@pytest.mark.parametrize("by", [None, {0: "a"}])
def test_what_was_measured_is_told_of_by_the_name_of_the_step(by):
    pipeline = Pipeline().quantile_norm().then(lambda one: one * 0, "none").then(QuantileNorm(99))
    said, _ = told(lambda: pipeline.fit([dark()], by=by))
    said = [text for text in said if "no finite" in text]
    where = "quantile_norm_2" if by is None else "quantile_norm_2 of batch 'a'"
    assert [text.split(":")[0] for text in said] == [where]


def test_a_plane_that_is_computed_twice_counts_once():
    image = xr.concat([dark(0), dark(1)], "z").chunk(z=1)
    _, lazy = told(lambda: image.pxprep.log1p())
    for _ in range(2):
        assert told(lambda: lazy.isel(z=0).compute())[0] == []
    assert len(told(lambda: lazy.isel(z=1).compute())[0]) == 1


def test_a_lazy_image_is_told_of_when_all_of_it_was_computed():
    said, lazy = told(lambda: dark().chunk(CHUNKS).pxprep.log1p())
    assert said == []
    assert told(lambda: lazy[:, :60].compute())[0] == []
    assert told(lambda: lazy.compute())[0] == [expected(dark())]
    assert told(lambda: lazy.compute())[0] == []


@pytest.mark.parametrize("chunks", [{"z": 1}, {"z": 2, "y": 30, "c": 1}, {"z": 4, "x": 20}])
def test_chunks_of_planes(chunks):
    image = dark(dims="czyx", sizes=(3, 4, 60, 50))
    lazy = image.chunk(chunks)
    assert told(lambda: lazy.pxprep.log1p().compute())[0] == [expected(image)]
    assert told(lambda: Pipeline().log1p().quantile_norm().fit(lazy))[0] == [expected(image)]
    said, _ = told(lambda: Pipeline().then(own_log, "own").fit_transform(lazy).compute())
    assert said == [own_text(image)]


def test_what_lies_outside_a_mask_is_not_looked_at_for_it():
    """Strips without a measured pixel are not run in `fit`, so that they are not counted."""
    image = dark()
    where = xr.zeros_like(image[0], bool).drop_vars("c")
    where[:40] = True
    said, _ = told(lambda: LONG.fit(image, where=where))
    assert len(said) == 1
    assert told(lambda: LONG.fit_transform(image, where=where))[0] == [expected(image)]


def test_nothing_is_told_where_nothing_is_lost():
    assert told(lambda: (dark() + 100).pxprep.log1p().pxprep.sum_norm())[0] == []


def test_a_failed_call_tells_nothing():
    def fail(image):
        raise ValueError("own")

    pipeline = Pipeline().log1p().then(fail)
    with pytest.raises(ValueError, match="own"):  # warnings are errors here
        pipeline.fit_transform(dark())


@pytest.fixture
def layers():
    """Multiscale layers of two images."""
    pytest.importorskip("spatialdata")
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    how = {"chunks": (1, 50, 40), "scale_factors": [2], "c_coords": dark().c.values.tolist()}
    images = {f"fov{seed}": dark(seed) for seed in range(2)}
    return SpatialData(
        images={
            name: Image2DModel.parse(image.values, dims=image.dims, **how)
            for name, image in images.items()
        }
    )


def preprocess(sdata, pipeline, suffix):
    names = list(sdata.images)
    new = [f"{name}_{suffix}" for name in names]
    return told(lambda: pxprep.pixel_clustering_preprocess(sdata, names, new, pipeline=pipeline))


@pytest.mark.parametrize("pipeline", [LONG, Pipeline().log1p()], ids=["measured", "not measured"])
def test_layers_are_told_of_together(layers, pipeline, tmp_path):
    from spatialdata import read_zarr

    layers.write(tmp_path / "study.zarr")
    said, _ = preprocess(read_zarr(tmp_path / "study.zarr"), pipeline, "new")
    assert said == [expected(dark(0), dark(1))]


def test_layers_in_memory_are_told_of_when_they_are_looked_at(layers):
    said, _ = preprocess(layers, LONG, "measured")
    assert said == [expected(dark(0), dark(1))]
    assert told(lambda: layers["fov1_measured"]["scale0"]["image"].compute())[0] == []
    for name in ("fov0_measured", "fov1_measured"):
        del layers.images[name]
    said, _ = preprocess(layers, Pipeline().log1p(), "later")
    assert said == []
    assert told(lambda: layers["fov1_later"]["scale0"]["image"].compute())[0] == [expected(dark(1))]


# --- what is told of which step -------------------------------------------------------------------


def test_sums_that_are_negative_are_told_of_and_zeros_are_not():
    image = xr.DataArray(
        np.array([[[1.0, -3, 0, 2, np.nan]], [[1.0, 1, 0, -2, 1]]]), dims=("c", "y", "x")
    )
    text = "sum_norm: 1 of 5 pixels became NaN, as their sum over channels is negative"
    for one in (image, image.chunk(x=2)):
        said, result = told(lambda one=one: one.pxprep.sum_norm().compute())
        assert said == [text]
        assert np.isnan(result).values.tolist() == [[[False, True, True, True, True]]] * 2
    assert told(lambda: image.pxprep.sum_mask(threshold=0).pxprep.sum_norm())[0] == []
    assert told(lambda: image.pxprep.sum_mask(threshold=-9).pxprep.sum_norm())[0] == [text]


def own_log(image):
    with np.errstate(all="ignore"):
        return np.log(image)


def own_text(image, step="own"):
    values = image.values.reshape(3, -1)
    counts = (np.isfinite(values) & (values <= 0)).sum(axis=1)
    assert (counts > 0).all()
    listed = ", ".join(
        f"{label!r} ({n:,})" for label, n in zip(image.c.values.tolist(), counts, strict=True)
    )
    n = f"{counts.sum():,} of {image.size:,} values"
    return f"{step}: {n} became NaN or infinite: in channels {listed}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("chunks", [None, {"y": 50}, {"c": 1, "y": 50, "x": 30}])
def test_own_steps(chunks):
    image = dark() if chunks is None else dark().chunk(chunks)
    pipeline = Pipeline().then(own_log, "own")
    said, _ = told(lambda: pipeline.fit_transform(image).compute())
    assert said == [own_text(dark())]
    measured = pipeline.blur(1).quantile_norm()
    said, fitted = told(lambda: measured.fit(image))
    assert said == [own_text(dark())]
    assert told(lambda: fitted.transform(image).compute())[0] == said


def test_own_steps_that_run_ours_are_told_of_by_their_name():
    pipeline = Pipeline().then(lambda one: one.pxprep.log1p(), "own")
    for image in (dark(), dark().chunk(CHUNKS)):
        said, _ = told(lambda image=image: pipeline.fit_transform(image).compute())
        assert said[0] == expected(dark(), step="own")
        assert all(text.startswith("own: ") for text in said)


def test_a_mask_of_ones_own_is_no_surprise():
    image = dark() + 100

    def upper_half(one):
        return one.isel(y=slice(50)).pad(y=(0, 80))

    for one in (image, image.chunk(CHUNKS)):
        said, result = told(
            lambda one=one: Pipeline().then(upper_half).fit_transform(one).compute()
        )
        assert said == []
        assert result.isnull().any()


# --- counted once ---------------------------------------------------------------------------------


def test_pixels_that_are_seen_again_do_not_count():
    image = xr.DataArray(np.zeros((2, 8, 6)), dims=("c", "y", "x"))
    note = Note(image, "cd", "a", "step", lambda notes: f"found {notes[0].found.tolist()}")
    windows = [
        Window(0, 4, 0, 3),
        Window(0, 4, 3, 6),
        Window(0, 4, 0, 3),  # again
        Window(2, 6, 0, 3),  # in part
        Window(4, 6, 0, 3),
        Window(4, 8, 3, 6),
    ]
    for window in windows:
        note.take(window, 1, lambda: [1, 0])
    with pytest.warns(PxprepWarning, match=r"step: found \[5, 5\]"):
        note.take(Window(6, 8, 0, 3), 1, lambda: [1, 5])
    note.take(Window(0, 8, 0, 6), 1, lambda: pytest.fail("counted again"))


def test_another_process_tells_at_once():
    note = Note(dark(), "cd", "a", "step", say_missing, "pixels are gone")
    sight = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(note))))
    sight.take(Window(0, 1, 0, 1), 1, lambda: [0, 0])
    with pytest.warns(PxprepWarning, match=r"step: pixels are gone \(seen in a worker process"):
        sight.take(Window(0, 1, 0, 1), 1, lambda: [0, 2])
    silent = pickle.loads(pickle.dumps(Note(dark(), "cd", "a", "step", say_missing)))
    silent.take(Window(0, 1, 0, 1), 1, lambda: pytest.fail("counted"))
