# Made by `python .ci/generate_methods.py` from the files of `steps/`: do not edit.
"""The steps as methods of images and cohorts.

They import what they need when called, so that importing the package stays fast.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import xarray as xr

from .aliases import Backgrounds, Factors, Images, PerChannel, Pool, SizeFactor, Zeros

# The type that these methods return: that of the image or tree, or `Cohort`.
Made = TypeVar("Made")


class StepMethods(Generic[Made]):
    """Methods that call the function of their name with images."""

    _images: Images

    def quantile_norm(
        self,
        q: PerChannel = 99,
        *,
        pool: Pool = "mean",
        where: object = None,
    ) -> Made:
        """Divide each channel by its quantile.

        The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
        `pxprep.quantile`); each channel has its own.

        Parameters
        ----------
        q
            Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
            in which the key ``...`` stands for the channels that are not named.
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ParameterError
            If `q` is no percentage, or looks like a fraction (0 < q <= 1).
        ChannelError
            If `q` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once for channels without any finite non-zero pixel (their scale is 1), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        The first step of pixel clustering preprocessing in ark-analysis (Pixie) and in
        sparrow/harpy.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(
        ...     np.array([[[0, 1, 2, 4]], [[0, 30, 10, 20]]]),
        ...     dims=("c", "y", "x"),
        ...     coords={"c": ["CD3", "CD20"]},
        ... )
        >>> image.pxprep.quantile_norm({"CD3": 100, ...: 50}).values.tolist()
        [[[0.0, 0.25, 0.5, 1.0]], [[0.0, 1.5, 0.5, 1.0]]]
        """
        from .steps import QuantileNorm
        from .steps.base import apply_step

        return apply_step(QuantileNorm(q), self._images, pool=pool, where=where)

    def blur(self, sigma: PerChannel | None = 2) -> Made:
        """Blur each channel, and each z-plane, with a Gaussian.

        Without NaNs the result is that of ``scipy.ndimage.gaussian_filter(plane, sigma,
        mode="reflect", truncate=4.0)``. A NaN pixel stays NaN and gives nothing to its neighbours:
        their weights are renormalised over the valid pixels under the kernel.

        Parameters
        ----------
        sigma
            Standard deviation in pixels, 0 or more. One number; a sequence in channel order; or a
            mapping by channel label, in which the key ``...`` stands for the channels that are not
            named. 0 leaves a channel as it is, bit for bit, and None all channels.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `sigma` is negative, larger than 10,000 px or not finite.
        ChannelError
            If `sigma` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        Pixie and sparrow/harpy blur with sigma 2. Normalised convolution: Knutsson and Westin (1993),
        "Normalized and differential convolution", CVPR.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0.0, 0.0, 8.0, 0.0, np.nan]]]), dims=("c", "y", "x"))
        >>> image.pxprep.blur(0.5).values.round(2).tolist()
        [[[0.0, 0.85, 6.29, 0.95, nan]]]
        """
        from .steps import Blur
        from .steps.base import apply_step

        return apply_step(Blur(sigma), self._images)

    def sum_mask(
        self,
        q_sum: float = 5,
        reference: object = None,
        threshold: float | xr.DataArray | None = None,
        zeros: Zeros = "exclude",
        *,
        pool: Pool = "mean",
        where: object = None,
    ) -> Made:
        """Drop the pixels whose sum over channels is low: NaN in every channel.

        A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
        `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

        Parameters
        ----------
        q_sum
            Percent, 0 to 100.
        reference
            Images with the same channels on which the threshold is measured; None for the images.
            Pixie and sparrow/harpy drop pixels of the blurred image by a threshold of the un-blurred
            one. A pixel whose sum exceeds the threshold by no more than rounding (2**-18 of the
            threshold, 2**-47 for float64) is dropped, too. A `pxprep.Cohort` with a mask is measured
            inside that.
        threshold
            The threshold, if it is known; then nothing is measured. A DataArray may be lazy; along
            ``fov``, each image's own.
        zeros
            ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.
        pool
            How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
            ``"pixels"`` of all images, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ParameterError
            If `q_sum` is no percentage, `threshold` not finite, `zeros` something else, or `where` does
            not fit.
        ChannelError
            If `reference` has other channels than the images.
        ImageError
            If the images or `reference` are no images, differ in dims, or do not belong together.

        Warns
        -----
        PxprepWarning
            If 0 < `q_sum` <= 1, which is probably a fraction; if there is no sum to measure (the
            threshold is then 0) or sums are negative; and if far more than `q_sum` percent of the
            pixels that have a sum in `reference` are dropped, as where counts are sparse.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(
        ...     np.array([[[1.0, 0.0, 3.0]], [[1.0, 0.0, 2.0]]]), dims=("c", "y", "x")
        ... )
        >>> image.pxprep.sum_mask(50).values.tolist()
        [[[nan, nan, 3.0]], [[nan, nan, 2.0]]]
        """
        from . import ops

        return ops.sum_mask(
            self._images, q_sum, reference, threshold, zeros, pool=pool, where=where
        )

    def sum_norm(self) -> Made:
        """Divide each pixel by its sum over channels.

        Where the sum is not positive, or any channel is NaN, every channel is NaN.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once, with how many pixels become NaN as their sum is negative. For a lazy image when all of
            it is computed; not by worker processes, which only say that there are some.

        Notes
        -----
        Channels are summed one after the other in their order, in the type of the result. Pixie and
        sparrow/harpy do this so that pixels cluster by composition and not by brightness.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[1.0, 0.0]], [[3.0, 0.0]]]), dims=("c", "y", "x"))
        >>> image.pxprep.sum_norm().values.tolist()
        [[[0.25, nan]], [[0.75, nan]]]
        """
        from .steps import SumNorm
        from .steps.base import apply_step

        return apply_step(SumNorm(), self._images)

    def post_norm(
        self,
        q_post: PerChannel = 99.9,
        *,
        pool: Pool = "mean",
        where: object = None,
    ) -> Made:
        """Divide each channel by its quantile once more, after the other steps.

        As `pxprep.ops.quantile_norm`, with a default for the end of a pipeline.

        Parameters
        ----------
        q_post
            Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
            in which the key ``...`` stands for the channels that are not named.
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ParameterError
            If `q_post` is no percentage, or looks like a fraction (0 < q_post <= 1).
        ChannelError
            If `q_post` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once for channels without any finite non-zero pixel (their scale is 1), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        The last step of pixel clustering preprocessing in ark-analysis (Pixie) and in sparrow/harpy.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[1.0, np.nan, 4.0]]]), dims=("c", "y", "x"))
        >>> image.pxprep.post_norm(100).values.tolist()
        [[[0.25, nan, 1.0]]]
        """
        from .steps import PostNorm
        from .steps.base import apply_step

        return apply_step(PostNorm(q_post), self._images, pool=pool, where=where)

    def clip(self, max: PerChannel) -> Made:  # noqa: A002
        """Set values above `max` to `max`; NaN stays.

        Parameters
        ----------
        max
            Largest value to keep. One number; a sequence in channel order; or a mapping by channel
            label, in which the key ``...`` stands for the channels that are not named.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `max` is not a finite number.
        ChannelError
            If `max` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0.5, 1.5, np.nan]]]), dims=("c", "y", "x"))
        >>> image.pxprep.clip(1).values.tolist()
        [[[0.5, 1.0, nan]]]
        """
        from .steps import Clip
        from .steps.base import apply_step

        return apply_step(Clip(max), self._images)

    def arcsinh(self, cofactor: PerChannel = 5) -> Made:
        """Inverse hyperbolic sine of each value, divided by a cofactor first.

        Linear near zero and logarithmic far from it: the cofactor is where the one becomes the other.

        Parameters
        ----------
        cofactor
            Above 0, in units of the image. One number; a sequence in channel order; or a mapping by
            channel label, in which the key ``...`` stands for the channels that are not named.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `cofactor` is not above 0.
        ChannelError
            If `cofactor` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        Mass cytometry uses cofactor 5 (Bendall et al. 2011), imaging mass cytometry 1 to 5,
        fluorescence around 150.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0, 5, 500]]]), dims=("c", "y", "x"))
        >>> image.pxprep.arcsinh().astype(float).values.round(2).tolist()
        [[[0.0, 0.88, 5.3]]]
        """
        from .steps import Arcsinh
        from .steps.base import apply_step

        return apply_step(Arcsinh(cofactor), self._images)

    def log1p(self) -> Made:
        """Natural logarithm of one plus each value; NaN where that is not above zero.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once, with how many values of which channels become NaN. For a lazy image when all of it is
            computed; not by worker processes, which only say that there are some.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0, 9, 99]]]), dims=("c", "y", "x"))
        >>> image.pxprep.log1p().astype(float).values.round(2).tolist()
        [[[0.0, 2.3, 4.61]]]
        """
        from .steps import Log1p
        from .steps.base import apply_step

        return apply_step(Log1p(), self._images)

    def subtract_background(
        self,
        radius: PerChannel | None = None,
        constant: PerChannel | None = None,
    ) -> Made:
        """Subtract the background of each channel, and of each z-plane.

        With `radius`, the background is what is wider than a disc of that radius (white top-hat). With
        `constant`, it is that number everywhere. Afterwards no value is below 0, except in channels
        with a radius of 0, which stay as they are.

        Parameters
        ----------
        radius
            Radius of the disc, a whole number of pixels up to 1000. One number; a sequence in channel
            order; or a mapping by channel label, in which the key ``...`` stands for the channels that
            are not named. Choose it larger than the structures to keep; 0 leaves a channel as it is,
            bit for bit, negative values as well.
        constant
            At least 0, in units of the image; values of up to that become 0. In the same forms as
            `radius`. One of both must be given.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If both or none of `radius` and `constant` are given, or one breaks its rule.
        ChannelError
            If `radius` or `constant` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        The white top-hat (Meyer 1979) is the image minus its opening: at each pixel the largest, over
        all discs that hold it and are centred in the image, of the smallest value in the disc. NaN
        pixels and what lies outside the image do not count. Without NaNs it is
        ``scipy.ndimage.white_tophat(plane, footprint=disc)`` to the last bit, with the disc of
        ``skimage.morphology.disk(radius)``. Two radii around a pixel are read.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[5, 5, 9, 5, 6, 6, 6]]]), dims=("c", "y", "x"))
        >>> image.pxprep.subtract_background(radius=1).values.tolist()
        [[[0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]]]
        >>> image.pxprep.subtract_background(constant=5.5).values.tolist()
        [[[0.0, 0.0, 3.5, 0.0, 0.5, 0.5, 0.5]]]
        """
        from .steps import SubtractBackground
        from .steps.base import apply_step

        return apply_step(SubtractBackground(radius, constant), self._images)

    def percentile_clip(
        self,
        low: PerChannel = 1,
        high: PerChannel = 99,
        zeros: Zeros = "exclude",
        *,
        pool: Pool = "mean",
        where: object = None,
    ) -> Made:
        """Set values below a low quantile of their channel to it, and those above a high one.

        Both quantiles are exact whatever the chunks; finding both takes no more passes than finding one
        (see `pxprep.quantile`).

        Parameters
        ----------
        low, high
            Percent, 0 to 100, `low` below `high` in every channel; 0 and 100 are the smallest and the
            largest value. One number; a sequence in channel order; or a mapping by channel label, in
            which the key ``...`` stands for the channels that are not named.
        zeros
            Whether zeros count in the quantiles: ``"exclude"`` or ``"include"``. They are clipped as
            all others: where the low quantile is above 0 they are raised to it, and `minmax` brings
            them back to 0.
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ParameterError
            If `low` or `high` is no percentage, `low` is not below `high`, `high` looks like a fraction
            (0 < high <= 1), or `zeros` is something else.
        ChannelError
            If `low` or `high` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once for channels without a value to measure (nothing is clipped), for those whose quantiles
            are the same, for negative and for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        Also known as winsorising (Dixon 1960). For quantiles of all pixels, as
        ``numpy.clip(channel, *numpy.percentile(channel, [1, 99]))``, include zeros.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.arange(6.0).reshape(1, 1, 6), dims=("c", "y", "x"))
        >>> image.pxprep.percentile_clip(25, 75).values.tolist()
        [[[2.0, 2.0, 2.0, 3.0, 4.0, 4.0]]]
        >>> image.pxprep.percentile_clip(20, 80, zeros="include").values.tolist()
        [[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]]]
        """
        from .steps import PercentileClip
        from .steps.base import apply_step

        return apply_step(PercentileClip(low, high, zeros), self._images, pool=pool, where=where)

    def minmax(self, *, pool: Pool = "mean", where: object = None) -> Made:
        """Bring each channel to 0 to 1: subtract its smallest value, divide by its range.

        Of a cohort pooled by ``"mean"``, the mean of the images' minima and that of their maxima become
        0 and 1, so that some values of several images are below 0 or above 1.

        Parameters
        ----------
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once for channels without two different values, which become 0, for negative and for
            infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        Zeros count: they are the natural minimum of a marker. One bright pixel is enough to darken all
        others, so that values are usually clipped first, as in
        ``image.pxprep.percentile_clip(1, 99).pxprep.minmax()``.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[2.0, 4.0, np.nan, 10.0]]]), dims=("c", "y", "x"))
        >>> image.pxprep.minmax().values.tolist()
        [[[0.0, 0.25, nan, 1.0]]]
        """
        from .steps import MinMax
        from .steps.base import apply_step

        return apply_step(MinMax(), self._images, pool=pool, where=where)

    def remove_hot_pixels(self, threshold: PerChannel) -> Made:
        """Set pixels that are far above all their neighbours to the largest of these.

        The neighbours are the up to eight pixels around a pixel in its z-plane, as they came; those
        that are missing do not count.

        Parameters
        ----------
        threshold
            How much larger than the largest neighbour a pixel may be, 0 or more, in units of the image.
            One number; a sequence in channel order; or a mapping by channel label, in which the key
            ``...`` stands for the channels that are not named.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `threshold` is negative or not finite.
        ChannelError
            If `threshold` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        The filter that is usual for imaging mass cytometry, as in steinbock (Windhager et al. 2023),
        where 50 counts is a common threshold.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[1, 2, 90, 3, 4]]]), dims=("c", "y", "x"))
        >>> image.pxprep.remove_hot_pixels(50).values.tolist()
        [[[1.0, 2.0, 3.0, 3.0, 4.0]]]
        """
        from .steps import RemoveHotPixels
        from .steps.base import apply_step

        return apply_step(RemoveHotPixels(threshold), self._images)

    def threshold(
        self,
        value: PerChannel | None = None,
        q: PerChannel | None = None,
        below: str = "zero",
        zeros: Zeros = "exclude",
        *,
        pool: Pool = "mean",
        where: object = None,
    ) -> Made:
        """Set values below a threshold of their channel to 0, or to NaN.

        A value that is as large as the threshold stays, and so do all above it.

        Parameters
        ----------
        value
            The threshold, in units of the image. One number; a sequence in channel order; or a mapping
            by channel label, in which the key ``...`` stands for the channels that are not named.
        q
            Percent, 0 to 100: the threshold is that quantile of the channel, measured. In the same
            forms as `value`. One of both must be given.
        below
            What values below the threshold become: ``"zero"`` or ``"nan"``.
        zeros
            Whether zeros count in the quantile: ``"exclude"`` or ``"include"``.
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ParameterError
            If both or none of `value` and `q` are given, one breaks its rule, `q` looks like a fraction
            (0 < q <= 1), or `below` or `zeros` is something else.
        ChannelError
            If `value` or `q` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            With `q`, once for channels without a value to measure (nothing changes), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        A pixel that is NaN in one channel has no sum over channels, so that `sum_mask` and `sum_norm`
        drop it: before these steps use ``"zero"``.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0, 1, 2, 3, 4]]]), dims=("c", "y", "x"))
        >>> image.pxprep.threshold(3).values.tolist()
        [[[0.0, 0.0, 0.0, 3.0, 4.0]]]
        >>> image.pxprep.threshold(q=50, below="nan").values.tolist()
        [[[nan, nan, nan, 3.0, 4.0]]]
        """
        from .steps import Threshold
        from .steps.base import apply_step

        return apply_step(Threshold(value, q, below, zeros), self._images, pool=pool, where=where)

    def median(self, size: PerChannel = 3) -> Made:
        """Set each pixel to the median of the square around it, in each channel and each z-plane.

        Without NaNs the result is that of ``scipy.ndimage.median_filter(plane, size, mode="reflect")``.
        A NaN pixel stays NaN and does not count for its neighbours.

        Parameters
        ----------
        size
            Side of the square: 3 or 5 pixels. One number; a sequence in channel order; or a mapping by
            channel label, in which the key ``...`` stands for the channels that are not named. 1 leaves
            a channel as it is, bit for bit.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `size` is not 1, 3 or 5.
        ChannelError
            If `size` names channels that the image does not have, or leaves some out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        Of an even number of pixels that count, the median is the mean of both in the middle, as that of
        ``numpy.nanmedian``. To remove single bright pixels and nothing else, see `remove_hot_pixels`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[1, 2, 90, 3, np.nan, 4]]]), dims=("c", "y", "x"))
        >>> image.pxprep.median(3).values.tolist()
        [[[1.0, 2.0, 3.0, 46.5, nan, 4.0]]]
        """
        from .steps import Median
        from .steps.base import apply_step

        return apply_step(Median(size), self._images)

    def zscore(self, *, pool: Pool = "mean", where: object = None) -> Made:
        """Subtract the mean of each channel, and divide by its standard deviation.

        Both are those of the finite values, zeros included, made from exact sums of the values and of
        their squares: the same bits whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of
        the images' means is subtracted, and the mean of their standard deviations divides.

        Parameters
        ----------
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            For channels all of whose values are the same (nothing is divided), for those without a
            value, for negative and for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        The standard deviation is the root of the mean squared distance from the mean (``ddof=0``), as
        that of ``numpy.std`` is by default. A few very bright pixels change both numbers:
        `robust_zscore` is not led by them.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[0.0, 0, 3, 3, 9]]]), dims=("c", "y", "x"))
        >>> image.pxprep.zscore().values.round(2).tolist()
        [[[-0.91, -0.91, 0.0, 0.0, 1.83]]]
        """
        from .steps import Zscore
        from .steps.base import apply_step

        return apply_step(Zscore(), self._images, pool=pool, where=where)

    def robust_zscore(self, *, pool: Pool = "mean", where: object = None) -> Made:
        """Subtract the median of each channel, and divide by 1.4826 times the median distance from it.

        The median distance (MAD) is ``numpy.median(abs(values - numpy.median(values)))``, and 1.4826
        times it the standard deviation if values are normally distributed. Both medians are exact
        whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of the images' medians is
        subtracted, and the mean of their median distances divides.

        Parameters
        ----------
        pool
            How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
            images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
            0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
            in the form of the images. All pixels are changed; see `keep_where`. None measures all. A
            `pxprep.Cohort` has its own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or the mask are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            For channels more than half of whose values are the same (nothing is divided), for those
            without a value, for negative and for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        Zeros count. A marker that is 0 in more than half of the pixels has a median distance of 0:
        nothing is divided.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(np.array([[[1.0, 2, 3, 4, 50]]]), dims=("c", "y", "x"))
        >>> image.pxprep.robust_zscore().values.round(2).tolist()
        [[[-1.35, -0.67, 0.0, 0.67, 31.7]]]
        """
        from .steps import RobustZscore
        from .steps.base import apply_step

        return apply_step(RobustZscore(), self._images, pool=pool, where=where)

    def subtract_channels(
        self,
        backgrounds: Backgrounds,
        scale: Factors = 1,
        exposures: object = None,
        drop: bool = False,
    ) -> Made:
        """Subtract from some channels another one times a factor; negative results become 0.

        The other one holds what is in the channel without its stain: autofluorescence, mostly. Several
        channels may have the same one. All are taken as they came, and channels that are not named stay
        as they are.

        Parameters
        ----------
        backgrounds
            For each channel that is changed, by label, the label of the channel that is subtracted.
        scale
            The factor, at least 0. One number; or a mapping by label of the channels that are changed,
            in which the key ``...`` stands for those that are not named.
        exposures
            Exposure times above 0 by channel label: a mapping, a `pandas.Series` such as the column
            of a table of markers (``pd.read_csv("markers.csv", index_col="marker_name")["exposure"]``),
            or an `xarray.DataArray` over ``c``. The factor is also multiplied by that of the channel
            and divided by that of its background. Channels that are not needed may be in it.
        drop
            Whether the backgrounds are left out afterwards: they are not in the result, and steps
            after this one neither measure nor sum them. At least one channel must be left.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `backgrounds` is no such mapping or names a channel as its own background, or a number
            breaks its rule.
        ChannelError
            If `backgrounds` names channels that the image does not have, `scale` or `exposures`
            lacks one that is needed, or `drop` leaves no channel.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Notes
        -----
        With `exposures` it is the subtraction of Backsub (mcmicro), where the image has a channel of
        autofluorescence for each filter.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(
        ...     np.array([[[10, 20, 30]], [[4, 30, 0]]]),
        ...     dims=("c", "y", "x"),
        ...     coords={"c": ["CD3", "AF488"]},
        ... )
        >>> image.pxprep.subtract_channels({"CD3": "AF488"}, 0.5).sel(c="CD3").values.tolist()
        [[8.0, 5.0, 30.0]]
        >>> image.pxprep.subtract_channels(
        ...     {"CD3": "AF488"}, exposures={"CD3": 200, "AF488": 100}
        ... ).sel(c="CD3").values.tolist()
        [[2.0, 0.0, 30.0]]
        >>> image.pxprep.subtract_channels({"CD3": "AF488"}, drop=True).c.values.tolist()
        ['CD3']
        """
        from .steps import SubtractChannels
        from .steps.base import apply_step

        return apply_step(SubtractChannels(backgrounds, scale, exposures, drop), self._images)

    def compensate(self, matrix: object, method: str = "nnls") -> Made:
        """Undo the spillover of channels into each other, which was measured on single stains.

        In each pixel a channel shows its own signal and fractions of others'. The signals before the
        spillover are estimated by least squares without negative values, or by solving the linear
        equations. Channels that are not in `matrix` stay as they are, with a warning; where a channel
        that is in it is NaN, all that are in it become NaN.

        Parameters
        ----------
        matrix
            Fractions from 0 to 1: a row for each channel that spills, a column for each that it is seen
            in, both with labels, 1 where they are the same. A `pandas.DataFrame`, an `xarray.DataArray`
            with labels along two dims, the path of a CSV file as CATALYST's matrices are written by
            ``write.csv``, or a mapping of labels to mappings such as ``{"CD3": {"CD8": 0.02}}``. A
            channel that is only a row gets nothing from others; one that is only a column does not
            spill.
        method
            ``"nnls"``, non-negative least squares; or ``"linear"``, which may give negative values.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they are.

        Raises
        ------
        ParameterError
            If `matrix` is no such matrix or cannot be inverted, or `method` is not known.
        ChannelError
            If `matrix` names a channel twice, or one that the image does not have.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Warns
        -----
        PxprepWarning
            Once, of the channels that are not in `matrix`.

        Notes
        -----
        The compensation of CATALYST (Chevrier et al. 2018), where nnls is the default, too. Where the
        linear solution has no negative value, both are the same.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import pxprep
        >>> image = xr.DataArray(
        ...     np.array([[[100, 0]], [[35, 10]]]),
        ...     dims=("c", "y", "x"),
        ...     coords={"c": ["Gd155", "Gd156"]},
        ... )
        >>> image.pxprep.compensate({"Gd155": {"Gd156": 0.25}}).values.tolist()
        [[[100.0, 0.0]], [[10.0, 10.0]]]
        """
        from .steps import Compensate
        from .steps.base import apply_step

        return apply_step(Compensate(matrix, method), self._images)

    def keep_where(self, where: object) -> Made:
        """Keep the pixels inside a mask; those outside become NaN in every channel.

        Steps that follow do not see what is outside: it is not measured, and gives nothing to its
        neighbours in a blur. To leave it out of what is measured only, give `where` to the steps that
        measure.

        Parameters
        ----------
        where
            The mask: an `xarray.DataArray` of bool, or of labels (all but 0), with the dims ``y``,
            ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image, in the form of the images, None for
            one that is kept whole.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64, the pixels inside as they were; lazy if they or the mask
            are.

        Raises
        ------
        ParameterError
            If `where` is no mask, or does not fit.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
        >>> cells = xr.DataArray(np.array([[0, 17]]), dims=("y", "x"))
        >>> ops.keep_where(image, cells).values.tolist()
        [[[nan, 2.0]], [[nan, 4.0]]]
        """
        from . import ops

        return ops.keep_where(self._images, where)

    def divide(self, scale: xr.DataArray) -> Made:
        """Divide each channel by a scale that has been measured.

        Parameters
        ----------
        scale
            Dim ``c``; matched by label, or by position if it has no labels. Rounded to the type of the
            result before the division. May be lazy. With a second dim ``fov``, each image's own.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64; lazy if they or `scale` are.

        Raises
        ------
        ParameterError
            If `scale` has not one value per channel, or, unless it is lazy, one is 0 or not finite.
        ChannelError
            If the labels of `scale` are not those of the image.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
        >>> ops.divide(image, xr.DataArray([2.0, 4.0], dims="c")).values.tolist()
        [[[0.5, 1.0]], [[0.75, 1.0]]]
        """
        from . import ops

        return ops.divide(self._images, scale)

    def rescale(self, factor: SizeFactor) -> Made:
        """Images with larger pixels: means over squares of pixels, which stay where they are.

        So images of instruments with different pixel sizes can be clustered together. As `coarsen`
        along ``y`` and ``x``, NaN ignored, but it keeps coordinates.

        Parameters
        ----------
        factor
            How many pixels along ``y`` and ``x`` become one. Pixels at the end that fill no square are
            left out. For several images also a mapping by image name, in which the key ``...`` stands
            for those that are not named; 1 leaves an image as large as it is.

        Returns
        -------
        xarray.DataArray or cohort
            Like the image or the cohort, float32 or float64, lazy if they are; each mean is taken in float64 and
            rounded once. Coordinates along ``y`` and ``x`` that are numbers are their means over the
            same pixels; others are left out. ``attrs["um_per_pixel"]``, and the transformations that
            SpatialData keeps in ``attrs["transform"]``, are those of the larger pixels; one size for
            all dimensions becomes a mapping where the image has ``z``.

        Raises
        ------
        ParameterError
            If a factor is not a positive whole number or larger than its image, or `factor` names an
            image that is not there, or leaves one out.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(
        ...     np.array([[[1, 3, 5], [1, 3, 5]]]), dims=("c", "y", "x"), coords={"x": [0.5, 1.5, 2.5]}
        ... )
        >>> made = ops.rescale(image, 2)
        >>> made.values.tolist(), made.x.values.tolist()
        ([[[2.0]]], [1.0])
        """
        from . import ops

        return ops.rescale(self._images, factor)

    def coarsen(self, factors: Mapping[str, int]) -> Made:
        """Mean over rectangles of pixels, NaN ignored; NaN where one has nothing else.

        Unlike `rescale` it drops the coordinates along the dimensions in `factors`. Pixel sizes and
        transformations in attrs follow, as those of `rescale` do.

        Parameters
        ----------
        factors
            Size of the rectangles in pixels, by dimension. Pixels at the end that fill no rectangle are
            left out.

        Returns
        -------
        xarray.DataArray or cohort
            Float32 or float64, without coordinates along the coarsened dimensions; lazy if the images
            are. Each mean is taken in float64 and rounded once.

        Raises
        ------
        ParameterError
            If a factor is not a positive whole number, or larger than the image.
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(np.array([[[1, 3, np.nan, 4, 5]]]), dims=("c", "y", "x"))
        >>> ops.coarsen(image, {"x": 2}).values.tolist()
        [[[2.0, 4.0]]]
        """
        from . import ops

        return ops.coarsen(self._images, factors)

    def pixel_sum(self) -> Made:
        """Sum over channels of each pixel, NaN where any channel is NaN.

        Returns
        -------
        xarray.DataArray or cohort
            The dims of the images without ``c``, float32 or float64; lazy if they are.

        Raises
        ------
        ImageError
            If it is no image, or the images of a cohort differ in dims.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
        >>> ops.pixel_sum(image).values.tolist()
        [[4.0, 6.0]]
        """
        from . import ops

        return ops.pixel_sum(self._images)

    def quantile(
        self,
        q: PerChannel = 99,
        *,
        zeros: Zeros = "exclude",
        pool: Pool = "mean",
        where: object = None,
    ) -> xr.DataArray:
        """Quantile of the finite pixels of each channel, exact for any size and any chunks.

        Parameters
        ----------
        q
            Percent, 0 to 100; one number, a sequence or a mapping by channel label.
        zeros
            Whether zeros count: ``"exclude"`` or ``"include"``.
        pool
            How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
            ``"pixels"`` of all images, or None: each image by itself. Not for a `pxprep.Cohort`.
        where
            Mask of the pixels that are measured; as for `quantile_norm`.

        Returns
        -------
        xarray.DataArray
            Dim ``c``, and ``fov`` for a cohort with ``pool=None``, ``batch`` for one in batches;
            float64; NaN where nothing counts; lazy if the images or the mask are. Equal to
            ``numpy.quantile(V, q / 100)`` for the counted values V as float64, to the last bit; for a
            cohort with ``pool="mean"``, the mean over the images of that.

        Raises
        ------
        ParameterError, ChannelError, ImageError
            As `quantile_norm`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from pxprep import ops
        >>> image = xr.DataArray(np.array([[[0, 1, 2, 4]]]), dims=("c", "y", "x"))
        >>> ops.quantile(image, 50).values.tolist()
        [2.0]
        >>> ops.quantile(image, 50, zeros="include").values.tolist()
        [1.5]
        """
        from . import ops

        return ops.quantile(self._images, q, zeros=zeros, pool=pool, where=where)
