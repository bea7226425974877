"""Channels before and after, one below the other."""

import subprocess
import sys
from collections import Counter

import dask.array as da
import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from drawn import legend_texts, numbered, shown
from pxprep.datasets import tissue
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.plot import DROPPED, compare


@pytest.fixture(scope="module")
def image():
    return tissue(1, 64)["fov0"]


@pytest.fixture(scope="module")
def after(image):
    return image.pxprep.preprocess()


def texts(axis):
    return axis.get_title(), axis.get_ylabel()


def overlapping(boxes):
    return [
        (first, second)
        for i, first in enumerate(boxes)
        for second in boxes[i + 1 :]
        if first.overlaps(second)
    ]


def test_axes_and_texts(image, after):
    axes = compare(image, after)
    assert axes.shape == (4, 5)
    titles = [axis.get_title() for row in axes[::2] for axis in row]
    assert titles == image.c.values.tolist()
    assert [row[0].get_ylabel() for row in axes] == ["before", "after", "before", "after"]
    assert all(axis.get_title() == "" for row in axes[1::2] for axis in row)
    assert isinstance(axes[0, 0].figure, Figure)


def test_pictures_are_the_images(image, after):
    axes = compare(image, after, ["panCK", "CD3"])
    assert axes.shape == (2, 2)
    for column, label in enumerate(["panCK", "CD3"]):
        np.testing.assert_array_equal(shown(axes[0, column]), image.sel(c=label))
        masked = shown(axes[1, column])
        np.testing.assert_array_equal(masked.mask, after.sel(c=label).isnull())
        np.testing.assert_array_equal(masked.filled(np.nan), after.sel(c=label))


def test_contrast_is_robust_and_of_each_picture(image, after):
    axes = compare(image, after, ["DAPI", "CD8"])
    for axis, channel in (
        (axes[0, 0], image.sel(c="DAPI")),
        (axes[0, 1], image.sel(c="CD8")),
        (axes[1, 0], after.sel(c="DAPI")),
        (axes[1, 1], after.sel(c="CD8")),
    ):
        (picture,) = axis.get_images()
        high = np.nanquantile(channel.values.astype(np.float32), 0.995)
        assert picture.get_clim() == pytest.approx((0, high))


def test_dropped_pixels_have_their_own_colour_and_are_explained(image, after):
    axes = compare(image, after, ["DAPI"])
    (picture,) = axes[1, 0].get_images()
    dropped = np.isnan(after.values[0])
    assert dropped.any()
    colours = picture.cmap(picture.norm(picture.get_array()))
    wanted = to_rgba(DROPPED)
    assert (np.isclose(colours, wanted).all(axis=-1) == dropped).all()
    assert legend_texts(axes.figure) == ["no value"]
    assert legend_texts(compare(after, image, ["DAPI"]).figure) == ["no value"]


def test_nothing_dropped_nothing_explained(image):
    axes = compare(image, image.pxprep.quantile_norm())
    assert all(axis.get_legend() is None for axis in axes.flat)


@pytest.mark.parametrize(
    "values",
    [np.zeros(400), np.full(400, np.nan), np.full(400, -3.0), np.full(400, np.inf)],
    ids=["zero", "nan", "negative", "infinite"],
)
def test_channel_without_anything_to_show(values):
    empty = xr.DataArray(values.reshape(1, 20, 20), dims=("c", "y", "x"))
    axes = compare(empty, empty)
    assert shown(axes[0, 0]).shape == (20, 20)
    assert axes[0, 0].get_images()[0].get_clim() == (0, 1)
    axes[0, 0].figure.draw_without_rendering()


def test_few_stained_pixels_are_visible():
    sparse = xr.DataArray(np.zeros((1, 100, 100)), dims=("c", "y", "x"))
    sparse[0, 3, 4] = 7
    axes = compare(sparse, sparse)
    assert axes[0, 0].get_images()[0].get_clim() == (0, 7)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_dtypes(image, dtype):
    plain = image.astype(dtype)
    compare(plain, plain, ["DAPI"]).flat[0].figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("sizes", "max_pixels", "step"),
    [((40, 30), 40, 1), ((40, 30), 39, 2), ((41, 30), 20, 3), ((10, 95), 10, 10), ((7, 7), 1, 7)],
)
def test_large_images_are_thinned(sizes, max_pixels, step):
    large = numbered(2, *sizes)
    axes = compare(large, large, max_pixels=max_pixels)
    picture = shown(axes[1, 1])
    assert max(picture.shape) <= max_pixels
    np.testing.assert_array_equal(picture, large.values[1, ::step, ::step])


