"""What `--help` of each command says: examples that can be typed, and no words of programmers."""

import re
import shlex

import pytest

pytest.importorskip("spatialdata")
pytest.importorskip("typer")
import typer

from pxprep.cli.app import EXAMPLES, app

GROUP = typer.main.get_command(app)


@pytest.mark.parametrize("command", EXAMPLES)
def test_each_command_has_examples_that_can_be_typed(command, call):
    name = command.__name__.rstrip("_")
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        program, typed, *arguments = shlex.split(example)
        assert (program, typed) == ("pxprep", name)
        GROUP.commands[name].make_context(name, arguments)  # refuses what it does not know
    code, printed, errors = call(name, "--help")
    assert (code, errors) == (0, "")
    said = re.sub(r"\s+", " ", printed)
    for example in EXAMPLES[command]:
        assert example in said
    assert "<bool>" not in printed


def test_the_first_help_has_no_types_of_switches(call):
    code, printed, _ = call("--help")
    assert code == 0
    assert "--version" in printed
    assert "<bool>" not in printed
