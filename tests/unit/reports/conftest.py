"""Synthetic result documents for the report tests."""

from types import ModuleType

import pytest

from tests import synthetic_result


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The builder module in tests/synthetic_result.py."""
    return synthetic_result
