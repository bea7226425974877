"""What contributors and services read: the files agree with each other and with the package."""

import re
import shlex
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import conftest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    *(ROOT / name for name in (".pre-commit-config.yaml", ".readthedocs.yaml", "CITATION.cff")),
]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WINGS = {f"{path.name}/" for path in (ROOT / "tests").iterdir() if path.is_dir()}
BLOCKS = re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [part for block in BLOCKS for part in re.split(r"\n| && ", block.strip())]
# What the environment of contributors has beside Python and what `pip` installs for a single use.
PROGRAMS = {"source", "pip", "pre-commit", "ruff", "mypy", "basedpyright"}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def runs():
    """Every shell command of every workflow."""
    for path in WORKFLOWS:
        for job in read(path)["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)


def extras(text):
    """The extras in what pip installs: `.[a,b]`."""
    return {name for found in re.findall(r"\.\[([\w,]+)\]", text) for name in found.split(",")}


def test_there_is_one_version():
    version = PROJECT["project"]["version"]
    assert str(read(ROOT / "CITATION.cff")["version"]) == version
    citing = (ROOT / "docs" / "citing.md").read_text(encoding="utf-8")
    assert re.findall(r"Version (\d\S+)\.\n|version = {(.+)}", citing) == [
        (version, ""),
        ("", version),
    ]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.M)[1] == version
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"__version__\s*=\s*[\"']", path.read_text(encoding="utf-8")), path


def test_one_place_knows_the_address_of_the_repository():
    address = PROJECT["project"]["urls"]["Repository"]
    tracked = subprocess.run(
        ["git", "-C", ROOT, "grep", "-lF", address], capture_output=True, text=True, check=False
    )
    if tracked.returncode == 128:
        pytest.skip("needs a clone")
    assert tracked.stdout.split() == ["pyproject.toml"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_a_mapping(path):
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_use_actions_of_a_version(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {"id-token": "write"}) == {"id-token": "write"}, name
        assert "permissions" not in job or job["environment"]["name"] == "pypi"
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))


def test_workflows_cover_the_versions_that_are_promised():
    matrix = read(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    promised = [name.rpartition(" ")[2] for name in PROJECT["project"]["classifiers"]]
    assert matrix["python"] == [version for version in promised if version.startswith("3.")]
    assert PROJECT["project"]["requires-python"] == f">={matrix['python'][0]}"


def test_extras_and_files_that_are_named_exist():
    known = PROJECT["project"]["optional-dependencies"].keys()
    (install,) = read(ROOT / ".readthedocs.yaml")["python"]["install"]
    named = "\n".join([*runs(), GUIDE])
    assert {*extras(named), *install["extra_requirements"]} <= known
    assert {"test", "lint", "docs"} <= extras(named)
    for file in re.findall(r"(?<![\w/])(?:\.ci|\.github|tests|docs)/[\w./-]+\.\w+", named):
        assert (ROOT / file).exists(), file
    assert (ROOT / read(ROOT / ".readthedocs.yaml")["sphinx"]["configuration"]).exists()


def test_pytest_is_called_with_markers_that_are_known():
    known = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    used = re.findall(r"pytest.* -m [\"']([^\"']+)", "\n".join([*runs(), GUIDE]))
    assert used
    assert {word for expression in used for word in expression.split()} - {"not", "and"} <= known


def test_slow_tests_and_their_files_exist():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    lists = (conftest.SLOW_FILES, conftest.ONCE_FILES)
    assert {*" ".join(lists).split()} <= texts.keys()
    tests = set(re.findall(r"^def (test_\w+)\(", "\n".join(texts.values()), re.M))
    assert {*conftest.SLOW_TESTS.split(), *conftest.ALL_CASES.split()} <= tests


def test_the_quick_check_has_tests_of_each_wing():
    slow = {*conftest.SLOW_FILES.split(), *conftest.ONCE_FILES.split()}
    for wing in WINGS - {"typing/"}:
        files = {path.stem for path in (ROOT / "tests" / wing).glob("test_*.py")}
        assert files - slow, wing


def test_files_of_tests_are_listed_and_short():
    """Each helper and test file has its place in docs/testing.md; no test imports from another."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([\w/]+\.py)`", page))
    tests = ROOT / "tests"
    there = {path.relative_to(tests).as_posix(): path for path in tests.rglob("*.py")}
    own = {name for name in there if not name.startswith("differential/")}
    own = {name for name in own if Path(name).name != "conftest.py"}
    assert own <= listed
    assert {name for name in listed if name.startswith(tuple(WINGS))} <= there.keys()
    for name, path in there.items():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 500, name
        assert not re.search(r"^(from|import) (\w+\.)*test_", text, re.M), name


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_exist(command):
    program, *words = shlex.split(command, comments=True)
    options = [word for word in words if word.startswith("--")]
    if not program.startswith("python"):
        assert program in PROGRAMS
    elif words[0] == "-m":
        module = words[1]
        assert f"pip install {module}" in GUIDE or there(module), module
        assert all((ROOT / word).exists() for word in words[2:] if word.startswith("tests/"))
        if module.startswith("tests."):
            check_options(ROOT / module.replace(".", "/") / "__main__.py", options)
    else:
        check_options(ROOT / words[0], options)


def there(module):
    """Whether Python finds a module that is ours, or of a package in an extra."""
    named = [
        name for extra in PROJECT["project"]["optional-dependencies"].values() for name in extra
    ]
    of_extras = {re.match(r"[\w-]+", name)[0] for name in named}
    ours = (ROOT / module.replace(".", "/")).is_dir()
    return ours or module in of_extras or find_spec(module) is not None


def check_options(script, options):
    known = set(re.findall(r"add_argument\(\s*\"(--[\w-]+)", script.read_text(encoding="utf-8")))
    assert set(options) <= known
