"""Pixels that come in pieces of any size and layout: each part is read once, in order."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counted_images import some_values
from pxprep.engine.windows import Pixels, Window

# Pixels in pieces


def laid_out(array, layout):
    """An equal array in another layout."""
    if layout == "C":
        return array.copy()
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "every other":
        return np.repeat(array, 2, axis=3)[..., ::2]
    if layout == "view":
        return np.pad(array, 1)[1:-1, 1:-1, 1:-1, 1:-1]
    if layout == "channels last":
        return np.ascontiguousarray(array.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    return array.astype(array.dtype.newbyteorder())


LAYOUTS = ["C", "F", "every other", "view", "channels last", "swapped"]


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(["f4", "f8", "u2", "u1", "i4"]), st.sampled_from(["f4", "f8"]))
def test_pixels_in_pieces_of_any_layout(data, kind, wanted):
    sizes = st.integers(1, 8)
    height, width, n_channels, planes = (data.draw(sizes) for _ in range(4))
    n_channels, planes = min(n_channels, 3), min(planes, 2)
    block = some_values(kind, (n_channels, planes, height, width), seed=height)
    origin = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))

    def cuts(size):
        inner = data.draw(st.sets(st.integers(1, size - 1), max_size=3)) if size > 1 else set()
        return list(itertools.pairwise([0, *sorted(inner), size]))

    pieces = [
        (
            first,
            Window(top + origin[0], bottom + origin[0], left + origin[1], right + origin[1]),
            laid_out(block[first:last, :, top:bottom, left:right], data.draw(layouts)),
        )
        for layouts in [st.sampled_from([name for name in LAYOUTS if name != "swapped"])]
        for top, bottom in cuts(height)
        for left, right in cuts(width)
        for first, last in cuts(n_channels)
    ]
    pixels = Pixels(data.draw(st.permutations(pieces)), n_channels)
    (top, bottom), (left, right) = (
        sorted(data.draw(st.sets(st.integers(0, size), min_size=2, max_size=2)))
        for size in (height, width)
    )
    window = Window(top + origin[0], bottom + origin[0], left + origin[1], right + origin[1])
    expected = block[:, :, top:bottom, left:right]
    assert_parts_are(pixels, window, expected, wanted)
    found = pixels.read(window)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def assert_parts_are(pixels, window, expected, wanted):
    for channels in (None, range(len(expected)), range(1, len(expected)), range(1)):
        own = range(len(expected)) if channels is None else channels
        seen, last = np.zeros(expected.shape, int), np.full(expected.shape[1:], -1)
        for part in pixels.stretches(window, np.dtype(wanted), channels):
            assert part.values.ndim == 1
            assert part.values.flags.c_contiguous
            assert not part.values.flags.writeable
            assert part.values.dtype.isnative
            is_float = expected.dtype.kind == "f"
            assert part.values.dtype == (wanted if is_float else expected.dtype.newbyteorder("="))
            n_channels, planes, height, width = part.shape
            assert part.channels == range(part.first_channel, part.first_channel + n_channels)
            place = slice(part.row, part.row + height), slice(part.column, part.column + width)
            for channel, plane, row in itertools.product(
                part.channels, range(planes), range(height)
            ):
                start = part.at(channel, plane) + row * part.strides[2]
                values = part.values[start : start + width]
                assert values.size == width
                mine = expected[channel, plane][place][row]
                np.testing.assert_array_equal(values, mine.astype(values.dtype))
            for channel in part.channels:
                seen[(channel, slice(None), *place)] += 1
                assert (last[(slice(None), *place)] < channel).all(), "in the order of channels"
                last[(slice(None), *place)] = channel
        chosen = np.isin(np.arange(len(expected)), own)
        assert (seen[chosen] == 1).all(), "each pixel comes once"
        assert (seen[~chosen] == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_in_one_piece(layout):
    for kind in ("f4", "f8", "u2"):
        block = some_values(kind, (2, 2, 9, 7))
        pixels = Pixels.of(laid_out(block, layout), Window(5, 14, 3, 10))
        window, expected = Window(7, 13, 4, 10), block[:, :, 2:8, 1:7]
        np.testing.assert_array_equal(pixels.read(window), expected)
        assert_parts_are(pixels, window, expected, "f4")
