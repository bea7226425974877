"""What the user says about files of any kind, where these do not say it themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..aliases import Label
from ..channels import parse_channels, told_apart
from ..errors import ChannelError, ParameterError, spelled
from ..images.parameters import parse_bool, parse_choice
from .axes import parse_axes
from .panels import Panel, names_or_panel, parse_panel

METADATA, FILES = "metadata", "files"


@dataclass(frozen=True)
class FileOptions:
    """The parameters of `open_images`, checked; those that were not given are None.

    Attributes
    ----------
    channels, panel, axes, images, acquisitions, subfolder, names_from, crop
        See `open_images`; `panel` also for ``channel_names``.
    """

    channels: tuple[Label, ...] | None = None
    panel: Panel | None = None
    axes: str | None = None
    images: tuple[str | int, ...] | None = None
    acquisitions: Sequence[int] | None = None
    subfolder: str | None = None
    names_from: str | None = None
    crop: bool = False

    @classmethod
    def of(
        cls,
        channels: Iterable[Label] | None = None,
        *,
        channel_names: Sequence[str] | None = None,
        panel: str | Path | Panel | None = None,
        axes: object = None,
        images: Sequence[str | int] | None = None,
        acquisitions: Sequence[int] | None = None,
        subfolder: str | None = None,
        names_from: str | None = None,
        crop: object = False,
    ) -> FileOptions:
        """What the user gave, or a ParameterError."""
        wanted = parse_channels(channels)
        if names_from is not None:
            parse_choice(names_from, "names_from", (METADATA, FILES))
        return cls(
            None if wanted is None else tuple(wanted),
            parse_panel(panel, channel_names),
            parse_axes(axes),
            _parse_images(images),
            acquisitions,
            _parse_subfolder(subfolder),
            names_from,
            parse_bool(crop, "crop"),
        )

    @property
    def all_are_named(self) -> bool:
        """Whether the user named all channels, in the order of the file."""
        return self.panel is not None and self.panel.in_order

    @property
    def channel_counts(self) -> Collection[int]:
        """How many channels a file may have for the names that were given; empty without."""
        return set() if self.panel is None else self.panel.channel_counts

    def check_no_files_of_channels(self, what: str) -> None:
        """Raise ParameterError for what was given for files of one channel: `what` has none."""
        for parameter in ("names_from", "crop"):
            if getattr(self, parameter):
                raise ParameterError(
                    f"{spelled(parameter)} must be left out: it is for folders with a TIFF for "
                    f"each channel, not for {what}"
                )

    def labels(
        self, own: Sequence[str | None], n_channels: int, what: str, why: str = ""
    ) -> list[tuple[int, str]]:
        """Which channels of an image are used, by position, and their labels.

        `own` are the names in the file; `why` they are missing is said in messages.
        """
        names = told_apart(own)
        if self.panel is not None:
            return self.panel.labels([names], n_channels, what, by_order=True)
        if len(names) != n_channels or not all(names):
            raise ChannelError(
                f"{what}: {len(list(filter(None, names)))} of {n_channels} channels have a "
                f"name{why}; give {names_or_panel()}, all of them in the order of the file"
            )
        return list(enumerate(names))


def _parse_subfolder(value: object) -> str | None:
    if value is None:
        return None
    path = PurePath(value if isinstance(value, str | PurePath) else "")
    odd = [part for part in path.parts if "**" in part and part != "**"]
    if not path.parts or path.anchor or odd:
        raise ParameterError(
            f"{spelled('subfolder')} must be the name of a folder in each field of view, or a "
            f"pattern such as '*', got {value!r:.300}"
        )
    return str(value)


def _parse_images(value: Sequence[str | int] | None) -> tuple[str | int, ...] | None:
    if value is None:
        return None
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_sequence or not value or not all(isinstance(one, str | int) for one in value):
        raise ParameterError(
            f"{spelled('images')} must be a sequence of names or numbers, got {value!r}"
        )
    return tuple(value)
