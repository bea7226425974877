"""Imaging mass cytometry, read lazily."""

import numpy as np
import pytest

pytest.importorskip("tifffile")
pytest.importorskip("readimc")


from imc_files import LABELS, PANEL, counts, write_mcd, write_txt
from pxprep import PxprepWarning
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import imc, open_images, read_imc
from tiff_files import check, one


def test_mcd(tmp_path, no_compute):
    first, second = counts(), counts((4, 5, 9), seed=1)
    write_mcd(tmp_path / "s1.mcd", [("ROI 1", PANEL, first), ("ROI 2", PANEL, second)])
    with no_compute():
        images = read_imc(tmp_path / "s1.mcd")
    assert list(images) == ["s1_ROI 1", "s1_ROI 2"]
    check(images["s1_ROI 1"], first, LABELS)
    np.testing.assert_array_equal(images["s1_ROI 2"].values, second)
    pixels, _ = imc._acquisitions_of(tmp_path / "s1.mcd")
    np.testing.assert_array_equal(pixels[1:3, 4:, 2], first[1:3, 4:, 2])
    assert images["s1_ROI 2"].attrs["um_per_pixel"] == {"y": 2.0, "x": 1.0}
    chosen = open_images(tmp_path / "s1.mcd", ["Xe131", "CD3"])["s1_ROI 1"]
    np.testing.assert_array_equal(chosen.values, first[[3, 0]])


def test_acquisitions_without_names_of_their_own(tmp_path):
    write_mcd(tmp_path / "s1.mcd", [("ROI", PANEL, counts()), ("ROI", PANEL, counts())])
    assert list(read_imc(tmp_path / "s1.mcd")) == ["s1_1", "s1_2"]
    assert list(read_imc(tmp_path / "s1.mcd", acquisitions=[2])) == ["s1"]
    # The first is called like the number of the second, which has no name.
    write_mcd(tmp_path / "s2.mcd", [("2", PANEL, counts()), ("", PANEL, counts())])
    assert list(read_imc(tmp_path / "s2.mcd")) == ["s2_1", "s2_2"]
    for bad in ([3], [], "1", 1, [[1]]):
        with pytest.raises(ParameterError, match=r"acquisitions must be a sequence of some of \[1"):
            read_imc(tmp_path / "s1.mcd", acquisitions=bad)


def test_broken_acquisitions(tmp_path):
    whole = ("ROI 1", PANEL, counts())
    cut = ("ROI 2", PANEL, counts(), 5)
    write_mcd(tmp_path / "s1.mcd", [whole, cut, ("ROI 3", PANEL, counts(), 11 * 9 * 28)])
    with pytest.warns(
        PxprepWarning, match=r"left out: 2, its last pixel is not whole; 3, it has no pixels"
    ):
        assert list(read_imc(tmp_path / "s1.mcd")) == ["s1"]
    with pytest.raises(ImageError, match=r"broken acquisitions: 2, its.*others, of \[1\]$"):
        read_imc(tmp_path / "s1.mcd", acquisitions=[1, 2])
    np.testing.assert_array_equal(
        one(read_imc(tmp_path / "s1.mcd", acquisitions=[1])).values, counts()
    )


def test_an_acquisition_that_was_stopped_is_zero_after_that(tmp_path):
    values = counts()
    write_mcd(tmp_path / "s1.mcd", [("ROI 1", PANEL, values, 9 * 28)])
    with pytest.warns(
        PxprepWarning, match=r"1 of .*s1\.mcd' was interrupted: 9 of its 11 x 9 pixels are missing"
    ):
        image = one(read_imc(tmp_path / "s1.mcd"))
    np.testing.assert_array_equal(image[:, :-1].values, values[:, :-1])
    assert not image[:, -1].values.any()


def test_acquisitions_that_differ_in_their_channels(tmp_path):
    other = {("In", 115): "CD3", ("Ir", 191): "DNA1"}
    write_mcd(tmp_path / "s1.mcd", [("a", PANEL, counts()), ("b", other, counts((2, 5, 5)))])
    with pytest.raises(
        ChannelError, match=r"'s1_b' lacks 'DNA\(Ir191\)', .* all images have 'CD3'$"
    ):
        read_imc(tmp_path / "s1.mcd")
    assert list(read_imc(tmp_path / "s1.mcd", ["CD3"])) == ["s1_a", "s1_b"]


def test_txt(tmp_path, no_compute):
    values = counts()
    write_txt(tmp_path / "s1_ROI_1.txt", PANEL, values)
    with no_compute():
        images = read_imc(tmp_path / "s1_ROI_1.txt")
    assert list(images) == ["s1_ROI_1"]
    assert images["s1_ROI_1"].c.values.tolist() == LABELS
    np.testing.assert_array_equal(images["s1_ROI_1"].values, values)


def test_a_txt_whose_last_line_is_not_its_last_pixel(tmp_path):
    file = tmp_path / "s1.txt"
    write_txt(file, PANEL, counts())
    header, first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([header, *rest, first]))
    with pytest.warns(PxprepWarning, match="ends within a line"):
        image = one(read_imc(file))
    with pytest.raises(ImageError, match=r"s1\.txt.*the shape \(4, 11, 9\) and 99 pixels, .* 98"):
        image.compute()


@pytest.mark.parametrize("suffix", [".mcd", ".txt"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"Start_push\tEnd_push\n"])
def test_what_is_no_imc(tmp_path, suffix, content):
    file = tmp_path / f"s1{suffix}"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"s1\{suffix}' cannot be read as IMC"):
        read_imc(file)
