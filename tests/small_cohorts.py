"""Cohorts of small images that differ in size and brightness."""


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
