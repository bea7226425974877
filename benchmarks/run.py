"""Benchmarks: one command, one table. Every figure is of a process of its own.

    python benchmarks/run.py               # all, three times each; images of 2048^2 and 5120^2
    python benchmarks/run.py --sizes 20480 --only copy-floor wrapper wrapper-no-memory
    python benchmarks/run.py --harpy /path/to/python   # also harpy, in its own environment
    python benchmarks/run.py --only fov-preprocess fov-chain --json now.json
    python benchmarks/run.py --only fov-preprocess fov-chain --compare now.json   # another commit

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

import fields
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
# Scenarios of a field of view in memory, at each of the sizes; the median of many calls.
FOV = {
    "fov-numpy-scipy": (),
    "fov-preprocess": ("fov-numpy-scipy",),
    "fov-chain": ("fov-numpy-scipy",),
    "fov-transform": ("fov-numpy-scipy",),
}
# Those with a size of their own: thousands of rows, or how many fields of view, or nothing.
OTHER = {
    60: {"slide-graph": ()},
    1000: {
        "cohort-fit": (),
        "cohort-graphs": (),
        "many-layers": (),
        "many-layers-one-by-one": (),
        "many-imports": (),
    },
    40: {
        "cohort-floor": (),
        "cohort-wrapper": ("cohort-floor",),
        "tiffs-floor": (),
        "tiffs-import": ("tiffs-floor",),
    },
    1: {
        "cold-xarray": (),
        "cold-import": ("cold-xarray",),
        "cold-help": ("cold-xarray",),
        "cold-completion": ("cold-xarray",),
        "cold-first-call": (),
        "cold-compiling": (),
    },
}
# How long, and at least how often, calls are repeated in one process.
SECONDS, CALLS = 1.0, 5
# Images that are held in memory several times over.
LARGEST_IN_MEMORY = 5120


def measure_here(name, store, work, size):
    """Run one scenario in this process and print its figures as JSON."""
    run = SCENARIOS[name](Path(store), Path(work), size)
    times, result = _timed(run, CALLS if name in FOV else 1)
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    figures = {
        "wall": wall,
        "cpu": cpu,
        "memory": max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        * 1024,
    }
    if isinstance(result, int):
        figures["note"] = f"{result:,} tasks"
    print(json.dumps(figures))


def _timed(run, calls):
    """Wall and CPU seconds of each call, and what the last one returned."""
    times = []
    if calls > 1:
        run()  # compiled before the clock runs
    while len(times) < calls or (calls > 1 and sum(wall for wall, _ in times) < SECONDS):
        wall, used = time.perf_counter(), _cpu()
        result = run()
        times.append((time.perf_counter() - wall, _cpu() - used))
    return times, result


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


def row(name, size, rounds, others, before=None):
    """One line of the table: of a scenario's rounds, compared with those of others, by name.

    And with what was measured `before`, of which the medians are kept.
    """
    if None in rounds:
        return f"| {name} | {size} | failed | | | |"
    notes = [
        f"{statistics.median(_ratios(rounds, theirs)):.2f} x {their_name}"
        for their_name, theirs in others.items()
        if theirs is not None and None not in theirs
    ]
    if "note" in rounds[0]:
        notes.append(rounds[0]["note"])
    now = medians(rounds)
    if before is not None:
        notes.append(
            f"before: {now['wall'] / before['wall']:.2f} x, CPU {now['cpu'] / before['cpu']:.2f} x"
        )
    return (
        f"| {name} | {size} | {now['wall']:.3g} | {now['cpu']:.3g} | {now['memory'] / 1e9:.2f} | "
        f"{', '.join(notes)} |"
    )


def medians(rounds):
    """Median seconds of a scenario's rounds, and the largest peak of memory."""
    found = {key: statistics.median(one[key] for one in rounds) for key in ("wall", "cpu")}
    return {**found, "memory": max(one["memory"] for one in rounds)}


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
    parser.add_argument(
        "--most", type=int, default=1000, help="limit of how many images or layers there are"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="figures of another commit")
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--pixels", choices=["camera", "counts"], default="camera")
    parser.add_argument("--scenario", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.scenario:
        name, store, work, size = options.scenario
        measure_here(name, store, work, int(size))
        return
    wanted = options.only or list(SCENARIOS)
    if options.harpy is None:
        wanted = [name for name in wanted if name != "harpy"]
    folder = Path(options.work or tempfile.mkdtemp(prefix="pxprep-benchmarks-"))
    before = json.loads(options.compare.read_text()) if options.compare else {}
    found = {}
    print("| what | size | wall s | CPU s | peak GB | ratio |")
    print("|---|---|---|---|---|---|")
    try:
        for compared, size, needs_store in _groups(options):
            names = {name: others for name, others in compared.items() if name in wanted}
            store = _store(folder, size, options) if names and needs_store else None
            rounds = _measured(names, size, store, folder, options)
            for name, own in rounds.items():
                key, others = f"{name} {size}", {other: rounds.get(other) for other in names[name]}
                print(row(name, size, own, others, before.get(key)), flush=True)
                if None not in own:
                    found[key] = medians(own)
            if options.json:
                options.json.write_text(json.dumps(found, indent=2) + "\n")
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)


def _groups(options):
    """Scenarios that run in turn, with what they are compared with; size; if they need a store."""
    for size in options.sizes:
        in_memory = {name for name in IMAGE if name.startswith("memory-")}
        left_out = in_memory if size > LARGEST_IN_MEMORY else set()
        yield {name: IMAGE[name] for name in IMAGE if name not in left_out}, size, True
    for size in fields.CHANNELS:
        yield FOV, size, False
    for size, compared in OTHER.items():
        yield compared, min(size, options.most), False


def _store(folder, size, options):
    store = folder / f"{options.pixels}{size}.zarr"
    if not store.exists():
        make_store(store, size, options.chunk, pixels=options.pixels)
    return store


def _measured(names, size, store, folder, options):
    """The rounds of each scenario."""
    found = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            python = options.harpy if name == "harpy" else sys.executable
            found[name].append(measure(name, store, folder / "work", size, python))
    return found


if __name__ == "__main__":
    main()
