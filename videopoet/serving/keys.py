"""Who may ask: keys from a file or from the environment. They are compared in constant time, by their hashes."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from videopoet.errors import ConfigError, TaskError

KEYS_VARIABLE = "VIDEOPOET_API_KEYS"
WRONG_KEYS = 30
"""So many wrong keys a minute are answered from one address; those beyond are told to wait."""


class Keys:
    """The keys that a server takes; without any, everyone is the same owner.

    Args:
        keys: Secrets, of at least 16 characters.

    Raises:
        ConfigError: One is too short to be secret.
    """

    def __init__(self, keys: Iterable[str] = ()):
        self._hashes = []
        for key in keys:
            if len(key) < 16 or not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"an API key has {len(key)} characters; 16 or more printable ASCII characters are needed; make one "
                    "with `openssl rand -hex 24`",
                    code="key_weak",
                )
            self._hashes.append(hashlib.sha256(key.encode()).digest())
        self._wrong: dict[str, list[float]] = {}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, authorization: bytes | None, address: str) -> str:
        """Who the bearer of a key is: part of the key's hash.

        Raises:
            TaskError: There is no key, or it is wrong, or too many from that address were.
        """
        if not self._hashes:
            return ""
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise TaskError(
                "the request has no API key; this server takes requests with one; send `Authorization: Bearer KEY`",
                code="key_missing",
            )
        digest = hashlib.sha256(key.strip()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._hashes]  # all of them, always
        if any(matches):
            return digest.hex()[:16]
        now = time.monotonic()
        recent = [moment for moment in self._wrong.pop(address, []) if now - moment < 60]
        if len(recent) >= WRONG_KEYS:
            self._wrong[address] = recent
            raise TaskError(
                f"{len(recent)} wrong API keys came from here within a minute; the most is {WRONG_KEYS}; wait a minute",
                code="too_many_attempts",
            )
        while len(self._wrong) >= 1000:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = [*recent, now]
        raise TaskError("the API key is not one that this server knows; check it", code="key_wrong")


def read_keys(path: Path | None) -> list[str]:
    """The keys of a file and of the environment; never those of a command line, which other users can see.

    Raises:
        PermissionError: Others can read the file.
        ConfigError: It holds none.
    """
    keys = os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
    if path is None:
        return keys
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        error = PermissionError(errno.EACCES, "other users can read the file of keys", path.name)
        error.add_note("only its owner may; chmod 600 it")
        raise error
    found = [line.strip() for line in path.read_text().splitlines()]
    found = [line for line in found if line and not line.startswith("#")]
    if not found:
        raise ConfigError(
            f"the key file '{path.name}' holds none; one key a line is needed; make it with `openssl rand -hex 24`",
            code="keys_empty",
        )
    return keys + found
