"""What the tasks of a chain's graph do: read a block, run a program, keep or reduce the result.

A job is called with the results of the tasks that it depends on. The results of reducing jobs are
merged, a few at a time, until one is left.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from ..aliases import Block
from ..memory import empty, scratch
from . import digits
from .axes import AXES, own_axes, standard_axes
from .cache import CORE, Sampling, cut
from .gathering import Bounds
from .programs import KeepResult, Program
from .readings import Reading
from .sinks import Count, Opened, Sink, sum_of
from .sources import Sample
from .windows import Pixels, ResultSoFar, Window, kept_among

# The bounds of quantiles, or None, given samples of the result.
Choose = Callable[[Sequence[Block]], Bounds | None]


class Later(Enum):
    """What stands among the numbers of a job for one that it gets only when it runs."""

    NUMBER = "a number"
    MASK = "the tile of a mask that comes with each sample"


@dataclass(frozen=True)
class MaskReading:
    """Reads a mask in and around a block; it stands among the numbers of a job.

    Attributes
    ----------
    choose
        A function: which pixels of a block of the mask, or of labels, are chosen.
    readings
        What reads the mask's blocks, each with its window.
    """

    choose: Callable[[Block], Block]
    readings: tuple[tuple[Window, Reading], ...]

    def read(self, given: Iterator[object]) -> Pixels:
        """The chosen pixels, given the results that the readings depend on."""
        pieces = []
        for window, reading in self.readings:
            (block,) = reading.run([next(given) for _ in reading.others])
            pieces.append((0, window, self.choose(block)))
        return Pixels(pieces, 1)


@dataclass(frozen=True)
class Edges:
    """A task that reads a block and returns what lies within `depth` pixels of its edges.

    Attributes
    ----------
    reading
        What reads the block.
    depth
        In pixels.
    """

    reading: Reading
    depth: int

    def __call__(self, *values: object) -> list[Block]:
        """Those edges. After the values that the reading needs come others, only waited for."""
        return self.reading.edges(self.depth, values[: len(self.reading.others)])


@dataclass(frozen=True)
class BlockJob:
    """A task that runs a program on a block.

    Attributes
    ----------
    program
        What is run.
    window
        Rows and columns of the block.
    reading
        What reads it.
    neighbours
        Window of each neighbour, and how many chunks of it are given; None where only its edges
        are.
    numbers
        What the operations take, then what the sink takes, and last the mask of the pixels that are
        measured, or None for all. Some are `Later`; a `MaskReading` reads a mask when the task
        runs.
    sink
        What becomes of the program's result.
    kept_after
        After how many operations the block may be kept for later passes, and by what name.
    """

    program: Program
    window: Window
    reading: Reading
    neighbours: tuple[tuple[Window, int | None], ...]
    numbers: tuple[object, ...]
    sink: Sink
    kept_after: tuple[tuple[int, str], ...] = ()

    def __call__(self, *values: Any) -> object:
        """Run, given the results of all tasks that this one depends on.

        After the results that it needs may come others, which are only waited for.
        """
        given = iter(values)
        others = [next(given) for _ in self.reading.others]
        around: list[tuple[int, Window, Block]] = []
        for window, n_chunks in self.neighbours:
            if n_chunks is None:
                parts = window.edges(self.program.depth)
                around += [(0, *each) for each in zip(parts, next(given), strict=True)]
            else:
                chunks = [standard_axes(next(given), self.reading.axes) for _ in range(n_chunks)]
                around += _stacked(window, chunks)
        done, kept = self._kept()
        try:
            if kept is not None and kept.is_complete:
                pixels = Pixels.of(kept.pixels, self.window)
            else:
                chunks = self.reading.run(others)
                pixels = Pixels(_stacked(self.window, chunks) + around, sum(map(len, chunks)))
            pixels.z_chunk = self.reading.index[0]
            # Masks are read after the image: its cache samples them at the same places.
            numbers = [_filled_in(number, given) for number in self.numbers]
            if kept is None:
                done, kept = self._start_keeping(pixels)
            program = self.program
            if kept is not None:
                operations = list(program.operations)
                operations[done:done], numbers[done:done] = [KeepResult()], [kept]
                program = replace(program, operations=tuple(operations))
            n = len(program.operations)
            *waited, where = numbers[n:]
            opened = Opened(program, pixels, numbers[:n])
            sink = self.sink.given(*waited) if waited else self.sink
            return sink.run_block(opened, self.window, where)
        finally:
            if kept is not None:
                kept.leave()

    def _kept(self) -> tuple[int, ResultSoFar | None]:
        """The block as an earlier pass has kept it, and after how many operations that is."""
        for done, name in reversed(self.kept_after):
            kept = self.reading.cache.kept(self.reading.index, name)
            if kept is not None:
                return done, kept
        return 0, None

    def _start_keeping(self, pixels: Pixels) -> tuple[int, ResultSoFar | None]:
        """Room for the block, if a later pass will need it, and after how many operations."""
        if not (self.kept_after and self.sink.measures):
            return 0, None
        done, name = self.kept_after[-1]
        first = replace(self.program, operations=self.program.operations[:done])
        n_channels = first.out_channels(pixels.n_channels)
        shape = n_channels, pixels.planes, *self.window.shape
        place = self.reading.index, name, self.window
        return done, self.reading.cache.start_keeping(*place, shape, self.program.dtype)


@dataclass(frozen=True)
class ReturnChunks(Sink):
    """The result as an array for each chunk of channels, with the axes that the user has.

    If there is one such chunk, it is that array; else a list of them.
    """

    channels_per_chunk: tuple[int, ...]
    axes: str

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Any:
        """Run the program on a block."""
        # An array for each chunk: so small ones get memory that others have had before. One for all
        # would be new memory each time.
        program, pixels = opened.program, opened.pixels
        dtype = program.out_dtype(pixels.dtype)
        shape = (pixels.planes, *window.shape)
        made = [scratch((n_channels, *shape), dtype) for n_channels in self.channels_per_chunk]
        program.write(pixels, window, opened.numbers, made)
        chunks = [own_axes(block, self.axes) for block in made]
        return chunks[0] if len(chunks) == 1 else chunks


class Surveyed(NamedTuple):
    """What a first look at a source gives: counts, if it has small integers, and samples."""

    counts: Block | None
    samples: list[Sample]


@dataclass(frozen=True)
class Survey(Sink):
    """A first look at a source, with a sample of it.

    Attributes
    ----------
    sampling
        How much is sampled.
    masks
        Masks over the block, which are sampled at the same places.
    """

    sampling: Sampling
    masks: tuple[Pixels, ...] = ()

    def given(self, *masks: Pixels) -> "Survey":
        """The sink with the masks over a block."""
        return replace(self, masks=masks)

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Surveyed:
        """Count (inside the mask), and take a sample of the pixels and of the masks."""
        pixels, counts = opened.pixels, None
        if digits.n_digits(pixels.dtype) == 1:
            count = Count(None, 0, zeros=True, select=sum_of)
            counts = count.run_block(opened, window, where)
        chunks = [array for _, _, array in pixels.pieces]
        masks = self.masks if where is None else (*self.masks, where)
        samples = [
            Sample(cut(chunks, place), tuple(cut([mask.read(window)], place) for mask in masks))
            for place in self.sampling.places((window.top, window.left), chunks)
        ]
        return Surveyed(counts, samples)

    def merge(self, parts: Sequence[Surveyed]) -> Surveyed:
        """The sum of the counts, and all samples."""
        counts = [part.counts for part in parts if part.counts is not None]
        samples = [sample for part in parts for sample in part.samples]
        return Surveyed(sum_of(counts) if counts else None, samples)


@dataclass(frozen=True, eq=False)
class WriteChunks(Sink):
    """The result is written to `target`, which has these axes, as ``target[place] = chunk``."""

    target: Any
    channels_per_chunk: tuple[int, ...]
    axes: str

    def __dask_tokenize__(self) -> str:
        # Never the same twice: the values in the target, which Dask would hash, do not matter.
        return uuid4().hex

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> None:
        """Run the program, and write the result.

        It takes the place of a kept block that nobody else uses: that spares a block per thread.
        """
        program, pixels, numbers = opened.program, opened.pixels, opened.numbers
        shape = sum(self.channels_per_chunk), pixels.planes, *window.shape
        _, kept = kept_among(numbers)
        # Its shape is another if channels are dropped after the block was kept.
        if kept is not None and kept.pixels.shape == shape and kept.claim():
            block = kept.pixels
        else:
            block = empty(shape, program.out_dtype(pixels.dtype))
        program.write(pixels, window, numbers, [block])
        self._put(block, window)

    def finish(self, total: None) -> Block:
        """Nothing, as an array."""
        return np.empty(0, np.int64)

    def _put(self, block: Block, window: Window) -> None:
        first = 0
        for n_channels in self.channels_per_chunk:
            stop = first + n_channels
            whole = slice(first, stop), slice(0, block.shape[1]), *window.slices
            by_axis = dict(zip(AXES, whole, strict=True))
            selection = tuple(by_axis[axis] for axis in self.axes)
            self.target[selection] = own_axes(block[first:stop], self.axes)
            first = stop


def choose_bounds(
    program: Program, numbers: Sequence[object], choose: Choose, survey: Block, *later: object
) -> Block:
    """The bounds that `choose` returns for what a program makes of the samples of a survey.

    They, or None, come in a box, as the survey does. `numbers` are what the operations take; those
    that are `Later` are given.
    """
    given = iter(later)
    known = [_filled_in(number, given) for number in numbers]
    return boxed(choose(processed(program, survey[0].samples, known)))


def processed(
    program: Program, samples: Sequence[Sample], numbers: Sequence[object]
) -> list[Block]:
    """What a program makes of samples, each run as if it were an image of its own.

    Pixels near the border of a sample depend on others outside it. So a rim is left out, of as many
    pixels as the program reads around, or fewer if less than a core would remain.

    Each sample has a mask for every `Later.MASK` in `numbers`. If it has one more, that is the mask
    of the pixels that are measured: outside it the result is NaN.
    """
    made = []
    for block, masks in samples:
        left = iter(masks)
        taken = [Pixels.of(next(left)) if number is Later.MASK else number for number in numbers]
        height, width = block.shape[2:]
        alone = replace(program, height=height, width=width)
        rim = max(0, min(program.depth, (min(height, width) - min(CORE)) // 2))
        inner = Window(rim, height - rim, rim, width - rim)
        result = alone.run(Pixels.of(block), inner, taken)
        where = next(left, None)
        if where is not None:
            result = np.where(Pixels.of(where).read(inner), result, np.nan)
        made.append(result)
    return made


def _filled_in(number: object, given: Iterator[object]) -> Any:
    """One of the numbers of a job: read, or taken from `given`, if it was not known before."""
    if isinstance(number, MaskReading):
        return number.read(given)
    return next(given) if number is Later.NUMBER else number


def _stacked(window: Window, chunks: Sequence[Block]) -> list[tuple[int, Window, Block]]:
    """The chunks of a block, each with some of the channels in their order, as `Pixels` pieces."""
    firsts = accumulate(map(len, chunks), initial=0)
    return [(first, window, chunk) for first, chunk in zip(firsts, chunks, strict=False)]


def if_full(job: Callable[..., object], box: Block, *values: object) -> object:
    """What a job makes of values, if a box holds something; else None."""
    return None if box[0] is None else job(*values)


def if_empty(job: Callable[..., object], box: Block, *values: object) -> object:
    """What a job makes of values, if a box holds None; else None."""
    return job(*values) if box[0] is None else None


def boxed(value: object) -> Block:
    """A value as the only item of an array."""
    box = np.empty(1, object)
    box[0] = value
    return box
