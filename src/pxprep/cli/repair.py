"""`pxprep repair`: complete or remove what interrupted writes have left in a store."""

from . import options as o
from .answers import answer, only_answers_on_stdout
from .values import seconds


def repair(
    store: o.Store,
    wait: o.Wait = None,
    no_wait: o.NoWait = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Complete or remove what interrupted writes have left in a store.

    Layers that were being published are completed, others removed; `pxprep run` does the
    same before it begins.
    """
    from ..layers import preprocess

    with only_answers_on_stdout():
        found = preprocess.repair(store, wait=seconds(wait, no_wait))
    completed, removed = list(found.completed), found.removed
    document = {"store": str(store), "completed": completed, "removed": removed}
    answer(document, _in_words(completed, removed), as_json=as_json, quiet=quiet)


def _in_words(completed: list[str], removed: int) -> str:
    if not completed and not removed:
        return "nothing to repair"
    return (
        f"layers completed: {', '.join(completed) or 'none'}; unfinished writes removed: {removed}"
    )
