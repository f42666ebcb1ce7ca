"""Servers and workers as real processes, killed at bad moments."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")

SECONDS = 300


class Served:
    """`videopoet serve` on a folder, and a client of it."""

    def __init__(self, model, folder, *options):
        command = [sys.executable, "-m", "videopoet.cli", "serve", "--model", str(model), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--folder", str(folder), *options], stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        line = self.process.stderr.readline()
        self.client = httpx.Client(base_url=re.search(r"http://\S+", line)[0], timeout=30)

    def children(self):
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def wait(self, condition):
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                if value := condition():
                    return value
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    def ready(self):
        self.wait(lambda: self.client.get("/ready").status_code == 200)
        return self

    def status(self, job):
        return self.client.get(f"/v1/videos/{job['id']}").json()

    def ask(self, **fields):
        return self.client.post("/v1/videos", json={"prompt": "a red ball", **fields}).json()

    def running(self, job):
        self.wait(lambda: self.status(job)["status"] == "in_progress")

    def file(self, job):
        self.wait(lambda: self.status(job)["status"] == "completed")
        return self.client.get(f"/v1/videos/{job['id']}/content").content

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)
        self.client.close()
        self.process.stderr.close()
        return self.process.returncode


@pytest.fixture(scope="module")
def model(poet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("poets") / "tiny"
    poet.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts seven processes that each import torch
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes as Linux lists them")
def test_killed_workers_and_servers_lose_nothing_and_change_nothing(model, tmp_path):
    served = Served(model, tmp_path / "server")
    try:
        served.ready()
        unbroken = served.file(served.ask(seconds=4, seed=1))
        job = served.ask(seconds=4, seed=1)
        served.running(job)
        (worker,) = served.children()
        os.kill(worker, signal.SIGKILL)
        assert served.file(job) == unbroken  # by the next worker

        long, *waiting = [served.ask(seconds=20, seed=2), *(served.ask(seed=number) for number in range(2))]
        served.running(long)
        assert served.client.post(f"/v1/videos/{long['id']}/cancel").json()["status"] == "cancelled"
        served.wait(lambda: served.status(waiting[-1])["status"] == "completed")

        running = served.ask(seconds=20, seed=3)
        kept = served.ask(seed=4)
        served.running(running)
        served.kill()
        again = Served(model, tmp_path / "server")
        try:
            again.ready()
            order = again.client.get("/v1/videos", params={"order": "asc", "limit": 100}).json()["data"]
            assert [job["id"] for job in order[2:]] == [job["id"] for job in (long, *waiting, running, kept)]
            assert {job["status"] for job in order[3:5]} == {"completed"}
            assert again.status(running)["status"] in ("queued", "in_progress")
            again.client.delete(f"/v1/videos/{running['id']}")
            assert again.file(kept)
            assert again.close() == 0
        finally:
            again.close()
    finally:
        served.close()


def run(*arguments, **environment):
    finished = subprocess.run(
        [sys.executable, "-m", "videopoet.cli", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **environment},
    )
    return finished.returncode, finished.stderr


def test_the_command_refuses_in_one_line_what_would_be_unsafe_or_cannot_work(tmp_path):
    import socket

    folder = ("--folder", str(tmp_path / "server"))
    keys = tmp_path / "keys"
    keys.write_text("key-of-anna-0123456789\n")
    keys.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, status, words in (
            (("--host", "0.0.0.0"), 2, "there is no key"),
            (
                ("--api-keys", str(keys)),
                4,
                "other users can read the file of keys ('keys'); only its owner may; chmod 600 it",
            ),
            (("--port", port), 4, f"port {port} of 127.0.0.1 is in use; one that is free fits; choose another --port"),
            (("--host", "no.such.host.invalid", "--insecure"), 4, "no host 'no.such.host.invalid' is known here; "),
            (("--host", "x" * 64, "--insecure"), 4, "correct --host"),
            (("--host", "192.0.2.1", "--insecure"), 4, "192.0.2.1 is no address of this machine; "),
            (("--port", "99999"), 2, "99999"),
        ):
            code, said = run(*folder, *arguments)
            assert (code, len(said.splitlines())) == (status, 1) and words in said, said
            assert "choose a place" not in said and "check the path" not in said, said


def test_a_server_that_listens_everywhere_says_an_address_that_works_and_what_others_need(tmp_path):
    options = ("--host", "0.0.0.0", "--insecure", "--workers", "0")
    served = Served("none", tmp_path / "server", *options)
    try:
        assert served.wait(lambda: served.client.get("/v1/videos").status_code) == 200
        assert "--allow-host NAME" in served.process.stderr.readline()
        other = {"Host": "poet.example"}
        assert served.client.get("/v1/videos", headers=other).status_code == 403
    finally:
        served.close()
    served = Served("none", tmp_path / "server", *options, "--allow-host", "poet.example")
    try:
        assert served.wait(lambda: served.client.get("/v1/videos", headers=other).status_code) == 200
    finally:
        served.close()
