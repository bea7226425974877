"""What the pages of a TIFF say of themselves: MIBItiff, qptiff, ImageJ, and names of pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

PAGE_NAME = 285
# What a MIBItiff calls a page with the counts of ions.
COUNTS = "SIMS"
TYPE, TARGET, MASS = "image.type", "channel.target", "channel.mass"
# A description that is longer is not a name.
LONGEST_NAME = 100


def mibi_pages(tiff: TiffFile) -> list[tuple[str, TiffPage | TiffFrame]]:
    """The pages of a MIBItiff that hold counts of ions, by target; none of another file."""
    first = json_of(tiff.pages.first)
    if TYPE not in first:
        return []
    told = [(json_of(page.aspage()), page) for page in tiff.pages]
    found = [(about, page) for about, page in told if about.get(TYPE) == COUNTS]
    targets = [str(about.get(TARGET) or about.get(MASS) or "") for about, _ in found]
    return [
        (f"{target} ({about.get(MASS)})" if targets.count(target) > 1 else target, page)
        for target, (about, page) in zip(targets, found, strict=True)
    ]


def names_of_pages(pages: Sequence[TiffPage]) -> list[str]:
    """The names that the pages have for themselves; none unless each has one of its own."""
    for tell in (_biomarker, _page_name, _description):
        if not tell(pages[0].aspage()):
            continue
        names = [tell(page.aspage()) for page in pages]
        if all(names) and len(set(names)) == len(names):
            return names
    return []


def imagej_labels(tiff: TiffFile, n_pages: int) -> list[str]:
    """The labels of an ImageJ stack, if each page has one of its own."""
    labels = (tiff.imagej_metadata or {}).get("Labels") or []
    labels = [str(label).strip() for label in labels]
    is_one_each = len(set(labels)) == len(labels) == n_pages
    return labels if is_one_each and all(labels) else []


def json_of(page: TiffPage) -> dict[str, object]:
    """The description of a page, if that is JSON."""
    text = page.description
    if not text.startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _biomarker(page: TiffPage) -> str:
    """The name of a channel in a qptiff: its biomarker, or else its dye."""
    text = page.description
    if "PerkinElmer-QPI" not in text[:200] or "<!" in text:
        return ""
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return ""
    found = [root.findtext(name, "").strip() for name in ("Biomarker", "Name")]
    return found[0] or found[1]


def _page_name(page: TiffPage) -> str:
    tag = page.tags.get(PAGE_NAME)
    return str(tag.value).strip() if tag is not None else ""


def _description(page: TiffPage) -> str:
    """A description that is no more than a name."""
    text = str(page.description).strip()
    is_name = text and "\n" not in text and len(text) <= LONGEST_NAME
    # What programs write for themselves.
    return text if is_name and text[0] not in "{<" and "=" not in text else ""
