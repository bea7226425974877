"""`pxprep export`: layers become pyramidal OME-TIFFs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from . import options as o
from .answers import AnswerOptions, only_answers_on_stdout
from .stores import chosen_layers, labels_of, naming, opened
from .values import with_labels


def export(
    store: o.Store,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the files go; made if not there.")
    ],
    layer: Annotated[
        list[str],
        typer.Option(
            "--layer",
            metavar="NAME",
            autocompletion=o.complete_layers,
            help="Image layer, or a pattern such as '*_clean'; repeat for several.",
        ),
    ],
    *,
    channel: o.Channels = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    answer: AnswerOptions,
) -> None:
    """Write image layers as pyramidal OME-TIFFs, a file for each, for QuPath, napari and others.

    Channel names, sizes of pixels and all bits of the values are kept.
    """
    from ..io import export_images

    started = time.perf_counter()
    with only_answers_on_stdout(), naming(store):
        sdata = opened(store)
        layers = chosen_layers(sdata, layer, made_too=True)
        channels = with_labels(channel, labels_of(sdata, layers[0])) if channel else None
        files = export_images(sdata, folder, layers, channels=channels, overwrite=overwrite)
    document = {
        "store": str(store),
        "seconds": round(time.perf_counter() - started, 3),
        "files": {name: str(file) for name, file in files.items()},
    }
    lines = [f"{name}: {file}" for name, file in files.items()]
    words = "\n".join([*lines, f"written in {document['seconds']:.1f} s"])
    answer.give(document, words)
