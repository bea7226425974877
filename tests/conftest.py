"""Fixtures: images and the means to see that nothing is computed."""

import gc
import signal
import sys
from contextlib import contextmanager
from importlib.util import find_spec

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from pxprep import memory
from pxprep.engine import backends, computing, sources

# Not imported for doctests: steps of one's own, which are defined once; without spatialdata also
# scripts that tests run, what makes stores, and the net, which draws arrays of zarr among others.
collect_ignore = ["small_cohorts.py"]
if find_spec("spatialdata") is None:
    collect_ignore += ["commands.py", "contention.py", "crash.py", "differential", "powercut.py"]
    collect_ignore += ["stores.py", "tiff_files.py"]

# What is imported and collected stays to the end: garbage is not looked for in it.
gc.disable()

# A shell lets its background jobs, and all that they start, ignore Ctrl-C; tests are about it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What the quick check, `-m "not slow"`, leaves out, beside all cases of a test but the first:
# files about limits, costs and faults, or that start processes (it does not even read them),
SLOW_FILES = """
    test_at_hand test_at_once test_brackets test_byte_order test_channel_labels test_chunk_faults
    test_cli_batches test_cli_dry_run test_cli_exclude test_cli_interrupts test_cli_stores
    test_cli_terminal test_concurrency test_dask_images test_dropped_layers test_examples
    test_excluded_layers test_faults test_forged_stores test_gathering test_held_memory
    test_image_caches test_import test_import_options test_kept_results test_layer_batches
    test_layer_chunks test_layer_masks test_layer_reports test_layer_scales test_lazy_quantiles
    test_lazy_writing test_names_on_disk test_pictures test_places test_platforms test_properties
    test_q_sum test_readme test_removed_layers test_report_bars test_report_cohort
    test_report_in_browser test_several_quantiles test_shown test_start_up test_table_input
    test_thin_chunks test_ties test_walks test_watched_sources test_writing
"""
# and single tests that take more than half a second.
SLOW_TESTS = """
    test_a_batch_may_have_a_lazy_mask_and_another_none test_a_cluster test_a_crop_of_a_layer
    test_a_program_has_the_same_bits_on_strips_of_any_window_and_pixels_in_pieces
    test_a_top_hat_is_what_its_page_says test_all_options_of_run
    test_all_pixels_inside_are_the_bits_of_no_mask test_any_region_of_chunks_of_any_size
    test_attrs_on_disk_count_and_not_those_of_a_stale_object
    test_blur_of_each_row_by_the_kernels_alone_has_the_bits_of_the_whole
    test_changed_document_can_be_used_or_is_refused test_changed_document_is_right_or_refused
    test_changed_pipeline_can_be_used_or_is_refused test_channels_without_names
    test_chunks_change_no_bit_of_a_top_hat test_completion test_compressor
    test_dead_staging_is_removed_and_a_live_one_is_not test_draws_on_given_axes
    test_each_batch_is_as_it_would_be_alone test_every_form_of_batches
    test_every_form_of_images_and_of_names test_fitting_a_large_lazy_image_holds_little
    test_fitting_and_transforming_need_a_few_blocks test_images_of_a_dataset_are_a_cohort
    test_import_leaves_matplotlib_alone test_later_steps_neither_measure_nor_sum_dropped_channels
    test_layer_that_was_replaced_by_others_has_none test_layers_are_told_of_together
    test_layers_by_themselves test_layers_in_memory_are_told_of_when_they_are_looked_at
    test_layers_keep_the_positions_as_labels test_layers_of_a_store test_layers_stay_where_they_lie
    test_lazy_eager_and_at_once_are_the_same_bits test_lazy_fit_gives_the_same_numbers
    test_lazy_looks_like_eager test_levels_are_means_of_the_finest_pixels
    test_lock_is_freed_when_its_holder_is_killed test_masks test_memory_does_not_grow_with_the_image
    test_multiscale_image_of_spatialdata_stays_one test_no_module_imports_in_a_circle
    test_notebooks_align_and_keep_the_colours_of_the_page
    test_numpy_images_are_measured_a_few_at_a_time test_odd_names_are_escaped_and_fit
    test_only_tiles_of_a_window_are_decoded test_order_of_images_changes_no_number
    test_parquet_needs_little_memory test_seconds_of_the_demo test_statistics_are_measured_once
    test_steps_after_keep_where_see_nothing_outside test_the_command_line_names_them_by_position
    test_the_package_works_where_nothing_can_be_cached test_the_page
    test_the_reference_is_what_it_was test_what_was_written_is_read_again_before_it_is_published
    test_works_in_a_forked_process
"""
# Tests of which the quick check has all cases: each is about another step, method or command.
ALL_CASES = """
    test_commands_of_the_guide_exist test_method_is_the_function
    test_small_and_odd_shapes test_packages_stay_in_their_wings
"""

