"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_snippets_run_in_order(tmp_path, monkeypatch):
    pytest.importorskip("spatialdata")
    monkeypatch.chdir(tmp_path)
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["after"].dims == ("c", "y", "x")
    assert names["at_once"].c.values.tolist() == ["CD3", "CD8", "CD20", "panCK"]
    assert "quantile_norm_scale" in repr(names["fitted"])
    assert names["later"].shape == names["fovs"]["fov2"].shape
    assert (tmp_path / "study.zarr" / "images" / "fov2_clean").is_dir()
    assert names["clean"].dtype == "float32"


@pytest.mark.parametrize("which", ["demo", "test"])
def test_set_up_is_one_command(which):
    assert len(re.findall(rf"<!-- {which} command -->\n```bash\n[^\n]+\n```", README)) == 1
