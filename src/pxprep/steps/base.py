"""The steps as values: parameters, what they measure of a cohort, how they change an image.

A step is a frozen dataclass. `Step.measure` returns numbers, `Step.apply` takes an image and those
numbers; neither knows of pipelines. Subclass `Step` for a step of your own, or put any function
image -> image into a pipeline.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from typing import Any, ClassVar

import xarray as xr

from ..aliases import Label, PerChannel
from ..channels import per_channel
from ..engine import programs as operations
from ..engine.notes import say_lost
from ..engine.programs import ClipAbove, CoolHotPixels, Divide, DivideBySums, KeepAbove, Operation
from ..errors import ParameterError, PxprepError
from ..images.cohort import Cohort
from ..images.parameters import (
    ZEROS,
    parse_choice,
    parse_limit,
    parse_number,
    parse_positive,
    parse_quantile,
    parse_sigma,
    parse_sum_quantile,
)
from ..store.json import decode_parameter, encode_parameter
from .measured import check_scales, check_threshold
from .statistics import channel_scales, sum_threshold

__all__ = [
    "Arcsinh",
    "Blur",
    "Clip",
    "Function",
    "Log1p",
    "PostNorm",
    "QuantileNorm",
    "RemoveHotPixels",
    "Step",
    "SumMask",
    "SumNorm",
]

Numbers = xr.Dataset
# What `measure` may return.
Measured = xr.Dataset | Mapping[str, Any]
_KINDS: dict[str, type["Step"]] = {}


class Step:
    """A preprocessing step; subclass it as a frozen dataclass for a step of your own.

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
    reference: str | None = None
    # Names of the numbers that `operation` takes: none, one, or two.
    operands: ClassVar[tuple[str, ...]] = ()
    # Whether `measure` knows what `pool` and `areas` of a `Cohort` mean; else it sees, for pool
    # None, one image after the other, and for the others all of them, with NaN outside of masks.
    knows_pools: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = vars(cls).get("kind")
        if kind is None:
            return  # an abstract step; `check_kind` refuses it in a pipeline
        taken = _KINDS.get(kind)
        # The same class again is a cell of a notebook that was run again.
        if taken is not None and _path(taken) != _path(cls):
            raise ParameterError(
                f"kind must be unique: {_path(cls)} has the kind {kind!r} of {_path(taken)}"
            )
        _KINDS[kind] = cls

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError or ParameterError if the step does not fit channels `labels`."""

    def operation(self, labels: Sequence[Label]) -> Operation | None:
        """What happens to a block of an image with channels `labels`; see `operands`.

        None, as by default, where whole images are needed, which `apply` gets.
        """
        return None

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """Numbers that `apply` needs: by name, scalars or arrays over ``c``; none by default.

        With ``pool=None`` it is called for one image after the other. Pixels outside a mask (see
        `where` of `Pipeline.fit`) are NaN.
        """
        return {}

    def apply(self, image: xr.DataArray, numbers: Numbers) -> xr.DataArray:
        """The image after this step, given the numbers that `measure` returned."""
        made: xr.DataArray = self.applied(Cohort.of(image), numbers).given()
        return made

    def applied(self, cohort: Cohort, numbers: Numbers, reference: Cohort | None = None) -> Cohort:
        """The images of a cohort after the `operation` of this step, measured on a reference."""
        operation = self.operation(cohort.labels)
        if operation is None:
            return cohort.map(partial(self.apply, numbers=numbers))
        if not self.operands:
            return cohort.apply(operation)
        return cohort.apply_measured(operation, numbers, *self.operands, reference=reference)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise ParameterError if `apply` cannot use these numbers, which come from a file.

        `pool` is that of the fit. By default any numbers will do.
        """

    def to_dict(self) -> dict[str, Any]:
        """``{"name": kind, "configuration": parameters}``, of plain JSON types."""
        configuration = {
            field.name: encode_parameter(getattr(self, field.name), f"{self.kind}.{field.name}")
            for field in fields(self)  # type: ignore[arg-type]
        }
        return {"name": self.kind, "configuration": configuration}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Step":
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
            kind, configuration = data["name"], data["configuration"]
            values = {name: decode_parameter(value) for name, value in configuration.items()}
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ParameterError(
                f"a step must be a mapping with name and configuration, got {data!r:.200}"
            ) from error
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ParameterError(
                f"no step is called {kind!r}; known are {sorted(_KINDS)} (import the module that "
                "defines your own step first)"
            )
        cls = _KINDS[kind]
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        required = {
            field.name
            for field in fields(cls)  # type: ignore[arg-type]
            if field.default is MISSING and field.default_factory is MISSING
        }
        if not required <= set(values) <= known:
            raise ParameterError(
                f"step {kind!r} has the parameters {sorted(known)}, got {sorted(values)}"
            )
        try:
            return cls(**values)
        except PxprepError:
            raise
        except (TypeError, ValueError) as error:  # of a step of the user's own
            raise ParameterError(f"step {kind!r} cannot have {values!r:.200}: {error}") from error


