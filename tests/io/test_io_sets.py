"""OME-TIFFs in several files: each set is one image, and what is missing is named."""

import uuid

import numpy as np
import pytest

pytest.importorskip("tifffile")

import tifffile

from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.io import Panel, open_images, read_folder, read_tiff
from tiff_files import GRAY, NAMES, check, one, pixels


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """tifffile logs what it cannot read."""
    caplog.set_level("CRITICAL", logger="tifffile")


def write_set(folder, files=None, seed=0, name="slide", values=None):
    """One file for each channel; the metadata of each tell of all, by the names they had first."""
    folder.mkdir(parents=True, exist_ok=True)
    values = pixels(seed=seed) if values is None else values
    listed = [f"{name}_C{i}.ome.tif" for i in range(len(NAMES))]
    ids = [f"urn:uuid:{uuid.uuid4()}" for _ in NAMES]
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{n}"/>' for i, n in enumerate(NAMES))
    data = "".join(
        f'<TiffData FirstC="{i}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="{len(plane)}">'
        f'<UUID FileName="{file}">{own}</UUID></TiffData>'
        for i, (file, own, plane) in enumerate(
            zip(listed, ids, values.reshape(3, -1, *values.shape[-2:]), strict=True)
        )
    )
    size_z = values.shape[1] if values.ndim == 4 else 1
    rows, columns = values.shape[-2:]
    for file, own, plane in zip(files or listed, ids, values, strict=True):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
            f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="{columns}" SizeY="{rows}" SizeC="3" SizeZ="{size_z}" SizeT="1">'
            f"{channels}{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / file, plane, metadata=None, description=xml.encode(), **GRAY)
    return values


@pytest.mark.parametrize("shape", [(3, 101, 83), (3, 4, 101, 83)], ids=["planes", "stacks"])
def test_a_set_is_one_image(tmp_path, shape):
    values = write_set(tmp_path / "slide", values=pixels(shape))
    for path in ("slide", "slide/slide_C1.ome.tif"):
        images = open_images(tmp_path / path)
        assert list(images) == [path.rpartition("/")[2].removesuffix(".ome.tif")]
        check(one(images), values)
    two = open_images(tmp_path / "slide", ["CD20", "DAPI"])["slide"]
    np.testing.assert_array_equal(two.values, values[[2, 0]])


def test_several_sets_in_a_folder(tmp_path):
    stored = {name: write_set(tmp_path, seed=n, name=name) for n, name in enumerate("ab")}
    images = open_images(tmp_path)
    assert list(images) == ["a_C0", "b_C0"]
    for image, values in zip(images.values(), stored.values(), strict=True):
        check(image, values)


@pytest.mark.parametrize("files", [None, [f"{name}.ome.tif" for name in NAMES]])
def test_a_set_for_each_field_of_view(tmp_path, files):
    """Also if the files were called after their channels."""
    stored = [write_set(tmp_path / f"fov{n}", files, n) for n in range(2)]
    for read in (open_images, read_folder):
        images = read(tmp_path, NAMES)
        assert list(images) == ["fov0", "fov1"]
        for image, values in zip(images.values(), stored, strict=True):
            check(image, values)


def test_missing_files_of_a_set(tmp_path):
    values = write_set(tmp_path / "slide")
    (tmp_path / "slide" / "slide_C1.ome.tif").unlink()
    for read, path in ((read_tiff, "slide/slide_C0.ome.tif"), (open_images, "slide")):
        with pytest.raises(ImageError, match=r"slide.*: 'slide_C1\.ome\.tif'"):
            read(tmp_path / path)
    chosen = open_images(tmp_path / "slide", ["DAPI", "CD20"])["slide"]
    np.testing.assert_array_equal(chosen.values, values[[0, 2]])


def test_renamed_sets_in_one_folder(tmp_path):
    """Their files are found by what they are, not by what they were called."""
    stored = [
        write_set(tmp_path, [f"s{n}-{name}.ome.tif" for name in NAMES], n, f"slide{n}")
        for n in range(2)
    ]
    images = open_images(tmp_path, NAMES)
    assert list(images) == ["s0-CD3", "s1-CD3"]
    for image, values in zip(images.values(), stored, strict=True):
        check(image, values)
    (tmp_path / "s0-CD20.ome.tif").unlink()
    with pytest.raises(
        ImageError, match=r"lacks files of an OME-TIFF: 'slide0_C2\.ome\.tif'; channels= chooses"
    ):
        open_images(tmp_path)
    chosen = open_images(tmp_path, ["DAPI", "CD3"])["s0-CD3"]
    np.testing.assert_array_equal(chosen.values, stored[0][:2])


def test_a_renamed_set_beside_a_file(tmp_path):
    """It is chosen and named as other images are, and comes where its first file does."""
    stored = write_set(tmp_path, [f"a-{name}.ome.tif" for name in NAMES])
    own = {"axes": "CYX", "Channel": {"Name": ["CD3", "CD20", "DAPI"]}}
    tifffile.imwrite(tmp_path / "b.ome.tif", pixels(seed=1), metadata=own, **GRAY)
    assert list(open_images(tmp_path)) == ["a-CD3", "b"]
    assert list(open_images(tmp_path, images=["b"])) == ["b"]
    assert list(open_images(tmp_path, images=["slide"])) == ["a-CD3"]
    named = open_images(tmp_path, channel_names=["x", "y", "z"])["a-CD3"]
    check(named, stored[[1, 2, 0]], ["x", "y", "z"])


