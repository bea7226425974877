"""Pictures of the steps: one channel before and after, and what that does to its pixels.

`python docs/images/steps.py FOLDER` draws them; the build of the site does so for its pages.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pxprep import ops
from pxprep.datasets import tissue
from pxprep.plot import DROPPED

COLOURS = matplotlib.colormaps["magma"].with_extremes(bad=DROPPED)
BEFORE, AFTER = "#9a9a9a", "#b5367a"
# Of the demo's first field of view: nests, the follicle and some glass.
REGION = {"y": slice(70, 230), "x": slice(50, 210)}


@cache
def counts() -> xr.DataArray:
    """Ten markers of a made-up piece of tissue."""
    return tissue()["fov0"].isel(REGION).astype("float32")


def nuclei() -> xr.DataArray:
    """The counts of DAPI."""
    return counts().sel(c=["DAPI"])


def scaled() -> xr.DataArray:
    """The counts after the first step."""
    return ops.quantile_norm(counts())


def blurred() -> xr.DataArray:
    """The counts after the second step."""
    return ops.blur(scaled())


def drop_weak(image: xr.DataArray) -> xr.DataArray:
    """The mask, with its threshold measured before the blur, as in the reference order."""
    return ops.sum_mask(image, 5, reference=scaled())


def masked() -> xr.DataArray:
    """The counts after the third step."""
    return drop_weak(blurred())


def shares() -> xr.DataArray:
    """The counts after the fourth step."""
    return ops.sum_norm(masked())


def with_hot_pixels() -> xr.DataArray:
    """The counts, and a few single pixels that are far too bright."""
    random = np.random.default_rng(0)
    spots = random.random(counts().shape) < 0.002
    return counts() + 40 * spots


def with_background() -> xr.DataArray:
    """The counts on a background that is brighter in one corner."""
    y, x = np.ogrid[:160, :160]
    return counts() + xr.DataArray(12 + 10 * np.sin(y / 60) * np.cos(x / 70), dims=("y", "x"))


def with_autofluorescence() -> xr.DataArray:
    """CD8 with the fibres of SMA in it, and a channel that shows these fibres alone."""
    fibres = (counts().sel(c="SMA", drop=True) * 0.3).expand_dims(c=["autofluorescence"])
    image = xr.concat([counts(), fibres], "c")
    image.loc["CD8"] += image.sel(c="autofluorescence", drop=True)
    return image


def with_spillover() -> xr.DataArray:
    """A third of panCK is seen in CD8, too."""
    image = counts().copy()
    image.loc["CD8"] += 0.03 * image.sel(c="panCK", drop=True)
    return image


def near_the_middle() -> xr.DataArray:
    """A mask: a disc."""
    y, x = np.ogrid[-80:80, -80:80]
    return xr.DataArray(y**2 + x**2 < 70**2, dims=("y", "x"))


class Shown(NamedTuple):
    """A step on a picture.

    `by_value`: each pixel's value alone says what it becomes, so that values are drawn against
    values; else a row of the image is drawn before and after.
    """

    call: str
    image: Callable[[], xr.DataArray]
    step: Callable[[xr.DataArray], xr.DataArray]
    channel: str
    by_value: bool
    row: int | None = None  # the brightest one

    @property
    def words(self) -> str:
        """What the picture shows."""
        end = "its values before and after" if self.by_value else "a row of it"
        return f"{self.channel} before and after {self.call}, and {end}"


SPILLOVER = xr.DataArray(
    [[1, 0.03], [0, 1]],
    dims=("c", "seen"),
    coords={"c": ["panCK", "CD8"], "seen": ["panCK", "CD8"]},
)
PICTURES = {
    "quantile_norm": Shown("quantile_norm(99)", counts, ops.quantile_norm, "CD3", True),
    "blur": Shown("blur(2)", scaled, ops.blur, "CD3", False),
    "sum_mask": Shown("sum_mask(5)", blurred, drop_weak, "CD3", False, 145),
    "sum_norm": Shown("sum_norm()", masked, ops.sum_norm, "CD3", False),
    "post_norm": Shown("post_norm(99.9)", shares, ops.post_norm, "CD3", True),
    "clip": Shown("clip(1)", scaled, lambda image: ops.clip(image, 1), "CD3", True),
    "arcsinh": Shown("arcsinh(5)", counts, ops.arcsinh, "panCK", True),
    "log1p": Shown("log1p()", counts, ops.log1p, "panCK", True),
    "remove_hot_pixels": Shown(
        "remove_hot_pixels(20)",
        with_hot_pixels,
        lambda image: ops.remove_hot_pixels(image, 20),
        "CD20",
        False,
    ),
    "median": Shown("median(3)", with_hot_pixels, ops.median, "CD20", False),
    "top_hat": Shown(
        "subtract_background(radius=10)",
        with_background,
        lambda image: ops.subtract_background(image, radius=10),
        "CD20",
        False,
    ),
    "constant": Shown(
        "subtract_background(constant=8)",
        with_background,
        lambda image: ops.subtract_background(image, constant=8),
        "CD20",
        False,
    ),
    "percentile_clip": Shown("percentile_clip(1, 99)", counts, ops.percentile_clip, "CD3", True),
    "minmax": Shown("minmax()", counts, ops.minmax, "CD3", True),
    "subtract_channels": Shown(
        'subtract_channels({"CD8": "autofluorescence"})',
        with_autofluorescence,
        lambda image: ops.subtract_channels(image, {"CD8": "autofluorescence"}),
        "CD8",
        False,
    ),
    "compensate": Shown(
        "compensate(matrix)",
        with_spillover,
        lambda image: ops.compensate(image.sel(c=["panCK", "CD8"]), SPILLOVER),
        "CD8",
        False,
    ),
    "zscore": Shown("zscore()", nuclei, ops.zscore, "DAPI", True),
    "robust_zscore": Shown("robust_zscore()", nuclei, ops.robust_zscore, "DAPI", True),
    "threshold": Shown("threshold(5)", counts, lambda image: ops.threshold(image, 5), "CD3", True),
    "rescale": Shown("rescale(4)", counts, lambda image: ops.rescale(image, 4), "CD3", False),
    "keep_where": Shown(
        "keep_where(mask)",
        blurred,
        lambda image: ops.keep_where(image, near_the_middle()),
        "CD3",
        False,
    ),
}


def draw(shown: Shown) -> Figure:
    """One channel before and after a step, and a row of it, or its values."""
    image = shown.image()
    before = image.sel(c=shown.channel).values
    after = shown.step(image).sel(c=shown.channel).values
    row = shown.row
    if row is None:
        row = int(np.argmax(np.nan_to_num(before)[20:-20].sum(axis=1))) + 20
    height, width = before.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    for axis, values, name in ((left, before, shown.channel), (middle, after, shown.call)):
        high = float(np.nanquantile(values, 0.995))
        # Larger pixels lie where the smaller ones were.
        lowest = float(np.nanmin(values))
        picture = axis.imshow(values, cmap=COLOURS, vmin=lowest, vmax=high, extent=extent)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_axis_off()
        figure.colorbar(picture, ax=axis, shrink=0.9, pad=0.02).ax.tick_params(labelsize=7)
        if not shown.by_value:
            axis.axhline(row, color="white", linewidth=0.7, linestyle=(0, (4, 3)))
    if shown.by_value:
        right.scatter(before, after, s=3, color=AFTER, linewidths=0, rasterized=True)
        right.set_xlabel("value before", fontsize=8)
        right.set_ylabel("value after", fontsize=8)
    else:
        right.plot(before[row], color=BEFORE, linewidth=1, label="before")
        size = height // len(after)
        stretch = np.repeat(after[row // size], size)
        right.plot(stretch, color=AFTER, linewidth=1.2, label="after")
        right.legend(fontsize=7, frameon=False, loc="best")
        right.set_xlabel("along the dashed line", fontsize=8)
    right.tick_params(labelsize=7)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def main(folder: str | Path) -> None:
    """Draw all pictures into a folder."""
    for name, shown in PICTURES.items():
        draw(shown).savefig(Path(folder) / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main(sys.argv[1])
