"""The engine's own sizes, made small: the only module here that knows what is inside pxprep.

Blocks, bands, strips and tiles of a few pixels have borders everywhere, and budgets of a few bytes
run out. Number 0 is the engine as it is; any other number makes one choice for each size.
"""

import sys
from contextlib import contextmanager
from unittest import mock

import numpy as np

import pxprep

# Names of constants, wherever they were imported to, and what they may be.
SIZES = {
    "BAND_ROWS": (1, 2, 3, 7),
    "LEAST_ROWS": (1, 2, 5, 9, 256),
    "STRIP_VALUES": (1, 30, 200, 1 << 21),
    "BLUR_TILE": ((1, 1), (2, 3), (5, 4), (64, 2048)),
    "OPENING_TILE": ((1, 1), (3, 2), (4, 7), (256, 1024)),
    "CORE": ((1, 1), (2, 3), (4, 4), (32, 48)),
    "RIM": (0, 1, 2),
    "MOST_RIM": (1, 3, 96),
    "SAMPLE_SHARE": (1 / 64, 0.3, 1.0),
    "SAMPLE_BYTES": (0, 300, 32 << 20),
    "COHORT_SAMPLE_BYTES": (200, 128 << 20),
    "EDGE_BYTES": (0, 500, 64 << 20),
    "MOST_GATHERED": (0, 100, 1000, 128 << 20),
    "SPREADS": (0.0, 1.0, 30.0),
    "TILE_SPREADS": (0.0, 1.0, 5.0),
    "LEAST_TILE_SPREADS": (0.0, 1.0),
    "LEAST_SHARE": (0.0, 1 / 64),
    "MOST_TILES_SHARE": (0.0, 1 / 8),
    "SPARE": (1.0, 1.5),
    "FAN_IN": (2, 4),
    "LINK": (2, 8),
}
THREADS = (1, 2, 3)


@contextmanager
def made_small(number):
    """A context in which the engine's sizes are those of `number`."""
    if number == 0:
        yield
        return
    rng = np.random.default_rng(number)
    modules = [module for name, module in sys.modules.items() if name.startswith("pxprep.")]
    with mock.patch.object(pxprep._backends, "_n_threads", lambda: n_threads):
        patches = []
        n_threads = int(rng.choice(THREADS))
        for name, choices in SIZES.items():
            value = choices[rng.integers(len(choices))]
            owners = [module for module in modules if hasattr(module, name)]
            if not owners:
                raise LookupError(f"no module of pxprep has {name}: sizes.py is out of date")
            patches += [mock.patch.object(module, name, value) for module in owners]
        bands = pxprep._backends._bands
        patches.append(mock.patch.object(bands, "__defaults__", (SIZES["BAND_ROWS"][number % 4],)))
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
