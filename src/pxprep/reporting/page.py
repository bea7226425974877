"""A run as one HTML file."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..aliases import Images
from ..engine.progress import PassRecord
from ..errors import ParameterError
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.provenance import Provenance
from ..store.files import replace_file
from . import tables
from .checks import check_file, check_title
from .distances import Distances
from .downloads import downloads
from .fovs import Fov, look, paired
from .heatmap import LIMIT, heatmaps
from .sections import Sections

if TYPE_CHECKING:
    from jinja2 import Template

Item = TypeVar("Item")


def report(
    file: str | Path,
    before: Images | None,
    after: Images,
    fitted: FittedPipeline,
    *,
    title: str | None = None,
    passes: Sequence[PassRecord] | None = None,
    provenance: Provenance | Sequence[Provenance] | None = None,
    variable: object = None,
) -> Path:
    """Write a QC report of a run as one HTML file that needs nothing else.

    First come a few numbers, a heatmap of how far each image is from the median of all in each
    channel, with the outliers marked, and a picture of each image, the farthest first; each leads
    to a section with the image's channels before and after, their histograms, and what was
    dropped. Then come the outliers, the images and the fitted numbers as tables that can be sorted
    and filtered, and as files; the steps, what each pass took, and where layers came from.

    All channels of an image are pictured in a cohort of up to 4,000 pairs of image and channel; in
    a larger one those in which the image is an outlier, and others that are the farthest from the
    median. The more pictures there are, the smaller they are.

    Parameters
    ----------
    file
        Path of the report, ending in ``.html``; its folder must exist, and a file that is there is
        replaced, in one step.
    before
        The images as they came: one, a sequence, a mapping or a tree; with at least the fitted
        channels. None if they are no longer there.
    after
        The same images, processed; with the fitted channels. Lazy images are read once, one after
        the other, in blocks.
    fitted
        The pipeline with its numbers.
    title
        Heading of the report.
    passes
        What each pass over the data took: a `pxprep.reporting.Passes` that was given to
        `Pipeline.fit` as `progress`.
    provenance
        What `pxprep.provenance` returned for the layers in `after`.
    variable
        Name of the variable that is the image, in trees whose datasets have several.

    Returns
    -------
    pathlib.Path
        The path of the report.

    Raises
    ------
    ParameterError
        If `file` cannot be written, `fitted`, `title`, `passes` or `provenance` is something else,
        or Jinja2 or Matplotlib is not installed.
    ImageError, ChannelError
        If `before` and `after` are not the same images, or lack a channel.

    Examples
    --------
    >>> import tempfile
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> fovs = tissue(size=64)
    >>> passes = pxprep.reporting.Passes()
    >>> fitted = pxprep.Pipeline.sparrow().fit(fovs, progress=passes)
    >>> file = tempfile.mkdtemp() + "/report.html"
    >>> pxprep.report(file, fovs, fitted.transform(fovs), fitted, passes=passes).name
    'report.html'
    """
    path = check_file(file)
    if not isinstance(fitted, FittedPipeline):
        raise ParameterError(f"fitted must be a FittedPipeline, got {fitted!r:.200}")
    heading = check_title(title)
    made = [provenance] if isinstance(provenance, Provenance) else provenance
    rule = "a Provenance or a sequence of them, from pxprep.provenance"
    return write(
        path,
        paired(before, after, fitted, variable),
        fitted,
        title=heading,
        passes=_sequence(
            passes, PassRecord, "passes", "a pxprep.reporting.Passes or a sequence of its items"
        ),
        made=_sequence(made, Provenance, "provenance", rule),
    )


def _sequence(value: object, kind: type[Item], parameter: str, rule: str) -> Sequence[Item]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or not all(isinstance(item, kind) for item in value):
        raise ParameterError(f"{parameter} must be {rule}, got {value!r:.200}")
    return value


def write(
    path: Path,
    fovs: Sequence[Fov],
    fitted: FittedPipeline,
    *,
    title: str | None = None,
    passes: Sequence[PassRecord] = (),
    made: Sequence[Provenance] = (),
) -> Path:
    """Write the report of images that have been checked."""
    distances = Distances.of(fitted)
    sections = Sections.of(fovs, distances)
    counts = []
    for fov in fovs:
        count, pixels = look(fov)
        counts.append(count)
        sections.add(count, pixels)
    style, script = (_part(name) for name in ("page.css", "page.js"))
    page = _template().render(
        title=title or "pxprep report",
        time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        style=style,
        script=script,
        hashes={"style": _hash(style), "script": _hash(script)},
        facts=tables.facts(counts, distances, passes),
        findings=tables.findings(fitted, fovs),
        heatmaps=heatmaps(
            distances, distances.sorted(fitted.fovs), sections.titles, sections.anchors
        ),
        limit=LIMIT,
        sections=sections,
        in_batches=bool(fitted.batches),
        outliers=tables.outliers_table(distances, sections.titles, sections.anchors),
        images=tables.images_table(counts, distances, sections.anchors),
        channels=tables.channels_table(fitted),
        steps=tables.steps_table(fitted),
        downloads=downloads(counts, distances),
        passes=tables.passes_table(passes),
        made=list(tables.provenance_tables(made)),
        versions=tables.versions_table(),
    )
    # Paths may hold bytes that are no UTF-8.
    replace_file(path, page.encode(errors="backslashreplace"))
    return path


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash by which the page's security policy allows a script or style in it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("page.html"))
