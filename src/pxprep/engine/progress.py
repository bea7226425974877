"""A bar for each pass over the data, what each pass took, and a line in the log for both."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast
from uuid import uuid4

from dask.callbacks import Callback

from ..displays import Display, Displayable, Part, seconds_text
from ..errors import ParameterError, spelled

GIB = 2**30
# The places of functions in a callback of Dask, which is a tuple of them.
START, START_STATE, PRETASK, POSTTASK, FINISH = range(5)
# Given the description of a pass, returns a context in which the pass is computed.
Progress = Callable[[str], AbstractContextManager[object]]
# At the level INFO it says which pass begins, and what each took. It is not shown by default.
LOG = logging.getLogger("pxprep")


def parse_progress(value: object, parameter: str = "progress") -> Progress:
    """What is shown of passes: False, nothing; True, a tqdm bar on stderr; or as a function says.

    Each pass is logged in any case.
    """
    # A `Passes` logs by itself: its own `progress` was parsed when it was made.
    return value if isinstance(value, Passes) else _logged(_bar_of(value, parameter))


def _logged(bar: Progress) -> Progress:
    """The same, and the log says when a pass begins, and what it took."""

    @contextmanager
    def logged(description: str) -> Iterator[None]:
        LOG.info("%s: begins", description)
        started = time.perf_counter()
        with bar(description):
            yield
        LOG.info("%s: took %.2f s", description, time.perf_counter() - started)

    return logged


def _bar_of(value: object, parameter: str) -> Progress:
    if value is None or value is False:
        return lambda description: nullcontext()
    if value is True:
        return tqdm_bar
    rule = (
        f"{spelled(parameter)} must be True, False or a function that takes a description and "
        f"returns a context manager, got {value!r}"
    )
    if not callable(value):
        raise ParameterError(rule)

    def bar(description: str) -> AbstractContextManager[object]:
        context = value(description)
        if not isinstance(context, AbstractContextManager):
            raise ParameterError(f"{rule}, which returned {context!r}")
        return context

    return bar


def tqdm_bar(description: str) -> AbstractContextManager[object]:
    """A tqdm bar that counts Dask tasks."""
    try:
        from tqdm.dask import TqdmCallback
    except ImportError as error:
        raise ParameterError(
            "progress=True needs the package tqdm: pip install 'pxprep[spatialdata]'"
        ) from error
    bar = TqdmCallback(desc=description, unit="task", file=sys.stderr)
    return cast("AbstractContextManager[object]", bar)


@contextmanager
def counted(n: int) -> Iterator[Callable[[], None]]:
    """A context in which callbacks of Dask, such as bars, hear of blocks as of tasks of Dask.

    It begins with `n` blocks to do, and gives a function to call, in any thread, for each block
    that is done.
    """
    listeners: list[Any] = list(Callback.active)
    if not listeners or not n:
        yield lambda: None
        return
    name = f"pxprep-block-{uuid4().hex}"
    blocks = {(name, number): None for number in range(n)}
    state: dict[str, Any] = {"ready": list(blocks), "finished": set(), "cache": {}}
    state |= {"waiting": {}, "running": set(), "dependencies": {key: set() for key in blocks}}
    lock = Lock()

    def tell(event: int, *what: object) -> None:
        for listener in listeners:
            if listener[event]:
                listener[event](*what)

    def count() -> None:
        with lock:
            key = state["ready"].pop()
            tell(PRETASK, key, blocks, state)
            state["finished"].add(key)
            tell(POSTTASK, key, None, blocks, state, "pxprep")

    tell(START, blocks)
    tell(START_STATE, blocks, state)
    try:
        yield count
    finally:
        tell(FINISH, blocks, state, bool(state["ready"]))


@dataclass(frozen=True)
class PassRecord:
    """What one pass over the data took.

    Attributes
    ----------
    name
        What it did.
    seconds
        From its start to its end.
    cpu_seconds
        Of all threads of this process; not of other processes, as those of a cluster.
    peak_memory
        The most bytes that this process has held in memory since it started, as seen at the end of
        the pass; None where the system does not say.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_memory: int | None


class Passes(Displayable, Sequence[PassRecord]):
    """Records what each pass over the data takes, for `pxprep.report`.

    Parameters
    ----------
    progress
        What is shown of a pass meanwhile: as for `pxprep.Pipeline.fit`.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> passes = pxprep.reporting.Passes()
    >>> fitted = pxprep.Pipeline.sparrow().fit(tissue(size=64), progress=passes)
    >>> [done.name for done in passes]
    ['measure quantile_norm of 3 images', 'measure sum_mask of 3 images',
     'measure post_norm of 3 images']
    """

    def __init__(self, progress: object = False) -> None:
        self._bar = parse_progress(progress)
        self._done: list[PassRecord] = []

    @contextmanager
    def __call__(self, description: str) -> Iterator[None]:
        """The context of one pass."""
        started, cpu = time.perf_counter(), time.process_time()
        with self._bar(description):
            yield
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        self._done.append(PassRecord(description, seconds, cpu, peak_memory()))

    def __getitem__(self, index: Any) -> Any:
        return self._done[index]

    def __len__(self) -> int:
        return len(self._done)

    def _display(self) -> Display:
        total = seconds_text(sum(done.seconds for done in self))
        summary = f"of {len(self)} pass{'es' if len(self) != 1 else ''}, {total}"
        header, rows = pass_table(self)
        part = Part("Passes", header, rows, range(1, 4), count=len(rows))
        return Display("pxprep.reporting.Passes", summary, [part] if rows else [])


def pass_table(passes: Sequence[PassRecord]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: time and memory of each pass."""
    rows = [
        [
            done.name,
            seconds_text(done.seconds),
            seconds_text(done.cpu_seconds),
            "unknown" if done.peak_memory is None else f"{done.peak_memory / GIB:.2f} GiB",
        ]
        for done in passes
    ]
    return ["pass", "time", "CPU time", "peak memory"], rows


def peak_memory() -> int | None:
    """The most bytes that this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
