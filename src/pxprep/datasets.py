"""A small, seeded, realistic cohort for examples, tests and benchmarks."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage
from scipy.spatial import cKDTree

from .aliases import NumpyArray
from .channels import CHANNEL
from .images.parameters import parse_count

__all__ = ["tissue"]

Random = np.random.Generator

# Counts per pixel where a typical positive cell is bright, and the part of the cell that shows it.
MARKERS = {
    "DAPI": (800, "nucleus"),
    "CD45": (48, "membrane"),
    "CD3": (20, "membrane"),
    "CD8": (8, "membrane"),
    "CD20": (34, "membrane"),
    "CD68": (14, "cytoplasm"),
    "panCK": (250, "cytoplasm"),
    "SMA": (90, "cytoplasm"),
    "Ki67": (4, "nucleus"),
    "CD31": (11, "membrane"),
}


class _Kind(NamedTuple):
    """A kind of cell: half axes of nucleus and body in pixels, strength of each marker."""

    axes: tuple[float, float, float, float]
    markers: dict[str, float]


KINDS = {
    "none": _Kind((1, 1, 1, 1), {}),
    "epithelial": _Kind((4.1, 3.2, 8, 8), {"DAPI": 0.75, "panCK": 1}),
    "dividing": _Kind((4.4, 3.7, 8, 8), {"DAPI": 1, "panCK": 0.9, "Ki67": 1}),
    "fibroblast": _Kind((5, 1.7, 8, 2.6), {"DAPI": 0.7, "SMA": 0.2}),
    "macrophage": _Kind((3.3, 2.5, 6.2, 4.8), {"DAPI": 0.65, "CD45": 0.4, "CD68": 1}),
    "helper": _Kind((2.7, 2.4, 3.9, 3.6), {"DAPI": 1, "CD45": 1, "CD3": 1}),
    "killer": _Kind((2.7, 2.4, 3.9, 3.6), {"DAPI": 1, "CD45": 1, "CD3": 0.9, "CD8": 1}),
    "b": _Kind((2.7, 2.5, 3.9, 3.7), {"DAPI": 1, "CD45": 0.8, "CD20": 1}),
    "centroblast": _Kind((3, 2.8, 4.2, 4), {"DAPI": 1.1, "CD45": 0.7, "CD20": 0.9, "Ki67": 1}),
}
# Compartments: the distance between cells in pixels, and the share of each kind.
STROMA, NEST, MANTLE, FOLLICLE = range(4)
COMPARTMENTS: list[tuple[float, dict[str, float]]] = [
    (10, {"fibroblast": 0.5, "macrophage": 0.13, "helper": 0.07, "killer": 0.05, "none": 0.25}),
    (10.5, {"epithelial": 0.76, "dividing": 0.19, "killer": 0.035, "macrophage": 0.015}),
    (7.2, {"helper": 0.6, "killer": 0.22, "b": 0.13, "macrophage": 0.05}),
    (7.2, {"b": 0.6, "centroblast": 0.25, "helper": 0.1, "macrophage": 0.05}),
]
# Cells are laid out beyond the edges of the image, so that the edges cut through some.
MARGIN = 12


class _Regions(NamedTuple):
    """Where things are. Each field is a plane: the image with `MARGIN` pixels around it."""

    inside: NumpyArray  # bool: tissue, not bare glass nor the inside of a vessel
    compartment: NumpyArray
    flow: NumpyArray  # fibres and long cells follow its contours
    artery: NumpyArray  # distance in pixels to the middle of the vessel
    capillary: NumpyArray


class _Cells(NamedTuple):
    y: NumpyArray
    x: NumpyArray
    kind: NumpyArray  # position in KINDS


def tissue(n_fovs: int = 3, size: int = 256, seed: int = 0) -> dict[str, xr.DataArray]:
    """Make up a small cohort of multiplexed images of tissue.

    Each field of view (FOV) holds nests of epithelium (panCK), a lymphoid cluster (CD20 inside,
    CD3 and CD8 around), an artery (CD31, SMA) and capillaries (CD31) in a stroma of fibres (SMA)
    and scattered immune cells, and an edge of bare glass, where nearly all counts are exactly zero.
    FOVs differ in layout and, a little, in staining.

    Parameters
    ----------
    n_fovs
        Number of FOVs, at least 1.
    size
        Height and width in pixels, at least 16. A pixel stands for about 1 µm: the cells have the
        same size in pixels in all images, so that larger images hold more of them, while the
        regions grow with the image.
    seed
        Seed of the random numbers, 0 or more. A FOV depends on its position and the seed only,
        not on how many there are.

    Returns
    -------
    dict of str to xarray.DataArray
        Images "fov0", "fov1", ... by name: dims ``c``, ``y``, ``x``, of shape (10, size, size), in
        counts, uint16. The ten channels are labeled by marker; the brightest (DAPI) is about two
        hundred times as bright as the dimmest (Ki67).

    Raises
    ------
    ParameterError
        If `n_fovs`, `size` or `seed` is no whole number or too small.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> fovs = tissue(n_fovs=2, size=64)
    >>> list(fovs)
    ['fov0', 'fov1']
    >>> image = fovs["fov0"]
    >>> image.dims, image.shape, str(image.dtype)
    (('c', 'y', 'x'), (10, 64, 64), 'uint16')
    >>> image.c.values.tolist()
    ['DAPI', 'CD45', 'CD3', 'CD8', 'CD20', 'CD68', 'panCK', 'SMA', 'Ki67', 'CD31']
    """
    n_fovs = parse_count(n_fovs, "n_fovs", "a whole number of at least 1")
    size = parse_count(size, "size", "a whole number of pixels, at least 16", least=16)
    seed = parse_count(seed, "seed", "a whole number of at least 0", least=0)
    names = [f"fov{i}" for i in range(n_fovs)]
    return {
        name: xr.DataArray(
            _fov(size, np.random.default_rng([seed, i])),
            dims=(CHANNEL, "y", "x"),
            coords={CHANNEL: list(MARKERS)},
            name=name,
        )
        for i, name in enumerate(names)
    }


def _fov(size: int, random: Random) -> NumpyArray:
    """Counts of one FOV, uint16, axes (c, y, x)."""
    # Two streams: the layout takes the same numbers for every size.
    layout_random, random = random.spawn(2)
    regions = _lay_out(size, layout_random)
    cells = _place_cells(regions, random)
    owner, parts = _shape_cells(cells, regions, random)
    staining = np.exp(0.15 * random.standard_normal() + random.normal(0, 0.15, len(MARKERS)))
    between = _stain_stroma(regions, random)
    crop = (slice(MARGIN, MARGIN + size),) * 2
    counts = np.empty((len(MARKERS), size, size), np.uint16)
    for i, (marker, (brightness, part)) in enumerate(MARKERS.items()):
        by_kind = np.array([kind.markers.get(marker, 0) for kind in KINDS.values()])
        by_cell = by_kind[cells.kind] * random.lognormal(0, 0.25, cells.kind.size)
        signal = by_cell[owner] * parts[part] + between.get(marker, 0)
        signal += (0.004 + 0.02 / np.sqrt(brightness)) * regions.inside  # unspecific binding
        blurred = ndimage.gaussian_filter(signal, 0.7)[crop]  # the optics
        counts[i] = random.poisson(blurred * brightness * staining[i] + 0.001)
    return counts


def _lay_out(size: int, random: Random) -> _Regions:
    """Regions in coordinates that span -0.5 to 0.5 over the image, turned by a random angle."""
    pixel = (np.arange(-MARGIN, size + MARGIN) + 0.5) / size - 0.5
    angle = random.uniform(0, 2 * np.pi)
    u = np.cos(angle) * pixel[:, None] + np.sin(angle) * pixel
    v = np.cos(angle) * pixel - np.sin(angle) * pixel[:, None]
    glass = u + 0.03 * _waves(pixel, 3, random) > random.uniform(0.3, 0.36)
    big = _disc(u, v, (-0.3, random.uniform(-0.3, -0.15)), random.uniform(0.2, 0.25))
    small = _disc(u, v, (-0.15, random.uniform(0.22, 0.32)), random.uniform(0.15, 0.21))
    nest = np.maximum(big, small) + 0.13 * _waves(pixel, 4, random)
    disc = _disc(u, v, (0.13, random.uniform(-0.25, -0.1)), random.uniform(0.13, 0.16))
    cluster = disc + 0.13 * _waves(pixel, 4, random)
    artery = size * _vessel(u, v, (0.1, 0.12), 0.06, random)
    places = random.uniform((-0.4, -0.5), (0.3, 0.5), (7, 2)).tolist()
    capillary = size * np.minimum.reduce([_vessel(u, v, (a, b), 0.1, random) for a, b in places])
    vessel = np.minimum(artery, capillary)
    compartment = np.select(
        [artery < 9, cluster > 0.4, cluster > 0, nest > 0], [STROMA, FOLLICLE, MANTLE, NEST], STROMA
    )
    flow = np.where(vessel < 10, vessel, nest + 0.25 * _waves(pixel, 2, random))
    return _Regions(~glass & (artery > 3), compartment, flow, artery, capillary)


def _waves(pixel: NumpyArray, frequency: float, random: Random) -> NumpyArray:
    """A smooth random surface of unit variance: waves in six random directions."""
    angle, phase = random.uniform(0, 2 * np.pi, (2, 6))
    k = 2 * np.pi * frequency * random.uniform(0.4, 1.6, 6)
    y, x = np.outer(pixel, k * np.sin(angle)) + phase, np.outer(pixel, k * np.cos(angle))
    return (np.cos(y) @ np.cos(x).T - np.sin(y) @ np.sin(x).T) / np.sqrt(3)


def _disc(u: NumpyArray, v: NumpyArray, at: tuple[float, float], radius: float) -> NumpyArray:
    """1 in the middle of a disc, falling to 0 at its edge and below outside."""
    return 1 - np.sqrt((u - at[0]) ** 2 + (v - at[1]) ** 2) / radius


def _vessel(
    u: NumpyArray, v: NumpyArray, at: tuple[float, float], length: float, random: Random
) -> NumpyArray:
    """Distance to a bent line through `at`, `length` to either side."""
    angle, bend = random.uniform(0, np.pi), random.uniform(2, 5) * random.choice([-1, 1])
    u, v = u - at[0], v - at[1]
    along, across = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    aside = (across - bend * along**2) ** 2 / (1 + (2 * bend * along) ** 2)
    return np.sqrt(aside + np.maximum(np.abs(along) - length, 0) ** 2)


def _place_cells(regions: _Regions, random: Random) -> _Cells:
    """Cells on shaken hexagonal grids, one for each compartment, thinned where grids meet."""
    names, placed = list(KINDS), []
    for compartment, (spacing, shares) in enumerate(COMPARTMENTS):
        y, x = _grid(regions.inside.shape[0], spacing, random)
        kind = random.choice([names.index(name) for name in shares], y.size, p=[*shares.values()])
        here = regions.compartment[y.astype(int), x.astype(int)] == compartment
        placed.append(np.stack([y, x, kind])[:, here])
    y, x, kind = np.concatenate(placed, axis=1)
    close = cKDTree(np.stack([y, x], axis=1)).query_pairs(4.5, output_type="ndarray")
    y, x, kind = (np.delete(values, close[:, 0]) for values in (y, x, kind))
    kind[~regions.inside[y.astype(int), x.astype(int)]] = names.index("none")
    return _Cells(y, x, kind.astype(int))


def _grid(extent: int, spacing: float, random: Random) -> tuple[NumpyArray, NumpyArray]:
    row, column = np.mgrid[: extent / (spacing * 0.87), : extent / spacing].reshape(2, -1)
    shaken = random.normal(0, 0.17 * spacing, (2, row.size))
    y, x = row * spacing * 0.87 + shaken[0], (column + row % 2 / 2) * spacing + shaken[1]
    keep = (y >= 0) & (y < extent) & (x >= 0) & (x < extent)
    return y[keep], x[keep]


def _shape_cells(
    cells: _Cells, regions: _Regions, random: Random
) -> tuple[NumpyArray, dict[str, NumpyArray]]:
    """For each pixel the nearest cell; and how much of the nucleus and so on is there."""
    shape, n_cells = regions.inside.shape, cells.y.size
    at = cells.y.astype(int), cells.x.astype(int)
    index = np.full(shape, -1)
    index[at] = np.arange(n_cells)
    nearest = ndimage.distance_transform_edt(index < 0, return_distances=False, return_indices=True)
    owner = index[tuple(nearest)]
    # Nucleus and body are bumpy ellipses along the flow, cut where they meet the next cell.
    y, x = np.indices(shape) + 0.5
    dy, dx = y - cells.y[owner], x - cells.x[owner]
    angle = (_direction(regions.flow)[at] + random.normal(0, 0.3, n_cells))[owner]
    along, across = dy * np.sin(angle) + dx * np.cos(angle), dy * np.cos(angle) - dx * np.sin(angle)
    theta, phase = np.arctan2(across, along), random.uniform(0, 2 * np.pi, (2, n_cells))[:, owner]
    bumps = 1 + 0.09 * np.cos(2 * theta + phase[0]) + 0.08 * np.cos(3 * theta + phase[1])
    axes = np.array([kind.axes for kind in KINDS.values()])[cells.kind]
    axes *= random.normal(1, 0.12, (n_cells, 1)).clip(0.7, 1.4)
    a, b, body_a, body_b = axes.T[:, owner]
    nucleus = (0.5 + 2.5 * (1 - np.hypot(along / a, across / b) / bumps)).clip(0, 1)
    border = ndimage.maximum_filter(owner, 3) != ndimage.minimum_filter(owner, 3)
    body = np.hypot(along / body_a, across / body_b) < bumps
    depth = ndimage.distance_transform_edt(body & ~border)
    membrane = body * np.exp(-((depth - 0.6) ** 2) / 1.1)
    grain = 3.5 * ndimage.gaussian_filter(random.standard_normal(shape), 1)
    cytoplasm = body * (1 - 0.85 * nucleus) * (1 + 0.3 * grain).clip(0)
    return owner, {
        "nucleus": nucleus * (1 + 0.15 * grain).clip(0),
        "membrane": membrane + 0.12 * cytoplasm,
        "cytoplasm": 0.7 * cytoplasm + 0.4 * membrane,
    }


def _direction(plane: NumpyArray) -> NumpyArray:
    """Angle of the contours of a plane."""
    slope_y, slope_x = np.gradient(plane)
    return np.arctan2(slope_x, -slope_y)


def _stain_stroma(regions: _Regions, random: Random) -> dict[str, NumpyArray]:
    """What lies between the cells, by marker: walls of vessels, and fibres."""
    stroma = regions.inside & (regions.compartment == STROMA)
    lining = np.exp(-((regions.artery - 3.8) ** 2)) + 0.8 * np.exp(-(regions.capillary**2) / 1.5)
    muscle = np.exp(-(((regions.artery - 6) / 1.7) ** 2))
    # Noise smeared along the flow: the sum of what lies on a short straight line through a pixel.
    noise = ndimage.gaussian_filter(random.standard_normal(stroma.shape), 0.8, mode="wrap")
    angle = _direction(regions.flow)
    line_y, line_x, (y, x) = np.sin(angle), np.cos(angle), np.indices(stroma.shape)
    fibres = np.zeros(stroma.shape)
    for step in range(-9, 10, 2):
        at = ((step * line_y).round().astype(int) + y, (step * line_x).round().astype(int) + x)
        fibres += noise[at[0] % len(noise), at[1] % len(noise)]
    return {"CD31": lining * stroma, "SMA": (muscle + 0.12 * fibres.clip(0)) * stroma}
