"""What is kept of a tree: all but the images, labels that are inherited, names; and bad trees."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from grown_trees import nodes_of, pyramid
from pxprep import Cohort, Pipeline, PxprepError, ops
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.images.datatree import own_dataset


@pytest.fixture
def inheriting():
    """The kind of tree whose nodes inherit coordinates."""
    if not hasattr(xr, "DataTree"):
        pytest.skip("xarray has no DataTree")
    return xr.DataTree


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
    "image and scales": ({"fov": ones().rename(image="raw"), **scales(ones())}, {}, "'fov'.*both"),
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
            with pytest.raises(
                ParameterError, match=r"variable names the image in a Dataset .*'raw'"
            ):
                call(given, variable="raw")


def test_several_names_are_no_variable(tree_class, images):
    dataset = images[0].to_dataset(name="raw")
    for given in (dataset, tree_class.from_dict({"a": dataset}), [dataset]):
        with pytest.raises(
            ParameterError, match=r"variable names the image in a Dataset .*\['raw'\]"
        ):
            Cohort(given, variable=["raw"])


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
