"""Steps with their numbers, as they are looked at, compared and saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from ..aliases import BatchName, DType, ImageName, Label, Pool
from ..displays import Display, Displayable, Part, counted, in_a_line
from ..steps.json import encode_numbers
from ..store.json import to_text
from . import display, saved
from .base_pipeline import BasePipeline
from .json_form import BATCHES
from .review import find_outliers
from .run import labels_along, numbers_together

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class BaseFittedPipeline(Displayable):
    """Base class of `pxprep.FittedPipeline`, which says what the attributes are."""

    pipeline: BasePipeline
    channels: tuple[Label, ...] | None
    n_channels: int
    pool: Pool
    fovs: tuple[ImageName, ...]
    measured: Mapping[str, xr.Dataset]
    dtype: DType
    is_masked: bool | None = None
    batches: Mapping[ImageName, BatchName] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels of the channels, or their positions where they have none."""
        return tuple(range(self.n_channels)) if self.channels is None else self.channels

    @property
    def remaining(self) -> tuple[Label, ...]:
        """Labels of the channels that come out: all, but for those that a step drops."""
        return self._along[-1]

    @property
    def seen_by(self) -> dict[str, tuple[Label, ...]]:
        """For each step, by name, the labels of the channels that it sees."""
        return dict(zip(self.measured, self._along[:-1], strict=True))

    @cached_property
    def _along(self) -> list[tuple[Label, ...]]:
        return labels_along(self.pipeline.steps, self.labels)

    @property
    def numbers(self) -> xr.Dataset:
        """All that was measured as one dataset, over ``c`` (and ``fov`` or ``batch``).

        Variables are called by step and number. What steps apply:

        - ``quantile_norm_scale``, ``post_norm_scale``: what channels are divided by
        - ``sum_mask_threshold``: what sums must exceed
        - ``percentile_clip_low``, ``..._high``: what channels are clipped to
        - ``minmax_min``, ``..._max``: what becomes 0 and 1
        - ``threshold_value``: what values are compared with
        - ``zscore_center``, ``..._spread`` (also of ``robust_zscore``): what is subtracted, and
          what the rest is divided by

        What was measured of each image:

        - ``..._quantile``, ``..._quantile_low``: the quantile, or the upper one of two; the lower
        - ``robust_zscore_median``, ``..._quantile``: the median, and the median distance from it
        - ``zscore_mean``, ``..._deviation``: the mean and the standard deviation
        - ``..._counted``, ``..._negative``, ``..._infinite``: how many pixels these are of, how
          many of them are below zero, and how many others were left out as infinite

        Of a channel that was dropped before a step, that step's numbers are NaN; those in
        ``measured`` do not have it.
        """
        return numbers_together(self.measured, self.seen_by, self.labels)

    def outliers(self, score: float = 3.5, fold: float = 1.5) -> "DataFrame":
        """The images and channels whose quantiles are far from those of the other images.

        For each step that measures quantiles, and each channel, the quantile of each image is
        compared with the median over the images, on a logarithmic scale. A pair is far off if its
        modified z-score, ``0.6745 |x - median| / MAD`` (Iglewicz and Hoaglin 1993), is above
        `score` **and** it differs from the median by more than a factor of `fold`, so that in a
        cohort of very similar images not every small difference counts. An image in which a channel
        has no signal is far off where most images have some. With fewer than three images nothing
        is far off. Of steps that measure two quantiles, the upper ones are compared, of `zscore`
        the standard deviations, and of `robust_zscore` the median distances.

        Parameters
        ----------
        score
            Limit of the modified z-score.
        fold
            Limit of the ratio to the median, in either direction; at least 1.

        Returns
        -------
        pandas.DataFrame
            A row for each pair, the farthest first: ``step``, ``fov``, its ``batch`` after a fit in
            batches, ``channel`` (None for sums over channels), ``quantile``, ``median`` (that of
            the batch), ``fold`` (their ratio), ``score``, and the ``reason`` in words. The score is
            infinite without signal, for a quantile of 0 or of another sign than the median, and
            where more than half of the images are equal.

        Raises
        ------
        ParameterError
            If `score` is negative or `fold` below 1.

        Examples
        --------
        >>> from pxprep import Pipeline
        >>> from pxprep.datasets import tissue
        >>> fovs = tissue(n_fovs=5, size=64)
        >>> fovs["fov2"][{"c": 3}] *= 5
        >>> fitted = Pipeline().quantile_norm(99).fit(fovs)
        >>> fitted.outliers()[["fov", "channel"]].values.tolist()
        [['fov2', 'CD8']]
        """
        return find_outliers(self.measured, self.seen_by, self.batches, score, fold)

    def to_json(self) -> str:
        """Steps and numbers as JSON, floats exact; `from_json` gives back an equal object."""
        batches = [list(pair) for pair in self.batches.items()]
        return to_text(
            {
                "pipeline": self.pipeline.to_dict(),
                "channels": self.n_channels if self.channels is None else list(self.channels),
                "pool": self.pool,
                "fovs": list(self.fovs),
                **({BATCHES: batches} if batches else {}),
                "dtype": self.dtype.name,
                "numbers": {
                    step: encode_numbers(numbers, step) for step, numbers in self.measured.items()
                },
            }
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write `to_json` to a file that ends in ``.json``; as `Pipeline.save`."""
        saved.save(path, overwrite, {saved.JSON: self.to_json})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseFittedPipeline):
            return NotImplemented
        compared = attrgetter(
            "pipeline", "channels", "n_channels", "pool", "fovs", "batches", "dtype"
        )
        are_equal: bool = compared(self) == compared(other)
        return are_equal and self.numbers.identical(other.numbers)

    def _display(self) -> Display:
        images, channels = counted(len(self.fovs), "images"), counted(self.n_channels, "channels")
        header, rows = display.step_table(self.pipeline.steps, self.measured)
        parts = [Part("Steps", header, rows, count=len(rows))]
        header, rows = display.channel_table(self.measured, self.seen_by)
        if len(header) > 1:
            columns = range(1, len(header))
            parts.append(Part("Numbers", header, rows, columns, is_open=True))
        else:
            parts.append(Part("Channels", line=in_a_line(self.labels), count=self.n_channels))
        dropped = [label for label in self.labels if label not in self.remaining]
        if dropped:
            parts.append(Part("Dropped channels", line=in_a_line(dropped), count=len(dropped)))
        parts.append(Part("Images", line=display.shortened(self.fovs), count=len(self.fovs)))
        if self.batches:
            names = list(dict.fromkeys(self.batches[fov] for fov in self.fovs))
            parts.append(Part("Batches", line=display.shortened(names), count=len(names)))
        summary = f"of {images}, {channels}, pool={self.pool!r}"
        return Display("pxprep.FittedPipeline", summary, parts)
