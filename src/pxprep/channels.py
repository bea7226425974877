"""Channel labels, and values per channel keyed by them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from .aliases import Label, NumpyArray
from .errors import ChannelError, ParameterError, did_you_mean, listed_names, spelled

CHANNEL = "c"
Labeled = TypeVar("Labeled", xr.DataArray, xr.Dataset)


class ByLabel(Mapping[object, Any]):
    """A read-only mapping of channel labels to values; steps that hold one can be hashed."""

    def __init__(self, values: Mapping[object, object]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: object) -> object:
        return self._values[key]

    def __iter__(self) -> Iterator[object]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


def channel_labels(image: xr.DataArray | xr.Dataset) -> tuple[Label, ...] | None:
    """Labels of the channels of `image` in order, None if they have none.

    A label that several channels share is followed by the channel's position; see `told_apart`.
    """
    labels = image.coords.variables.get(CHANNEL)  # `image.coords[...]` builds a DataArray: slow
    return None if labels is None else told_apart(labels.values.tolist())


def told_apart(labels: Sequence[object]) -> tuple[Any, ...]:
    """The labels, made unique: a shared one is followed by its position, from 1: "DAPI (3)"."""
    names = tuple(map(plain, labels))
    try:
        if len(set(names)) == len(names):
            return names
        counts = Counter(names)
    except TypeError:  # lists and the like, which are no labels
        return names
    return tuple(
        f"{label} ({place})" if counts[label] > 1 and label not in (None, "") else label
        for place, label in enumerate(names, start=1)
    )


def plain(label: Label) -> Label:
    """A label as Python's own value: JSON does not know NumPy's numbers and texts."""
    return label.item() if isinstance(label, np.generic) else label


def as_coordinate(names: Sequence[Hashable]) -> NumpyArray:
    """Names of channels, images or batches as an array that keeps each one's type."""
    types = {type(name) for name in names}
    if len(types) == 1 and types <= {str, int, float}:
        return np.array(names)
    array = np.empty(len(names), object)
    array[:] = names
    return array


def is_label(label: object) -> bool:
    """Whether a name can be looked up, and kept in JSON: a text, or a finite number."""
    return isinstance(label, str | int) or (isinstance(label, float) and math.isfinite(label))


def is_choice(label: object) -> bool:
    """Whether a user may choose something by this: True and False would be taken for 1 and 0."""
    return is_label(label) and not isinstance(label, bool)


def labels_or_positions(image: xr.DataArray | xr.Dataset) -> tuple[Label, ...]:
    """Names of the channels of `image`: their labels, or else their positions."""
    labels = channel_labels(image)
    return tuple(range(image.sizes[CHANNEL])) if labels is None else labels


def usual_channels(each: Iterable[Sequence[Label]]) -> tuple[Label, ...]:
    """The channels that most images have, of the channels of each.

    They are in the order of the first image that has them.
    """
    by_set: dict[frozenset[Label], list[Sequence[Label]]] = {}
    for labels in each:
        by_set.setdefault(frozenset(labels), []).append(labels)
    return tuple(max(by_set.values(), key=len)[0])


def require_unique(labels: Sequence[Label], parameter: str) -> None:
    """Raise ChannelError if a label occurs twice."""
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ChannelError(
            f"{spelled(parameter)}: every channel must be named once, got {listed_labels(twice)} "
            "more than once"
        )


def unwritable(names: Iterable[Hashable]) -> list[Hashable]:
    """Names that cannot be encoded: Python makes such ones of file names that are not UTF-8."""
    return [name for name in names if str(name).encode(errors="ignore").decode() != str(name)]


def require_known(wanted: Iterable[Label], known: Sequence[Label], parameter: str) -> None:
    """Raise ChannelError that lists all labels in `wanted` that `known` lacks."""
    unknown = [label for label in wanted if label not in known]
    if unknown:
        raise ChannelError(
            f"{spelled(parameter)}: no channel "
            f"{listed_labels(unknown)}{did_you_mean(unknown, known)}; the image has "
            f"{listed_labels(known)}"
        )


