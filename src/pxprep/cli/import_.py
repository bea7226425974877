"""`pxprep import`: images in files become layers of a store."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options as o
from . import values
from .answers import AnswerOptions, only_answers_on_stdout
from .bundled_options import WaitOptions
from .inspect_store import described
from .run import in_words

CHUNKS = 1024

_reading = partial(typer.Option, rich_help_panel="Reading", show_default=False)


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of fields of view with a TIFF for each channel; OME-TIFF or other TIFF; "
            ".mcd or .txt of IMC; OME-Zarr; or a folder of such files.",
        ),
    ],
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="Folder of a SpatialData store; made if not there."),
    ],
    *,
    channel: o.Channels = None,
    panel: Annotated[
        Path | None,
        _reading(
            "--panel",
            "--names",
            metavar="FILE",
            help="Table of markers (CSV, TSV, or a name on a line): what the channels are called, "
            "in the file's order or by what the file calls them, and which are kept.",
        ),
    ] = None,
    axes: Annotated[
        str | None,
        _reading(
            "--axes",
            metavar="AXES",
            help="What the axes of TIFFs are, if the files say something else: C for channels (of "
            "several axes, too, as CCYX), Z, Y and X, in the files' order.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        _reading(
            "--image",
            metavar="NAME",
            help="Name or number of an image in files that hold several; repeat. Default: all but "
            "pictures and thumbnails beside others.",
        ),
    ] = None,
    acquisition: Annotated[
        list[int] | None,
        _reading(
            "--acquisition",
            metavar="NUMBER",
            help="Acquisition of IMC; repeat. Default: all that can be read.",
        ),
    ] = None,
    subfolder: Annotated[
        str | None,
        _reading(
            "--subfolder",
            metavar="NAME",
            help="Where in the folder of a field of view the TIFFs lie; a pattern, as '*', takes "
            "several together. Default: in the folder itself, in TIFs, or in folders of cycles.",
        ),
    ] = None,
    names_from: Annotated[
        Literal["metadata", "files"] | None,
        _reading(
            "--names-from",
            help="Where each channel is a TIFF of its own: what names the channels. Default: "
            "metadata, if each channel has its own name there.",
        ),
    ] = None,
    crop: Annotated[
        bool,
        _reading(
            "--crop", help="Cut channels that differ in size to what they share, at the upper left."
        ),
    ] = False,
    chunks: Annotated[
        list[str] | None,
        o.writing_option(
            "--chunks",
            metavar="PIXELS",
            help="Chunks of the layers: a number for y and x, or DIM=NUMBER, repeated; -1 is the "
            f"whole dimension. Default: {CHUNKS}.",
        ),
    ] = None,
    scale_factors: Annotated[
        list[str] | None,
        o.writing_option(
            "--scale-factors",
            metavar="FACTOR",
            help="Factor of each coarser scale to the one before, repeated: 2, or y=2,x=2. "
            "Default: one scale.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        o.writing_option("--overwrite", help="Replace layers of the images' names."),
    ] = False,
    waiting: WaitOptions,
    answer: AnswerOptions,
) -> None:
    """Write images from files into a store, a layer for each, chunk by chunk.

    All layers appear together when all are written; until then the store is as it was.
    """
    from ..io.importing import import_as_layers

    chunk_sizes = values.chunk_sizes(chunks) if chunks else CHUNKS
    factors = values.scale_factors(scale_factors) if scale_factors else None
    started = time.perf_counter()
    with only_answers_on_stdout():
        sdata, layers = import_as_layers(
            source,
            store,
            channel or None,
            {
                "channel_names": None,
                "panel": panel,
                "axes": axes,
                "images": image or None,
                "acquisitions": acquisition or None,
                "subfolder": subfolder,
                "names_from": names_from,
                "crop": crop or None,
            },
            chunks=chunk_sizes,
            scale_factors=factors,
            overwrite=overwrite,
            progress=answer.has_progress,
            wait=waiting.seconds,
        )
        document = {
            "store": str(store),
            "seconds": round(time.perf_counter() - started, 3),
            "layers": described(sdata, "images", layers),
        }
    answer.give(document, in_words(document))
