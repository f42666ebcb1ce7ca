"""How people write the size of a picture: width first, such as 64x48."""

from __future__ import annotations

import re

from videopoet.errors import ConfigError


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of a size such as 64x48, width first as everywhere.

    Raises:
        ConfigError: It is no such size.
    """
    found = re.fullmatch(r"(\d{1,5})[x*](\d{1,5})", text.strip().lower())
    if found is None:
        raise ConfigError(f"size '{text}' is none; width x height fits, such as 64x64; correct it", code="size_invalid")
    return int(found[2]), int(found[1])
