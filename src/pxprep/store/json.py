"""Parameters and numbers in JSON, floats exact."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import DType
from ..errors import ParameterError

# Lists and objects within each other: more than anything of ours has, less than Python can take.
MOST_LEVELS = 100
# Types of numbers that are kept, as NumPy writes them.
TYPES = re.compile(r"[<>|]([iu][1248]|f[248]|b1|U\d{1,3})")
NOT_FINITE = ("nan", "inf", "-inf")


def loads(text: str | bytes, **options: Any) -> object:
    """What JSON text says, whoever wrote it; a ValueError if it is not JSON, or nested too deeply.

    `options` are those of `json.loads`.
    """
    too_deep = f"it must have at most {MOST_LEVELS} lists and objects within each other"
    try:
        found = json.loads(text, **options)
    except RecursionError:
        raise ValueError(too_deep) from None
    level: list[Any] = [[found]]
    for _ in range(MOST_LEVELS + 1):
        items = (node.values() if isinstance(node, dict) else node for node in level)
        level = [item for node in items for item in node if isinstance(item, dict | list)]
        if not level:
            return found
    raise ValueError(too_deep)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object must have each name once, got {twice!r:.100} again")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number must be finite, got {text:.100}")
    return number


def parsed_object(text: str) -> Mapping[str, object]:
    """The JSON object that `text` is, or a ParameterError."""
    try:
        data = loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"text must be JSON, or the path of a file that ends in .json: {error}"
        ) from error
    if not isinstance(data, dict):
        raise ParameterError(f"text must be a JSON object, got {data!r:.200}")
    return data


def to_text(data: Mapping[str, object]) -> str:
    """JSON text of an object, or a ParameterError if JSON cannot hold it."""
    try:
        return json.dumps(data, allow_nan=False, indent=2)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"JSON cannot keep a parameter: {error}") from error


def to_json_types(value: object) -> Any:
    """Values in JSON types; what JSON has no type for becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json_types(value.tolist())
    if isinstance(value, tuple | list):
        return [to_json_types(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


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


def decode_parameter(value: object) -> object:
    """What `encode_parameter` was given, with tuples for sequences."""
    if isinstance(value, Mapping):
        others = {...: decode_parameter(value["others"])} if "others" in value else {}
        return {**{label: decode_parameter(item) for label, item in value["channels"]}, **others}
    if isinstance(value, list):
        return tuple(decode_parameter(item) for item in value)
    return value


def encode_numbers(numbers: xr.Dataset, step: str) -> dict[str, object]:
    """Variables of a dataset in JSON types, without coordinates; what the step called so measured.

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
    is_texts = isinstance(dims, list) and all(isinstance(dim, str) for dim in dims)
    if not is_texts or len(set(dims)) < len(dims) or not set(dims) <= set(sizes):
        raise ValueError(f"dims must be some of {list(sizes)}, got {dims!r:.200}")
    if not isinstance(text, str) or TYPES.fullmatch(text) is None:
        raise ValueError(f"dtype must be that of bool, numbers or short texts, got {text!r:.100}")
    found = np.array(entry["values"], dtype=object)
    shape = tuple(sizes[dim] for dim in dims)
    if found.shape != shape:
        raise ValueError(f"values over {dims} must have the shape {shape}, got {found.shape}")
    dtype = np.dtype(text).newbyteorder("=")
    values = [_decoded_value(value, dtype) for value in found.ravel()]
    return xr.Variable(dims, np.array(values, dtype).reshape(shape))


def _decoded_value(value: Any, dtype: DType) -> object:
    """A value that an array of that type can hold; raises ValueError or OverflowError."""
    if dtype.kind == "f" and type(value) in (int, float, str):
        if isinstance(value, str) and value not in NOT_FINITE:
            raise ValueError(f"it must be a number or one of {NOT_FINITE}, got {value!r:.100}")
        number = float(value)
        if math.isfinite(number) and abs(number) > np.finfo(dtype).max:
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


def encode_floats(value: object) -> object:
    """JSON has no NaN and no infinities: they become strings."""
    if isinstance(value, Mapping):
        return {key: encode_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encode_floats(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
