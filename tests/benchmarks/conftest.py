import importlib
import sys

import pytest


@pytest.fixture
def benchmark(root, monkeypatch):
    """Imports a benchmark by its name, as `python benchmarks/NAME.py` would find what it imports."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module
    for path in (root / "benchmarks").glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)
