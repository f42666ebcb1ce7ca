"""Who may ask for what, how much, and what nobody may: names, keys, sizes, paths, addresses."""

import base64
import json
import socket
import threading

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")

KEYS = ("key-of-anna-0123456789", "key-of-berta-0123456789")
LIMIT = 4096


@pytest.fixture(scope="module")
def server(Running, poet, tmp_path_factory):
    """A server without a worker, whose bodies are small."""
    from videopoet.serving.intake import Ceilings

    started = Running(
        tmp_path_factory.mktemp("server"),
        poet,
        with_worker=False,
        ceilings=Ceilings(most_bytes=LIMIT, most_queued=10**6),
    )
    yield started
    started.close()


@pytest.fixture(scope="module")
def locked(Running, poet, tmp_path_factory):
    """A server with two keys."""
    from videopoet.serving.keys import Keys

    started = Running(tmp_path_factory.mktemp("locked"), poet, with_worker=False, keys=Keys(KEYS))
    yield started
    started.close()


def as_(key):
    return {"Authorization": f"Bearer {key}"}


def code(answer):
    return answer.json()["error"]["code"]


def padded(size):
    """A JSON request of exactly that many bytes."""
    start, end = b'{"prompt": "a ball"', b"}"
    return start + b" " * (size - len(start) - len(end)) + end


def chunks(data):
    """The same without a length."""
    for first in range(0, len(data), 512):
        yield data[first : first + 512]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost:x@evil.example"])
def test_a_foreign_host_name_is_refused(server, method, host):
    answer = server.client.request(method, "/v1/videos", headers={"Host": host})
    assert answer.status_code in (400, 403)


def test_a_page_of_another_site_can_change_nothing(server):
    form = {"data": {"prompt": "a ball"}, "files": {"x": b""}}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = server.client.post("/v1/videos", headers=headers, **form)
        assert (answer.status_code, code(answer)) == (403, "origin_foreign")
    own = server.client.post("/v1/videos", headers={"Origin": server.address}, json={"prompt": "a ball"})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


@pytest.mark.parametrize("as_chunks", [False, True])
def test_a_body_is_taken_up_to_the_limit_and_not_a_byte_beyond(server, as_chunks):
    headers = {"Content-Type": "application/json"}
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (100 * LIMIT, 413)):
        body = padded(size)
        answer = server.client.post("/v1/videos", content=chunks(body) if as_chunks else body, headers=headers)
        assert answer.status_code == status, (size, answer.text)


