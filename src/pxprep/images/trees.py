"""Images in trees: which nodes hold them, and trees with processed images in their place."""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from ..aliases import ImageName, Label
from ..channels import (
    CHANNEL,
    labels_or_positions,
    reorder_channels,
    select_channels,
    select_known_channels,
)
from ..errors import ImageError, ParameterError
from .dataset_variables import image_variables, staying, with_variables
from .datatree import own_dataset
from .hints import line_for_tree
from .image import checked
from .scales import (
    ScaleFactors,
    coarser_scales,
    cumulative,
    factors_between,
    new_sizes,
    say_new_sizes,
)

SCALE = re.compile(r"scale(\d+)")


@dataclass(frozen=True)
class Leaf:
    """An image of a tree.

    Attributes
    ----------
    path
        Path of the node that holds the image or its scales, without the leading slash.
    scales
        Paths of the nodes with the image's scales, finest first; one if it is no multiscale image.
    variable
        Name of the image in the datasets.
    """

    path: str
    scales: tuple[str, ...]
    variable: Hashable


def named_leaves(tree: "xr.DataTree", variable: Hashable = None) -> dict[ImageName, Leaf]:
    """The images of a tree by name, in the tree's order.

    Parameters
    ----------
    tree
        A `DataTree`.
    variable
        Name of the variables that are images; None where each node has one variable with the
        dims c, y, x.

    Raises
    ------
    ImageError, ParameterError
        If there is no image; if a node has several variables that may be it.
    """
    leaves = list(_leaves_under(tree, "", variable))
    if not leaves:
        held = sorted({str(name) for _, node in walk(tree) for name in node.data_vars})
        wanted, line = f"called {variable!r}", ""
        if variable is None:
            wanted = "with the dims c, y, x"
            line = line_for_tree(tree, (node for _, node in walk(tree)))
        raise ImageError(
            f"the tree must hold at least one image, a variable {wanted}; its variables are "
            f"{held}{line}"
        )
    named: dict[ImageName, Leaf] = {}
    for leaf in leaves:
        # An image at the top has no path; its name must not be that of another image.
        name = leaf.path or tree.name or leaf.variable
        taken = not leaf.path and name in {other.path for other in leaves}
        named["/" if taken else name] = leaf
    return named


def read_leaf(tree: "xr.DataTree", leaf: Leaf) -> xr.DataArray:
    """The image, at its finest scale."""
    return _node(tree, leaf.scales[0]).data_vars[leaf.variable]


def read_beside(
    tree: "xr.Dataset | xr.DataTree", leaf: Leaf, name: str
) -> tuple[xr.DataArray | None, list[str]]:
    """The variable `name` in the dataset of an image, or None; and the names of the others."""
    node = tree if isinstance(tree, xr.Dataset) else _node(tree, leaf.scales[0])
    beside: xr.DataArray | None = node.data_vars.get(name)
    return beside, [str(other) for other in node.data_vars if other != leaf.variable]


def find_masks(tree: "xr.DataTree") -> dict[str, xr.DataArray]:
    """The one array without channels at each node, at the finest of its scales, by path."""
    masks: dict[str, xr.DataArray] = {}
    for path, node in walk(tree):
        *above, last = path.split("/")
        scale = SCALE.fullmatch(last)
        planes = [
            array
            for array in node.data_vars.values()
            if {"y", "x"} <= set(array.dims) and CHANNEL not in array.dims
        ]
        if len(planes) > 1:
            raise ParameterError(
                f"a tree of masks must have one in each node: node {path or '/'!r} has "
                f"{[array.name for array in planes]}"
            )
        if planes and (scale is None or int(scale[1]) == 0):
            masks["/".join(above) if scale else path] = planes[0]
    return masks


def with_leaves(
    tree: "xr.DataTree",
    images: Mapping[Leaf, xr.DataArray],
    channels: Sequence[Label] | None = None,
) -> "xr.DataTree":
    """A tree like `tree` in which `images` are in the place of those that were read.

    Coarser scales are made again from the finest. `channels` are those that were chosen, and their
    order: everything that has channels at the node of an image is reduced to them. For None nodes
    keep the order that they have, of the channels that `images` have.
    """
    datasets = {path: _own_part(node, path) for path, node in walk(tree)}
    lineages = set().union(*(_lineage(leaf.scales) for leaf in images))
    first, image = next(iter(images.items()))
    stay = partial(staying, channels, read_leaf(tree, first), image)
    datasets = _reduced(datasets, lineages, stay)
    resized = {}
    for leaf, image in images.items():
        scales = [_node(tree, path).data_vars[leaf.variable] for path in leaf.scales]
        scales = [select_channels(scale, stay(labels_or_positions(scale))) for scale in scales]
        factors = factors_between(scales, leaf.scales)
        resized[leaf.path or "/"] = new_sizes(scales, factors)
        made = _processed(leaf, scales, factors, image)
        for path, scale in zip(leaf.scales, made, strict=True):
            placed = {leaf.variable: scale}
            datasets[path] = with_variables(datasets[path], placed, f"node {path or '/'!r}")
    say_new_sizes(resized)
    by_path = {path or "/": dataset for path, dataset in datasets.items()}
    try:
        return type(tree).from_dict(by_path, name=tree.name)
    except ValueError as error:  # xarray's own trees: a node does not fit what it inherits
        raise ImageError(f"the images no longer fit into the tree: {error}") from error


