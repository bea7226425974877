"""Arrays of other kinds are refused before anything else; the error shows what mends it."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import pxprep
from pxprep import Pipeline, ops
from pxprep.errors import ImageError, ParameterError, PxprepError
from pxprep.images.datatree import TREES

PIXELS = np.random.default_rng(0).gamma(1, 9, (2, 6, 5))
IMAGE = xr.DataArray(PIXELS, dims=("c", "y", "x"), attrs={"um_per_pixel": 0.5})


class Plain:
    """An array that has what xarray asks of one, and a dtype that NumPy does not know."""

    class Type:
        itemsize = 8

    def __init__(self, values):
        self.values = values

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    dtype = property(lambda self: self.Type())

    def __array_namespace__(self, **_):
        return np

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, key):
        return type(self)(self.values[key])


class Quantity(Plain):
    dtype = property(lambda self: self.values.dtype)
    magnitude = property(lambda self: self.values)


def real(name, make):
    """An array of a package that may not be installed."""
    return lambda values: make(pytest.importorskip(name), values)


def of_units(pint, values):
    return pint.UnitRegistry().Quantity(values, "count")


def sparse_blocks(sparse, values):
    return da.from_array(sparse.COO.from_numpy(values), asarray=False, chunks=3)


KINDS = {
    "plain": Plain,
    "quantity": Quantity,
    "lazy quantity": lambda values: Quantity(da.from_array(values)),
    "array API": real("array_api_strict", lambda strict, values: strict.asarray(values)),
    "sparse": real("sparse", lambda sparse, values: sparse.COO.from_numpy(values)),
    "sparse blocks": real("sparse", sparse_blocks),
    "pint": real("pint", of_units),
    "lazy pint": real("pint", lambda pint, values: of_units(pint, da.from_array(values))),
}
KIND = "must hold a NumPy array or a Dask array of NumPy arrays, got "


def mended(error, **known):
    line = str(error).split("write ", 1)[1]
    return eval(line, {**known, "np": np})


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_images(kind, no_compute):
    image = IMAGE.copy(data=kind(PIXELS))
    calls = [
        ops.blur,
        ops.quantile_norm,
        ops.quantile,
        lambda one: one.pxprep.preprocess(),
        Pipeline().blur().fit,
        Pipeline().blur().fit(IMAGE).transform,
        lambda one: ops.sum_mask(IMAGE, reference=one),
        pxprep.pixel_table,
        pxprep.plot.channels,
        lambda one: Pipeline().blur().fit({"fov0": one}),
    ]
    for one in (image.rename(c="C"), image):
        for call in calls:
            with no_compute(), pytest.raises(ImageError, match=KIND) as raised:
                call(one)
    with pytest.raises(ImageError, match="what step 'own' returned " + KIND):
        Pipeline().then(lambda _: image, "own").fit_transform(IMAGE)
    again = mended(raised.value, image=image)
    xr.testing.assert_identical(again.pxprep.blur().compute(), IMAGE.pxprep.blur())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sparse blocks"])
def test_what_goes_with_images(kind):
    """Masks, labels and numbers."""
    calls = {
        "mask": (PIXELS[0] > 5, lambda mask: ops.quantile_norm(IMAGE, where=mask)),
        "labels": (
            (PIXELS[0] > 5).astype(int),
            lambda labels: pxprep.pixel_table(IMAGE, labels=labels)["label"],
        ),
        "scale": (np.array([2.0, 3.0]), lambda scale: ops.divide(IMAGE, scale)),
        "threshold": (np.array(20.0), lambda one: ops.sum_mask(IMAGE, threshold=one)),
    }
    for name, (values, call) in calls.items():
        dims = ("y", "x") if values.ndim == 2 else ("c",)[: values.ndim]
        plain = xr.DataArray(values, dims=dims)
        array = plain.copy(data=KINDS[kind](values))
        with pytest.raises(PxprepError, match=KIND) as raised:
            call(array)
        assert type(raised.value) is ParameterError
        made = mended(raised.value, **{name: array})
        assert call(made).equals(call(plain))


def test_masked_blocks():
    blocks = da.from_array(PIXELS, chunks=3).map_blocks(np.ma.masked_less, 3)
    image = IMAGE.copy(data=blocks)
    if not isinstance(image.data._meta, np.ma.MaskedArray):
        # Newer versions of xarray make NaN of what is masked.
        after = ops.quantile(image, 0, zeros="include")
    else:
        with pytest.raises(ImageError, match=KIND + "numpy.ma.*MaskedArray") as raised:
            ops.quantile(image)
        after = ops.quantile(mended(raised.value, image=image), 0, zeros="include")
    expected = [channel[channel >= 3].min() for channel in PIXELS]
    np.testing.assert_array_equal(after, expected)


def test_unknown_shapes(no_compute):
    lazy = da.from_array(PIXELS, chunks=3)
    image = xr.DataArray(lazy[lazy[:, 0, 0] > 0], dims=("c", "y", "x"))
    with no_compute(), pytest.raises(ImageError, match=r"known shape, got \(nan, 6, 5\)") as raised:
        ops.blur(image)
    xr.testing.assert_equal(mended(raised.value, image=image).pxprep.blur(), IMAGE.pxprep.blur())


# --- keep_attrs -----------------------------------------------------------------------------------


def calls_on(image):
    fitted = Pipeline().quantile_norm().fit(image)
    nodes = {"fov": image.to_dataset(name="image")}
    in_trees = {tree: tree.from_dict(nodes).pxprep.blur()["fov/image"] for tree in TREES}
    return in_trees | {
        "step": image.pxprep.blur(),
        "lazy": image.chunk().pxprep.blur(),
        "sums": image.pxprep.pixel_sum(),
        "smaller": image.pxprep.coarsen({"y": 2}),
        "pipeline": image.pxprep.preprocess(channels=[1]),
        "no steps": Pipeline().fit_transform(image),
        "transform": fitted.transform(image),
        "cohort": fitted.transform([image])[0],
        "dataset": image.to_dataset(name="image").pxprep.blur().image,
    }


def test_attrs_are_kept_unless_xarray_is_told_otherwise():
    for keep in ("default", True):
        with xr.set_options(keep_attrs=keep):
            for what, made in calls_on(IMAGE).items():
                smaller = {"um_per_pixel": {"y": 1.0, "x": 0.5}}
                assert made.attrs == (smaller if what == "smaller" else {"um_per_pixel": 0.5}), what
    with xr.set_options(keep_attrs=False):
        for what, made in calls_on(IMAGE).items():
            assert made.attrs == {}, what
    assert IMAGE.attrs == {"um_per_pixel": 0.5}


@pytest.mark.parametrize("scale_factors", [None, [2]])
@pytest.mark.parametrize("keep", [True, False])
def test_attrs_of_layers(tmp_path, keep, scale_factors):
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale, get_transformation

    scale = Scale([0.5, 0.5], ("y", "x"))
    element = Image2DModel.parse(
        IMAGE, transformations={"um": scale}, scale_factors=scale_factors, c_coords=["a", "b"]
    )
    (element if scale_factors is None else element["scale0"]["image"]).attrs["mark"] = 1
    for path in (None, tmp_path / f"{keep}.zarr"):
        sdata = spatialdata.SpatialData(images={"fov0": element})
        if path:
            sdata.write(path)
        with xr.set_options(keep_attrs=keep):
            pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean")
        made = sdata["clean"]
        finest = made if scale_factors is None else made["scale0"]["image"]
        assert get_transformation(made, "um") == scale
        assert set(finest.attrs) - {"transform"} == ({"um_per_pixel", "mark"} if keep else set())
