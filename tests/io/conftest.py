"""Fixture: the command, called in this process."""

import sys

import pytest


@pytest.fixture
def call(monkeypatch):
    """Runs the command here, and checks its exit code."""
    from pxprep.cli import main

    def function(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["pxprep", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == code

    return function
