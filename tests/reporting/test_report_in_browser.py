"""A report in a browser: nothing comes from elsewhere, and its own script alone runs."""

import base64
import hashlib
import re
import shutil

import numpy as np
import pytest

pytest.importorskip("jinja2")

from pages import acted, measured, screenshot

PHONE, DESKTOP = (390, 844), (1280, 900)
SORT = """
const table = document.getElementById("image-rows").closest("table");
const button = table.tHead.rows[0].cells[3].querySelector("button");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
button.click(); const up = names(); button.click(); const down = names();
const name = table.tHead.rows[0].cells[0].querySelector("button"); name.click();
found = [up, down, names(), table.tHead.rows[0].cells[0].getAttribute("aria-sort")];
"""
FILTER = """
const field = document.querySelector("[data-filter=gallery] input");
field.value = "FOV1"; field.dispatchEvent(new Event("input"));
const items = [...document.getElementById("gallery").children];
const shown = items.filter((item) => getComputedStyle(item).display !== "none");
found = shown.map((item) => item.querySelector("strong").textContent);
"""
REVEAL = """
const opened = () => [...document.querySelectorAll("#pictures details[open] h3")];
const before = opened().length;
document.querySelector(`#image-rows a[href="#image-2"]`).click();
location.hash = "#image-2";
dispatchEvent(new HashChangeEvent("hashchange"));
found = [before, opened().map((title) => title.textContent)];
"""


def test_nothing_is_loaded_from_elsewhere(page):
    assert all(uri.startswith("data:image/png;base64,") for _, uri in page.images)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"url\((?!#)|@import|https?:| style=| on\w+=", page.text)
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert targets
    assert all(f'id="{target}"' in page.text for target in targets)
    assert all(alt for alt, _ in page.images)


def test_the_policy_names_the_one_script_and_the_one_style(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.text)[1]
    wanted = ["default-src 'none'", "img-src data:"]
    for kind in ("style", "script"):
        (part,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        wanted.append(f"{kind}-src 'sha256-{digest}'")
    assert policy == "; ".join(wanted)


def test_its_script_runs_and_no_other(file, tmp_path):
    dom, found = acted(file, "found = 1", tmp_path, policy=True)
    assert found is None
    assert dom.count('<button title="sort"') > 5


@pytest.fixture
def eleven(fovs, write, tmp_path):
    """A report of eleven images, of which each loses another number of pixels."""
    from pxprep import Pipeline

    images = {f"fov{i}": fovs[f"fov{i % 4}"].astype(float) for i in range(11)}
    for i, image in enumerate(images.values()):
        image[:, : (7 * i) % 11, :3] = np.nan
    fitted = Pipeline().quantile_norm().fit(images)
    write(images, fitted.transform(images), fitted)
    return shutil.copy(tmp_path / "made.html", tmp_path / "eleven.html")


def test_tables_sort_by_number_and_by_name(eleven, tmp_path):
    _, (up, down, names, direction) = acted(eleven, SORT, tmp_path)
    n_missing = {f"fov{i}": (7 * i) % 11 for i in range(11)}
    assert up == sorted(n_missing, key=n_missing.get)
    assert down == up[::-1]
    # As people count: fov2 is before fov10.
    assert names == [f"fov{i}" for i in range(11)]
    assert direction == "ascending"


def test_images_can_be_filtered(eleven, tmp_path):
    _, found = acted(eleven, FILTER, tmp_path)
    assert sorted(found) == ["fov1", "fov10"]


def test_links_open_the_section_of_an_image(eleven, tmp_path):
    _, found = acted(eleven, REVEAL, tmp_path)
    assert found == [0, ["fov2"]]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_fits_the_window(file, page, size, tmp_path):
    window, width, broken, n_images, elsewhere = measured(file, size, tmp_path)
    assert window == size[0]
    assert width <= window
    assert (broken, n_images, elsewhere) == (0, len(page.images), 0)
    shown = screenshot(file, size, tmp_path)
    assert shown.shape == (size[1], size[0], 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20
