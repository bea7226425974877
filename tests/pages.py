"""HTML pages: what they hold, and how a browser shows them."""

import base64
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

VOID = {"meta", "img", "br", "link", "hr", "input"}
# The smallest window of the browser is wider than a phone: a frame is as wide as it should be.
FRAME = """
<body><iframe src="measured.html" style="width: {}px; height: {}px; border: 0"></iframe><script>
addEventListener("message", (event) => {{ document.body.dataset.measured = event.data; }});
</script></body>
"""
MEASURED = """
<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const broken = [...document.images].filter((image) => !image.naturalWidth).length;
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
  const outside = asked.filter((name) => !name.startsWith("data:"));
  parent.postMessage([
    innerWidth, page.scrollWidth, broken, document.images.length, outside.length].join(" "), "*");
});
</script>
"""


class Page(HTMLParser):
    """Tables by the beginning of their caption, images by their alt text, links, headings."""

    def __init__(self, path):
        super().__init__()
        self.text = Path(path).read_text(encoding="utf-8")
        self.open, self.tables, self.images, self.links = [], {}, [], []
        self.headings, self.words = [], []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "img":
            self.images.append((found["alt"], found["src"]))
        elif tag in ("a", "link", "script"):
            self.links.append(found.get("href") or found.get("src"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside in ("td", "th"):
            self.rows[-1][-1] += data
        elif inside == "caption":
            self.caption += data
        elif inside in ("h1", "h2", "h3", "h4"):
            self.headings.append(data)
        elif inside not in ("style", "script"):
            self.words.append(data)

    def table(self, caption):
        """The rows, without the header, of the table whose caption begins so."""
        (rows,) = [rows for text, rows in self.tables.items() if text.startswith(caption)]
        return rows[1:]

    def image(self, alt):
        """The pixels, RGB, of the images of this alt text."""
        from PIL import Image

        found = [uri for text, uri in self.images if text == alt]
        return [np.asarray(Image.open(BytesIO(decoded(uri))).convert("RGB")) for uri in found]

    @property
    def said(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def decoded(uri):
    """The bytes of a data URI."""
    assert uri.startswith("data:")
    return base64.b64decode(uri.partition("base64,")[2])


def chromium():
    """The browser; the test is skipped where there is none, unless it was said to be there."""
    wanted = os.environ.get("PXPREP_CHROMIUM")
    if wanted:
        assert shutil.which(wanted), f"PXPREP_CHROMIUM={wanted!r} is no program"
        return wanted
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    return pytest.skip("needs Chromium on the PATH, or its path in PXPREP_CHROMIUM")


def browse(page, size, folder, *how):
    """Run the browser on a page at a size (width, height) in pixels; returns what it prints."""
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--user-data-dir={folder}",
        f"--window-size={size[0]},{size[1]}",
        *how,
        Path(page).as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured(page, size, folder):
    """Width of the window and of the page, images: broken and all, and requests elsewhere."""
    folder = Path(folder)
    text = Path(page).read_text(encoding="utf-8")
    # The report lets no script run.
    text, n = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    assert n == 1
    text = text.replace("</body>", f"{MEASURED}</body>")
    (folder / "measured.html").write_text(text, encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(*size), encoding="utf-8")
    dom = browse(
        frame, (1400, 1000), folder / "profile", "--dump-dom", "--virtual-time-budget=9000"
    )
    (found,) = re.findall(r'data-measured="([\d ]+)"', dom)
    return [int(number) for number in found.split()]


def screenshot(page, size, folder):
    """The pixels, RGB, that the browser shows."""
    from PIL import Image

    picture = Path(folder) / "shown.png"
    browse(page, size, Path(folder) / "profile", f"--screenshot={picture}")
    return np.asarray(Image.open(picture).convert("RGB"))