@dataclass(frozen=True)
class QuantileNorm(Step):
    """Divide each channel by the cohort's quantile; see `pxprep.ops.quantile_norm`.

    Parameters
    ----------
    q
        Percent: one number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "quantile_norm"
    operands: ClassVar[tuple[str, ...]] = ("scale",)
    knows_pools: ClassVar[bool] = True
    q: PerChannel = 99

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", parse_quantile(self.q, "q"))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `q` does not fit the channels."""
        per_channel(self.q, labels, "q")

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """The scale per channel, and the quantiles per image that it was made from."""
        return channel_scales(as_cohort(cohort), self.q, parameter="q", step=self.kind)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise unless the numbers are a scale per channel, and what it was measured from."""
        check_scales(numbers, pool)

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the scale."""
        return Divide()


@dataclass(frozen=True)
class PostNorm(Step):
    """Divide each channel by the cohort's quantile once more; see `pxprep.ops.post_norm`.

    Parameters
    ----------
    q_post
        Percent: one number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "post_norm"
    operands: ClassVar[tuple[str, ...]] = ("scale",)
    knows_pools: ClassVar[bool] = True
    q_post: PerChannel = 99.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "q_post", parse_quantile(self.q_post, "q_post"))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `q_post` does not fit the channels."""
        per_channel(self.q_post, labels, "q_post")

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """The scale per channel, and the quantiles per image that it was made from."""
        return channel_scales(as_cohort(cohort), self.q_post, parameter="q_post", step=self.kind)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise unless the numbers are a scale per channel, and what it was measured from."""
        check_scales(numbers, pool)

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the scale."""
        return Divide()


@dataclass(frozen=True)
class Blur(Step):
    """Blur each channel; see `pxprep.ops.blur`.

    Parameters
    ----------
    sigma
        Pixels: one number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "blur"
    sigma: PerChannel = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", parse_sigma(self.sigma))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `sigma` does not fit the channels."""
        per_channel(self.sigma, labels, "sigma")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The blur of each channel."""
        return operations.Blur(tuple(per_channel(self.sigma, labels, "sigma").tolist()))


@dataclass(frozen=True)
class SumMask(Step):
    """Drop pixels whose sum over channels is low; see `pxprep.ops.sum_mask`.

    Parameters
    ----------
    q_sum
        Percent.
    reference
        Name of the earlier step whose output the threshold is measured on, ``"input"`` for the
        image as it came; None for the output of the step before.
    threshold
        The threshold, if it is known; then nothing is measured.
    zeros
        ``"exclude"`` or ``"include"`` sums of exactly zero in the quantile.
    """

    kind: ClassVar[str] = "sum_mask"
    operands: ClassVar[tuple[str, ...]] = ("threshold",)
    knows_pools: ClassVar[bool] = True
    q_sum: float = 5
    reference: str | None = None
    threshold: float | None = None
    zeros: str = "exclude"

    def __post_init__(self) -> None:
        object.__setattr__(self, "q_sum", parse_sum_quantile(self.q_sum))
        if self.threshold is not None:
            number = parse_number(self.threshold, "threshold", "a finite number")
            object.__setattr__(self, "threshold", number)
        parse_choice(self.zeros, "zeros", ZEROS)

    def measure(self, cohort: Sequence[xr.DataArray]) -> Measured:
        """The threshold, and the quantiles per image that it was made from."""
        if self.threshold is not None:
            return {"threshold": self.threshold}
        return sum_threshold(as_cohort(cohort), self.q_sum, zeros=self.zeros, step=self.kind)

    def check_numbers(self, numbers: Numbers, pool: str | None) -> None:
        """Raise unless the numbers are a threshold, and what it was measured from."""
        check_threshold(numbers, pool, self.threshold is not None)

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Dropping of the pixels whose sum is not greater than the threshold."""
        of_others = self.threshold is None and self.reference is not None
        return KeepAbove(of_others, partial(say_lost, self.q_sum, self.zeros))


