"""Imaging mass cytometry that was planned, interrupted or damaged: what is there is read."""

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")

from imc_files import LABELS, PANEL, counts, write_mcd, write_txt
from pxprep import PxprepWarning
from pxprep.errors import ImageError, ParameterError
from pxprep.io import import_images, open_images, read_imc
from tiff_files import one

WHOLE = 11 * 9 * 28  # bytes of an acquisition


def write_planned(file, missing=WHOLE):
    """Three acquisitions, of which the second has no pixels, or not all of them."""
    values = [counts(seed=seed) for seed in range(3)]
    named = [("ROI_001", PANEL, values[0]), ("ROI_002", PANEL, values[1], missing)]
    write_mcd(file, [*named, ("ROI_003", PANEL, values[2])])
    return values


def test_planned_acquisitions_are_left_out(tmp_path):
    values = write_planned(tmp_path / "s1.mcd")
    write_mcd(tmp_path / "s2.mcd", [("a", PANEL, counts(seed=9))])
    with pytest.warns(
        PxprepWarning, match=r"s1\.mcd' are left out: 2, it has no pixels: it was planned, not acq"
    ):
        images = open_images(tmp_path)
    assert list(images) == ["s1_ROI_001", "s1_ROI_003", "s2"]
    np.testing.assert_array_equal(images["s1_ROI_003"].values, values[2])


def test_acquisitions_are_chosen(tmp_path):
    values = write_planned(tmp_path / "s1.mcd")
    write_mcd(tmp_path / "s2.mcd", [("a", PANEL, counts(seed=9))])
    for path, names in (
        ("s1.mcd", ["s1_ROI_001", "s1_ROI_003"]),
        (".", ["s1_ROI_001", "s1_ROI_003", "s2"]),
    ):
        images = open_images(tmp_path / path, acquisitions=[1, 3])
        assert list(images) == names
        np.testing.assert_array_equal(images["s1_ROI_003"].values, values[2])
    sdata = import_images(tmp_path / "s1.mcd", tmp_path / "new.zarr", acquisitions=[3])
    np.testing.assert_array_equal(sdata["s1"].values, values[2])
    with pytest.raises(ImageError, match=r"broken acquisitions: 2, .*acquisitions= chooses others"):
        open_images(tmp_path, acquisitions=[1, 2])
    with pytest.raises(ParameterError, match=r"some of \[1, 2, 3\], .* got \[4\]"):
        open_images(tmp_path, acquisitions=[4])


@pytest.mark.parametrize(
    ("missing", "why"), [(WHOLE, "planned"), (5, "its last pixel is not whole")]
)
def test_a_text_file_takes_the_place(tmp_path, missing, why):
    values = write_planned(tmp_path / "s1.mcd", missing)
    write_txt(tmp_path / "s1_ROI_002_2.txt", PANEL, values[1])
    write_txt(tmp_path / "s1_ROI_003_3.txt", PANEL, values[0])  # not looked at
    write_txt(tmp_path / "s10_ROI_002_2.txt", PANEL, values[0])  # of another slide
    read = rf"acquisition 2 .*{why}.*s1_ROI_002_2\.txt' is read ins"
    left_out = r"no \.mcd file are left out: 's10_ROI_002_2\.txt'$"
    with pytest.warns(PxprepWarning, match=read), pytest.warns(PxprepWarning, match=left_out):
        images = open_images(tmp_path)
    assert list(images) == ["s1_ROI_001", "s1_ROI_002", "s1_ROI_003"]
    for image, expected in zip(images.values(), values, strict=True):
        assert image.c.values.tolist() == LABELS
        np.testing.assert_array_equal(image.values, expected)


def test_files_that_are_no_imc(tmp_path):
    """Alone an error in a few words; beside others left out, or their text files are read."""
    (tmp_path / "s1.mcd").write_bytes(b"nothing" * 100_000)
    with pytest.raises(ImageError, match=r"s1\.mcd' cannot be read as IMC") as caught:
        open_images(tmp_path)
    assert len(str(caught.value)) < 600
    values = counts()
    write_mcd(tmp_path / "s2.mcd", [("a", PANEL, values)])
    with pytest.warns(PxprepWarning, match=r"1 files are left out: .*s1\.mcd' cannot be read"):
        assert list(open_images(tmp_path)) == ["s2"]
    write_txt(tmp_path / "s1_ROI_001_1.txt", PANEL, values)
    with pytest.warns(PxprepWarning, match=r"s1\.mcd' .*: its text files are read instead"):
        images = open_images(tmp_path)
    np.testing.assert_array_equal(images["s1"].values, values)


def test_nothing_but_planned_acquisitions(tmp_path):
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, counts(), WHOLE)])
    with pytest.raises(ImageError, match=r"broken acquisitions: 1, it has no .* not acquired$"):
        open_images(tmp_path)
    write_mcd(tmp_path / "s2.mcd", [("a", PANEL, counts())])
    with pytest.warns(PxprepWarning, match=r"1 files are left out: .*s1\.mcd' .*: 1, it has no pi"):
        assert list(open_images(tmp_path)) == ["s2"]


# --- text files -----------------------------------------------------------------------------------


