"""What the passes over one image share: decoded blocks within a budget, edges, and a sample."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..aliases import Block, DType
from .windows import Index, Kept, Window

# What is kept of a block: itself, or its edges of some depth.
Kind = tuple[str, Index] | tuple[str, Index, int]
# Rows and columns of a block.
Place = tuple[slice, slice]
# Many small tiles are sampled, as neighbours are alike: the sizes of their cores, and how wide the
# rim around them is that a blur takes away. With wider ones there would be too few tiles.
CORE = (32, 48)
RIM = 8
MOST_RIM = 96
# The share of an image that tiles hold, and how many bytes of them are enough: of one image, and of
# a cohort.
SAMPLE_SHARE = 1 / 64
SAMPLE_BYTES = 32 << 20
COHORT_SAMPLE_BYTES = 128 << 20
# Edges of blocks are kept up to this even where nothing else is: a few percent of the image.
EDGE_BYTES = 64 << 20
# The share of the memory that is available which is the budget if none is given.
SHARE = 0.25


def _own(array: Block) -> Block:
    """The array, or a copy if it would hold more memory than its own."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return array.copy() if owner.nbytes > array.nbytes else array


class Budget:
    """Bytes that may be used; several threads may ask at once."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes
        self._lock = Lock()

    def take(self, n_bytes: int) -> bool:
        """Whether there are so many bytes left; then they are taken."""
        with self._lock:
            if n_bytes > self._left:
                return False
            self._left -= n_bytes
            return True

    def __reduce__(self) -> tuple[object, ...]:
        return Budget, (0,)


class Rooms:
    """Arrays that are used again and again; several threads may ask at once.

    Large ones from the system would be new each time, and it clears them first.
    """

    def __init__(self) -> None:
        self._free: list[Block] = []

    @contextmanager
    def room(self, shape: Sequence[int], dtype: DType) -> Iterator[Block]:
        """An array of any values, the caller's until exit."""
        n_bytes = prod(shape) * dtype.itemsize
        try:
            plain = self._free.pop()
        except IndexError:
            plain = np.empty(0, np.uint8)
        if plain.size < n_bytes:
            plain = np.empty(n_bytes, np.uint8)
        try:
            yield plain[:n_bytes].view(dtype).reshape(shape)
        finally:
            self._free.append(plain)

    def __reduce__(self) -> tuple[object, ...]:
        return Rooms, ()


class Sampling(NamedTuple):
    """How much is sampled of an image: about so many bytes at most, of so many blocks."""

    n_bytes: int
    n_blocks: int
    rim: int = RIM

    @classmethod
    def for_depth(cls, n_bytes: int, n_blocks: int, depth: int) -> "Sampling":
        """Tiles of which something is left by programs that read so far around a pixel."""
        return cls(n_bytes, n_blocks, min(max(RIM, depth), MOST_RIM))

    def places(self, index: Sequence[int], chunks: Sequence[Block]) -> list[Place]:
        """Where tiles of the block with this index are; none where those of others are enough."""
        sizes = chunks[0].shape[2:]
        tile = [min(core + 2 * self.rim, size) for core, size in zip(CORE, sizes, strict=True)]
        n_bytes = sum(chunk[:, :, 0, 0].nbytes for chunk in chunks) * tile[0] * tile[1]
        wanted = max(1, round(SAMPLE_SHARE * sizes[0] * sizes[1] / (tile[0] * tile[1])))
        affordable = self.n_bytes / max(1, self.n_blocks * n_bytes)
        # Somewhere else in every block, and the same in every run.
        rng = np.random.default_rng(list(index))
        found = []
        for _ in range(min(wanted, int(affordable + rng.random()))):
            top, left = (
                int(rng.integers(size - own + 1)) for size, own in zip(sizes, tile, strict=True)
            )
            found.append((slice(top, top + tile[0]), slice(left, left + tile[1])))
        return found


