"""A writer behind an address: any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from videopoet.errors import ConfigError, TaskError
from videopoet.writers.base import ChatWriter, Message

KEY_VARIABLE = "VIDEOPOET_WRITER_KEY"
SECONDS = 120.0
"""How long an answer may take."""
LARGEST_ANSWER = 1 << 20
"""Bytes."""


class Endpoint(ChatWriter):
    """Asks `URL/chat/completions`.

    Args:
        url: Of the API, such as http://127.0.0.1:8080/v1.
        model: The name that the server has for the model.
        key_variable: The environment variable with the key; where it is not set, none is sent.
        seconds: How long an answer may take.
        how: As `ChatWriter`.

    Raises:
        ConfigError: The address is none of http or https.
    """

    def __init__(self, url: str, model: str, *, key_variable: str = KEY_VARIABLE, seconds: float = SECONDS, **how: Any):
        super().__init__(**how)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError(
                f"the writer's address is '{url[:80]}'; http:// or https:// and a host fit, without a name or key in "
                "it; correct it",
                code="writer_url_invalid",
            )
        self._url, self._host = f"{url.rstrip('/')}/chat/completions", parts.netloc
        self._model, self._key_variable, self._seconds = model, key_variable, seconds

    @property
    def name(self) -> str:
        return f"{self._model} at {self._host}"

    def answer(self, messages: list[Message]) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self._key_variable, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"model": self._model, "messages": messages}).encode()
        request = urllib.request.Request(self._url, body, headers)
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=self._seconds) as answer:
                text = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refused(error.code) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            reason = "it took too long" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
            raise TaskError(
                f"the writer at {self._host} cannot be reached ({reason[:120]}); a server that speaks OpenAI's chat "
                "completions must listen there; start it, check the address, or leave it out for the built-in writer",
                code="writer_unreachable",
            ) from None
        try:
            said = json.loads(text)["choices"][0]["message"]["content"]
            if len(text) > LARGEST_ANSWER or not isinstance(said, str):
                raise ValueError
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise TaskError(
                f"the writer at {self._host} answered, but not as chat completions do; the address of such an API "
                "fits, which often ends in /v1; check it",
                code="writer_protocol",
            ) from None
        return said

    def _refused(self, status: int) -> TaskError:
        remedy = {
            401: f"put a key that it accepts into {self._key_variable}",
            403: f"put a key that it accepts into {self._key_variable}",
            404: "check the address, which often ends in /v1, and the model's name",
            429: "it has too much to do, or the key's allowance is used up; ask later",
        }.get(status, "check the address and the model's name, or see its log")
        return TaskError(
            f"the writer at {self._host} answered {status} for the model '{self._model[:60]}'; 200 is needed; {remedy}",
            code="writer_refused",
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key must not follow to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None
