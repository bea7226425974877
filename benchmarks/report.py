"""The report of a cohort: how long it takes to write, how large it is, how fast it opens.

    python benchmarks/report.py                     # 60 images of 40 channels
    python benchmarks/report.py --images 1000 --size 64
    python benchmarks/report.py --keep report.html  # the file, to be looked at

Opening is measured in headless Chromium, on the PATH or in PXPREP_CHROMIUM: from its asking for the
file until the whole page is parsed and laid out, the median of five.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

import pxprep
from pxprep.datasets import tissue

N_KINDS = 12
PAGE = """
<body><iframe width="1280" height="900"></iframe><script>
const frame = document.querySelector("iframe");
const started = performance.now();
frame.onload = () => {
  const height = frame.contentDocument.documentElement.scrollHeight;
  document.body.dataset.opened = `${performance.now() - started} ${height}`;
};
frame.src = "report.html";
</script></body>
"""


def cohort(n_images, n_channels, size, seed=0):
    """Images of a few kinds of tissue, each stained a little differently, and some outliers."""
    random = np.random.default_rng(seed)
    kinds = [*tissue(min(n_images, N_KINDS), size, seed=seed).values()]
    images = {}
    for i in range(n_images):
        kind = kinds[i % len(kinds)]
        sides = kind.values, kind.values[:, ::-1], kind.values[:, :, ::-1]
        seen = [sides[i // len(kinds) % 3]] * -(-n_channels // len(kind))
        values = np.concatenate(seen)[:n_channels].astype(np.float32)
        values *= random.lognormal(0, 0.12, (n_channels, 1, 1)).astype(np.float32)
        images[f"fov{i}"] = values
    labels = [
        str(kind.c.values[c % len(kind)]) + (f"-{c // len(kind)}" if c >= len(kind) else "")
        for c in range(n_channels)
    ]
    for i in random.choice(n_images, max(n_images // 8, 1), replace=False):
        images[f"fov{i}"][random.integers(n_channels)] *= random.choice([0.0, 0.1, 6, 20])
    return {
        name: xr.DataArray(values, dims=("c", "y", "x"), coords={"c": labels}, name=name)
        for name, values in images.items()
    }


def opened(report, chromium):
    """Seconds until the page is laid out, and its height in pixels."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "page.html").write_text(PAGE)
        shutil.copy(report, Path(folder, "report.html"))
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--allow-file-access-from-files", f"--user-data-dir={folder}/profile", "--dump-dom"),
            Path(folder, "page.html").as_uri(),
        ]
        dom = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    milliseconds, height = re.findall(r'data-opened="([\d.]+) (\d+)"', dom)[0]
    return float(milliseconds) / 1000, int(height)


def main():
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--channels", type=int, default=40)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    images = cohort(asked.images, asked.channels, asked.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pxprep.errors.PxprepWarning)
        passes = pxprep.reporting.Passes()
        fitted = pxprep.Pipeline.sparrow().fit(images, progress=passes)
        after = {name: fitted.transform(image) for name, image in images.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = asked.keep or Path(folder, "report.html")
        started = time.perf_counter()
        pxprep.report(file, images, after, fitted, title="Benchmark", passes=passes)
        seconds = time.perf_counter() - started
        chromium = os.environ.get("PXPREP_CHROMIUM") or shutil.which("chromium")
        found = [opened(file, chromium) for _ in range(5)] if chromium else []
        text = (
            f"{asked.images} images, {asked.channels} channels, {asked.size} pixels a side: "
            f"written in {seconds:.1f} s, {file.stat().st_size / 1e6:.1f} MB"
        )
    if found:
        text += f", opened in {statistics.median(one for one, _ in found):.2f} s"
        text += f" ({found[0][1]:,} pixels high)"
    print(text)


if __name__ == "__main__":
    main()
