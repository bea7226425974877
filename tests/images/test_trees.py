"""Trees of images: what a method does to a tree is what it does to the same images in a mapping."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from oracle import assert_agrees, assert_same_bits, plain
from pxprep import Cohort, Pipeline, PxprepError, ops
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.images.datatree import TREES, own_dataset

if not TREES:
    pytest.skip("no DataTree here", allow_module_level=True)

# Which nodes hold an image, and whether it is a multiscale one.
LAYOUTS = {
    "flat": {"fov0": False, "fov1": False, "fov2": False},
    "nested": {"slide1/fov0": False, "slide1/fov1": False, "slide2/deep/fov0": False},
    "multiscale": {"fov0": True, "fov1": True, "fov2": True},
    "mixed": {"fov0": True, "slide/fov1": False, "slide/fov2": True},
}
# Of each scale relative to the one before, and to the finest.
FACTORS = (2, 3)
CUMULATIVE = (2, 6)
CHUNKS = {"c": 2, "y": 14}
# Marks the argument that is the cohort itself.
ITSELF = object()
POOLS = ["mean", "pixels", None]
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
]
CASES = [*STEPS, *((name, {**given, "pool": pool}) for name, given in POOLED for pool in POOLS)]


@pytest.fixture(params=list(TREES), ids=lambda cls: cls.__module__.split(".")[0])
def tree_class(request):
    return request.param


@pytest.fixture
def inheriting():
    """The kind of tree whose nodes inherit coordinates."""
    if not hasattr(xr, "DataTree"):
        pytest.skip("xarray has no DataTree")
    return xr.DataTree


@pytest.fixture
def images(make_image):
    """Three images of other types, sizes and orders of dims, with coordinates, read-only."""
    made = [
        make_image("uint16", (3, 23, 17), seed=0),
        make_image("float32", (3, 25, 19), nan=0.1, seed=1),
        make_image("float64", (3, 31, 22), seed=2).transpose("x", "c", "y"),
    ]
    for image in made:
        image.values.flags.writeable = False
    return [
        image.rename("image").assign_coords(
            {dim: np.arange(image.sizes[dim]) + 0.5 for dim in "yx"}
        )
        for image in made
    ]


def pyramid(image, factors=FACTORS):
    """The image and coarser scales, of which only the sizes are right; with attrs of their own."""
    scales = [image.assign_attrs(scale=0)]
    for number, factor in enumerate(factors, start=1):
        by_dim = factor if isinstance(factor, dict) else {"y": factor, "x": factor}
        kept = {dim: slice(scales[-1].sizes[dim] // by) for dim, by in by_dim.items()}
        scales.append((scales[-1].isel(kept) + 1).assign_attrs(image.attrs, scale=number))
    return scales


def nodes_of(path, scales):
    """What to call `from_dict` with for a multiscale image."""
    return {
        f"{path}/scale{number}": scale.to_dataset(name="image")
        for number, scale in enumerate(scales)
    }


def grown(tree_class, layout, images, chunks=None):
    """A tree with `images`, and the images by the names that they have in it."""
    mapping = dict(zip(LAYOUTS[layout], images, strict=True))
    nodes = {}
    for path, image in mapping.items():
        scales = pyramid(image) if LAYOUTS[layout][path] else [image]
        scales = scales if chunks is None else [scale.chunk(chunks) for scale in scales]
        one = {path: scales[0].to_dataset(name="image")}
        nodes |= nodes_of(path, scales) if LAYOUTS[layout][path] else one
    return tree_class.from_dict(nodes, name="cohort"), mapping


def scales_at(tree, path):
    node = tree[path]
    names = [name for name in node.children if name.startswith("scale")]
    return [node[name]["image"] for name in names] or [node["image"]]


def leaves_of(tree, layout, lazy):
    """The computed scales of each image, after a look at what they were."""
    leaves = {path: scales_at(tree, path) for path in LAYOUTS[layout]}
    kinds = {type(scale.data) for scales in leaves.values() for scale in scales}
    assert kinds == {da.Array if lazy else np.ndarray}
    return dask.compute(leaves)[0]


def assert_scales_agree(scales, factors=CUMULATIVE):
    """Each scale is what its factors make of the first."""
    first, *others = dask.compute(*scales)
    for scale, factor in zip(others, factors, strict=True):
        by_dim = factor if isinstance(factor, dict) else {"y": factor, "x": factor}
        finest, made = (one if "c" in one.dims else one.expand_dims("c") for one in (first, scale))
        expected = oracle.coarsen(plain(finest), by_dim)
        assert_agrees(made, expected, exact=scale.dtype == np.float32)


# NumPy in all layouts, Dask in those that have all there is.
any_layout = pytest.mark.parametrize(
    ("layout", "lazy"),
    [*((layout, False) for layout in LAYOUTS), ("nested", True), ("mixed", True)],
)
both_kinds = pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
any_pool = pytest.mark.parametrize("pool", POOLS)


# --- methods --------------------------------------------------------------------------------------


@any_layout
@pytest.mark.parametrize(("name", "given"), CASES)
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


@any_layout
@any_pool
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


@any_layout
@any_pool
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


# --- what is kept ---------------------------------------------------------------------------------


@pytest.fixture
def furnished(tree_class, images):
    """A tree with much besides its images."""
    image = images[0].assign_coords(marker=("c", ["x", "y", "z"]))
    whole = image.to_dataset(name="image").assign(
        cells=(("y", "x"), np.arange(23 * 17).reshape(23, 17), {"kind": "labels"}),
        table=("c", [1.0, 2.0, 3.0]),
        pairs=(("c", "other"), np.ones((3, 5))),
        exposure=0.25,
    )
    scales = pyramid(image)
    nodes = {
        "/": xr.Dataset({"batch": 7}, attrs={"study": "s"}),
        "fov0": whole.assign_attrs(stage="left"),
        "fov0/notes": xr.Dataset({"text": ("line", ["a", "b"])}, attrs={"by": "me"}),
        "group": xr.Dataset(attrs={"empty": True}),
        "group/fov1/scale0": scales[0].to_dataset().assign(table=("c", [4, 5, 6])),
        "group/fov1/scale1": scales[1].to_dataset().assign(half=("y", np.arange(11))),
        "group/fov1/scale2": scales[2].to_dataset(),
        "group/fov1/labels/scale0": xr.Dataset({"image": (("y", "x"), np.ones((23, 17)))}),
        "later": xr.Dataset({"c": ("c", ["p", "q"])}),
    }
    return tree_class.from_dict(nodes, name="study")


HOLDING = ["/fov0", "/group/fov1/scale0", "/group/fov1/scale1", "/group/fov1/scale2"]


@pytest.mark.parametrize("method", ["quantile_norm", "blur", "sum_norm", "preprocess", "pixel_sum"])
def test_all_but_the_images_is_kept(method, furnished):
    before = furnished.copy(deep=True)
    result = getattr(furnished.pxprep, method)()
    assert result.name == furnished.name
    given, made = (
        {node.path: own_dataset(node) for node in tree.subtree} for tree in (furnished, result)
    )
    assert list(made) == list(given)
    for path, dataset in given.items():
        if path in HOLDING:
            assert not made[path]["image"].equals(dataset["image"])
            assert made[path]["image"].attrs == dataset["image"].attrs
            assert set(made[path]) == set(dataset)
            xr.testing.assert_identical(made[path].drop_vars("image"), dataset.drop_vars("image"))
        else:
            xr.testing.assert_identical(made[path], dataset)
    for path in HOLDING:
        result[path]["image"].values[...] = -1
    assert furnished.identical(before)


@pytest.mark.parametrize("channels", [["CD20", "DAPI"], ["CD3"], ["CD20", "CD3", "DAPI"]])
def test_chosen_channels_come_in_their_order(channels, furnished, images):
    result = furnished.pxprep.preprocess(channels=channels)
    expected = Pipeline.sparrow().fit_transform([images[0].sel(c=channels)] * 2)[0]
    for path in HOLDING:
        made, given = own_dataset(result[path]), own_dataset(furnished[path])
        assert made["image"].c.values.tolist() == channels
        rest = given.drop_vars("image").sel(c=channels)
        xr.testing.assert_identical(made.drop_vars("image"), rest)
    for path in HOLDING[:2]:
        np.testing.assert_array_equal(result[path]["image"], expected)


def inherited(cls, images, **more):
    """A tree whose images inherit the labels of their channels from the root."""
    named = {
        f"slide/fov{i}": image.drop_vars(["c", "y", "x"]).to_dataset(name="image")
        for i, image in enumerate(images)
    }
    return cls.from_dict({"/": xr.Dataset(coords={"c": images[0].c}), **named, **more})


@pytest.mark.parametrize("channels", [["CD20", "DAPI"], ["DAPI", "CD3", "CD20"]])
def test_inherited_labels_stay_where_they_are(channels, inheriting, images):
    tree = inherited(inheriting, images)
    result = tree.pxprep.preprocess(q={"CD20": 50, ...: 99}, channels=channels)
    chosen = [image.sel(c=channels) for image in images]
    expected = Pipeline.sparrow(q={"CD20": 50, ...: 99}).fit_transform(chosen)
    for i, image in enumerate(expected):
        node = result[f"slide/fov{i}"]
        np.testing.assert_array_equal(node["image"], image)
        assert node["image"].c.values.tolist() == channels
        assert "c" not in own_dataset(node).coords
    assert result.c.values.tolist() == channels


def test_inherited_labels_are_chosen_from_beside_other_nodes(inheriting, images):
    """A node without an image inherits them, too."""
    table = xr.Dataset({"gain": ("c", [1.0, 2.0, 3.0])})
    tree = inherited(inheriting, images, **{"slide/meta": table})
    result = tree.pxprep.preprocess(channels=["CD20", "DAPI"])
    assert result["slide/fov0"]["image"].c.values.tolist() == ["CD20", "DAPI"]
    assert result["slide/meta"]["gain"].sel(c="CD20") == 3


def test_part_of_a_tree_keeps_what_it_inherits(inheriting, images):
    tree = inherited(inheriting, images)
    expected = ops.quantile_norm(images[0], {"CD3": 50, ...: 99})
    for node, path in ((tree["slide/fov0"], "image"), (tree["slide"], "fov0/image")):
        image = node.pxprep.quantile_norm({"CD3": 50, ...: 99}, pool=None)[path]
        np.testing.assert_array_equal(image, expected)
        assert "c" in image.coords


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


# --- which variable is the image ------------------------------------------------------------------


def test_image_names_the_variable(tree_class, images):
    image = images[1]
    dataset = xr.Dataset({"raw": image, "blurred": image.pxprep.blur(2)})
    tree = tree_class.from_dict({"a/fov0": dataset, "fov1": dataset[["raw"]]})
    result = Cohort(tree, variable="raw").quantile_norm().as_given()
    for path in ("a/fov0", "fov1"):
        np.testing.assert_array_equal(result[path]["raw"], image.pxprep.quantile_norm())
    xr.testing.assert_identical(result["a/fov0"]["blurred"], tree["a/fov0"]["blurred"])
    # Nodes that lack the variable hold no image.
    result = Cohort(tree, variable="blurred").sum_norm().as_given()
    xr.testing.assert_identical(own_dataset(result["fov1"]), own_dataset(tree["fov1"]))
    fitted = tree.pxprep.fit(Pipeline.sparrow(), variable="raw")
    assert set(fitted.fovs) == {"a/fov0", "fov1"}
    transformed = tree.pxprep.transform(fitted, variable="raw")
    assert transformed.identical(tree.pxprep.preprocess(variable="raw"))


def test_two_images_at_a_node_are_ambiguous(tree_class, images):
    dataset = xr.Dataset({"raw": images[1], "blurred": images[1].pxprep.blur(2), "n": 3})
    for nodes, path in (
        ({"a/fov0": dataset}, "a/fov0"),
        ({"a/scale0": dataset}, "a/scale0"),
        ({"/": dataset}, "/"),
    ):
        tree = tree_class.from_dict(nodes)
        with pytest.raises(ParameterError, match=rf"'{path}'.*\['raw', 'blurred'\]"):
            tree.pxprep.blur()
        with pytest.raises(ParameterError, match=r"Cohort\(tree, variable='raw'\)"):
            Pipeline.sparrow().fit(tree)


# --- bad input ------------------------------------------------------------------------------------


def ones(c=2, dims="cyx", labels=None, **sizes):
    sizes = {"c": c, "t": 1, "z": 2, "y": 6, "x": 5, **sizes}
    coords = {} if labels is None else {"c": labels}
    return xr.Dataset({"image": (tuple(dims), da.ones([sizes[d] for d in dims]))}, coords=coords)


def scales(*datasets):
    return {f"fov/scale{number}": dataset for number, dataset in enumerate(datasets)}


# Nodes, what to call methods with, and what the message says.
BAD = {
    "empty": ({"/": xr.Dataset()}, {}, "at least one image"),
    "no image": ({"a": xr.Dataset({"n": ("c", [1])})}, {}, r"at least one.*c, y, x.*\['n'\]"),
    "no pixels": ({"a": ones(), "b/f": ones(x=0)}, {}, r"'b/f'.*one pixel.*'x': 0"),
    "10 to 7": (scales(ones(y=10), ones(y=7)), {}, r"'fov/scale1'.*y: 10 to 7"),
    "larger": (scales(ones(), ones(), ones(x=9)), {}, r"'fov/scale2'.*x: 5 to 9"),
    "a scale lacks it": (scales(ones(), xr.Dataset({"n": 1})), {}, r"'fov'.*'scale1': None"),
    "other name": (scales(ones(), ones().rename(image="raw")), {}, r"'fov'.*'image'.*'raw'"),
    "scale's channels": (scales(ones(), ones(c=3)), {}, "'fov/scale1'.*unknown 2"),
    "scale's dims": (scales(ones(), ones(dims="czyx")), {}, "'fov/scale1'.*'z'"),
    "other channels": (
        {
            "a": ones(labels=["p", "q"]),
            "g/b": ones(labels=["p", "Q"]),
            "d": ones(labels=["q", "p"]),
            "g/e": ones(c=3, labels=["p", "q", "r"]),
        },
        {},
        r"'g/b'.*missing 'q'.*unknown 'Q'.*'g/e'.*unknown 'r'",
    ),
    "strings and numbers": (
        {"a": ones(labels=["1", "2"]), "b": ones(labels=[1, 2])},
        {},
        r"'b'.*missing '1', '2'.*unknown 1, 2",
    ),
    "z and no z": (
        {"a": ones(), "d": ones(), "g/b": ones(dims="czyx"), "g/e": ones(dims="zcyx")},
        {},
        r"'g/b' has \('c', 'z', 'y', 'x'\).*'g/e' has \('z', 'c'",
    ),
    "no such variable": ({"a": ones()}, {"variable": "raw"}, r"'raw'.*\['image'\]"),
    "no numbers": ({"g/a": ones().astype(str)}, {}, "'g/a'.*dtype"),
    "t": ({"g/a": ones(dims="tcyx")}, {}, r"'g/a'.*\['t'\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_trees(case, tree_class, no_compute):
    nodes, given, message = BAD[case]
    tree = tree_class.from_dict(nodes)
    calls = [
        lambda: Cohort(tree, pool=None, **given),
        lambda: tree.pxprep.preprocess(**given),
        lambda: tree.pxprep.fit(Pipeline.sparrow(), **given),
    ]
    if not given:
        calls += [
            lambda: tree.pxprep.sum_norm(),
            lambda: tree.pxprep.quantile_norm(pool=None),
            lambda: tree.pxprep.quantile(),
            lambda: tree.pxprep.coarsen({"y": 2}),
        ]
    for call in calls:
        with no_compute(), pytest.raises((ImageError, ChannelError), match=f"(?s){message}"):
            call()


def test_only_trees_have_variables(images):
    for given in (images[0], images, dict(enumerate(images))):
        for call in (Cohort, Pipeline.sparrow().fit, Pipeline.sparrow().fit_transform):
            with pytest.raises(ParameterError, match=r"variable names a variable of a tree.*'raw'"):
                call(given, variable="raw")


def test_other_variables_must_fit_a_coarser_image(tree_class, images, no_compute):
    lazy = images[0].chunk({"y": 5}).to_dataset()
    tree = tree_class.from_dict(
        {"a": lazy, "g/b": lazy.assign(cells=(("y", "x"), np.ones((23, 17))), n=("c", [1, 2, 3]))}
    )
    with no_compute(), pytest.raises(ImageError, match=r"'g/b'.*\['cells'\].*\['y'\]"):
        tree.pxprep.coarsen({"y": 2})
    beside = tree_class.from_dict({"b": own_dataset(tree["g/b"]).drop_vars("cells")})
    assert dict(beside.pxprep.coarsen({"y": 2})["b"].sizes) == {"c": 3, "y": 11, "x": 17}


@pytest.mark.parametrize("labeled", [True, False])
def test_factors_too_large_for_a_scale_are_an_error(labeled, tree_class, images, no_compute):
    image = images[0] if labeled else images[0].drop_vars(["c", "y", "x"])
    nodes = nodes_of("fov", pyramid(image.chunk()))
    with no_compute(), pytest.raises(PxprepError, match="scale"):
        tree_class.from_dict(nodes).pxprep.coarsen({"y": 4, "x": 4})  # 3 rows at the coarsest


# --- names ----------------------------------------------------------------------------------------


def test_no_image_is_lost_to_a_name_that_occurs_twice(tree_class, images):
    """An image at the root is called like the tree, and so may be a node."""
    tree = tree_class.from_dict(
        {"/": images[0].to_dataset(), "fov": images[0].to_dataset()}, name="fov"
    )
    result = tree.pxprep.quantile_norm(pool=None)
    expected = ops.quantile_norm(images[0])
    np.testing.assert_array_equal(result["image"], expected)
    np.testing.assert_array_equal(result["fov"]["image"], expected)


def test_node_with_an_image_and_with_scales_holds_two(tree_class, images):
    bare = images[0].drop_vars(["c", "y", "x"])
    tree = tree_class.from_dict({"fov": bare.to_dataset(name="raw"), **nodes_of("fov", [bare] * 2)})
    try:
        result = tree.pxprep.quantile_norm(pool=None)
    except PxprepError as error:
        assert "'fov'" in str(error)  # noqa: PT017 - an error that says so is as good
    else:
        expected = ops.quantile_norm(images[0])
        np.testing.assert_array_equal(result["fov"]["raw"], expected)
        np.testing.assert_array_equal(result["fov/scale0"]["image"], expected)
