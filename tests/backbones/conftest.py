import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    """The program that anyone can compare a folder with, as a module."""
    pytest.importorskip("diffusers")
    path = Path(__file__).parents[2] / "tools" / "compare_with_diffusers.py"
    spec = importlib.util.spec_from_file_location("compare_with_diffusers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
