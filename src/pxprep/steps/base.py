"""What a step is: parameters, what it measures of a cohort, how it changes an image.

A step is a frozen dataclass. `Step.measure` returns numbers, `Step.apply` takes an image and those
numbers; neither knows of pipelines. Subclass `Step` for a step of your own, or put any function
image -> image into a pipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from functools import partial
from inspect import Parameter, signature
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

import xarray as xr

from ..aliases import Json, Label
from ..channels import per_channel, require_known
from ..engine.notes import ToldOnce
from ..engine.programs import Operation
from ..errors import ChannelError, ParameterError, PxprepError, type_name, warn
from ..images.image_set import AnyImages, ImageSet
from .batches import measure_statistic
from .json import decode_parameter, encode_parameter
from .parameters import Parser
from .statistic_base import Statistic

__all__ = ["Step", "apply_step"]

_KINDS: dict[str, type["Step"]] = {}
# By class, how its parameters are parsed.
_PARSERS: dict[type["Step"], dict[str, Parser]] = {}


class Step:
    """A preprocessing step; subclass it as a frozen dataclass for a step of your own.

    Say what it measures by `statistic` or `measure`, and what it does by `operation` (to a block of
    pixels, fused with the steps around it) or `apply` (to a whole image). Fields whose types are
    those of `pxprep.steps.parameters` are parsed and checked.

    Attributes
    ----------
    kind
        What the step is called in pipelines and in JSON; unique among all subclasses.
    reference
        Name of an earlier step of the pipeline, or ``"input"``, whose output `measure` sees in
        place of the output of the step before; None for the latter.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np, xarray as xr
    >>> from pxprep import Pipeline
    >>> from pxprep.steps import Step
    >>> @dataclass(frozen=True)
    ... class Centre(Step):
    ...     kind = "centre"
    ...
    ...     def measure(self, cohort):
    ...         means = [image.mean(["y", "x"]) for image in cohort]
    ...         return {"mean": sum(means) / len(means)}
    ...
    ...     def apply(self, image, numbers):
    ...         return image - numbers["mean"]
    >>> image = xr.DataArray(np.array([[[1.0, 3.0]]]), dims=("c", "y", "x"))
    >>> Pipeline([Centre()]).fit(image).transform(image).values.tolist()
    [[[-1.0, 1.0]]]
    """

    kind: ClassVar[str]
    # Every subclass is a dataclass.
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]
    reference: str | None = None
    # Names of the measured numbers that are handed to `operation`: none, one or two.
    operands: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        kind = vars(cls).get("kind")
        if kind is None:
            return  # an abstract step; `check_step_class` refuses it in a pipeline
        taken = _KINDS.get(kind)
        # The same class again is a cell of a notebook that was run again.
        if taken is not None and type_name(taken) != type_name(cls):
            raise ParameterError(
                f"kind must be unique: {type_name(cls)} has the kind {kind!r} of {type_name(taken)}"
            )
        _KINDS[kind] = cls

    def __post_init__(self) -> None:
        for name, parser in _parsers(type(self)).items():
            value = getattr(self, name)
            if value is not None or not parser.is_optional:
                object.__setattr__(self, name, parser.parse(value, name))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError or ParameterError if the step does not fit channels `labels`."""
        for name, parser in _parsers(type(self)).items():
            if parser.per_channel and getattr(self, name) is not None:
                self.each(name, labels)

    def remarks(self, labels: Sequence[Label]) -> list[str]:
        """Texts of warnings about the step on channels `labels`: none by default.

        Each is issued once, when a pipeline is fitted or the step is called as a function.
        """
        return []

    def kept_channels(self, labels: Sequence[Label]) -> Sequence[Label]:
        """Which of the channels `labels` come out of the step: all by default.

        The others are dropped as soon as the step is applied.
        """
        return labels

    def each(self, name: str, labels: Sequence[Label]) -> tuple[float, ...]:
        """The value of a parameter in each of the channels `labels`."""
        called = _parsers(type(self))[name].called or name
        values: list[float] = per_channel(getattr(self, name), labels, called).tolist()
        return tuple(values)

    def statistic(self, labels: Sequence[Label]) -> Statistic | None:
        """What is measured of images with channels `labels`, if it is a `Statistic`.

        Then it is measured exactly, whatever the pool and the mask, and more images can be added to
        it. None (the default) if `measure` is overridden instead, or if nothing is measured.
        """
        return None

    def operation(self, labels: Sequence[Label]) -> Operation | None:
        """What happens to a strip of an image with channels `labels`; see `operands`.

        None (the default) if `apply` is overridden instead, which gets whole images.
        """
        return None

    def measure(self, cohort: Sequence[xr.DataArray]) -> xr.Dataset | Mapping[str, Any]:
        """Numbers that `apply` needs: by name, scalars or arrays over ``c``; none by default.

        With ``pool=None`` it is called for one image after the other. Pixels outside a mask (see
        `where` of `Pipeline.fit`) are NaN. Where there is a `statistic`, that is measured.
        """
        # Users may call it with a plain list.
        images = cohort if isinstance(cohort, ImageSet) else ImageSet.of(cohort)
        statistic = self.statistic(images.labels)
        if statistic is None:
            return {}
        return images.labeled(measure_statistic(statistic, images, self.kind))

    def apply(self, image: xr.DataArray, numbers: xr.Dataset) -> xr.DataArray:
        """The image after this step, given the numbers that `measure` returned."""
        return self.applied(ImageSet.of(image), numbers).as_given()

    def applied(
        self, cohort: ImageSet, numbers: Any, reference: ImageSet | None = None
    ) -> ImageSet:
        """The images after this step, given the numbers.

        `reference` is the cohort on which these were measured, if it is another.
        """
        operation = self.operation(cohort.labels)
        if operation is None:
            made = cohort.map(partial(self.apply, numbers=numbers))
        elif not self.operands or not measures(self, cohort.labels):
            made = cohort.apply(operation)
        else:
            made = cohort.apply_measured(operation, numbers, *self.operands, reference=reference)
        return made.keeping_channels(kept_by(self, cohort.labels))

    def check_numbers(self, numbers: xr.Dataset, labels: Sequence[Label], pool: str | None) -> None:
        """Raise ParameterError if `apply` cannot use these numbers, which come from a file.

        `labels` are those of the channels, and `pool` is that of the fit. By default any numbers
        are accepted, except that those of a `statistic` are checked by it.
        """
        statistic = self.statistic(labels)
        if statistic is not None:
            statistic.check(numbers, pool)

    def to_dict(self) -> Json:
        """``{"name": kind, "configuration": parameters}``, of plain JSON types."""
        configuration = {
            field.name: encode_parameter(getattr(self, field.name), f"{self.kind}.{field.name}")
            for field in fields(self)
        }
        return {"name": self.kind, "configuration": configuration}

    @staticmethod
    def from_dict(data: Json) -> "Step":
        """The step that `to_dict` described.

        Parameters
        ----------
        data
            What `to_dict` returned.

        Raises
        ------
        ParameterError
            If the kind of step or one of its parameters is not known.
        """
        try:
            kind, pairs = data["name"], data["configuration"].items()
        except (TypeError, KeyError, AttributeError) as error:
            raise ParameterError(
                f"a step must be a mapping with name and configuration, got {data!r:.200}"
            ) from error
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ParameterError(
                f"no step is called {kind!r}; known are {sorted(_KINDS)} (import the module that "
                "defines your own step first)"
            )
        cls = _KINDS[kind]
        values = {name: decode_parameter(value, f"{kind}.{name}") for name, value in pairs}
        known = signature(cls).parameters
        required = {name for name in known if known[name].default is Parameter.empty}
        if not required <= set(values) <= set(known):
            raise ParameterError(
                f"step {kind!r} has the parameters {sorted(known)}, got {sorted(values, key=str)}"
            )
        try:
            return cls(**values)
        except PxprepError:
            raise
        except (TypeError, ValueError) as error:  # of a step of the user's own
            raise ParameterError(f"step {kind!r} cannot have {values!r:.200}: {error}") from error


