"""What steps notice while they run, such as pixels that become NaN: counted once, and told once.

An operation counts on a strip of pixels while that is in cache, so that no pass over the image is
needed. A program may be run on the same pixels several times, once for each statistic: only the
first time counts. The outermost call, a function of `ops` or a whole pipeline, warns in the end of
what was found in all images. By then nothing of a lazy image has been computed: a note on it warns
by itself, as soon as all pixels have been seen.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from math import prod
from threading import Lock

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..aliases import Block, Label
from ..errors import listed, warn
from .windows import Window

# Makes the text of a warning from the notes of one step on all images; None: there is no warning.
Say = Callable[[Sequence["Note"]], str | None]
# Makes a note on an image; the arguments are `step`, `say` and `said_by_workers` of `Note`.
MakeNote = Callable[..., "Note"]

# Rows are sampled: at least SAMPLED_ROWS of them (all, if there are fewer), and at least one of
# every MOST_ROW_STEP.
SAMPLED_ROWS = 128
MOST_ROW_STEP = 8
# `sum_mask` warns if more than this share of the pixels that have a sum in the reference exceed the
# threshold there, but not in the image.
MOST_LOST = 0.15
# It does not if fewer pixels than this have a sum in the reference.
LEAST_MEASURED = 500

# The notes that the outermost call tells in the end; and which step of a pipeline runs now.
_TOLD_LATER: ContextVar["list[Note] | None"] = ContextVar("told_later", default=None)
_STEP: ContextVar["OfStep | None"] = ContextVar("step", default=None)


class Note:
    """What a step notices in one image.

    Parameters
    ----------
    image
        The image.
    labels
        What its channels are called.
    name
        The image's name in its cohort.
    step
        Name of the step; inside a pipeline its name there is used instead.
    say
        Makes the text of the warning from what was found.
    said_by_workers
        What a worker process warns of at once if it finds any: it sees only a part of the image,
        and cannot count.
    parts
        Dims of a lazy image, beside y and x, along which `take` is called for each chunk.

    Attributes
    ----------
    found
        What was counted, added up over all pixels that were seen: one count, or several.
    n_values
        How many values of all channels were seen.
    """

    def __init__(
        self,
        image: xr.DataArray,
        labels: Sequence[Label],
        name: Label,
        step: str,
        say: Say,
        said_by_workers: str = "",
        parts: str = "z",
    ) -> None:
        of_step = _STEP.get()
        self.step = step if of_step is None else of_step.name
        self.image = name if of_step is None or of_step.image is None else of_step.image
        self.labels = labels
        self.height, self.width = image.sizes["y"], image.sizes["x"]
        self.say = say
        self.found: Block = np.zeros(1, np.int64)
        self.n_values = 0
        self._said_by_workers = said_by_workers
        self._n_parts = prod(len(image.variable.chunksizes.get(dim, (1,))) for dim in parts)
        self._left = self.height * self.width * self._n_parts
        self._seen: defaultdict[tuple[int, int, object], dict[Window, int]] = defaultdict(dict)
        self._lock = Lock()
        later = _TOLD_LATER.get()
        self._tells_itself = later is None
        if later is not None:
            later.append(self)

    def take(
        self, window: Window, n_values: int, count: Callable[[], npt.ArrayLike], part: object = None
    ) -> None:
        """Add what `count` finds in a part of the image, unless that part was seen before.

        `part` tells apart chunks that have the same rows and columns; None if it is not known which
        of them this is.
        """
        if not self._is_new(window, part):
            return
        counted = np.asarray(count())
        with self._lock:
            self.found = self.found + counted
            self.n_values += n_values
            self._left -= window.n_pixels
            is_last = self._left == 0 and self._tells_itself
        if is_last:
            tell([self])

    def release(self) -> None:
        """Have the note warn by itself, once all pixels have been seen."""
        self._tells_itself = True

    def _is_new(self, window: Window, part: object) -> bool:
        """Whether pixels have not been seen yet; from now on they count as seen."""
        most = self._n_parts if part is None else 1
        with self._lock:
            if self._left == 0:
                return False
            # A later pass may cut the same columns into other strips: those that overlap seen ones
            # are not counted.
            seen = self._seen[window.left, window.right, part]
            if any(other.overlap(window) and other != window for other in seen):
                return False
            times = seen.get(window, 0)
            seen[window] = times + 1
            return times < most

    def __dask_tokenize__(self) -> str:
        return "note"  # always the same, as it changes no result

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerNote, (
            f"{self.step}: {self._said_by_workers}" if self._said_by_workers else "",
        )


class WorkerNote:
    """What a note becomes in a worker process: it warns at once if it finds anything.

    It cannot count, as a worker sees only a part of the image.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def take(
        self, window: Window, n_values: int, count: Callable[[], npt.ArrayLike], part: object = None
    ) -> None:
        """Warn if `count` finds anything."""
        if self._text and np.any(count()):
            warn(f"{self._text} (seen in a worker process; how many is not known there)")

    def __dask_tokenize__(self) -> str:
        return "note"


