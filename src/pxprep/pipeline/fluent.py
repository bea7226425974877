# Made by `python .ci/generate_methods.py` from the files of `steps/`: do not edit.
"""The steps as methods that add one to a pipeline."""

from typing import Self

from ..aliases import Backgrounds, Factors, PerChannel, Zeros
from ..steps import (
    Arcsinh,
    Blur,
    Clip,
    Compensate,
    Log1p,
    Median,
    MinMax,
    PercentileClip,
    PostNorm,
    QuantileNorm,
    RemoveHotPixels,
    RobustZscore,
    SubtractBackground,
    SubtractChannels,
    SumMask,
    SumNorm,
    Threshold,
    Zscore,
)


class FluentSteps:
    """Methods that add the step of their name."""

    def then(self, step: object, name: str | None = None) -> Self:
        """The pipeline with one more step: a `Step` or a function image -> image."""
        raise NotImplementedError

    def quantile_norm(self, q: PerChannel = 99, *, name: str | None = None) -> Self:
        """Divide each channel by its quantile.

        The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
        `pxprep.quantile`); each channel has its own.

        Parameters
        ----------
        q
            Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
            in which the key ``...`` stands for the channels that are not named.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `q` is no percentage, or looks like a fraction (0 < q <= 1).
        ChannelError
            If `q` names channels that the image does not have, or leaves some out.

        Warns
        -----
        PxprepWarning
            Once for channels without any finite non-zero pixel (their scale is 1), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        The first step of pixel clustering preprocessing in ark-analysis (Pixie) and in
        sparrow/harpy.
        """
        return self.then(QuantileNorm(q), name)

    def blur(self, sigma: PerChannel | None = 2, *, name: str | None = None) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `sigma` is negative, larger than 10,000 px or not finite.
        ChannelError
            If `sigma` names channels that the image does not have, or leaves some out.

        Notes
        -----
        Pixie and sparrow/harpy blur with sigma 2. Normalised convolution: Knutsson and Westin (1993),
        "Normalized and differential convolution", CVPR.
        """
        return self.then(Blur(sigma), name)

    def sum_mask(
        self,
        q_sum: float = 5,
        reference: str | None = None,
        threshold: float | None = None,
        zeros: Zeros = "exclude",
        *,
        name: str | None = None,
    ) -> Self:
        """Drop the pixels whose sum over channels is low: NaN in every channel.

        A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
        `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

        Parameters
        ----------
        q_sum
            Percent, 0 to 100.
        reference
            Name of the earlier step whose output the threshold is measured on, ``"input"`` for the
            image as it came; None for the output of the step before. Pixie and sparrow/harpy drop
            pixels of the blurred image by a threshold of the un-blurred one. A pixel whose sum exceeds
            the threshold by no more than rounding (2**-18 of the threshold, 2**-47 for float64) is
            dropped, too.
        threshold
            The threshold, if it is known; then nothing is measured.
        zeros
            ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `q_sum` is no percentage, `threshold` not finite, or `zeros` something else.

        Warns
        -----
        PxprepWarning
            If 0 < `q_sum` <= 1, which is probably a fraction; if there is no sum to measure (the
            threshold is then 0) or sums are negative; and if far more than `q_sum` percent of the
            pixels that have a sum in `reference` are dropped, as where counts are sparse.
        """
        return self.then(SumMask(q_sum, reference, threshold, zeros), name)

    def sum_norm(self, *, name: str | None = None) -> Self:
        """Divide each pixel by its sum over channels.

        Where the sum is not positive, or any channel is NaN, every channel is NaN.

        Parameters
        ----------
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Warns
        -----
        PxprepWarning
            Once, with how many pixels become NaN as their sum is negative. For a lazy image when all of
            it is computed; not by worker processes, which only say that there are some.

        Notes
        -----
        Channels are summed one after the other in their order, in the type of the result. Pixie and
        sparrow/harpy do this so that pixels cluster by composition and not by brightness.
        """
        return self.then(SumNorm(), name)

    def post_norm(self, q_post: PerChannel = 99.9, *, name: str | None = None) -> Self:
        """Divide each channel by its quantile once more, after the other steps.

        As `pxprep.ops.quantile_norm`, with a default for the end of a pipeline.

        Parameters
        ----------
        q_post
            Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
            in which the key ``...`` stands for the channels that are not named.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `q_post` is no percentage, or looks like a fraction (0 < q_post <= 1).
        ChannelError
            If `q_post` names channels that the image does not have, or leaves some out.

        Warns
        -----
        PxprepWarning
            Once for channels without any finite non-zero pixel (their scale is 1), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        The last step of pixel clustering preprocessing in ark-analysis (Pixie) and in sparrow/harpy.
        """
        return self.then(PostNorm(q_post), name)

    def clip(self, max: PerChannel, *, name: str | None = None) -> Self:  # noqa: A002
        """Set values above `max` to `max`; NaN stays.

        Parameters
        ----------
        max
            Largest value to keep. One number; a sequence in channel order; or a mapping by channel
            label, in which the key ``...`` stands for the channels that are not named.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `max` is not a finite number.
        ChannelError
            If `max` names channels that the image does not have, or leaves some out.
        """
        return self.then(Clip(max), name)

    def arcsinh(self, cofactor: PerChannel = 5, *, name: str | None = None) -> Self:
        """Inverse hyperbolic sine of each value, divided by a cofactor first.

        Linear near zero and logarithmic far from it: the cofactor is where the one becomes the other.

        Parameters
        ----------
        cofactor
            Above 0, in units of the image. One number; a sequence in channel order; or a mapping by
            channel label, in which the key ``...`` stands for the channels that are not named.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `cofactor` is not above 0.
        ChannelError
            If `cofactor` names channels that the image does not have, or leaves some out.

        Notes
        -----
        Mass cytometry uses cofactor 5 (Bendall et al. 2011), imaging mass cytometry 1 to 5,
        fluorescence around 150.
        """
        return self.then(Arcsinh(cofactor), name)

    def log1p(self, *, name: str | None = None) -> Self:
        """Natural logarithm of one plus each value; NaN where that is not above zero.

        Parameters
        ----------
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Warns
        -----
        PxprepWarning
            Once, with how many values of which channels become NaN. For a lazy image when all of it is
            computed; not by worker processes, which only say that there are some.
        """
        return self.then(Log1p(), name)

    def subtract_background(
        self,
        radius: PerChannel | None = None,
        constant: PerChannel | None = None,
        *,
        name: str | None = None,
    ) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If both or none of `radius` and `constant` are given, or one breaks its rule.
        ChannelError
            If `radius` or `constant` names channels that the image does not have, or leaves some out.

        Notes
        -----
        The white top-hat (Meyer 1979) is the image minus its opening: at each pixel the largest, over
        all discs that hold it and are centred in the image, of the smallest value in the disc. NaN
        pixels and what lies outside the image do not count. Without NaNs it is
        ``scipy.ndimage.white_tophat(plane, footprint=disc)`` to the last bit, with the disc of
        ``skimage.morphology.disk(radius)``. Two radii around a pixel are read.
        """
        return self.then(SubtractBackground(radius, constant), name)

    def percentile_clip(
        self,
        low: PerChannel = 1,
        high: PerChannel = 99,
        zeros: Zeros = "exclude",
        *,
        name: str | None = None,
    ) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `low` or `high` is no percentage, `low` is not below `high`, `high` looks like a fraction
            (0 < high <= 1), or `zeros` is something else.
        ChannelError
            If `low` or `high` names channels that the image does not have, or leaves some out.

        Warns
        -----
        PxprepWarning
            Once for channels without a value to measure (nothing is clipped), for those whose quantiles
            are the same, for negative and for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        Also known as winsorising (Dixon 1960). For quantiles of all pixels, as
        ``numpy.clip(channel, *numpy.percentile(channel, [1, 99]))``, include zeros.
        """
        return self.then(PercentileClip(low, high, zeros), name)

    def minmax(self, *, name: str | None = None) -> Self:
        """Bring each channel to 0 to 1: subtract its smallest value, divide by its range.

        Of a cohort pooled by ``"mean"``, the mean of the images' minima and that of their maxima become
        0 and 1, so that some values of several images are below 0 or above 1.

        Parameters
        ----------
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

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
        """
        return self.then(MinMax(), name)

    def remove_hot_pixels(self, threshold: PerChannel, *, name: str | None = None) -> Self:
        """Set pixels that are far above all their neighbours to the largest of these.

        The neighbours are the up to eight pixels around a pixel in its z-plane, as they came; those
        that are missing do not count.

        Parameters
        ----------
        threshold
            How much larger than the largest neighbour a pixel may be, 0 or more, in units of the image.
            One number; a sequence in channel order; or a mapping by channel label, in which the key
            ``...`` stands for the channels that are not named.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `threshold` is negative or not finite.
        ChannelError
            If `threshold` names channels that the image does not have, or leaves some out.

        Notes
        -----
        The filter that is usual for imaging mass cytometry, as in steinbock (Windhager et al. 2023),
        where 50 counts is a common threshold.
        """
        return self.then(RemoveHotPixels(threshold), name)

    def threshold(
        self,
        value: PerChannel | None = None,
        q: PerChannel | None = None,
        below: str = "zero",
        zeros: Zeros = "exclude",
        *,
        name: str | None = None,
    ) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If both or none of `value` and `q` are given, one breaks its rule, `q` looks like a fraction
            (0 < q <= 1), or `below` or `zeros` is something else.
        ChannelError
            If `value` or `q` names channels that the image does not have, or leaves some out.

        Warns
        -----
        PxprepWarning
            With `q`, once for channels without a value to measure (nothing changes), for negative and
            for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        A pixel that is NaN in one channel has no sum over channels, so that `sum_mask` and `sum_norm`
        drop it: before these steps use ``"zero"``.
        """
        return self.then(Threshold(value, q, below, zeros), name)

    def median(self, size: PerChannel = 3, *, name: str | None = None) -> Self:
        """Set each pixel to the median of the square around it, in each channel and each z-plane.

        Without NaNs the result is that of ``scipy.ndimage.median_filter(plane, size, mode="reflect")``.
        A NaN pixel stays NaN and does not count for its neighbours.

        Parameters
        ----------
        size
            Side of the square: 3 or 5 pixels. One number; a sequence in channel order; or a mapping by
            channel label, in which the key ``...`` stands for the channels that are not named. 1 leaves
            a channel as it is, bit for bit.
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `size` is not 1, 3 or 5.
        ChannelError
            If `size` names channels that the image does not have, or leaves some out.

        Notes
        -----
        Of an even number of pixels that count, the median is the mean of both in the middle, as that of
        ``numpy.nanmedian``. To remove single bright pixels and nothing else, see `remove_hot_pixels`.
        """
        return self.then(Median(size), name)

    def zscore(self, *, name: str | None = None) -> Self:
        """Subtract the mean of each channel, and divide by its standard deviation.

        Both are those of the finite values, zeros included, made from exact sums of the values and of
        their squares: the same bits whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of
        the images' means is subtracted, and the mean of their standard deviations divides.

        Parameters
        ----------
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

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
        """
        return self.then(Zscore(), name)

    def robust_zscore(self, *, name: str | None = None) -> Self:
        """Subtract the median of each channel, and divide by 1.4826 times the median distance from it.

        The median distance (MAD) is ``numpy.median(abs(values - numpy.median(values)))``, and 1.4826
        times it the standard deviation if values are normally distributed. Both medians are exact
        whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of the images' medians is
        subtracted, and the mean of their median distances divides.

        Parameters
        ----------
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Warns
        -----
        PxprepWarning
            For channels more than half of whose values are the same (nothing is divided), for those
            without a value, for negative and for infinite pixels. For a lazy image when it is computed.

        Notes
        -----
        Zeros count. A marker that is 0 in more than half of the pixels has a median distance of 0:
        nothing is divided.
        """
        return self.then(RobustZscore(), name)

    def subtract_channels(
        self,
        backgrounds: Backgrounds,
        scale: Factors = 1,
        exposures: object = None,
        drop: bool = False,
        *,
        name: str | None = None,
    ) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `backgrounds` is no such mapping or names a channel as its own background, or a number
            breaks its rule.
        ChannelError
            If `backgrounds` names channels that the image does not have, `scale` or `exposures`
            lacks one that is needed, or `drop` leaves no channel.

        Notes
        -----
        With `exposures` it is the subtraction of Backsub (mcmicro), where the image has a channel of
        autofluorescence for each filter.
        """
        return self.then(SubtractChannels(backgrounds, scale, exposures, drop), name)

    def compensate(self, matrix: object, method: str = "nnls", *, name: str | None = None) -> Self:
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
        name
            What the step is called; None for its kind, the second of that kind ``kind_2``.

        Returns
        -------
        Pipeline
            With one more step.

        Raises
        ------
        ParameterError
            If `matrix` is no such matrix or cannot be inverted, or `method` is not known.
        ChannelError
            If `matrix` names a channel twice, or one that the image does not have.

        Warns
        -----
        PxprepWarning
            Once, of the channels that are not in `matrix`.

        Notes
        -----
        The compensation of CATALYST (Chevrier et al. 2018), where nnls is the default, too. Where the
        linear solution has no negative value, both are the same.
        """
        return self.then(Compensate(matrix, method), name)
