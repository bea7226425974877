"""The command `pxprep`: interrupted at any time, it ends with exit code 130 and no traceback.

Beside the package and not in it: the user may interrupt its imports, too, which take a second.
"""

import os
import signal
import sys
from types import TracebackType

INTERRUPTED = 130
# Whether this process is the command; then `pxprep/__init__.py` does not import the accessors.
is_running = False


def main() -> None:
    """Run the command and exit."""
    global is_running
    is_running = True
    sys.excepthook = _end
    try:
        from pxprep.cli import main as command

        command()
    finally:
        # What comes now is Python's own: it waits for threads, and would tell where it was.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _leave)


def _end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """In place of a traceback, a line about an interrupt that was caught nowhere."""
    interrupt = interrupt_behind(error)
    if interrupt is None:
        sys.__excepthook__(kind, error, where)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    words = ["\npxprep: interrupted", *getattr(interrupt, "__notes__", ())]
    sys.stderr.write("; ".join(words) + "\n")
    _leave()


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error comes from, if it does: packages make others of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _leave(*_: object) -> None:
    """End the process at once."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(INTERRUPTED)