# Files that take longest, and whose tests say the same on every Python: `-m once` runs them.
ONCE_FILES = """
    test_benchmarks test_crash test_distributed test_many_layers test_memory test_odd_names
    test_viewers test_workflows
"""


def pytest_ignore_collect(collection_path, config):
    """Leave out of the quick check the files in which all is slow."""
    left_out = {*SLOW_FILES.split(), *ONCE_FILES.split()}
    if config.option.markexpr == "not slow" and collection_path.stem in left_out:
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark tests that are slow, and those that are run once."""
    once, seen = set(ONCE_FILES.split()), set()
    slow = {*SLOW_FILES.split(), *SLOW_TESTS.split(), *once}
    for item in items:
        test, name = item.nodeid.partition("[")[0], getattr(item, "originalname", "")
        again = test in seen and name not in ALL_CASES.split()
        if again or slow & {item.path.stem, name}:
            item.add_marker("slow")
        if item.path.stem in once:
            item.add_marker("once")
        seen.add(test)


def pytest_collection_finish():
    """From here on garbage is looked for, in what tests make."""
    gc.enable()
    gc.freeze()


LABELS = ("DAPI", "CD3", "CD20", "CD45", "Ki67", "PanCK", "SMA", "CD8")


@pytest.fixture
def memory_from_numpy(monkeypatch):
    """All arrays are made by NumPy, which tells tracemalloc of them."""
    monkeypatch.setattr(memory._HeldMemory, "can_hold", False)


@pytest.fixture(scope="session")
def make_image():
    """A function that makes a seeded image with dims c, (z,) y, x, of any dtype."""
    return _image


def _image(
    dtype="float32",
    shape=(3, 23, 17),
    *,
    zeros=0.2,
    nan=0.0,
    negative=0.0,
    seed=0,
    labeled=True,
    chunks=None,
):
    """`zeros`, `nan`, `negative`: which part of the pixels is so."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    values = rng.gamma(2, 20, shape) * np.arange(1, shape[0] + 1).reshape(-1, *[1] * len(shape[1:]))
    if dtype.kind == "b":
        values = values > 60
    elif dtype.kind in "ui":
        largest = np.iinfo(dtype).max
        # Wide integers are more than a float32 can hold.
        values = values * (largest // 2000) if dtype.itemsize > 2 else np.minimum(values, largest)
    values = values.astype(dtype)
    values[rng.random(shape) < zeros] = 0
    if negative:
        below = rng.random(shape) < negative
        values[below] = -values[below]
    if nan:
        values[rng.random(shape) < nan] = np.nan
    dims = ("c", "z", "y", "x") if len(shape) == 4 else ("c", "y", "x")
    image = xr.DataArray(values, dims=dims, name="fov0", attrs={"um_per_pixel": 0.5})
    if labeled:
        image = image.assign_coords(c=list(LABELS[: shape[0]]))
    return image if chunks is None else image.chunk(chunks)


@pytest.fixture(autouse=True)
def thin_chunks(monkeypatch):
    """Chunks stay as they are: joined, most images of tests would be one block."""
    monkeypatch.setattr(sources, "THIN", 0)


@pytest.fixture
def no_compute():
    """A context in which Dask refuses to compute anything."""

    def refuse(*args, **kwargs):
        pytest.fail("something was computed")

    @contextmanager
    def context():
        with dask.config.set(scheduler=refuse):
            yield

    return context


@pytest.fixture
def no_dask(monkeypatch):
    """Dask runs no graph for the package."""

    def computed(arrays, local):
        lazy = [array for array in arrays if backends.is_lazy(array)]
        raise AssertionError(f"computed by Dask: {lazy}")

    monkeypatch.setattr(computing, "_computed", computed)
    monkeypatch.setattr(da, "store", lambda arrays, *_, **__: computed(arrays, local=False))


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures stay open until somebody closes them."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
