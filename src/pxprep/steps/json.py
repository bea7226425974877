"""Parameters and numbers of steps in JSON, floats exact."""

import math
import re
from collections.abc import Mapping

import numpy as np
import xarray as xr

from ..aliases import DType
from ..errors import ParameterError
from ..store.json import encode_floats

# Types of numbers that are kept, as NumPy writes them.
TYPES = re.compile(r"[<>|]([iu][1248]|f[248]|b1|U\d{1,3})")
NOT_FINITE = ("nan", "inf", "-inf")


def encode_parameter(value: object, where: str) -> object:
    """A step's parameter in JSON types; a mapping by channel keeps its labels' types."""
    if isinstance(value, Mapping):
        named = [[key, item] for key, item in value.items() if key is not ...]
        others = {"others": encode_parameter(value[...], where)} if ... in value else {}
        return {"channels": encode_parameter(named, where), **others}
    if isinstance(value, tuple | list):
        return [encode_parameter(item, where) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ParameterError(
        f"{where} must be a number, a string, a sequence or a mapping of those to be saved, got "
        f"{value!r}; give the step a to_dict of its own"
    )


def decode_parameter(value: object, where: str) -> object:
    """What `encode_parameter` was given, with tuples for sequences."""
    if isinstance(value, Mapping):
        try:
            items = dict(value["channels"])
            nothing_lost = len(items) == len(value["channels"])
        except (TypeError, KeyError, ValueError):
            nothing_lost = False
        if not nothing_lost or not set(value) <= {"channels", "others"}:
            raise ParameterError(
                f"{where}: in JSON a mapping of channels must be "
                "{'channels': [[label, value], ...]}, each label once, perhaps with 'others', got "
                f"{value!r:.200}"
            )
        if "others" in value:
            items[...] = value["others"]
        return {label: decode_parameter(item, where) for label, item in items.items()}
    if isinstance(value, list):
        return tuple(decode_parameter(item, where) for item in value)
    return value


def encode_numbers(numbers: xr.Dataset, step: str) -> dict[str, object]:
    """Variables of a dataset in JSON types, without coordinates; `step` is the name of the step.

    Raises
    ------
    ParameterError
        If they are of a type that `decode_numbers` would not take.
    """
    for name, array in numbers.data_vars.items():
        if TYPES.fullmatch(array.dtype.str) is None:
            raise ParameterError(
                f"what step {step!r} measures must be bool, numbers or short texts to be saved, "
                f"got {array.dtype} for {name!r}"
            )
    return {
        str(name): {
            "dims": list(array.dims),
            "dtype": array.dtype.str,
            "values": encode_floats(array.values.tolist()),
        }
        for name, array in numbers.data_vars.items()
    }


def decode_numbers(
    variables: object, step: str, sizes: Mapping[str, int]
) -> dict[str, xr.Variable]:
    """The variables that `encode_numbers` was given, over dims of these sizes."""
    if not isinstance(variables, Mapping):
        raise ParameterError(f"numbers of step {step!r} must be a mapping, got {variables!r:.200}")
    decoded = {}
    for name, entry in variables.items():
        try:
            decoded[name] = _decoded_array(name, entry, sizes)
        except (ValueError, OverflowError) as error:
            raise ParameterError(f"number {name!r:.100} of step {step!r}: {error}") from error
    return decoded


def _decoded_array(name: str, entry: object, sizes: Mapping[str, int]) -> xr.Variable:
    """One variable of `decode_numbers`; raises ValueError or OverflowError."""
    if not isinstance(entry, Mapping) or set(entry) != {"dims", "dtype", "values"}:
        raise ValueError(f"it must have dims, dtype and values, got {entry!r:.200}")
    dims, text = entry["dims"], entry["dtype"]
    if name in sizes:
        raise ValueError("it must not have the name of a dim")
    are_texts = isinstance(dims, list) and all(isinstance(dim, str) for dim in dims)
    if not are_texts or len(set(dims)) < len(dims) or not set(dims) <= set(sizes):
        raise ValueError(f"dims must be some of {list(sizes)}, got {dims!r:.200}")
    if not isinstance(text, str) or TYPES.fullmatch(text) is None:
        raise ValueError(f"dtype must be that of bool, numbers or short texts, got {text!r:.100}")
    values = np.array(entry["values"], dtype=object)
    shape = tuple(sizes[dim] for dim in dims)
    if values.shape != shape:
        raise ValueError(f"values over {dims} must have the shape {shape}, got {values.shape}")
    dtype = np.dtype(text).newbyteorder("=")
    decoded = [_decoded_value(value, dtype) for value in values.ravel()]
    return xr.Variable(dims, np.array(decoded, dtype).reshape(shape))


def _decoded_value(value: object, dtype: DType) -> object:
    """A value that an array of that type can hold; raises ValueError or OverflowError."""
    if dtype.kind == "f" and isinstance(value, int | float | str) and type(value) is not bool:
        if isinstance(value, str) and value not in NOT_FINITE:
            raise ValueError(f"it must be a number or one of {NOT_FINITE}, got {value!r:.100}")
        number = float(value)
        if math.isfinite(number) and abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"{number!r} is too large for {dtype}")
        return number
    if dtype.kind in "iu" and type(value) is int:
        if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise ValueError(f"{value!r:.100} is too large for {dtype}")
        return value
    is_text = dtype.kind == "U" and type(value) is str and len(value) <= dtype.itemsize // 4
    if is_text or (dtype.kind == "b" and type(value) is bool):
        return value
    raise ValueError(f"{value!r:.100} is no value of {dtype}")
