"""Some of the points of `crash.py`; docs/reliability.md says how to run all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("spatialdata")

from powercut import is_permitted

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def crash(*options):
    script = Path(__file__).parents[1] / "crash.py"
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == [], done.stderr
    return report["total"]


def test_killed_writers():
    """At calls of the protocol, at random moments, and again in the recovery."""
    modes = ["--modes", "several", "one by one"]
    total = crash(*modes, "--sample", "9", "--double", "3", "--random", "2", "--seed", "1")
    assert total["points"] == 14
    assert total["stopped"] >= 9


def test_failing_calls_and_interrupts():
    how = ["EIO", "ENOSPC", "EACCES", "interrupt"]
    total = crash("--sample", "8", "--modes", "overwrite", "--how", *how)
    assert total["stopped"] >= 4  # a failing call that only tidies up stops nothing


def test_power_cuts(tmp_path):
    """Where file systems in files can be mounted; without flushing the cuts must be noticed."""
    if not is_permitted():
        pytest.skip("mounting a file system is not permitted")
    script = Path(__file__).parents[1] / "powercut.py"
    options = ["--modes", "several", "--points", "3", "--returned", "1"]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, check=False)
    assert json.loads(done.stdout) == {"total": {"during": 3, "returned": 1}, "failures": []}
    options = ["--modes", "new", "--points", "0", "--returned", "1", "--without-flush"]
    control = subprocess.run([sys.executable, script, *options], capture_output=True, check=False)
    assert len(json.loads(control.stdout)["failures"]) == 1
