"""What OME-XML tells of the images in a file: names, sizes of pixels, and the files of a set.

Read leniently: instruments write XML that is not valid to the letter, and no more than this is
wanted of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

# Micrometres in a unit of length, as OME writes it, or others do.
UM_PER_UNIT = {
    "nm": 1e-3,
    "µm": 1.0,
    "\u03bcm": 1.0,  # the Greek letter
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "angstrom": 1e-4,
    "Å": 1e-4,
    "nanometer": 1e-3,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
# More than real ones have; a text that is larger is not parsed.
MOST_CHARACTERS = 1 << 26


@dataclass(frozen=True)
class OmeImage:
    """An image in the metadata.

    Attributes
    ----------
    name
        Name of the image; may be empty.
    labels
        Labels of the channels; None for those without.
    um_per_pixel
        Size of a pixel in micrometres, by dim.
    channels_of_pages
        For each file of a set, by its UUID: the channel of each page that the metadata name. Empty
        if there are several time points, or if pages are in another order than the planes.
    """

    name: str = ""
    labels: Sequence[str | None] = ()
    um_per_pixel: Mapping[str, float] = field(default_factory=dict)
    channels_of_pages: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ome:
    """The metadata of a file.

    Attributes
    ----------
    images
        The images, in their order.
    uuid
        UUID of the file that holds the metadata; may be empty.
    files
        The names of all files in which the images lie, by their UUIDs.
    """

    images: Sequence[OmeImage] = ()
    uuid: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_set(self) -> bool:
        """Whether the images lie in several files."""
        return len(self.files) > 1

    @property
    def repeats_channels(self) -> bool:
        """Whether files of a set may hold the same channels, as of other positions."""
        labels = [tuple(image.labels) for image in self.images]
        if len(set(labels)) < len(labels):
            return True
        for image in self.images:
            channels = [one for own in image.channels_of_pages.values() for one in set(own)]
            if not channels or len(set(channels)) < len(channels):
                return True
        return False

    def missing_files(self, folder: Path) -> list[str]:
        """The names of the files that are not in a folder."""
        return [name for name in self.files.values() if not (folder / Path(name).name).is_file()]


def parse_ome(text: str) -> Ome:
    """The metadata in a text; ValueError if it tells of no image."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"they are {len(text)} characters long")
    # Entities may grow without limit.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("they define a type of document")
    try:
        root = ElementTree.fromstring(text.strip("\0 \t\r\n"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(str(error)) from error
    images = [_image(element) for element in _below(root, "Image")]
    if not images:
        raise ValueError("they name another file that holds them")
    files = {}
    for element in root.iter():
        if _tag(element) == "UUID" and element.get("FileName"):
            files[(element.text or "").strip()] = element.get("FileName", "")
    return Ome(images, root.get("UUID", ""), files)


def _image(element: ElementTree.Element) -> OmeImage:
    name = element.get("Name", "")
    pixels = next(_below(element, "Pixels"), None)
    if pixels is None:
        return OmeImage(name)
    sizes = {}
    for dim in "zyx":
        unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{dim.upper()}Unit", "µm").strip())
        size = _positive(pixels.get(f"PhysicalSize{dim.upper()}"))
        if size and unit:
            sizes[dim] = size * unit
    labels = [channel.get("Name", "").strip() or None for channel in _below(pixels, "Channel")]
    has_times = _whole(pixels.get("SizeT"), 1) > 1
    return OmeImage(name, labels, sizes, {} if has_times else _channels_of_pages(pixels))


def _channels_of_pages(pixels: ElementTree.Element) -> dict[str, list[int]]:
    """As `OmeImage.channels_of_pages`, of an image without several time points."""
    order = [axis for axis in pixels.get("DimensionOrder", "XYCZT") if axis in "CZT"]
    sizes = [max(1, _whole(pixels.get(f"Size{axis}"), 1)) for axis in order]
    channel = order.index("C") if "C" in order else 0
    steps = sizes[0] if channel > 0 else 1
    steps *= sizes[1] if channel > 1 else 1
    planes: dict[str, list[tuple[int, int]]] = {}
    for data in _below(pixels, "TiffData"):
        uuid = next((one.text or "" for one in data if _tag(one) == "UUID"), "").strip()
        first = [_whole(data.get(f"First{axis}"), 0) for axis in order]
        start = first[0] + sizes[0] * (first[1] + sizes[1] * first[2]) if len(order) == 3 else 0
        count = min(_whole(data.get("PlaneCount"), 1), MOST_CHARACTERS >> 8)
        page = _whole(data.get("IFD"), 0)
        planes.setdefault(uuid, []).extend((page + n, start + n) for n in range(count))
    found = {uuid: [plane for _, plane in sorted(own)] for uuid, own in planes.items()}
    if any(own != sorted(own) for own in found.values()):
        return {}
    return {uuid: [n // steps % sizes[channel] for n in own] for uuid, own in found.items()}


def _below(parent: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    return (element for element in parent if _tag(element) == tag)


def _tag(element: ElementTree.Element) -> str:
    """The name of an element, whatever its namespace."""
    return str(element.tag).rpartition("}")[2]


def _positive(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.strip().isdecimal() else default
