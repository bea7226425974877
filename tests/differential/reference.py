"""The right answer: a drawn pipeline on a drawn cohort, by the oracle alone.

Images are NumPy arrays with the axes (c, z, y, x), or without z; masks have (z, y, x) or (y, x).
Of a step that measures, numbers are kept by the names that they have in a fitted pipeline.
"""

import statistics

import numpy as np

import oracle

# What the functions of drawn pipelines do; `running` has the same for labeled images.
FUNCTIONS = {
    "double": lambda image: image * 2,
    "absolute": np.abs,
    "upside down": lambda image: image[..., ::-1, :],
    "rolled": lambda image: np.roll(image, 1, axis=-1),
    "times first": lambda image: image * image[:1],
    "other axes": lambda image: image,
    "double precision": lambda image: image.astype(np.float64),
    "single precision": lambda image: image.astype(np.float32),
}


def run(steps, images, masks, pool, held):
    """The images and the numbers of each step after all `steps`.

    `held` has functions for steps that the oracle has up to rounding only.
    """
    outputs = {"input": images}
    numbers = {}
    for step in steps:
        measured = images if step.reference is None else outputs[step.reference]
        measured = [outside_missing(*pair) for pair in zip(measured, masks, strict=True)]
        if step.kind in MEASURES and step.parameters.get("value") is None:
            numbers[step.name] = MEASURES[step.kind](measured, pool, step.parameters)
        images = [
            _applied(step, image, index, numbers.get(step.name), pool, held)
            for index, image in enumerate(images)
        ]
        outputs[step.name] = images
    return [image.astype(oracle.float_type(image.dtype)) for image in images], numbers


def outside_missing(image, mask):
    """The image with NaN outside a mask, in the float type in which it is processed."""
    image = image.astype(oracle.float_type(image.dtype))
    return image if mask is None else np.where(mask, image, image.dtype.type(np.nan))


# What is measured


def _quantiles(images, q, zeros, pool):
    """Quantiles of each image, and those of which the cohort's are made: axes (fov, c)."""
    each = np.array([oracle.quantile(image, q, zeros) for image in images])
    if pool != "pixels":
        return each, each
    common = np.result_type(*images)
    joined = [image.astype(common).reshape(len(image), -1) for image in images]
    return each, oracle.quantile(np.concatenate(joined, axis=1), q, zeros)[np.newaxis]


def _mean(rows, pool):
    """The mean over images, rounded once, of what is not NaN; each image's own for no pool."""
    if pool is None:
        return rows.copy()
    columns = [column[~np.isnan(column)].tolist() for column in rows.T]
    return np.array([statistics.mean(column) if column else np.nan for column in columns])


def _details(images, upper, zeros):
    """What a fitted pipeline says of the pixels that were measured."""
    counts = {"counted": [], "negative": [], "infinite": []}
    for image in images:
        flat = image.reshape(len(image), -1)
        counted = np.isfinite(flat) & ((flat != 0) | (zeros == "include"))
        counts["counted"].append(counted.sum(axis=1))
        counts["negative"].append((counted & (flat < 0)).sum(axis=1))
        counts["infinite"].append(np.isinf(flat).sum(axis=1))
    return {"quantile": upper, **{name: np.array(rows) for name, rows in counts.items()}}


def _scales(images, pool, parameters):
    (q,) = parameters.values()
    each, pooled = _quantiles(images, q, "exclude", pool)
    scale = _mean(pooled, pool)
    scale[np.isnan(scale) | (scale.astype(np.result_type(*images)) == 0)] = 1
    return {"scale": scale, **_details(images, each, "exclude")}


def _threshold(images, pool, parameters):
    if parameters["threshold"] is not None:
        return {"threshold": np.float64(parameters["threshold"])}
    sums = [oracle.pixel_sum(image)[np.newaxis] for image in images]
    zeros = parameters["zeros"]
    each, pooled = _quantiles(sums, parameters["q_sum"], zeros, pool)
    threshold = _mean(pooled, pool)
    threshold[np.isnan(threshold)] = 0
    details = {name: rows[:, 0] for name, rows in _details(sums, each, zeros).items()}
    return {"threshold": threshold[..., 0], **details}


def _limits(images, pool, parameters):
    zeros = parameters["zeros"]
    lows, highs = (_quantiles(images, parameters[end], zeros, pool) for end in ("low", "high"))
    low, high = _mean(lows[1], pool), _mean(highs[1], pool)
    limits = {"low": np.where(np.isnan(low), -np.inf, low)}
    limits["high"] = np.where(np.isnan(high), np.inf, high)
    return {**limits, "quantile_low": lows[0], **_details(images, highs[0], zeros)}


def _range(images, pool, parameters):
    lows, highs = (_quantiles(images, q, "include", pool) for q in (0, 100))
    ends = [lows[1], highs[1]]
    if pool is not None:
        # Images without a range do not count, unless there are no others.
        constant = ends[0] == ends[1]
        alone = [_mean(np.where(constant, np.nan, end), pool) for end in ends]
        every = [_mean(end, pool) for end in ends]
        ends = [np.where(np.isnan(one), all_, one) for one, all_ in zip(alone, every, strict=True)]
    low, high = (np.where(np.isnan(end), n, end) for n, end in enumerate(ends))
    details = _details(images, highs[0], "include")
    return {"min": low, "max": high, "quantile_low": lows[0], **details}


