"""Channels that a step drops: neither in the result, nor in what later steps measure and sum."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import oracle
from oracle import assert_agrees, assert_same_bits
from pxprep import Cohort, FittedPipeline, Pipeline, ops
from pxprep.engine.operations import PickChannels
from pxprep.engine.programs import AddChannels, Program
from pxprep.errors import ChannelError, ParameterError
from pxprep.images.image_set import ImageSet
from pxprep.steps import Blur, QuantileNorm, Step, SubtractChannels

LABELS = ["CD3", "AF", "CD8", "DAPI", "blank"]
LEFT = ["CD3", "CD8", "DAPI"]
PAIRS = {"CD3": "AF", "DAPI": "blank", "CD8": "AF"}
PLACES = {0: 1, 3: 4, 2: 1}

needs_trees = pytest.mark.skipif(not hasattr(xr, "DataTree"), reason="xarray has no DataTree")


@pytest.fixture
def image(make_image):
    return make_image("uint16", (5, 31, 26)).assign_coords(c=LABELS).rename("image")


def held(image):
    """An image in memory, in chunks, and in chunks with other dims first."""
    lazy = image.chunk({"c": (2, 1, 2), "y": (1, 20, 10), "x": 9})
    return [image, lazy, image.transpose("y", "c", "x"), lazy.transpose("x", ..., "c")]


def whole_pipeline():
    """Steps of all kinds behind the one that drops: measuring, blurring, summing."""
    return (
        Pipeline()
        .quantile_norm(98)
        .subtract_channels(PAIRS, 0.3, drop=True)
        .blur({"CD8": 0, ...: 1})
        .sum_mask(20, reference="subtract_channels")
        .sum_norm()
        .post_norm([99, 90, 95])
    )


def by_the_oracle(image):
    """What `whole_pipeline` does to an array, the blur by pxprep itself."""
    norm = oracle.quantile_norm(image, 98)
    left = oracle.subtract_channels(norm, PLACES, 0.3, drop=True)
    dims = ("c", "y", "x")
    blurred = ops.blur(xr.DataArray(left, dims=dims), [1, 0, 1]).values
    masked = oracle.sum_mask(blurred, 20, reference=left)
    return oracle.post_norm(oracle.sum_norm(masked), [99, 90, 95])


def test_dropped_channels_are_gone_and_the_others_are_the_oracle(make_image):
    for dtype in ("uint8", "int16", "float16", "float32", "float64"):
        nan = 0.1 if np.dtype(dtype).kind == "f" else 0
        image = make_image(dtype, (5, 2, 11, 7), nan=nan).assign_coords(c=LABELS)
        kept = ops.subtract_channels(image, PAIRS, 0.3)
        made = image.pxprep.subtract_channels(PAIRS, 0.3, drop=True)
        assert_agrees(made, oracle.subtract_channels(image.values, PLACES, 0.3, drop=True))
        assert made.c.values.tolist() == LEFT
        assert_same_bits(made, kept.sel(c=LEFT))
        lazy = image.chunk({"c": 2, "y": 5}).pxprep.subtract_channels(PAIRS, 0.3, drop=True)
        assert lazy.chunksizes["c"] == (1, 2)
        assert_same_bits(lazy.compute(), made)


def test_later_steps_neither_measure_nor_sum_dropped_channels(image):
    pipeline, expected = whole_pipeline(), by_the_oracle(image.values)
    for given in held(image):
        for made in (pipeline.fit_transform(given), pipeline.fit(given).transform(image)):
            assert made.c.values.tolist() == LEFT
            np.testing.assert_array_equal(made.transpose("c", "y", "x").values, expected)


def test_functions_one_after_the_other_are_the_pipeline(image):
    expected = whole_pipeline().fit_transform(image)
    for given in held(image)[:2]:
        begun = given.pxprep.quantile_norm(98).pxprep.subtract_channels(PAIRS, 0.3, drop=True)
        made = begun.pxprep.blur([1, 0, 1]).pxprep.sum_mask(20, reference=begun)
        made = made.pxprep.sum_norm().pxprep.post_norm([99, 90, 95])
        assert_same_bits(made.compute(), expected)


def test_numbers_of_each_step_are_of_the_channels_that_it_sees(image):
    fovs = {"a": image, "b": image * 2, "d": image // 3}
    fitted = whole_pipeline().fit(fovs)
    assert fitted.channels == tuple(LABELS)
    assert fitted.remaining == tuple(LEFT)
    assert fitted.seen_by["subtract_channels"] == tuple(LABELS)
    assert fitted.seen_by["blur"] == fitted.seen_by["post_norm"] == tuple(LEFT)
    assert fitted.measured["quantile_norm"].c.values.tolist() == LABELS
    post = fitted.measured["post_norm"]
    assert post.c.values.tolist() == LEFT
    assert post["counted"].dtype == np.int64
    together = fitted.numbers
    assert together.c.values.tolist() == LABELS
    for name in ("scale", "counted"):
        numbers = together[f"post_norm_{name}"]
        assert np.isnan(numbers.sel(c=["AF", "blank"])).all()
        np.testing.assert_array_equal(numbers.sel(c=LEFT), post[name])


def test_fitted_pipelines_are_kept_and_shown(image):
    fitted = whole_pipeline().fit([image, image * 2])
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    assert again.remaining == fitted.remaining
    assert_same_bits(again.transform(image), fitted.transform(image))
    lines = repr(fitted).splitlines()
    assert "Dropped channels (2): AF, blank" in lines
    assert "5 channels" in lines[0]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("    ")}
    assert [len(rows[label]) for label in LABELS] == [2, 1, 2, 2, 1]


def test_numbers_of_a_dropped_channel_in_json_are_refused(image):
    fitted = Pipeline().subtract_channels({"CD3": "AF"}, drop=True).minmax().fit(image)
    whole = Pipeline().subtract_channels({"CD3": "AF"}).minmax().fit(image)
    text = whole.to_json().replace('"drop": false', '"drop": true')
    assert text != whole.to_json()
    with pytest.raises(ParameterError, match=r"minmax.*c"):
        FittedPipeline.from_json(text)
    assert FittedPipeline.from_json(fitted.to_json()) == fitted


def test_unlabeled_channels_keep_their_positions(image):
    plain = image.drop_vars("c")
    pipeline = (
        Pipeline().quantile_norm(98).subtract_channels(PLACES, 0.3, drop=True).blur({2: 0, ...: 1})
    )
    pipeline = pipeline.post_norm([99, 90, 95])
    fitted = pipeline.fit(plain)
    assert fitted.channels is None
    assert fitted.remaining == (0, 2, 3)
    made = fitted.transform(plain)
    assert made.c.values.tolist() == [0, 2, 3]
    named = {"CD8": 0, ...: 1}
    labeled = Pipeline().quantile_norm(98).subtract_channels(PAIRS, 0.3, drop=True).blur(named)
    expected = labeled.post_norm([99, 90, 95]).fit_transform(image)
    np.testing.assert_array_equal(made.values, expected.values)
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    assert fitted.numbers["post_norm_scale"].c.values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("labeled", [True, False])
def test_more_images_join(image, labeled):
    pairs = PAIRS if labeled else PLACES
    own = image if labeled else image.drop_vars("c")
    fovs = {"a": own, "b": own * 2, "d": own // 3}
    last = {"d": fovs["d"]}
    first = {"a": fovs["a"], "b": fovs["b"]}
    chains = (
        Pipeline().subtract_channels(pairs, 0.3, drop=True).quantile_norm(98),
        Pipeline().subtract_channels(pairs, 0.3, drop=True).sum_mask(5).threshold(value=[1, 2, 3]),
    )
    for pipeline in chains:
        assert pipeline.fit(first).update(last) == pipeline.fit(fovs)
    alone = chains[0].minmax()
    assert alone.fit(first, pool=None).update(last) == alone.fit(fovs, pool=None)


@pytest.mark.filterwarnings("ignore::pxprep.PxprepWarning")
def test_pools_masks_and_batches_see_what_is_left(image):
    cells = xr.DataArray(np.arange(31 * 26).reshape(31, 26) % 3 > 0, dims=("y", "x"))
    fovs = {"a": image, "b": image * 2, "d": image.isel(c=[4, 3, 2, 1, 0])}
    apart = Pipeline().percentile_clip(2, 98).zscore().sum_mask(5, reference="percentile_clip")
    left = {name: ops.subtract_channels(one, PAIRS).sel(c=LEFT) for name, one in fovs.items()}
    dropping = Pipeline([SubtractChannels(PAIRS, drop=True), *apart.steps])
    for given in (
        {"pool": "mean"},
        {"pool": None},
        {"pool": "pixels", "where": cells},
        {"by": {"a": "May", "b": "June", "d": "May"}},
    ):
        fitted, expected = dropping.fit(fovs, **given), apart.fit(left, **given)
        for name in ("percentile_clip", "zscore", "sum_mask"):
            assert fitted.measured[name].identical(expected.measured[name])


def test_what_was_said_of_a_channel_is_known_of_it_behind_the_drop(image):
    below = image.astype(np.float32)
    below.loc["DAPI"] -= 5
    pipeline = Pipeline().quantile_norm(98).subtract_channels({"CD3": "AF"}, drop=True)
    for given in (below, below.chunk({"y": 9})):
        with pytest.warns(match="negative") as caught:
            pipeline.quantile_norm(98).fit(given)
        assert [str(one.message).split(":")[0] for one in caught] == ["quantile_norm"]


def test_outliers_name_the_channels_that_a_step_sees(image):
    fovs = {number: image * factor for number, factor in enumerate((10, 11, 12, 10))}
    fovs[2] = fovs[2].copy()
    fovs[2].loc["DAPI"] = 100 * fovs[2].sel(c="DAPI")
    pipeline = Pipeline().subtract_channels({"CD3": "AF", "CD8": "AF"}, drop=True).quantile_norm(99)
    assert pipeline.fit(fovs).outliers()[["fov", "channel"]].values.tolist() == [[2, "DAPI"]]


@needs_trees
def test_trees_datasets_and_cohorts_lose_the_channels_in_their_own_order(image):
    turned = (image * 2).isel(c=[4, 3, 2, 1, 0])
    expected = {"a": image, "b": turned}
    expected = {
        name: ops.subtract_channels(one, PAIRS, 0.3).sel(c=[c for c in one.c.values if c in LEFT])
        for name, one in expected.items()
    }
    tree = xr.DataTree.from_dict(
        {
            "a/scale0": xr.Dataset({"image": image}),
            "a/scale1": xr.Dataset({"image": image.coarsen(y=2, x=2, boundary="trim").mean()}),
            "b": xr.Dataset({"image": turned, "gain": ("c", [5, 4, 3, 2, 1])}),
        }
    )
    made = tree.pxprep.subtract_channels(PAIRS, 0.3, drop=True)
    assert_same_bits(made["a/scale0/image"], expected["a"])
    assert_same_bits(made["b/image"], expected["b"])
    assert made["a/scale1/image"].c.values.tolist() == LEFT
    assert made["b/gain"].values.tolist() == [4, 3, 1]
    dataset = xr.Dataset({"image": image, "gain": ("c", [1, 2, 3, 4, 5])})
    made = ops.subtract_channels(dataset, PAIRS, 0.3, drop=True)
    assert_same_bits(made["image"], expected["a"])
    assert made["gain"].values.tolist() == [1, 3, 4]
    cohort = Cohort({"a": image, "b": turned}).subtract_channels(PAIRS, 0.3, drop=True)
    assert cohort.channels == tuple(LEFT)
    assert_same_bits(cohort.sum_norm()["b"], ops.sum_norm(expected["b"].sel(c=LEFT)))
    inherited = xr.DataTree.from_dict(
        {"/": xr.Dataset(coords={"c": LABELS}), "a": xr.Dataset({"image": image.drop_vars("c")})}
    )
    made = inherited.pxprep.subtract_channels(PAIRS, 0.3, drop=True)
    assert made.c.values.tolist() == LEFT
    assert_same_bits(made["a/image"], expected["a"])


@needs_trees
def test_chosen_channels_may_be_dropped_too(image):
    tree = xr.DataTree.from_dict({"a": xr.Dataset({"image": image})})
    chosen = ["DAPI", "AF", "CD3"]
    fitted = Pipeline().subtract_channels({"CD3": "AF"}, drop=True).fit(image.sel(c=chosen))
    assert fitted.transform(image.sel(c=chosen)).c.values.tolist() == ["DAPI", "CD3"]
    with pytest.raises(ChannelError, match="unknown 'CD8', 'blank'"):
        fitted.transform(tree)
    cohort = ImageSet.of(tree).with_channels(chosen).keeping_channels(("DAPI", "CD3"))
    assert cohort.as_given()["a/image"].c.values.tolist() == ["DAPI", "CD3"]


REFUSED = {
    "named later": (
        lambda p: p.blur({"AF": 1, ...: 2}),
        ChannelError,
        "step 'blur': sigma: no channel 'AF'.*before it step 'subtract_channels' drops 'AF', "
        "'blank': put 'blur' before that, or leave",
    ),
    "one for each that there was": (
        lambda p: p.blur([1, 1, 1, 1, 1]),
        ParameterError,
        "step 'blur': sigma must have one value per channel.*3 channels, got 5.*drops 'AF'",
    ),
    "subtracted again": (
        lambda p: p.subtract_channels({"DAPI": "AF"}, name="again"),
        ChannelError,
        "step 'again': backgrounds: no channel 'AF'.*step 'subtract_channels' drops",
    ),
    "never there": (
        lambda p: p.blur({"CD4": 1, ...: 2}),
        ChannelError,
        r"^sigma: no channel 'CD4' .*the image has 'CD3', 'CD8', 'DAPI'$",
    ),
    "measured with more channels": (
        lambda p: p.sum_mask(5, reference="input"),
        ParameterError,
        "reference of step 'sum_mask' must have the channels that the step sees, got 'input', "
        "after which step 'subtract_channels' drops 'AF', 'blank': name 'subtract_channels'",
    ),
    "measured before two steps": (
        lambda p: p.subtract_channels({"CD8": "CD3"}, drop=True).sum_mask(5, reference="input"),
        ParameterError,
        "got 'input', after which step 'subtract_channels' drops 'AF', 'blank' and step "
        "'subtract_channels_2' drops 'CD3': name 'subtract_channels_2' or a later step",
    ),
    "by two steps": (
        lambda p: p.subtract_channels({"CD3": "CD8"}, drop=True).clip({"AF": 1, "CD8": 2, ...: 3}),
        ChannelError,
        "step 'subtract_channels' drops 'AF', 'blank' and step 'subtract_channels_2' drops 'CD8'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_later_steps_that_need_what_is_dropped_are_refused(name, image, no_compute):
    further, kind, words = REFUSED[name]
    pipeline = further(Pipeline().subtract_channels(PAIRS, drop=True))
    for function in (pipeline.fit, pipeline.fit_transform):
        with no_compute(), pytest.raises(kind, match=words):
            function(image.chunk())


def test_a_channel_must_be_left(image, no_compute):
    pair = image.sel(c=["CD3", "AF"]).chunk()
    backgrounds = {"CD3": "AF", "AF": "CD3"}
    for function in (
        lambda: ops.subtract_channels(pair, backgrounds, drop=True),
        lambda: Pipeline().subtract_channels(backgrounds, drop=True).fit(pair),
    ):
        with no_compute(), pytest.raises(ChannelError, match="drop=True must leave a channel"):
            function()
    with pytest.raises(ParameterError, match="drop must be True or False, got 1"):
        SubtractChannels({"CD3": "AF"}, drop=1)


@dataclass(frozen=True)
class WithoutFirst(Step):
    """A step of the user's own: doubles, and leaves out the first channels."""

    kind: ClassVar[str] = "without_first"
    n: int = 1

    def kept_channels(self, labels):
        """All but the first."""
        return labels[self.n :]

    def measure(self, cohort):
        """The largest value of each channel."""
        return {"top": max((image.max(["y", "x"]) for image in cohort), key=float_sum)}

    def apply(self, image, numbers):
        """Doubled, and what was measured added."""
        return (image * 2.0 + numbers["top"]).astype(np.float64)


