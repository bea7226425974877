"""Hypothesis strategies: cohorts, pipelines, and ways to hold and to run them."""

from dataclasses import replace
from functools import partial

from hypothesis import strategies as st

from differential.cases import (
    MEASURING,
    Case,
    Each,
    Holding,
    Mask,
    Pairs,
    Picture,
    Spill,
    Step,
    Store,
    Way,
)
from differential.contents import BASES, EXTRAS
from differential.holding import LAZY
from differential.reference import FUNCTIONS

FLOATS = ("float32", "float64", "float16")
DTYPES = (
    *FLOATS,
    *("uint8", "uint16", "bool", "int16", "int8", "uint32", "int32", "int64", "uint64"),
)
# Most content is what images hold; what is not is rarer.
USUAL = ("gamma", "counts", "ties", "normal", "ramp", "halves", "spikes")

seeds = st.integers(0, 999)


def chance(percent):
    """True in so many of a hundred cases."""
    return st.integers(0, 99).map(lambda number: number >= 100 - percent)


# Images


@st.composite
def sizes(draw, with_z, large=False):
    """Rows and columns, perhaps planes: a pixel, a line, small images, some as large as 40 x 40."""
    if large:
        size = draw(st.integers(15, 50)), draw(st.integers(10, 50))
    else:
        longest = draw(st.sampled_from([12, 3, 20, 12, 8, 40]))
        size = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    if not with_z:
        return size
    planes = draw(st.integers(1, 3))
    return planes, *(min(n, 14) for n in size)


@st.composite
def pictures(draw, with_z, order, dtypes=DTYPES, large=False, among=tuple(EXTRAS)):
    """An image, whose channels come in `order`."""
    dtype = draw(st.sampled_from(dtypes))
    usual = draw(chance(75))
    base = draw(st.sampled_from(USUAL if usual else tuple(BASES)))
    extras = draw(st.lists(st.sampled_from(among), max_size=3, unique=True))
    return Picture(draw(sizes(with_z, large)), dtype, base, tuple(extras), draw(seeds), order)


@st.composite
def masks(draw, with_z):
    """A mask, or None where all pixels are measured."""
    if draw(chance(20)):
        return None
    kind = draw(st.sampled_from(["random", "corner", "random", "all", "pixel", "none"]))
    form = draw(st.sampled_from(["bool", "nonzero", "label", "others"]))
    return Mask(kind, form, with_z and draw(st.booleans()), draw(seeds))


# Pipelines


@st.composite
def by_channel(draw, values, n_channels):
    """A value for each channel, some of them alike."""
    form = draw(st.sampled_from(["one", "one", "sequence", "mapping", "others"]))
    if form == "one":
        return Each(form, (draw(values),) * n_channels)
    few = draw(st.lists(values, min_size=1, max_size=2))
    return Each(form, tuple(draw(st.sampled_from(few)) for _ in range(n_channels)))


percents = st.one_of(
    st.sampled_from([99.0, 50.0, 0.0, 100.0, 99.9, 5.0, 75.0, 33.3]),
    st.floats(1, 100, exclude_min=True),
)
sum_percents = st.one_of(st.sampled_from([5.0, 50.0, 0.0, 100.0, 95.0]), st.floats(0, 100))
sigmas = st.one_of(
    st.sampled_from([1.0, 0.0, 0.1, 0.3, 2.0, 0.8]), st.sampled_from([0.5, 3.0, 7.5, 12.0, 40.0])
)
numbers = st.one_of(st.sampled_from([1.0, 0.5, 30.0, 3.3, 1e-3, 1e4]), st.floats(1e-3, 1e3))
zeros = st.sampled_from(["exclude", "include"])
CLIPS = [(1.0, 99.0), (0.0, 100.0), (20.0, 60.0), (0.5, 50.0), (5.0, 5.5), (90.0, 99.99)]


@st.composite
def clips(draw, n_channels):
    """Two percentages of each channel, the first below the second."""
    low, high = draw(st.sampled_from(CLIPS))
    each = partial(by_channel, n_channels=n_channels)
    lows = draw(each(st.just(low) | st.floats(0, low)))
    highs = draw(each(st.just(high) | st.floats(high, 100)))
    return {"low": lows, "high": highs, "zeros": draw(zeros)}


@st.composite
def backgrounds(draw, each):
    """One of a radius and a constant."""
    if draw(chance(70)):
        return {"radius": draw(each(st.sampled_from([1, 0, 2, 3, 1, 5, 11]))), "constant": None}
    return {"radius": None, "constant": draw(each(st.just(0.0) | numbers))}


