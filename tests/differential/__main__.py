"""Run many cases: `python -m tests.differential --cases 10000 --seed 0 --minutes 30`."""

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import HealthCheck, Phase, assume, given, seed, settings

from differential import cases, draws
from differential.checking import check

SHARD = 200


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--weight", choices=draws.WEIGHTS, action="append", help="default: all")
    parser.add_argument("--without", action="append", default=[], metavar="FEATURE")
    parser.add_argument("--only", action="append", default=[], metavar="FEATURE")
    parser.add_argument("--first", action="store_true", help="stop at the first failure, as it is")
    parser.add_argument("--case", help="run one case, as it was printed")
    options = parser.parse_args()
    if options.case:
        namespace = {**vars(cases)}
        check(eval(options.case, namespace))
        print("right")
        return 0
    return run(options)


def run(options):
    """Cases, in shards of which each has a seed of its own; how many failed."""
    counts, failures, started, done = Counter(), [], time.perf_counter(), 0
    ends = started + 60 * options.minutes
    number = options.seed * 100_000
    while done < options.cases and time.perf_counter() < ends:
        size = min(SHARD, options.cases - done)
        weights = options.weight or list(draws.WEIGHTS)
        weight = weights[number % len(weights)]
        ran, failure = shard(number, weight, size, counts, options, ends)
        done += ran
        number += 1
        print(f"{done} cases, {time.perf_counter() - started:.0f} s", flush=True)
        if failure is not None:
            failures.append(failure)
            print(
                f"--- failure {len(failures)}, case {done} ({ran} of {weight!r})\n{failure}",
                flush=True,
            )
            if options.first:
                break
    seconds = time.perf_counter() - started
    rate = f"{done / seconds:.1f} a second"
    print(f"{done} cases in {seconds:.0f} s, {rate}; {len(failures)} shards failed")
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    return len(failures) > 0


def shard(number, weight, size, counts, options, ends):
    """How many cases were run until the first that failed, and that one, as small as it gets."""
    state = {"ran": 0, "failed": False}

    @seed(number)
    @settings(
        max_examples=size,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate] if options.first else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(draws.WEIGHTS[weight])
    def run_one(case):
        found = cases.features(case)
        assume(not found & set(options.without))
        assume(found >= set(options.only))
        if not state["failed"]:
            if time.perf_counter() > ends:
                return
            state["ran"] += 1
            counts.update(found)
        try:
            check(case)
        except BaseException:
            state["failed"] = True
            raise

    try:
        run_one()
    except ExceptionGroup as group:
        return state["ran"], "\n".join(map(_said, group.exceptions))
    except Exception as error:
        return state["ran"], _said(error)
    return state["ran"], None


def _said(error):
    """Where an error came from, what it says, and the case, which is Python."""
    frames = traceback.extract_tb(error.__traceback__)
    return "".join([*traceback.format_list(frames[-2:]), *traceback.format_exception_only(error)])


if __name__ == "__main__":
    sys.exit(main())
