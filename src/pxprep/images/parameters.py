"""One parser per notion: checks what the user gave and returns it in one plain form."""

import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from ..aliases import Array, DType, PerChannel, Pool
from ..channels import ByLabel, plain
from ..errors import ParameterError, spelled, warn
from ..store.files import MAX_NAME
from .hints import line_for_address, require_numpy_or_dask

SPATIAL = ("z", "y", "x")
ZEROS = ("exclude", "include")
POOLS = ("mean", "pixels")
BYTES = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(i?)B")
# An address such as s3://bucket, also as pathlib writes it (s3:/bucket); but not a drive, C:/.
REMOTE = re.compile(r"[A-Za-z][\w+.-]+:/")
# Pixels; the kernel of a larger blur is wider than any image, and the work grows with it.
MAX_SIGMA = 10_000
# Pixels; a larger disc is no background of cells, and the work grows with it.
MAX_RADIUS = 1_000
# Odd sides of squares for which there is a sorting network.
SIDES = (1, 3, 5)


def parse_number(value: object, parameter: str, rule: str) -> float:
    """A finite float; bools, strings, durations and what a masked array leaves out are not."""
    if isinstance(value, xr.DataArray) and value.ndim == 0 and value.chunks is not None:
        raise ParameterError(
            f"{spelled(parameter)} must be {rule}, got a lazy DataArray: float(array) computes it"
        )
    if isinstance(value, np.ndarray | xr.DataArray) and value.ndim == 0:
        value = np.asanyarray(value)[()]  # unlike item(), keeps masks, and types of durations
    if isinstance(value, bool | np.bool_ | np.timedelta64) or not isinstance(value, Real):
        raise ParameterError(f"{spelled(parameter)} must be {rule}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ParameterError(f"{spelled(parameter)} must be {rule}, got {value!r:.100}")
    return number


def parse_quantile(value: object, parameter: str) -> PerChannel:
    """Percent for all channels, in channel order, or by label; 0 < q <= 1 is an error.

    Older tools (Pixie, harpy) disagree on percent or fraction, so a value that can only be meant as
    a fraction is refused instead of obeyed.
    """
    return _parse_each(value, parameter, _parse_high_percent)


def parse_low_quantile(value: object, parameter: str) -> PerChannel:
    """As `parse_quantile`; but small values are plausible here, and obeyed."""
    return _parse_each(value, parameter, _parse_percent)


def parse_sum_quantile(value: object, parameter: str) -> float:
    """One percent; small values are plausible here, so a likely fraction only warns."""
    number = _parse_percent(value, parameter)
    if 0 < number <= 1:
        warn(
            f"{spelled(parameter)} is in percent: {number:g} is the quantile {number:g} % of the "
            f"sums; if you meant a fraction, write {_as_percent(number)}"
        )
    return number


def parse_sigma(value: object, parameter: str = "sigma") -> PerChannel:
    """Standard deviation in pixels, for all channels, in channel order, or by label."""
    return _parse_each(value, parameter, _parse_one_sigma)


def parse_finite(value: object, parameter: str) -> PerChannel:
    """A finite number for all channels, in channel order, or by label."""
    return _parse_each(value, parameter, partial(parse_number, rule="a finite number"))


def parse_positive(value: object, parameter: str, *, or_zero: bool = False) -> PerChannel:
    """A number above 0 (or, if `or_zero`, at least 0) for all channels, in order, or by label."""

    def parse(item: object, name: str) -> float:
        rule = "a number of at least 0" if or_zero else "a number above 0"
        number = parse_number(item, name, rule)
        if number < 0 or (number == 0 and not or_zero):
            raise ParameterError(f"{spelled(name)} must be {rule}, got {item!r}")
        return number

    return _parse_each(value, parameter, parse)


def parse_radius(value: object, parameter: str) -> PerChannel:
    """A whole number of pixels, for all channels, in channel order, or by label."""
    rule, allowed = f"a whole number of pixels from 0 to {MAX_RADIUS}", range(MAX_RADIUS + 1)
    return _parse_each(value, parameter, partial(_parse_whole, rule=rule, allowed=allowed))


def parse_side(value: object, parameter: str) -> PerChannel:
    """The side of a square of pixels, for all channels, in channel order, or by label."""
    rule = f"one of the numbers of pixels {', '.join(map(str, SIDES))}"
    return _parse_each(value, parameter, partial(_parse_whole, rule=rule, allowed=SIDES))


def parse_threshold(value: object) -> Array:
    """A finite number, or the data of a DataArray without dims, which may be lazy."""
    rule = "a finite number"
    if isinstance(value, xr.DataArray):
        require_numpy_or_dask(value, "threshold", "threshold", ParameterError)
        if value.ndim:
            raise ParameterError(
                f"{spelled('threshold')} must be {rule}, got an array over {value.dims}"
            )
        if value.chunks is not None:
            return value.data
    return np.asarray(parse_number(value, "threshold", rule))


def parse_choice(value: object, parameter: str, choices: Sequence[str]) -> str:
    """One of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(
            f"{spelled(parameter)} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )
    return value


def parse_pool(value: object) -> Pool:
    """How quantiles of a cohort are pooled: "mean", "pixels", or None for not at all."""
    if value is None:
        return None
    return cast("Pool", parse_choice(value, "pool (or None)", POOLS))


def parse_path(value: object, parameter: str, what: str) -> Path:
    """The path of `what`, a file or a folder, ``~`` being the home folder.

    Its names must be those that a file system can hold.
    """
    if not isinstance(value, str | Path) or not str(value):
        raise ParameterError(f"{spelled(parameter)} must be the path of {what}, got {value!r:.300}")
    if REMOTE.match(str(value)):
        address = re.sub(":/+", "://", str(value), count=1)
        raise ParameterError(
            f"{spelled(parameter)} must be the path of {what} on this machine, got the address "
            f"{address!r}; an array there is read lazily as an image: write "
            f"{line_for_address(address)}"
        )
    # Not `Path.expanduser`, which fails with a RuntimeError on the home of an unknown user.
    path = Path(os.path.expanduser(value))  # noqa: PTH111
    try:
        longest = max(len(os.fsencode(part)) for part in ("", *path.parts))
    except UnicodeEncodeError:
        longest = MAX_NAME + 1
    if longest > MAX_NAME or "\0" in str(path):
        raise ParameterError(
            f"{spelled(parameter)} must be the path of {what}, of names of at most {MAX_NAME} "
            f"bytes that a file can have, got {str(path)!r:.300}"
        )
    return path


def parse_new_file(
    value: object, parameter: str, what: str, *, may_replace: bool, endings: Collection[str] = ()
) -> Path:
    """The path of a file that can be written; `endings` are those it may have, none for any."""
    path = parse_path(value, parameter, what)
    if endings and path.suffix.lower() not in endings:
        rule = f"end in {' or '.join(endings)}"
    elif path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        rule = "be a file in a folder that exists and can be written to"
    elif path.exists() and not may_replace:
        raise ParameterError(
            f"{spelled(parameter)} {str(path)!r} exists already; {spelled('overwrite=True')} "
            "replaces it"
        )
    else:
        return path
    raise ParameterError(f"{spelled(parameter)} must {rule}, got {str(path)!r}")


def parse_memory(value: object) -> int | None:
    """A number of bytes, or text such as "2 GiB"; None passes."""
    rule = 'a number of bytes, or text such as "500 MB" or "2 GiB"'
    if value is None:
        return None
    if isinstance(value, str):
        match = BYTES.fullmatch(value.strip())
        if match is None:
            raise ParameterError(f"{spelled('memory')} must be {rule}, got {value!r}")
        number, prefix, binary = match.groups()
        power = " kMGT".index(prefix.replace("K", "k") or " ")
        try:
            return int(float(number) * (1024 if binary else 1000) ** power)
        except OverflowError:
            raise ParameterError(
                f"{spelled('memory')} must be {rule}, got {value!r:.100}"
            ) from None
    return parse_count(value, "memory", rule, least=0)


def parse_bool(value: object, parameter: str) -> bool:
    """True or False, not something truthy."""
    if not isinstance(value, bool | np.bool_):
        raise ParameterError(f"{spelled(parameter)} must be True or False, got {value!r}")
    return bool(value)


def parse_wait(value: object) -> float | None:
    """Seconds to wait: None (no limit) for True, 0 for False."""
    if isinstance(value, bool | np.bool_):
        return None if value else 0.0
    return _parse_up_to(math.inf, value, "wait", "True, False or a number of seconds")


def parse_float_dtype(value: Any) -> DType | None:
    """float32 or float64; None leaves the choice to the image."""
    if value is None:
        return None
    rule = f"{spelled('dtype')} must be float32 or float64, got {value!r}"
    try:
        dtype: DType = np.dtype(value)
    except TypeError as error:
        raise ParameterError(rule) from error
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ParameterError(rule)
    return dtype


def parse_count(value: object, parameter: str, rule: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, int | np.integer)
        or value < least
    ):
        raise ParameterError(f"{spelled(parameter)} must be {rule}, got {value!r}")
    return int(value)


def parse_chunks(value: object, dims: Sequence[str]) -> dict[str, int]:
    """Chunk size in pixels by dimension; one number is the size along y and x.

    A sequence has one size per dimension in `dims`; a mapping names dimensions; -1 is the whole
    dimension. None gives an empty dict: chunks are kept.
    """
    rule = (
        "a positive number of pixels for y and x (-1: one chunk), a sequence with one for each of "
        f"{tuple(dims)}, or a mapping of dimension to size"
    )
    if value is None:
        return {}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        unknown = [dim for dim in value if dim not in dims]
        if unknown:
            raise ParameterError(
                f"{spelled('chunks')} names dimensions that the image does not have: {unknown}; "
                f"it has {tuple(dims)}"
            )
        by_dim = dict(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != len(dims):
            raise ParameterError(f"{spelled('chunks')} must be {rule}, got {value!r}")
        by_dim = dict(zip(dims, value, strict=True))
    else:
        by_dim = {"y": value, "x": value}
    return {dim: _parse_chunk(size, rule) for dim, size in by_dim.items()}


def parse_scale_factors(value: object, dims: Sequence[str]) -> list[dict[str, int]] | None:
    """Factors by dimension of each coarser scale, relative to the one before; None passes."""
    if value is None:
        return None
    rule = "a sequence of whole numbers of at least 2, or of mappings of dimension to number"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ParameterError(f"{spelled('scale_factors')} must be {rule}, got {value!r}")
    return [_parse_scale_factor(factor, dims, rule) for factor in value]


def _parse_each(value: object, parameter: str, parse: Callable[[object, str], float]) -> PerChannel:
    if isinstance(value, Mapping):
        if not value:
            raise ParameterError(
                f"{spelled(parameter)}: a mapping must name at least one channel, got {{}}"
            )
        return ByLabel(
            {
                plain(key): parse(item, f"{parameter}[{'...' if key is ... else repr(key)}]")
                for key, item in value.items()
            }
        )
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = list(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(parse(item, f"{parameter}[{i}]") for i, item in enumerate(value))
    return parse(value, parameter)


def _parse_percent(value: object, parameter: str) -> float:
    return _parse_up_to(100, value, parameter, "a percentage from 0 to 100")


def _parse_up_to(most: float, value: object, parameter: str, rule: str) -> float:
    number = parse_number(value, parameter, rule)
    if not 0 <= number <= most:
        raise ParameterError(f"{spelled(parameter)} must be {rule}, got {value!r}")
    return number


def _parse_high_percent(value: object, parameter: str) -> float:
    number = _parse_percent(value, parameter)
    if 0 < number <= 1:
        raise ParameterError(
            f"{spelled(parameter)} must be a percentage from 0 to 100, got the fraction "
            f"{number:g}; did you mean {_as_percent(number)}?"
        )
    return number


def _as_percent(fraction: float) -> str:
    return f"{fraction * 100:.12g}"


def _parse_one_sigma(value: object, parameter: str) -> float:
    return _parse_up_to(MAX_SIGMA, value, parameter, f"a number of pixels from 0 to {MAX_SIGMA}")


def _parse_whole(value: object, parameter: str, rule: str, allowed: Sequence[int]) -> int:
    number = parse_number(value, parameter, rule)
    if number not in allowed:
        raise ParameterError(f"{spelled(parameter)} must be {rule}, got {value!r}")
    return int(number)


def _parse_chunk(size: object, rule: str) -> int:
    if isinstance(size, int | np.integer) and not isinstance(size, bool) and size == -1:
        return -1
    return parse_count(size, "chunks", rule)


def _parse_scale_factor(factor: object, dims: Sequence[str], rule: str) -> dict[str, int]:
    if not isinstance(factor, Mapping):
        return dict.fromkeys(dims, parse_count(factor, "scale_factors", rule, least=2))
    unknown = [dim for dim in factor if dim not in dims]
    if unknown:
        raise ParameterError(
            f"{spelled('scale_factors')} names dimensions that cannot be scaled: {unknown}; they "
            f"are {list(dims)}"
        )
    return {dim: parse_count(factor.get(dim, 1), "scale_factors", rule) for dim in dims}
