"""Pixels that were kept, as a table, sampled: what a clustering takes."""

from .pixels import pixel_table

__all__ = ["pixel_table"]