def test_lazy_images_compute_only_what_is_shown():
    seen = Counter()

    def read(block, name):
        seen[name] += 1
        return block

    plain = numbered(6, 5, 40, 40, dims=("z", "y", "x"))

    def lazy(name):
        array = da.from_array(plain.values, chunks=(1, 1, 10, 10))
        return plain.copy(data=array.map_blocks(read, name, meta=array._meta))

    axes = compare(lazy("before"), lazy("after"), ["marker4", "marker1"], max_pixels=2)
    # A step of 20 touches every second block each way, of two channels and one plane.
    assert seen == {"before": 2 * 2 * 2, "after": 2 * 2 * 2}
    np.testing.assert_array_equal(shown(axes[0, 0]), plain.values[4, 2, ::20, ::20])
    np.testing.assert_array_equal(shown(axes[1, 1]), plain.values[1, 2, ::20, ::20])


def test_images_that_share_work_compute_it_once():
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    plain = numbered(2, 20, 20)
    array = da.from_array(plain.values, chunks=(2, 10, 10))
    source = plain.copy(data=array.map_blocks(read, meta=array._meta))
    compare(source, source * 2)
    assert len(reads) == 4


def test_lazy_looks_like_eager(image):
    lazy = image.chunk(y=20, x=33)
    eager_axes = compare(image, image.pxprep.preprocess())
    lazy_axes = compare(lazy, lazy.pxprep.preprocess())
    for eager, other in zip(eager_axes.flat, lazy_axes.flat, strict=True):
        np.testing.assert_array_equal(shown(eager).filled(-1), shown(other).filled(-1))
        assert eager.get_images()[0].get_clim() == other.get_images()[0].get_clim()


@pytest.mark.parametrize(("n_planes", "middle"), [(1, 0), (2, 1), (5, 2)])
def test_middle_plane(n_planes, middle):
    volume = numbered(2, n_planes, 8, 9, dims=("z", "y", "x"))
    axes = compare(volume, volume)
    np.testing.assert_array_equal(shown(axes[0, 1]), volume.values[1, middle])


def test_any_order_of_dimensions(image, after):
    axes = compare(image.transpose("x", "c", "y"), after.transpose("y", "x", "c"), ["SMA"])
    np.testing.assert_array_equal(shown(axes[0, 0]), image.sel(c="SMA"))
    np.testing.assert_array_equal(shown(axes[1, 0]).filled(np.nan), after.sel(c="SMA"))


def test_channels_are_matched_by_label(image):
    part = image.pxprep.preprocess(channels=["CD31", "DAPI"])
    axes = compare(image, part)
    assert [axis.get_title() for axis in axes[0]] == ["CD31", "DAPI"]
    np.testing.assert_array_equal(shown(axes[0, 0]), image.sel(c="CD31"))


def test_without_labels():
    plain = numbered(3, 8, 8, labels=False)
    axes = compare(plain, plain, [2, 0])
    assert [axis.get_title() for axis in axes[0]] == ["channel 2", "channel 0"]
    np.testing.assert_array_equal(shown(axes[0, 0]), plain.values[2])


@pytest.mark.parametrize(
    ("n_channels", "shape"), [(1, (2, 1)), (8, (2, 8)), (9, (4, 5)), (17, (6, 6)), (40, (10, 8))]
)
def test_many_channels_wrap(n_channels, shape):
    plain = numbered(n_channels, 16, 16)
    axes = compare(plain, plain)
    assert axes.shape == shape
    used = [axis for axis in axes.flat if axis.get_images()]
    assert len(used) == 2 * n_channels
    assert all(not axis.axison for axis in axes.flat if axis not in used)
    assert max(axes[0, 0].figure.get_size_inches()) < 18


