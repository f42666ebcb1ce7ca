"""Requests that the OpenAPI document allows, and many that it does not: none may meet a fault of the server."""

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)
schemathesis = pytest.importorskip("schemathesis")
import hypothesis  # noqa: E402  it comes with schemathesis


@pytest.fixture(scope="module")
def idle(Running, poet, tmp_path_factory):
    """A server whose worker, as far as it knows, is ready; but nothing is made."""
    from videopoet.serving.intake import Ceilings
    from videopoet.serving.worker import describe

    server = Running(
        tmp_path_factory.mktemp("idle"), poet, with_worker=False, ceilings=Ceilings(most_queued=10**6, most_bytes=2**20)
    )
    server.jobs.see_worker("nobody", "ready", describe(poet))
    yield server
    server.close()


@pytest.fixture(scope="module")
def document(idle):
    waiting = "create_video_and_wait|create_image|create_audio"
    schema = schemathesis.openapi.from_url(f"{idle.address}/openapi.json")
    return schema.exclude(operation_id_regex=waiting).exclude(path="/ready")


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@hypothesis.settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
def test_no_request_meets_a_fault_of_the_server(case):
    answer = case.call()
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text and "0x7f" not in answer.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_method_at_any_address_meets_a_fault_of_the_server(idle, method):
    paths = idle.client.get("/openapi.json").json()["paths"]
    for path in (*paths, "/", "/studio/", "/studio/main.js", "/nonsense", "//", "/v1//videos"):
        if method == "POST" and path in ("/v1/videos/sync", "/v1/images/generations", "/v1/audio/generations"):
            continue
        for content in (b"", b"{}", b"\xff" * 50):
            address = path.replace("{video_id}", "video_" + "a" * 32).replace("{model_id}", "x")
            answer = idle.client.request(method, address, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (method, path, answer.text)
    assert idle.client.get("/health").status_code == 200