def check_pyramid(tree: "xr.DataTree", leaf: Leaf) -> None:
    """Raise ImageError unless each scale of an image can be made from the one before it."""
    scales = [
        checked(_node(tree, path).data_vars[leaf.variable], f"image {path!r}")
        for path in leaf.scales
    ]
    for path, scale in zip(leaf.scales, scales, strict=True):
        reorder_channels(scale, labels_or_positions(scales[0]), f"image {path!r}")
    factors = factors_between(scales, leaf.scales)
    for path, by_dim in zip(leaf.scales[1:], cumulative(factors), strict=True):
        # Whatever lies beside a scale must fit one of another size, too.
        sizes = {dim: scales[0].sizes[dim] // factor for dim, factor in by_dim.items()}
        plane = xr.DataArray(np.broadcast_to(False, [*sizes.values()]), dims=[*sizes])
        node = _own_part(_node(tree, path), path)
        with_variables(node, {leaf.variable: plane}, f"node {path!r}")


def walk(tree: "xr.DataTree", path: str = "") -> Iterator[tuple[str, "xr.DataTree"]]:
    """Path and node of a tree and of all that is below it."""
    yield path, tree
    for name, child in tree.children.items():
        yield from walk(child, f"{path}/{name}" if path else str(name))


def _leaves_under(node: "xr.DataTree", path: str, variable: Hashable) -> Iterator[Leaf]:
    numbered = {int(match[1]): name for name in node.children if (match := SCALE.fullmatch(name))}
    scales = [numbered[number] for number in sorted(numbered)] if 0 in numbered else []
    if scales:
        names = [
            _image_variable(node.children[name], f"{path}/{name}", variable) for name in scales
        ]
        lacking = [scale for scale, name in zip(scales, names, strict=True) if name is None]
        if len(lacking) < len(scales):
            if lacking or len(set(names)) > 1:
                raise ImageError(
                    f"node {path or '/'!r} must have one image in each of its scales, got "
                    f"{dict(zip(scales, names, strict=True))}"
                )
            yield Leaf(path, tuple(f"{path}/{name}".lstrip("/") for name in scales), names[0])
    here = _image_variable(node, path or "/", variable)
    if here is not None and scales:
        raise ImageError(f"node {path or '/'!r} must hold an image or its scales, not both")
    if here is not None:
        yield Leaf(path, (path,), here)
    for name, child in node.children.items():
        if name not in scales:
            yield from _leaves_under(child, f"{path}/{name}" if path else str(name), variable)


def _image_variable(node: "xr.DataTree", path: str, variable: Hashable) -> object:
    """The name of the variable that is the image of a node; None if it has none."""
    if variable is not None:
        return variable if variable in node.data_vars else None
    candidates = image_variables(node)
    if len(candidates) > 1:
        raise ParameterError(
            f"variable must name the variable that is the image, as in "
            f"pxprep.Cohort(tree, variable={candidates[0]!r}): node {path!r} has {candidates} with "
            "the dims c, y, x"
        )
    return candidates[0] if candidates else None


def _node(tree: "xr.DataTree", path: str) -> "xr.DataTree":
    for name in path.split("/") if path else ():
        tree = tree.children[name]
    return tree


def _lineage(paths: tuple[str, ...]) -> set[str]:
    """The paths themselves and all that are above them."""
    lineage = {""}
    for path in paths:
        parts = path.split("/")
        lineage |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
    return lineage


def _own_part(node: "xr.DataTree", path: str) -> xr.Dataset:
    """What a node adds to the nodes above it; the top of a tree keeps what it inherits."""
    return own_dataset(node) if path else node.to_dataset()


def _reduced(
    datasets: Mapping[str, xr.Dataset],
    lineages: set[str],
    stay: Callable[[Sequence[Label]], Sequence[Label] | None],
) -> dict[str, xr.Dataset]:
    """The datasets; some of them keep only the channels that stay.

    Those are the ones at and above images, and those that inherit their labels. `stay` says which
    of some channels stay, None for all.
    """
    reduced = {}
    for path, dataset in datasets.items():
        if CHANNEL not in dataset.dims:
            reduced[path] = dataset
            continue
        # The labels that hold here: the node's own, or those of the nearest node above.
        above = None if CHANNEL in dataset.coords else _nearest_labeled(path, datasets)
        known = labels_or_positions(dataset if above is None else datasets[above])
        channels = stay(known) if path in lineages or above in lineages else None
        if channels is None:
            reduced[path] = dataset
        elif above is None:
            reduced[path] = select_known_channels(dataset, channels)
        else:  # the node above has the labels
            positions = [known.index(label) for label in channels]
            reduced[path] = dataset.isel({CHANNEL: positions})
    return reduced


def _nearest_labeled(path: str, datasets: Mapping[str, xr.Dataset]) -> str | None:
    """The path of the nearest node above that labels channels; None if there is none."""
    while path:
        path = path.rpartition("/")[0]
        if CHANNEL in datasets[path].coords:
            return path
    return None


def _processed(
    leaf: Leaf, scales: Sequence[xr.DataArray], factors: Sequence[ScaleFactors], image: xr.DataArray
) -> list[xr.DataArray]:
    """All scales of an image, each with its channels in the order that they have there."""
    if CHANNEL not in image.dims:
        first = [scale.isel({CHANNEL: [0]}).drop_vars(CHANNEL, errors="ignore") for scale in scales]
        finest = image.expand_dims(CHANNEL).transpose(*first[0].dims)
        coarser = coarser_scales(finest, first, factors)
        return [image, *(scale.isel({CHANNEL: 0}) for scale in coarser)]
    order = labels_or_positions(scales[0])
    finest = reorder_channels(image, order, leaf.path)
    alike = [reorder_channels(scale, order, leaf.path) for scale in scales]
    made = [finest, *coarser_scales(finest, alike, factors)]
    return [
        reorder_channels(new, labels_or_positions(old), leaf.path)
        for new, old in zip(made, scales, strict=True)
    ]