def float_sum(values):
    return float(values.sum())


def test_own_steps_may_drop_channels(image):
    pipeline = Pipeline([WithoutFirst(2), QuantileNorm(90), Blur({"blank": 0, ...: 1})])
    expected = (2.0 * image + image.max(["y", "x"])).isel(c=[2, 3, 4])
    right = ops.blur(ops.quantile_norm(expected.astype(np.float64), 90), [1, 1, 0])
    for given in (image, image.chunk({"c": 2, "y": 9})):
        fitted = pipeline.fit(given)
        assert fitted.remaining == ("CD8", "DAPI", "blank")
        np.testing.assert_array_equal(fitted.transform(given).values, right.values)
        np.testing.assert_array_equal(pipeline.fit_transform(given).values, right.values)
    with pytest.raises(ChannelError, match="without_first: no channel is left"):
        Pipeline([WithoutFirst(5)]).fit(image)


def test_chunks_of_channels_follow_a_program():
    runs = {(): (2, 1, 3), (0, 2, 5): (1, 1, 1), (3, 4): (2,), (0, 1, 2, 3, 4, 5): (2, 1, 3)}
    for places, expected in runs.items():
        operations = (PickChannels(places),) if places else ()
        program = Program(operations, np.dtype(np.float32), 4, 4)
        assert program.channels_per_chunk((2, 1, 3)) == expected
        assert program.out_channels(6) == sum(expected)
    both = Program((PickChannels((0, 2)), AddChannels()), np.dtype(np.float32), 4, 4)
    assert both.channels_per_chunk((2, 1, 3)) == (1,)
