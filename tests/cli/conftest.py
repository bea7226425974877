"""Fixture: the command, called in this process."""

import sys

import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    """The exit code of the command, called here, and what it prints on stdout and stderr."""

    from pxprep.cli import main

    def function(*arguments):
        monkeypatch.setattr(sys, "argv", ["pxprep", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return function