def require_same(given: Sequence[Label], expected: Sequence[Label], what: str) -> None:
    """Raise ChannelError unless both name the same channels, in whatever order."""
    missing = [label for label in expected if label not in given]
    unknown = [label for label in given if label not in expected]
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"missing {listed_labels(missing)}")
        if unknown:
            parts.append(f"unknown {listed_labels(unknown)}{did_you_mean(unknown, expected)}")
        if {str(label) for label in given} == {str(label) for label in expected}:
            parts.append("the same names, but strings in one and numbers in the other")
        raise ChannelError(
            f"{what}: the channels must be {listed_labels(expected)}; {', '.join(parts)}"
        )


def select_channels(image: xr.DataArray, channels: Iterable[Label] | None) -> xr.DataArray:
    """The channels named in `channels`, in that order; all of them for None.

    Images without labels are selected by position, which becomes the label.
    """
    wanted = parse_channels(channels)
    if wanted is None:
        return image
    require_known(wanted, labels_or_positions(image), "channels")
    return select_known_channels(image, wanted)


def select_known_channels(image: Labeled, wanted: Iterable[Label]) -> Labeled:
    """The channels that are called so, in that order, of an image that has them all.

    Channels without labels, or with shared ones, are named by position. Those names become labels
    of the new image, as positions in it are different.
    """
    known = labels_or_positions(image)
    positions = [known.index(label) for label in wanted]
    chosen = image.isel({CHANNEL: positions})
    labels = [known[position] for position in positions]
    if CHANNEL in image.coords and chosen.coords[CHANNEL].values.tolist() == labels:
        return chosen
    return chosen.assign_coords({CHANNEL: as_coordinate(labels)})


def parse_channels(
    channels: Iterable[Label] | None, parameter: str = "channels"
) -> list[Label] | None:
    """Labels that each name one channel; None passes."""
    if channels is None:
        return None
    if isinstance(channels, xr.DataArray):
        channels = channels.values
    if isinstance(channels, np.ndarray):
        channels = channels.tolist()  # of an array without dims its one value
    is_sequence = isinstance(channels, Iterable) and not isinstance(channels, str | Set)
    wanted = list(map(plain, channels)) if is_sequence else []
    if not is_sequence or not all(map(is_choice, wanted)):
        raise ParameterError(
            f"{spelled(parameter)} must be a sequence of channel labels, got {channels!r}"
            + (f"; did you mean [{channels!r}]?" if isinstance(channels, str) else "")
        )
    if not wanted:
        raise ParameterError(f"{spelled(parameter)} must name at least one channel, got none")
    require_unique(wanted, parameter)
    return wanted


def reorder_channels(image: xr.DataArray, labels: Sequence[Label], what: str) -> xr.DataArray:
    """`image` with its channels in the order of `labels`, which must be exactly its labels."""
    own = labels_or_positions(image)
    require_same(own, labels, what)
    if own == tuple(labels):
        return image
    return select_known_channels(image, labels)


def per_channel(value: object, labels: Sequence[Label], parameter: str) -> NumpyArray:
    """One float per channel from one number, a tuple in channel order, or values by label.

    `value` has been through a parser of `parameters`, so it is a float, a tuple or a `ByLabel`.
    """
    if isinstance(value, ByLabel):
        return _by_label(value, labels, parameter)
    if isinstance(value, tuple):
        if len(value) != len(labels):
            raise ParameterError(
                f"{spelled(parameter)} must have one value per channel: the image has "
                f"{len(labels)} channels, got {len(value)} values"
            )
        return np.array(value, dtype=np.float64)
    return np.full(len(labels), value, dtype=np.float64)


def _by_label(
    values: Mapping[object, float], labels: Sequence[Label], parameter: str
) -> NumpyArray:
    require_known([key for key in values if key is not ...], labels, parameter)
    left_out = [label for label in labels if label not in values]
    if left_out and ... not in values:
        raise ChannelError(
            f"{spelled(parameter)}: a mapping must name every channel or give a value for all "
            f"others under the key {spelled('...')}; missing {listed_labels(left_out)}"
        )
    return np.array([values.get(label, values.get(...)) for label in labels], dtype=np.float64)


def listed_labels(labels: Sequence[Label]) -> str:
    """Labels in words, and how many more there are."""
    return listed_names(labels, most=60)