def test_an_endless_body_is_refused_without_being_read(server):
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50_000_000:
            sent += 65536
            yield b" " * 65536

    try:
        answer = server.client.post("/v1/videos", content=endless(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # the server closed the connection
    assert sent < 50_000_000


def test_a_client_that_hangs_up_while_it_sends_is_no_fault_of_the_server(server, caplog):
    address = server.address.removeprefix("http://").split(":")
    body = b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with caplog.at_level("ERROR"):
        with socket.create_connection((address[0], int(address[1]))) as client:
            client.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\n" + body)
        for _ in range(5):
            assert server.client.get("/health").status_code == 200
    assert not caplog.records
    assert not list(server.storage.incoming.iterdir())


def test_compressed_bodies_are_refused(server):
    answer = server.client.post("/v1/videos", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, code(answer)) == (415, "content_encoding")


def test_nothing_is_ever_fetched(server):
    hits = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)

        def listen():
            while not hits:
                try:
                    hits.append(listener.accept())
                except OSError:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        port = listener.getsockname()[1]
        for field in ("image", "video", "audio", "mask", "depth", "input_reference", "prompt", "size", "task"):
            for scheme in ("http", "ftp", "file"):
                url = f"{scheme}://127.0.0.1:{port}/x.png"
                for value in (url, {"url": url}, {"image_url": url}):
                    answer = server.post(**{"prompt": "a ball", "task": "image_to_video", field: value})
                    assert answer.status_code in (400, 404, 422), (field, value, answer.text)
        thread.join()
    assert not hits


@pytest.mark.parametrize(
    "name",
    ["../etc", "..%2f..%2fqueue.sqlite",
      "%2e%2e%2fqueue.sqlite", "..\\x", "%00", "~root", "video_" + "0" * 32 + "%2f..",
     "file:%2f%2f%2fetc%2fpasswd", "C:%5Cx", "%252e%252e%252fx", "video_" + "Z" * 32, "x" * 5000, "%c0%ae%c0%ae%2fx"],
)  # fmt: skip
def test_no_path_leaves_the_folder(server, name):
    for path in (f"/v1/videos/{name}", f"/v1/videos/{name}/content", f"/v1/models/{name}", f"/studio/x/{name}"):
        answer = server.client.get(path)
        assert answer.status_code == 404, (path, answer.text)
        assert b"SQLite" not in answer.content and b"root:" not in answer.content
    assert server.client.delete(f"/v1/videos/{name}").status_code in (404, 405)


@pytest.mark.parametrize(
    ("fields", "status", "expected", "words"),
    [
        ({}, 400, "prompt_required", "prompt"),
        ({"prompt": ""}, 400, "prompt_empty", "leave it out"),
        ({"prompt": " \u200b "}, 400, "prompt_empty", "leave it out"),
        ({"prompt": "x" * 2001}, 400, "prompt_too_long", "2001 characters; the most is 2000"),
        ({"prompt": "a\0b"}, 400, "prompt_invalid_character", "not text"),
        ({"prompt": "\ud800"}, 400, "encoding", "UTF-8"),
        ({"prompt": 5}, 422, "type", "prompt"),
        ({"prompt": ["a"]}, 422, "type", "prompt"),
        ({"num_frames": 0}, 400, "range", "1"),
        ({"num_frames": 2**31}, 400, "range", "1441"),
        ({"num_frames": 1.5}, 422, "type", "num_frames"),
        ({"num_frames": True}, 422, "type", "num_frames"),
        ({"num_frames": 10**30}, 400, "range", "1441"),
        ({"seconds": "1e9"}, 400, "range", "60"),
        ({"seconds": "nan"}, 422, "type", "finite"),
        ({"seconds": -1}, 400, "range", "0.001"),
        ({"seconds": 2, "num_frames": 17}, 400, "input_unexpected", "twice"),
        ({"size": "0x0"}, 400, "range", "1"),
        ({"size": "64"}, 400, "size_invalid", "WIDTHxHEIGHT"),
        ({"size": "64x64", "width": 64}, 400, "input_unexpected", "twice"),
        ({"width": 100000}, 400, "range", "8192"),
        ({"fps": 0}, 400, "range", "0.1"),
        ({"seed": -1}, 400, "range", "0"),
        ({"seed": 2**64}, 400, "range", "18446744073709551615"),
        ({"seed": "x"}, 422, "type", "seed"),
        ({"temperature": -1}, 400, "range", "0"),
        ({"temperature": 1e9}, 400, "range", "10"),
        ({"top_k": 0}, 400, "range", "1"),
        ({"top_p": 1.1}, 400, "range", "1"),
        ({"guidance_scale": 1e6}, 400, "range", "100"),
        ({"callback": "http://x"}, 422, "unknown_field", "callback"),
        ({"num_inference_steps": 5}, 422, "unknown_field", "num_inference_steps"),
        ({"depth_model": "/etc"}, 422, "unknown_field", "depth_model"),
        ({"task": "nonsense"}, 400, "task_unknown", "nonsense"),
        ({"task": "image_to_video"}, 400, "input_missing", "image"),
        ({"task": "inpainting", "mask": "/etc/passwd.png"}, 400, "mask_unknown", "passwd"),
        ({"task": "inpainting", "mask": "sideways"}, 400, "mask_unknown", "sideways"),
        ({"task": "inpainting", "box": [0, 0, 2]}, 400, "range", "box"),
        ({"model": "another", "prompt": "a"}, 503, "not_ready", "loaded"),
        ({"video": {"id": "video_" + "0" * 32}}, 404, "job_unknown", "video"),
        ({"image": {"url": "data:image/png;base64,%%%"}}, 400, "media_unreadable", "data:"),
        ({"image": {"url": "data:image/png;base64," + base64.b64encode(b"<svg/>").decode()}}, 415, None, "read"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_sentence(server, fields, status, expected, words):
    answer = server.client.post(
        "/v1/videos",
        content=json.dumps({**({} if "prompt" in fields or not fields else {"prompt": "a"}), **fields}),
        headers={"Content-Type": "application/json"},
    )
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert error["code"] == (expected or error["code"]) and words in error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'"x"', b'{"seed": NaN}', b"[" * LIMIT, b"\xff", b'{"seed": 1' + b"0" * 3000 + b"}"],
)
def test_a_body_that_is_no_json_object_is_refused(server, body):
    answer = server.client.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/movies", "/v1/storyboards"])
def test_broken_json_is_refused_with_its_place_at_every_address(server, path):
    body = b'{\n  "idea": "a ball",\n  seed: 1\n}'
    answer = server.client.post(path, content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "json_invalid", None)
    assert error["message"].startswith("the body is no JSON at line 3, column 3: expecting property name ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"prompt": "a', "line 1, column 12: unterminated string; "),
        (b'{"seed": NaN}', "NaN is a number that JSON does not have"),
        (b'{"prompt": "\xff"}', "no text at byte 12"),
        (b"[" * LIMIT, "nested too deeply"),
        (b"[]", "not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(server, body, words):
    answer = server.client.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, code(answer)) == (422, "json_invalid")
    assert words in answer.json()["error"]["message"]


def test_a_reference_in_a_form_that_is_broken_is_named(server):
    answer = server.client.post("/v1/videos", data={"image": '{"id" "x"}'})
    assert (answer.status_code, code(answer)) == (422, "json_invalid")
    assert answer.json()["error"]["message"].startswith("image is no JSON at line 1, column 7: ")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/videos", {"prompt": "a", "font": 1}),
        ("/v1/movies", {"storyboard": {"scenes": [{"prompt": "a"}]}, "font": 1}),
        ("/v1/storyboards", {"idea": "a", "font": 1}),
    ],
)
def test_an_unknown_field_has_one_code_at_every_address(server, path, body):
    answer = server.client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "unknown_field", "font")
    assert error["message"].startswith("unknown field 'font'; ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"#EXTM3U\nfile:///etc/passwd", 415),
        (b"<svg xmlns='x'/>", 415),
        (b"ffconcat version 1.0\nfile x", 415),
        (b"%PDF-1.7", 415),
        (b"hello", 415),
        (b"", 400),
    ],
)
def test_files_that_are_no_media_are_refused_before_they_are_opened(server, data, expected):
    answer = server.client.post("/v1/videos", files={"image": ("picture.png", data)})
    assert answer.status_code == expected
    assert "/" not in answer.json()["error"]["message"].replace("x/y", "")


