"""What writes to a store do where the system is macOS or Windows.

These systems are not here. What they answer is imitated, from their documentation, on the calls
of Linux, and real stores are written under it. So this shows that the right calls are made in
the right order, not that the systems answer so.
"""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pxprep import Pipeline, pixel_clustering_preprocess, provenance, repair
from pxprep.errors import StoreError
from pxprep.store import files

if sys.platform != "linux":
    pytest.skip("systems are imitated on Linux", allow_module_level=True)

import fcntl

STEPS = Pipeline().quantile_norm(99)


def open_files(below):
    """The files below a folder that this process holds open."""
    targets = []
    for link in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed since, by another thread
            targets.append(link.readlink())
    return [target for target in targets if target.is_relative_to(below)]


def name_of(descriptor):
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@pytest.fixture
def macos(monkeypatch):
    """macOS: folders are exchanged by `renamex_np`, files flushed by `F_FULLFSYNC`."""
    linux, request = ctypes.CDLL(None, use_errno=True), fcntl.fcntl
    mac = SimpleNamespace(exchanged=[], flushed=[], knows_exchange=True, knows_flush=True)

    def renamex_np(first, second, flags):
        assert (type(first), type(second), flags.value) == (bytes, bytes, 2)
        if not mac.knows_exchange:
            ctypes.set_errno(errno.ENOTSUP)
            return -1
        mac.exchanged.append(Path(os.fsdecode(second)).name)
        return linux.renameat2(-100, first, -100, second, ctypes.c_uint(2))

    def answer(descriptor, what, *arguments):
        if what != 51:
            return request(descriptor, what, *arguments)
        if mac.knows_flush is not True:
            raise OSError(mac.knows_flush, os.strerror(mac.knows_flush))
        mac.flushed.append(name_of(descriptor).name)
        return 0

    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(renamex_np=renamex_np))
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", answer)
    files._exchange_call.cache_clear()
    yield mac
    files._exchange_call.cache_clear()


@pytest.fixture
def windows(monkeypatch):
    """Windows: locks of `msvcrt`; no open folder; nothing open is removed, moved or replaced."""

    def locking(descriptor, mode, n_bytes):
        assert (mode, n_bytes) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    def open_(path, flags, *mode):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os.open(path, flags, *mode)

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        os.fsync(descriptor)

    class System:
        """The module `os`, as `files` sees it."""

        def __getattr__(self, name):
            return {"open": open_, "fsync": fsync}.get(name) or getattr(os, name)

    def refuse_open(function, n_paths):
        def call(*paths, dir_fd=None, **options):
            above = Path() if dir_fd is None else name_of(dir_fd)
            for path in paths[:n_paths]:
                if open_files(above / path):
                    raise PermissionError(errno.EACCES, "used by another process", str(path))
            directions = options if dir_fd is None else {**options, "dir_fd": dir_fd}
            return function(*paths, **directions)

        return call

    def rename(first, second):
        if Path(second).exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(second))
        os.replace(first, second)  # noqa: PTH105 - the one above

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(files, "os", System())
    monkeypatch.setattr(os, "unlink", refuse_open(os.unlink, 1))
    monkeypatch.setattr(os, "replace", refuse_open(os.replace, 2))
    monkeypatch.setattr(os, "rename", rename)
    files._exchange_call.cache_clear()
    yield
    files._exchange_call.cache_clear()


