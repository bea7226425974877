"""A case run in all its ways: each against the oracle, and all against each other, to the bit."""

import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from shutil import rmtree
from tempfile import mkdtemp

import dask
import numpy as np
import xarray as xr

import oracle
from differential import contents, holding, reference, running, sizes
from differential.cases import plain
from pxprep import PxprepWarning, ops

# How far a blur may be from SciPy's in float64, in parts of the largest value of the image.
ROUNDING = {np.float32: 2e-6, np.float64: 1e-12}


def check(case):
    """Raise AssertionError, or what pxprep raises, unless every way gives the right answer."""
    if case.store is not None:
        from differential import stores  # needs SpatialData

        stores.check(case)
        return
    with quiet(), folder_of_its_own() as folder:
        pixels = [contents.pixels(picture, case.n_channels) for picture in case.pictures]
        expected, numbers = right_answer(case, pixels)
        first = None
        for index, way in enumerate(case.ways):
            try:
                with sizes.made_small(way.sizes), _scheduler(way.scheduler):
                    made = outcome(case, way, pixels, folder, numbers)
                compare(case, made, expected)
                first = made if first is None else first
                _same_bits(made, first)
            except Exception as error:
                error.add_note(f"in way {index}: {way}")
                raise


def right_answer(case, pixels):
    """Images in the order of the first one's channels, and numbers, by the oracle."""
    if case.batches is not None:
        return _by_batch(case, pixels), None
    order = list(case.order)
    masks = [contents.inside(m, p.size) for m, p in zip(case.masks, case.pictures, strict=True)]
    return reference.run(
        [_for_oracle(step, case) for step in case.steps],
        [array[order] for array in pixels],
        masks,
        case.pool,
        {"blur": held_blur, "nnls": held_least_squares},
    )


def _by_batch(case, pixels):
    """The images, each batch as if there were no other, channels as in the first one."""
    order = case.order
    right = [None] * len(pixels)
    for batch in set(case.batches):
        places = [place for place, own in enumerate(case.batches) if own == batch]
        pictures = [replace(case.pictures[place], order=order) for place in places]
        masks = tuple(case.masks[place] for place in places)
        steps = tuple(_only(step, places) for step in case.steps)
        alone = replace(
            case, pictures=tuple(pictures), masks=masks, steps=steps, ways=(), batches=None
        )
        images, _ = right_answer(alone, [pixels[place] for place in places])
        for place, image in zip(places, images, strict=True):
            right[place] = image
    return right


def _only(step, places):
    """A step as it is for some of the images."""
    if step.kind != "keep_where":
        return step
    where = tuple(step.parameters["where"][place] for place in places)
    return replace(step, parameters={**step.parameters, "where": where})


def _for_oracle(step, case):
    parameters = {name: plain(value) for name, value in step.parameters.items()}
    if step.kind == "keep_where":
        pairs = zip(parameters["where"], case.pictures, strict=True)
        parameters["where"] = [contents.inside(mask, picture.size) for mask, picture in pairs]
    return replace(step, parameters=parameters)


def held_blur(image, sigma):
    """The blur of pxprep, one image in memory at once, held to SciPy's up to rounding.

    So all else can be held to the last bit, also behind a blur.
    """
    dims = list("czyx") if image.ndim == 4 else list("cyx")
    made = ops.blur(xr.DataArray(image, dims=dims), sigma).values
    expected = oracle.blur(image, sigma)
    # Of values with different signs the mean may be near 0: its rounding is that of the values.
    values = np.abs(image.astype(np.float64))
    largest = float(values[np.isfinite(values)].max(initial=0))
    limits = np.finfo(expected.dtype)
    np.testing.assert_array_equal(np.isnan(made), np.isnan(expected), "NaN of a blur")
    if largest < limits.max / 4:
        atol = ROUNDING[expected.dtype.type] * largest + 64 * float(limits.smallest_subnormal)
        np.testing.assert_allclose(made, expected, rtol=0, atol=atol, err_msg="blur and SciPy")
    return made


def held_least_squares(image, matrix):
    """Likewise, `compensate` of an image all of whose channels are in the matrix."""
    dims = list("czyx") if image.ndim == 4 else list("cyx")
    numbers = range(len(matrix))
    spill = {one: dict(zip(numbers, row, strict=True)) for one, row in enumerate(matrix.tolist())}
    made = ops.compensate(xr.DataArray(image, dims=dims), spill).values
    expected = oracle.compensate(image, matrix)
    np.testing.assert_array_equal(np.isnan(made), np.isnan(expected), "NaN of least squares")
    limits = np.finfo(expected.dtype)
    largest = np.abs(image[np.isfinite(image)]).max(initial=0)
    if largest < limits.max / 4:
        atol = ROUNDING[expected.dtype.type] * largest + 64 * float(limits.smallest_subnormal)
        np.testing.assert_allclose(made, expected, rtol=0, atol=atol, err_msg="nnls and SciPy")
    return made