@dataclass(frozen=True)
class SumNorm(Step):
    """Divide each pixel by its sum over channels; see `pxprep.ops.sum_norm`."""

    kind: ClassVar[str] = "sum_norm"

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the sums."""
        return DivideBySums()


@dataclass(frozen=True)
class Clip(Step):
    """Set values above a limit to it; see `pxprep.ops.clip`.

    Parameters
    ----------
    max
        One number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "clip"
    max: PerChannel

    def __post_init__(self) -> None:
        object.__setattr__(self, "max", parse_limit(self.max, "max"))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `max` does not fit the channels."""
        per_channel(self.max, labels, "max (cap_max)")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Clipping of each channel."""
        return ClipAbove(tuple(per_channel(self.max, labels, "max (cap_max)").tolist()))


@dataclass(frozen=True)
class Arcsinh(Step):
    """Inverse hyperbolic sine; see `pxprep.ops.arcsinh`.

    Parameters
    ----------
    cofactor
        Above 0: one number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "arcsinh"
    cofactor: PerChannel = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "cofactor", parse_positive(self.cofactor, "cofactor"))

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `cofactor` does not fit the channels."""
        per_channel(self.cofactor, labels, "cofactor")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The transformation, with the cofactor of each channel."""
        return operations.Arcsinh(tuple(per_channel(self.cofactor, labels, "cofactor").tolist()))


@dataclass(frozen=True)
class Log1p(Step):
    """Natural logarithm of one plus each value; see `pxprep.ops.log1p`."""

    kind: ClassVar[str] = "log1p"

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The transformation."""
        return operations.Log1p()


@dataclass(frozen=True)
class RemoveHotPixels(Step):
    """Set pixels far above all their neighbours to the largest; see `ops.remove_hot_pixels`.

    Parameters
    ----------
    threshold
        0 or more: one number, a sequence in channel order, or a mapping by channel label.
    """

    kind: ClassVar[str] = "remove_hot_pixels"
    threshold: PerChannel

    def __post_init__(self) -> None:
        parsed = parse_positive(self.threshold, "threshold", or_zero=True)
        object.__setattr__(self, "threshold", parsed)

    def check(self, labels: Sequence[Label]) -> None:
        """Raise if `threshold` does not fit the channels."""
        per_channel(self.threshold, labels, "threshold")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The filter, with the threshold of each channel."""
        return CoolHotPixels(tuple(per_channel(self.threshold, labels, "threshold").tolist()))


@dataclass(frozen=True)
class Function(Step):
    """Call any function that takes an image and returns one of the same shape and channels.

    Parameters
    ----------
    function
        Called with the image, an `xarray.DataArray` that may be lazy.

    Notes
    -----
    JSON keeps the step's name, not the function's code: see ``functions`` of
    `Pipeline.from_json`.
    """

    kind: ClassVar[str] = "function"
    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, type):
            raise ParameterError(
                f"a step must be a Step or a function image -> image, got {self.function!r}"
            )

    @property
    def name(self) -> str:
        """The function's own name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def apply(self, image: xr.DataArray, numbers: Numbers) -> xr.DataArray:
        """Call the function."""
        result: xr.DataArray = self.function(image)
        return result

    def to_dict(self) -> dict[str, Any]:
        """The kind of step only: code is not kept."""
        return {"name": self.kind, "configuration": {}}


def check_kind(step: Step) -> None:
    """Raise ParameterError unless the step's class is a dataclass with a kind of its own."""
    cls = type(step)
    if cls.apply is Step.apply and cls.operation is Step.operation:
        raise ParameterError(
            f"a step of your own must have a method apply, or operation; {_path(cls)} has neither"
        )
    if not is_dataclass(cls) or vars(cls).get("kind") is None:
        raise ParameterError(
            f"a step of your own must be a dataclass with a kind of its own, a string; "
            f"{_path(cls)} is not"
        )


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def as_cohort(images: Sequence[xr.DataArray]) -> Cohort:
    """What `measure` is given as a cohort: it may have been called with any images."""
    return images if isinstance(images, Cohort) else Cohort.of(images)
