"""Makes `q-sum.png`: what `sum_mask` drops of dense and of sparse counts, and why.

`python docs/images/q_sum.py`
"""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pxprep import ops
from pxprep.datasets import tissue

# What may become of a pixel.
KINDS = {
    "kept": "#f3ecd8",
    "dropped, no counts before the blur": "#b9b9b9",
    "dropped, had counts": "#d6604d",
}
BEFORE, AFTER = "#999999", "#2166ac"


def thinned(image: xr.DataArray, share: float) -> xr.DataArray:
    """The counts that are left if each is seen with this probability."""
    counts = np.random.default_rng(0).binomial(image.astype(int), share)
    return image.copy(data=counts.astype(image.dtype))


def draw_row(axes: np.ndarray, image: xr.DataArray, name: str, zeros: str) -> None:
    """Sums before and after the blur, and what becomes of each pixel."""
    normed = ops.quantile_norm(image)
    before, after = ops.pixel_sum(normed).values, ops.pixel_sum(ops.blur(normed)).values
    counted = np.isfinite(before) & ((before != 0) | (zeros == "include"))
    threshold = np.quantile(before[counted].astype(float), 0.05)
    kinds = np.where(after > threshold, 0, np.where(before == 0, 1, 2))
    shares = (kinds > 0).mean(), (kinds[before != 0] == 2).mean()

    histogram, picture = axes
    edges = np.linspace(0, np.quantile(after, 0.98) * 1.6, 90)
    for sums, colour, label in (
        (before[before != 0], BEFORE, "before the blur, not zero"),
        (after[before != 0], AFTER, "the same pixels, blurred"),
    ):
        histogram.hist(sums, edges, color=colour, alpha=0.6, label=label)
    histogram.axvline(threshold, color="black", linewidth=1.2, label="threshold, q_sum=5")
    histogram.set_title(name, loc="left", fontsize=9)
    histogram.set_yticks([])
    histogram.set_xlabel("sum over the channels", fontsize=8)
    histogram.legend(fontsize=7, frameon=False)
    colours = ListedColormap(list(KINDS.values()))
    picture.imshow(kinds, cmap=colours, vmin=-0.5, vmax=2.5, interpolation="nearest")
    text = "drops {:.1f} % of all pixels,\n{:.1f} % of those with counts"
    picture.set_title(text.format(*(100 * share for share in shares)), fontsize=9, loc="left")
    picture.set_axis_off()


def main() -> None:
    """Draw and save the picture."""
    dense = tissue()["fov0"]
    sparse = thinned(dense.drop_sel(c=["DAPI", "panCK", "SMA"]), 0.03)
    figure = Figure(figsize=(7.2, 8.6), layout="constrained")
    axes = figure.subplots(3, 2, width_ratios=(1.5, 1))
    zeros = [f"{float((image == 0).mean()):.0%} zeros" for image in (dense, sparse)]
    draw_row(axes[0], dense, f"the demo's first field of view: {zeros[0]}", "exclude")
    draw_row(axes[1], sparse, f"immune markers, one in 33 counts: {zeros[1]}", "exclude")
    draw_row(axes[2], sparse, 'the same, zeros="include"', "include")
    handles = [Patch(facecolor=colour, label=kind) for kind, colour in KINDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(Path(__file__).with_name("q-sum.png"), dpi=110)


if __name__ == "__main__":
    main()