class Keeper:
    """Keeps what was read of one image until it is closed; on another machine, nothing.

    Parameters
    ----------
    blocks, edges
        The budgets for whole blocks, and for what lies at their edges.
    sampling
        What is sampled of it, if anything.
    depth
        How wide those edges are, if that is known before they are asked for.
    leader
        For a mask: the keeper of its image, which decides where tiles are sampled.
    results
        Whether blocks that were processed are kept, instead of what they were made from.
    """

    def __init__(
        self,
        blocks: Budget,
        edges: Budget,
        sampling: Sampling | None = None,
        depth: int = 0,
        leader: "Keeper | None" = None,
        results: bool = False,
    ) -> None:
        self._depth = depth
        self._results = results
        self._made: dict[Index, dict[str, Kept]] = {}
        self._leader = leader
        self._budgets = {"blocks": blocks, "edges": edges}
        self._sampling = sampling
        self._kept: dict[Kind, list[Block]] = {}
        self._sampled: dict[Index, list[Block]] = {}
        self.places: dict[Index, list[Place]] = {}
        self._beside: dict[str, Keeper] = {}
        self._seen: set[Index] = set()
        self._is_open = True
        self._lock = Lock()

    def blocks(self, index: Index, read: Callable[[], list[Block]]) -> list[Block]:
        """The chunks of a block: those that were kept, or else read now."""
        chunks = self._get(("blocks", index), read)
        with self._lock:
            is_new = self._is_open and index not in self._seen
            # What lies over an image may be read around a block before the image is read there.
            if is_new and (self._leader is None or index in self._leader.places):
                self._seen.add(index)
                self._sample(index, chunks)
        if is_new and self._depth and ("blocks", index) not in self._kept:
            self.edges(index, self._depth, partial(edges_of, chunks, self._depth))
        return chunks

    def edges(self, index: Index, depth: int, read: Callable[[], list[Block]]) -> list[Block]:
        """The edges of a block: those that were kept, or else read now."""
        return self._get(("edges", index, depth), read)

    def made(self, index: Index, token: str) -> Kept | None:
        """What is kept, by that name, of a block that was processed; the caller is to leave it."""
        kept = self._made.get(index, {}).get(token)
        return kept if kept is not None and kept.use() else None

    def room(
        self,
        index: Index,
        token: str,
        place: Window,
        shape: tuple[int, ...],
        dtype: DType,
    ) -> Kept | None:
        """Room for a block that is processed, kept by that name from now on; None if there is none.

        Later passes need it instead of what was read there, but for its edges. The caller is to
        leave it.
        """
        if not (self._results and self._is_open):
            return None
        before = self._made.get(index, {}).get(token)
        if before is not None and not before.is_gone:
            return None  # another thread is making it
        read = self._kept.get(("blocks", index), [])
        n_bytes = prod(shape) * dtype.itemsize - sum(array.nbytes for array in read)
        if not self._budgets["blocks"].take(n_bytes):
            return None
        if read and self._depth:
            self.edges(index, self._depth, partial(edges_of, read, self._depth))
        kept = Kept(np.empty(shape, dtype), place)
        with self._lock:
            if self._is_open:
                self._kept.pop(("blocks", index), None)
                self._made[index] = {**self._made.get(index, {}), token: kept}
        return kept

    def beside(self, name: str) -> "Keeper":
        """Keeps what lies over the image, such as a mask, within the same budgets."""
        with self._lock:
            if name not in self._beside:
                budgets = self._budgets["blocks"], self._budgets["edges"]
                self._beside[name] = Keeper(*budgets, leader=self)
                self._beside[name]._is_open = self._is_open
            return self._beside[name]

    def samples(self) -> dict[Index, list[Block]]:
        """Tiles of the blocks that were read, with axes (c, z, y, x), by index in order."""
        return dict(sorted(self._sampled.copy().items(), key=itemgetter(0)))

    def close(self) -> None:
        """Forget everything, and keep nothing more."""
        with self._lock:
            self._is_open = False
            self._kept.clear()
            self._made.clear()
            self._sampled.clear()
            for keeper in self._beside.values():
                keeper.close()

    def _get(self, key: Kind, read: Callable[[], list[Block]]) -> list[Block]:
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        made = read()
        budget = self._budgets[key[0]]
        if self._is_open and budget.take(sum(array.nbytes for array in made)):
            made = [_own(array) for array in made]
            with self._lock:
                if self._is_open:
                    self._kept[key] = made
        return made

    def _sample(self, index: Index, chunks: Sequence[Block]) -> None:
        if self._leader is not None:
            places = self._leader.places[index]
        elif self._sampling is not None:
            places = self._sampling.places(index, chunks)
        else:
            return
        self.places[index] = places
        self._sampled[index] = [cut(chunks, place) for place in places]

    def __reduce__(self) -> tuple[object, ...]:
        return Keeper, (Budget(0), Budget(0))


def edges_of(chunks: Sequence[Block], depth: int) -> list[Block]:
    """The `Window.edges` of a block, given in runs of channels."""
    height, width = chunks[0].shape[2:]
    return [cut(chunks, part.slices) for part in Window(0, height, 0, width).edges(depth)]


def cut(chunks: Sequence[Block], place: Place) -> Block:
    """The rows and columns of a block, given in runs of channels, that lie at `place`."""
    return np.concatenate([chunk[(slice(None), slice(None), *place)] for chunk in chunks])


def default_memory() -> int:
    """A quarter of the memory that this process could still get; 0 where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    available = [int(fields["MemAvailable"].split()[0]) << 10] if "MemAvailable" in fields else [0]
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (group / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        available.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # no limit of its own
    return int(SHARE * max(0, min(available)))
