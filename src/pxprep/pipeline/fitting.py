"""Measures a cohort for a pipeline: what is in a fitted one."""

import numpy as np

from ..aliases import Parameters
from ..channels import channel_labels
from ..engine.notes import ToldOnce
from ..engine.progress import Progress
from ..images.image import processing_dtype
from ..images.image_set import ImageSet
from .base_pipeline import BasePipeline
from .run import check_number_names, run


def measured_fields(
    pipeline: BasePipeline, cohort: ImageSet, bar: Progress, memory: int | None
) -> Parameters:
    """The fields of a `FittedPipeline`: the pipeline, and its numbers of a cohort.

    `bar` is made for each pass, and `memory` is how many bytes of what was read are kept, None for
    a share of what is available.
    """
    pipeline.check(cohort.labels)
    in_memory = not cohort.is_lazy
    chained = cohort.chained_if_readable() if pipeline.is_fused else None
    # Block by block no whole image is held; pipelines with functions of the user need whole arrays.
    if chained is not None:
        cohort = chained
    elif in_memory and pipeline.is_fused:
        cohort = cohort.chained()
    elif len(cohort) > 1:
        cohort = cohort.as_lazy()
    with ToldOnce(), cohort.sharing_reads(memory, pipeline.depth(cohort.labels)):
        steps = run(pipeline.steps, cohort, bar=bar, in_this_process=in_memory)
        measured = {name: numbers for name, numbers, _ in steps}
    check_number_names({name: numbers.data_vars for name, numbers in measured.items()})
    return {
        "pipeline": pipeline,
        "channels": channel_labels(cohort[0]),
        "n_channels": len(cohort.labels),
        "pool": cohort.pool,
        "fovs": cohort.names,
        "measured": measured,
        "dtype": np.result_type(*(processing_dtype(image) for image in cohort)),
        "is_masked": cohort.is_masked,
        "batches": cohort.batch_of_each(),
    }
