"""Runs operations over the pixels of NumPy and Dask arrays, block by block."""
