"""The notebooks of `examples/`: their code, and what their text says, as code that checks it.

`python tests/notebooks.py FOLDER` lets the notebooks of a folder check it themselves, in a last
cell that no page shows: so those that the build of the site executes need not run once more.
"""

import ast
import json
import sys
from pathlib import Path

# What the text of a notebook says, as code that runs after its last cell.
CLAIMS = {
    "one-image": "assert at_once.equals(clean) and lazy.compute().equals(at_once)",
    "cohort": """
listed = fitted.outliers()
assert list(zip(listed.fov, listed.channel)) == [("fov4", "CD8"), ("fov3", "panCK")]
assert 1.65 < listed.fold[1] < 1.75
assert 1.3 < scales.ratio["CD8"] < 1.5
assert abs(scales.ratio.drop("CD8") - 1).max() < 0.05
assert list(clean.subtree_with_keys)[-1][0] == "slide2/fov5/scale1"
""",
    "own-steps": "assert again == fitted and lazy.compute().equals(clean)",
    "flowsom": """
assert 16_000 <= len(sample) < 18_000
assert sdata["fov2_clean_clusters"].shape == (256, 256)
""",
    "large-slide": """
assert max(peaks) < 600e6
assert fitted.numbers["quantile_norm_scale"].sel(c="CD8").item() == expected
""",
}


def imported(code):
    """The modules that code imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def code_of(path):
    """All code cells in a row, without IPython's own commands."""
    cells = json.loads(path.read_text())["cells"]
    lines = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").split("\n")
    return "\n".join(line for line in lines if not line.startswith("%"))


def add_claims(folder):
    """Write the claims into the notebooks of a folder."""
    for name, claim in CLAIMS.items():
        path = Path(folder, f"{name}.ipynb")
        notebook = json.loads(path.read_text())
        cell = {"cell_type": "code", "execution_count": None, "id": "claims", "outputs": []}
        cell |= {"metadata": {"tags": ["remove-cell"]}, "source": claim.strip().splitlines(True)}
        path.write_text(json.dumps({**notebook, "cells": [*notebook["cells"], cell]}, indent=1))


if __name__ == "__main__":
    add_claims(sys.argv[1])
