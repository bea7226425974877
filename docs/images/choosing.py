"""Pictures of what q, sigma and q_sum do, for those who choose them.

`python docs/images/choosing.py FOLDER` draws them; the build of the site does so for its pages.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pxprep import Pipeline, ops
from pxprep.datasets import tissue
from pxprep.plot import DROPPED

COLOURS = matplotlib.colormaps["magma"].with_extremes(bad=DROPPED)
LINES = {90: "#1b7837", 99: "#b5367a", 99.9: "#e08e0b"}


def with_hot_pixels(image: xr.DataArray, share: float = 0.002) -> xr.DataArray:
    """An image with single pixels that are far too bright."""
    random = np.random.default_rng(0)
    return image + 100 * (random.random(image.shape) < share)


def thinned(image: xr.DataArray, share: float) -> xr.DataArray:
    """The counts that are left if each is seen with this probability."""
    counts = np.random.default_rng(0).binomial(image.astype(int), share)
    return image.copy(data=counts.astype(image.dtype))


def seen_by_a_camera(image: xr.DataArray) -> xr.DataArray:
    """The same tissue with an offset and noise in every pixel, glass included."""
    random = np.random.default_rng(0)
    return (image * 8 + 300 + random.normal(0, 15, image.shape)).astype("float32")


def show(axis: matplotlib.axes.Axes, values: np.ndarray, title: str, high: float) -> None:
    """A plane, from 0 to `high`."""
    axis.imshow(values, cmap=COLOURS, vmin=0, vmax=high)
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_axis_off()


def draw_q() -> Figure:
    """Where quantiles lie, and what an image is after a division by them."""
    image = tissue()["fov0"].sel(c=["CD3"])
    figure = Figure(figsize=(9.2, 4.9), layout="constrained")
    axes = figure.subplots(2, 4, width_ratios=(1.25, 1, 1, 1))
    rows = {"CD3": image, "CD3 with hot pixels": with_hot_pixels(image)}
    for row, (name, channel) in zip(axes, rows.items(), strict=True):
        values = channel.values[channel.values > 0]
        row[0].hist(values, np.arange(0, 45) - 0.5, color="#9a9a9a")
        row[0].set_yscale("log")
        row[0].set_xlabel("counts that are not zero", fontsize=8)
        row[0].tick_params(labelsize=7)
        row[0].set_title(name, fontsize=9, loc="left")
        for axis, (q, colour) in zip(row[1:], LINES.items(), strict=True):
            found = float(ops.quantile(channel, q).squeeze())
            if found < 45:
                row[0].axvline(found, color=colour, linewidth=1.4, label=f"q={q:g}: {found:.0f}")
            else:
                row[0].plot([], [], color=colour, label=f"q={q:g}: {found:.0f}, outside")
            show(axis, ops.quantile_norm(channel, q).values[0], f"q={q:g}, black 0, white 1", 1)
        row[0].legend(fontsize=7, frameon=False)
    return figure


def draw_sigma() -> Figure:
    """Four widths of the blur on many and on few counts."""
    image = tissue()["fov0"].sel(c=["CD3"]).isel(y=slice(96, 224), x=slice(40, 168))
    figure = Figure(figsize=(9.2, 5), layout="constrained")
    axes = figure.subplots(2, 4)
    rows = {"up to 30 counts": image, "one count in eight": thinned(image, 1 / 8)}
    for row, (name, channel) in zip(axes, rows.items(), strict=True):
        for axis, sigma in zip(row, (0, 1, 2, 4), strict=True):
            values = ops.blur(channel, sigma).values[0]
            show(axis, values, f"{name}, sigma={sigma}", float(np.quantile(values, 0.995)))
    return figure


def draw_q_sum() -> Figure:
    """What four thresholds drop of counts, and of a camera's image."""
    image = tissue()["fov0"]
    camera = seen_by_a_camera(image)
    figure = Figure(figsize=(9.2, 7.4), layout="constrained")
    axes = figure.subplots(3, 4)
    rows = {
        "counts": image,
        "camera": camera,
        "no offset": ops.subtract_background(camera, constant=345),
    }
    for row, (name, fov) in zip(axes, rows.items(), strict=True):
        for axis, q_sum in zip(row, (2, 5, 15, 30), strict=True):
            pipeline = Pipeline.sparrow(q_sum=q_sum, norm_sum=False, q_post=None)
            total = ops.pixel_sum(pipeline.fit_transform(fov)).values
            dropped = np.isnan(total).mean()
            title = f"{name}, q_sum={q_sum}: {dropped:.0%} dropped"
            show(axis, total, title, float(np.nanquantile(total, 0.995)))
    return figure


PICTURES = {"q": draw_q, "sigma": draw_sigma, "q_sum": draw_q_sum}


def main(folder: str | Path) -> None:
    """Draw all pictures into a folder."""
    for name, draw in PICTURES.items():
        draw().savefig(Path(folder) / f"choose_{name}.png", dpi=120)


if __name__ == "__main__":
    main(sys.argv[1])