def outcome(case, way, pixels, folder, numbers):
    """The computed images of a case run in one way; what does not depend on pixels is checked."""
    runner = running.Runner(case, way, pixels, folder)
    boxed, measured = runner.run()
    way = runner.way
    images = holding.unboxed(boxed, way.box, len(case.pictures))
    for image, held in zip(images, way.holdings, strict=True):
        assert held.kind == "numpy" or image.chunks is not None, "a lazy image was computed"
    made = running.computed(images, way.together)
    if measured is not None and numbers is not None:
        compare_numbers(case, measured, numbers)
    if way.box == "scales":
        coarse = running.computed(holding.coarse_scales(boxed, len(made)), way.together)
        _check_scales(made, coarse)
    for image, given, array, picture in zip(
        made, runner.images, pixels, case.pictures, strict=True
    ):
        _check_labels(case, way, image, given)
        if given.chunks is None:
            own = array[list(picture.order)]
            assert np.array_equal(oracle.plain(given), own, equal_nan=True), "the input was changed"
            assert not np.may_share_memory(image.values, given.values)
    return made


def _check_labels(case, way, image, given):
    assert image.dims == given.dims, f"dims {image.dims} instead of {given.dims}"
    assert image.name == given.name
    assert image.attrs == given.attrs
    np.testing.assert_array_equal(image.y, given.y)
    left = case.seen_by[None]
    if case.labels != "none" or case.channels is not None or left != case.names:
        # A tree has the order of channels that each node has; others that of the first image.
        keeps_order = (
            way.box in ("tree", "scales") and case.channels is None and "c" in given.coords
        )
        own = given.c.values.tolist() if keeps_order else list(left)
        assert image.c.values.tolist() == [name for name in own if name in left]
    else:
        assert "c" not in image.coords


def _check_scales(finest, coarser):
    for fine, coarse in zip(finest, coarser, strict=True):
        factors = {dim: 2 if fine.sizes[dim] > 1 else 1 for dim in "yx"}
        expected = oracle.coarsen(oracle.plain(fine), factors)
        hold_to_means(oracle.plain(coarse), expected, oracle.plain(fine))


def hold_to_means(made, expected, values):
    """Raise AssertionError unless means of values are right up to the rounding of the values.

    Of values with different signs the mean may be near 0.
    """
    sizes = np.abs(values[np.isfinite(values)])
    atol = 2 * np.finfo(expected.dtype).eps * sizes.max(initial=0)
    np.testing.assert_allclose(made, expected, rtol=0, atol=atol)


def compare(case, made, expected):
    """Raise AssertionError unless all pixels are those of the oracle, to the last bit."""
    for number, (image, right) in enumerate(zip(made, expected, strict=True)):
        if "c" in image.coords:
            image = image.sel(c=list(case.seen_by[None]))
        got = oracle.plain(image)
        assert got.dtype == right.dtype, f"image {number}: {got.dtype} instead of {right.dtype}"
        wrong = ~((got == right) | (np.isnan(got) & np.isnan(right)))
        if wrong.any():
            place = tuple(int(n) for n in np.argwhere(wrong)[0])
            raise AssertionError(
                f"image {number}: {wrong.sum()} of {wrong.size} pixels are wrong; the first, at "
                f"{place}, is {got[place]!r} instead of {right[place]!r}"
            )


def _same_bits(made, first):
    for image, other in zip(made, first, strict=True):
        one, two = (np.ascontiguousarray(oracle.plain(array)) for array in (image, other))
        if "c" in image.coords:
            one, two = (
                np.ascontiguousarray(oracle.plain(array.sel(c=first[0].c.values)))
                for array in (image, other)
            )
        assert one.tobytes() == two.tobytes(), "two ways differ in the sign of a zero, or in NaNs"


def compare_numbers(case, measured, numbers):
    """Raise AssertionError unless the numbers of a fitted pipeline are the oracle's.

    NaN in channels that were dropped before.
    """
    pairs = [(step, name) for step, own in numbers.items() for name in own]
    assert set(measured.data_vars) == {f"{step}_{name}" for step, name in pairs}
    for step, name in pairs:
        made, right = measured[f"{step}_{name}"], numbers[step][name]
        if "c" in made.dims and right.shape[-1] < made.sizes["c"]:
            seen = [name in case.seen_by[step] for name in case.names]
            filled = np.full((*right.shape[:-1], len(seen)), np.nan)
            filled[..., seen] = right
            right = filled
        np.testing.assert_array_equal(made.values, right, err_msg=f"{step}_{name}")


def _scheduler(name):
    return nullcontext() if name == "client" else dask.config.set(scheduler=name)


@contextmanager
def quiet():
    """Drawn images have channels without signal, and values that overflow."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), xr.set_options(keep_attrs=True):
        warnings.simplefilter("ignore", PxprepWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", dask.array.core.PerformanceWarning)
        yield


@contextmanager
def folder_of_its_own():
    folder = mkdtemp()
    try:
        yield folder
    finally:
        rmtree(folder)
