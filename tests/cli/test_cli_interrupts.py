"""Real Ctrl-C, in real processes, from the first import on to the end of the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")

import spatialdata

import pxprep
from pxprep import Pipeline
from stores import files, make_study

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

# What pip makes of the command's entry point.
SCRIPT = "import sys\nfrom pxprep_command import main\nsys.exit(main())\n"
INTERRUPT = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"


@pytest.fixture
def command(tmp_path):
    """The command as a process; by name of a module, code that runs when it is imported."""
    started = []

    def start(*arguments, **modules):
        folder = tmp_path / f"modules{len(started)}"
        folder.mkdir()
        (folder / "pxprep").write_text(SCRIPT)
        for name, code in modules.items():
            (folder / f"{name}.py").write_text(code)
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, folder / "pxprep", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study") / "study.zarr").path


def ended(process):
    """What an interrupted process printed; it ends as it should."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (process.returncode, out, err)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "Aborted" not in err
    return out, err


def test_without_an_interrupt(command):
    """The script that the other tests interrupt."""
    process = command("pipeline", "none.yaml")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("pxprep: 'none.yaml' cannot be read: ")
    assert err.count("\n") == 1


# Of the package itself, of what the command imports when it runs.
@pytest.mark.parametrize("module", ["xarray", "spatialdata", "numba"])
def test_while_packages_are_imported(command, study, module):
    before = files(study)
    process = command("run", study, "--layer", "fov0", "--output", "clean", **{module: INTERRUPT})
    out, err = ended(process)
    assert out == ""
    assert err.strip().startswith("pxprep: interrupted")
    assert files(study) == before


def test_packages_that_make_another_error_of_an_interrupt(command, study):
    hidden = (
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        "except KeyboardInterrupt as error:\n    raise ImportError('no such') from error\n"
    )
    for module in ("xarray", "spatialdata"):
        process = command("inspect", study, **{module: hidden})
        assert ended(process)[1].strip() == "pxprep: interrupted"


def test_wrong_usage_and_help_are_interrupted_as_well(command):
    """Typer, in which no command runs yet, has an exit code of its own."""
    for arguments in (["--help"], ["run", "--nonsense"]):
        ended(command(*arguments, rich=INTERRUPT))


def test_while_a_result_is_printed(command):
    """More than a pipe holds, which nobody reads."""
    sigmas = [word for number in range(1500) for word in ("--sigma", f"channel {number}=1")]
    process = command("pipeline", *sigmas, "--json")
    assert process.stdout.read(1) == "{"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    ended(process)


WAITS_AT_THE_END = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
)
INTERRUPTED_AT_THE_END = (
    "import atexit, os, signal, time\n"
    "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60)))\n"
)


def test_after_the_last_write(command, tmp_path):
    """Python waits for a thread; the layer is there."""
    sdata = make_study(tmp_path / "study.zarr")
    arguments = ["run", sdata.path, "--layer", "fov0", "--output", "clean"]
    process = command(*arguments, usercustomize="", sitecustomize=WAITS_AT_THE_END)
    said = [process.stdout.readline(), process.stdout.readline()]
    assert said[1].startswith("written to")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert ended(process) == ("", "")
    assert pxprep.provenance(spatialdata.read_zarr(sdata.path), "clean").source == "fov0"
    process = command("pipeline", sitecustomize=INTERRUPTED_AT_THE_END)
    assert ended(process) == (Pipeline.sparrow().to_yaml(), "")


def test_between_the_write_and_the_answer(command, tmp_path):
    """It is said what was written."""
    sdata = make_study(tmp_path / "study.zarr")
    code = (
        "import os, signal, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'os.remove' and str(arguments[0]).endswith('journal.json'):\n"
        "        hook.due = True\n"
        "    elif hook.due and event == 'os.scandir' and 'clean' in str(arguments[0]):\n"
        "        hook.due = False\n"
        "        if '.pxprep' not in str(arguments[0]): os.kill(os.getpid(), signal.SIGINT)\n"
        "        else: hook.due = True\n"
        "hook.due = False\n"
        "sys.addaudithook(hook)\n"
    )
    arguments = ["run", sdata.path, "--layer", "fov0", "--output", "clean"]
    out, err = ended(command(*arguments, sitecustomize=code))
    assert out == ""
    assert "pxprep: interrupted; ['clean'] are written to the store" in err
    assert "clean" in spatialdata.read_zarr(sdata.path)
    assert not (sdata.path / ".pxprep").exists()


def test_background_jobs_ignore_it(command):
    """A shell lets them; so do we."""
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + INTERRUPTED_AT_THE_END
    code = code.replace("time.sleep(60)", "None")
    process = command("pipeline", sitecustomize=code)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, Pipeline.sparrow().to_yaml(), "")
