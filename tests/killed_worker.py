"""Fits on a cluster of two processes, kills one of them on the way, compares; see test_distributed.

Run with a folder for marks of what was read.
"""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

from pxprep import Pipeline


def slowly(block, folder):
    Path(folder, f"{time.time_ns()}-{os.getpid()}").touch()
    time.sleep(0.1)
    return block


def main(folder):
    from distributed import Client, LocalCluster

    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.7, 6, (3, 70, 90))).astype(np.uint16)
    image = xr.DataArray(counts, dims=("c", "y", "x"))
    chunked = image.chunk({"y": 20, "x": 30}).data
    read = partial(slowly, folder=str(folder))
    slow = image.copy(
        data=da.map_blocks(read, chunked, dtype=image.dtype, meta=np.empty((0, 0, 0), "u2"))
    )
    expected = Pipeline.sparrow().fit(image)
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with ThreadPoolExecutor(1) as thread, Client(cluster):
        fitting = thread.submit(Pipeline.sparrow().fit, slow)
        while len(reads := sorted(Path(folder).iterdir())) < 5:
            time.sleep(0.01)
        was_done = fitting.done()
        os.kill(int(reads[-1].name.split("-")[1]), signal.SIGKILL)
        same = fitting.result(timeout=120) == expected
        print("the same numbers" if same and not was_done else "else", flush=True)  # noqa: T201
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
