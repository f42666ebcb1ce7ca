"""Every error as an answer: the one place that turns the five classes of errors, and their codes, into statuses."""

from __future__ import annotations

import errno
import json
import logging
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from videopoet.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MediaError,
    TaskError,
    VideoPoetError,
    is_out_of_memory,
)
from videopoet.serving.bodies import broken_json

log = logging.getLogger("videopoet.serving")
BY_CLASS = {ConfigError: 400, TaskError: 400, MediaError: 400, DataError: 500, CheckpointError: 503}
BY_CODE = {
    "key_missing": 401,
    "key_wrong": 401,
    "host_unknown": 403,
    "origin_foreign": 403,
    "job_unknown": 404,
    "model_unknown": 404,
    "route_unknown": 404,
    "variant_missing": 404,
    "body_timeout": 408,
    "not_finished": 409,
    "already_ended": 409,
    "body_too_large": 413,
    "media_type_unsupported": 415,
    "media_unrecognised": 415,
    "content_type": 415,
    "content_encoding": 415,
    "type": 422,
    "unknown_field": 422,
    "json_invalid": 422,
    "too_many_attempts": 429,
    "queue_full": 429,
    "internal": 500,
    "worker_lost": 500,
    "not_ready": 503,
    "queue_busy": 503,
    "queue_unreachable": 503,
    "library_missing": 503,
    "timeout": 504,
    "disk_full": 507,
    "out_of_memory": 507,
}
RETRY_AFTER = {429: "5", 503: "5"}
_OF_HTTP = {
    404: ("route_unknown", "there is no such address here; /openapi.json lists those there are; check it"),
    405: ("method_not_allowed", "this address does not take that method; /openapi.json says which it takes; use that"),
    413: ("body_too_large", "the request is larger than this server takes; send a smaller or shorter file"),
}
_INTERNAL = "something went wrong inside the server; its log says what; try again, and report it if it comes back"


def status_of(error: VideoPoetError) -> int:
    """The status of an error: its code's if that has one, else its class's."""
    return BY_CODE.get(error.code, next((status for kind, status in BY_CLASS.items() if isinstance(error, kind)), 400))


def described(error: VideoPoetError, param: str | None = None) -> dict[str, Any]:
    """An error as the body of an answer says it."""
    return envelope(status_of(error), error.code, str(error), param)


def envelope(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of an answer about an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"type": kind, "code": code, "message": message, "param": param}}


def answer(error: VideoPoetError, param: str | None = None) -> JSONResponse:
    """The answer about an error."""
    status = status_of(error)
    headers = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    if status in (408, 413):
        headers["Connection"] = "close"  # what is still coming of the body is not read
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(described(error, param or getattr(error, "param", None)), status, headers)


def as_ours(error: Exception) -> VideoPoetError | None:
    """An error of the machine as one of ours, without paths; None where it is a fault of the code."""
    if isinstance(error, VideoPoetError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError("the server's disk is full; the result finds no place; free some space", code="disk_full")
    if is_out_of_memory(error):
        whose = "server" if isinstance(error, MemoryError) or "CPUAllocator" in str(error) else "server's device"
        return DataError(
            f"the work needs more memory than the {whose} has free; ask for a shorter or smaller clip",
            code="out_of_memory",
        )
    return None


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for what an address raises."""
    ours = as_ours(error)
    if ours is not None:
        return answer(ours)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        name, reason = str(first["loc"][-1])[:60], first["msg"]
        if first["type"] == "json_invalid":  # its place is the number of a character
            return answer(broken_json(json.JSONDecodeError(first["ctx"]["error"], error.body, first["loc"][-1])))
        if first["type"] == "extra_forbidden":
            return answer(
                TaskError(
                    f"unknown field '{name}'; /openapi.json lists those there are; correct the name or leave it out",
                    code="unknown_field",
                ),
                name,
            )
        message = f"{name} is {str(first['input'])[:60]!r}; {reason[:1].lower()}{reason[1:]}; correct it"
        return JSONResponse(envelope(422, "type", message, name), 422)
    if isinstance(error, HTTPException):
        code, message = _OF_HTTP.get(error.status_code, ("request_invalid", "the request cannot be read; correct it"))
        return JSONResponse(envelope(error.status_code, code, message), error.status_code, error.headers)
    log.error("%s %s met a fault", request.method, request.scope["path"], exc_info=error)
    return JSONResponse(envelope(500, "internal", _INTERNAL), 500)
