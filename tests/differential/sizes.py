"""The engine's own sizes, made small: the only module here that knows their names.

Blocks, strips and tiles of a few pixels have borders everywhere, and budgets of a few bytes run
out. Number 0 is the engine as it is; any other number makes one choice for each size.
"""

import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest import mock

import numpy as np

import pxprep  # noqa: F401 - so that its modules are there

# Constants by name, in whatever modules have them, and what they may be.
SIZES = {
    # Blocks of an image in memory; rows of a lazy image that is in memory.
    "LEAST_VALUES": (1, 1, 40, 300),
    "BLOCKS_PER_THREAD": (1, 4),
    "LEAST_ROWS": (1, 2, 5, 9, 256),
    # Chunks that are joined; mostly none, as all would be one block.
    "THIN": (0, 0, 0, 4, 64),
    "THICK": (6, 256),
    "THICK_PIXELS": (20, 1 << 18),
    # Strips of a block, tiles of a strip.
    "STRIP_VALUES": (1, 30, 200, 1 << 21),
    "BLUR_TILE": ((1, 1), (2, 3), (5, 4), (64, 2048)),
    "OPENING_TILE": ((1, 1), (3, 2), (4, 7), (256, 1024)),
    # Samples, and the brackets that they give.
    "FEW": (0, 0, 50, 1 << 16),
    "TAIL": (1, 5, 64, 1 << 40),
    "CORE": ((1, 1), (2, 3), (4, 4), (32, 48)),
    "RIM": (0, 1, 2),
    "MOST_RIM": (1, 3, 96),
    "SAMPLE_SHARE": (1 / 64, 0.3, 1.0),
    "SAMPLE_BYTES": (0, 300, 32 << 20),
    "COHORT_SAMPLE_BYTES": (200, 128 << 20),
    "SPREADS": (0.0, 1.0, 30.0),
    "TILE_SPREADS": (0.0, 1.0, 5.0),
    "LEAST_TILE_SPREADS": (0.0, 1.0),
    "SPARE_RANKS": (0, 20),
    "LEAST_SHARE": (0.0, 1 / 64),
    "MOST_TILES_SHARE": (0.0, 1 / 8),
    # What is kept and gathered; how many results are merged at a time.
    "EDGE_BYTES": (0, 500, 64 << 20),
    "MOST_GATHERED": (0, 100, 1000, 128 << 20),
    "SPARE": (1.0, 1.5),
    "LEAST_HELD": (0, 1 << 10),
    "FIRST_VALUES": (1, 7, 1 << 12),
    "GROWTH": (1, 2, 16),
    # Arrays that take what others have left, and how much of that is held.
    "LEAST_BYTES": (1, 1 << 20),
    "MOST_RESULTS": (0, 2000, 1 << 30),
    "MOST_SCRATCH": (0, 2000, 1 << 30),
    "LINK": (2, 8),
}
# Functions that say how many threads there are.
COUNTS = ("n_threads", "n_cores")
THREADS = (1, 2, 3)


@cache
def owners(name):
    """The modules of pxprep that have something of that name."""
    modules = [module for path, module in sys.modules.items() if path.startswith("pxprep.")]
    return [module for module in modules if hasattr(module, name)]


def drawn(number):
    """The sizes of a number, by name; those of `COUNTS` are how many threads there are."""
    rng = np.random.default_rng(number)
    values = {name: choices[rng.integers(len(choices))] for name, choices in SIZES.items()}
    return values | dict.fromkeys(COUNTS, int(rng.choice(THREADS)))


def numbers_with(**wanted):
    """The numbers below 1000 whose sizes are among those."""
    return [
        number
        for number in range(1, 1000)
        if all(drawn(number)[name] in choices for name, choices in wanted.items())
    ]


@contextmanager
def made_small(number):
    """A context in which the engine's sizes are those of `number`."""
    values = drawn(number)
    threads = values[COUNTS[0]]
    values |= {name: lambda: threads for name in COUNTS}
    with ExitStack() as patches:
        for name, value in values.items() if number else ():
            for module in owners(name):
                patches.enter_context(mock.patch.object(module, name, value))
        yield
