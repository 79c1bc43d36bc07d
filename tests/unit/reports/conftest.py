"""Synthetic result documents for the report tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The builder module in tests/synthetic_result.py."""
    path = Path(__file__).parents[2] / "synthetic_result.py"
    spec = importlib.util.spec_from_file_location("synthetic_result_for_units", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