class ToldOnce:
    """A context: what steps notice inside it is told when it ends, once for each step.

    Inside another such context it does nothing: the outer one tells.
    """

    def __enter__(self) -> None:
        self._notes: list[Note] = []
        self._token = None if _TOLD_LATER.get() is not None else _TOLD_LATER.set(self._notes)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._token is not None:
            _TOLD_LATER.reset(self._token)
            if error is None:
                tell(self._notes)


class OfStep:
    """A context: notes that are made inside it are of this step of a pipeline.

    If `image` is given, they are on the image of that name.
    """

    def __init__(self, name: str, image: Label | None = None) -> None:
        self.name, self.image = name, image

    def __enter__(self) -> None:
        self._token = _STEP.set(self)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        _STEP.reset(self._token)


def tell(notes: Sequence[Note]) -> None:
    """Warn of what was found, once for each step; notes that saw nothing yet warn later."""
    # A pipeline that is fitted and then applied makes two notes of one step on one image.
    alike: defaultdict[tuple[str, Label], list[Note]] = defaultdict(list)
    for note in notes:
        alike[note.step, note.image].append(note)
    by_step: defaultdict[str, list[Note]] = defaultdict(list)
    for (step, _), same in alike.items():
        best = max(same, key=lambda note: note.n_values)
        if best.n_values:
            by_step[step].append(best)
        else:
            for note in same:
                note.release()
    for step, seen in by_step.items():
        text = seen[0].say(seen)
        if text is not None:
            warn(f"{step}: {text}")


def row_step(height: int) -> int:
    """How far apart the sampled rows of an image of that height are: 1 means all rows."""
    return min(max(height // SAMPLED_ROWS, 1), MOST_ROW_STEP)


def sampled_rows(height: int, top: int, bottom: int) -> range:
    """The sampled rows of an image of that height, from `top` to `bottom`."""
    step = row_step(height)
    return range(-(-top // step) * step, bottom, step)


def say_nothing(notes: Sequence[Note]) -> None:
    """No warning, whatever was found."""


def say_lost(q_sum: float, zeros: str, notes: Sequence[Note]) -> str | None:
    """In which images `sum_mask` drops far more than `q_sum` percent of the measured pixels."""
    far = []
    for note in notes:
        measured, dropped, lost = note.found.tolist()
        if measured >= LEAST_MEASURED and lost > MOST_LOST * measured:
            step, name = row_step(note.height), note.image
            rows = f" in one of every {step} rows" if step > 1 else ""
            image = f" of image {name!r}" if len(notes) > 1 or isinstance(name, str) else ""
            far.append(f"{100 * dropped / measured:.0f} % of {measured:,}{rows}{image}")
    if not far:
        return None
    lower = ' zeros="include", as in Pipeline.pixie(), lowers the threshold.'
    return (
        f"far more than q_sum={q_sum:g} % of the pixels that have a sum are dropped: "
        f"{', '.join(far)}. Many of them are above the threshold in the image that it was "
        f"measured on, but not after the steps in between: a blur spreads single counts."
        f"{'' if zeros == 'include' else lower}"
    )


def say_missing(what: str, notes: Sequence[Note]) -> str | None:
    """How many pixels became NaN; in which channels, if they were counted by channel."""
    found = np.sum([note.found for note in notes], axis=0)
    if not found.any():
        return None
    n_values, labels = sum(note.n_values for note in notes), notes[0].labels
    if found.size == 1 < len(labels):
        return f"{found[0]:,} of {n_values // len(labels):,} pixels {what}"
    lost = [f"{label!r} ({n:,})" for label, n in zip(labels, found.tolist(), strict=True) if n]
    channels = f"channel{'s' if len(lost) > 1 else ''} {listed(lost, most=40)}"
    return f"{found.sum():,} of {n_values:,} values {what}: in {channels}"


def say_lossy(notes: Sequence[Note]) -> str | None:
    """As `say_missing`, for a step of the user's own; but none if the step seems to be a mask.

    A mask drops as many pixels in each of several channels, and does so on purpose.
    """
    found = np.sum([note.found for note in notes], axis=0)
    is_mask = found.size > 1 and (found == found[0]).all()
    return None if is_mask else say_missing("became NaN or infinite", notes)