def apply_step(
    step: Step, images: AnyImages, *, pool: str | None = "mean", where: object = None
) -> AnyImages:
    """Images after a step that is measured on them.

    Parameters
    ----------
    step
        The step.
    images
        An image; or a sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    pool, where
        As for `pxprep.Pipeline.fit`.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, lazy if they or the mask are.
    """
    cohort = ImageSet.of(images, pool, where=where)
    step.check(cohort.labels)
    for remark in step.remarks(cohort.labels):
        warn(f"{step.kind}: {remark}")
    if step.operation(cohort.labels) is not None and not cohort.is_lazy:
        cohort = cohort.chained()
    numbers = measured(step, cohort)
    with ToldOnce():
        made: AnyImages = step.applied(cohort, numbers).as_images().as_given()
        return made


def measured(step: Step, cohort: ImageSet, name: str | None = None) -> Any:
    """What a step measures: `Numbers` of its statistic, or else what its `measure` returns.

    `name` is what warnings call the step; None is its kind.
    """
    statistic = step.statistic(cohort.labels)
    if statistic is None or type(step).measure is not Step.measure:
        return step.measure(cohort)
    return measure_statistic(statistic, cohort, name or step.kind)


def measures(step: Step, labels: Sequence[Label]) -> bool:
    """Whether a step measures anything of images with channels `labels`."""
    return type(step).measure is not Step.measure or step.statistic(labels) is not None


