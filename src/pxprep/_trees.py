"""Images in trees: which nodes hold them, and trees with processed images in their place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from ._channels import CHANNEL, label_keys, reorder_channels, select_channels
from ._datatree import own_dataset
from ._images import checked
from ._scales import coarser_scales, factors_between
from .errors import ImageError, ParameterError

SCALE = re.compile(r"scale(\d+)")


@dataclass(frozen=True)
class Leaf:
    """An image of a tree.

    Attributes
    ----------
    path
        Of the node that holds the image, or that holds its scales, without the leading slash.
    scales
        Paths of the nodes with the image's scales, finest first; one if it is no multiscale image.
    variable
        Name of the image in the datasets.
    """

    path: str
    scales: tuple[str, ...]
    variable: Any


def find_leaves(tree: Any, variable: Any = None) -> list[Leaf]:
    """The images of a tree, in the tree's order.

    Parameters
    ----------
    tree
        A `DataTree`.
    variable
        Name of the variables that are images; None where each node has one variable with the
        dims c, y, x.

    Raises
    ------
    ImageError
        If there is no image, or a node has several variables that may be it.
    """
    leaves = list(_leaves_under(tree, "", variable))
    if not leaves:
        held = sorted({str(name) for _, node in walk(tree) for name in node.data_vars})
        wanted = "with the dims c, y, x" if variable is None else f"called {variable!r}"
        raise ImageError(
            f"the tree must hold at least one image, a variable {wanted}; its variables are {held}"
        )
    return leaves


def read_leaf(tree: Any, leaf: Leaf) -> xr.DataArray:
    """The image, at its finest scale."""
    image: xr.DataArray = _node(tree, leaf.scales[0])[leaf.variable]
    return image


def with_images(tree: Any, images: Mapping[Leaf, xr.DataArray]) -> Any:
    """A tree like `tree` in which `images` are in the place of those that were read.

    Coarser scales are made again from the finest. Nodes keep their order of channels; where only
    some channels are left, all that has channels at a node is reduced to them.
    """
    datasets = {path: own_dataset(node) for path, node in walk(tree)}
    reduced: set[str] = set()
    for leaf, image in images.items():
        scales = [_node(tree, path)[leaf.variable] for path in leaf.scales]
        known = label_keys(scales[0])
        if CHANNEL in image.dims and set(label_keys(image)) != set(known):
            kept = [known.index(label) for label in label_keys(image)]
            for path in _lineage(leaf.scales) - reduced:
                if CHANNEL in datasets[path].dims:
                    datasets[path] = datasets[path].isel({CHANNEL: kept})
                    reduced.add(path)
        for path, scale in zip(leaf.scales, _processed(leaf, scales, image), strict=True):
            datasets[path] = _with_variable(datasets[path], leaf.variable, scale, path)
    return type(tree).from_dict(
        {path or "/": dataset for path, dataset in datasets.items()}, name=tree.name
    )


def check_pyramid(tree: Any, leaf: Leaf) -> None:
    """Raise ImageError unless the scales of an image are images of which each makes the next."""
    scales = [checked(_node(tree, path)[leaf.variable], f"image {path!r}") for path in leaf.scales]
    for path, scale in zip(leaf.scales, scales, strict=True):
        reorder_channels(scale, label_keys(scales[0]), f"image {path!r}")
    factors_between(scales, leaf.scales)


def walk(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and node of a tree and of all that is below it."""
    yield path, tree
    for name, child in tree.children.items():
        yield from walk(child, f"{path}/{name}" if path else str(name))


def _leaves_under(node: Any, path: str, variable: Any) -> Iterator[Leaf]:
    numbered = {int(match[1]): name for name in node.children if (match := SCALE.fullmatch(name))}
    scales = [numbered[number] for number in sorted(numbered)]
    if 0 not in numbered:
        scales = []
    if scales:
        names = [
            _image_variable(node.children[name], f"{path}/{name}", variable) for name in scales
        ]
        without = [name for name, found in zip(scales, names, strict=True) if found is None]
        if len(without) < len(scales):
            if without or len(set(names)) > 1:
                raise ImageError(
                    f"node {path or '/'!r} must have one image in each of its scales, got "
                    f"{dict(zip(scales, names, strict=True))}"
                )
            yield Leaf(path, tuple(f"{path}/{name}".lstrip("/") for name in scales), names[0])
    own = _image_variable(node, path or "/", variable)
    if own is not None:
        yield Leaf(path, (path,), own)
    for name, child in node.children.items():
        if name not in scales:
            yield from _leaves_under(child, f"{path}/{name}" if path else str(name), variable)


def _image_variable(node: Any, path: str, variable: Any) -> Any:
    """The name of the variable that is the image of a node; None if it has none."""
    if variable is not None:
        return variable if variable in node.data_vars else None
    candidates = [
        name for name, array in node.data_vars.items() if {CHANNEL, "y", "x"} <= set(array.dims)
    ]
    if len(candidates) > 1:
        raise ParameterError(
            f"image must name the variable that is the image: node {path!r} has {candidates} with "
            "the dims c, y, x"
        )
    return candidates[0] if candidates else None


def _node(tree: Any, path: str) -> Any:
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


def _processed(
    leaf: Leaf, scales: Sequence[xr.DataArray], image: xr.DataArray
) -> list[xr.DataArray]:
    """All scales of an image, with its channels in the order that they have in the tree."""
    if CHANNEL not in image.dims:
        plane = image.expand_dims(CHANNEL)
        first = [scale.isel({CHANNEL: [0]}).drop_vars(CHANNEL, errors="ignore") for scale in scales]
        made = _processed(leaf, first, plane.transpose(*first[0].dims))
        return [scale.isel({CHANNEL: 0}) for scale in made]
    labels = label_keys(image)
    if set(labels) == set(label_keys(scales[0])):
        labels = label_keys(scales[0])
        image = reorder_channels(image, labels, leaf.path)
    chosen = [select_channels(scale, labels) for scale in scales]
    return [image, *coarser_scales(image, chosen, factors_between(scales, leaf.scales))]


def _with_variable(dataset: xr.Dataset, name: Any, image: xr.DataArray, path: str) -> xr.Dataset:
    """`dataset` with the image called `name`, and without coordinates that no longer fit it."""
    others = dataset.drop_vars(name)
    resized = {
        dim for dim in image.dims if others.sizes.get(dim, image.sizes[dim]) != image.sizes[dim]
    }
    unfit = [other for other, array in others.data_vars.items() if resized & set(array.dims)]
    if unfit:
        raise ImageError(
            f"node {path or '/'!r} also holds {unfit}, which would no longer fit the image along "
            f"{sorted(map(str, resized))}"
        )
    others = others.drop_vars(
        [other for other, array in others.coords.items() if resized & set(array.dims)]
    )
    # Without its coordinates: those that the node inherits stay where they are.
    return others.assign({name: image.variable})
