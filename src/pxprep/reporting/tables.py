"""The words and numbers of a report: facts, findings and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import NamedTuple

import numpy as np

from ..aliases import ImageName
from ..channels import CHANNEL
from ..displays import seconds_text, value_text
from ..engine.progress import PassRecord, pass_table
from ..pipeline import display
from ..pipeline.display import shortened
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.provenance import PIPELINE, Provenance
from ..plot.cohort_quantiles import SUMS, measuring_steps
from ..plot.dropped_pixels import percent_text
from ..plot.layout import number_text
from .distances import Distances
from .fovs import Anchors, DropCount, Fov

PACKAGES = ("pxprep", "numpy", "scipy", "numba", "xarray", "dask", "zarr", "spatialdata")


class Link(NamedTuple):
    """A cell that leads to a place in the page."""

    text: str
    anchor: str


Cell = str | Link


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    caption, header, rows
        The texts of the table.
    right_aligned
        Which columns, counted from 0, are aligned at the right.
    is_sortable
        Whether readers may want its rows in another order, or only some of them.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    right_aligned: range = range(0)
    is_sortable: bool = False


def facts(
    counts: Sequence[DropCount], distances: Distances, passes: Sequence[PassRecord]
) -> dict[str, str]:
    """A few numbers for the top of the page, by their titles."""
    fitted = distances.fitted
    n_dropped = sum(count.n_dropped for count in counts)
    by_title = {
        "images": f"{len(counts):,}",
        "channels": f"{fitted.n_channels:,}",
        "pixels dropped": percent_text(n_dropped, sum(count.n_pixels for count in counts)),
    }
    n_gone = fitted.n_channels - len(fitted.remaining)
    if n_gone:
        by_title["channels dropped"] = f"{n_gone:,}"
    if len(fitted.fovs) > 1:
        n_far = distances.outliers["fov"].nunique()
        by_title["images with outliers"] = f"{n_far:,} of {len(fitted.fovs):,}"
    if passes:
        by_title["time of all passes"] = seconds_text(sum(done.seconds for done in passes))
    return by_title


def findings(fitted: FittedPipeline, fovs: Sequence[Fov]) -> list[str]:
    """What was odd about the images."""
    texts = [text for step in measuring_steps(fitted) for text in _findings_of(fitted, step)]
    dropped = [str(label) for label in fitted.labels if label not in fitted.remaining]
    if dropped:
        texts.append(f"Steps drop {shortened(dropped)}: there are no pictures of these channels.")
    gone = [fov.title for fov in fovs if fov.before is None]
    if gone:
        texts.append(f"There are no pictures from before of {shortened(gone)}: not there any more.")
    other = [fov.title for fov in fovs if fov.name not in fitted.fovs]
    if other:
        texts.append(f"The numbers were measured on other images than {shortened(other)}.")
    return list(dict.fromkeys(texts))


def _findings_of(fitted: FittedPipeline, step: str) -> Iterator[str]:
    numbers = fitted.measured[step]
    if CHANNEL not in numbers["counted"].dims:
        return
    silent = (numbers["counted"] == 0).values
    statistic = dict(fitted.pipeline.steps)[step].statistic(fitted.seen_by[step])
    kind = "finite" if getattr(statistic, "zeros", True) else "finite non-zero"
    same = np.zeros_like(silent)
    if "deviation" in numbers:
        same = (numbers["deviation"] == 0).values & ~silent
    for chosen, what in (
        (silent.all(axis=0), f"No {kind} pixel in {{}}."),
        ((silent | same).all(axis=0) & same.any(axis=0), "All finite pixels are equal in {}."),
        ((numbers["negative"] > 0).values.any(axis=0), "Negative pixels in {}."),
        ((numbers["infinite"] > 0).values.any(axis=0), "Infinite pixels in {}: taken as missing."),
    ):
        names = [str(fitted.seen_by[step][i]) for i in np.flatnonzero(chosen)]
        if names:
            yield f"{step}: {what.format(shortened(names))}"


def steps_table(fitted: FittedPipeline) -> Table:
    """The steps with their parameters."""
    header, rows = display.step_table(fitted.pipeline.steps, fitted.measured)
    return Table(_fitted_to(fitted), header, rows)


def _fitted_to(fitted: FittedPipeline) -> str:
    pool = {
        "mean": "with the mean of their numbers",
        "pixels": "with the numbers of all their pixels",
        None: "each by itself",
    }[fitted.pool]
    n_images = len(fitted.fovs)
    n_batches = len({fitted.batches[fov] for fov in fitted.fovs}) if fitted.batches else 1
    apart = f" in {n_batches} batches, each" if n_batches > 1 else ","
    images = "one image" if n_images == 1 else f"{n_images} images{apart} {pool}"
    return f"Steps in their order, fitted to {images}; computed in {fitted.dtype}."


def channels_table(fitted: FittedPipeline) -> Table:
    """The numbers of each channel."""
    header, rows = display.channel_table(fitted.measured, fitted.seen_by)
    caption = "The numbers of each channel; a scale is what it is divided by"
    if fitted.pool is None and len(fitted.fovs) > 1:
        caption += ": the median of all images (and from the lowest to the highest)"
    elif len({*fitted.batches.values()}) > 1:
        caption += ": the median of all batches (and from the lowest to the highest)"
    return Table(f"{caption}.", header, rows, range(1, len(header)), is_sortable=True)


def images_table(counts: Sequence[DropCount], distances: Distances, anchors: Anchors) -> Table:
    """The images, how much of them was dropped, and what is odd about them."""
    batches = distances.fitted.batches
    rows: list[list[Cell]] = []
    for count in counts:
        fov, sizes = count.fov, count.fov.after.sizes
        odd = distances.reasons(fov.name)
        rows.append(
            [
                Link(fov.title, anchors[fov.name, None]),
                " x ".join(f"{sizes[dim]:,}" for dim in ("z", "y", "x") if dim in sizes),
                percent_text(count.n_dropped, count.n_pixels),
                f"{count.n_dropped:,}",
                shortened([SUMS if channel is None else str(channel) for channel in odd]),
                *([str(batches.get(fov.name, ""))] if batches else []),
            ]
        )
    header = ["image", "size", "dropped", "dropped pixels", "outlier in"]
    header += ["batch"] if batches else []
    caption = "Pixels without a value in any channel after preprocessing, counted exactly."
    return Table(caption, header, rows, range(1, 4), is_sortable=True)


def outliers_table(
    distances: Distances, titles: Mapping[ImageName, str], anchors: Anchors
) -> Table:
    """Images and channels that are far from the others."""
    rows: list[list[Cell]] = []
    for row in distances.outliers.itertuples():
        image = titles.get(row.fov, str(row.fov))
        channel = SUMS if row.channel is None else str(row.channel)
        place = anchors.get((row.fov, None), "")
        rows.append(
            [
                Link(image, place),
                Link(channel, anchors.get((row.fov, row.channel), place)),
                str(row.step),
                row.reason,
                "" if np.isnan(row.quantile) else number_text(row.quantile),
                number_text(row.median),
            ]
        )
    header = ["image", "channel", "step", "reason", "quantile", "median"]
    batch = " of the batch" if distances.fitted.batches else ""
    caption = (
        f"Quantiles more than 1.5 times above or below the median of all images{batch}, with a "
        "modified z-score above 3.5; the farthest first. Of zscore the standard deviations are "
        "compared, of robust_zscore the median distances."
    )
    return Table(caption, header, rows, range(4, 6), is_sortable=True)


def passes_table(passes: Sequence[PassRecord]) -> Table:
    """Time and memory of each pass over the data."""
    header, rows = pass_table(passes)
    caption = "Each pass over the data; CPU time, and memory at most until then, of this process."
    return Table(caption, header, rows, range(1, 4))


def provenance_tables(made: Sequence[Provenance]) -> Iterator[Table]:
    """What made the layers."""
    if not made:
        return
    rows = [[one.layer, one.source, f"{one.time:%Y-%m-%d %H:%M:%S %Z}", one.run] for one in made]
    yield Table("Layers, and what they were made from.", ["layer", "source", "time", "run"], rows)
    for run in dict.fromkeys(one.run for one in made):
        first = next(one for one in made if one.run == run)
        asked = {key: value for key, value in first.parameters.items() if key != PIPELINE}
        rows = [[key, value_text(value)] for key, value in asked.items()]
        yield Table(f"What run {run} was asked for.", ["parameter", "value"], rows)
        rows = [*map(list, first.versions.items())]
        yield Table(f"Versions that run {run} used.", ["package", "version"], rows)


def versions_table() -> Table:
    """What this report was made with."""
    rows = [["Python", python_version()]]
    for package in PACKAGES:
        try:
            rows.append([package, version(package)])
        except PackageNotFoundError:
            continue  # optional
    return Table("Versions that this report was made with.", ["package", "version"], rows)
