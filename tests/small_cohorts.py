"""Cohorts of small images that differ in size and brightness, in any form; pipelines for them."""

from dataclasses import dataclass

import numpy as np
import pytest

from pxprep import Pipeline
from pxprep.images.datatree import TREES
from pxprep.steps import QuantileNorm, Step


@dataclass(frozen=True)
class Brightest(Step):
    """Knows nothing of pools: the mean of the largest values of the images that it is shown."""

    kind = "brightest"

    def measure(self, cohort):
        largest = [image.max(["y", "x"]) for image in cohort]
        return {"value": sum(largest) / len(largest), "images": len(largest)}

    def apply(self, image, numbers):
        return (image / numbers["value"]).rename(image.name)


PIPELINES = {
    "sparrow": Pipeline.sparrow(sigma=1, q_sum=30, cap_max=0.8),
    "pixie": Pipeline.pixie(sigma=None),
    "input": Pipeline().quantile_norm({"CD3": 50, ...: 98}).sum_mask(40, reference="input"),
    "threshold": Pipeline().sum_mask(threshold=60).post_norm(97),
    "range": Pipeline().subtract_background(2).percentile_clip(5, [99, 90, 60]).minmax(),
    "own": Pipeline([QuantileNorm(98), Brightest(), ("root", np.sqrt)]),
}


def cohort_of(make_image, dtype="float32", n=3):
    """Images by name, each brighter than the one before."""
    images = {
        f"fov{i}": make_image(dtype, (3, 21 + i, 17), zeros=0.3, seed=i).rename(f"fov{i}")
        for i in range(n)
    }
    return {name: image * (i + 1) for i, (name, image) in enumerate(images.items())}


def lazily(cohort):
    """The same images in chunks."""
    return {name: image.chunk({"c": 2, "y": 12}) for name, image in cohort.items()}


def without_signal(image, channel="CD3"):
    return image.where(image.c != channel, 0)


def in_form(cohort, form):
    """The cohort as the user may hold it, and what gives its images back by name."""
    if form == "mapping":
        return cohort, dict
    if form == "list":
        return list(cohort.values()), lambda listed: dict(zip(cohort, listed, strict=True))
    if not TREES:
        pytest.skip("no DataTree here")
    cls = next(iter(TREES))
    tree = cls.from_dict({name: image.to_dataset(name="image") for name, image in cohort.items()})
    return tree, lambda made: {name: made[name]["image"].rename(name) for name in cohort}
