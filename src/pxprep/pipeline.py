"""Pipelines: measure a cohort once, apply the numbers to any image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import xarray as xr

from . import _backends, _display
from ._channels import CHANNEL, channel_labels, reorder_channels
from ._images import checked
from ._json import decode_numbers, encode_numbers, parsed_object, to_text
from ._progress import parse_progress
from ._results import applied, as_numbers, finished
from ._typing import ImageOrCohort, Label, PerChannel
from ._validate import POOLS, parse_bool, parse_choice, parse_limit, parse_quantile, parse_sigma
from .errors import ParameterError
from .measures import DETAILS, Cohort, findings, labeled_numbers
from .steps import (
    Blur,
    Clip,
    Function,
    Numbers,
    PostNorm,
    QuantileNorm,
    Step,
    SumMask,
    SumNorm,
    check_kind,
)

__all__ = ["FittedPipeline", "Pipeline"]

INPUT = "input"
FORMAT = 1


@dataclass(frozen=True, init=False, repr=False)
class Pipeline:
    """Steps in any order, to be fitted to one image or a cohort.

    Parameters
    ----------
    steps
        Each a `Step`, a function image -> image, or a pair (name, step). Without a name a step is
        called by its kind (a function by its own name), the second of that kind ``kind_2``.

    Raises
    ------
    ParameterError
        If a name occurs twice, or a step's `reference` is not the name of an earlier step.

    Examples
    --------
    Built from a list, or fluently; both are the same pipeline.

    >>> from pxprep import Pipeline, QuantileNorm, Blur
    >>> Pipeline([QuantileNorm(99), Blur(2)]) == Pipeline().quantile_norm(99).blur(2)
    True

    Measure once, apply anywhere:

    >>> from pxprep.datasets import tissue
    >>> fovs = tissue(size=64)
    >>> fitted = Pipeline.sparrow().fit(fovs)
    >>> after = fitted.transform(fovs["fov1"])
    """

    steps: tuple[tuple[str, Step], ...]

    def __init__(self, steps: Iterable[Any] = ()) -> None:
        if isinstance(steps, str | Step) or not isinstance(steps, Iterable):
            raise ParameterError(f"steps must be a sequence of steps, got {steps!r}")
        named: list[tuple[str, Step]] = []
        for entry in steps:
            name, step = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
            step = step if isinstance(step, Step) else Function(step)
            check_kind(step)
            taken = {INPUT, *(earlier for earlier, _ in named)}
            name = _free_name(step, taken) if name is None else name
            if not isinstance(name, str) or not name or name in taken:
                raise ParameterError(
                    f"a step's name must be a string that no earlier step has and not {INPUT!r}, "
                    f"got {name!r}"
                )
            if step.reference is not None and step.reference not in taken:
                raise ParameterError(
                    f"reference of step {name!r} must name an earlier step, one of "
                    f"{sorted(taken)}, got {step.reference!r}"
                )
            named.append((name, step))
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
    ) -> "Pipeline":
        """The order of sparrow/harpy: zero sums do not count in the mask's threshold.

        Parameters
        ----------
        q, q_post
            Percent, per channel or for all; None leaves out the step.
        q_sum
            Percent; None leaves out the mask. Its threshold is measured before the blur.
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
        return cls._reference_order(q, q_sum, q_post, sigma, norm_sum, cap_max, "exclude")

    @classmethod
    def pixie(
        cls,
        q: PerChannel | None = 99,
        q_sum: float | None = 5,
        q_post: PerChannel | None = 99.9,
        sigma: PerChannel | None = 2,
        norm_sum: bool = True,
        cap_max: PerChannel | None = None,
    ) -> "Pipeline":
        """The order of Pixie (ark-analysis): as `sparrow`, but zero sums count in the threshold.

        The parameters are those of `sparrow`, in percent where ark takes fractions.
        """
        return cls._reference_order(q, q_sum, q_post, sigma, norm_sum, cap_max, "include")

    @classmethod
    def _reference_order(
        cls, q: Any, q_sum: Any, q_post: Any, sigma: Any, norm_sum: Any, cap_max: Any, zeros: str
    ) -> "Pipeline":
        pipeline = cls()
        if q is not None:
            pipeline = pipeline.quantile_norm(parse_quantile(q, "q"))
        unblurred = pipeline.steps[-1][0] if pipeline.steps else INPUT
        if sigma is not None:
            pipeline = pipeline.blur(parse_sigma(sigma))
        if q_sum is not None:
            pipeline = pipeline.sum_mask(q_sum, reference=unblurred, zeros=zeros)
        if parse_bool(norm_sum, "norm_sum"):
            pipeline = pipeline.sum_norm()
        if q_post is not None:
            pipeline = pipeline.post_norm(q_post)
        if cap_max is not None:
            pipeline = pipeline.clip(parse_limit(cap_max, "cap_max"))
        return pipeline

    def then(self, step: Any, name: str | None = None) -> "Pipeline":
        """The pipeline with one more step: a `Step` or a function image -> image."""
        return Pipeline([*self.steps, step if name is None else (name, step)])

    def quantile_norm(self, q: PerChannel = 99, *, name: str | None = None) -> "Pipeline":
        """Add `QuantileNorm`."""
        return self.then(QuantileNorm(q), name)

    def blur(self, sigma: PerChannel = 2, *, name: str | None = None) -> "Pipeline":
        """Add `Blur`."""
        return self.then(Blur(sigma), name)

    def sum_mask(
        self,
        q_sum: float = 5,
        reference: str | None = None,
        threshold: float | None = None,
        zeros: str = "exclude",
        *,
        name: str | None = None,
    ) -> "Pipeline":
        """Add `SumMask`; `reference` is the name of an earlier step."""
        return self.then(SumMask(q_sum, reference, threshold, zeros), name)

    def sum_norm(self, *, name: str | None = None) -> "Pipeline":
        """Add `SumNorm`."""
        return self.then(SumNorm(), name)

    def post_norm(self, q_post: PerChannel = 99.9, *, name: str | None = None) -> "Pipeline":
        """Add `PostNorm`."""
        return self.then(PostNorm(q_post), name)

    def clip(self, max: PerChannel, *, name: str | None = None) -> "Pipeline":  # noqa: A002
        """Add `Clip`."""
        return self.then(Clip(max), name)

    def fit(
        self, images: ImageOrCohort, *, pool: str = "mean", progress: Any = False
    ) -> "FittedPipeline":
        """Measure one image or a cohort.

        A lazy image is computed block by block and not held in memory: one pass for each statistic
        of small integers, two of float32, four of float64.

        Parameters
        ----------
        images
            An image, a sequence of images, or a mapping of names to images; with the same
            channels, in any order if they are labeled.
        pool
            ``"mean"``: mean over the images of each one's quantile; images in which a channel has
            no signal do not count for it. ``"pixels"``: one quantile over the pixels of all
            images.
        progress
            True shows a bar for each pass over lazy images; a function that takes a description
            and returns a context manager shows your own.

        Returns
        -------
        FittedPipeline

        Raises
        ------
        ImageError, ChannelError, ParameterError
            If an image is none, channels differ, or a step's parameters do not fit the channels.

        Warns
        -----
        PxprepWarning
            Once for each thing found: channels without signal, negative or infinite pixels.
        """
        bar = parse_progress(progress)
        cohort = Cohort.of(images, pool)
        numbers = {
            name: step_numbers for name, step_numbers, _ in self._run(cohort, bar=bar, last=False)
        }
        labels = channel_labels(cohort[0])
        return FittedPipeline(
            pipeline=self,
            channels=labels,
            n_channels=cohort[0].sizes[CHANNEL],
            pool=cohort.pool,
            fovs=cohort.names,
            measured=numbers,
        )

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError or ParameterError if a step does not fit channels `labels`."""
        for _, step in self.steps:
            step.check(labels)

    def fit_transform(self, image: xr.DataArray) -> xr.DataArray:
        """Measure one image and apply the steps to it.

        Parameters
        ----------
        image
            Dims ``c``, ``y``, ``x``, optionally ``z``, in any order.

        Returns
        -------
        xarray.DataArray
            Like `image`, float32 or float64; if `image` is lazy so is the result, and the numbers
            are measured when it is computed.

        Raises
        ------
        ImageError, ChannelError, ParameterError
            As `fit`.
        """
        result = checked(image)
        for _, _, cohort in self._run(Cohort.of(image)):
            result = cohort[0]
        return finished(result, image)

    def _run(
        self, cohort: Cohort, *, bar: Any = None, last: bool = True
    ) -> Iterator[tuple[str, Numbers, Cohort]]:
        """Each step's name, numbers and output; numbers are computed at once if there is a `bar`.

        `last` False leaves out what comes after the last measurement.
        """
        self.check(cohort.labels)
        needed = {step.reference for _, step in self.steps}
        outputs = {INPUT: cohort}
        current, found = cohort, cohort.found
        for position, (name, step) in enumerate(self.steps):
            source = current if step.reference is None else outputs[step.reference]
            source = source.knowing(found)
            if bar is not None:
                source = source.evaluating(_evaluation(bar, f"measure {name}"))
            numbers = as_numbers(step.measure(source), name, source)
            if bar is not None:
                numbers = numbers.compute()
            if set(DETAILS) <= set(numbers):
                found = found | findings(numbers)
            if last or _measures_after(self.steps, position):
                current = current.map(partial(applied, name, step, numbers=numbers))
            if name in needed:
                outputs[name] = current
            yield name, numbers, current

    def to_json(self) -> str:
        """The pipeline as JSON, floats exact; of a function only the step's name is kept.

        Sequences among the parameters of your own steps come back as tuples.

        Raises
        ------
        ParameterError
            If JSON cannot keep a parameter.
        """
        return to_text(self._to_dict())

    @classmethod
    def from_json(
        cls, text: str, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> "Pipeline":
        """The pipeline that `to_json` described.

        Parameters
        ----------
        text
            What `to_json` returned.
        functions
            The functions that steps call, by the step's name: JSON does not keep code.

        Raises
        ------
        ParameterError
            If the text is no pipeline, or a step or function is not known.
        """
        return cls._from_dict(parsed_object(text), functions or {})

    def _to_dict(self) -> dict[str, Any]:
        steps = [{"as": name, **step.to_dict()} for name, step in self.steps]
        return {"format": FORMAT, "steps": steps}

    @classmethod
    def _from_dict(cls, data: Any, functions: Mapping[str, Callable[..., Any]]) -> "Pipeline":
        entries = data.get("steps") if isinstance(data, Mapping) else None
        if not isinstance(entries, list) or data.get("format") != FORMAT:
            raise ParameterError(f"text must be a pipeline of format {FORMAT}, got {data!r:.200}")
        steps: list[tuple[str, Step]] = []
        for entry in entries:
            name = entry.get("as", "") if isinstance(entry, Mapping) else ""
            if isinstance(entry, Mapping) and entry.get("name") == Function.kind:
                if name not in functions:
                    raise ParameterError(
                        f"functions must give the function of step {name!r}, got "
                        f"{sorted(functions)}"
                    )
                steps.append((name, Function(functions[name])))
            else:
                steps.append((name, Step.from_dict(entry)))
        return cls(steps)

    def __repr__(self) -> str:
        return _display.pipeline_text(self.steps)

    def _repr_html_(self) -> str:
        return _display.pipeline_html(self.steps)


@dataclass(frozen=True, eq=False, repr=False)
class FittedPipeline:
    """A pipeline with its numbers: what `Pipeline.fit` returns.

    Attributes
    ----------
    pipeline
        The steps.
    channels
        Labels of the channels in the order in which they were fitted; None if they have none.
    n_channels
        How many there are.
    pool
        How the cohort was pooled.
    fovs
        Names of the images that were measured.
    measured
        For each step, by name, what it measured.
    """

    pipeline: Pipeline
    channels: tuple[Label, ...] | None
    n_channels: int
    pool: str
    fovs: tuple[Label, ...]
    measured: Mapping[str, Numbers]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels of the channels, or their positions where they have none."""
        return tuple(range(self.n_channels)) if self.channels is None else self.channels

    @property
    def numbers(self) -> xr.Dataset:
        """All numbers, over ``c`` (and ``fov``): variables are called ``step_number``.

        ``quantile_norm_scale`` and ``post_norm_scale`` are what channels are divided by,
        ``sum_mask_threshold`` what sums must exceed. ``..._quantile`` are the quantiles of each
        image, ``..._counted`` how many pixels they are of, ``..._negative`` how many of those are
        below zero, ``..._infinite`` how many pixels were left out as infinite.
        """
        variables: dict[str, xr.DataArray] = {
            f"{name}_{variable}": array
            for name, numbers in self.measured.items()
            for variable, array in numbers.data_vars.items()
        }
        return xr.Dataset(variables).copy(deep=True)

    def transform(self, image: xr.DataArray) -> xr.DataArray:
        """Apply the steps with the fitted numbers to an image.

        Parameters
        ----------
        image
            Dims ``c``, ``y``, ``x``, optionally ``z``, in any order, with exactly the channels
            that were fitted; select others away first, with ``image.sel(c=...)``.

        Returns
        -------
        xarray.DataArray
            Like `image`, float32 or float64, lazy if `image` is. If the channels have labels they
            come in the fitted order, so that the result is the same whatever order they had.

        Raises
        ------
        ImageError
            If `image` is not an image.
        ChannelError
            If channels are missing or unknown; the message lists both.
        """
        result = self.check(image)
        for name, step in self.pipeline.steps:
            result = applied(name, step, result, self.measured[name])
        return finished(result, image)

    def check(self, image: xr.DataArray, what: str = "image") -> xr.DataArray:
        """`image` with its channels in the fitted order; raises what `transform` would raise."""
        image = reorder_channels(checked(image, what), self.labels, what)
        self.pipeline.check(self.labels)
        return image

    def to_json(self) -> str:
        """Steps and numbers as JSON, floats exact; `from_json` gives back an equal object."""
        numbers = {name: encode_numbers(dataset) for name, dataset in self.measured.items()}
        data = {
            "pipeline": self.pipeline._to_dict(),
            "channels": self.n_channels if self.channels is None else list(self.channels),
            "pool": self.pool,
            "fovs": list(self.fovs),
            "numbers": numbers,
        }
        for label in (*self.labels, *self.fovs):
            if not isinstance(label, str | int | float):
                raise ParameterError(
                    "channel labels and image names must be strings or numbers to be saved, got "
                    f"{label!r}"
                )
        return to_text(data)

    @classmethod
    def from_json(
        cls, text: str, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> "FittedPipeline":
        """The fitted pipeline that `to_json` described.

        Parameters
        ----------
        text
            What `to_json` returned.
        functions
            The functions that steps call, by the step's name: JSON does not keep code.

        Raises
        ------
        ParameterError
            If the text is no fitted pipeline, or a step or function is not known.
        """
        data = parsed_object(text)
        missing = {"pipeline", "channels", "pool", "fovs", "numbers"} - set(data)
        if missing:
            raise ParameterError(f"text must be a fitted pipeline; it lacks {sorted(missing)}")
        pipeline = Pipeline._from_dict(data["pipeline"], functions or {})
        channels, fovs, numbers = data["channels"], data["fovs"], data["numbers"]
        labeled = isinstance(channels, list)
        if not (
            (labeled or (isinstance(channels, int) and channels > 0))
            and isinstance(fovs, list)
            and isinstance(numbers, Mapping)
            and list(numbers) == [name for name, _ in pipeline.steps]
        ):
            raise ParameterError(
                "text must be a fitted pipeline with a list of channels, or their number, a list "
                "of fovs, and numbers for each step"
            )
        labels = tuple(channels) if labeled else None
        return cls(
            pipeline=pipeline,
            channels=labels,
            n_channels=len(channels) if labeled else channels,
            pool=parse_choice(data["pool"], "pool", POOLS),
            fovs=tuple(fovs),
            measured={
                name: labeled_numbers(decode_numbers(variables, name), labels, fovs)
                for name, variables in numbers.items()
            },
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FittedPipeline):
            return NotImplemented
        return (
            self.pipeline == other.pipeline
            and self.channels == other.channels
            and self.n_channels == other.n_channels
            and self.pool == other.pool
            and self.fovs == other.fovs
            and self.numbers.identical(other.numbers)
        )

    def __repr__(self) -> str:
        return _display.fitted_text(
            self.pipeline.steps, self.measured, self.labels, self.fovs, self.pool
        )

    def _repr_html_(self) -> str:
        return _display.fitted_html(
            self.pipeline.steps, self.measured, self.labels, self.fovs, self.pool
        )


def _free_name(step: Step, taken: set[str]) -> str:
    kind = step.name if isinstance(step, Function) else step.kind
    name, count = kind, 1
    while name in taken:
        count += 1
        name = f"{kind}_{count}"
    return name


def _measures_after(steps: tuple[tuple[str, Step], ...], position: int) -> bool:
    return any(type(step).measure is not Step.measure for _, step in steps[position + 1 :])


def _evaluation(bar: Any, description: str) -> Callable[[Any], Any]:
    def evaluate(array: Any) -> Any:
        if not _backends.is_lazy(array):
            return array
        with bar(description):
            return _backends.compute(array)[0]

    return evaluate
