"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
# A snippet, and what it prints where the next block shows it.
SNIPPETS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", README, re.DOTALL)


def test_snippets_run_in_order_and_print_what_is_shown(tmp_path, monkeypatch, capsys):
    pytest.importorskip("spatialdata")
    monkeypatch.chdir(tmp_path)
    names = {}
    for snippet, shown in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        assert not shown or printed == shown
    assert sum(bool(shown) for _, shown in SNIPPETS) == 1  # outliers, a table with a row
    assert names["soft"].dims == ("c", "y", "x")
    assert names["later"].equals(names["fitted"].transform(names["fovs"]["fov2"]))
    assert names["sdata"]["fov1_clean"].c.values.tolist() == ["CD3", "CD8", "CD20", "panCK"]
    assert set(names["table"]["fov"]) == {"fov0_clean", "fov1_clean"}
    assert "quantile_norm_scale" in repr(names["made"].fitted())
    for path in ("before-after.png", "report.html", "study.zarr/images/fov1_clean"):
        assert (tmp_path / path).exists()


@pytest.mark.parametrize("size", [5120, 2048])
def test_ratios_are_those_of_the_benchmarks(size):
    """Seconds, memory and the ratio to harpy, as the tables of the benchmarks have them."""
    row, before = {}, len(BENCHMARKS)
    for name in ("harpy", "wrapper"):  # the last row of harpy, and that of the wrapper above it
        pattern = rf"^\| {name} \| {size} \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|(.*)"
        *_, found = re.finditer(pattern, BENCHMARKS[:before], re.M)
        row[name] = [float(found[1]), float(found[2]), found[3]]
        before = found.start()
    (line,) = re.findall(rf"^\| time, 22 markers of {size} x {size} .*", README, re.M)
    ours, theirs, ratio = re.search(
        r"\| ([\d.]+) s(?:;[^|]*)? \| ([\d.]+) s, \*\*([\d.]+) times", line
    ).groups()
    assert (float(ours), float(theirs)) == (round(row["wrapper"][0], 1), round(row["harpy"][0], 1))
    measured = float(re.search(r"([\d.]+) x wrapper", row["harpy"][2])[1])
    assert float(ratio) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("which", ["demo", "test"])
def test_set_up_is_one_command(which):
    assert len(re.findall(rf"<!-- {which} command -->\n```bash\n[^\n]+\n```", README)) == 1
