"""Stops writers at every call that changes the file system, and looks at what they leave.

Each writer is a fork of this process, which has imported everything; an audit hook counts its calls
and kills it before the chosen one, or makes that call fail. For all points, or for some of them:

    python tests/crash.py                              # every call, every scenario
    python tests/crash.py --sample 200                 # so many points, spread over all scenarios
    python tests/crash.py --publishing                 # every call from the first journal on
    python tests/crash.py --how EIO ENOSPC interrupt   # the call fails; Ctrl-C comes before it
    python tests/crash.py --double 200                 # the recovery is killed as well
    python tests/crash.py --random 200                 # at random moments
"""

import argparse
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import dask.threaded
import spatialdata

import pxprep
from pxprep import Pipeline
from pxprep.store import files
from stores import ATTRS, arrays, layers, make_study, same

MODES = ("new", "overwrite", "in place", "several", "one by one")
# By mode: sources, and the layers made from them.
CALLS = {
    "new": (["fov0"], ["fresh"]),
    "overwrite": (["fov0"], ["made"]),
    "in place": (["fov0"], ["fov0"]),
    "several": (["fov0", "fov1", "fov2"], ["fov0", "fresh", "made"]),
    "one by one": (["fov0", "fov1", "fov2"], ["fov0", "fresh", "fresher"]),
}
STEPS = Pipeline().quantile_norm(99)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate"}
HOWS = ("kill", "EIO", "ENOSPC", "EACCES", "interrupt")
STOPPED = 7
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def make_store(path, multiscale):
    """Sources, a layer that pxprep made, and elements that are to stay as they are."""
    sdata = make_study(path, multiscale)
    pxprep.pixel_clustering_preprocess(sdata, "fov1", "made", pipeline=Pipeline().blur(1))


def act(store, mode):
    sources, outputs = CALLS[mode]
    sdata = spatialdata.read_zarr(store)
    pxprep.pixel_clustering_preprocess(
        sdata, sources, outputs, pipeline=STEPS, overwrite=True, resume=mode == "one by one"
    )


def untouched(store, outputs):
    """Bytes of all that no write may change."""
    found = {}
    for path in sorted(Path(store).rglob("*")):
        parts = path.relative_to(store).parts
        is_target = parts[0] == "images" and len(parts) > 1 and parts[1] in outputs
        if path.is_file() and parts[0] != ".pxprep" and parts != ("zarr.json",) and not is_target:
            found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# --- processes that die ---------------------------------------------------------------------------


def install_hook(store, on_change):
    """Call `on_change(name of the call)` before each call that changes files of the store."""
    inside = os.fsencode(store)

    def concerns(path):
        # A path relative to an open folder is one of those that shutil.rmtree removes.
        return not isinstance(path, str | bytes | os.PathLike) or (
            not Path(os.fsdecode(path)).is_absolute() or os.fsencode(path).startswith(inside)
        )

    def hook(event, args):
        is_open = event == "open" and args and isinstance(args[2], int) and args[2] & WRITE_FLAGS
        if (is_open or event in CHANGES) and concerns(args[0]):
            is_path = isinstance(args[0], str | bytes | os.PathLike)
            on_change(f"{event} {Path(os.fsdecode(args[0])).name}" if is_path else event)

    exchange, fsync = files.exchange, os.fsync

    def exchanging(first, second):
        on_change("exchange")
        return exchange(first, second)

    def flushing(descriptor):
        on_change("fsync")
        return fsync(descriptor)

    files.exchange, os.fsync = exchanging, flushing
    sys.addaudithook(hook)


