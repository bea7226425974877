"""Stores of text files: what `transactions` does without SpatialData."""

import errno
import json

from pxprep.store import transactions
from pxprep.store.places import Place


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


class Listing:
    """Contents of a store of text files: a list of the layers, and notes about them."""

    def __init__(self, store):
        self.store = store
        self.failing = set()

    def _step(self, name):
        if name in self.failing:
            raise OSError(errno.EIO, f"{name} failed")

    def check(self, note, placed):
        self._step("check")

    def has_table(self):
        return (self.store / "table").exists()

    def withdraw(self, scratch):
        self._step("withdraw")
        (self.store / "table").unlink(missing_ok=True)

    def announce(self, note, placed, table, scratch):
        self._step("announce")
        notes = self.store / "notes"
        found = json.loads(notes.read_text()) if notes.exists() else {}
        if placed:
            notes.write_text(json.dumps(found | dict.fromkeys(placed, note), sort_keys=True))
        if table:
            names = sorted(path.name for path in (self.store / "images").iterdir())
            (self.store / "table").write_text(" ".join(names))


def write(folder, text):
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text(text)
    (folder / "0").mkdir()
    (folder / "0" / "chunk").write_text(text)


def staged(transaction, *names):
    for name in names:
        write(transaction.stage / "images" / name, f"new {name}")
    return [Place("images", name) for name in names]


def layers(store):
    return {path.name: (path / "0" / "chunk").read_text() for path in (store / "images").iterdir()}


def publish(store, *names, contents=None, note="made"):
    with transactions.transaction(store, contents or Listing(store)) as transaction:
        transaction.publish(staged(transaction, *names), note)
