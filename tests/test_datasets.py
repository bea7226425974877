import numpy as np
import pytest
import xarray as xr

from pxprep.datasets import tissue
from pxprep.errors import ParameterError

MARKERS = ["DAPI", "CD45", "CD3", "CD8", "CD20", "CD68", "panCK", "SMA", "Ki67", "CD31"]


@pytest.fixture(scope="module")
def fovs():
    return tissue()


def brightness(image):
    """The 99 % quantile of the stained pixels of each channel."""
    return np.array([np.quantile(channel[channel > 0], 0.99) for channel in image.values])


def test_form(fovs):
    assert list(fovs) == ["fov0", "fov1", "fov2"]
    for name, image in fovs.items():
        assert isinstance(image, xr.DataArray)
        assert image.name == name
        assert image.dims == ("c", "y", "x")
        assert image.shape == (10, 256, 256)
        assert image.dtype == np.uint16
        assert image.c.values.tolist() == MARKERS


def test_seed_decides(fovs):
    again = tissue()
    for name, image in fovs.items():
        xr.testing.assert_identical(image, again[name])


def test_seeds_differ():
    images = [tissue(1, 64, seed)["fov0"].values for seed in range(5)]
    assert len({image.tobytes() for image in images}) == 5


def test_global_random_state_is_neither_read_nor_moved():
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    tissue(1, 32)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_fov_does_not_depend_on_how_many_there_are(fovs):
    xr.testing.assert_identical(tissue(1)["fov0"], fovs["fov0"])


@pytest.mark.parametrize("size", [16, 17, 31, 64, 101])
def test_any_size(size):
    for seed in range(10):
        (image,) = tissue(1, size, seed).values()
        assert image.shape == (10, size, size)
        assert image.values.any()


def test_size_keeps_the_regions():
    small, large = (tissue(1, size, seed=3)["fov0"].sel(c="panCK") for size in (128, 256))
    coarse = [
        image.astype(float).coarsen(y=size // 16, x=size // 16).mean().values.ravel()
        for image, size in ((small, 128), (large, 256))
    ]
    assert np.corrcoef(*coarse)[0, 1] > 0.9


def test_edge_of_bare_glass_is_empty(fovs):
    for image in fovs.values():
        sums = image.sum("c").values
        # In tissue no pixel is far from counts, so that what is empty in blocks is glass.
        blocks = sums.reshape(32, 8, 32, 8).sum((1, 3))
        glass = np.kron(blocks < 8, np.ones((8, 8), bool))
        assert 0.08 < glass.mean() < 0.3
        assert (image.values[:, glass] == 0).mean() > 0.99
        assert np.median(sums[~glass]) > 50


def test_brightness(fovs):
    for image in fovs.values():
        by_marker = dict(zip(MARKERS, brightness(image), strict=True))
        order = sorted(by_marker, key=by_marker.get)
        assert order[-2:] == ["panCK", "DAPI"]
        assert set(order[:3]) == {"Ki67", "CD8", "CD31"}
        assert 50 < by_marker["DAPI"] / by_marker["Ki67"] < 250


def test_fovs_differ_a_little_in_staining(fovs):
    logs = np.log([brightness(image) for image in fovs.values()])
    spread = logs.max(axis=0) - logs.min(axis=0)
    assert spread.max() > 0.1
    assert spread.max() < 1.5


def test_markers_lie_where_they_should(fovs):
    for image in fovs.values():
        strong = {
            str(channel.c.item()): channel.values > 0.3 * np.quantile(channel, 0.995)
            for channel in image
        }

        def share(part, whole, strong=strong):
            return (strong[part] & strong[whole]).sum() / strong[part].sum()

        assert share("CD8", "CD3") > 0.5
        assert share("CD3", "CD45") > 0.6
        assert share("Ki67", "DAPI") > 0.6
        assert share("CD20", "panCK") < 0.02
        assert share("CD3", "CD20") < 0.3
        assert share("SMA", "panCK") < 0.02


def test_membrane_is_a_ring_around_the_nucleus(fovs):
    # What is inside the ring of a T cell is its nucleus.
    image = fovs["fov0"].astype(float)
    dapi, cd3 = image.sel(c="DAPI").values, image.sel(c="CD3").values
    t_cells = cd3 > 8
    assert dapi[t_cells].mean() < np.quantile(dapi[dapi > 50], 0.6)


def test_preprocess_drops_the_glass(fovs):
    image = fovs["fov0"]
    after = image.pxprep.preprocess()
    dropped = np.isnan(after.values[0])
    assert 0.08 < dropped.mean() < 0.3
    assert image.sum("c").values[dropped].mean() < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_fovs": 0}, "n_fovs must be a whole number of at least 1, got 0"),
        ({"n_fovs": 2.0}, r"n_fovs must be .*, got 2\.0"),
        ({"size": 15}, "size must be a whole number of pixels, at least 16, got 15"),
        ({"size": "256"}, "size must be .*, got '256'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": None}, "seed must be .*, got None"),
        ({"seed": True}, "seed must be .*, got True"),
    ],
)
def test_errors_name_the_parameter(arguments, message):
    with pytest.raises(ParameterError, match=message):
        tissue(**arguments)
