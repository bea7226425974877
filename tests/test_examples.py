"""The examples run, from where a user would run them, and print what they are for."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_cohort(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "cohort.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FittedPipeline of 3 images, 10 channels" in done.stdout
    assert "subtract_background_level" in done.stdout
    assert "fov3: 10 channels" in done.stdout
