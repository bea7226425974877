"""Numba kernels on NumPy arrays: short loops that release the GIL and are cached on disk.

`error_model="numpy"` lets divisions vectorise, and none uses `fastmath` or `parallel`: every pixel
sees the same operations in the same order wherever it lies in a block, and callers bring the
threads.
"""
