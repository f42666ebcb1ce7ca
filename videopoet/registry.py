"""Components found by name: the name in a config is the name of the file that holds the component."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil

from videopoet.errors import ConfigError


def names(folder: str) -> list[str]:
    """The components in an extension folder, such as `tokenizers` or `generation.decoders`."""
    package = importlib.import_module(f"videopoet.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "base")


def component(folder: str, name: str) -> type:
    """The class that `videopoet/<folder>/<name>.py` adds: its one public subclass of a class in `base.py`.

    Raises:
        ConfigError: No file of that name in the folder.
    """
    known = names(folder)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        raise ConfigError(
            f"unknown component '{name}' in {folder}; there are {', '.join(close or known)}; correct the name",
            code="component_unknown",
        )
    module = importlib.import_module(f"videopoet.{folder}.{name}")
    base = importlib.import_module(f"videopoet.{folder}.base")
    contracts = tuple(
        value for value in vars(base).values() if inspect.isclass(value) and value.__module__ == base.__name__
    )
    (found,) = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and issubclass(value, contracts)
    ]
    return found
