"""A run as one HTML file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..aliases import Images
from ..engine.progress import Pass
from ..errors import ParameterError
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.provenance import Provenance
from ..plot import DROPPED
from ..plot.cohort_quantiles import measuring_steps
from ..store.files import replace_file
from . import tables
from .checks import check_file, check_title
from .fovs import Fov, look, paired, pictured
from .pictures import ImagePictures, cohort_picture


def report(
    file: str | Path,
    before: Images | None,
    after: Images,
    fitted: FittedPipeline,
    *,
    title: str | None = None,
    passes: Sequence[Pass] | None = None,
    provenance: Provenance | Sequence[Provenance] | None = None,
    variable: Any = None,
) -> Path:
    """Write a QC report of a run as one HTML file that needs nothing else.

    It holds the steps and their parameters, the fitted numbers, the exact share of dropped pixels
    of each image, the quantiles of the cohort with their outliers, thumbnails and histograms of
    each channel before and after, what each pass took, and where layers came from. There are
    pictures of up to 160 channels in all, but of at least 2 and at most 12 images: those with
    outliers first.

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
        Of the layers that `after` is, from `pxprep.provenance`.
    variable
        Name of the variable that is the image, in trees whose datasets have several.

    Returns
    -------
    pathlib.Path
        That of the report.

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
            passes, Pass, "passes", "a pxprep.reporting.Passes or a sequence of its items"
        ),
        made=_sequence(made, Provenance, "provenance", rule),
    )


def _sequence(value: Any, kind: type, parameter: str, rule: str) -> Sequence[Any]:
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
    passes: Sequence[Pass] = (),
    made: Sequence[Provenance] = (),
) -> Path:
    """Write the report of images that have been checked."""
    outliers = fitted.outliers()
    chosen, rule = pictured(fovs, fitted.n_channels, outliers)
    seen, pictures = [], []
    for fov in fovs:
        found, pixels = look(fov, with_pictures=fov in chosen)
        seen.append(found)
        if pixels is not None:
            pictures.append(ImagePictures.of(found, pixels, fitted))
    page = _template().render(
        title=title or "pxprep report",
        time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=tables.facts(seen, fitted, outliers, passes),
        notes=tables.notes(fitted, fovs),
        steps=tables.steps_table(fitted),
        channels=tables.channels_table(fitted),
        dropped=tables.dropped_table(seen, outliers),
        drawings=[(step, cohort_picture(fitted, step)) for step in measuring_steps(fitted)],
        outliers=tables.outliers_table(outliers),
        pictures=pictures,
        rule=rule,
        dropped_colour=DROPPED,
        passes=tables.passes_table(passes),
        made=list(tables.provenance_tables(made)),
        versions=tables.versions_table(),
        fitted=tables.fitted_link(fitted),
    )
    # Paths may hold bytes that are no UTF-8.
    replace_file(path, page.encode(errors="backslashreplace"))
    return path


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    source = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
