"""What a type checker says of calls: read by mypy and pyright, and never run.

Each `type: ignore` is an error that a checker must find: one that it does not is an error itself.
"""

from __future__ import annotations

from typing import assert_type

import xarray as xr

from pxprep import Cohort, FittedPipeline, Pipeline, ops
from pxprep.steps import Blur


def what_goes_in_comes_out(
    image: xr.DataArray,
    dataset: xr.Dataset,
    tree: xr.DataTree,
    fovs: dict[str, xr.DataArray],
    cohort: Cohort,
) -> None:
    assert_type(ops.blur(image, 2), xr.DataArray)
    assert_type(ops.blur(dataset, 2), xr.Dataset)
    assert_type(ops.quantile_norm(tree, {"CD3": 99, ...: 98}, pool=None), xr.DataTree)
    assert_type(ops.sum_mask(image, 5, zeros="include"), xr.DataArray)
    assert_type(ops.quantile(image, 99), xr.DataArray)
    assert_type(cohort.blur(2).quantile_norm(99), Cohort)
    assert_type(Cohort(fovs, pool="pixels")["fov0"], xr.DataArray)
    ops.blur(image, 2).isel(y=0)


def pipelines(image: xr.DataArray, tree: xr.DataTree) -> None:
    pipeline = Pipeline().quantile_norm(99).blur((1, 2)).then(Blur(1))
    assert_type(pipeline, Pipeline)
    fitted = pipeline.fit(image)
    assert_type(fitted, FittedPipeline)
    assert_type(fitted.transform(image), xr.DataArray)
    assert_type(fitted.transform(tree), xr.DataTree)
    assert_type(pipeline.fit_transform(image), xr.DataArray)


def mistakes(image: xr.DataArray, fitted: FittedPipeline) -> None:
    ops.blur(image, "two")  # type: ignore[arg-type]
    ops.blurr(image)  # type: ignore[attr-defined]
    fitted.transfrom(image)  # type: ignore[attr-defined]
    ops.quantile_norm(image, pool="median")  # type: ignore[arg-type]
    ops.sum_mask(image, zeros="some")  # type: ignore[arg-type]
    Pipeline().blurr(2)  # type: ignore[attr-defined]
    Blur(sigma="two")  # type: ignore[arg-type]