@st.composite
def pairs(draw, n_channels):
    """Some of the channels, and another one for each."""
    changed = draw(st.lists(st.integers(0, n_channels - 1), min_size=1, max_size=3, unique=True))
    away = st.integers(1, n_channels - 1)
    return Pairs(tuple((channel, (channel + draw(away)) % n_channels) for channel in changed))


@st.composite
def subtractions(draw, n_channels):
    """Pairs of channels, a factor, and whether the second ones are dropped, if any are left."""
    chosen = draw(pairs(n_channels))
    is_possible = len({other for _, other in chosen.values}) < n_channels
    scale = draw(st.just(0.0) | numbers)
    return {"backgrounds": chosen, "scale": scale, "drop": is_possible and draw(chance(40))}


@st.composite
def spills(draw, n_channels):
    """Fractions of some channels in others, so small that the equations can be solved."""
    ordered = [(one, other) for one in range(n_channels) for other in range(n_channels)]
    apart = [pair for pair in ordered if pair[0] != pair[1]]
    chosen = draw(st.lists(st.sampled_from(apart), min_size=1, max_size=4, unique=True))
    fractions = st.sampled_from([0.02, 0.3, 0.0, 0.25]) | st.floats(0, 0.3)
    return Spill(tuple((*pair, draw(fractions)) for pair in chosen))


@st.composite
def thresholds(draw, each):
    """One of a value and a percentage."""
    rest = {"below": draw(st.sampled_from(["zero", "nan"])), "zeros": draw(zeros)}
    if draw(chance(60)):
        return {"value": None, "q": draw(each(percents)), **rest}
    return {"value": draw(each(st.just(0.0) | numbers)), "q": None, **rest}


def parameters(kind, n_channels, mask):
    """Strategy for the parameters of a kind of step."""
    each = partial(by_channel, n_channels=n_channels)
    fixed = st.fixed_dictionaries
    strategies = {
        "quantile_norm": lambda: fixed({"q": each(percents)}),
        "post_norm": lambda: fixed({"q_post": each(percents)}),
        "blur": lambda: fixed({"sigma": each(sigmas)}),
        "sum_mask": lambda: fixed(
            {
                "q_sum": sum_percents,
                "threshold": st.none() | st.none() | numbers,
                "zeros": zeros,
            }
        ),
        "clip": lambda: fixed({"max": each(numbers)}),
        "arcsinh": lambda: fixed({"cofactor": each(numbers)}),
        "remove_hot_pixels": lambda: fixed({"threshold": each(st.just(0.0) | numbers)}),
        "subtract_background": lambda: backgrounds(each),
        "subtract_channels": lambda: subtractions(n_channels),
        "compensate": lambda: fixed(
            {"matrix": spills(n_channels), "method": st.sampled_from(["linear", "nnls"])}
        ),
        "percentile_clip": lambda: clips(n_channels),
        "median": lambda: fixed({"size": each(st.sampled_from([3, 5, 1]))}),
        "threshold": lambda: thresholds(each),
        "keep_where": lambda: fixed({"where": mask}),
        "function": lambda: fixed({"function": st.sampled_from(tuple(FUNCTIONS))}),
    }
    return strategies.get(kind, lambda: st.just({}))()


PLAIN = (
    *("clip", "arcsinh", "log1p", "minmax", "percentile_clip", "post_norm", "quantile_norm"),
    *("threshold", "robust_zscore", "zscore"),
)
NEIGHBOURS = ("blur", "blur", "remove_hot_pixels", "subtract_background", "median")
SUMS = ("sum_mask", "sum_norm", "sum_mask", "sum_norm")
# Those that need several channels.
OTHERS = ("subtract_channels", "compensate")
KINDS = (*PLAIN, *NEIGHBOURS, *SUMS, *OTHERS)
OWN = ("function", "keep_where", "peak", "share")


@st.composite
def any_kinds(draw, own=True):
    """Kinds of one to six steps."""
    count = draw(st.sampled_from([2, 1, 3, 2, 3, 4, 5, 6]))
    known = (*KINDS, *OWN) if own and draw(chance(25)) else KINDS
    return [draw(st.sampled_from(known)) for _ in range(count)]