@pytest.mark.parametrize("sizes", [(32, 32), (20, 90), (90, 20), (128, 3)])
@pytest.mark.parametrize("name", ["CD3", "CD45RO (clone UCHL1) 173Yb, conjugated in house"])
def test_nothing_overlaps_and_nothing_is_cut_off(sizes, name):
    plain = numbered(10, *sizes).assign_coords(c=[f"{i} {name}" for i in range(10)])
    gaps = plain.where(plain > 20)
    figure = compare(plain, gaps).flat[0].figure
    figure.draw_without_rendering()
    boxes = [axis.get_window_extent() for axis in figure.axes]
    boxes += [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    boxes += [axis.yaxis.label.get_window_extent() for axis in figure.axes if axis.get_ylabel()]
    boxes += [axis.get_legend().get_window_extent() for axis in figure.axes if axis.get_legend()]
    # Touching is no overlap.
    boxes = [box.padded(-0.5) for box in boxes]
    assert overlapping(boxes) == []
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for box in boxes
    )


def test_long_and_odd_names():
    plain = numbered(4, 16, 16).assign_coords(c=["", "$x", "a$^2$", "n" * 90])
    axes = compare(plain, plain)
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[:3] == ["", "$x", "a$^2$"]
    assert titles[3].endswith("n…")
    assert not any(axis.title.get_parse_math() for axis in axes[0])
    axes[0, 0].figure.draw_without_rendering()


def test_draws_on_given_axes(image, after):
    figure = Figure()
    given = figure.subplots(4, 6)
    axes = compare(image, after, axes=given)
    assert axes.shape == given.shape
    assert [*axes.flat] == [*given.flat]
    assert texts(axes[0, 0]) == ("DAPI", "before")
    assert texts(axes[2, 0]) == ("panCK", "before")
    assert texts(axes[3, 0]) == ("", "after")
    assert [axis.axison for axis in axes[2]] == [True] * 4 + [False] * 2
    assert axes[3, 0].get_legend() is not None
    figure.draw_without_rendering()


def test_figure_can_be_saved(image, after, tmp_path):
    path = tmp_path / "compare.png"
    compare(image, after).flat[0].figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_touches_no_state(image, after):
    before = dict(matplotlib.rcParams)
    copies = image.copy(deep=True), after.copy(deep=True)
    compare(image, after)
    assert dict(matplotlib.rcParams) == before
    xr.testing.assert_identical(image, copies[0])
    xr.testing.assert_identical(after, copies[1])


def test_import_leaves_matplotlib_alone():
    code = "import sys, pxprep, pxprep.plot; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_says_how_to_install_matplotlib(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ParameterError, match=r"pip install 'pxprep\[plot\]'"):
        compare(image, image)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2), (2, 3, 1), ()])
def test_axes_of_the_wrong_shape(image, shape):
    axes = np.empty(shape, object)
    with pytest.raises(ParameterError, match=r"axes must be .*plt.subplots\(2, 3, squeeze=False\)"):
        compare(image, image, ["DAPI", "CD3", "CD8"], axes=axes)


def test_axes_that_are_no_array(image):
    with pytest.raises(ParameterError, match=r"axes must be a 2-D array with an.*, got 'here'"):
        compare(image, image, axes="here")
    with pytest.raises(ParameterError, match=r"axes must hold matplotlib's Axes, got .*5"):
        compare(image, image, ["DAPI"], axes=np.full((2, 1), 5))


@pytest.mark.parametrize("max_pixels", [0, -1, 2.5, None, True])
def test_max_pixels_must_be_a_count(image, max_pixels):
    with pytest.raises(ParameterError, match="max_pixels must be a whole number of at least 1"):
        compare(image, image, max_pixels=max_pixels)


def test_unknown_channels(image):
    with pytest.raises(ChannelError, match=r"no channel 'cd4', 'CD99'"):
        compare(image, image, ["DAPI", "cd4", "CD99"])
    with pytest.raises(ChannelError, match="no channel 'CD3'"):
        compare(image.sel(c=["DAPI"]), image.sel(c=["CD3"]))
    with pytest.raises(ParameterError, match=r"did you mean \['DAPI'\]"):
        compare(image, image, "DAPI")


def test_no_images(image):
    with pytest.raises(ImageError, match=r"before must be an xarray\.DataArray"):
        compare(image.values, image)
    with pytest.raises(ImageError, match="after must have the dims"):
        compare(image, image.sel(c="DAPI"))
    with pytest.raises(ImageError, match="before and after must have the same size"):
        compare(image, image.isel(y=slice(10)))
