"""Giving back what reading a long log took: the C library keeps freed memory for itself."""

import ctypes


def give_back() -> None:
    """Let glibc return free memory to the system; other C libraries do so by themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
