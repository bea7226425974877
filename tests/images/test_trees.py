"""Trees of images: what a method does to a tree is what it does to the same images in a mapping."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from grown_trees import (
    CUMULATIVE,
    LAYOUTS,
    assert_scales_agree,
    grown,
    leaves_of,
    nodes_of,
    pyramid,
    scales_at,
)
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Pipeline, ops
from pxprep.errors import ImageError
from pxprep.images.datatree import TREES

if not TREES:
    pytest.skip("no DataTree here", allow_module_level=True)
CHUNKS = {"c": 2, "y": 14}
# Marks the argument that is the cohort itself.
ITSELF = object()
POOLED = [
    ("quantile_norm", {"q": 97}),
    ("quantile_norm", {"q": {"CD3": 50, ...: 99}}),
    ("post_norm", {}),
    ("percentile_clip", {"low": 5, "high": {"CD3": 50, ...: 90}}),
    ("minmax", {}),
    ("sum_mask", {"q_sum": 30}),
    ("sum_mask", {"q_sum": 30, "reference": ITSELF, "zeros": "include"}),
]
STEPS = [
    ("blur", {"sigma": {"DAPI": 0, ...: 1.5}}),
    ("sum_mask", {"threshold": 90}),
    ("sum_norm", {}),
    ("clip", {"max": [20, 40, 60]}),
    ("arcsinh", {"cofactor": {"CD3": 1, ...: 5}}),
    ("log1p", {}),
    ("remove_hot_pixels", {"threshold": 4}),
    ("subtract_background", {"radius": {"DAPI": 0, ...: 2}}),
    ("subtract_background", {"constant": [20, 40, 60]}),
    ("divide", {"scale": xr.DataArray([2.0, 3.0, 7.0], dims="c")}),
    ("pixel_sum", {}),
    ("coarsen", {"factors": {"y": 2, "x": 2}}),
    ("rescale", {"factor": 2}),
]
CASES = [*STEPS, *POOLED, *((name, {**given, "pool": None}) for name, given in POOLED)]


# NumPy in all layouts, Dask in those that have all there is.
EVERY_LAYOUT = [*((layout, False) for layout in LAYOUTS), ("nested", True), ("mixed", True)]
both_kinds = pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "layout", "lazy"),
    [
        *((name, given, "nested", False) for name, given in CASES),
        *((*STEPS[0], layout, lazy) for layout, lazy in EVERY_LAYOUT),
        *(("sum_mask", {"q_sum": 30, "reference": ITSELF}, *kind) for kind in EVERY_LAYOUT),
    ],
)
def test_methods_give_each_image_what_a_mapping_gives(
    name, given, layout, lazy, tree_class, images, no_compute
):
    tree, mapping = grown(tree_class, layout, images, CHUNKS if lazy else None)

    def filled_in(cohort):
        return {key: cohort if value is ITSELF else value for key, value in given.items()}

    expected = getattr(ops, name)(mapping, **filled_in(mapping))
    with no_compute():
        result = getattr(tree.pxprep, name)(**filled_in(tree))
    assert type(result) is tree_class
    assert [node.path for node in result.subtree] == [node.path for node in tree.subtree]
    for path, scales in leaves_of(result, layout, lazy).items():
        own = {"scale": 0} if LAYOUTS[layout][path] else {}
        assert_same_bits(scales[0], expected[path].assign_attrs(own))
        assert_scales_agree(scales, CUMULATIVE if LAYOUTS[layout][path] else ())


@pytest.mark.parametrize(
    ("pool", "layout", "lazy"),
    [(None, "mixed", True), (None, "nested", False), ("mean", "multiscale", False)],
)
def test_quantile_is_that_of_a_mapping(pool, layout, lazy, tree_class, images, no_compute):
    tree, mapping = grown(tree_class, layout, images, CHUNKS if lazy else None)
    with no_compute():
        result = tree.pxprep.quantile(35, pool=pool)
    assert isinstance(result.data, da.Array) == lazy
    assert_same_bits(result, ops.quantile(mapping, 35, pool=pool))
    if pool is None:
        each = [oracle.quantile(plain(image), 35) for image in images]
        np.testing.assert_array_equal(result, each)
        assert result.fov.values.tolist() == list(LAYOUTS[layout])


@pytest.mark.parametrize(
    ("pool", "layout", "lazy"),
    [
        *(("mean", layout, lazy) for layout, lazy in EVERY_LAYOUT),
        ("pixels", "mixed", True),
        (None, "mixed", False),
    ],
)
def test_pipelines_give_what_they_give_for_a_mapping(
    pool, layout, lazy, tree_class, images, no_compute
):
    tree, mapping = grown(tree_class, layout, images, CHUNKS if lazy else None)
    pipeline = Pipeline.sparrow(q=97, sigma=1, q_sum=20, cap_max=0.9)
    fitted = pipeline.fit(mapping, pool=pool)
    assert tree.pxprep.fit(pipeline, pool=pool) == fitted
    assert pipeline.fit(tree, pool=pool) == fitted
    expected = fitted.transform(dict(zip(mapping, images, strict=True)))
    with no_compute():
        results = [
            tree.pxprep.preprocess(q=97, sigma=1, q_sum=20, cap_max=0.9, pool=pool),
            tree.pxprep.transform(fitted),
        ]
    for result in results:
        for path, scales in leaves_of(result, layout, lazy).items():
            assert_same_bits(scales[0].drop_attrs(), expected[path].drop_attrs())
            assert_scales_agree(scales, CUMULATIVE if LAYOUTS[layout][path] else ())


@pytest.mark.parametrize("scales", [1, 3])
def test_image_at_the_root_is_one_image(scales, tree_class, images):
    nodes = nodes_of("", pyramid(images[1]))
    tree = tree_class.from_dict({"/": nodes["/scale0"]} if scales == 1 else nodes)
    assert tree.pxprep.quantile(pool=None).dims == ("c",)
    fitted = Pipeline.sparrow().fit({"a": images[0], "b": images[1]}, pool=None)
    for result in (tree.pxprep.preprocess(), tree.pxprep.transform(fitted, fov="b")):
        finest = result["image"] if scales == 1 else result["scale0"]["image"]
        np.testing.assert_array_equal(finest, images[1].pxprep.preprocess())


def test_reference_must_have_the_same_images(tree_class, images):
    tree, _ = grown(tree_class, "flat", images)
    with pytest.raises(ImageError, match=r"reference.*'fov1'.*'slide/fov1'"):
        tree.pxprep.sum_mask(5, reference=grown(tree_class, "mixed", images)[0])


# --- multiscale images ----------------------------------------------------------------------------


@both_kinds
def test_multiscale_image_is_measured_at_its_finest_scale(lazy, tree_class, images):
    given = pyramid(images[0])
    if lazy:
        given = [s.chunk({"c": 2, "y": 5, "x": 4 + i}) for i, s in enumerate(given)]
    tree = tree_class.from_dict({**nodes_of("fov0", given), "fov1": images[1].to_dataset()})
    scales = scales_at(tree.pxprep.quantile_norm(97, pool=None), "fov0")
    assert [dict(scale.sizes) for scale in scales] == [
        {"c": 3, "y": 23, "x": 17},
        {"c": 3, "y": 11, "x": 8},
        {"c": 3, "y": 3, "x": 2},
    ]
    assert_agrees(scales[0].compute(), oracle.quantile_norm(images[0].values, 97))
    assert_scales_agree(scales)
    for number, (scale, like) in enumerate(zip(scales, given, strict=True)):
        assert scale.name == "image"
        assert scale.attrs == {"um_per_pixel": 0.5, "scale": number}
        assert scale.chunks == like.chunks
        for dim in "cyx":
            xr.testing.assert_identical(scale[dim], like[dim])


@pytest.mark.parametrize(
    ("shape", "factors", "cumulative"),
    [
        ((3, 24, 27), [{"y": 2, "x": 3}], [{"y": 2, "x": 3}]),
        ((3, 24, 27), [{"y": 1, "x": 3}, {"y": 4, "x": 1}], [{"x": 3}, {"y": 4, "x": 3}]),
        ((3, 5, 16, 17), [2, {"z": 2, "y": 2, "x": 2}], [2, {"z": 2, "y": 4, "x": 4}]),
        ((3, 5, 40), [4], [4]),  # 5 rows to 1: the factor is that of the columns
        ((3, 23, 17), [], []),
    ],
)
def test_factors_are_those_of_the_scales(shape, factors, cumulative, tree_class, make_image):
    scales = pyramid(make_image("float32", shape, nan=0.3), factors)
    tree = tree_class.from_dict(nodes_of("fov", scales))
    result = scales_at(tree.pxprep.clip(50), "fov")
    assert_agrees(result[0], oracle.clip(scales[0].values, 50))
    assert_scales_agree(result, cumulative)


def test_scales_are_ordered_by_number(tree_class, make_image):
    scales = pyramid(make_image("float32", (3, 23, 17)), [1] * 9 + [2, 3])
    order = [11, 2, 0, 10, *range(3, 10), 1]
    nodes = nodes_of("fov", scales)
    tree = tree_class.from_dict({f"fov/scale{i}": nodes[f"fov/scale{i}"] for i in order})
    result = tree.pxprep.sum_norm()["fov"]
    assert list(result.children) == [f"scale{i}" for i in order]
    ordered = [result[f"scale{i}"]["image"] for i in range(12)]
    assert_agrees(ordered[0], oracle.sum_norm(scales[0].values))
    assert_scales_agree(ordered, [1] * 9 + [2, 6])


def test_scales_may_have_another_order_of_channels(tree_class, images):
    first, *others = pyramid(images[0])
    tree = tree_class.from_dict(nodes_of("fov", [first, *(s.isel(c=[2, 0, 1]) for s in others)]))
    for result in (tree.pxprep.clip(30), tree.pxprep.preprocess(channels=["DAPI", "CD20"])):
        first, *others = scales_at(result, "fov")
        assert_scales_agree([first, *(scale.sel(c=first.c) for scale in others)])


def test_lists_and_mappings_may_hold_multiscale_images(tree_class, images):
    trees = [tree_class.from_dict(nodes_of("", pyramid(image))) for image in images]
    first, second, third = Pipeline.sparrow().fit_transform(images)
    listed = Pipeline.sparrow().fit_transform(trees)
    named = Pipeline.sparrow().fit_transform({"a": trees[0], "b": images[1], "c": trees[2]})
    assert_same_bits(named["b"], second)
    for tree, expected in zip(
        [*listed, named["a"], named["c"]], [first, second, third, first, third], strict=True
    ):
        np.testing.assert_array_equal(tree["scale0"]["image"], expected)
        assert_scales_agree([tree[f"scale{i}"]["image"] for i in range(3)])


# What spatialdata's own dependencies say of each other.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")
@pytest.mark.parametrize("shape", [(3, 512, 512), (3, 61, 83)])
def test_multiscale_image_of_spatialdata_stays_one(shape, no_compute):
    pytest.importorskip("spatialdata")
    from spatialdata.datasets import blobs
    from spatialdata.models import Image2DModel

    sdata = blobs(length=512)
    element = sdata["blobs_multiscale_image"]
    if shape[1] != 512:
        values = np.random.default_rng(0).gamma(2, 20, shape)
        element = Image2DModel.parse(values, dims="cyx", c_coords=list("abd"), scale_factors=[2, 2])
    with no_compute():
        result = element.pxprep.preprocess(sigma=1)
    Image2DModel().validate(result)
    sdata.images["clean"] = result
    finest = element["scale0"]["image"].compute()
    scales = [sdata["clean"][name]["image"] for name in element.children]
    np.testing.assert_array_equal(scales[0], finest.pxprep.preprocess(sigma=1))
    assert_scales_agree(scales, [2, 4][: len(scales) - 1])
    for scale, name in zip(scales, element.children, strict=True):
        given = element[name]["image"]
        assert scale.attrs == given.attrs
        assert scale.chunks == given.chunks
        assert set(scale.coords) == set(given.coords)


@both_kinds
def test_channels_are_matched_by_label_and_keep_their_order(lazy, tree_class, images):
    orders = [[1, 0, 2], [2, 0, 1], [0, 1, 2]]
    shuffled = [image.isel(c=order) for image, order in zip(images, orders, strict=True)]
    tree, mapping = grown(tree_class, "mixed", shuffled, CHUNKS if lazy else None)
    fitted = Pipeline.sparrow().fit(dict(zip(mapping, images, strict=True)))
    expected = fitted.transform(shuffled)
    for result in (tree.pxprep.preprocess(), tree.pxprep.transform(fitted)):
        leaves = leaves_of(result, "mixed", lazy)
        for scales, image, order in zip(leaves.values(), expected, orders, strict=True):
            labels = [scale.c.values.tolist() for scale in scales]
            assert labels == [images[0].c.values[order].tolist()] * len(scales)
            np.testing.assert_array_equal(scales[0], image.sel(c=labels[0]))
            assert_scales_agree(scales, CUMULATIVE if len(scales) > 1 else ())
