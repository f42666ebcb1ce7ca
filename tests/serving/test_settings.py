"""What a deployment of many servers and workers is told."""

import inspect
import threading

import pytest

from videopoet.errors import ConfigError
from videopoet.serving.settings import Settings


@pytest.fixture
def needs_server():
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
        pytest.importorskip(name)


@pytest.fixture(autouse=True)
def without_environment(monkeypatch):
    for name in ("VIDEOPOET_API_KEYS", "VIDEOPOET_DATABASE"):
        monkeypatch.delenv(name, raising=False)


def test_arguments_of_a_command_line_are_words_and_fit():
    told = {"folder": "/shared/poet", "workers": "2", "most_seconds": "4.5", "insecure": "true", "allow_host": "a.b, c"}
    settings = Settings.from_dict(told)
    assert (settings.workers, settings.most_seconds, settings.insecure) == (2, 4.5, True)
    assert settings.allow_host == ("a.b", "c")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "folder"),
        ({"folder": "outputs"}, "absolute path"),
        ({"folder": "/shared", "api_keys": "keys"}, "absolute path"),
        ({"folder": "/shared", "worker": 2}, "worker"),
        ({"folder": "/shared", "workers": 0}, "workers"),
        ({"folder": "/shared", "workers": 4, "most_workers": 3}, "below workers, 4"),
        ({"folder": "/shared", "database": "mysql://somewhere"}, "database"),
    ],
)
def test_what_does_not_fit_is_refused(told, words):
    with pytest.raises(ConfigError, match=words):
        Settings.from_dict(told)


def test_options_are_those_of_the_command_serve():
    from videopoet.cli.serve import serve

    options = inspect.signature(serve).parameters
    of_ray = {"folder", "servers", "workers", "most_workers", "gpus", "allow_host"}
    for name, field in Settings.model_fields.items():
        if name not in of_ray:
            assert options[name].default == field.default, name


def test_a_server_without_a_key_is_refused_unless_it_was_said(needs_server, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="there is no key"):
        Settings(folder=tmp_path).service()
    assert not Settings(folder=tmp_path, insecure=True).service().keys
    monkeypatch.setenv("VIDEOPOET_API_KEYS", "key-of-anna-0123456789")
    assert Settings(folder=tmp_path).service().keys


def test_the_database_may_be_in_the_environment(monkeypatch):
    settings = Settings.from_dict({"folder": "/shared"})
    assert settings.queue_address() is None
    monkeypatch.setenv("VIDEOPOET_DATABASE", "postgresql://db/one")
    assert settings.queue_address() == "postgresql://db/one"
    assert settings.model_copy(update={"database": "postgresql://db/two"}).queue_address() == "postgresql://db/two"


def test_server_and_worker_of_the_same_settings_make_a_clip_together(needs_server, poet, tmp_path):
    from fastapi.testclient import TestClient

    from videopoet.serving.server import create_app

    poet.save_pretrained(tmp_path / "poet")
    settings = Settings(folder=tmp_path / "server", model=str(tmp_path / "poet"), insecure=True, most_seconds=3)
    worker = settings.worker()
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with TestClient(create_app(settings.service()), base_url="http://localhost") as client:
        assert client.post("/v1/videos", json={"prompt": "a red ball", "seconds": 4}).status_code == 400
        made = client.post("/v1/videos/sync", json={"prompt": "a red ball", "seconds": 1})
    worker.stopping.set()
    thread.join(20)
    assert made.status_code == 200 and made.content[4:8] == b"ftyp"