@pytest.mark.parametrize("name", ["x.py", ".htaccess", "a.mp4.html", "-i", "a\nb", "../../x", "n" * 1000])
def test_the_name_of_an_upload_names_nothing(server, png, name):
    job = server.client.post("/v1/videos", files={"image": (name, png)}).json()
    folder = server.storage.of_job(job["id"])
    assert [str(file.relative_to(folder)) for file in sorted(folder.rglob("*"))] == ["inputs", "inputs/image"]
    assert not list(server.storage.incoming.iterdir())


def test_refused_uploads_leave_nothing(server, png):
    before = sorted(server.storage.folder.rglob("*"))
    answer = server.client.post("/v1/videos", files={"image": ("x.png", png)}, data={"seed": "-1"})
    assert answer.status_code == 400
    assert sorted(server.storage.folder.rglob("*")) == before


def test_answers_cannot_be_taken_for_pages(server):
    for path in ("/health", "/v1/tasks", "/nonsense", "/"):
        headers = server.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "server" not in headers


def test_without_a_key_there_is_only_health_and_the_studio_s_page(locked):
    assert locked.client.get("/health").status_code == 200
    assert locked.client.get("/").status_code == 200
    for method, path in (("GET", "/v1/videos"), ("POST", "/v1/videos"), ("GET", "/metrics"), ("GET", "/openapi.json")):
        answer = locked.client.request(method, path)
        assert (answer.status_code, code(answer)) == (401, "key_missing")
    assert code(locked.client.get("/v1/videos?key=" + KEYS[0])) == "key_missing"
    assert locked.client.get("/v1/videos", headers={"Authorization": f"bearer {KEYS[0]}"}).status_code == 200
    answer = locked.client.get("/v1/videos", headers=as_(KEYS[0][:-1]))
    assert (answer.status_code, code(answer)) == (401, "key_wrong") and KEYS[0][:-1] not in answer.text


def test_one_key_s_jobs_are_no_other_s(locked):
    anna, berta = as_(KEYS[0]), as_(KEYS[1])
    job = locked.client.post("/v1/videos", json={"prompt": "a ball"}, headers=anna).json()
    for method, path in (("GET", ""), ("GET", "/content"), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")):
        answer = locked.client.request(method, f"/v1/videos/{job['id']}{path}", headers=berta)
        assert (answer.status_code, code(answer)) == (404, "job_unknown")
    reference = {"video": {"id": job["id"]}}
    assert code(locked.client.post("/v1/videos", json=reference, headers=berta)) == "job_unknown"
    assert locked.client.get("/v1/videos", headers=berta).json()["data"] == []
    assert len(locked.client.get("/v1/videos", headers=anna).json()["data"]) == 1


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(locked):
    answers = [locked.client.get("/v1/videos", headers=as_(f"wrong-key-{number:010}")) for number in range(40)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert locked.client.get("/v1/videos", headers=as_(KEYS[0])).status_code == 200


def test_a_key_that_can_be_guessed_is_refused():
    from videopoet.errors import ConfigError
    from videopoet.serving.keys import Keys

    with pytest.raises(ConfigError, match="16 or more"):
        Keys(["short"])


def test_every_code_that_is_raised_has_the_status_that_the_contract_says():
    from videopoet.errors import CheckpointError, ConfigError, DataError, MediaError, TaskError
    from videopoet.serving.failures import status_of

    by_class = {ConfigError: 400, TaskError: 400, MediaError: 400, DataError: 500, CheckpointError: 503}
    assert {kind: status_of(kind("x")) for kind in by_class} == by_class
    assert status_of(DataError("x", code="disk_full")) == 507
    assert status_of(TaskError("x", code="queue_full")) == 429
