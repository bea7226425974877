"""What files, images and channels are called, and whether images have the same channels."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Label
from ..channels import (
    labels_or_positions,
    listed_labels,
    parse_channels,
    require_known,
    select_channels,
    unwritable,
    usual_channels,
)
from ..errors import ChannelError, ImageError, ParameterError, spelled
from ..images.parameters import parse_path


def existing_path(path: object, parameter: str = "path") -> Path:
    """The file or folder that the user gave, or a ParameterError."""
    found = parse_path(path, parameter, "a file or a folder")
    if not found.exists():
        raise ParameterError(f"{spelled(parameter)} does not exist: {str(found)!r}")
    # A link keeps its name.
    return found.resolve() if found.name in ("", "..") else found.parent.resolve() / found.name


def stem(file: Path) -> str:
    """The name of a file without ``.tiff``, ``.ome.tiff`` or whatever its suffix is."""
    return file.stem[:-4] if file.stem.lower().endswith(".ome") else file.stem


def image_names(file: Path, own: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Names of the images in a file: the file's, and if there are several, of each its own.

    One that has none of its own gets its number; all do, if one is called like another's number.
    """
    if len(own) == 1:
        return [stem(file)]
    told: list[object] = [
        name if name and own.count(name) == 1 else str(number)
        for name, number in zip(own, numbers, strict=True)
    ]
    return [f"{stem(file)}_{one}" for one in (told if len(set(told)) == len(told) else numbers)]


def require_new(names: Iterable[str], known: Mapping[str, object], file: Path) -> None:
    """Raise ImageError if images in a file or folder are called as known ones of another."""
    twice = sorted(set(names) & set(known))
    if twice:
        raise ImageError(f"{str(file)!r} holds {twice}, as another file or folder does: rename one")


def agreed(
    images: Mapping[str, xr.DataArray], channels: Iterable[Label] | None = None
) -> dict[str, xr.DataArray]:
    """The images, each with its name, and with the same channels in the same order.

    `channels` as the user gave them; None for those that most images have. If the images do not
    have them, that is a ChannelError.
    """
    labels = agreed_channels(
        {name: labels_or_positions(image) for name, image in images.items()}, channels
    )
    in_order = {
        name: image if labels_or_positions(image) == labels else select_channels(image, labels)
        for name, image in images.items()
    }
    # Without it the name would be that of a Dask array, which is another one each time.
    return {name: image.rename(name) for name, image in in_order.items()}


def agreed_channels(
    by_image: Mapping[str, Sequence[Label]], channels: Iterable[Label] | None = None
) -> tuple[Label, ...]:
    """The channels that all images are to have, given those of each; see `agreed`."""
    wanted = parse_channels(channels)
    if wanted is None:
        wanted = list(usual_channels(by_image.values()))
    else:
        known = dict.fromkeys(label for labels in by_image.values() for label in labels)
        require_known(wanted, list(known), "channels")
    bad = unwritable(wanted)
    if bad:
        raise ChannelError(
            f"{spelled('channels')} must have names that can be written, got {bad!r:.300}: "
            "their files have names that are not UTF-8; rename them"
        )
    odd = {
        name: _difference(labels, wanted, exactly=channels is None)
        for name, labels in by_image.items()
    }
    if any(odd.values()):
        must = "all images must have the same channels" if channels is None else spelled("channels")
        listed = "; ".join(f"{name!r} {what}" for name, what in odd.items() if what)
        common = [label for label in wanted if all(label in own for own in by_image.values())]
        raise ChannelError(
            f"{must}, {listed_labels(wanted)}: {listed}; all images have "
            f"{listed_labels(common) if common else 'none of them'}"
        )
    return tuple(wanted)


def _difference(labels: Sequence[Label], wanted: Sequence[Label], exactly: bool) -> str:
    """What tells `labels` from those that are wanted; nothing if that does not matter."""
    missing = [label for label in wanted if label not in labels]
    extra = [label for label in labels if label not in wanted] if exactly else []
    parts = []
    if missing:
        parts.append(f"lacks {listed_labels(missing)}")
    if extra:
        parts.append(f"also has {listed_labels(extra)}")
    return " and ".join(parts)
