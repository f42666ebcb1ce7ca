"""The linter and the type checker find nothing, the lock holds what it should, and the citation is up to date."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import videopoet


def run(root: Path, *command: str) -> None:
    finished = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, timeout=840)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_ruff_finds_nothing(root):
    run(root, "ruff", "check", "--no-cache", ".")


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy core
def test_pyright_finds_nothing(root):
    package = importlib.util.find_spec("pyright")
    if package is None or not shutil.which("node"):
        pytest.skip("pyright would fetch its runtime from the network")
    run(root, "pyright", "--pythonpath", sys.executable)


def locked(text: str) -> dict[str, str]:
    """Package names and versions of a requirements file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def test_the_lock_leaves_torch_and_its_cuda_packages_to_the_machine(root):
    packages = locked((root / "requirements" / "lock.txt").read_text())
    assert not [name for name in packages if re.match(r"(torch|torchvision|torchaudio|triton|nvidia.*|cuda.*)$", name)]


def test_the_lock_holds_what_torch_itself_needs(root):
    needs = re.findall(r"^([\w-]+)", (root / "requirements" / "torch.in").read_text(), flags=re.MULTILINE)
    assert needs and set(needs) <= locked((root / "requirements" / "lock.txt").read_text()).keys()


def test_what_a_clip_needs_is_a_part_of_the_lock(root):
    core, lock = (locked((root / "requirements" / name).read_text()) for name in ("core.txt", "lock.txt"))
    assert core.items() <= lock.items()
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", each).group() for each in declared}
    assert names - {"torch"} <= core.keys()


def test_every_locked_package_has_hashes_and_no_index_is_named(root):
    text = "".join((root / "requirements" / name).read_text() for name in ("core.txt", "lock.txt"))
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 40
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_citation_names_this_version(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["version"] == videopoet.__version__
