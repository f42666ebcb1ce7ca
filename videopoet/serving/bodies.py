"""Bodies of requests, JSON or multipart, as plain fields and files; and media that a field holds in other ways.

Uploads go to files of ours as they arrive. Nothing is ever fetched: a URL is refused, unless it is `data:` and holds
the bytes itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from videopoet.errors import MediaError, TaskError
from videopoet.media import formats
from videopoet.serving.storage import Storage

MEDIA_FIELDS = ("input_reference", "image", "video", "audio", "mask", "depth")
MOST_PARTS = 64
MOST_FILES = len(MEDIA_FIELDS)
MOST_TEXT_BYTES = 1 << 20
_BRACKETS = re.compile(r"([a-z_]{1,40})\[([a-z_]{1,40})\]")
_URL_KEYS = ("image_url", "video_url", "audio_url", "url")


@dataclass
class Body:
    """What a request says, and the files that it brings, by field."""

    fields: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)


@asynccontextmanager
async def read(request: Request, storage: Storage) -> AsyncIterator[Body]:
    """The body; files that nobody has taken by the end are deleted.

    Raises:
        TaskError: It is neither JSON nor multipart, or broken, or its sender has hung up.
        MediaError: A file is of no kind that is read.
    """
    body = Body({})
    try:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            await _read_form(request, storage, body)
        elif kind == "application/json" or kind.endswith("+json"):
            body.fields = parse_json(await _bytes(request))
            await run_in_threadpool(_take_data_urls, body, storage)
        else:
            raise TaskError(
                f"the body is {kind[:60] or 'of no stated type'}; application/json and multipart/form-data fit; "
                "state one of them as Content-Type",
                code="content_type",
            )
        yield body
    except ClientDisconnect:
        raise TaskError(
            "the client hung up before the body was whole; a whole one is needed; send it again", code="client_gone"
        ) from None
    finally:
        for file in body.files.values():
            file.unlink(missing_ok=True)


def parse_json(data: bytes, what: str = "the body") -> dict[str, Any]:
    """A JSON object; `what` is what messages call it.

    Raises:
        TaskError: It is something else.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise broken_json(error, what) from None
    except UnicodeDecodeError as error:
        raise TaskError(f"{what} is no text at byte {error.start}; encode it as UTF-8", code="json_invalid") from None
    except (ValueError, RecursionError):
        raise TaskError(
            f"{what} is nested too deeply, or a number in it has too many digits; make it simpler", code="json_invalid"
        ) from None
    if not isinstance(value, dict):
        raise TaskError(
            f"{what} is not a JSON object; one with the fields of the request fits; correct it", code="json_invalid"
        )
    return value


def broken_json(error: json.JSONDecodeError, what: str = "the body") -> TaskError:
    """Where text stops being JSON, and why."""
    why = error.msg.removesuffix(" at").removesuffix(" starting")
    return TaskError(
        f"{what} is no JSON at line {error.lineno}, column {error.colno}: {why[:1].lower()}{why[1:]}; correct it there",
        code="json_invalid",
    )


def kind_of(file: Path) -> str:
    """What a file is, by its content: image, or video for all else that is read, sound included.

    Raises:
        MediaError: It is of a kind that is not read.
    """
    with file.open("rb") as stream:
        found = formats.sniff(head := stream.read(formats.HEAD_BYTES))
    if not head:
        raise MediaError("an uploaded file has no bytes; a whole file is needed; choose it again", code="media_empty")
    if found is None or not found.accepted:
        raise MediaError(
            f"an uploaded file is {'no kind of media known here' if found is None else found.name}; "
            f"{formats.ACCEPTED} are read; convert it to one of them",
            code="media_type_unsupported",
        )
    if found.name in ("wav", "flac", "mp3", "ogg"):
        return "audio"
    return "image" if found.picture and found.name != "gif" else "video"


def reference(value: Any, name: str) -> str | None:
    """The id of the job whose result a field names, as `{"id": ...}`; None where the field holds words.

    Raises:
        TaskError: It names something else.
    """
    if isinstance(value, dict) and set(value) == {"id"} and isinstance(value["id"], str):
        return value["id"]
    if isinstance(value, str) and name == "mask":
        return None
    raise TaskError(
        f'{name} is neither an uploaded file, nor {{"id": "video_..."}} of a result, nor {{"url": "data:..."}} with '
        "the file itself; other addresses are never fetched; send the file",
        code="media_unreadable",
    )


async def _read_form(request: Request, storage: Storage, body: Body) -> None:
    async with request.form(max_files=MOST_FILES, max_fields=MOST_PARTS, max_part_size=MOST_TEXT_BYTES) as form:
        for name, value in form.multi_items():
            inside = _BRACKETS.fullmatch(name)
            if inside and isinstance(value, str):  # how clients write {"video": {"id": ...}} as a form
                name, value = inside[1], {inside[2]: value}
            if name in body.fields or name in body.files:
                raise TaskError(f"{name[:60]} is given twice; one is taken; leave the other out", code="unknown_field")
            if isinstance(value, UploadFile):
                if name not in MEDIA_FIELDS:
                    raise TaskError(
                        f"a file is given for {name[:60]}; {', '.join(MEDIA_FIELDS)} can be files; rename it",
                        code="unknown_field",
                    )
                if value.size or value.filename:
                    body.files[name] = storage.new_upload()
                    await run_in_threadpool(_copy, value.file, body.files[name])
            elif value != "":  # what a form leaves empty is not given
                body.fields[name] = value
        for name in [name for name in body.fields if name in MEDIA_FIELDS]:
            text = body.fields[name]
            if isinstance(text, str) and text.lstrip().startswith("{"):
                body.fields[name] = parse_json(text.encode(), name)
        await run_in_threadpool(_take_data_urls, body, storage)


async def _bytes(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
    return bytes(data)


def _copy(source: BinaryIO, target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _take_data_urls(body: Body, storage: Storage) -> None:
    """Write what fields hold as `data:` into files."""
    for name in MEDIA_FIELDS:
        value = body.fields.get(name)
        if isinstance(value, dict):
            value = next((value[key] for key in _URL_KEYS if set(value) == {key}), None)
        if isinstance(value, str) and value[:5].lower() == "data:":
            header, _, payload = value.partition(",")
            try:
                if not header.lower().endswith(";base64"):
                    raise ValueError
                data = base64.b64decode(payload, validate=True)
            except (ValueError, binascii.Error):
                raise TaskError(
                    f"{name} is a data: URL that cannot be read; data:TYPE;base64,... fits; encode it again",
                    code="media_unreadable",
                ) from None
            body.files[name] = storage.new_upload()
            body.files[name].write_bytes(data)
            del body.fields[name]


def _refuse_constant(name: str) -> Any:
    raise TaskError(
        f"{name} is a number that JSON does not have; finite ones fit; correct it or leave the field out",
        code="json_invalid",
    )
