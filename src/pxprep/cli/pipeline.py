"""`pxprep pipeline`: the steps as a text that a person writes and compares."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .answers import AnswerOptions
from .bundled_options import StepOptions
from .values import wrong


def pipeline(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="YAML or JSON of a pipeline, to check or to show."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Write it there: .yaml or .json.", show_default=False
        ),
    ] = None,
    order: Annotated[
        Literal["sparrow", "pixie"], typer.Option("--order", help="Whose order of steps.")
    ] = "sparrow",
    *,
    steps: StepOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    answer: AnswerOptions,
) -> None:
    """Show steps as YAML, or write them to a file that `--pipeline` of other commands reads.

    The steps are those of a file, which is checked, or what the options say.
    """
    from ..images.parameters import parse_path
    from ..pipeline.pipeline import Pipeline

    given = steps.given()
    if file is not None:
        parse_path(file, "FILE", "a pipeline")
    if file is not None and given:
        wrong("FILE", "takes the place of the other steps: give either, not both")
    if file is not None and order != "sparrow":
        wrong("--order", "is that of the file: give either, not both")
    named = Pipeline.pixie if order == "pixie" else Pipeline.sparrow
    made = named(**given) if file is None else Pipeline.from_file(file)
    if write is not None:
        made.save(write, overwrite=overwrite)
    document = {"file": None if write is None else str(write), "pipeline": made.to_dict()}
    words = made.to_yaml().rstrip("\n") if write is None else f"written to {write}"
    answer.give(document, words)