@st.composite
def pipelines(draw, n_channels, mask, kinds):
    """Steps of these kinds."""
    steps, left, alike = [], tuple(range(n_channels)), ["input"]
    for number, kind in enumerate(kinds):
        kind = "clip" if len(left) == 1 and kind in OTHERS else kind
        reference = None
        if kind in ("sum_mask", "peak", "share") and draw(chance(40)):
            reference = draw(st.sampled_from(alike))
        own = draw(parameters(kind, len(left), mask))
        steps.append(Step(kind, f"s{number}", own, reference))
        before, left = left, steps[-1].left(left)
        # A reference has the channels that the step sees.
        alike = [*(alike if left == before else ()), steps[-1].name]
    return tuple(steps)


@st.composite
def sparrows(draw, n_channels):
    """The reference order: its parameters, and the same as steps."""
    each = partial(by_channel, n_channels=n_channels)

    def maybe(strategy, percent):
        return st.none() | strategy if draw(chance(percent)) else strategy

    given = {
        "q": draw(maybe(each(percents), 20)),
        "q_sum": draw(maybe(sum_percents, 20)),
        "q_post": draw(maybe(each(percents), 20)),
        "sigma": draw(maybe(each(sigmas), 20)),
        "norm_sum": draw(chance(80)),
        "cap_max": draw(maybe(each(numbers), 60)),
    }
    steps = []

    def add(kind, own, reference=None):
        steps.append(Step(kind, f"s{len(steps)}", own, reference))

    if given["q"] is not None:
        add("quantile_norm", {"q": given["q"]})
    unblurred = steps[-1].name if steps else "input"
    if given["sigma"] is not None:
        add("blur", {"sigma": given["sigma"]})
    if given["q_sum"] is not None:
        add("sum_mask", {"q_sum": given["q_sum"], "threshold": None, "zeros": "exclude"}, unblurred)
    if given["norm_sum"]:
        add("sum_norm", {})
    if given["q_post"] is not None:
        add("post_norm", {"q_post": given["q_post"]})
    if given["cap_max"] is not None:
        add("clip", {"max": given["cap_max"]})
    return given, tuple(steps)


# Ways

CAN_HAVE_NAMES = (
    *("from_array", "arithmetic", "blocks", "rechunked", "sliced", "reversed", "persisted"),
    "transposed",
)
LAYOUTS = ("C", "F", "strided", "negative", "readonly", "unaligned")


@st.composite
def cuts(draw, size, most=2, empty=False):
    """Sizes of chunks that add up to `size`: one, a few, as thin as can be."""
    if size == 1 or draw(chance(25)):
        lengths = (size,)
    elif size <= 9 and draw(chance(8)):
        lengths = (1,) * size
    else:
        places = sorted(
            {draw(st.integers(1, size - 1)) for _ in range(most if draw(chance(40)) else 1)}
        )
        lengths = tuple(b - a for a, b in zip([0, *places], [*places, size], strict=True))
    if empty:
        place = draw(st.integers(0, len(lengths)))
        lengths = (*lengths[:place], 0, *lengths[place:])
    return lengths


@st.composite
def chunks(draw, shape, empty=False):
    """Chunks along each axis, in one of them perhaps one of size 0."""
    where = draw(st.integers(0, len(shape) - 1)) if empty and draw(chance(8)) else None
    return tuple(
        draw(cuts(size, 1 if axis < len(shape) - 2 else 2, empty=axis == where))
        for axis, size in enumerate(shape)
    )


@st.composite
def holdings(draw, shape, dims, lazy, has_names=False):
    """How an array of that shape, whose axes are `dims`, is held; all of one name, or of none."""
    order = "".join(draw(st.permutations(dims))) if draw(chance(50)) else dims
    layout = draw(st.sampled_from(LAYOUTS)) if draw(chance(50)) else "C"
    held = partial(Holding, dims=order, layout=layout, is_swapped=draw(chance(20)))
    if not lazy:
        return held()
    kind = draw(st.sampled_from(CAN_HAVE_NAMES if has_names else ("rechunked", *LAZY)))
    return held(
        kind,
        chunks=draw(chunks(shape, empty=True)),
        before=draw(chunks(shape)) if kind == "rechunked" else (),
        has_name=has_names,
    )


@st.composite
def ways(draw, case_masks, shapes, runs, boxes, named):
    """How a cohort of images of these shapes, and its masks, are held and run."""
    lazy, mixed = draw(chance(75)), draw(chance(15))
    has_names = draw(chance(named))
    dims = "czyx" if len(shapes[0]) == 4 else "cyx"
    held = tuple(
        draw(holdings(shape, dims, draw(st.booleans()) if mixed else lazy, has_names))
        for shape in shapes
    )
    over = tuple(
        Holding()
        if mask is None
        else draw(
            holdings(
                shape[1:] if mask.with_z else shape[-2:],
                dims[1:] if mask.with_z else "yx",
                draw(chance(40)),
                has_names,
            )
        )
        for mask, shape in zip(case_masks, shapes, strict=True)
    )
    return Way(
        run=draw(st.sampled_from(runs)),
        box=draw(st.sampled_from(boxes)),
        holdings=held,
        masks=over,
        memory=draw(st.sampled_from([None, 0, 3000, 1 << 30])),
        scheduler="threads" if draw(chance(20)) else "synchronous",
        together=draw(st.booleans()),
        sizes=draw(st.integers(0, 999)),
    )


