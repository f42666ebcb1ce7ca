"""The folder of a server, and what keeps it within its cap."""

import os
import shutil
import threading

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

from videopoet.serving import server
from videopoet.serving.jobs import new_id
from videopoet.serving.storage import Storage


def test_files_that_vanish_while_they_are_counted_take_nothing(tmp_path, monkeypatch):
    storage, job_id, scan = Storage(tmp_path), new_id(), os.scandir
    folder = storage.result(job_id, 1, "video.mp4").parent
    for name in ("inputs/image", "1/video.mp4"):
        file = storage.of_job(job_id) / name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"12345")
    assert storage.used_bytes(job_id) == 10

    def vanishing(path):
        if os.fspath(path) == str(folder):
            monkeypatch.undo()
            shutil.rmtree(folder)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert storage.used_bytes(job_id) == 5 and not folder.exists()


def test_room_is_kept_whatever_a_round_of_it_met(start, monkeypatch, caplog):
    monkeypatch.setattr(server, "ROOM_SECONDS", 0.01)
    rounds, third = [], threading.Event()

    def make_room(intake):
        rounds.append(intake)
        if len(rounds) == 3:
            third.set()
        raise OSError("a fault")

    monkeypatch.setattr("videopoet.serving.intake.Intake.make_room", make_room)
    running = start(with_worker=False)
    assert third.wait(20) and "a fault" in caplog.text
    assert running.client.get("/health").status_code == 200