@pytest.fixture(params=["macos", "windows"])
def system(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def study(tmp_path):
    pytest.importorskip("spatialdata")
    from stores import make_study

    return make_study(tmp_path / "study.zarr")


def clean(sdata, sources, outputs):
    return pixel_clustering_preprocess(sdata, sources, outputs, pipeline=STEPS, overwrite=True)


# --- whole runs -----------------------------------------------------------------------------------


def test_layers_are_made_and_replaced(system, study):
    from stores import layers

    before = layers(study.path)
    for outputs in (["new", "fov1"], ["new", "fov1"]):
        clean(study, ["fov0", "other"], outputs)
    found = layers(study.path)
    assert found.keys() == before.keys() | {"new"}
    for name in before.keys() - {"fov1"}:
        np.testing.assert_array_equal(found[name][0], before[name][0])
    cohort = {name: study[name] for name in ("fov0", "other")}
    right = STEPS.fit_transform(cohort)
    np.testing.assert_array_equal(found["new"][0], right["fov0"].values)
    np.testing.assert_array_equal(found["fov1"][0], right["other"].values)
    assert provenance(study, "fov1").source == "other"
    assert not (study.path / ".pxprep").exists()
    assert open_files(study.path) == []


DIES = """
import os, signal, sys
import spatialdata
import pxprep
from pxprep.store import files
sdata = spatialdata.read_zarr(sys.argv[1])
files.exchange = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
pxprep.pixel_clustering_preprocess(
    sdata, "fov0", "fov1", pipeline=pxprep.Pipeline().quantile_norm(99), overwrite=True
)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store whose writer was killed."""
    pytest.importorskip("spatialdata")
    from stores import make_study

    path = tmp_path_factory.mktemp("killed") / "study.zarr"
    make_study(path)
    subprocess.run([sys.executable, "-c", DIES, path], check=False)
    assert (path / ".pxprep").exists()
    return path


@pytest.mark.once
def test_what_a_killed_process_left_is_completed(killed, system, tmp_path):
    from spatialdata import read_zarr

    from stores import layers

    store = Path(shutil.copytree(killed, tmp_path / "study.zarr"))
    right = STEPS.fit_transform(read_zarr(store)["fov0"]).values
    assert repair(store).completed == ("fov1",)
    np.testing.assert_array_equal(layers(store)["fov1"][0], right)
    assert not (store / ".pxprep").exists()


def test_windows_leaves_a_layer_that_another_program_reads(windows, study):
    from stores import files, layers

    before, kept = layers(study.path), files(study.path)
    (chunk,) = sorted((study.path / "images" / "fov1").rglob("*/0/0/0"))[:1]
    with chunk.open("rb"), pytest.raises(StoreError, match=r"nothing was changed.*used by another"):
        clean(study, ["fov0", "other"], ["new", "fov1"])
    assert layers(study.path).keys() == before.keys()
    assert {path: kept[path] for path in kept if "images" in path.parts} == {
        path: content for path, content in files(study.path).items() if "images" in path.parts
    }
    assert not (study.path / ".pxprep").exists()


# --- locks ----------------------------------------------------------------------------------------


def test_a_lock_has_one_holder(system, tmp_path):
    file = tmp_path / "lock"
    held = files.try_lock(file)
    assert files.try_lock(file) is None
    assert files.try_lock(file, make=False) is None
    files.unlock(held)
    held = files.try_lock(file, make=False)
    assert held is not None
    files.unlock(held, remove=file)
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        files.try_lock(file, make=False)


def test_the_lock_file_of_another_holder_is_not_removed(windows, tmp_path):
    """Between the two steps that it takes, another process may have opened it."""
    file = tmp_path / "lock"
    held = files.try_lock(file)
    with file.open() as _, pytest.raises(PermissionError):
        files.unlock(held, remove=file)
    descriptor = files.try_lock(file)
    assert descriptor is not None
    files.unlock(descriptor)


def test_an_error_of_a_lock_is_not_taken_for_a_holder(windows, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", fail)
    with pytest.raises(OSError, match="No locks available"):
        files.try_lock(tmp_path / "lock")
    assert open_files(tmp_path) == []


# --- exchange -------------------------------------------------------------------------------------


def two_folders(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "which").write_text(name)
    return folder / "a", folder / "b"


def which(*folders):
    return [(folder / "which").read_text() for folder in folders]


def test_macos_exchanges_folders(macos, tmp_path):
    a, b = two_folders(tmp_path)
    assert files.exchange(a, b)
    assert (macos.exchanged, which(a, b)) == (["b"], ["b", "a"])
    with pytest.raises(FileNotFoundError) as caught:
        files.exchange(a, tmp_path / "none")
    assert (caught.value.filename, caught.value.filename2) == (str(a), str(tmp_path / "none"))
    macos.knows_exchange = False
    assert not files.exchange(a, b)
    assert which(a, b) == ["b", "a"]


def test_old_macos_and_windows_do_not_exchange(system, monkeypatch, tmp_path):
    a, b = two_folders(tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    assert not files.exchange(a, b)
    assert which(a, b) == ["a", "b"]


def test_macos_without_exchange_replaces_layers(macos, study):
    from stores import layers

    macos.knows_exchange = False
    right = STEPS.fit_transform(study["fov0"]).values
    clean(study, "fov0", "fov1")
    np.testing.assert_array_equal(layers(study.path)["fov1"][0], right)
    assert macos.exchanged == []


# --- flushing -------------------------------------------------------------------------------------


def test_macos_flushes_the_disk_too(macos, tmp_path):
    files.replace_file(tmp_path / "new", b"content")
    (draft,) = [name for name in macos.flushed if name.startswith("new.")]
    assert macos.flushed == [draft, tmp_path.name]
    files.flush(tmp_path)
    assert macos.flushed[2:] == ["new", tmp_path.name]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EIO])
def test_macos_falls_back_only_where_the_file_system_does_not_know(
    macos, code, monkeypatch, tmp_path
):
    fsync, flushed = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(1), fsync(descriptor)))
    macos.knows_flush = code
    (tmp_path / "file").write_text("content")
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            files.flush(tmp_path)
        assert flushed == []
    else:
        files.flush(tmp_path)
        assert len(flushed) == 2


def test_windows_flushes_files_and_no_folders(windows, monkeypatch, tmp_path):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (flushed.extend(open_files(tmp_path)), fsync(descriptor))
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    files.flush(tmp_path)
    assert flushed == [tmp_path / "folder" / "file"]
    assert open_files(tmp_path) == []


def test_windows_holds_no_file_open_while_others_are_written(windows, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "Thread", lambda **_: pytest.fail("files were opened beside"))
    (tmp_path / "chunk").write_text("chunk")
    with files.flushing(tmp_path):
        files.replace_file(tmp_path / "chunk", b"new")
    assert (tmp_path / "chunk").read_text() == "new"
