"""Benchmarks: one command, one table. Every figure is of a process of its own.

    python benchmarks/run.py                       # 22 x 2048^2 and 22 x 5120^2, three times each
    python benchmarks/run.py --sizes 20480 --only copy-floor wrapper wrapper-no-memory
    python benchmarks/run.py --harpy /path/to/python   # also harpy, in its own environment

All scenarios run in turn, round after round, as the machine may be slower in one hour than another.
Wall and CPU seconds are medians over the rounds, and so are the ratios, of wall seconds within each
round; memory is the largest peak that the operating system saw. `docs/benchmarks.md` says what was
measured.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from scenarios import SCENARIOS, clean, make_store

# Scenarios of an image in a store, in the order of the table; and what each is compared with.
IMAGE = {
    "copy-floor": (),
    "wrapper": ("copy-floor",),
    "wrapper-no-memory": ("copy-floor",),
    "wrapper-lz4": ("copy-floor",),
    "lazy-chain": ("wrapper",),
    "one-worker": ("lazy-chain",),
    "two-workers": ("one-worker",),
    "dask-image-crick": ("wrapper",),
    "harpy": ("wrapper", "wrapper-lz4"),
    "memory-pxprep": (),
    "memory-numpy-scipy": ("memory-pxprep",),
    "memory-blur": (),
    "memory-blur-scipy": ("memory-blur",),
}
# Those that write into the store that they read from.
INTO_STORE = ("wrapper", "wrapper-no-memory", "wrapper-lz4", "harpy")
# Scenarios with a size of their own: thousands of rows, or the number of fields of view.
OTHER = {
    "slide-graph": 60,
    "cohort-fit": 1000,
    "cohort-graphs": 1000,
    "many-layers": 1000,
    "many-layers-one-by-one": 1000,
    "many-imports": 1000,
}
# Images that are held in memory several times over.
LARGEST_IN_MEMORY = 5120


def measure_here(name, store, work, size):
    """Run one scenario in this process and print its figures as JSON."""
    run = SCENARIOS[name](Path(store), Path(work), size)
    wall, used = time.perf_counter(), _cpu()
    result = run()
    figures = {
        "wall": time.perf_counter() - wall,
        "cpu": _cpu() - used,
        "memory": max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        * 1024,
    }
    if isinstance(result, int):
        result = f"{result:,} tasks"
    if isinstance(result, str):
        figures["note"] = result
    print(json.dumps(figures))


def _cpu():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(name, store, work, size, python):
    """The figures of one run of a scenario in a process of its own; None if it failed."""
    copy = Path(work) / "store.zarr"
    clean(work)
    if store is not None and name in INTO_STORE:
        # These write into the store they read from; links keep the copy small and warm.
        shutil.copytree(store, copy, copy_function=_link)
    else:
        copy = store
    command = [python, __file__, "--scenario", name, str(copy), str(work), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    clean(work)
    if done.returncode:
        print(f"{name} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _link(source, target):
    # Chunks are never written again; metadata files are, so they are copied.
    if Path(source).suffix == ".json" or Path(source).name.startswith(".z"):
        shutil.copy2(source, target)
    else:
        Path(target).hardlink_to(source)


def row(name, size, rounds, others):
    """One line of the table: of a scenario's rounds, compared with those of others, by name."""
    if None in rounds:
        return f"| {name} | {size} | failed | | | |"
    notes = [
        f"{statistics.median(_ratios(rounds, theirs)):.2f} x {their_name}"
        for their_name, theirs in others.items()
        if theirs is not None and None not in theirs
    ]
    if "note" in rounds[0]:
        notes.append(rounds[0]["note"])
    wall, cpu = (statistics.median(one[key] for one in rounds) for key in ("wall", "cpu"))
    memory = max(one["memory"] for one in rounds)
    return f"| {name} | {size} | {wall:.2f} | {cpu:.2f} | {memory / 1e9:.2f} | {', '.join(notes)} |"


def _ratios(rounds, others):
    return [one["wall"] / other["wall"] for one, other in zip(rounds, others, strict=True)]


def main(arguments=None):
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 5120])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), default=None)
    parser.add_argument("--harpy", metavar="PYTHON", help="the python of an environment with harpy")
    parser.add_argument("--work", help="an empty folder on the disk to be measured")
    parser.add_argument("--most", type=int, default=1000, help="limit of those sizes")
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--pixels", choices=["camera", "counts"], default="camera")
    parser.add_argument("--scenario", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.scenario:
        name, store, work, size = options.scenario
        measure_here(name, store, work, int(size))
        return
    wanted = options.only or [*IMAGE, *OTHER]
    if options.harpy is None:
        wanted = [name for name in wanted if name != "harpy"]
    folder = Path(options.work or tempfile.mkdtemp(prefix="pxprep-benchmarks-"))
    print("| what | size | wall s | CPU s | peak GB | ratio |")
    print("|---|---|---|---|---|---|")
    try:
        for size in options.sizes:
            _measure_images(size, folder, wanted, options)
        for name in [name for name in OTHER if name in wanted]:
            size = min(OTHER[name], options.most)
            work = folder / "work"
            rounds = [
                measure(name, None, work, size, sys.executable) for _ in range(options.repeats)
            ]
            print(row(name, size, rounds, {}), flush=True)
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)


def _measure_images(size, folder, wanted, options):
    names = [name for name in IMAGE if name in wanted]
    if size > LARGEST_IN_MEMORY:
        names = [name for name in names if not name.startswith("memory-")]
    if not names:
        return
    store = folder / f"{options.pixels}{size}.zarr"
    if not store.exists():
        make_store(store, size, options.chunk, pixels=options.pixels)
    found = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            python = options.harpy if name == "harpy" else sys.executable
            found[name].append(measure(name, store, folder / "work", size, python))
    for name in names:
        others = {other: found.get(other) for other in IMAGE[name]}
        print(row(name, size, found[name], others), flush=True)


if __name__ == "__main__":
    main()
