"""Fixtures: an image of counts, and a cohort of them."""

import pytest

from count_images import counts_of


@pytest.fixture
def image():
    return counts_of(1)


@pytest.fixture
def cohort():
    return {f"fov{i}": counts_of(i, scale=1 + i) for i in range(3)}
