"""Imports point one way, as the map in `docs/architecture.md` says, and nothing runs what it reads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

# A module imports only from rows above its own. Parts that share a row never import one another.
ROWS = (
    ("errors",),
    ("config",),
    ("registry",),
    ("checkpoint", "locks"),
    ("pretrained",),
    ("runtime",),
    ("ranks",),
    ("media", "nn"),
    ("tokenizers", "text_encoders", "sequence", "models"),
    ("data", "generation"),
    ("training", "evaluation", "writers"),
    ("videopoet",),  # the package's own __init__: what a user imports
    ("serving",),
    ("presets",),
    ("cli",),
    ("__main__",),
)
ROW = {part: number for number, row in enumerate(ROWS) for part in row}
DOTTED = re.compile(r"videopoet(\.[A-Za-z_]\w*)+")
FORBIDDEN = re.compile(
    r"pickle|torch\.load\(|yaml\.load\(|(?<![\w.])(eval|exec)\(|shell=True|os\.system|extractall|trust_remote_code"
)


def imported(tree: ast.AST, module: str, is_package: bool) -> set[str]:
    """Dotted names under `videopoet` that a module names: in imports at any depth, in text, or through the registry."""
    found = set()
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=source, names=aliases, level=level):
                if level:
                    parents = package.split(".")[: len(package.split(".")) - level + 1]
                    source = ".".join([*parents, *([source] if source else [])])
                found |= {f"{source}.{alias.name}" for alias in aliases}
            case ast.Constant(value=str(text)) if DOTTED.fullmatch(text) and not text.endswith(".json"):
                found.add(text)
            case ast.Call(func=ast.Name(id="component" | "names"), args=[ast.Constant(value=str(folder)), *_]):
                found.add(f"videopoet.{folder}")
    return {name for name in found if name.split(".")[0] == "videopoet" and name != "videopoet.__version__"}


def part(name: str) -> str:
    """The part of the map that a dotted name belongs to; what is on no row of it is the package's `__init__`."""
    return next((piece for piece in name.split(".")[1:2] if piece in ROW), "videopoet")


def violations(package: Path) -> list[str]:
    """Every import under `package`, a folder named `videopoet`, that goes against the rows."""
    against = []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package.parent).with_suffix("")
        module = ".".join(place.parts).removesuffix(".__init__")
        if module != "videopoet" and module.split(".")[1] not in ROW:
            against.append(f"{module} is not on the map")
            continue
        for name in sorted(imported(ast.parse(file.read_text()), module, file.name == "__init__.py")):
            own, other = part(module), part(name)
            if own != other and ROW[other] >= ROW[own]:
                against.append(f"{module} imports {name}")
    return against


def test_imports_point_one_way(root):
    assert violations(root / "videopoet") == []


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("nn/attention.py", "from videopoet.models import language_model", "videopoet.models.language_model"),
        ("nn/attention.py", "def f():\n    import videopoet.media.files", "videopoet.media.files"),
        ("tokenizers/magvit_v2.py", "from ..sequence.tasks import TASKS", "videopoet.sequence.tasks.TASKS"),
        ("tokenizers/magvit_v2.py", "from .. import models", "videopoet.models"),
        ("config.py", "from videopoet import registry", "videopoet.registry"),
        ("generation/pipeline.py", "f('videopoet.data.toybox')", "videopoet.data.toybox"),
        ("models/language_model.py", "component('text_encoders', name)", "videopoet.text_encoders"),
        ("evaluation/evaluate.py", "if x:\n    from videopoet.training import loop", "videopoet.training.loop"),
        ("training/loop.py", "from videopoet import VideoPoet", "videopoet.VideoPoet"),
        ("presets.py", "import videopoet.cli", "videopoet.cli"),
    ],
)
def test_an_import_against_the_rows_is_found(tmp_path, module, line, expected):
    file = tmp_path / "videopoet" / module
    file.parent.mkdir(parents=True)
    file.write_text(line)
    name = "videopoet." + module.removesuffix(".py").replace("/", ".")
    assert violations(tmp_path / "videopoet") == [f"{name} imports {expected}"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("training/loop.py", "from videopoet.data import mixture\nfrom . import journal\nimport videopoet.checkpoint"),
        ("generation/pipeline.py", "from videopoet import __version__\nfrom ..models.language_model import Config"),
        ("tokenizers/magvit_v2.py", "from .base import VideoTokenizer\nfrom ..media.types import Video"),
        ("__init__.py", "HOME = 'videopoet.generation.pipeline'\nfrom . import errors"),
        ("cli/train.py", "from videopoet import VideoPoet\nfrom videopoet.presets import PRESETS"),
    ],
)
def test_an_import_along_the_rows_passes(tmp_path, module, line):
    file = tmp_path / "videopoet" / module
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    assert violations(tmp_path / "videopoet") == []


def test_a_module_off_the_map_is_found(tmp_path):
    (tmp_path / "videopoet").mkdir()
    (tmp_path / "videopoet" / "extras.py").touch()
    assert violations(tmp_path / "videopoet") == ["videopoet.extras is not on the map"]


def test_modules_are_named_for_what_is_in_them(root):
    stems = {path.stem for path in (root / "videopoet").rglob("*") if path.is_dir() or path.suffix == ".py"}
    assert not stems & {"utils", "helpers", "common"}


def dangers(source: str) -> list[str]:
    """Lines of code, comments and docstrings aside, that could run what they read."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return [line.strip() for line in ast.unparse(tree).splitlines() if FORBIDDEN.search(line)]


def test_no_code_runs_what_it_reads(root):
    files = [*(root / "videopoet").rglob("*.py"), *(root / "benchmarks").rglob("*.py"), root / "vp.py"]
    assert {str(file): found for file in files if (found := dangers(file.read_text()))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "torch.load(path)",
        "yaml.load(text)",
        "x = eval(text)",
        "exec(text)",
        "run(command, shell=True)",
        "os.system(command)",
        "archive.extractall(folder)",
        "load(name, trust_remote_code=True)",
    ],
)
def test_code_that_runs_what_it_reads_is_found(line):
    assert dangers(line) == [line]


def test_the_scan_passes_what_only_looks_alike():
    assert dangers('"""No pickle."""\nmodel.eval()\nyaml.safe_load(text)  # not yaml.load(text)\n') == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("videopoet", ("torch", "pydantic", "transformers", "av", "numpy", "typer")),
        ("videopoet.cli", ("torch", "pydantic", "transformers", "av", "numpy")),
        ("videopoet.errors", ("torch", "pydantic")),
        ("videopoet.registry", ("torch",)),
        ("videopoet.sequence.tasks", ("torch",)),
    ],
)
def test_importing_stays_light(module, heavy):
    code = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout.strip()) == (0, ""), finished.stderr + finished.stdout
