from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from videopoet.serving import supervisor
from videopoet.serving.storage import DATABASE_VARIABLE


@pytest.mark.parametrize("database", [None, "postgresql://here/jobs"])
def test_workers_take_the_queue_of_their_server_and_not_one_of_the_environment(monkeypatch, database):
    begun = []

    def begin(command, stdin, env):
        begun.append(env[DATABASE_VARIABLE])
        return SimpleNamespace(pid=1)

    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://elsewhere/jobs")
    monkeypatch.setattr(supervisor.subprocess, "Popen", begin)
    monkeypatch.setattr(supervisor.os, "setpriority", lambda *_: None)
    supervisor.Supervisor(None, 1, [], database)._begin()
    assert begun == [database or ""]
