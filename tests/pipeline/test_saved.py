"""Pipelines in files: saved, and read again by their path."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ChannelError, ParameterError, StoreError
from pxprep.steps import Step


@pytest.fixture
def pipelines(make_image):
    recipe = Pipeline.sparrow(q={"DAPI": 99.9, ...: 97}, sigma=0.1 + 0.2)
    return [recipe, recipe.fit(make_image())]


def test_what_was_saved_is_read_again(pipelines, tmp_path):
    for pipeline in pipelines:
        path = tmp_path / f"{type(pipeline).__name__} é.json"
        assert pipeline.save(path) is None
        assert path.read_text(encoding="utf-8") == pipeline.to_json()
        for given in (path, str(path), pipeline.to_json()):
            assert type(pipeline).from_json(given) == pipeline
        with pytest.raises(ParameterError, match="exists already; overwrite=True replaces it"):
            pipeline.save(str(path))
        path.write_text("old")
        pipeline.save(str(path), overwrite=True)
        assert type(pipeline).from_json(path) == pipeline
    assert len(list(tmp_path.iterdir())) == 2


def test_a_relative_path(pipelines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipelines[1].save("fit.json")
    assert FittedPipeline.from_json("fit.json") == pipelines[1]


def test_functions_go_with_the_path(tmp_path):
    pipeline = Pipeline().then(np.sqrt)
    pipeline.save(tmp_path / "own.json")
    again = Pipeline.from_json(tmp_path / "own.json", functions={"sqrt": np.sqrt})
    assert again == pipeline


def test_any_file_is_read_by_a_path(pipelines, tmp_path):
    file = tmp_path / "numbers.txt"
    file.write_text(pipelines[1].to_json())
    assert FittedPipeline.from_json(file) == pipelines[1]
    with pytest.raises(ParameterError, match=r"must be JSON, or the path of a file that ends in"):
        FittedPipeline.from_json(str(file))


@pytest.mark.parametrize("place", ["fit", "fit.txt", "no folder/fit.json", "folder.json", "", 3])
def test_places_where_nothing_can_be_saved(place, pipelines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    for pipeline in pipelines:
        with pytest.raises(ParameterError, match="path must .*" + re.escape(repr(place))):
            pipeline.save(place)
    with pytest.raises(ParameterError, match="overwrite must be True or False, got 1"):
        pipelines[0].save("fit.json", overwrite=1)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@dataclass(frozen=True)
class Odd(Step):
    kind = "odd_thing"
    thing: object = None

    def apply(self, image, numbers):
        return image


def test_nothing_is_left_of_what_json_cannot_keep(tmp_path):
    with pytest.raises(ParameterError, match="to be saved"):
        Pipeline([Odd(object())]).save(tmp_path / "own.json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_as_it_was(pipelines, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "fit.json"
    pipelines[0].save(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"fit\.json' cannot be written: .*too large"):
            pipelines[1].save(path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert Pipeline.from_json(path) == pipelines[0]


def test_files_that_cannot_be_read(pipelines, tmp_path):
    missing, bad, other = (tmp_path / f"{name}.json" for name in ("missing", "bad", "other"))
    bad.write_bytes(b"\xff\xfe{")
    other.write_text(pipelines[1].to_json().replace('"CD3"', '"DAPI"'))
    for kind in (Pipeline, FittedPipeline):
        for path in (missing, str(missing), bad):
            with pytest.raises(ParameterError, match=f"{path}' cannot be read: "):
                kind.from_json(path)
        with pytest.raises((ParameterError, ChannelError), match=f"{other}': "):
            kind.from_json(other)
