"""The base of pipelines: named steps in an order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..aliases import Json, Label, PerChannel, Zeros
from ..channels import unwritable
from ..displays import Display, Displayable
from ..errors import ParameterError, warn
from ..images.parameters import parse_bool, parse_finite, parse_quantile, parse_sigma
from ..steps import Blur, Clip, PostNorm, QuantileNorm, SumMask, SumNorm
from ..steps.base import Step, check_step_class
from ..steps.function import Function, ImageFunction
from ..store.json import parsed_object, to_text
from . import display, saved, yaml_text
from .fluent import FluentSteps
from .json_form import FORMAT, free_name
from .run import INPUT, check_along, check_number_names, numbers_that_may_be, with_labels


@dataclass(frozen=True, init=False, repr=False)
class BasePipeline(Displayable, FluentSteps):
    """Base class of `pxprep.Pipeline`: named steps, how they are built and saved; no fitting."""

    steps: tuple[tuple[str, Step], ...]

    def __init__(self, steps: Iterable[Any] = ()) -> None:
        if isinstance(steps, str | Step) or not isinstance(steps, Iterable):
            raise ParameterError(f"steps must be a sequence of steps, got {steps!r}")
        named: list[tuple[str, Step]] = []
        for entry in steps:
            name, step = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
            step = step if isinstance(step, Step) else Function(step)
            check_step_class(step)
            taken = {INPUT, *(earlier for earlier, _ in named)}
            usual = step.name if isinstance(step, Function) else step.kind
            name = free_name(usual, taken) if name is None else name
            if not isinstance(name, str) or not name or name in taken or unwritable([name]):
                raise ParameterError(
                    f"a step's name must be a text that no earlier step has and not {INPUT!r}, "
                    f"got {name!r:.300}"
                )
            if step.reference is not None and (
                not isinstance(step.reference, str) or step.reference not in taken
            ):
                raise ParameterError(
                    f"reference of step {name!r} must name an earlier step, one of "
                    f"{sorted(taken)}, got {step.reference!r}"
                )
            named.append((name, step))
        check_number_names({name: numbers_that_may_be(step) for name, step in named})
        object.__setattr__(self, "steps", tuple(named))

    @classmethod
    def sparrow(
        cls,
        q: PerChannel | None = 99,
        q_sum: float | None = 5,
        q_post: PerChannel | None = 99.9,
        sigma: PerChannel | None = 2,
        norm_sum: bool = True,
        cap_max: PerChannel | None = None,
    ) -> Self:
        """The order of sparrow/harpy: zero sums do not count in the threshold of `sum_mask`.

        Parameters
        ----------
        q, q_post
            Percent, per channel or for all; None leaves out the step.
        q_sum
            Percent; None leaves out `sum_mask`. Its threshold is measured before the blur.
        sigma
            Pixels, per channel or for all; None leaves out the blur.
        norm_sum
            Whether pixels are divided by their sum over channels.
        cap_max
            Limit of the last step; None leaves it out.

        Raises
        ------
        ParameterError
            If a parameter breaks its rule.
        """
        return cls._reference_order("exclude", q, q_sum, q_post, sigma, norm_sum, cap_max)

    @classmethod
    def pixie(
        cls,
        q: PerChannel | None = 99,
        q_sum: float | None = 5,
        q_post: PerChannel | None = 99.9,
        sigma: PerChannel | None = 2,
        norm_sum: bool = True,
        cap_max: PerChannel | None = None,
    ) -> Self:
        """The order of Pixie (ark-analysis): as `sparrow`, but zero sums count in the threshold.

        The parameters are those of `sparrow`, in percent where ark takes fractions.
        """
        return cls._reference_order("include", q, q_sum, q_post, sigma, norm_sum, cap_max)

    @classmethod
    def _reference_order(
        cls,
        zeros: Zeros,
        q: PerChannel | None,
        q_sum: float | None,
        q_post: PerChannel | None,
        sigma: PerChannel | None,
        norm_sum: bool,
        cap_max: PerChannel | None,
    ) -> Self:
        steps: list[Step] = []
        if q is not None:
            steps.append(QuantileNorm(parse_quantile(q, "q")))
        unblurred = steps[-1].kind if steps else INPUT
        if sigma is not None:
            steps.append(Blur(parse_sigma(sigma)))
        if q_sum is not None:
            steps.append(SumMask(q_sum, reference=unblurred, zeros=zeros))
        if parse_bool(norm_sum, "norm_sum"):
            steps.append(SumNorm())
        if q_post is not None:
            steps.append(PostNorm(q_post))
        if cap_max is not None:
            steps.append(Clip(parse_finite(cap_max, "cap_max")))
        return cls(steps)

    def then(self, step: object, name: str | None = None) -> Self:
        """The pipeline with one more step: a `Step` or a function image -> image."""
        return type(self)([*self.steps, step if name is None else (name, step)])

    @property
    def is_fused(self) -> bool:
        """Whether all steps have an `operation`, so that blocks can go through all of them.

        A step that measures by itself needs to see whole images.
        """
        operations = [type(step).operation for _, step in self.steps]
        by_itself = any(type(step).measure is not Step.measure for _, step in self.steps)
        return bool(operations) and Step.operation not in operations and not by_itself

    def depth(self, labels: Sequence[Label]) -> int:
        """How many pixels around a pixel all steps together read."""
        operations = [step.operation(seen) for _, step, seen in with_labels(self.steps, labels)]
        return sum(operation.depth for operation in operations if operation is not None)

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError or ParameterError if a step does not fit channels `labels`."""
        check_along(self.steps, labels)

    def warn_of_remarks(self, labels: Sequence[Label]) -> None:
        """Warn of what should be known of each step on channels `labels`."""
        for name, step, seen in with_labels(self.steps, labels):
            for remark in step.remarks(seen):
                warn(f"{name}: {remark}")

    def to_json(self) -> str:
        """The pipeline as JSON, floats exact; of a function only the step's name is kept.

        Sequences among the parameters of your own steps come back as tuples.

        Raises
        ------
        ParameterError
            If JSON cannot keep a parameter.
        """
        return to_text(self.to_dict())

    def to_yaml(self) -> str:
        """The pipeline as YAML, for people to read, write and compare; as exact as `to_json`.

        Raises
        ------
        ParameterError
            If a parameter cannot be kept.

        Examples
        --------
        >>> import pxprep
        >>> print(pxprep.Pipeline().quantile_norm({"DAPI": 99.9, ...: 99}).sum_norm().to_yaml())
        # A pipeline of pxprep. In a mapping of channels, ... stands for all others.
        format: 1
        steps:
          - quantile_norm:
              q:
                DAPI: 99.9
                '...': 99.0
          - sum_norm
        <BLANKLINE>
        """
        return yaml_text.to_text(parsed_object(self.to_json()))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the pipeline to a file, which `from_file` reads.

        Parameters
        ----------
        path
            Where it goes, in a folder that exists: a name that ends in ``.json`` (`to_json`), or in
            ``.yaml`` or ``.yml`` (`to_yaml`).
        overwrite
            Whether a file that is there may be replaced.

        Raises
        ------
        ParameterError, StoreError
            If a file cannot be there, is there already, or cannot be written; or as `to_json`.
        """
        in_yaml = dict.fromkeys(saved.YAML, self.to_yaml)
        saved.save(path, overwrite, {saved.JSON: self.to_json, **in_yaml})

    @classmethod
    def from_file(
        cls, path: str | Path, functions: Mapping[str, ImageFunction] | None = None
    ) -> Self:
        """The pipeline in a file: YAML if its name ends in ``.yaml`` or ``.yml``, else JSON.

        Parameters
        ----------
        path
            The file. In YAML a step is its kind (``sum_norm``), its kind and parameters
            (``blur: {sigma: 2}``), and perhaps its name (``as: smooth``); see `to_yaml`.
        functions
            The functions that steps call, by the step's name: a file does not keep code.

        Raises
        ------
        ParameterError
            If the file cannot be read, is no pipeline, or a step, a parameter or a function is not
            known.
        """
        parsers = dict.fromkeys(saved.YAML, yaml_text.parsed)
        return saved.read_file(
            path,
            lambda text, ending: cls.from_dict(
                parsers.get(ending, parsed_object)(text), functions or {}
            ),
        )

    @classmethod
    def from_json(
        cls, text: str | Path, functions: Mapping[str, ImageFunction] | None = None
    ) -> Self:
        """The pipeline that `to_json` described.

        Parameters
        ----------
        text
            What `to_json` returned, or the path of a file that holds it: text that ends in
            ``.json``, or any `pathlib.Path`.
        functions
            The functions that steps call, by the step's name: JSON does not keep code.

        Raises
        ------
        ParameterError
            If the text is no pipeline, the file cannot be read, or a step or function is not
            known.
        """
        return saved.read(text, lambda json: cls.from_dict(parsed_object(json), functions or {}))

    def to_dict(self) -> Json:
        """What `to_json` writes, as a dict."""
        steps = [{"as": name, **step.to_dict()} for name, step in self.steps]
        return {"format": FORMAT, "steps": steps}

    @classmethod
    def from_dict(cls, data: object, functions: Mapping[str, ImageFunction]) -> Self:
        """What `to_dict` described."""
        is_known = isinstance(data, Mapping) and data.get("format") == FORMAT
        entries = data.get("steps") if isinstance(data, Mapping) else None
        if not is_known or not isinstance(entries, list):
            raise ParameterError(f"text must be a pipeline of format {FORMAT}, got {data!r:.200}")
        steps: list[tuple[str, Step]] = []
        for entry in entries:
            # "as" is the step's name, "name" its kind.
            name = entry.get("as") if isinstance(entry, Mapping) else None
            if not isinstance(name, str):
                raise ParameterError(f"a step must have a name under 'as', got {entry!r:.200}")
            if entry.get("name") == Function.kind:
                if name not in functions:
                    raise ParameterError(
                        f"functions must give the function of step {name!r}, got "
                        f"{sorted(functions)}"
                    )
                steps.append((name, Function(functions[name])))
            else:
                steps.append((name, Step.from_dict(entry)))
        return cls(steps)

    def _display(self) -> Display:
        return display.pipeline_display(self.steps)


def functions_of(pipeline: BasePipeline) -> dict[str, ImageFunction]:
    """The functions that steps call, by the step's name, as `BasePipeline.from_json` takes them."""
    return {name: step.function for name, step in pipeline.steps if isinstance(step, Function)}
