"""Options that come together: one parameter of a command, a dataclass with a field for each."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it, with an option for each field of the bundles it has."""
    bundles: dict[str, type] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            bundles[parameter.name] = kind
            options += inspect.signature(kind).parameters.values()
        else:
            options.append(parameter)

    @wraps(command)
    def of_options(**given: object) -> None:
        for name, kind in bundles.items():
            given[name] = kind(**{option.name: given.pop(option.name) for option in fields(kind)})
        command(**given)

    # Keywords may come in any order, whether they have defaults or not.
    keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    of_options.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    of_options.__annotations__ = {option.name: option.annotation for option in options}
    return of_options
