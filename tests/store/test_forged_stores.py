"""Stores from somebody else: whatever they hold, nothing outside of them is touched."""

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

pytest.importorskip("spatialdata")

import spatialdata
from spatialdata._io.format import SpatialDataContainerFormatV01

import pxprep
from pxprep import Pipeline
from pxprep.errors import StoreError
from pxprep.store import contents, files, transactions
from stores import layers, make_study, same

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes")
OWN = "0" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store in which pxprep has made a layer."""
    sdata = make_study(tmp_path_factory.mktemp("made") / "study.zarr")
    pxprep.pixel_clustering_preprocess(sdata, "fov1", "made", pipeline=Pipeline().blur(1))
    return sdata.path


@pytest.fixture
def home(tmp_path):
    """What is not to be touched: files, a folder that looks like a layer, and a lock."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text("mine")
    (home / ".bashrc").write_text("mine, too")
    (home / "lock").write_text("")
    return home


@pytest.fixture
def store(home, made):
    return shutil.copytree(made, home / "data" / "got.zarr")


@pytest.fixture(autouse=True)
def in_time():
    """Nothing waits: a pipe has nobody at its other end."""
    signal.alarm(120)
    yield
    signal.alarm(0)


def everything(folder):
    """All that is in a folder, links as such; but for locks, and folders that only hold them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif stat.S_ISREG(mode) and path.name not in ("alive", "lock"):
            found[name] = path.read_bytes() if path.stat().st_size < 1 << 20 else "large"
        elif stat.S_ISDIR(mode):
            found[name] = None
    return found


def forge(store, **changes):
    """What a crash may leave: `fov0` of another store staged, and the journal that publishes it."""
    transaction = store / ".pxprep" / OWN
    stage = transaction / "stage.zarr" / "images" / "fov0"
    stage.parent.mkdir(parents=True)
    shutil.copytree(store / "images" / "made", stage)
    attrs = json.loads((store / "zarr.json").read_text())["attributes"]["pxprep"]
    entry = {**attrs["layers"]["made"], "source": "fov0"}
    journal = {
        "format": 1,
        "table": True,
        "note": {**attrs, "layers": {"fov0": entry}},
        "moves": [
            {
                "place": ["images", "fov0"],
                "new": contents.identity(stage),
                "old": contents.identity(store / "images" / "fov0"),
            }
        ],
    }
    journal = {key: value for key, value in {**journal, **changes}.items() if value is not ...}
    (transaction / "journal.json").write_text(json.dumps(journal))
    return transaction


def move(store, **changes):
    """The one move of `forge`, with changes."""
    stage = store / "images" / "made"
    whole = {"place": ["images", "fov0"], "new": contents.identity(stage), "old": None}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def refuse(home, store, match=""):
    """Every way to the store ends with a StoreError, and all is as it was."""
    before = everything(home)
    sdata = spatialdata.read_zarr(store)
    with pytest.raises(StoreError, match=match):
        pxprep.repair(store)
    with pytest.raises(StoreError, match=match):
        pxprep.pixel_clustering_preprocess(sdata, "fov1", "later", pipeline=Pipeline())
    assert everything(home) == before


def test_what_is_not_forged_is_completed(home, store):
    """The journal that the other tests spoil."""
    before, expected = everything(home / ".ssh"), layers(store)["made"]
    forge(store)
    assert pxprep.repair(store) == (("fov0",), 0)
    assert same(layers(store)["fov0"], expected)
    assert not (store / ".pxprep").exists()
    assert everything(home / ".ssh") == before


PLACES = [
    ["images", "../../../.ssh"],
    ["images", ".."],
    ["images", "."],
    ["images", ""],
    ["images", "a/b"],
    ["images", "a\\b"],
    ["images", "C:a"],
    ["images", "a\0b"],
    ["images", "zarr.json"],
    ["images", "x" * 256],
    ["images", "\udcff"],
    ["images", 5],
    ["images", ["fov0"]],
    ["images"],
    ["images", "fov0", "0"],
    ["..", ".ssh"],
    [".pxprep", "lock"],
    ["", "images"],
    [["images"], "fov0"],
    "images/fov0",
    {"images": "fov0"},
    None,
    7,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: repr(place)[:20])
def test_place_that_is_no_kind_and_name(home, store, place):
    forge(store, moves=[move(store, place=place)])
    refuse(home, store, "cannot be understood")


def test_place_outside_named_in_full(home, store):
    outside = str(home / ".ssh")
    forge(store, moves=[move(store, place=["images", outside])])
    refuse(home, store, "the name of an element must consist of letters")


@pytest.mark.parametrize(
    "changes",
    [
        {"new": None},
        {"new": ""},
        {"new": "../" * 21 + "x"},
        {"new": "A" * 64},
        {"old": 5},
        {"old": ...},
        {"place": ...},
        {"staged": "../../home"},
    ],
    ids=str,
)
def test_move_that_breaks_a_rule(home, store, changes):
    forge(store, moves=[move(store, **changes)])
    refuse(home, store, "cannot be understood")


@pytest.mark.parametrize("second", ["fov0", "FOV0"])
def test_one_target_twice(home, store, second):
    forge(store, moves=[move(store), move(store, place=["images", second])])
    refuse(home, store, "each element once")


def notes():
    """What may be kept of new layers, and is not what pxprep writes."""
    run = {"parameters": {"pipeline": "p"}, "sources": {}, "versions": {"pxprep": "1"}}
    run["fitted"] = "none"
    entry = {"run": "r", "source": "fov0", "token": "t", "time": "2024-01-01", "image": {}}
    whole = {"format": 1, "runs": {"r": run}, "layers": {"fov0": entry}}
    yield from (None, {}, [], "x", {**whole, "format": 2}, {**whole, "layers": {}})
    yield {**whole, "runs": []}
    yield {**whole, "layers": {"../x": entry, "fov0": entry}}
    for key in run:
        yield {**whole, "runs": {"r": {**run, key: 5}}}
        yield {**whole, "runs": {"r": {k: v for k, v in run.items() if k != key}}}
    for pipeline in (None, {"steps": 5}, {"steps": [{}]}, {"steps": [{"as": 5}]}):
        yield {**whole, "runs": {"r": {**run, "parameters": {"pipeline": pipeline}}}}
    for key, value in (("run", "s"), ("run", []), ("time", "soon"), ("token", 5), ("image", None)):
        yield {**whole, "layers": {"fov0": {**entry, key: value}}}


@pytest.mark.parametrize("note", list(notes()), ids=lambda note: repr(note)[-40:])
def test_note_that_could_not_be_kept(home, store, note):
    """It would be found out only when the layers have been moved."""
    forge(store, note=note)
    refuse(home, store, r"attrs\['pxprep'\]|nothing says what made")


@pytest.mark.parametrize("missing", ["format", "table", "note", "moves"])
def test_journal_that_lacks_something(home, store, missing):
    forge(store, **{missing: ...})
    refuse(home, store, "cannot be understood")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": 1, "moves": ' + b"[" * 200 + b"]" * 200 + b', "table": true, "note": 0}',
        b'{"format": 1e999}',
        b"1" * 5000,
    ],
    ids=lambda content: repr(content[:8]),
)
def test_journal_that_is_no_json(home, store, content):
    transaction = forge(store)
    (transaction / "journal.json").write_bytes(content)
    refuse(home, store, "cannot be understood")


def test_journal_of_a_gigabyte_is_not_read(home, store):
    file = forge(store) / "journal.json"
    with file.open("wb") as journal:
        journal.truncate(1 << 30)
    refuse(home, store, "at most 134,217,728 bytes")


# --- links, pipes and the like --------------------------------------------------------------------


def links(store, home):
    """By name: where a link may lead out of the store, and what it leads to."""
    staging, transaction = store / ".pxprep", store / ".pxprep" / OWN
    return {
        "staging": (staging, home),
        "lock": (staging / "lock", home / ".bashrc"),
        "transaction": (transaction, home / ".ssh"),
        "alive": (transaction / "alive", home / ".bashrc"),
        "journal": (transaction / "journal.json", home / "journal.json"),
        "stage": (transaction / "stage.zarr", home / "stage"),
        "staged kind": (transaction / "stage.zarr" / "images", home / "stage" / "images"),
        "staged": (transaction / "stage.zarr" / "images" / "fov0", home / ".ssh"),
        "scratch": (transaction / "scratch", home),
        "replaced": (transaction / "replaced-0", home / ".ssh"),
        "parent": (transaction / "parent-0", home / ".ssh"),
        "kind": (store / "images", home / "images"),
        "place": (store / "images" / "fov0", home / ".ssh"),
        "root": (store / "zarr.json", home / "zarr.json"),
    }


@pytest.mark.parametrize("where", list(links(Path(), Path())))
def test_links_are_not_followed(home, store, where):
    forge(store)
    path, target = links(store, home)[where]
    if where != "place" and os.path.lexists(path) and not target.exists():
        target.parent.mkdir(exist_ok=True)
        path.rename(target)  # all is as it should be, but for the link
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)
    before = everything(home)
    with pytest.raises(StoreError, match=r"must be|is nothing that pxprep made|is a link"):
        pxprep.repair(store)
    assert everything(home) == before


@pytest.mark.parametrize("where", ["lock", "alive", "journal", "staging", "transaction", "root"])
@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_is_no_file_is_not_opened(home, store, where, what):
    forge(store)
    path, _ = links(store, home)[where]
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    elif where in ("staging", "transaction"):
        path.touch()  # those are folders
    else:
        path.mkdir()
    before = everything(home)
    if where == "transaction" and what == "folder":
        assert pxprep.repair(store) == ((), 0)
        return
    with pytest.raises(StoreError, match=r"must be|is nothing that pxprep made"):
        pxprep.repair(store)
    assert everything(home) == before


def test_kind_that_is_a_link_is_not_written_to(home, store, no_compute):
    (store / "images").rename(home / "images")
    (store / "images").symlink_to(home / "images")
    before = everything(home)
    sdata = spatialdata.read_zarr(store)
    with no_compute(), pytest.raises(StoreError, match="images' must be a folder, not a link"):
        pxprep.pixel_clustering_preprocess(sdata, "fov1", "later", pipeline=Pipeline())
    assert everything(home) == before


def test_folder_that_is_no_transaction(home, store):
    (store / ".pxprep" / "x").mkdir(parents=True)
    refuse(home, store, "is nothing that pxprep made: remove it")


def test_what_is_removed_leads_nowhere(home, store):
    """Unfinished writes and replaced layers go; what links in them lead to stays."""
    before = everything(home / ".ssh")
    transaction = store / ".pxprep" / OWN
    (transaction / "stage.zarr").mkdir(parents=True)
    (transaction / "link").symlink_to(home / ".ssh")
    (transaction / "stage.zarr" / "link").symlink_to(home / ".ssh")
    assert pxprep.repair(store) == ((), 1)
    (store / "images" / "fov0" / "link").symlink_to(home / ".ssh")
    forge(store)
    assert pxprep.repair(store) == (("fov0",), 0)
    assert not (store / "images" / "fov0" / "link").exists()
    assert not (store / ".pxprep").exists()
    assert everything(home / ".ssh") == before


def test_links_that_lead_in_a_circle(home, store):
    """An element may be a link; what is in it may not, else looking for nodes would never end."""
    (store / "points").mkdir()
    shutil.copyfile(store / "images" / "zarr.json", store / "points" / "zarr.json")
    for name in "abc":
        (store / "points" / name).symlink_to(store)
    sdata = spatialdata.read_zarr(store, selection=("images",))
    before = everything(store)
    with pytest.raises(StoreError, match=r"'.*/points/a' must not be a link"):
        pxprep.pixel_clustering_preprocess(sdata, "fov1", "later", pipeline=Pipeline())
    assert everything(store) == before


def test_parent_is_made_of_metadata_alone(home, store):
    """Of the folder that a layer is staged in nothing else gets into the store."""
    transaction = forge(store)
    shutil.rmtree(store / "images")
    (transaction / "stage.zarr" / "images" / "zarr.json").symlink_to(home / ".bashrc")
    with pytest.raises(StoreError, match="must be a file, not a link"):
        pxprep.repair(store)
    (transaction / "stage.zarr" / "images" / "zarr.json").unlink()
    (transaction / "stage.zarr" / "images" / "secret").symlink_to(home / ".bashrc")
    before = everything(home / ".ssh")
    pxprep.repair(store)
    assert not os.path.lexists(store / "images" / "secret")
    assert everything(home / ".ssh") == before


def test_inspecting_changes_nothing_and_says_it(home, store):
    before = everything(home)
    assert transactions.unfinished(store) == ((), 0, 0)
    forge(store, moves=[move(store, place=["images", "../../../.ssh"])])
    (store / ".pxprep" / "lock").touch()
    with pytest.raises(StoreError, match="cannot be understood"):
        transactions.unfinished(store)
    shutil.rmtree(store / ".pxprep")
    (store / ".pxprep").symlink_to(home)
    with pytest.raises(StoreError, match="must be a folder, not a link"):
        transactions.unfinished(store)
    (store / ".pxprep").unlink()
    assert everything(home) == before


def test_records_name_no_path(home, store):
    """Layers are named in the attrs of a store, too."""
    file = store / "zarr.json"
    root = json.loads(file.read_text())
    kept = root["attributes"]["pxprep"]
    for name in ("../../../.ssh", str(home / ".ssh"), ""):
        root["attributes"]["pxprep"] = {**kept, "layers": {name: kept["layers"]["made"]}}
        file.write_text(json.dumps(root))
        sdata = spatialdata.read_zarr(store)
        with pytest.raises(StoreError, match=r"attrs\['pxprep'\] are not what pxprep writes"):
            pxprep.provenance(sdata, "made")
        with pytest.raises(StoreError, match=r"attrs\['pxprep'\] are not what pxprep writes"):
            pxprep.pixel_clustering_preprocess(sdata, "fov1", "later", pipeline=Pipeline())


@pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format")
def test_pickled_chunks_are_not_run(tmp_path):
    """zarr's older format has a codec that would run what it reads."""
    sdata = make_study(
        tmp_path / "study.zarr",
        sdata_formats=SpatialDataContainerFormatV01(),
    )
    (file,) = sdata.path.glob("images/fov0/*/.zarray")
    array = json.loads(file.read_text())
    ran = tmp_path / "ran"
    program = b"cos\nsystem\n(S'touch " + os.fsencode(ran) + b"'\ntR."
    for chunk in (path for path in file.parent.rglob("*") if path.name.isdecimal()):
        if chunk.is_file():
            chunk.write_bytes(program)
    for change in ({"compressor": {"id": "pickle"}}, {"filters": [{"id": "pickle"}]}):
        file.write_text(json.dumps({"compressor": None, **array, **change}))
        for read, path in (
            (spatialdata.read_zarr, sdata.path),
            (pxprep.io.open_images, sdata.path / "images" / "fov0"),
        ):
            with pytest.raises(Exception, match="pickle"):
                read(path)
        assert not ran.exists()


def test_what_a_file_may_be(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"12345")
    link.symlink_to(file)
    assert files.read_file(file, 5) == b"12345"
    assert files.read_file(link, 5, through_links=True) == b"12345"
    with pytest.raises(StoreError, match="at most 4 bytes"):
        files.read_file(file, 4)
    for path in (link, tmp_path):
        with pytest.raises(StoreError, match="must be a file"):
            files.read_file(path)
        with pytest.raises(StoreError, match="must be a file"):
            files.try_lock(path)
    with pytest.raises(FileNotFoundError):
        files.read_file(tmp_path / "none")
