"""Configs that check themselves: frozen, closed to unknown keys, explained field by field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from videopoet.errors import ConfigError

AtLeastOne = Annotated[int, Field(ge=1)]
"""For each of several numbers, such as strides."""


class BaseConfig(BaseModel):
    """A component's settings. A wrong or unknown key raises `ConfigError` on construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(type(self), error), code="config_invalid") from None

    # Pydantic then builds configs inside of others by itself, and an error names the whole path of its key.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain JSON values, nested configs included."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error), code="config_invalid") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return self.model_dump(mode="json")

    def explained(self) -> str:
        """The same as YAML, a line for each setting, which ends with what its field says of it."""
        return "\n".join(_lines(self)) + "\n"


C = TypeVar("C", bound=BaseConfig)


def override(config: C, assignments: list[str]) -> C:
    """Apply dotted assignments such as `optimizer.learning_rate=3e-4` and check the result.

    Raises:
        ConfigError: An assignment without `=`, an unknown key, or a value that does not fit.
    """
    values = config.to_dict()
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(f"'{assignment}' sets nothing; write key=value, such as seed=3", code="config_assignment")
        *parents, leaf = path.strip().split(".")
        place = values
        for depth, key in enumerate([*parents, leaf]):
            if not isinstance(place, dict) or key not in place:
                close = difflib.get_close_matches(key, place, n=3) if isinstance(place, dict) else []
                known = ", ".join(close or sorted(place)) if isinstance(place, dict) else "nothing below it"
                where = ".".join(path.split(".")[:depth]) or "the config"
                raise ConfigError(
                    f"unknown config key '{path}'; {where} has: {known}; see `videopoet train --dry-run`",
                    code="config_unknown_key",
                )
            if depth < len(parents):
                place = place[key]
        place[leaf] = _parse(text)
    return type(config).from_dict(values)


def _lines(config: BaseConfig) -> list[str]:
    lines, plain = [], config.to_dict()
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        comment = f"  # {' '.join(field.description.split())}" if field.description else ""
        if isinstance(value, BaseConfig):
            lines += [f"{name}:{comment}", *(f"  {line}" for line in _lines(value))]
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseConfig):
            lines.append(f"{name}:{comment}")
            for first, *others in map(_lines, value):
                lines += [f"  - {first}", *(f"    {line}" for line in others)]
        else:  # JSON, which is YAML in one line, as `override` takes it
            lines.append(f"{name}: {json.dumps(plain[name], ensure_ascii=False)}{comment}")
    return lines


def _parse(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(config: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] == "extra_forbidden":
        known = _inside(config, first["loc"][:-1]).model_fields
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=3)
        return f"unknown config key '{place}'; the keys are {', '.join(close or known)}; correct the name"
    if first["type"] == "missing":
        return f"config key '{place}' is missing; it has no default; give it a value"
    message = first["msg"].removeprefix("Value error, ")
    return f"config key '{place}' is {first['input']!r}; {message[0].lower()}{message[1:]}; correct the value"


def _inside(config: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """The config that a path of keys leads to; numbers of a list stand for what is in it."""
    for key in path:
        if isinstance(key, str) and key in config.model_fields:
            config = next(_configs(config.model_fields[key].annotation), config)
    return config


def _configs(annotation: Any) -> Iterator[type[BaseModel]]:
    """The configs in a type, such as that of a list of them, or of one or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _configs(part)