def _centers(images, pool, parameters):
    each, pooled = _quantiles(images, 50, "include", pool)
    center = _mean(pooled, pool)
    center = np.where(np.isnan(center), 0, center)
    origins = [center] * len(images) if pool == "pixels" else each
    far = [oracle.distances(*pair) for pair in zip(images, origins, strict=True)]
    own, pooled = _quantiles(far, 50, "include", pool)
    spread = 1.482602218505602 * _mean(pooled, pool)
    zero = ~np.isfinite(spread) | (spread.astype(np.result_type(*images)) == 0)
    details = _details(images, own, "include")
    return {"center": center, "spread": np.where(zero, 1, spread), "median": each, **details}


def _moments(images, pool, parameters):
    each = np.array([oracle.moments(image) for image in images])
    pooled = each
    if pool == "pixels":
        joined = [oracle.to_float(image).reshape(len(image), -1) for image in images]
        pooled = oracle.moments(np.concatenate(joined, axis=1))[np.newaxis]
    center, spread = (_mean(pooled[:, number], pool) for number in (0, 1))
    zero = np.isnan(spread) | (spread.astype(np.result_type(*images)) == 0)
    _, *counts = _details(images, None, "include").items()
    own = {"mean": each[:, 0], "deviation": each[:, 1], **dict(counts)}
    return {
        "center": np.where(np.isnan(center), 0, center),
        "spread": np.where(zero, 1, spread),
        **own,
    }


def _values(images, pool, parameters):
    zeros = parameters["zeros"]
    each, pooled = _quantiles(images, parameters["q"], zeros, pool)
    value = _mean(pooled, pool)
    return {"value": np.where(np.isnan(value), -np.inf, value), **_details(images, each, zeros)}


def _peak(images, pool, parameters):
    rows = np.array(
        [
            np.fmax.reduce(image.astype(np.float64).reshape(len(image), -1), axis=1)
            for image in images
        ]
    )
    return {"peak": rows if pool is None else np.fmax.reduce(rows, axis=0)}


MEASURES = {
    "quantile_norm": _scales,
    "post_norm": _scales,
    "sum_mask": _threshold,
    "percentile_clip": _limits,
    "minmax": _range,
    "threshold": _values,
    "robust_zscore": _centers,
    "zscore": _moments,
    "peak": _peak,
    "share": _peak,
}


# What is applied


def _applied(step, image, index, numbers, pool, held):
    own = numbers
    if pool is None and numbers is not None:
        own = {n: row[index] if np.ndim(row) else row for n, row in numbers.items()}
    if step.kind == "function":
        return FUNCTIONS[step.parameters["function"]](image)
    if step.kind == "keep_where":
        return outside_missing(image, step.parameters["where"][index])
    if step.kind == "blur":
        sigma = step.parameters["sigma"]
        return image if sigma is None else held["blur"](image, sigma)
    if step.kind == "compensate":
        least_squares = held["nnls"] if step.parameters["method"] == "nnls" else None
        return _compensated(image, step.parameters["matrix"], least_squares)
    if step.kind == "sum_mask":
        return _masked(image, float(own["threshold"]), step)
    if step.kind == "threshold":
        value = step.parameters["value"] if own is None else own["value"]
        return oracle.threshold(image, value, below=step.parameters["below"])
    if step.kind in MEASURES:
        return _APPLIES[step.kind](image, own)
    return getattr(oracle, step.kind)(image, **step.parameters)


def _along(numbers, image):
    """Numbers of each channel, in the image's type, beside its pixels."""
    return numbers.astype(image.dtype).reshape(-1, *[1] * (image.ndim - 1))


def _divided(image, numbers):
    image = oracle.to_float(image)
    return image / _along(numbers["scale"], image)


def _clipped(image, numbers):
    image = oracle.to_float(image)
    return np.clip(image, _along(numbers["low"], image), _along(numbers["high"], image))


def _rescaled(image, numbers):
    image = oracle.to_float(image)
    span = _along(numbers["max"] - numbers["min"], image)
    return (image - _along(numbers["min"], image)) / np.where(span == 0, image.dtype.type(1), span)


def _standardized(image, numbers):
    image = oracle.to_float(image)
    return (image - _along(numbers["center"], image)) / _along(numbers["spread"], image)


def _compensated(image, fractions, least_squares):
    """The channels that the matrix has, solved; linearly unless there is a function for it."""
    places = sorted({*fractions, *(other for row in fractions.values() for other in row)})
    matrix = np.eye(len(places))
    for one, row in fractions.items():
        for other, fraction in row.items():
            matrix[places.index(one), places.index(other)] = fraction
    made = image.astype(oracle.float_type(image.dtype))
    solve = least_squares or (lambda *given: oracle.compensate(*given, method="linear"))
    made[places] = solve(made[places], matrix)
    return made


def _masked(image, threshold, step):
    if step.reference is None or step.parameters["threshold"] is not None:
        return oracle.sum_mask(image, threshold=threshold)
    # Other ties: the oracle's threshold is that of an image of which it is the only value.
    return oracle.sum_mask(image, 100, np.full((1, 1), threshold, np.float64))


def _below_peak(image, numbers):
    image = image.astype(oracle.float_type(image.dtype))
    return image - _along(numbers["peak"], image)


def _peaks_share(image, numbers):
    return _divided(image, {"scale": numbers["peak"]})


_APPLIES = {
    "quantile_norm": _divided,
    "post_norm": _divided,
    "percentile_clip": _clipped,
    "minmax": _rescaled,
    "robust_zscore": _standardized,
    "zscore": _standardized,
    "peak": _below_peak,
    "share": _peaks_share,
}