def kept_by(step: Step, labels: Sequence[Label]) -> tuple[Label, ...]:
    """Which of the channels `labels` come out of a step, in their order; raises ChannelError."""
    wanted = step.kept_channels(labels)
    if wanted is labels:
        return tuple(labels)
    require_known(wanted, labels, f"kept_channels of step {step.kind!r}")
    kept = tuple(label for label in labels if label in wanted)
    if not kept:
        raise ChannelError(
            f"{step.kind}: no channel is left, it drops all of {list(labels)!r:.300}"
        )
    return kept


def without_none(kind: str, configuration: Mapping[str, Any]) -> Json:
    """The parameters of a step, without those that are None and would be None if left out."""
    known = fields(_KINDS[kind]) if kind in _KINDS else ()
    optional = {field.name for field in known if field.default is None}
    pairs = configuration.items()
    return {name: value for name, value in pairs if value is not None or name not in optional}


def check_step_class(step: Step) -> None:
    """Raise ParameterError unless the step's class is a dataclass with a kind of its own."""
    cls = type(step)
    if cls.apply is Step.apply and cls.operation is Step.operation:
        raise ParameterError(
            "a step of your own must have a method apply or operation; "
            f"{type_name(cls)} has neither"
        )
    if not is_dataclass(cls) or vars(cls).get("kind") is None:
        raise ParameterError(
            f"a step of your own must be a dataclass with a kind of its own, a string; "
            f"{type_name(cls)} is not"
        )


def _parsers(cls: type[Step]) -> dict[str, Parser]:
    """By name, how parameters of a kind of step are parsed: those whose types have a `Parser`."""
    if cls in _PARSERS:
        return _PARSERS[cls]
    types = {field.name: field.type for field in fields(cls)}
    if any(isinstance(annotation, str) for annotation in types.values()):
        types = get_type_hints(cls, include_extras=True)
    parsers = {}
    for field in fields(cls):
        alternatives = [types[field.name], *get_args(types[field.name])]
        for annotation in alternatives:
            for parser in getattr(annotation, "__metadata__", ()):
                if isinstance(parser, Parser):
                    is_optional = NoneType in alternatives
                    parsers[field.name] = replace(parser, is_optional=is_optional)
    _PARSERS[cls] = parsers
    return parsers
