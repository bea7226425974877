"""The table of an image's pixels, from images and labels as the user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..aliases import ImageName, Images, Label, PixelTable
from ..errors import ParameterError
from ..images.hints import require_numpy_or_dask
from ..images.image_set import ImageSet
from ..images.masks import check_coordinates
from ..images.parameters import SPATIAL, parse_bool
from ..layers.reading import read_checked, read_labels
from ..layers.spatial_data import check_sdata, is_sdata
from .kinds import maker_of
from .rows import Columns, PixelSample, pieces_of


def pixel_table(
    images: Images,
    img_layer: str | Sequence[str] | None = None,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    labels: object = None,
    drop_background: bool = False,
    channels: Sequence[Label] | None = None,
    to: str = "pandas",
    file: str | Path | None = None,
    overwrite: bool = False,
    variable: object = None,
) -> PixelTable:
    """Pixels as a table for clustering: a row for each that is finite in every channel.

    A pixel that a step dropped is NaN in every channel and has no row; nor has one that is NaN or
    infinite in some of the channels only, which a clustering could not place either.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; a
        sequence, a mapping or a tree of images; or a `spatialdata.SpatialData` object.
    img_layer
        Of a SpatialData object: name of the image layer, or of several.
    fraction
        Which part of the rows to take, above 0, at most 1. Each pixel is taken or not by itself,
        with this probability, so the number of rows is near ``fraction`` times that of all, off by
        about its square root.
    seed
        Seed of the sample, 0 or more. Whether a pixel is taken depends on the seed, the name of its
        FOV, and its place in an image of that size: not on the other FOVs, nor on channels or
        chunks. With one seed, the sample of a smaller fraction is part of that of a larger one.
    labels
        Integers or bool for each pixel, for a column of their own: an `xarray.DataArray` with the
        spatial dims of the image, its size and, where both have some, its coordinates, NumPy or
        Dask; for several images a mapping by name or a sequence. With a SpatialData object also the
        name of a labels layer (its finest scale, pixel for pixel: transformations are not looked
        at), or a name for each of `img_layer`.
    drop_background
        Whether pixels with the label 0 are left out.
    channels
        Labels of the channels to use, in that order; where channels have none, their positions,
        which become the labels. None for all of them.
    to
        ``"pandas"``, ``"anndata"`` or ``"parquet"``.
    file
        Where a parquet file goes. It appears when it is complete.
    overwrite
        Whether `file` may be replaced.
    variable
        Name of the variable that is the image, if `images` is a dataset with several, or a tree of
        such datasets.

    Returns
    -------
    pandas.DataFrame, anndata.AnnData or pathlib.Path
        The columns of the table are the channels, as text, float32 or float64 as the image is
        processed; ``fov``, a category, the name of the image or layer as text (its position in a
        sequence, 0 for an image without name); ``z`` (of images that have it), ``y`` and ``x``,
        int32, the pixel's position from 0; and ``label``, of the labels' own type. The rows are
        ordered by FOV as given, then by ``y``, ``z``, ``x``.

        AnnData has the channels in ``X``, the rest in ``obs``, and the positions x, y (and z) in
        ``obsm["spatial"]``. For parquet it is the file's path, whose row groups hold 131,072 rows.

    Raises
    ------
    ParameterError
        If a parameter breaks its rule, `labels` do not fit the images, a channel is called like
        another column, the file exists or has no folder, or a package is missing.
    ImageError, ChannelError, LayerError
        If there is no image, or a channel or a layer that was asked for is missing.
    StoreError
        If the file cannot be written: then there is none, or still the old one. Or if what is read
        has disappeared.

    Notes
    -----
    Lazy images are computed band by band: a row of chunks through all planes, or as many as make
    32 MiB. A parquet file needs a few times that; the other tables are held as a whole. The
    statistics of lazy steps of this package (``image.pxprep.preprocess()``) are computed once,
    before the first band; those that came into an image's graph in another way, as in
    ``image / pxprep.quantile(image)``, once for each band: compute them first.

    The random numbers are those of Philox 4x64 [1]_, one for each pixel.

    References
    ----------
    .. [1] Salmon, J. K. et al. (2011). Parallel random numbers: as easy as 1, 2, 3. SC '11.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> clean = pxprep.Pipeline.sparrow().fit_transform(tissue(size=64))
    >>> table = pxprep.pixel_table(clean, channels=["CD3", "CD20"], fraction=0.1, seed=1)
    >>> table.columns.tolist()
    ['CD3', 'CD20', 'fov', 'y', 'x']
    >>> table["fov"].cat.categories.tolist()
    ['fov0', 'fov1', 'fov2']
    """
    sample = PixelSample.parse(fraction, seed)
    must_have_label = parse_bool(drop_background, "drop_background")
    make = maker_of(to, file, overwrite)
    cohort = _image_set(images, img_layer, channels, variable)
    labels_by_image = _labels_by_image(labels, cohort, images if img_layer is not None else None)
    if must_have_label and labels is None:
        raise ParameterError("drop_background needs labels, got none")
    columns = Columns.of(cohort, labels_by_image)
    return make(columns, pieces_of(columns, cohort, labels_by_image, sample, must_have_label))


def _image_set(
    images: Images,
    img_layer: str | Sequence[str] | None,
    channels: Sequence[Label] | None,
    variable: object,
) -> ImageSet:
    """The images, with these channels only."""
    if img_layer is not None:
        check_sdata(images, "images")
        layers = read_checked(images, img_layer, channels)
        return ImageSet.of(layers, variable=variable, what="layer")
    if is_sdata(images):
        raise ParameterError(
            "img_layer must name the image layers to take of a SpatialData object, got None; "
            f"images are {sorted(images.images)}"
        )
    return ImageSet.of(images, variable=variable).with_channels(channels)


def _labels_by_image(
    labels: object, cohort: ImageSet, sdata: object
) -> list[xr.DataArray] | list[None]:
    """Checked labels of each image; None for each if there are none."""
    if labels is None:
        return [None] * len(cohort)
    if isinstance(labels, str) or not isinstance(labels, Mapping | Sequence):
        labels = [labels]
    if isinstance(labels, Mapping):
        if set(labels) != set(cohort.names):
            raise ParameterError(
                f"labels must be given for each image by its name, {list(cohort.names)}, got "
                f"{list(labels)}"
            )
        labels = [labels[name] for name in cohort.names]
    if len(labels) != len(cohort):
        raise ParameterError(
            "labels must be an xarray.DataArray or the name of a layer for each of "
            f"{len(cohort)} images, got {len(labels)}"
        )
    triples = zip(labels, cohort.names, cohort, strict=True)
    return [_checked_labels(of_image, name, image, sdata) for of_image, name, image in triples]


def _checked_labels(
    labels: object, name: ImageName, image: xr.DataArray, sdata: object
) -> xr.DataArray:
    what = f"labels of image {name!r}"
    if isinstance(labels, str) and sdata is not None:
        what = f"labels {labels!r} of layer {name!r}"
        # Pixel for pixel, whatever their coordinates.
        labels = read_labels(sdata, labels).drop_vars(SPATIAL, errors="ignore")
    if not isinstance(labels, xr.DataArray):
        raise ParameterError(f"{what} must be an xarray.DataArray, got {type(labels).__qualname__}")
    require_numpy_or_dask(labels, what, "labels", ParameterError)
    sizes = {dim: size for dim, size in image.sizes.items() if dim in SPATIAL}
    if dict(labels.sizes) != sizes:
        raise ParameterError(f"{what} must have the image's size {sizes}, got {dict(labels.sizes)}")
    if labels.dtype.kind not in "bui":
        raise ParameterError(f"{what} must hold integers or bool, got dtype {labels.dtype}")
    check_coordinates(labels, image, what, "labels")
    return labels