def prepare_fork():
    """Forget the threads of the process that was forked."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    warnings.simplefilter("ignore")


def in_fork(function, *args):
    """Run `function` in a fork; its exit status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            prepare_fork()
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def stopped_at(number, work, store, how="kill"):
    """A fork that does `work` is stopped before its call `number` (from 0); whether it was."""

    def run():
        calls = itertools.count()

        def on_change(event):
            if next(calls) != number:
                return
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # another thread's signal takes a moment
            elif how == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                code = getattr(errno, how)
                raise OSError(code, os.strerror(code), "the call that fails")

        install_hook(store, on_change)
        try:
            work()
        except (pxprep.PxprepError, KeyboardInterrupt):
            os._exit(STOPPED)  # as it should: with a message, or the user's own interrupt

    status = os.waitstatus_to_exitcode(in_fork(run))
    if status not in (0, STOPPED, -signal.SIGKILL):
        raise RuntimeError(f"call {number}, {how}: the writer failed in another way")
    return status != 0


def calls_of(work, store):
    """The names of the calls that `work` makes, in order."""
    file = Path(store).with_suffix(".calls")

    def run():
        names = []
        install_hook(store, names.append)
        work()
        file.write_text(json.dumps(names))

    if in_fork(run) != 0:
        raise RuntimeError("the writer failed by itself")
    return json.loads(file.read_text())


# --- what is left ---------------------------------------------------------------------------------


class Scenario:
    def __init__(self, folder, mode, multiscale, exchange):
        self.mode, self.multiscale, self.exchange = mode, multiscale, exchange
        self.base = folder / f"base-{multiscale}.zarr"
        self.store = folder / f"{mode.replace(' ', '-')}-{multiscale}-{exchange}.zarr"
        self.outputs = CALLS[mode][1]

    @property
    def name(self):
        scales = "multiscale" if self.multiscale else "single-scale"
        return f"{self.mode}, {scales}, {'exchange' if self.exchange else 'two renames'}"

    def prepare(self):
        """Make the store that is the base, and see what it looks like before and after."""
        if not self.base.exists():
            make_store(self.base, self.multiscale)
        self.old, self.kept = layers(self.base), untouched(self.base, self.outputs)
        self.reset()
        self.calls = calls_of(self.act, self.store)
        self.new = layers(self.store)
        # The draft of the journal: the store is locked by then, and all layers are staged.
        self.journal = next(i for i, call in enumerate(self.calls) if "journal.json" in call)

    def reset(self):
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.base, self.store)

    def act(self):
        if not self.exchange:
            files.exchange = lambda first, second: False
        act(self.store, self.mode)

    def repair(self):
        if not self.exchange:
            files.exchange = lambda first, second: False
        pxprep.repair(self.store)

    def check(self):
        """Raise AssertionError if the store is not as it must be after a crash."""
        self.check_layers(is_repaired=False)
        pxprep.repair(self.store)
        assert not (self.store / ".pxprep").exists(), "left behind after the repair"
        states = self.check_layers()
        if self.mode != "one by one":
            assert len(set(states.values())) == 1, f"only some are new: {states}"
        try:
            act(self.store, self.mode)
        except pxprep.errors.LayerError as error:
            if "not applied twice" not in str(error) or set(states.values()) != {"new"}:
                raise
        assert not (self.store / ".pxprep").exists(), "left behind after the next run"
        states = self.check_layers()
        assert set(states.values()) == {"new"}, states

    def check_layers(self, is_repaired=True):
        """Each layer is old or new, all else as it was; once repaired, provenance tells which."""
        missing_allowed = not (is_repaired or self.exchange)
        assert untouched(self.store, self.outputs) == self.kept, "other elements changed"
        sdata = spatialdata.read_zarr(self.store)
        found = {name: arrays(element) for name, element in sdata.images.items()}
        states = {}
        for name in self.outputs:
            if name in found and same(found[name], self.new[name]):
                states[name] = "new"
            elif (name in found and name in self.old and same(found[name], self.old[name])) or (
                name not in found and (name not in self.old or missing_allowed)
            ):
                states[name] = "old"
            else:
                raise AssertionError(f"{name} is neither old nor new")
        expected = (set(self.old) - set(self.outputs)) | (set(found) & set(self.outputs))
        assert set(found) == expected, f"layers are {sorted(found)}"
        if is_repaired:
            self.check_provenance(sdata, states)
        return states

    def check_provenance(self, sdata, states):
        """A layer is said to be made by what made it."""
        assert sdata.attrs["study"] == ATTRS["study"], "attrs of others changed"
        for name, state in states.items():
            if name not in sdata.images:
                continue
            try:
                made = pxprep.provenance(sdata, name)
            except pxprep.errors.LayerError:
                assert (state, name != "made") == ("old", True), f"{name} has no provenance"
                continue
            kind = made.parameters["pipeline"]["steps"][0]["name"]
            assert kind == ("quantile_norm" if state == "new" else "blur"), (name, state, kind)
            assert made.fitted().pipeline in (STEPS, Pipeline().blur(1))


