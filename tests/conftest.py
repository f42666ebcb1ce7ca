"""What every test may count on: one thread, no network, and fixtures for what is optional on a machine."""

import os
from pathlib import Path

# Before torch is imported: workers that share cores run many times slower with more threads than one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL_MEDIA = ROOT.parent / "shared" / "media"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_media() -> Path:
    """A folder of real clips, sounds and pictures beside the repository; the test is skipped where there is none."""
    if not REAL_MEDIA.is_dir():
        pytest.skip("no folder of real media beside the repository")
    return REAL_MEDIA
