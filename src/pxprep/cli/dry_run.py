"""What `pxprep run --dry-run` says: what would be read, measured and written, and what it takes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

from rich.filesize import decimal

from .answers import Document
from .bundled_options import AskedSteps
from .inspect_store import described_pixels, layer_in_words, repair_in_words
from .stores import labels_of

if TYPE_CHECKING:
    import xarray as xr
    from spatialdata import SpatialData


def planned(
    sdata: "SpatialData",
    layers: Sequence[str],
    outputs: Sequence[str],
    steps: AskedSteps,
    how: Mapping[str, object],
) -> dict[str, object]:
    """What would be done, to answer it; raises what doing it would raise before any work."""
    from ..engine.threads import n_cores
    from ..layers.destination import is_on_disk
    from ..layers.plan import plan_layers
    from ..store.transactions import unfinished

    parameters = steps.parameters(labels_of(sdata, layers[0]))
    plan = plan_layers(sdata, layers, outputs, **parameters, **how)
    work, report = plan.work, plan.work.request.report
    writes = [
        {
            **_described(name, scales, work.pairs[name]),
            "replaces": is_on_disk(work.store, name),
        }
        for name, scales in plan.writes.items()
    ]
    return {
        "store": str(sdata.path),
        "dry_run": True,
        "read": [_described(name, [image], None) for name, image in plan.reads.items()],
        "steps": plan.steps,
        "passes": list(plan.passes),
        "write": writes,
        "done": list(work.finished.whole),
        "report": None if report is None else str(report),
        "memory": {"kept": plan.cache_bytes, "block": plan.block_bytes, "threads": n_cores()},
        "disk": {"bytes": sum(one["bytes"] for one in writes), "free": disk_usage(sdata.path).free},
        "unfinished": unfinished(Path(sdata.path))._asdict(),
    }


def plan_in_words(document: Document) -> str:
    """The answer about what would be done."""
    memory, disk = document["memory"], document["disk"]
    writes = [
        layer_in_words(one) + (", replaces the one that is there" if one["replaces"] else "")
        for one in document["write"]
    ]
    steps = [", ".join(document["steps"])] if writes and document["steps"] else []
    lines = [
        *_listed("is finished already", document["done"]),
        *_listed("would read", map(layer_in_words, document["read"])),
        *_listed("would measure, in at least a pass for each", document["passes"]),
        *_listed("would apply", steps),
        *_listed("would write", writes),
        *_listed("would write the report", filter(None, [document["report"]])),
        f"memory: a few blocks of {decimal(memory['block'])} for each of {memory['threads']} "
        f"threads; up to {decimal(memory['kept'])} of what was read may be kept between passes",
        f"disk: {decimal(disk['bytes'])} uncompressed, compressed less; {decimal(disk['free'])} "
        "are free",
    ]
    if any(document["unfinished"].values()):
        lines.append(repair_in_words(document["unfinished"]))
    return "\n".join([*lines, "nothing was written"])


def _listed(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"  {item}" for item in items]
    return [f"{title}:", *lines] if lines else []


def _described(name: str, scales: "Sequence[xr.DataArray]", source: str | None) -> Document:
    """What `pxprep inspect` would say of a layer; its bytes are those of uncompressed pixels."""
    return {
        "name": name,
        **described_pixels(scales),
        "bytes": sum(scale.nbytes for scale in scales),
        "provenance": None if source is None else {"source": source},
    }
