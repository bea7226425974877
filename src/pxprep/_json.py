"""Parameters and numbers in JSON, floats exact."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from .errors import ParameterError


def parsed_object(text: str) -> Mapping[str, Any]:
    """The JSON object that `text` is, or a ParameterError."""
    try:
        data = json.loads(text)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"text must be JSON: {error}") from error
    if not isinstance(data, dict):
        raise ParameterError(f"text must be a JSON object, got {data!r:.200}")
    return data


def encode_parameter(value: Any, where: str) -> Any:
    """A step's parameter in JSON types; a mapping by channel keeps its labels' types."""
    if isinstance(value, Mapping):
        named = [[key, item] for key, item in value.items() if key is not ...]
        others = {"others": value[...]} if ... in value else {}
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


def decode_parameter(value: Any) -> Any:
    """What `encode_parameter` was given, with tuples for sequences."""
    if isinstance(value, Mapping):
        others = {...: value["others"]} if "others" in value else {}
        return {**dict(value["channels"]), **others}
    if isinstance(value, list):
        return tuple(decode_parameter(item) for item in value)
    return value


def encode_numbers(numbers: xr.Dataset) -> dict[str, Any]:
    """Variables of a dataset in JSON types, without coordinates."""
    return {
        str(name): {
            "dims": list(array.dims),
            "dtype": array.dtype.str,
            "values": _encode_floats(array.values.tolist()),
        }
        for name, array in numbers.data_vars.items()
    }


def decode_numbers(variables: Mapping[str, Any], coords: Mapping[str, Any]) -> xr.Dataset:
    """The dataset that `encode_numbers` was given; `coords` are labels by dimension."""
    arrays = {
        name: (tuple(entry["dims"]), np.array(entry["values"]).astype(entry["dtype"]))
        for name, entry in variables.items()
    }
    used = {dim for dims, _ in arrays.values() for dim in dims}
    return xr.Dataset(arrays, {dim: labels for dim, labels in coords.items() if dim in used})


def _encode_floats(value: Any) -> Any:
    """JSON has no NaN and no infinities: they become strings."""
    if isinstance(value, list):
        return [_encode_floats(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
