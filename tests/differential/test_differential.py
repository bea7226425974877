"""A short run of the net, the same cases each time; `python -m tests.differential` runs more."""

import pytest
from hypothesis import HealthCheck, given, seed, settings

from differential import draws, sizes, weights
from differential.checking import check

# Shards with a weight: the first is for every run of the tests.
SHARDS = [0, *(pytest.param(number, marks=pytest.mark.once) for number in (1, 2))]
few = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("number", SHARDS)
@pytest.mark.parametrize("weight", weights.WEIGHTS)
def test_every_way_gives_the_oracles_bits(weight, number):
    if weight == "layers of a store":
        pytest.importorskip("spatialdata")
    first = list(weights.WEIGHTS).index(weight)
    weights.shard(first + number * len(weights.WEIGHTS), check)


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
