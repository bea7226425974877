"""What the options ask for, as parameters of the library."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import values
from .options import FloatType
from .stores import RASTERS, names_for

if TYPE_CHECKING:
    from ..aliases import Label
    from ..images.masks import Mask
    from ..io import Panel
    from ..pipeline.pipeline import FittedPipeline, Pipeline

# Parameters of steps that a table of markers may have.
OF_PANELS = ("q", "sigma", "q_post", "cap_max")


@dataclass(frozen=True)
class Steps:
    """The steps: by parameters that were given, or a pipeline from a file, and the channels.

    Attributes
    ----------
    given
        Parameters of `Pipeline.sparrow`, channels by the text that was typed.
    recipe
        What was in the file.
    channels
        The channels that were typed, or else those that a panel keeps or a fitted pipeline has;
        None for all.
    panel
        Numbers by channel, where nothing else was typed.
    """

    given: Mapping[str, Any]
    recipe: Pipeline | FittedPipeline | None
    channels: list[Any] | None
    panel: Panel | None = None

    @classmethod
    def of(
        cls,
        *,
        q: Sequence[str] | None,
        q_sum: str | None,
        q_post: Sequence[str] | None,
        sigma: Sequence[str] | None,
        no_norm_sum: bool,
        cap_max: Sequence[str] | None,
        channel: Sequence[str] | None,
        panel: Path | None,
        pipeline: Path | None,
        fitted: Path | None = None,
    ) -> Steps:
        """What was typed; files are read."""
        from ..io import read_panel
        from ..pipeline.pipeline import FittedPipeline, Pipeline

        by_channel = {"q": q, "q_post": q_post, "sigma": sigma, "cap_max": cap_max}
        given = {
            name: values.per_channel(texts, "--" + name.replace("_", "-"))
            for name, texts in by_channel.items()
            if texts
        }
        if q_sum is not None:
            given["q_sum"] = values.number_or_none(q_sum, "--q-sum")
        if no_norm_sum:
            given["norm_sum"] = False
        table = None if panel is None else read_panel(panel)
        channels = list(channel) if channel else None
        if table is not None and channels is None:
            channels = [table.names[row] for row in table.kept]
        files = [
            option for option, file in (("--pipeline", pipeline), ("--fitted", fitted)) if file
        ]
        if len(files) > 1 or (files and given):
            values.wrong(files[0], "takes the place of the other steps: give either, not both")
        told = [name for name in OF_PANELS if table is not None and getattr(table, name)]
        if files and told:
            values.wrong(
                files[0],
                f"takes the place of the other steps, and the table of --panel has numbers for "
                f"them: leave out its columns {', '.join(told)}",
            )
        if fitted is not None:
            return cls.fitted(FittedPipeline.from_json(fitted), channels)
        recipe = None if pipeline is None else Pipeline.from_file(pipeline)
        return cls(given, recipe, channels, table)

    @classmethod
    def fitted(cls, fitted: FittedPipeline, channels: list[str] | None = None) -> Steps:
        """A fitted pipeline, for the channels that it was fitted to or for others."""
        known = None if fitted.channels is None else list(fitted.channels)
        return cls({}, fitted, known if channels is None else channels)

    def parameters(self, labels: Sequence[Label]) -> dict[str, Any]:
        """Parameters of `pixel_clustering_preprocess` for images with these labels."""
        steps = {name: values.with_labels(value, labels) for name, value in self.given.items()}
        if self.recipe is not None:
            steps["pipeline"] = self.recipe
        elif self.panel is not None:
            steps = {**_numbers(self.panel, labels, self.channels), **steps}
        return {"channels": values.with_labels(self.channels, labels), **steps}


@dataclass(frozen=True)
class Where:
    """Which pixels are measured: those with labels, or all others.

    Attributes
    ----------
    names
        Names of labels layers that were typed; None for all pixels of all layers.
    labels, inverted
        As `pxprep.Mask` has them; empty for all but 0.
    """

    names: Sequence[str] | None
    labels: Sequence[int] | None
    inverted: bool

    def __post_init__(self) -> None:
        for option, is_given in (("--where-labels", self.labels), ("--where-not", self.inverted)):
            if is_given and not self.names:
                values.wrong(option, "says which labels of --where: give both")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of elements of a store that are read."""
        return RASTERS if self.names else ("images",)

    def masks(self, layers: Sequence[str]) -> Mask | list[Mask] | None:
        """The parameter `where` for these image layers."""
        if not self.names:
            return None
        from ..images.masks import Mask

        several = {"labels": self.labels} if self.labels else {}
        masks = [
            Mask(name, inverted=self.inverted, **several) for name in names_for(layers, self.names)
        ]
        return masks[0] if len(masks) == 1 else masks


def writing(
    *,
    chunks: Sequence[str] | None,
    scale_factors: Sequence[str] | None,
    compressor: str | None,
    memory: str | None,
    overwrite: bool,
    resume: bool,
    wait: float | None,
    no_wait: bool,
) -> dict[str, Any]:
    """Parameters of `pixel_clustering_preprocess` about new layers."""
    return {
        "chunks": values.chunk_sizes(chunks) if chunks else None,
        "scale_factors": values.scale_factors(scale_factors) if scale_factors else None,
        "compressor": None if compressor is None else values.compressor(compressor),
        "memory": memory_or_none(memory),
        "overwrite": overwrite,
        "resume": resume,
        "wait": values.seconds(wait, no_wait),
    }


def memory_or_none(text: str | None) -> int | str | None:
    """The budget that was typed."""
    return None if text is None else values.memory(text)


def name_of(dtype: FloatType | None) -> str | None:
    """The float type that was typed."""
    return None if dtype is None else dtype.value


def _numbers(
    panel: Panel, labels: Sequence[Label], channels: Sequence[object] | None
) -> dict[str, object]:
    """What a panel says of the steps: by channel, and the usual value for the rest."""
    from ..pipeline.pipeline import Pipeline

    usual = inspect.signature(Pipeline.sparrow).parameters
    found = {}
    for name in OF_PANELS:
        own = {key: value for key, value in getattr(panel, name).items() if key in (channels or ())}
        if own:
            # Some have no usual value: then the table has to tell of every channel.
            rest = {} if usual[name].default is None else {...: usual[name].default}
            found[name] = values.with_labels({**own, **rest}, labels)
    return found
