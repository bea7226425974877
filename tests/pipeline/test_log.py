"""The logger `pxprep` says at INFO which pass begins, and what it took; each once."""

import logging
import re
from contextlib import nullcontext

import pytest

from pxprep import Pipeline
from pxprep.reporting import Passes

SPARROW = [f"measure {name} of 3 images" for name in ("quantile_norm", "sum_mask", "post_norm")]


def begun_and_ended(caplog):
    """What the log says began, and what ended; all of it is of one of the two forms."""
    begun, ended = [], []
    for record in caplog.records:
        if record.name != "pxprep":
            continue
        assert record.levelno == logging.INFO
        name, took = re.fullmatch(
            r"(.*): (?:begins|took (\d+\.\d\d) s)", record.getMessage()
        ).groups()
        (begun if took is None else ended).append(name)
    return begun, ended


@pytest.mark.parametrize("progress", [False, lambda _: nullcontext(), Passes(), Passes(Passes())])
@pytest.mark.parametrize("chunks", [None, {"y": 20}])
def test_each_pass_of_a_fit(progress, chunks, make_image, caplog):
    fovs = [make_image(seed=seed) for seed in range(3)]
    fovs = fovs if chunks is None else [fov.chunk(chunks) for fov in fovs]
    with caplog.at_level(logging.INFO, logger="pxprep"):
        Pipeline.sparrow().fit(fovs, progress=progress)
    assert begun_and_ended(caplog) == (SPARROW, SPARROW)


def test_a_pass_that_fails_has_begun_and_not_ended(make_image, caplog):
    def fail(image):
        raise RuntimeError("no")

    lazy = make_image().chunk({"y": 20})
    lazy.data = lazy.data.map_blocks(fail, dtype=lazy.dtype, meta=lazy.data._meta)
    with caplog.at_level(logging.INFO, logger="pxprep"), pytest.raises(RuntimeError, match="no"):
        Pipeline().quantile_norm().fit(lazy)
    begun, ended = begun_and_ended(caplog)
    assert (len(begun), ended) == (1, [])


def test_nothing_is_said_by_default(make_image, capfd):
    Pipeline.sparrow().fit(make_image())
    assert capfd.readouterr() == ("", "")


def test_the_wrapper_and_its_layers(tmp_path, caplog):
    pytest.importorskip("spatialdata")
    from pxprep import pixel_clustering_preprocess
    from spatial_objects import backed

    sdata = backed(tmp_path)
    with caplog.at_level(logging.INFO, logger="pxprep"):
        pixel_clustering_preprocess(sdata, "fov0", "clean")
    begun, ended = begun_and_ended(caplog)
    assert (
        begun == ended == [*(name.removesuffix(" of 3 images") for name in SPARROW), "write clean"]
    )
