"""`pxprep import`: images in files become layers of a store."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ParameterError
from ..io import import_images, open_images
from ..io.importing import by_layer
from . import options as o
from . import values
from .answers import answer, only_answers_on_stdout, shows_progress
from .inspect_store import described
from .run import in_words

CHUNKS = 1024


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of fields of view with a TIFF for each channel; OME-TIFF or other TIFF; "
            ".mcd or .txt of IMC; or a folder of such files.",
        ),
    ],
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="Folder of a SpatialData store; made if not there."),
    ],
    channel: o.Channels = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            metavar="FILE",
            show_default=False,
            help="Text with the names of all channels, one on a line, for TIFFs that do not tell "
            "them.",
        ),
    ] = None,
    subfolder: Annotated[
        str | None,
        typer.Option(
            "--subfolder",
            metavar="NAME",
            show_default=False,
            help="Where in the folder of a field of view the TIFFs lie. Default: in the folder "
            "itself, or in TIFs.",
        ),
    ] = None,
    chunks: Annotated[
        list[str] | None,
        typer.Option(
            "--chunks",
            metavar="PIXELS",
            rich_help_panel="Writing",
            show_default=False,
            help="Chunks of the layers: a number for y and x, or DIM=NUMBER, repeated; -1 is the "
            f"whole dimension. Default: {CHUNKS}.",
        ),
    ] = None,
    scale_factors: Annotated[
        list[str] | None,
        typer.Option(
            "--scale-factors",
            metavar="FACTOR",
            rich_help_panel="Writing",
            show_default=False,
            help="Factor of each coarser scale to the one before, repeated: 2, or y=2,x=2. "
            "Default: one scale.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel="Writing", help="Replace layers of the images' names."
        ),
    ] = False,
    wait: o.Wait = None,
    no_wait: o.NoWait = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Write images from files into a store, a layer for each, chunk by chunk.

    All layers appear together when all are written; until then the store is as it was.
    """
    how: dict[str, Any] = {
        "chunks": values.chunk_sizes(chunks) if chunks else CHUNKS,
        "scale_factors": values.scale_factors(scale_factors) if scale_factors else None,
        "wait": values.seconds(wait, no_wait),
    }
    started = time.perf_counter()
    with only_answers_on_stdout():
        channels = list(channel) if channel else None
        found = open_images(
            source,
            channels,
            channel_names=None if names is None else _read_names(names),
            subfolder=subfolder,
        )
        images = by_layer(found)
        sdata = import_images(
            images,
            store,
            channels=channels,
            overwrite=overwrite,
            progress=shows_progress(quiet),
            **how,
        )
        document = {
            "store": str(store),
            "seconds": round(time.perf_counter() - started, 3),
            "layers": described(sdata, "images", list(images)),
        }
    answer(document, in_words(document), as_json=as_json, quiet=quiet)


def _read_names(file: Path) -> list[str]:
    """The names in a text file, without empty lines."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{str(file)!r} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]
