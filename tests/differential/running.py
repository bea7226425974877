"""Ways to run a case: functions, accessor, pipelines fitted and applied at once or apart, JSON."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import dask
import numpy as np
import xarray as xr

from differential import holding
from differential.cases import MEASURING, resolved
from pxprep import FittedPipeline, Mask, Pipeline, ops
from pxprep.engine.programs import Divide
from pxprep.errors import ParameterError
from pxprep.steps import Step

FUNCTIONS = {
    "double": lambda image: image * 2,
    "absolute": abs,
    "upside down": lambda image: image.isel(y=slice(None, None, -1)).assign_coords(y=image.y),
    "rolled": lambda image: image.roll(x=1),
    "times first": lambda image: image * image.isel(c=0, drop=True),
    "other axes": lambda image: image.transpose(*reversed(image.dims)),
    "double precision": lambda image: image.astype(np.float64),
    "single precision": lambda image: image.astype(np.float32),
}


@dataclass(frozen=True)
class Peak(Step):
    """A step of somebody's own that measures: below the largest value of all images."""

    kind: ClassVar[str] = "net_peak"
    reference: str | None = None

    def measure(self, cohort):
        """The largest value of each channel."""
        peaks = [_floats(image).max([dim for dim in image.dims if dim != "c"]) for image in cohort]
        together = xr.concat(peaks, "image", coords="minimal", compat="override", join="override")
        return {"peak": together.max("image")}

    def apply(self, image, numbers):
        """Subtract it."""
        image = image.astype(_float(image))
        below = image - numbers["peak"].astype(image.dtype)
        return below.rename(image.name)


@dataclass(frozen=True)
class Share(Peak):
    """One that also says what happens to a block: the share of the largest value."""

    kind: ClassVar[str] = "net_share"
    operands: ClassVar[tuple[str, ...]] = ("peak",)
    apply = Step.apply

    def operation(self, labels):
        """Division."""
        return Divide()


OWN = {"peak": Peak, "share": Share}


def _float(image):
    is_double = image.dtype.kind == "f" and image.dtype.itemsize == 8
    return np.float64 if is_double else np.float32


def _floats(image):
    return image.astype(_float(image)).astype(np.float64)


