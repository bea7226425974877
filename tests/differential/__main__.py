"""Run many cases: `python -m tests.differential --cases 10000 --seed 0 --minutes 60`.

The first shards of seed 0 are those of the tests. A failure is printed with the smallest case that
shows it, which is Python: `python -m tests.differential --case "Case(...)"` runs it again.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from differential import cases, weights
from differential.checking import check

# Shards of one seed, at most.
SHARDS = 1_000_000


class OutOfTimeError(Exception):
    """There is no time left for another case."""


def main():
    """Run cases, as the command line says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--weight", choices=weights.WEIGHTS, help="only shards with this weight")
    parser.add_argument("--without", action="append", default=[], metavar="FEATURE")
    parser.add_argument("--first", action="store_true", help="stop at the first failure, as it is")
    parser.add_argument("--case", help="run one case, as it was printed")
    options = parser.parse_args()
    if options.case:
        check(eval(options.case, vars(cases)))
        return 0
    return Run(options).run()


class Run:
    """Shards, one after the other, and what they had."""

    def __init__(self, options):
        self.options = options
        self.started = time.perf_counter()
        self.counts = Counter()
        self.n_cases = 0
        self.has_failed = False

    def run(self):
        """Run shards until there are enough cases; 1 if any has failed."""
        failures, first = 0, self.options.seed * SHARDS
        for number in range(first, first + SHARDS):
            if self.options.weight not in (None, weights.weight_of(number)):
                continue
            self.has_failed = False
            try:
                weights.shard(number, self.act, shrinks=not self.options.first)
            except OutOfTimeError:
                break
            except Exception as error:
                failures += 1
                print(f"--- failure {failures}: case {self.n_cases}, shard {number}\n{said(error)}")
            print(f"... {self.n_cases} cases, {self.seconds:.0f} s", flush=True)
            if self.n_cases >= self.options.cases or (failures and self.options.first):
                break
        rate = self.n_cases / self.seconds
        print(f"... {self.n_cases} cases, {rate:.1f} a second; {failures} shards failed")
        for name, count in sorted(self.counts.items()):
            print(f"{count:7} {name}")
        return int(failures > 0)

    @property
    def seconds(self):
        """Since the run began."""
        return time.perf_counter() - self.started

    def act(self, case):
        """Count a case, and run it; cases after a failure are only tries to make it smaller."""
        if self.seconds > 60 * self.options.minutes and not self.has_failed:
            raise OutOfTimeError
        found = cases.features(case)
        if found & set(self.options.without):
            return
        if not self.has_failed:
            self.n_cases += 1
            self.counts.update(found)
        try:
            check(case)
        except BaseException:
            self.has_failed = True
            raise


def said(error):
    """Where an error came from, what it says, and the case."""
    if isinstance(error, ExceptionGroup):
        return "\n".join(map(said, error.exceptions))
    frames = traceback.extract_tb(error.__traceback__)
    return "".join([*traceback.format_list(frames[-2:]), *traceback.format_exception_only(error)])


if __name__ == "__main__":
    sys.exit(main())