def cut(file, n_lines, end=""):
    """Leave so many lines of a text file, and perhaps a part of the next one."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:n_lines]) + end)


@pytest.mark.parametrize("end", ["", "60\t60\t1\t6", "60\t60\t1\t6\t5\t0\t1.2\t3\t4\t5"])
def test_an_interrupted_text_file(tmp_path, end):
    """A pixel that was cut is left out: its last number may have been longer."""
    values, file = counts(), tmp_path / "s1.txt"
    write_txt(file, PANEL, values)
    cut(file, 1 + 5 * 9 + 6, end)
    with pytest.warns(PxprepWarning) as caught:
        image = one(read_imc(file))
    told = [str(warning.message) for warning in caught]
    assert told.pop().endswith("interrupted: 3 of its 6 x 9 pixels are missing, and are 0")
    assert ["ends within a line" in message for message in told] == [True] * bool(end)
    assert image.shape == (4, 6, 9)
    expected = values[:, :6].copy()
    expected[:, 5, 6:] = 0
    np.testing.assert_array_equal(image.values, expected)


def test_a_text_file_that_ends_with_a_row(tmp_path):
    values, file = counts(), tmp_path / "s1.txt"
    write_txt(file, PANEL, values)
    cut(file, 1 + 5 * 9)
    np.testing.assert_array_equal(one(read_imc(file)).values, values[:, :5])
    cut(file, 1 + 5 * 9, "46\t46\t1\t0")
    with pytest.warns(PxprepWarning, match=r"s1\.txt' ends within a line: if it was cut off"):
        image = one(read_imc(file))
    np.testing.assert_array_equal(image.values, values[:, :5])
    cut(file, 1 + 3)
    np.testing.assert_array_equal(one(read_imc(file)).values, values[:, :1, :3])


def test_a_text_file_without_an_end_of_line(tmp_path):
    values, file = counts(), tmp_path / "s1.txt"
    write_txt(file, PANEL, values)
    file.write_text(file.read_text().rstrip("\n"))
    for _ in range(2):
        with pytest.warns(PxprepWarning, match=r"s1\.txt' ends within a line: if it was cut"):
            image = one(read_imc(file))
        np.testing.assert_array_equal(image.values, values)
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def test_a_text_file_that_lacks_pixels_in_between(tmp_path):
    file = tmp_path / "s1.txt"
    write_txt(file, PANEL, counts())
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:40], *lines[50:]]))
    image = one(read_imc(file))
    with pytest.raises(
        ImageError, match=r"\(4, 11, 9\) and 99 pixels, .* it has \(4, 11, 9\) and 89"
    ):
        image.compute()


def test_a_text_file_with_a_pixel_in_the_place_of_another(tmp_path):
    file = tmp_path / "s1.txt"
    write_txt(file, PANEL, counts())
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:40], lines[41], *lines[41:]]))
    with pytest.raises(ImageError, match=r"99 pixels, .* and 98 in 99 lines"):
        one(read_imc(file)).compute()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_text_of_other_encodings(tmp_path, encoding):
    values, file = counts(), tmp_path / "s1.txt"
    write_txt(file, {**PANEL, ("Xe", 131): "µ-gas"}, values)
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    image = one(open_images(tmp_path))
    assert image.c.values.tolist() == [*LABELS[:3], "µ-gas"]
    np.testing.assert_array_equal(image.values, values)


def test_a_column_that_names_no_metal(tmp_path):
    file = tmp_path / "s1.txt"
    write_txt(file, PANEL, counts())
    file.write_text(file.read_text().replace("CD3(In115Di)", "CD3"))
    with pytest.raises(
        ImageError, match=r"s1\.txt' cannot be read as IMC: column 'CD3' names no m"
    ):
        read_imc(file)


@pytest.mark.parametrize("is_damaged", [True, False])
def test_text_files_of_another_slide(tmp_path, is_damaged):
    """They begin like this one's: its broken acquisition is not taken from them."""
    values = write_planned(tmp_path / "s1.mcd", 5)
    if is_damaged:
        (tmp_path / "s1.mcd").write_bytes(b"damaged")
    write_mcd(tmp_path / "s1_b.mcd", [("x", PANEL, values[0]), ("y", PANEL, values[2])])
    for number in (1, 2):
        write_txt(tmp_path / f"s1_b_{number}.txt", PANEL, values[2])
    with pytest.warns(PxprepWarning, match="left out"):
        images = open_images(tmp_path)
    own = [] if is_damaged else ["s1_ROI_001", "s1_ROI_003"]
    assert list(images) == [*own, "s1_b_x", "s1_b_y"]


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_text_file_without_pixels(tmp_path, is_damaged):
    """As that of an acquisition that was planned."""
    values = write_planned(tmp_path / "s1.mcd")
    write_txt(tmp_path / "s1_ROI_002_2.txt", PANEL, np.zeros((4, 0, 9)))
    if is_damaged:
        (tmp_path / "s1.mcd").write_bytes(b"damaged")
        write_txt(tmp_path / "s1_ROI_003_3.txt", PANEL, values[2])
    with pytest.warns(PxprepWarning, match="left out|read instead"):
        images = read_imc(tmp_path / "s1.mcd")
    name = "s1" if is_damaged else "s1_ROI_003"
    np.testing.assert_array_equal(images[name].values, values[2])
