"""JSON text: read, whoever wrote it, and written; what JSON has no type for."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from ..aliases import Json
from ..errors import ParameterError

# Lists and objects within each other: more than anything of ours has, less than Python can take.
MOST_LEVELS = 100


def loads(text: str | bytes, read: Callable[[str | bytes], object] = json.loads) -> object:
    """What JSON text says, whoever wrote it; a ValueError if it is not JSON, or nested too deeply.

    `read` is `json.loads`, or that with options.
    """
    too_deep = f"it must have at most {MOST_LEVELS} lists and objects within each other"
    try:
        value = read(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    level: list[dict[str, object] | list[object]] = [[value]]
    for _ in range(MOST_LEVELS + 1):
        items = (node.values() if isinstance(node, dict) else node for node in level)
        level = [item for node in items for item in node if isinstance(item, dict | list)]
        if not level:
            return value
    raise ValueError(too_deep)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object must have each name once, got {twice!r:.100} again")
    return mapping


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number must be finite, got {text:.100}")
    return number


# As JSON is defined: without infinities and NaN, and with each name of an object once.
_STRICT = partial(json.loads, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once)


def parsed_object(text: str) -> Json:
    """The JSON object that `text` is, or a ParameterError."""
    try:
        data = loads(text, _STRICT)
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


def to_json_types(value: object) -> object:
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


def encode_floats(value: object) -> object:
    """JSON has no NaN and no infinities: they become strings."""
    if isinstance(value, Mapping):
        return {key: encode_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encode_floats(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
