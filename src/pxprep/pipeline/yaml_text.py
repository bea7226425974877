"""Pipelines in YAML, for people to write and to compare: the same steps as in JSON, in plain words.

Such a text has the types of JSON and no more: no tags, no aliases, and no `yes` or `on` for true.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import yaml

from ..aliases import Json
from ..errors import ParameterError
from ..steps.base import without_none
from .json_form import FORMAT, free_name

HEAD = "# A pipeline of pxprep. In a mapping of channels, ... stands for all others.\n"
OTHERS = "..."
# Words and numbers as JSON has them: `1e-3` is a number, `no` and `012` are texts. But `~` and
# nothing are null, too.
_WORDS = {
    "bool": r"true|false",
    "null": r"null|~|",
    "int": r"-?(?:0|[1-9][0-9]*)",
    "float": r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?",
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads texts, numbers, lists and mappings; each key once."""

    yaml_implicit_resolvers: ClassVar[dict[str, object]] = {}

    def compose_node(self, parent: object, index: object) -> object:
        """Refuse aliases (``*name``)."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem="aliases (*) are not used", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """A mapping."""
        mapping: dict[object, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            is_plain = isinstance(key, str | int | float) and not isinstance(key, bool)
            if not is_plain or key in mapping:
                rule = "is given twice" if is_plain else "must be a text or a number: quote it"
                problem = f"key {key!r:.100} {rule}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes what `_Loader` reads; items of lists are indented below their key."""

    yaml_implicit_resolvers: ClassVar[dict[str, object]] = {}

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> object:
        """Lists are indented, too."""
        return super().increase_indent(flow, False)


for _kind, _pattern in _WORDS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), None
        )
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)


def to_text(pipeline: Json) -> str:
    """YAML of what `BasePipeline.to_dict` gives."""
    taken: set[str] = set()
    steps = [_written(step, taken) for step in pipeline["steps"]]
    document = {"format": pipeline["format"], "steps": steps}
    write = partial(yaml.dump, document, Dumper=_Dumper, sort_keys=False, width=100)
    text: str = write(allow_unicode=True)
    # A reader takes this sign for the end of a line.
    return HEAD + (write(allow_unicode=False) if "\x85" in text else text)


def parsed(text: str) -> dict[str, object]:
    """What `BasePipeline.from_dict` takes, or a ParameterError that says the line."""
    try:
        document = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ParameterError(f"it must be YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping) or not isinstance(document.get("steps"), list):
        raise ParameterError(f"it must have a list of steps under 'steps:', got {document!r:.200}")
    unknown = sorted(map(str, document.keys() - {"format", "steps"}))
    if unknown:
        raise ParameterError(f"it must have 'steps' and perhaps 'format', got {unknown}, too")
    taken: set[str] = set()
    return {
        "format": document.get("format", FORMAT),
        "steps": [_read(step, taken) for step in document["steps"]],
    }


def _written(step: Json, taken: set[str]) -> object:
    """A step as its kind, or its kind with parameters, and its name if that is another."""
    kind, name = step["name"], step["as"]
    has_own_name = name != free_name(kind, taken)
    taken.add(name)
    configuration = without_none(kind, step["configuration"])
    parameters = {key: _plain(value) for key, value in configuration.items()}
    if not parameters and not has_own_name:
        return kind
    return {kind: parameters or None} | ({"as": name} if has_own_name else {})


def _read(entry: object, taken: set[str]) -> dict[str, object]:
    """A step as JSON has it."""
    rule = "a step must be its kind, or 'kind: {parameter: value}', perhaps with 'as: name'"
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping):
        raise ParameterError(f"{rule}, got {entry!r:.200}")
    kinds = [key for key in entry if key != "as"]
    parameters = entry[kinds[0]] if len(kinds) == 1 else None
    if len(kinds) != 1 or not isinstance(parameters, Mapping | None):
        raise ParameterError(f"{rule}, got {entry!r:.200}")
    kind = kinds[0]
    name = entry["as"] if "as" in entry else free_name(str(kind), taken)
    taken.add(str(name))
    configuration = {key: _encoded(value) for key, value in (parameters or {}).items()}
    return {"as": name, "name": kind, "configuration": configuration}


def _plain(value: object) -> object:
    """A parameter without the words that JSON needs for a mapping by channel."""
    if isinstance(value, Mapping):
        if "channels" not in value or any(label == OTHERS for label, _ in value["channels"]):
            raise ParameterError(f"YAML cannot keep {value!r:.200}: save it as JSON")
        others = {OTHERS: _plain(value["others"])} if "others" in value else {}
        return {**{label: _plain(item) for label, item in value["channels"]}, **others}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _encoded(value: object) -> object:
    """A parameter as JSON has it."""
    if isinstance(value, Mapping):
        named = [[key, _encoded(item)] for key, item in value.items() if key != OTHERS]
        others = {"others": _encoded(value[OTHERS])} if OTHERS in value else {}
        return {"channels": named, **others}
    return [_encoded(item) for item in value] if isinstance(value, list) else value
