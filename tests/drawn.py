"""What a figure shows: pixels, bars, lines, texts; and images to draw."""

from collections import Counter

import dask.array as da
import numpy as np
import xarray as xr


def numbered(n_channels, *sizes, dims=("y", "x"), labels=True):
    """An image in which every pixel has another value."""
    shape = (n_channels, *sizes)
    return xr.DataArray(
        np.arange(1.0, 1 + np.prod(shape)).reshape(shape),
        dims=("c", *dims),
        coords={"c": [f"marker{i}" for i in range(n_channels)]} if labels else None,
    )


def counted_reads(plain, chunks):
    """`plain`, lazily, and a counter of the chunks that are read."""
    seen = Counter()

    def read(block):
        seen["chunks"] += 1
        return block

    array = da.from_array(plain.values, chunks=chunks)
    return plain.copy(data=array.map_blocks(read, meta=array._meta)), seen


def shown(axis):
    (picture,) = axis.get_images()
    return picture.get_array()


def limits(axes):
    return [axis.get_images()[0].get_clim() for axis in axes.flat if axis.get_images()]


def high(values):
    return np.quantile(values[np.isfinite(values)].astype(np.float32), 0.995)


def bars(axis):
    (patch,) = [p for p in axis.patches if hasattr(p, "get_data")]
    return patch.get_data()


def lines(axis):
    return {line.get_label(): line.get_xdata()[0] for line in axis.lines}


def legend_texts(figure):
    return [
        text.get_text()
        for axis in figure.axes
        if axis.get_legend()
        for text in axis.get_legend().get_texts()
    ]


def texts_that_stick_out(figure):
    """Texts outside the figure, or over another text."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    boxes = []
    for axis in figure.axes:
        texts = [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        texts += axis.get_xticklabels() + axis.get_yticklabels() if axis.axison else []
        texts += axis.get_legend().get_texts() if axis.get_legend() else []
        x, y = sorted(axis.get_xlim()), sorted(axis.get_ylim())
        unseen = [t for t in axis.get_xticklabels() if not x[0] <= t.get_position()[0] <= x[1]]
        unseen += [t for t in axis.get_yticklabels() if not y[0] <= t.get_position()[1] <= y[1]]
        boxes += [
            (text.get_text(), text.get_window_extent(renderer).padded(-0.5))
            for text in texts
            if text.get_text() and text.get_visible() and text not in unseen
        ]
    names = [name for name, _ in boxes]
    x0, y0, x1, y1 = np.array([box.extents for _, box in boxes]).T
    is_out = (x0 < -1) | (y0 < -1) | (x1 > figure.bbox.x1 + 1) | (y1 > figure.bbox.y1 + 1)
    out = [names[i] for i in np.flatnonzero(is_out)]
    beside = (x1[:, None] <= x0) | (y1[:, None] <= y0)
    pairs = np.argwhere(np.triu(~(beside | beside.T), 1))
    over = [(names[i], names[k]) for i, k in pairs]
    return out + over
