"""Pixels of drawn images and masks: plain NumPy arrays with the axes (c, z, y, x), or without z."""

import numpy as np

# What most pixels are; `extras` put other things among them.
BASES = {
    "gamma": lambda rng, shape: rng.gamma(2, 20, shape),
    "counts": lambda rng, shape: rng.poisson(0.4, shape),
    "ties": lambda rng, shape: rng.integers(0, 4, shape),
    "constant": lambda rng, shape: 7 + _numbers(shape) + np.zeros(shape),
    "zeros": lambda rng, shape: np.zeros(shape),
    "normal": lambda rng, shape: 30 * rng.normal(size=shape),
    "wide": lambda rng, shape: np.exp(12 * rng.normal(size=shape)) * rng.choice([-1, 1, 1], shape),
    "large": lambda rng, shape: rng.gamma(2, 2.0**29, shape),
    "ramp": lambda rng, shape: _ramp(shape) + rng.random(shape),
    "halves": lambda rng, shape: (
        rng.gamma(2, 300, shape) * (_ramp(shape) > np.median(_ramp(shape)))
    ),
    "saturated": lambda rng, shape: np.where(
        rng.random(shape) < 0.4, 2.0**62, rng.gamma(2, 20, shape)
    ),
    "spikes": lambda rng, shape: 3 + 400 * (rng.random(shape) < 0.1) * rng.random(shape),
    "tiny": lambda rng, shape: rng.gamma(2, 20, shape) * 2.0**-148,
    "huge": lambda rng, shape: rng.random(shape) * 2.0**126,
}


def _numbers(shape):
    return np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))


def _is_one_channel(rng, shape):
    return _numbers(shape) == rng.integers(shape[0])


# Where they are, and what is there.
EXTRAS = {
    "some zeros": (lambda rng, shape: rng.random(shape) < 0.3, 0),
    "most zero": (lambda rng, shape: rng.random(shape) < 0.9, 0),
    "channel of zeros": (_is_one_channel, 0),
    "pixels of zeros": (lambda rng, shape: rng.random(shape[1:]) < 0.3, 0),
    "bright pixel": (lambda rng, shape: np.arange(np.prod(shape)).reshape(shape) == 1, 5e4),
    "some NaN": (lambda rng, shape: rng.random(shape) < 0.08, np.nan),
    "half NaN": (lambda rng, shape: rng.random(shape) < 0.45, np.nan),
    "most NaN": (lambda rng, shape: rng.random(shape) < 0.8, np.nan),
    "rows of NaN": (lambda rng, shape: rng.random((shape[-2], 1)) < 0.3, np.nan),
    "channel of NaN": (_is_one_channel, np.nan),
    "all NaN": (lambda rng, shape: np.array(True), np.nan),
    "infinite": (lambda rng, shape: rng.random(shape) < 0.05, np.inf),
    "minus infinite": (lambda rng, shape: rng.random(shape) < 0.05, -np.inf),
    "minus zero": (lambda rng, shape: rng.random(shape) < 0.2, -0.0),
}


def _ramp(shape):
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    return np.broadcast_to(rows * 5.0 + columns, shape)


def pixels(picture, n_channels):
    """The pixels of a `Picture`, channels in the order of their numbers."""
    rng = np.random.default_rng(picture.seed)
    shape = n_channels, *picture.size
    values = np.array(BASES[picture.base](rng, shape), np.float64)
    dtype = np.dtype(picture.dtype)
    for extra in picture.extras:
        where, value = EXTRAS[extra]
        if dtype.kind == "f" or np.isfinite(value):
            values = np.where(where(rng, shape), value, values)
    return _cast(values, dtype)


def _cast(values, dtype):
    """Values in a type, those out of its range as its ends."""
    if dtype.kind == "b":
        return values > 7
    if dtype.kind in "ui":
        ends = np.iinfo(dtype)
        # Floats near the ends of wide integers are beyond them.
        values = np.clip(np.floor(values), float(ends.min), float(ends.max) * (1 - 2.0**-50))
        return values.astype(dtype)
    finite, size = np.isfinite(values), np.abs(values)
    if dtype.itemsize == 8:  # as near the limits of the type
        values = np.where(finite & (size > 2.0**100), values * 2.0**896, values)
        values = np.where(finite & (size < 2.0**-120), values * 2.0**-920, values)
    largest = float(np.finfo(dtype).max)
    return np.where(finite, np.clip(values, -largest, largest), values).astype(dtype)


def labels(mask, size):
    """The integers that a drawn `Mask` chooses from, with the axes (z, y, x) or (y, x)."""
    size = size if mask.with_z else size[-2:]
    rng = np.random.default_rng(mask.seed)
    found = np.full(size, int(mask.kind == "all"))
    if mask.kind == "random":
        found = rng.integers(0, 4, size) * rng.integers(0, 2, size)
    elif mask.kind == "corner":
        found[..., : -(-size[-2] // 2), : -(-size[-1] // 2)] = 1
    elif mask.kind == "pixel":
        found[tuple(rng.integers(n) for n in size)] = 1
    if mask.form == "label":
        found.flat[0] = 1  # a label that is not there is refused
    return found


def inside(mask, size):
    """Which pixels a drawn `Mask` has inside, with the axes (z, y, x) or (y, x); None for all."""
    if mask is None:
        return None
    found = labels(mask, size)
    if mask.form in ("label", "others"):
        return (found == 1) == (mask.form == "label")
    return found != 0