def survives(scenario, kill):
    """Whether the store is as it must be after `kill` has done its work."""
    scenario.reset()
    was_stopped = kill(scenario)
    return os.waitstatus_to_exitcode(in_fork(scenario.check)) == 0, was_stopped


def stop_at(number, how):
    return lambda scenario: stopped_at(number, scenario.act, scenario.store, how)


def kill_twice(number, again):
    def kill(scenario):
        stopped_at(number, scenario.act, scenario.store)
        return stopped_at(again, scenario.repair, scenario.store)

    return kill


def kill_after(seconds):
    def kill(scenario):
        pid = os.fork()
        if pid == 0:
            try:
                prepare_fork()
                scenario.act()
            finally:
                os._exit(0)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    return kill


def points(scenarios, options, rng):
    """(scenario, a name of what is done, kill) for all that was asked for."""
    every = [
        (scenario, number)
        for scenario in scenarios
        for number in range(options.publishing and scenario.journal, len(scenario.calls) + 1)
    ]
    for number in range(options.random):
        seconds = rng.uniform(0, options.seconds)
        yield scenarios[number % len(scenarios)], f"after {seconds:.3f} s", kill_after(seconds)
    for scenario, number in rng.sample(every, min(options.double, len(every))):
        again = rng.randrange(40)
        yield scenario, f"call {number}, then {again}", kill_twice(number, again)
    if options.sample:
        every = rng.sample(every, min(options.sample, len(every)))
    elif options.random or options.double:
        return
    for scenario, number in every:
        what = scenario.calls[number] if number < len(scenario.calls) else "the end"
        how = options.how[number % len(options.how)]
        yield scenario, f"{how} at call {number} ({what})", stop_at(number, how)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sample", type=int, help="so many of the points")
    parser.add_argument(
        "--publishing", action="store_true", help="only calls from the first journal on"
    )
    parser.add_argument(
        "--double", type=int, default=0, help="so many, and the recovery is killed, too"
    )
    parser.add_argument("--random", type=int, default=0, help="so many, at random moments")
    parser.add_argument("--seconds", type=float, default=0.5, help="longest moment for --random")
    parser.add_argument("--how", nargs="+", default=["kill"], choices=HOWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)
    failures, counts = [], {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        scenarios = [
            Scenario(Path(folder).resolve(), mode, multiscale, exchange)
            for mode in options.modes
            for multiscale in (False, True)
            for exchange in (True, False)
        ]
        for scenario in scenarios:
            scenario.prepare()
        for scenario, what, kill in points(scenarios, options, rng):
            passed, was_stopped = survives(scenario, kill)
            done = counts.setdefault(scenario.name, {"points": 0, "stopped": 0, "failed": 0})
            done["points"] += 1
            done["stopped"] += was_stopped
            done["failed"] += not passed
            if not passed:
                failures.append(f"{scenario.name}: {what}")
    total = {key: sum(done[key] for done in counts.values()) for key in ("points", "stopped")}
    print(json.dumps({"counts": counts, "total": total, "failures": failures}, indent=1))  # noqa: T201
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