@pytest.mark.parametrize("names", [NAMES, ["DAPI"]])
@pytest.mark.parametrize("is_master", [False, True])
def test_a_file_for_each_position(tmp_path, names, is_master):
    """As MicroManager writes them: the metadata of each, or of the first, tell of all images."""
    listed, ids = ["p0.ome.tif", "p1.ome.tif"], [f"urn:uuid:{uuid.uuid4()}" for _ in range(2)]
    other = f'<BinaryOnly MetadataFile="{listed[0]}" UUID="{ids[0]}"/>'
    images = "".join(
        f'<Image ID="Image:{n}" Name="P{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" '
        'Type="uint16" SizeX="83" SizeY="101" SizeZ="1" SizeT="1" '
        f'SizeC="{len(names)}">'
        + "".join(f'<Channel ID="Channel:{n}:{i}" Name="{name}"/>' for i, name in enumerate(names))
        + f'<TiffData IFD="0" PlaneCount="{len(names)}"><UUID FileName="{file}">{own}</UUID>'
        "</TiffData></Pixels></Image>"
        for n, (file, own) in enumerate(zip(listed, ids, strict=True))
    )
    for n, (file, own) in enumerate(zip(listed, ids, strict=True)):
        xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
        about = other if n and is_master else images
        xml = f'<?xml version="1.0" encoding="UTF-8"?>{xml}{about}</OME>'
        with tifffile.TiffWriter(tmp_path / file) as tiff:
            for i, page in enumerate(pixels(seed=n)[: len(names)]):
                text = None if i else xml.encode()
                tiff.write(page, metadata=None, description=text, **GRAY)
    found = open_images(tmp_path)
    assert list(found) == ["p0_P0", "p0_P1"]
    for n, image in enumerate(found.values()):
        assert image.c.values.tolist() == names
        np.testing.assert_array_equal(image.values, pixels(seed=n)[: len(names)])
    for chosen in ("P1", "p0_P1", 1):
        assert list(open_images(tmp_path, images=[chosen])) == ["p0_P1"]
    with pytest.raises(ParameterError, match=r"'p1' is not there; there are 'p0_P0', 'p0_P1'"):
        open_images(tmp_path, images=["p1"])
    (tmp_path / listed[1]).rename(tmp_path / "other.ome.tif")
    with pytest.raises(ImageError, match=r"missing: 'p1\.ome\.tif'|one channel each"):
        open_images(tmp_path)  # positions are no channels


def test_files_of_a_set_that_are_called_alike(tmp_path):
    write_set(tmp_path / "fov0", [f"{name}.ome.tif" for name in NAMES])
    write_set(tmp_path / "fov1")
    (tmp_path / "fov1" / "slide_C2.ome.tif").unlink()
    with pytest.raises(ChannelError, match="'fov1' lacks 'CD20'"):
        open_images(tmp_path, NAMES)


def write_planes(folder, values, axis):
    """A file for each plane along a channel and `axis` (Z or T), as bfconvert writes them."""
    n_channels, n_planes, rows, columns = values.shape
    places = list(np.ndindex(n_channels, n_planes))
    ids = {place: f"urn:uuid:{uuid.uuid4()}" for place in places}
    files = {(c, n): f"slide_C{c}_{axis}{n}.ome.tif" for c, n in places}
    channels = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{name}"/>' for i, name in enumerate(NAMES[:n_channels])
    )
    other = "Z" if axis == "T" else "T"
    data = "".join(
        f'<TiffData FirstC="{c}" First{other}="0" First{axis}="{n}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{files[c, n]}">{ids[c, n]}</UUID></TiffData>'
        for c, n in places
    )
    for place in places:
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[place]}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYCZT" Type="uint16" SizeX="{columns}" SizeY="{rows}" '
            f'SizeC="{n_channels}" Size{axis}="{n_planes}" Size{other}="1">{channels}{data}'
            "</Pixels></Image></OME>"
        )
        file = folder / files[place]
        tifffile.imwrite(file, values[place], metadata=None, description=xml.encode(), **GRAY)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_file_for_each_plane(tmp_path, n_channels):
    """Planes of one channel are no channels."""
    values = pixels((n_channels, 3, 20, 30))
    write_planes(tmp_path, values, "Z")
    image = one(open_images(tmp_path))
    assert image.dims == ("c", "z", "y", "x")
    assert image.c.values.tolist() == NAMES[:n_channels]
    np.testing.assert_array_equal(image.values, values)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_file_for_each_time_point(tmp_path, n_channels):
    """Nor are time points, unless all are named."""
    values = pixels((n_channels, 3, 20, 30))
    (tmp_path / "fov0").mkdir()
    write_planes(tmp_path / "fov0", values, "T")
    names = [f"m{n}" for n in range(3 * n_channels)]
    for path in (tmp_path, tmp_path / "fov0"):
        words = rf"axes T 3, .*give channel_names or panel for all {len(names)}"
        with pytest.raises(ImageError, match=words):
            open_images(path)
        image = one(open_images(path, panel=Panel(tuple(names))))
        assert image.c.values.tolist() == names
        np.testing.assert_array_equal(image.values, values.swapaxes(0, 1).reshape(-1, 20, 30))
