"""`pxprep repair`: complete or remove what interrupted writes have left in a store."""

from . import options as o
from .answers import AnswerOptions, only_answers_on_stdout
from .bundled_options import WaitOptions


def repair(store: o.Store, waiting: WaitOptions, answer: AnswerOptions) -> None:
    """Complete or remove what interrupted writes have left in a store.

    Layers that were being published are completed; what had only been staged is removed.
    `pxprep run` does the same before it begins.
    """
    from ..layers import preprocess

    with only_answers_on_stdout():
        completed, removed = preprocess.repair(store, wait=waiting.seconds)
    document = {"store": str(store), "completed": list(completed), "removed": removed}
    answer.give(document, _in_words(completed, removed))


def _in_words(completed: tuple[str, ...], removed: int) -> str:
    if not completed and not removed:
        return "nothing to repair"
    return (
        f"layers completed: {', '.join(completed) or 'none'}; unfinished writes removed: {removed}"
    )
