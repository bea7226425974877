"""What the tasks of a chain's graph do: read a block, run a program, keep or reduce the result.

A job is called with the results of the tasks that it depends on. The results of reducing jobs are
merged, a few at a time, until one is left.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from ..aliases import Block
from . import blocks
from .cache import CORE, Rooms, Sampling, cut
from .gathering import Bounds
from .kernels.counts import DIGIT_BITS
from .programs import Keep, Program
from .sinks import Count, Opened, Sink, sum_of
from .sources import AXES, Reading, Sample, standard_axes
from .windows import Kept, Pixels, Window

# In a job: numbers that are not known yet, and a neighbour of which only the edges are given.
LATER = "later"
EDGES = -1


@dataclass(frozen=True)
class MaskReading:
    """Which pixels in and around a block are chosen, in place of the numbers of an operation.

    Attributes
    ----------
    choose
        Chooses pixels of what is read.
    readings
        What reads it, each with its place.
    """

    choose: Callable[[Block], Block]
    readings: tuple[tuple[Window, Reading], ...]

    def read(self, given: Iterator[object]) -> Pixels:
        """Those pixels, given the results that the readings depend on."""
        pieces = []
        for place, reading in self.readings:
            (block,) = reading.run([next(given) for _ in reading.others])
            pieces.append((0, place, self.choose(block)))
        return Pixels(pieces, 1)


@dataclass(frozen=True)
class Edges:
    """A task that reads a block and keeps what lies within `depth` pixels of its edges.

    Attributes
    ----------
    reading
        What reads the block.
    depth
        In pixels.
    gate
        As for `BlockJob`.
    """

    reading: Reading
    depth: int
    gate: bool | None = None

    def __call__(self, *values: object) -> list[Block] | None:
        """Those edges; values behind those that the reading needs are only waited for."""
        others = list(values)
        if _is_shut(self.gate, others):
            return None
        return self.reading.edges(self.depth, others[: len(self.reading.others)])


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
    surroundings
        Place of each neighbour, and how many chunks of it are given, or `EDGES`.
    numbers
        What the operations and the sink take, and the mask of what is measured, or None; `LATER`
        where it is given when the task runs, and a `MaskReading` where it is read then.
    sink
        What becomes of the program's result.
    stops
        Where, behind how many of its operations, the program's result may be kept for later
        passes, and the name of what comes out there.
    gate
        None: always run. Otherwise the first value is a list of one item: True runs only if the
        item is None, False only if it is not.
    """

    program: Program
    window: Window
    reading: Reading
    surroundings: tuple[tuple[Window, int], ...]
    numbers: tuple[object, ...]
    sink: Sink
    stops: tuple[tuple[int, str], ...] = ()
    gate: bool | None = None

    def __call__(self, *values: Any) -> object:
        """Run, given the results of all tasks that this one depends on.

        Those behind the results that it needs are only waited for.
        """
        waited = list(values)
        if _is_shut(self.gate, waited):
            return None
        given = iter(waited)
        others = [next(given) for _ in self.reading.others]
        around: list[tuple[int, Window, Block]] = []
        for place, kind in self.surroundings:
            if kind == EDGES:
                parts = place.edges(self.program.depth)
                around += [(0, *each) for each in zip(parts, next(given), strict=True)]
            else:
                runs = [standard_axes(next(given), self.reading.axes) for _ in range(kind)]
                around += _stacked(place, runs)
        done, kept = self._made()
        try:
            if kept is not None and kept.is_complete:
                pixels = Pixels.of(kept.pixels, self.window)
            else:
                own = self.reading.run(others)
                pixels = Pixels(_stacked(self.window, own) + around, sum(map(len, own)))
            # Masks after the image: they are sampled at its places.
            numbers = [_known(number, given) for number in self.numbers]
            if kept is None:
                done, kept = self._room(pixels)
            program = self.program
            if kept is not None:
                operations = list(program.operations)
                operations[done:done], numbers[done:done] = [Keep()], [kept]
                program = replace(program, operations=tuple(operations))
            n = len(program.operations)
            *waited, where = numbers[n:]
            opened = Opened(program, pixels, numbers[:n])
            sink = self.sink.given(*waited) if waited else self.sink
            return sink.take(opened, self.window, where)
        finally:
            if kept is not None:
                kept.leave()

    def _made(self) -> tuple[int, Kept | None]:
        """What an earlier pass has kept of the block, and behind how many operations that is."""
        for done, name in reversed(self.stops):
            kept = self.reading.made(name)
            if kept is not None:
                return done, kept
        return 0, None

    def _room(self, pixels: Pixels) -> tuple[int, Kept | None]:
        """Likewise, room for what is made now, if a later pass will need it and there is some."""
        if not (self.stops and self.sink.measures):
            return 0, None
        done, name = self.stops[-1]
        first = replace(self.program, operations=self.program.operations[:done])
        n_channels = first.out_channels(pixels.n_channels)
        shape = n_channels, pixels.planes, *self.window.shape
        return done, self.reading.room(name, self.window, shape, self.program.dtype)


