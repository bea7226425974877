"""`pxprep inspect`: what is in a store, from its metadata alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from ..errors import LayerError
from . import options as o
from .answers import AnswerOptions, Document, only_answers_on_stdout
from .stores import RASTERS, read

if TYPE_CHECKING:
    import xarray as xr
    from spatialdata import SpatialData

    from ..layers.layer_provenance import Origins


def inspect(store: o.Store, answer: AnswerOptions) -> None:
    """Show the layers of a store, what made them, and whether the store needs repair.

    Reads metadata only, and changes nothing.
    """
    from ..store.contents import zarr_format
    from ..store.transactions import unfinished

    with only_answers_on_stdout():
        sdata, damaged = read(store, RASTERS)
        document = {
            "store": str(store),
            "zarr_format": zarr_format(store),
            "layers": [
                layer
                for kind in RASTERS
                for layer in described(sdata, kind, sorted(getattr(sdata, kind)))
            ],
            "damaged": damaged,
            "unfinished": unfinished(store)._asdict(),
        }
    answer.give(document, _in_words(document))


def described(sdata: "SpatialData", kind: str, names: Sequence[str]) -> list[Document]:
    """What there is to say about images or labels, without reading a pixel."""
    from ..layers.layer_provenance import Origins
    from ..layers.layouts import scales_of
    from ..layers.records import Records
    from ..store.contents import KEY

    origins = Origins(sdata)
    has_records = kind == "images" and bool(names)
    recorded = Records.parsed(sdata.attrs.get(KEY)).layers if has_records else {}
    return [
        {
            "name": name,
            "kind": kind,
            **described_pixels(scales_of(getattr(sdata, kind)[name])),
            "bytes": _bytes_below(Path(sdata.path) / kind / name),
            "provenance": _provenance(origins, name) if name in recorded else None,
        }
        for name in names
    ]


def described_pixels(scales: "Sequence[xr.DataArray]") -> Document:
    """What there is to say about the scales of a layer, finest first, without reading them."""
    from ..channels import channel_labels

    labels = channel_labels(scales[0])
    return {
        "dims": [str(dim) for dim in scales[0].dims],
        "dtype": str(scales[0].dtype),
        "channels": None if labels is None else list(labels),
        "scales": [
            {"shape": list(scale.shape), "chunks": list(scale.data.chunksize)} for scale in scales
        ],
    }


def layer_in_words(layer: Document) -> str:
    """One line about a layer."""
    finest, *coarser = layer["scales"]
    shape = ", ".join(
        f"{dim} {size}" for dim, size in zip(layer["dims"], finest["shape"], strict=True)
    )
    chunks = " x ".join(map(str, finest["chunks"]))
    scales = f", {1 + len(coarser)} scales" if coarser else ""
    return (
        f"{layer['name']}: {shape}, {layer['dtype']}, chunks {chunks}{scales}, "
        f"{decimal(layer['bytes'])}{_origin(layer['provenance'])}"
    )


def _origin(made: Mapping[str, object] | None) -> str:
    if made is None:
        return ""
    return f", from {made['source']}" if "source" in made else f", {made['problem']}"


def _provenance(origins: "Origins", name: str) -> dict[str, object]:
    """What made a layer that is in the records."""
    try:
        made = origins.of(name)
    except LayerError:
        return {"problem": "replaced since pxprep made it"}
    return {
        "source": made.source,
        "time": made.time.isoformat(),
        "parameters": dict(made.parameters),
        "versions": dict(made.versions),
        "run": made.run,
    }


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _in_words(document: Document) -> str:
    lines = [f"{document['store']}: zarr format {document['zarr_format']}"]
    for kind in RASTERS:
        layers = [layer for layer in document["layers"] if layer["kind"] == kind]
        lines += ["", f"{kind}: {len(layers)}"]
        for layer in layers:
            lines += [f"  {line}" for line in _layer_lines(layer)]
    if document["damaged"]:
        lines += ["", "damaged:", *(f"  {problem}" for problem in document["damaged"])]
    return "\n".join([*lines, "", repair_in_words(document["unfinished"])])


def _layer_lines(layer: Document) -> list[str]:
    lines = [layer_in_words(layer)]
    if layer["channels"] is not None:
        lines.append("  channels: " + ", ".join(map(str, layer["channels"])))
    made = layer["provenance"]
    if made is not None and "source" in made:
        lines.append(
            f"  made {made['time']} with pxprep {made['versions']['pxprep']}: {_steps(made)}"
        )
    return lines


def _steps(made: Document) -> str:
    """The names of the steps in order, or the text that is kept where they have no JSON."""
    from ..pipeline.provenance import IMPORT, PIPELINE

    if IMPORT in made["parameters"]:
        return "imported"
    pipeline = made["parameters"][PIPELINE]
    if isinstance(pipeline, str):
        return " ".join(pipeline.split())
    return ", ".join(step["as"] for step in pipeline["steps"]) or "no steps"


def repair_in_words(unfinished: Document) -> str:
    """What other processes are doing to a store, or have left in it."""
    if unfinished["writing"]:
        return f"being written to by {unfinished['writing']} other processes"
    if unfinished["complete"] or unfinished["remove"]:
        return (
            "interrupted writes: pxprep repair would complete the layers "
            f"{list(unfinished['complete'])} and remove {unfinished['remove']} unfinished writes"
        )
    return "no interrupted writes"
