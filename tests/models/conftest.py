"""Fixtures of the model tests."""

import pytest

from models.kernel.tile import Kernel


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The compiled pricing kernels, once for all tests."""
    return Kernel.warm()
