"""What shards of the net put their weight on, and how they are run."""

from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from differential import sizes
from differential.cases import MEASURING
from differential.draws import (
    DTYPES,
    FLOATS,
    KINDS,
    NEIGHBOURS,
    OWN,
    PLAIN,
    SUMS,
    batched,
    cases,
    measured_behind,
    stored,
)

some = st.sampled_from
# Steps around those that once were wrong behind each other.
behind_sums = st.tuples(
    some([(), (), ("quantile_norm",), ("blur",), ("log1p",), ("minmax",)]),
    some([("sum_norm",), ("sum_mask",), ("sum_mask", "sum_norm")]),
    some([(), (), ("quantile_norm",), ("clip",), ("sum_mask",)]),
    some([("blur",), ("remove_hot_pixels",), ("subtract_background",), ("median",)]),
    some([(), ("quantile_norm",), ("sum_mask",), ("blur", "percentile_clip")]),
).map(lambda parts: sum(parts, ()))

# Channels that steps see, and those behind them do not.
behind_subtractions = st.tuples(
    some([(), ("quantile_norm",), ("blur",), ("sum_mask",)]),
    some([("subtract_channels",), ("subtract_channels", "subtract_channels")]),
    st.lists(some((*MEASURING, *NEIGHBOURS, *SUMS, "compensate")), max_size=3).map(tuple),
).map(lambda parts: sum(parts, ()))

# Passes that read more and more of what surrounds a block.
by_turns = st.tuples(some(NEIGHBOURS), some(MEASURING), some(NEIGHBOURS), some(MEASURING))


@st.composite
def sized(draw, strategy, **wanted):
    """Cases run with sizes of the engine that are among the wanted ones."""
    case, numbers = draw(strategy), some(sizes.numbers_with(**wanted))
    return replace(case, ways=tuple(replace(way, sizes=draw(numbers)) for way in case.ways))


# Quantiles of images with many missing pixels: limits are reckoned as if none were missing.
of_one_image = cases(
    st.tuples(some(["quantile_norm", "post_norm", "percentile_clip", "threshold"])),
    counts=(1,),
    channels=(1, 2),
    dtypes=("float32", "float64"),
    large=True,
    among=("half NaN", "some zeros", "rows of NaN", "some NaN"),
    masked=20,
    named=0,
)

# What shards put their weight on.
WEIGHTS = {
    "anything": cases(),
    "sums, then neighbours": cases(behind_sums, masked=10),
    "one step": cases(st.tuples(some((*sorted({*KINDS}), *OWN)))),
    "cohorts": cases(
        measured_behind, counts=(2, 3), dtypes=(*DTYPES, *FLOATS), masked=50, named=25
    ),
    "batches": batched(),
    "dropped channels": cases(behind_subtractions, channels=(3, 4, 2), masked=10),
    "quantiles": cases(
        measured_behind, counts=(1, 1, 2), channels=(1, 2), dtypes=FLOATS, large=True, named=0
    ),
    "values that are let go": sized(
        of_one_image, FEW=[1 << 16], LEAST_HELD=[0], SPARE=[1.0], MOST_GATHERED=[1000, 128 << 20]
    ),
    "bounds that rise": sized(
        of_one_image, FEW=[0], TAIL=[1], FIRST_VALUES=[1, 7], GROWTH=[1, 2], LEAST_HELD=[0]
    ),
    "brackets that miss": sized(
        of_one_image, FEW=[0], TAIL=[1 << 40], SPARE_RANKS=[0], SPREADS=[0.0]
    ),
    "neighbours": cases(
        st.lists(some(NEIGHBOURS), min_size=1, max_size=3), counts=(1,), masked=0, named=0
    ),
    "neighbours by turns": cases(by_turns, counts=(1,), masked=10, named=0),
    "blurs beside NaN": cases(
        st.tuples(st.just("blur")),
        counts=(1,),
        dtypes=("float32", "float64"),
        large=True,
        among=("some NaN", "rows of NaN", "bright pixel"),
        masked=0,
        named=0,
    ),
    "means of three": cases(
        st.tuples(some(MEASURING)), counts=(3,), dtypes=("float64",), masked=0, named=0
    ),
    "own steps behind others": cases(
        st.tuples(some((*PLAIN, *NEIGHBOURS)), some(("share", "peak"))), masked=10
    ),
    "reference order": cases(sparrow=100),
    "layers of a store": stored(),
    "kept, then neighbours": cases(
        st.tuples(st.just("keep_where"), some(NEIGHBOURS)), counts=(1,), masked=0, named=0
    ),
}
SHARD = 20


def shard(number, act, *, n_cases=SHARD, shrinks=True):
    """Call `act` with the first cases of a shard; raises what it raises for the smallest case."""
    phases = [Phase.generate, Phase.shrink] if shrinks else [Phase.generate]

    @seed(number)
    @settings(
        max_examples=n_cases,
        database=None,
        deadline=None,
        print_blob=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(WEIGHTS[weight_of(number)])
    def run(case):
        act(case)

    run()


def weight_of(number):
    """What a shard puts its weight on."""
    return list(WEIGHTS)[number % len(WEIGHTS)]
