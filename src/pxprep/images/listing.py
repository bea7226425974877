"""What is shown of images: their channels, and a row for each."""

from collections.abc import Iterator

from ..displays import Part, in_a_line
from ..engine import backends
from .image_set import ImageSet

# How many images have a row.
MOST_SHOWN = 20


def image_parts(cohort: ImageSet) -> Iterator[Part]:
    """The channels of images, and name, size, type and whereabouts of the first of them."""
    if cohort.labels:
        yield Part("Channels", line=in_a_line(cohort.labels), count=len(cohort.labels))
    pairs = list(zip(cohort.names, cohort, strict=True))
    rows = [
        [
            str(name),
            ", ".join(f"{dim}: {size}" for dim, size in image.sizes.items() if dim != "c"),
            str(image.dtype),
            "lazy" if backends.is_lazy(image.data) else "in memory",
        ]
        for name, image in pairs[:MOST_SHOWN]
    ]
    more = max(len(pairs) - MOST_SHOWN, 0)
    yield Part("Images", ["image", "size", "dtype", "held"], rows, count=len(pairs), more=more)
