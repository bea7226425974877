"""A short run of the net, the same cases each time; `python -m tests.differential` runs more."""

import pytest
from hypothesis import HealthCheck, given, settings

from differential import draws, sizes
from differential.checking import check

short = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
EXAMPLES = {
    "anything": 100,
    "sums, then neighbours": 60,
    "one step": 60,
    "cohorts": 60,
    "quantiles": 40,
    "neighbours": 60,
    "reference order": 40,
}


@pytest.mark.parametrize("weight", draws.WEIGHTS)
def test_every_way_gives_the_oracles_bits(weight):
    @settings(short, max_examples=EXAMPLES[weight])
    @given(draws.WEIGHTS[weight])
    def run(case):
        check(case)

    run()


def test_layers_of_a_store():
    stores = pytest.importorskip("differential.stores", exc_type=ImportError)

    @settings(short, max_examples=12)
    @given(stores.stored())
    def run(pair):
        stores.check(*pair)

    run()


def test_a_cluster():
    distributed = pytest.importorskip("distributed")

    @settings(short, max_examples=10)
    @given(draws.cases(scheduler="client", named=0))
    def run(case):
        check(case)

    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ):
        run()


@pytest.mark.parametrize("name", [*sizes.SIZES, *sizes.COUNTS])
def test_sizes_are_those_of_the_engine(name):
    assert sizes.owners(name), f"pxprep has no {name} any more: sizes.py is out of date"