@dataclass(frozen=True)
class Write(Sink):
    """The result as an array for each chunk of channels, with the axes that the user has."""

    runs: tuple[int, ...]
    axes: str
    only: bool = False

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> Any:
        """Run the program; its one array, or a list."""
        # Arrays of the size of a chunk use memory again that others had; larger ones would be
        # fresh each time.
        program, pixels = opened.program, opened.pixels
        dtype = program.out_dtype(pixels.dtype)
        shape = (pixels.planes, *window.shape)
        blocks = [np.empty((run, *shape), dtype) for run in self.runs]
        program.write(pixels, window, opened.numbers, blocks)
        turned = list(map(self.turned, blocks))
        return turned[0] if self.only else turned

    def turned(self, block: Block) -> Block:
        """An array with axes (c, z, y, x) with those that the user has, a view."""
        order = [AXES.index(axis) for axis in self.axes]
        rest = [axis for axis in range(4) if axis not in order]
        return block.transpose(*order, *rest).reshape([block.shape[axis] for axis in order])


class Surveyed(NamedTuple):
    """What one look at a source tells: counts of its small integers, and tiles of it."""

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
        What lies over it, and is sampled at the same places.
    """

    sampling: Sampling
    masks: tuple[Pixels, ...] = ()

    def given(self, *masks: Pixels) -> "Survey":
        """With the masks around a block."""
        return replace(self, masks=masks)

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> Surveyed:
        """Count (inside the mask), and take a sample of the pixels and of the masks."""
        pixels, counts = opened.pixels, None
        if blocks.key_bits(pixels.dtype) == DIGIT_BITS:
            counts = Count(None, 0, zeros=True, select=sum_of).take(opened, window, where)
        chunks = [array for _, _, array in pixels.pieces]
        masks = self.masks if where is None else (*self.masks, where)
        samples = [
            Sample(cut(chunks, place), tuple(cut([mask.read(window)], place) for mask in masks))
            for place in self.sampling.places((window.top, window.left), chunks)
        ]
        return Surveyed(counts, samples)

    def merge(self, parts: Sequence[Surveyed]) -> Surveyed:
        """All together."""
        counts = [part.counts for part in parts if part.counts is not None]
        samples = [sample for part in parts for sample in part.samples]
        return Surveyed(sum_of(counts) if counts else None, samples)


@dataclass(frozen=True, eq=False)
class Store(Sink):
    """What `write` makes of it given to `target`, to which one assigns the parts of an array.

    Nothing of what is given is needed afterwards: `rooms` are used again.
    """

    in_order = True

    target: Any
    write: Write
    rooms: Rooms

    def __dask_tokenize__(self) -> str:
        # What stands in the target is about to be written over.
        return uuid4().hex

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> None:
        """Run the program, where the block is kept if it can be; and write each run of channels."""
        program, pixels, numbers = opened.program, opened.pixels, opened.numbers
        shape = sum(self.write.runs), pixels.planes, *window.shape
        for number in numbers:
            # It has more channels where some are dropped behind it.
            if isinstance(number, Kept) and number.pixels.shape == shape and number.take():
                program.write(pixels, window, numbers, [number.pixels])
                self._put(number.pixels, window)
                return
        with self.rooms.room(shape, program.out_dtype(pixels.dtype)) as block:
            program.write(pixels, window, numbers, [block])
            self._put(block, window)

    def finish(self, total: None) -> Block:
        """Nothing, as an array."""
        return np.empty(0, np.int64)

    def _put(self, block: Block, window: Window) -> None:
        first = 0
        for run in self.write.runs:
            whole = slice(first, first + run), slice(0, block.shape[1]), *window.slices
            place = dict(zip(AXES, whole, strict=True))
            selection = tuple(place[axis] for axis in self.write.axes)
            self.target[selection] = self.write.turned(block[first : first + run])
            first += run


@dataclass(frozen=True, eq=False)
class Bracketing:
    """A task that says, by what a program makes of samples, between which bounds quantiles lie.

    Attributes
    ----------
    program
        The program.
    numbers
        Those of its operations, `LATER`, or `MaskReading` itself where samples hold a part of one.
    choose
        Gives the bounds, or None, for samples of the result.
    """

    program: Program
    numbers: tuple[object, ...]
    choose: Callable[[Sequence[Block]], Bounds | None]

    def __call__(self, survey: Block, *later: object) -> Block:
        """The bounds, or None, in a box."""
        given = iter(later)
        numbers = [_known(number, given) for number in self.numbers]
        return boxed(self.choose(processed(self.program, survey[0].samples, numbers)))


def first_counts(survey: Block, left_out: int | None) -> Block:
    """The counts of a survey, but those of one digit if it is left out."""
    counts: Block = survey[0].counts.copy()
    if left_out is not None:
        counts[:, :, left_out] = 0
    return counts


def processed(
    program: Program, samples: Sequence[Sample], numbers: Sequence[object]
) -> list[Block]:
    """What a program makes of samples: as if each were an image of its own.

    Pixels that depend on others outside are left out, as far as a core remains. Each sample has
    a mask wherever `numbers` has `MaskReading`; outside one that is left over it is NaN.
    """
    made = []
    for block, masks in samples:
        left = iter(masks)
        own = [Pixels.of(next(left)) if number is MaskReading else number for number in numbers]
        height, width = block.shape[2:]
        alone = replace(program, height=height, width=width)
        rim = max(0, min(program.depth, (min(height, width) - min(CORE)) // 2))
        inner = Window(rim, height - rim, rim, width - rim)
        result = alone.run(Pixels.of(block), inner, own)
        where = next(left, None)
        if where is not None:
            result = np.where(Pixels.of(where).read(inner), result, np.nan)
        made.append(result)
    return made


def _known(number: object, given: Iterator[object]) -> Any:
    """A number of a job, once what was not known is given."""
    if isinstance(number, MaskReading):
        return number.read(given)
    return next(given) if isinstance(number, str) else number


def _is_shut(gate: bool | None, values: list[Any]) -> bool:
    """Whether there is nothing to do; the box that says so is taken from `values`."""
    return gate is not None and (values.pop(0)[0] is None) != gate


def _stacked(place: Window, runs: Sequence[Block]) -> list[tuple[int, Window, Block]]:
    """Runs of channels, one behind the other, as pieces of `Pixels`."""
    firsts = accumulate((len(run) for run in runs), initial=0)
    return [(first, place, run) for first, run in zip(firsts, runs, strict=False)]


def boxed(value: object) -> Block:
    """A value as the only item of an array."""
    box = np.empty(1, object)
    box[0] = value
    return box
