"""What every request passes first: names of hosts, keys, foreign pages and the size of bodies; and headers of answers.

A body is counted as it arrives, whatever its header claims.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videopoet.errors import TaskError, VideoPoetError
from videopoet.serving import failures
from videopoet.serving.keys import Keys

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/health", "/ready", "/", "/favicon.ico")
OPEN_PREFIX = "/studio/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
BODY_SECONDS = 120.0
"""The longest that a body may take to arrive."""
MOST_RANGES = 5
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _PAGE_POLICY.encode()),
)


class Guard:
    """An ASGI application in front of another.

    Args:
        app: The one behind.
        hosts: Names that a request may call this server by, besides those of the loopback.
        keys: Who may ask.
        most_bytes: Of a body.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], keys: Keys, most_bytes: int):
        self.app, self.keys, self.most_bytes = app, keys, most_bytes
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in HEADERS if pair[0] not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            self._check(scope)
            receive = _Counted(receive, self.most_bytes)
        except VideoPoetError as error:
            await failures.answer(error)(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = headers.get(b"host", [])
        if len(host) != 1 or _host(f"//{host[0].decode('latin-1')}") not in self.hosts:
            raise TaskError(
                "the request calls this server by a name that it does not know; its own address fits; start it with "
                "--allow-host NAME for another",
                code="host_unknown",
            )
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(headers)
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIX):
            owner = ""
        else:
            address = (scope.get("client") or ("unknown", 0))[0]
            owner = self.keys.owner(headers.get(b"authorization", [None])[0], address)
        scope.setdefault("state", {})["owner"] = owner
        if headers.get(b"content-encoding", [b"identity"]) != [b"identity"]:
            raise TaskError(
                "the body is compressed; this server takes bodies as they are; send it without Content-Encoding",
                code="content_encoding",
            )
        length = headers.get(b"content-length", [b"0"])[0]
        if not length.isdigit() or int(length[:20]) > self.most_bytes:
            raise too_large(self.most_bytes)
        # Many ranges make one answer expensive, and no player asks for more than one.
        if headers.get(b"range", [b""])[0].count(b",") >= MOST_RANGES or len(headers.get(b"range", [b""])[0]) > 200:
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]

    def _check_origin(self, headers: dict[bytes, list[bytes]]) -> None:
        """A page of another site can make a browser send us forms; it cannot hide where they come from."""
        origin = headers.get(b"origin", [None])[0]
        foreign = headers.get(b"sec-fetch-site", [b"none"])[0] in (b"cross-site", b"same-site")
        if foreign or (origin is not None and _host(origin.decode("latin-1")) not in self.hosts):
            raise TaskError(
                "the request comes from a page of another site; only pages of this server may change anything; use "
                "the API from a program, or the studio",
                code="origin_foreign",
            )


class _Counted:
    """Receives a body, and ends it where it becomes too large or takes too long."""

    def __init__(self, receive: Receive, most_bytes: int):
        self.receive, self.most_bytes, self.so_far, self.began = receive, most_bytes, 0, time.monotonic()
        self.whole = False

    async def __call__(self) -> Message:
        if self.whole:
            return await self.receive()  # now only a disconnect can come, and may take as long as it likes
        try:
            async with asyncio.timeout(max(0.0, self.began + BODY_SECONDS - time.monotonic())):
                message = await self.receive()
        except TimeoutError:
            raise TaskError(
                f"the body did not arrive within {BODY_SECONDS:g} seconds; that is the most it may take; send less",
                code="body_timeout",
            ) from None
        self.so_far += len(message.get("body", b""))
        if self.so_far > self.most_bytes:
            raise too_large(self.most_bytes)
        self.whole = not message.get("more_body", False)
        return message


def too_large(most_bytes: int) -> TaskError:
    """The refusal of a body."""
    return TaskError(
        f"the body is larger than {most_bytes / 2**20:g} MiB, the most that this server takes; send a shorter or "
        "smaller file",
        code="body_too_large",
    )


def _host(url: str) -> str | None:
    try:
        return (urlsplit(url).hostname or "").lower().rstrip(".") or None
    except ValueError:
        return None
