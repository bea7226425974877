"""The command in a terminal: bars, and a real Ctrl-C."""

import os
import re
import signal
import subprocess

import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
import spatialdata
from spatialdata.models import Image2DModel

from commands import COMMAND
from stores import files

# --- terminals, Ctrl-C ----------------------------------------------------------------------------


def make_large(path):
    """Large enough for an interrupt to come while blocks are computed."""
    counts = np.random.default_rng(0).poisson(5, (2, 640, 640)).astype(np.uint16)
    raw = Image2DModel.parse(
        da.from_array(counts, chunks=(2, 64, 64)), dims=("c", "y", "x"), c_coords=["CD3", "CD20"]
    )
    spatialdata.SpatialData({"raw": raw}).write(path)
    return path


def interrupted(store, where, *options):
    """A run in a terminal that gets Ctrl-C once `where` is read there: its exit code, the text."""
    pty = pytest.importorskip("pty")
    termios = pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    writer = subprocess.Popen(
        [COMMAND, "run", store, "--layer", "raw", "--output", "clean", "--sigma", "12", *options],
        stderr=theirs,
    )
    os.close(theirs)
    read, sent = b"", False
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        read += part
        if not sent and re.search(where, read):
            writer.send_signal(signal.SIGINT)
            sent = True
    os.close(ours)
    return writer.wait(), read.decode()


def test_ctrl_c_in_a_terminal(tmp_path):
    store = make_large(tmp_path / "study.zarr")
    before = files(store)
    code, printed = interrupted(store, b"write clean: +[1-9]")
    assert code == 130, printed
    assert files(store) == before
    assert not (store / ".pxprep").exists()
    assert "Traceback" not in printed
    *_, last = printed.split("\r\n")[:-1]
    assert last.startswith("\x1b[31mpxprep: interrupted; ")
    assert "as they were" in last
    # One bar for each pass, with tasks done and the time that is left.
    bars = dict.fromkeys(re.findall(r"(measure \w+|write \w+): ", printed))
    passes = ["measure quantile_norm", "measure sum_mask", "measure post_norm", "write clean"]
    assert list(bars) == passes
    assert re.search(r"measure sum_mask: 100%.* (\d\d+)/\1 \[\d\d:\d\d<00:00", printed)
