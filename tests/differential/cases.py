"""What is drawn, as plain values: `repr` of a case is Python that makes it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Steps that read neighbours of a pixel, need the sums over channels, or measure.
READS_NEIGHBOURS = ("blur", "remove_hot_pixels", "subtract_background", "median")
SUMS = ("sum_mask", "sum_norm")
MEASURING = (
    *("sum_mask", "percentile_clip", "minmax", "post_norm", "quantile_norm", "threshold"),
    *("robust_zscore", "zscore"),
)
LABELS = {
    "text": ("DAPI", "CD3", "CD20", "CD45"),
    "numbers": (7, 0, 12, 3),
    "none": (0, 1, 2, 3),  # what unlabeled channels are called
}


@dataclass(frozen=True)
class Picture:
    """An image: what `contents.pixels` makes of it. Its channels come in the given order."""

    size: tuple[int, ...]
    dtype: str
    base: str
    extras: tuple[str, ...]
    seed: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class Mask:
    """Which pixels are inside, as `contents.inside` says, and how that is given."""

    kind: str
    form: str
    with_z: bool
    seed: int


@dataclass(frozen=True)
class Each:
    """A value for each channel that the step sees, in their order, and the form in which it is."""

    form: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Pairs:
    """Channels and others that go with them, by their places among those that the step sees."""

    values: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Spill:
    """Fractions of channels, by their places as in `Pairs`, that are seen in others."""

    values: tuple[tuple[int, int, float], ...]

    def by_label(self, names):
        """The fractions as pxprep takes them."""
        found = {}
        for one, other, fraction in self.values:
            found.setdefault(names[one], {})[names[other]] = fraction
        return found


@dataclass(frozen=True)
class Step:
    """A step of a pipeline; `reference` is the name of an earlier one."""

    kind: str
    name: str
    parameters: Mapping[str, Any]
    reference: str | None = None

    def left(self, channels):
        """Those of some channels that the step does not drop."""
        if not self.parameters.get("drop"):
            return channels
        gone = {other for _, other in self.parameters["backgrounds"].values}
        return tuple(channel for place, channel in enumerate(channels) if place not in gone)


@dataclass(frozen=True)
class Holding:
    """How one array is held: `kind` says what makes it, the others how it lies in memory or chunks.

    Chunks have sizes for c, z, y, x; those of `before` are what it had before it was rechunked.
    """

    kind: str = "numpy"
    dims: str = "czyx"
    layout: str = "C"
    is_swapped: bool = False
    chunks: tuple[tuple[int, ...], ...] = ()
    before: tuple[tuple[int, ...], ...] = ()
    has_name: bool = False


@dataclass(frozen=True)
class Way:
    """How a cohort is held and run: `sizes` 0 are the engine's own, others make its parts small."""

    run: str = "fit_transform"
    box: str = "list"
    holdings: tuple[Holding, ...] = ()
    masks: tuple[Holding, ...] = ()
    memory: int | None = None
    scheduler: str = "synchronous"
    together: bool = True
    sizes: int = 0


@dataclass(frozen=True)
class Store:
    """How layers are stored and run: `chunks` of the new ones, whether masks are layers."""

    is_on_disk: bool = True
    has_scales: bool = False
    keeps_outside: bool = True
    has_mask_layers: bool = False
    chunks: int | None = None
    resumes: bool = False


@dataclass(frozen=True)
class Case:
    """A pipeline on a cohort, and the ways in which it is run.

    `sparrow` are the parameters if it is that; `channels` those that are chosen, None for all.
    `batches` has the batch of each image, None if all are measured together.
    """

    labels: str
    pictures: tuple[Picture, ...]
    steps: tuple[Step, ...]
    pool: str | None
    masks: tuple[Mask | None, ...]
    ways: tuple[Way, ...]
    sparrow: Mapping[str, Any] | None = None
    channels: tuple[int, ...] | None = None
    store: Store | None = None
    batches: tuple[str, ...] | None = None

    @property
    def n_channels(self) -> int:
        """Of each image."""
        return len(self.pictures[0].order)

    @property
    def order(self) -> tuple[int, ...]:
        """The channels that go in: those of the first image, or those that were chosen."""
        return self.pictures[0].order if self.channels is None else self.channels

    @property
    def names(self) -> tuple[Any, ...]:
        """What they are called."""
        return tuple(LABELS[self.labels][number] for number in self.order)

    @property
    def seen_by(self) -> dict[str | None, tuple[Any, ...]]:
        """What the channels are called that each step sees; under None, those that come out."""
        seen: dict[str | None, tuple[Any, ...]] = {}
        left = self.names
        for step in self.steps:
            seen[step.name], left = left, step.left(left)
        return {**seen, None: left}


def resolved(value, names):
    """A parameter as pxprep takes it: one number, a sequence, or a mapping by label."""
    if isinstance(value, Pairs):
        return {names[one]: names[other] for one, other in value.values}
    if isinstance(value, Spill):
        return value.by_label(names)
    if not isinstance(value, Each):
        return value
    if value.form == "one":
        return value.values[0]
    if value.form == "sequence":
        return list(value.values)
    by_name = dict(zip(names, value.values, strict=True))
    if value.form == "mapping":
        return dict(reversed(by_name.items()))
    rest = value.values[-1]  # all the same as the last are left to `...`
    return {**{name: own for name, own in by_name.items() if own != rest}, ...: rest}


def plain(value):
    """The same as the oracle takes it."""
    if isinstance(value, Pairs):
        return dict(value.values)
    if isinstance(value, Spill):
        return value.by_label(range(len(LABELS["none"])))
    return list(value.values) if isinstance(value, Each) else value


def features(case):
    """Words that say what a case has, to be counted, and to be left out."""
    found = {f"step {step.kind}" for step in case.steps}
    found |= {f"dtype {picture.dtype}" for picture in case.pictures}
    found |= {f"content {picture.base}" for picture in case.pictures}
    found |= {f"content {extra}" for picture in case.pictures for extra in picture.extras}
    found |= {f"pool {case.pool}"} if len(case.pictures) > 1 else {"one image"}
    found |= {f"mask {mask.kind}" for mask in case.masks if mask is not None}
    found |= {"reference" for step in case.steps if step.reference is not None}
    found |= {"dropped channels" for step in case.steps if step.parameters.get("drop")}
    found |= {"layers of a store"} if case.store is not None else set()
    found |= {"chosen channels"} if case.channels is not None else set()
    found |= {"z" for picture in case.pictures if len(picture.size) == 3}
    found |= {f"steps {len(case.steps)}"}
    kinds = [step.kind for step in case.steps]
    if any(one in SUMS and other in READS_NEIGHBOURS for one, other in pairwise(kinds)):
        found.add("sums, then neighbours")
    for way in case.ways:
        found |= {f"run {way.run}", f"box {way.box}", f"scheduler {way.scheduler}"}
        found |= {
            f"memory {'small' if way.memory is not None and way.memory < 1 << 20 else way.memory}"
        }
        found |= {"sizes small" if way.sizes else "sizes as they are"}
        arrays = [*way.holdings, *way.masks]
        found |= {f"held {one.kind}" for one in arrays}
        found |= {f"layout {one.layout}" for one in arrays}
        found |= {"bytes swapped" for one in arrays if one.is_swapped}
        found |= {"equal names" for one in arrays if one.has_name}
        found |= {"chunks of size 0" for one in arrays if any(0 in sizes for sizes in one.chunks)}
    return found
