"""HTML pages: what they hold, and how a browser shows them."""

import base64
import json
import os
import re
import shutil
import subprocess
from html import unescape
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


# What is a part of the text around it.
INLINE = {"a", "b", "button"}


class Page(HTMLParser):
    """What a page holds: tables, images, paths of histograms, links, files, headings, words.

    Tables go by the beginning of their caption, images by their alt text, histograms by their
    label, files by their name.
    """

    def __init__(self, path):
        super().__init__()
        self.text = Path(path).read_text(encoding="utf-8")
        self.open, self.tables, self.images, self.links = [], {}, [], []
        self.headings, self.words = [], []
        self.histograms, self.files, self.label = {}, {}, None
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
        elif tag == "svg":
            self.label = found.get("aria-label")
        elif tag == "path":
            self.histograms.setdefault(self.label, {})[found["class"]] = found["d"]
        elif "href" in found or "src" in found:
            self.links.append(found.get("href") or found.get("src"))
        if "download" in found:
            self.files[found["download"]] = decoded(found["href"]).decode()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        inside = next((tag for tag in reversed(self.open) if tag not in INLINE), "")
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

    def pictures(self, channel, side):
        """Those of a channel in all images, in the order of the page."""
        wanted = re.compile(rf"{re.escape(channel)} of .*, {side}", re.DOTALL)
        alts = dict.fromkeys(alt for alt, _ in self.images if wanted.fullmatch(alt))
        return [picture for alt in alts for picture in self.image(alt)]

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
    # The report lets no script run but its own.
    text, n = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    assert n == 1
    text = text.replace(' loading="lazy"', "").replace("</body>", f"{MEASURED}</body>")
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


def acted(page, script, folder, policy=False):
    """What a script finds that runs in a page, and puts into `found`; with the page's `policy`?"""
    text = Path(page).read_text(encoding="utf-8")
    if not policy:
        text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    script = (
        f"<script>let found;{script};document.body.dataset.found = JSON.stringify(found)</script>"
    )
    acting = Path(folder) / "acting.html"
    acting.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    dom = browse(acting, (1280, 900), Path(folder) / "profile", "--dump-dom")
    values = re.findall(r'<body[^>]* data-found="([^"]*)"', dom)
    return dom, json.loads(unescape(values[0])) if values else None
