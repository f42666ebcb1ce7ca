import errno
import sqlite3
import warnings
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from videopoet.errors import CheckpointError
from videopoet.serving import supervisor, worker
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
    supervisor.Supervisor(None, 1, [], database)._begin("cpu")
    assert begun == [database or ""]


def test_workers_share_the_devices_and_one_that_is_begun_again_takes_the_place_of_the_one_before(monkeypatch):
    begun = []

    def begin(command, stdin, env):
        device = command[command.index("--device") + 1]
        begun.append(device)
        return SimpleNamespace(pid=1, poll=lambda: 70 if device == "cuda:1" and begun == gpus else None, returncode=70)

    gpus = ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr(supervisor.subprocess, "Popen", begin)
    monkeypatch.setattr(supervisor.os, "setpriority", lambda *_: None)
    workers = supervisor.Supervisor(SimpleNamespace(release=lambda name: True), 3, [], None, ["cuda:0", "cuda:1"])
    monkeypatch.setattr(workers._thread, "start", lambda: None)
    workers.start()
    assert begun == gpus
    looks = iter([False, True])
    monkeypatch.setattr(workers._ending, "wait", lambda seconds: seconds == supervisor.LOOK_SECONDS and next(looks))
    workers._look_after()
    assert begun[3:] == ["cuda:1"]


def test_workers_are_looked_after_whatever_the_queue_or_the_machine_refuses(monkeypatch):
    begun, refusals = [], [sqlite3.OperationalError("no such table: workers"), OSError(errno.EAGAIN, "try again")]

    def release(name):
        if len(refusals) == 2:
            raise refusals.pop(0)
        return True

    def begin(command, stdin, env):
        if begun and refusals:
            raise refusals.pop()
        begun.append(command)
        return SimpleNamespace(pid=1, poll=lambda: 70 if len(begun) == 1 else None, returncode=70)

    monkeypatch.setattr(supervisor.subprocess, "Popen", begin)
    monkeypatch.setattr(supervisor.os, "setpriority", lambda *_: None)
    workers = supervisor.Supervisor(SimpleNamespace(release=release), 1, [], None, ["cpu"])
    monkeypatch.setattr(workers._thread, "start", lambda: None)
    workers.start()
    looks = iter([False, False, True])
    monkeypatch.setattr(workers._ending, "wait", lambda seconds: seconds == supervisor.LOOK_SECONDS and next(looks))
    workers._look_after()
    assert (len(begun), workers.restarts, refusals) == (2, 1, [])


def test_what_libraries_warn_of_is_not_in_the_log_of_a_worker(monkeypatch, tmp_path):
    def begin(*_, **__):
        warnings.warn("mismatch of dtypes", UserWarning, stacklevel=1)
        raise CheckpointError("no model", code="checkpoint_missing")

    monkeypatch.setattr(worker, "begin", begin)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert worker.main(["--folder", str(tmp_path), "--name", "one"]) == CheckpointError.exit_code
    assert seen == []
