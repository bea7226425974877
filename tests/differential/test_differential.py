"""A short run of the net, the same cases each time; `python -m tests.differential` runs more."""

import pytest
from hypothesis import HealthCheck, given, seed, settings

from differential import draws, sizes, weights
from differential.checking import check
from differential.faults import FAULTS, PACKAGE

# Shards with a weight, and how many of their cases: each run of the tests has a third of the first.
SHARDS = [
    (0, weights.SHARD // 3),
    *(pytest.param(number, weights.SHARD, marks=pytest.mark.once) for number in range(3)),
]
few = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("number", "n_cases"), SHARDS)
@pytest.mark.parametrize("weight", weights.WEIGHTS)
def test_every_way_gives_the_oracles_bits(weight, number, n_cases):
    if weight == "layers of a store":
        pytest.importorskip("spatialdata")
    first = list(weights.WEIGHTS).index(weight)
    weights.shard(first + number * len(weights.WEIGHTS), check, n_cases=n_cases)


def test_a_cluster():
    distributed = pytest.importorskip("distributed")

    @seed(0)
    @settings(few, max_examples=10)
    @given(draws.cases(scheduler="client", named=0))
    def run(case):
        check(case)

    with distributed.Client(processes=False, threads_per_worker=2, dashboard_address=None):
        run()


@pytest.mark.parametrize("name", [*sizes.SIZES, *sizes.COUNTS])
def test_sizes_are_those_of_the_engine(name):
    assert sizes.owners(name), f"pxprep has no {name} any more: sizes.py is out of date"


def test_faults_are_lines_of_the_package():
    for fault in FAULTS:
        assert (PACKAGE / fault.file).read_text().count(fault.right) == 1, fault.what
