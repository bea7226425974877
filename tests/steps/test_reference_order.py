"""The reference order of steps, `preprocess`, against the oracle and step by step."""

import numpy as np
import pytest

import oracle
from checked_steps import only_warning
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Pipeline, PxprepWarning, ops


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 5, "x": 6}], ids=["eager", "lazy"])
def test_a_chain_warns_once(chunks, make_image):
    image = make_image(shape=(4, 23, 17))
    image[0, 3, 3:5] = -1
    image[1] = 0
    image[2, 7, 7] = np.inf
    image = image if chunks is None else image.chunk(chunks)
    with pytest.warns(PxprepWarning) as record:
        result = image.pxprep.preprocess(sigma=1).compute()
    assert only_warning(record).startswith("quantile_norm: ")
    assert (result.isel(c=1).isnull() | (result.isel(c=1) == 0)).all()
    assert (result.isel(c=3) > 0).any()


ORDERS = {
    "default": {},
    "no blur": {"sigma": None},
    "no sum_norm": {"norm_sum": False},
    "no mask": {"q_sum": None},
    "no quantile_norm": {"q": None},
    "no post_norm": {"q_post": None, "cap_max": 0.4},
    "per channel": {"q": (90, 99, 99.9), "q_post": (99, 100, 98), "sigma": (0, 1, 3)},
    "capped": {"q_sum": 40, "cap_max": (1, 0.5, 0.9)},
}


@pytest.mark.parametrize("parameters", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("dtype", "shape"), [("uint16", (3, 2, 19, 23)), ("float32", (3, 41, 37))])
def test_the_reference_order(parameters, shape, dtype, make_image):
    image = make_image(dtype, shape, zeros=0.3, nan=0 if dtype == "uint16" else 0.02)
    array = plain(image)
    result = image.pxprep.preprocess(**parameters)

    def blur(values, sigma):
        return plain(ops.blur(image.copy(data=values), sigma))

    assert_agrees(result, oracle.preprocess(array, blur=blur, **parameters))
    assert_agrees(result * 1, oracle.preprocess(array, **parameters), exact=False)
    if dtype == "float32":
        lazy = image.chunk({"c": 2, "y": 14}).pxprep.preprocess(**parameters)
        assert_same_bits(lazy, result)


def test_the_reference_order_of_pixie(make_image):
    image = make_image(zeros=0.8)
    result = Pipeline.pixie(q_sum=60, sigma=None).fit_transform(image)
    expected = oracle.preprocess(plain(image), q_sum=60, sigma=None, zeros="include")
    assert_agrees(result, expected)
    sparrow = image.pxprep.preprocess(q_sum=60, sigma=None)
    assert int(result.count()) > int(sparrow.count())


def test_preprocess_selects_channels(make_image):
    image = make_image(shape=(4, 23, 17))
    result = image.pxprep.preprocess(channels=["CD20", "DAPI"])
    assert result.c.values.tolist() == ["CD20", "DAPI"]
    assert_same_bits(result, image.sel(c=["CD20", "DAPI"]).pxprep.preprocess())
    unlabeled = image.drop_vars("c").pxprep.preprocess(channels=[2, 0])
    np.testing.assert_array_equal(unlabeled, result)


def test_steps_by_hand_are_the_reference_order(make_image):
    image = make_image("uint16", chunks={"y": 10})
    normed = image.pxprep.quantile_norm(98)
    by_hand = (
        normed.pxprep.blur(1.5)
        .pxprep.sum_mask(10, reference=normed)
        .pxprep.sum_norm()
        .pxprep.post_norm(99)
        .pxprep.clip(1)
    )
    at_once = image.pxprep.preprocess(q=98, q_sum=10, q_post=99, sigma=1.5, cap_max=1)
    assert_same_bits(by_hand, at_once)
