"""What passes over one image share: blocks, read or processed, edges, and a sample; and memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..aliases import Block, DType
from .windows import Index, ResultSoFar, Window

# What is kept: ("blocks", which block), or ("edges", which block, how wide).
KeptKey = tuple[str, Index] | tuple[str, Index, int]
# Neighbours are alike, so many small tiles are sampled. A tile is a core of this size, and a rim
# around it that a blur takes away: of RIM pixels, or as many as a blur needs up to MOST_RIM. With
# wider rims there would be too few tiles.
CORE = (32, 48)
RIM = 8
MOST_RIM = 96
# The share of an image that tiles hold, and how many there are at least; and how many bytes they
# take at most, of one image and of a cohort.
SAMPLE_SHARE = 1 / 64
LEAST_TILES = 4
SAMPLE_BYTES = 32 << 20
COHORT_SAMPLE_BYTES = 128 << 20
# Edges of blocks are kept up to so many bytes, even where no blocks are kept: they are small.
EDGE_BYTES = 64 << 20
# If no budget is given, it is this share of the available memory.
SHARE = 0.25


def _alone(array: Block) -> Block:
    """The array, or a copy if it is a view that would keep a larger array in memory."""
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
        """Take so many bytes, and return True; or False if fewer are left."""
        with self._lock:
            if n_bytes > self._left:
                return False
            self._left -= n_bytes
            return True


class Sampling(NamedTuple):
    """How much is sampled of an image."""

    n_bytes: int  # about at most, of all tiles
    n_blocks: int  # how many the image has
    rim: int = RIM

    @classmethod
    def for_depth(cls, n_bytes: int, n_blocks: int, depth: int) -> "Sampling":
        """With rims of `depth` pixels, but of at most MOST_RIM.

        So a program that reads so far around makes the whole core.
        """
        return cls(n_bytes, n_blocks, min(max(RIM, depth), MOST_RIM))

    def places(self, index: Sequence[int], chunks: Sequence[Block]) -> list[Window]:
        """Where tiles lie in this block; there may be none, if other blocks have enough."""
        sizes = chunks[0].shape[2:]
        tile = [min(core + 2 * self.rim, size) for core, size in zip(CORE, sizes, strict=True)]
        n_bytes = sum(chunk[:, :, 0, 0].nbytes for chunk in chunks) * tile[0] * tile[1]
        share = round(SAMPLE_SHARE * sizes[0] * sizes[1] / (tile[0] * tile[1]))
        wanted = max(-(-LEAST_TILES // self.n_blocks), share)
        affordable = self.n_bytes / max(1, self.n_blocks * n_bytes)
        # Elsewhere in each block, and the same in every run.
        rng = np.random.default_rng(list(index))
        places = []
        for _ in range(min(wanted, int(affordable + rng.random()))):
            top, left = (
                int(rng.integers(size - side + 1)) for size, side in zip(sizes, tile, strict=True)
            )
            places.append(Window(top, top + tile[0], left, left + tile[1]))
        return places


class ImageCache:
    """Keeps what was read of one image until it is closed. In another process it keeps nothing.

    Parameters
    ----------
    blocks, edges
        The budgets for whole blocks, and for their edges.
    sampling
        How the image is sampled; None if it is not.
    depth
        How wide the edges are that later passes need, if that is known.
    leader
        For a mask: the cache of its image, which decides where tiles are sampled.
    results
        Whether blocks are also kept as they were processed, in place of what was read.
    """

    def __init__(
        self,
        blocks: Budget,
        edges: Budget,
        sampling: Sampling | None = None,
        depth: int = 0,
        leader: "ImageCache | None" = None,
        results: bool = False,
    ) -> None:
        self._depth = depth
        self._keeps_results = results
        self._results: dict[tuple[Index, str], ResultSoFar] = {}
        self._leader = leader
        self._budgets = {"blocks": blocks, "edges": edges}
        self._sampling = sampling
        self._read: dict[KeptKey, list[Block]] = {}
        self._sampled: dict[Index, list[Block]] = {}
        self.places: dict[Index, list[Window]] = {}
        self._beside: dict[str, ImageCache] = {}
        self._seen: set[Index] = set()
        self._is_open = True
        self._lock = Lock()

    def blocks(self, index: Index, read: Callable[[], list[Block]]) -> list[Block]:
        """The chunks of a block: those that were kept, or else read now."""
        chunks = self._get(("blocks", index), read)
        with self._lock:
            is_new = self._is_open and index not in self._seen
            # A mask may be read around a block, in a neighbour of which the image was not yet read.
            if is_new and (self._leader is None or index in self._leader.places):
                self._seen.add(index)
                self._sample(index, chunks)
        if is_new and self._depth and ("blocks", index) not in self._read:
            self.edges(index, self._depth, partial(edges_of, chunks, self._depth))
        return chunks

    def edges(self, index: Index, depth: int, read: Callable[[], list[Block]]) -> list[Block]:
        """The edges of a block: those that were kept, or else read now."""
        return self._get(("edges", index, depth), read)

    def kept(self, index: Index, token: str) -> ResultSoFar | None:
        """A processed block that was kept by that name, or None.

        The caller becomes a user of it, and must call its `leave`.
        """
        kept = self._results.get((index, token))
        return kept if kept is not None and kept.use() else None

    def start_keeping(
        self,
        index: Index,
        token: str,
        window: Window,
        shape: tuple[int, ...],
        dtype: DType,
    ) -> ResultSoFar | None:
        """Room for a processed block by that name; None if the budget has none.

        The block as it was read is forgotten, as later passes need only its edges. The caller fills
        it, is a user of it, and must call its `leave`.
        """
        if not (self._keeps_results and self._is_open):
            return None
        before = self._results.get((index, token))
        if before is not None and not before.is_lost:
            return None  # another thread is making it
        read = self._read.get(("blocks", index), [])
        n_bytes = prod(shape) * dtype.itemsize - sum(array.nbytes for array in read)
        if not self._budgets["blocks"].take(n_bytes):
            return None
        if read and self._depth:
            self.edges(index, self._depth, partial(edges_of, read, self._depth))
        kept = ResultSoFar(np.empty(shape, dtype), window)
        with self._lock:
            if self._is_open:
                self._read.pop(("blocks", index), None)
                self._results[index, token] = kept
        return kept

    def beside(self, name: str) -> "ImageCache":
        """The cache of what lies over the image, such as a mask; both share their budgets."""
        with self._lock:
            if self._is_open and name not in self._beside:
                budgets = self._budgets["blocks"], self._budgets["edges"]
                self._beside[name] = ImageCache(*budgets, leader=self)
            return self._beside.get(name, self)

    def samples(self) -> dict[Index, list[Block]]:
        """Tiles of the blocks that were read, with axes (c, z, y, x), by index in order."""
        return dict(sorted(self._sampled.copy().items(), key=itemgetter(0)))

    def close(self) -> None:
        """Forget everything, and keep nothing more."""
        with self._lock:
            self._is_open = False
            self._read.clear()
            self._results.clear()
            self._sampled.clear()
            for cache in self._beside.values():
                cache.close()

    def _get(self, key: KeptKey, read: Callable[[], list[Block]]) -> list[Block]:
        kept = self._read.get(key)
        if kept is not None:
            return kept
        made = read()
        n_bytes = sum(array.nbytes for array in made)
        with self._lock:
            # Another thread may have read the same meanwhile: its bytes are taken once.
            is_new = self._is_open and key not in self._read
            if is_new and self._budgets[key[0]].take(n_bytes):
                self._read[key] = made = [_alone(array) for array in made]
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
        return _no_cache, ()


# What images have whose passes share nothing: it keeps nothing.
NO_CACHE = ImageCache(Budget(0), Budget(0))
NO_CACHE.close()


def _no_cache() -> ImageCache:
    return NO_CACHE


def edges_of(chunks: Sequence[Block], depth: int) -> list[Block]:
    """The edges of a block, as `Window.edges` divides them; its chunks are given."""
    height, width = chunks[0].shape[2:]
    return [cut(chunks, part) for part in Window(0, height, 0, width).edges(depth)]


def cut(chunks: Sequence[Block], window: Window) -> Block:
    """A window of a block, with all channels; its chunks are given."""
    return np.concatenate([chunk[:, :, *window.slices] for chunk in chunks])


def default_memory() -> int:
    """A quarter of the memory that this process could still get; 0 where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    available = [int(fields["MemAvailable"].split()[0]) << 10] if "MemAvailable" in fields else [0]
    return int(SHARE * max(0, min([*available, *_left_in_groups()])))


def _left_in_groups(
    own: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """How many bytes each group of processes that this one is in may still get, if it has a limit.

    Containers, and jobs of a cluster, are such groups.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Of the second version of groups there is one line, without controllers.
        if controllers not in ("", "memory"):
            continue
        root = groups / controllers
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        names = names if controllers else ("memory.max", "memory.current")
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield from _left_in(group, *names)


def _left_in(group: Path, limit: str, used: str) -> Iterator[int]:
    """How many bytes one group may still get; what it holds of files can be had, too."""
    try:
        left = int((group / limit).read_text()) - int((group / used).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # "max" is no limit
        return
    yield left + int(counts.get("inactive_file", 0))
