"""Requests that the OpenAPI document allows, and many that it does not: none may meet a fault of the server."""

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)
schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

WAITING = ("/ready", "/v1/events", "/v1/videos/sync", "/v1/images/generations", "/v1/audio/generations")
"""Addresses that answer 503 here, for there is no worker, or that wait for one."""


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


def test_no_request_that_the_document_allows_meets_a_fault_of_the_server(idle):
    schema = schemathesis.openapi.from_url(f"{idle.address}/openapi.json")
    asked = set()
    for operation in [found.ok() for found in schema.get_all_operations()]:
        if operation.path in WAITING:
            continue

        @hypothesis.settings(
            max_examples=5,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def ask(case):
            answer = case.call()
            asked.add(case.path)
            assert answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text and "0x7f" not in answer.text

        ask()
    assert {"/v1/videos", "/v1/videos/edits", "/v1/videos/{video_id}/content", "/metrics"} <= asked


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_method_at_any_address_meets_a_fault_of_the_server(idle, method):
    paths = idle.client.get("/openapi.json").json()["paths"]
    for path in (*paths, "/", "/studio/", "/studio/main.js", "/nonsense", "//", "/v1//videos"):
        if path in WAITING:
            continue
        for content in (b"", b"{}", b"\xff" * 50):
            address = path.replace("{video_id}", "video_" + "a" * 32).replace("{model_id}", "x")
            answer = idle.client.request(method, address, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (method, path, answer.text)
    assert idle.client.get("/health").status_code == 200
