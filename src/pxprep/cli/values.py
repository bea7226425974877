"""Typed values of options become parameters of the library, which has the rules about values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from ..aliases import Label
    from ..pipeline.pipeline import FittedPipeline, Pipeline

Number = TypeVar("Number")

NONE = "none"
REST = "*"


def wrong(option: str, problem: str) -> NoReturn:
    """End the command: it was used wrongly."""
    raise typer.BadParameter(problem, param_hint=option)


def per_channel(texts: Sequence[str], option: str) -> object:
    """One number for all channels, or a mapping by name; ``...`` for `REST`; None for `NONE`."""
    if list(texts) == [NONE]:
        return None
    return _by_name(texts, option, float, f"a number, NAME=NUMBER or {NONE}")


def number_or_none(text: str, option: str) -> float | None:
    """A number; None for `NONE`."""
    return None if text == NONE else _parsed(text, option, float, f"a number or {NONE}")


def chunk_sizes(texts: Sequence[str]) -> object:
    """One number of pixels for y and x, or a mapping by dimension."""
    return _by_name(texts, "--chunks", int, "a whole number or DIM=NUMBER")


def scale_factors(texts: Sequence[str]) -> list[object]:
    """For each coarser scale a factor, or factors by dimension; an empty list for `NONE`."""
    if list(texts) == [NONE]:
        return []
    expected = f"a whole number, DIM=NUMBER,DIM=NUMBER or {NONE}"
    for text in texts:
        if "," in text and "=" not in text:
            wrong("--scale-factors", f"must be {expected}, repeated for each scale, got {text!r}")
    return [_by_name(text.split(","), "--scale-factors", int, expected) for text in texts]


def compressor(text: str) -> dict[str, int]:
    """The codec and its level in ``lz4:1``."""
    name, _, level = text.partition(":")
    if not level.isdecimal():
        wrong("--compressor", f"must be CODEC:LEVEL, as lz4:1, got {text!r}")
    return {name: int(level)}


def memory(text: str | None) -> int | str | None:
    """A number of bytes, or text that the library reads."""
    return int(text) if text is not None and text.isdecimal() else text


def with_labels(value: object, labels: "Sequence[Label]") -> Any:
    """Names as the labels that an image has, which may be numbers; other names stay."""
    by_text = {str(label): label for label in labels}
    if isinstance(value, dict):
        return {by_text.get(name, name): item for name, item in value.items()}
    if isinstance(value, list):
        return [by_text.get(name, name) for name in value]
    return value


def steps_with_labels(
    pipeline: "Pipeline | FittedPipeline", labels: "Sequence[Label]"
) -> "Pipeline | FittedPipeline":
    """A pipeline whose steps name channels by the labels that an image has; see `with_labels`.

    Fitted ones stay: they have the labels of the images that they were fitted to.
    """
    from ..pipeline.pipeline import Pipeline

    by_text = {str(label): label for label in labels if not isinstance(label, str)}

    def renamed(value: object) -> object:
        if isinstance(value, Mapping):
            return {by_text.get(name, name): renamed(item) for name, item in value.items()}
        return by_text.get(value, value) if isinstance(value, str) else value

    if not by_text or not isinstance(pipeline, Pipeline):
        return pipeline
    steps = []
    for name, step in pipeline.steps:
        by_channel = {
            field.name: renamed(value)
            for field in fields(step)
            if isinstance(value := getattr(step, field.name), Mapping)
        }
        steps.append((name, replace(step, **by_channel) if by_channel else step))
    return Pipeline(steps)


def _by_name(
    texts: Sequence[str], option: str, number: Callable[[str], object], expected: str
) -> object:
    by_name: dict[object, object] = {}
    for text in texts:
        # Names may hold "=" themselves.
        name, is_named, value = text.rpartition("=")
        key = name if is_named else None
        if key in by_name:
            what = repr(name) if is_named else "the value for all"
            wrong(option, f"{what} is given twice")
        by_name[key] = _parsed(value, option, number, expected)
    if None not in by_name:
        return {... if name == REST else name: value for name, value in by_name.items()}
    if len(by_name) > 1:
        wrong(option, f"a value without a name is for all; for the rest write {REST}=VALUE")
    return by_name[None]


def _parsed(text: str, option: str, number: Callable[[str], Number], expected: str) -> Number:
    try:
        return number(text)
    except ValueError:
        wrong(option, f"must be {expected}, got {text!r}")
