"""What is generated from the steps is what stands in the files."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".ci" / "generate_methods.py"
# In a process of its own, as it imports the steps without the package around them.
PRINTED = f"""
import runpy
for path, text in runpy.run_path({str(GENERATOR)!r})["files"]().items():
    print(path, path.read_text() == text)
"""


def test_generated_files_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "-c", PRINTED], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    stale = [line for line in lines if not line.endswith(" True")]
    assert not stale, "run: python .ci/generate_methods.py"