class Runner:
    """A case that is held in one way.

    Attributes
    ----------
    images
        Labeled images, as they are held.
    masks
        Of the measured pixels, and of steps that keep pixels, by the step's name.
    """

    def __init__(self, case, way, pixels, folder):
        self.case = case
        self.way = way
        sizes = [picture.size for picture in case.pictures]
        self.images = holding.images(case, way, pixels, folder)
        self.masks = {None: self._masks(case.masks, sizes, folder)}
        for step in case.steps:
            if step.kind == "keep_where":
                self.masks[step.name] = self._masks(step.parameters["where"], sizes, folder)
        self.cohort = holding.boxed(self.images, way.box)

    def _masks(self, masks, sizes, folder):
        arrays = holding.mask_arrays(masks, self.way, sizes, folder)
        return [_as_given(*pair) for pair in zip(masks, arrays, strict=True)]

    def where(self, name=None):
        """The masks in the form of the cohort, None where there are none."""
        masks = self.masks[name]
        if all(mask is None for mask in masks):
            return None
        if self.way.box == "one":
            return masks[0]
        if self.way.box == "list":
            return masks
        return dict(zip(holding.NAMES, masks, strict=False))

    def by(self):
        """The batch of each image by its name, None if there are none."""
        if self.case.batches is None:
            return None
        names = range(len(self.images)) if self.way.box == "list" else holding.NAMES
        return dict(zip(names, self.case.batches, strict=False))

    def run(self):
        """The cohort after all steps, and the numbers that were measured, if they are known."""
        return getattr(self, f"_{self.way.run}")()

    # The ways

    def _fit_transform(self):
        pipeline = self.pipeline()
        given = {"pool": self.case.pool, "where": self.where(), "by": self.by()}
        return pipeline.fit_transform(self.cohort, **given), None

    def _fit(self):
        fitted = self.fitted()
        return fitted.transform(self.cohort), fitted.numbers

    def _json(self):
        functions = self.functions()
        pipeline = Pipeline.from_json(self.pipeline().to_json(), functions)
        fitted = self.fitted(pipeline)
        again = FittedPipeline.from_json(fitted.to_json(), functions)
        assert again.numbers.identical(fitted.numbers), "JSON changed the numbers"
        return again.transform(self.cohort), again.numbers

    def _update(self):
        """Fitted to the first image, then to the others, if that can be exact; or to all."""
        cohort, masks = self.cohort, self.where()
        if self.way.box != "dict" or len(cohort) == 1:
            return self._fit()
        first, *others = cohort
        parts = [
            {name: every[name] for name in names} if every else None
            for every in (cohort, masks)
            for names in ([first], others)
        ]
        fitted = self.pipeline().fit(parts[0], pool=self.case.pool, where=parts[2])
        try:
            fitted = fitted.update(parts[1], where=parts[3], memory=self.way.memory)
        except ParameterError:
            return self._fit()
        return fitted.transform(cohort), fitted.numbers

    def _apart(self):
        """Fitted to the cohort as it is held, applied to its images one by one."""
        fitted = self.fitted()
        names = fitted.fovs
        made = [
            fitted.transform(image, fov=name if self.case.pool is None else None)
            for name, image in zip(names, self.images, strict=True)
        ]
        box = "one" if self.way.box == "one" else "list"
        self.way = replace(self.way, box=box)
        return made[0] if box == "one" else made, fitted.numbers

    def _preprocess(self):
        given = {n: resolved(v, self.case.names) for n, v in self.case.sparrow.items()}
        where, pool = self.where(), self.case.pool
        if self.case.channels is not None:
            given["channels"] = list(self.case.names)
        elif self.way.box in ("list", "dict"):
            return Pipeline.sparrow(**given).fit_transform(
                self.cohort, pool=pool, where=where
            ), None
        return self.cohort.pxprep.preprocess(**given, pool=pool, where=where), None

    def _accessor(self):
        return self._chained(_method if self.way.box not in ("list", "dict") else _function)

    def _ops(self):
        return self._chained(_function)

    def _chained(self, call):
        current, outputs = self.cohort, {"input": self.cohort}
        for step in self.case.steps:
            current = self._called(call, step, current, outputs)
            outputs[step.name] = current
        # It may have returned integers, or kept all as it was.
        if self.case.steps[-1].kind in ("function", "keep_where"):
            current = Pipeline([("same", _same)]).fit_transform(current)
        return current, None

    def _called(self, call, step, current, outputs):
        names = self.case.seen_by[step.name]
        given = {name: resolved(value, names) for name, value in step.parameters.items()}
        measures = {"pool": self.case.pool, "where": self.where()}
        if step.kind == "function":
            own = FUNCTIONS[given["function"]]
            # A pipeline brings the dims back into their order.
            return _mapped(lambda image: own(image).transpose(*image.dims), current)
        if step.kind in OWN:
            alone = Pipeline([("own", OWN[step.kind]())])
            if step.reference is None:
                return alone.fit_transform(current, **measures)
            return alone.fit(outputs[step.reference], **measures).transform(current)
        if step.kind == "keep_where":
            where = self.where(step.name)
            return current if where is None else call("keep_where", current, where=where)
        if step.kind == "sum_mask" and step.reference is not None:
            given["reference"] = outputs[step.reference]
        if step.kind in MEASURING and given.get("value") is None:
            given.update(measures)
        return call(step.kind, current, **given)

    def pipeline(self):
        """The steps of the case."""
        return pipeline(self.case, self.functions())

    def fitted(self, pipeline=None):
        """The pipeline fitted to the cohort."""
        given = {"pool": self.case.pool, "where": self.where(), "memory": self.way.memory}
        given["by"] = self.by()
        return (pipeline or self.pipeline()).fit(self.cohort, **given)

    def functions(self):
        """What steps of the user's own call, by the step's name."""
        keeping = {name: partial(self._keep, name) for name in self.masks if name is not None}
        return {**functions(self.case), **keeping}

    def _keep(self, name, image):
        mask = self.masks[name][image.attrs["fov"]]
        return image.astype(_float(image)) if mask is None else ops.keep_where(image, mask)


def functions(case):
    """What steps that are functions call, by the step's name."""
    own = [step for step in case.steps if step.kind == "function"]
    return {step.name: FUNCTIONS[step.parameters["function"]] for step in own}


def pipeline(case, functions):
    """The steps of a case; `functions` are those of the user's own."""
    made = Pipeline()
    for step in case.steps:
        names = case.seen_by[step.name]
        given = {name: resolved(value, names) for name, value in step.parameters.items()}
        if step.name in functions:
            made = made.then(functions[step.name], step.name)
        elif step.kind in OWN:
            made = made.then(OWN[step.kind](step.reference), step.name)
        elif step.kind == "sum_mask":
            made = made.sum_mask(**given, reference=step.reference, name=step.name)
        else:
            made = getattr(made, step.kind)(**given, name=step.name)
    return made


def _as_given(mask, array):
    if mask is None or mask.form in ("bool", "nonzero"):
        return array
    chosen = Mask(array, labels=1)
    return chosen if mask.form == "label" else ~chosen


def _function(name, images, **given):
    return getattr(ops, name)(images, **given)


def _method(name, images, **given):
    return getattr(images.pxprep, name)(**given)


def _same(image):
    return image


def _mapped(function, images):
    if isinstance(images, xr.DataArray):
        return function(images)
    if isinstance(images, list):
        return [function(image) for image in images]
    if isinstance(images, dict):
        return {name: function(image) for name, image in images.items()}
    return Pipeline([("own", function)]).fit_transform(images)


def computed(images, together):
    """Images with their pixels, computed together or one by one."""
    return list(dask.compute(*images)) if together else [image.compute() for image in images]
