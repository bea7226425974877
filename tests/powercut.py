"""Cuts the power while a layer is written, and after the call has returned: what is on disk?

    python tests/powercut.py --points 40      # needs root, loop devices and mkfs.ext4

The store lies on a file system in a file. A copy of that file is what a disk would hold if the
power went at that moment: what was not flushed is not in it. The copy is mounted and looked at.
With --without-flush nothing is ever flushed, to see that the test notices.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import crash
import pxprep

MEGABYTES = 48


def command(*words):
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def is_permitted():
    """Whether this process may mount a file system that is in a file."""
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount"))
    if not tools or not hasattr(os, "geteuid") or os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder)):
                return True
        except subprocess.CalledProcessError:
            return False


@contextmanager
def disk(folder):
    """A new file system in a file: the file, and where it is mounted."""
    image, mounted = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(MEGABYTES << 20)
    command("mkfs.ext4", "-q", "-F", image)
    with mount(image, mounted):
        yield image, mounted


@contextmanager
def mount(image, mounted):
    mounted.mkdir(exist_ok=True)
    command("mount", "-o", "loop", image, mounted)
    try:
        yield
    finally:
        command("umount", mounted)


def cut(scenario, image, number, flushing):
    """Write, and copy the disk before call `number`; None: when the call has returned."""
    copy = image.with_name("cut.img")

    def take():
        shutil.copyfile(image, copy)
        os._exit(0)

    def run():
        if not flushing:
            os.fsync = lambda descriptor: None
        numbers, done = count(), []

        def on_change(event):
            if not done and next(numbers) == number:
                done.append(True)
                take()

        crash.install_hook(scenario.store, on_change)
        scenario.act()
        take()

    crash.in_fork(run)
    return copy


def look(scenario, mounted, returned):
    """Raise AssertionError if a disk after a power cut does not hold what it must."""
    scenario.store = mounted / scenario.store.name
    if returned:
        found = crash.layers(scenario.store)
        for name in scenario.outputs:
            assert crash.same(found[name], scenario.new[name]), f"{name} had been written"
            assert pxprep.provenance(crash.spatialdata.read_zarr(scenario.store), name)
    scenario.check()


def survives(scenario, image, number, flushing):
    scenario.reset()
    os.sync()
    copy = cut(scenario, image, number, flushing)
    after = image.with_name("after")
    with mount(copy, after):
        status = crash.in_fork(look, scenario, after, number is None)
    return os.waitstatus_to_exitcode(status) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--points", type=int, default=40, help="so many cuts during a write")
    parser.add_argument("--returned", type=int, default=10, help="so many after the call returned")
    parser.add_argument("--without-flush", action="store_true")
    parser.add_argument("--modes", nargs="+", default=crash.MODES[:4], choices=crash.MODES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)
    failures, total = [], {"during": 0, "returned": 0}
    with (
        tempfile.TemporaryDirectory() as folder,
        disk(Path(folder).resolve()) as (image, mounted),
    ):
        scenarios = [
            crash.Scenario(mounted, mode, multiscale, exchange)
            for mode in options.modes
            for multiscale in (False, True)
            for exchange in (True, False)
        ]
        wanted = [("during", s) for s in rng.choices(scenarios, k=options.points)]
        wanted += [("returned", s) for s in rng.choices(scenarios, k=options.returned)]
        for moment, scenario in wanted:
            if not hasattr(scenario, "calls"):
                scenario.prepare()
            number = rng.randrange(len(scenario.calls)) if moment == "during" else None
            total[moment] += 1
            if not survives(scenario, image, number, not options.without_flush):
                failures.append(f"{scenario.name}: {moment} {number}")
            shutil.rmtree(scenario.store, ignore_errors=True)
    print(json.dumps({"total": total, "failures": failures}, indent=1))  # noqa: T201
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