measured = st.lists(st.sampled_from(MEASURING), min_size=1, max_size=3)
measured_behind = st.tuples(
    st.sampled_from([(), ("blur",), ("sum_norm",), ("arcsinh",)]), measured
).map(lambda parts: (*parts[0], *parts[1]))


RUNS = ("fit_transform", "ops", "fit", "accessor", "fit_transform", "json", "apart", "update")
BOXES = ("list", "dict", "tree", "list", "scales")


@st.composite
def cases(
    draw,
    kinds=None,
    *,
    counts=(1, 2, 1, 1, 2, 3),
    channels=(2, 1, 3, 4),
    dtypes=DTYPES,
    large=False,
    among=tuple(EXTRAS),
    masked=25,
    named=5,
    sparrow=12,
    labels=("text", "text", "numbers", "none"),
    own=True,
    scheduler=None,
):
    """A case: `kinds`, if given, is a strategy for the kinds of its steps; the rest are chances."""
    n_channels = draw(st.sampled_from(channels))
    labels = draw(st.sampled_from(labels))
    with_z = not large and draw(chance(20))
    count = draw(st.sampled_from(counts))
    in_order = tuple(range(n_channels))
    orders = st.just(in_order) if labels == "none" else st.permutations(in_order).map(tuple)
    shown = tuple(draw(pictures(with_z, draw(orders), dtypes, large, among)) for _ in range(count))
    mask = st.tuples(*(masks(with_z) for _ in shown))
    over = draw(mask) if draw(chance(masked)) else (None,) * count
    runs, given, chosen = RUNS, None, None
    boxes = ("one", "one", "list", "one", "tree", "scales") if count == 1 else BOXES
    if kinds is None and draw(chance(sparrow)):
        runs = ("preprocess", "preprocess", *RUNS)
        if draw(chance(30)):
            kept = draw(st.integers(1, n_channels))
            chosen, runs = tuple(draw(st.permutations(in_order))[:kept]), ("preprocess",)
            boxes = tuple(box for box in boxes if box not in ("list", "dict"))
        given, steps = draw(sparrows(n_channels if chosen is None else len(chosen)))
    else:
        wanted = draw(any_kinds(own) if kinds is None else kinds)
        steps = draw(pipelines(n_channels, mask, wanted))
    shapes = [(n_channels, *picture.size) for picture in shown]
    ran = [
        draw(ways(over, shapes, runs, boxes, named)) for _ in range(draw(st.sampled_from([1, 2])))
    ]
    if scheduler is not None:
        ran = [replace(way, scheduler=scheduler) for way in ran]
    pool = draw(st.sampled_from(["mean", "pixels", None]))
    return Case(labels, shown, steps, pool, over, tuple(ran), given, chosen)


@st.composite
def stored(draw):
    """A case that layers can hold, in memory or in chunks of a file, run by the wrapper."""
    dtypes = tuple(dtype for dtype in DTYPES if dtype not in ("bool", "float16"))
    case = draw(cases(labels=("text",), dtypes=dtypes, own=False, sparrow=50, masked=50, named=0))
    flags = {name: draw(st.booleans()) for name in ("has_scales", "has_mask_layers", "resumes")}
    how = {"keeps_outside": draw(chance(60)), "chunks": draw(st.sampled_from([None, 5, 3]))}
    return replace(case, ways=case.ways[:1], store=Store(draw(chance(80)), **how, **flags))


@st.composite
def batched(draw):
    """A cohort in batches."""
    case = draw(cases(measured_behind, counts=(2, 3), masked=50, named=25))
    runs = st.sampled_from(["fit_transform", "fit", "json"])
    boxes = st.sampled_from(["list", "dict"])
    ways = tuple(replace(way, run=draw(runs), box=draw(boxes)) for way in case.ways)
    batches = tuple(draw(st.sampled_from(["May", "June"])) for _ in case.pictures)
    pool = draw(st.sampled_from(["mean", "pixels"]))
    return replace(case, ways=ways, batches=batches, pool=pool)
