"""Measure a cohort once, look at the numbers, and clean a batch that comes later.

Run it with ``python examples/cohort.py``; it needs nothing but the core of pxprep.
"""

from dataclasses import dataclass

import numpy as np

import pxprep
from pxprep.datasets import tissue


@dataclass(frozen=True)
class SubtractBackground(pxprep.Step):
    """Subtract from each channel a low quantile over the cohort; negative values become zero."""

    kind = "subtract_background"
    q: float = 20

    def measure(self, cohort):
        levels = [pxprep.quantile(image, self.q, zeros="include") for image in cohort]
        return {"level": sum(levels) / len(levels)}

    def apply(self, image, numbers):
        return (image - numbers["level"]).clip(min=0)


def main():
    fovs = tissue(n_fovs=4, size=128)
    later = fovs.pop("fov3")

    pipeline = (
        pxprep.Pipeline()
        .then(SubtractBackground(q=20))
        .quantile_norm({"DAPI": 99.9, ...: 99})
        .blur({"DAPI": 1, ...: 2})
        .sum_mask(5, reference="quantile_norm")
        .sum_norm()
        .post_norm(99.9)
        .clip(1)
    )
    fitted = pipeline.fit(fovs)
    print(fitted)

    # How far is each field of view from the others?
    quantiles = fitted.numbers["quantile_norm_quantile"]
    print((quantiles / quantiles.median("fov")).to_pandas().round(2))

    # The next batch, in another process, with its channels in another order.
    saved = fitted.to_json()
    again = pxprep.FittedPipeline.from_json(saved)
    clean = again.transform(later.isel(c=slice(None, None, -1)))
    dropped = float(np.isnan(clean.isel(c=0)).mean())
    print(f"fov3: {clean.sizes['c']} channels, {dropped:.1%} of the pixels dropped")
    return clean


if __name__ == "__main__":
    main()
