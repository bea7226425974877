"""Processes that write to one store at once, and one that reads it: what do they see?

    python tests/contention.py --seconds 60

Two writers each replace a layer of their own again and again, and add new ones. The reader opens
the store anew each time. A read during which a layer was replaced is counted: it may hold chunks of
both.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import spatialdata

import pxprep
from pxprep import Pipeline, provenance
from stores import layers, make_study

# What the writers make in turn: the same layout, other values.
RECIPES = (Pipeline().blur(1), Pipeline().blur(2))
NEW_LAYERS = 8


def add_layers(store, writer, n_layers=NEW_LAYERS):
    """Add so many new layers, each by a call of its own."""
    warnings.simplefilter("ignore")
    sdata = spatialdata.read_zarr(store)
    for number in range(n_layers):
        pxprep.pixel_clustering_preprocess(
            sdata, f"fov{writer}", f"w{writer}-{number}", pipeline=RECIPES[0]
        )


def add_at_once(store, n_writers, n_layers):
    """Add layers in so many processes; where forks are safe, they need not import all anew."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [
        context.Process(target=add_layers, args=(store, writer, n_layers))
        for writer in range(n_writers)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    sys.exit(sum(writer.exitcode != 0 for writer in writers))


def replace_often(store, writer, seconds, ready, results):
    """Replace a layer of one's own, and add some on the way."""
    warnings.simplefilter("ignore")
    sdata = spatialdata.read_zarr(store)
    count = 0
    ready.wait()
    until = time.time() + seconds
    while time.time() < until:
        count += 1
        pxprep.pixel_clustering_preprocess(
            sdata, f"fov{writer}", f"shared{writer}", pipeline=RECIPES[count % 2], overwrite=True
        )
        if count <= NEW_LAYERS:
            pxprep.pixel_clustering_preprocess(
                sdata, f"fov{writer}", f"w{writer}-{count - 1}", pipeline=RECIPES[0]
            )
    results.put({"replaced": count, "added": min(count, NEW_LAYERS)})


def token(store, layer):
    return json.loads((store / "images" / layer / "zarr.json").read_text())["attributes"]["pxprep"]


def read_often(store, expected, seconds, ready, results):
    """Open the store and read the shared layers; whatever should not be is said."""
    warnings.simplefilter("ignore")
    found = {"opened": 0, "read": 0, "spanned": 0, "mixed": 0, "wrong": []}
    seen = set()
    ready.wait()
    until = time.time() + seconds
    while time.time() < until:
        before = {layer: token(store, layer) for layer in expected}
        try:
            sdata = spatialdata.read_zarr(store)
            values = {layer: sdata.images[layer].values for layer in expected}
        except Exception as error:
            found["wrong"].append(repr(error))
            continue
        found["opened"] += 1
        if not seen <= set(sdata.images):
            found["wrong"].append(f"lost {sorted(seen - set(sdata.images))}")
        seen = set(sdata.images)
        for layer, either in expected.items():
            found["read"] += 1
            spanned = token(store, layer) != before[layer]
            found["spanned"] += spanned
            if any(np.array_equal(values[layer], one) for one in either):
                continue
            chunks = [values[layer][:, rows] for rows in (slice(16), slice(16, None))]
            parts = [[one[:, :16] for one in either], [one[:, 16:] for one in either]]
            whole = all(
                any(np.array_equal(chunk, part) for part in ones)
                for chunk, ones in zip(chunks, parts, strict=True)
            )
            found["mixed"] += 1
            if not (spanned and whole):
                found["wrong"].append(f"{layer}: values of neither; replaced meanwhile: {spanned}")
    results.put(found)


def run(folder, seconds):
    """Two writers and a reader on a store in `folder`; what they found."""
    store = Path(folder) / "study.zarr"
    sdata = make_study(store)
    expected = {}
    for writer in range(2):
        values = []
        for recipe in RECIPES:
            pxprep.pixel_clustering_preprocess(
                sdata, f"fov{writer}", f"shared{writer}", pipeline=recipe, overwrite=True
            )
            values.append(sdata[f"shared{writer}"].values)
        expected[f"shared{writer}"] = values
    context = multiprocessing.get_context("spawn")
    written, read = context.Queue(), context.Queue()
    ready = context.Barrier(3)  # imports take a while
    processes = [
        context.Process(target=replace_often, args=(store, 0, seconds, ready, written)),
        context.Process(target=replace_often, args=(store, 1, seconds, ready, written)),
        context.Process(target=read_often, args=(store, expected, seconds, ready, read)),
    ]
    for process in processes:
        process.start()
    writers, found = [written.get(timeout=seconds + 120) for _ in range(2)], read.get(timeout=120)
    for process in processes:
        process.join()
    left = spatialdata.read_zarr(store)
    added = sum(writer["added"] for writer in writers)
    if len([name for name in left.images if name.startswith("w")]) != added:
        found["wrong"].append(f"of {added} new layers there are {sorted(left.images)}")
    for name in ("shared0", "shared1"):
        made = provenance(left, name).fitted().pipeline
        if not np.array_equal(layers(store)[name][0], expected[name][RECIPES.index(made)]):
            found["wrong"].append(f"{name} carries the provenance of another")
    if (store / ".pxprep").exists():
        found["wrong"].append("something was left behind")
    return {"writers": writers, "reader": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        report = run(folder, options.seconds)
    print(json.dumps(report, indent=1))  # noqa: T201
    sys.exit(bool(report["reader"]["wrong"]))
