"""What pipelines look like in JSON, and in YAML: the version, keys, and names that are left out."""

from collections.abc import Container

# The version of the texts in which pipelines are kept, in JSON as in YAML.
FORMAT = 1
# A key of fitted pipelines, only where images were measured in batches.
BATCHES = "batches"


def free_name(kind: str, taken: Container[str]) -> str:
    """The name of a step of this kind that was given none: the second is ``kind_2``."""
    name, count = kind, 1
    while name in taken:
        count += 1
        name = f"{kind}_{count}"
    return name
