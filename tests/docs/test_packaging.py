"""The lower bounds that are promised are the ones that CI installs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_lowest_versions_are_the_promised_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [*project["dependencies"], *project["optional-dependencies"]["plot"]]
    lowest = (ROOT / ".ci" / "lowest.txt").read_text().split("# Not ours")[0]
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", lowest, re.M))
    bounds = {re.match(r"[\w-]+", line)[0]: line.split(">=")[1] for line in promised}
    assert bounds.keys() == pinned.keys()
    for name, bound in bounds.items():
        assert pinned[name].removesuffix(".0") == bound.removesuffix(".0"), name
