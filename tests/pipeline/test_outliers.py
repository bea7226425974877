"""Images that are unlike the others, and the rule by which they are found."""

import numpy as np
import pytest
import xarray as xr

from pxprep import FittedPipeline, Pipeline, PxprepWarning
from pxprep.errors import ParameterError
from small_cohorts import cohort_of, without_signal

POOLS = ["mean", "pixels", None]

any_pool = pytest.mark.parametrize("pool", POOLS)


@pytest.fixture
def cohort(make_image):
    return cohort_of(make_image, n=4)


def like_one_another(make_image, n, dtype="float64"):
    """Images that differ a little, by a known factor for each image and channel."""
    base = make_image(dtype, (3, 15, 16), zeros=0.2)
    factors = np.random.default_rng(1).lognormal(0, 0.1, (n, 3))
    return {f"fov{i}": base * xr.DataArray(factors[i], dims="c") for i in range(n)}


@any_pool
@pytest.mark.parametrize("factor", [6.0, 1 / 6])
def test_planted_pair_is_found(pool, factor, make_image):
    cohort = like_one_another(make_image, 7)
    cohort["fov4"][{"c": 2}] *= factor
    fitted = Pipeline().quantile_norm(97).sum_mask(5, reference="input").fit(cohort, pool=pool)
    table = fitted.outliers()
    table = table[table.step == "quantile_norm"]
    assert table[["fov", "channel"]].values.tolist() == [["fov4", "CD20"]]
    quantiles = fitted.numbers.quantile_norm_quantile.sel(c="CD20")
    (row,) = table.itertuples()
    assert row.quantile == quantiles.sel(fov="fov4")
    assert row.median == np.median(quantiles)
    assert row.fold == pytest.approx(row.quantile / row.median, rel=1e-14)
    assert FittedPipeline.from_json(fitted.to_json()).outliers().equals(fitted.outliers())


def test_planted_image_is_found_by_its_sums(make_image):
    cohort = like_one_another(make_image, 5)
    cohort["fov3"] = cohort["fov3"] * 9
    table = Pipeline().sum_mask(50).fit(cohort).outliers()
    assert table[["step", "fov"]].values.tolist() == [["sum_mask", "fov3"]]
    assert table.channel.tolist() == [None]


def test_channel_without_signal_in_one_image_is_found(make_image):
    cohort = like_one_another(make_image, 5)
    cohort["fov1"] = without_signal(cohort["fov1"])
    cohort["fov2"][{"c": 0}] *= 30
    with pytest.warns(PxprepWarning, match="'CD3' of image 'fov1'"):
        table = Pipeline().quantile_norm(97).fit(cohort).outliers()
    pairs = table[["fov", "channel", "fold"]].values.tolist()
    assert pairs[0] == ["fov1", "CD3", 0]  # the farthest first
    assert [pair[:2] for pair in pairs[1:]] == [["fov2", "DAPI"]]
    assert np.isnan(table["quantile"][0])


def test_channel_without_signal_in_most_images_is_no_outlier(make_image):
    cohort = like_one_another(make_image, 5)
    for name in ("fov0", "fov1", "fov3"):
        cohort[name] = without_signal(cohort[name])
    with pytest.warns(PxprepWarning, match="'CD3'"):
        assert Pipeline().quantile_norm(97).fit(cohort).outliers().empty


def test_equal_images_have_no_outliers_but_one_other_is(make_image):
    image = make_image()
    cohort = dict.fromkeys("abcd", image)
    assert Pipeline.sparrow().fit(cohort).outliers().empty
    table = Pipeline().quantile_norm().fit({**cohort, "e": image * 2}).outliers()
    assert set(table.fov) == {"e"}
    assert len(table) == 3
    assert np.isinf(table.score).all()


def test_reasons_are_words_and_sums_have_no_channel(make_image):
    cohort = like_one_another(make_image, 7)
    cohort["fov1"] = without_signal(cohort["fov1"])
    cohort["fov2"][{"c": 0}] *= -1
    cohort["fov4"] = cohort["fov4"] * 50
    pipeline = Pipeline().quantile_norm(97).sum_mask(50, reference="input")
    with pytest.warns(PxprepWarning):
        table = pipeline.fit(cohort).outliers()
    found = {(row.step, row.fov, row.channel): row for row in table.itertuples()}
    assert found["quantile_norm", "fov1", "CD3"].reason == "no signal"
    other = found["quantile_norm", "fov2", "DAPI"]
    assert other.reason == f"{other.quantile:.3g} where the median is {other.median:.3g}"
    assert other.quantile < 0 < other.median
    bright = found["quantile_norm", "fov4", "CD3"]
    assert bright.reason == f"{bright.fold:.3g} times the median"
    assert 40 < bright.fold < 60
    # Whatever type pandas makes of a column of texts.
    assert found["sum_mask", "fov4", None].reason.endswith("times the median")


def test_a_reason_where_the_others_are_equal(make_image):
    image = make_image()
    table = Pipeline().quantile_norm().fit({**dict.fromkeys("abcd", image), "e": image * 2})
    assert set(table.outliers().reason) == {"2 times the median, no spread in the others"}


@pytest.mark.parametrize("n", [1, 2])
def test_few_images_have_no_outliers(n, make_image):
    cohort = like_one_another(make_image, n)
    cohort["fov0"] = cohort["fov0"] * 100
    table = Pipeline().quantile_norm().fit(cohort).outliers()
    columns = ["step", "fov", "channel", "quantile", "median", "fold", "score", "reason"]
    assert table.empty
    assert list(table.columns) == columns


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("score", "fold"), [(3.5, 1.5), (0, 1), (1, 3), (2, 1.1)])
def test_rule_of_outliers(seed, score, fold):
    rng = np.random.default_rng(seed)
    quantiles = rng.lognormal(3, 0.8, (9, 2))
    images = [xr.DataArray(row[:, None, None], dims=("c", "y", "x")) for row in quantiles]
    table = Pipeline().quantile_norm(50).fit(images).outliers(score, fold)
    expected = {}
    for channel, column in enumerate(quantiles.T):
        distance = np.abs(np.log(column) - np.median(np.log(column)))
        z = 0.6745 * distance / np.median(distance)
        for fov in range(9):
            ratio = column[fov] / np.median(column)
            if z[fov] > score and max(ratio, 1 / ratio) > fold:
                expected[fov, channel] = (ratio, z[fov])
    found = {(row.fov, row.channel): (row.fold, row.score) for row in table.itertuples()}
    assert found.keys() == expected.keys()
    for pair, values in found.items():
        assert values == pytest.approx(expected[pair], rel=1e-9)
    far = np.abs(np.log(table["fold"].to_numpy()))
    assert (np.diff(far) <= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": -1}, "score must be .*at least 0.*-1"),
        ({"score": "3"}, "score.*'3'"),
        ({"score": np.nan}, "score.*nan"),
        ({"fold": 0.5}, "fold must be .*at least 1.*0.5"),
        ({"fold": None}, "fold.*None"),
    ],
)
def test_bad_limits(arguments, message, cohort):
    fitted = Pipeline().quantile_norm().fit(cohort)
    with pytest.raises(ParameterError, match=message):
        fitted.outliers(**arguments)
