"""A server in the test's own process: the application behind real HTTP, and a worker of a tiny poet in a thread."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest


def _module(name, *place):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent.joinpath(*place))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_poets = _module("poets", "..", "generation", "conftest.py")
_browser = _module("browser", "browser.py")
make_poet = _poets.make_poet
random_picture, random_clip, random_sound = _poets.random_picture, _poets.random_clip, _poets.random_sound


class Running:
    """A server on a free port, and a worker that a test may start, pause and stop."""

    def __init__(self, folder, poet, with_worker=True, **how):
        import httpx
        import uvicorn

        from videopoet.serving.jobs import Jobs
        from videopoet.serving.server import Service, create_app

        self.service = Service(folder, num_workers=0, **how)
        config = uvicorn.Config(
            create_app(self.service),
            port=0,
            log_level="error",
            http="h11",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started, 20)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.address, timeout=30)
        self.poet, self.worker, self.storage = poet, None, self.service.storage
        self.jobs = Jobs(self.service.queue)
        if with_worker:
            self.start_worker()

    def start_worker(self, name="worker", **how):
        from videopoet.serving.jobs import Jobs
        from videopoet.serving.storage import Storage
        from videopoet.serving.worker import Worker

        self.worker = Worker(self.poet, Jobs(self.service.queue), Storage(self.storage.folder), name, **how)
        self.worker_thread = threading.Thread(target=self.worker.run, daemon=True)
        self.worker_thread.start()
        wait_for(lambda: self.jobs.workers().get("ready"), 10)

    def stop_worker(self):
        if self.worker is not None:
            self.worker.stopping.set()
            self.worker_thread.join(20)
            self.worker = None

    def close(self):
        self.stop_worker()
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)

    def post(self, path="/v1/videos", **fields):
        return self.client.post(path, json=fields)

    def made(self, path="/v1/videos", status="completed", **fields):
        """What a job became."""
        answer = self.post(path, **fields)
        assert answer.status_code == 200, answer.text
        return self.ended(answer.json()["id"], status)

    def ended(self, job_id, status="completed"):
        wait_for(lambda: self.look(job_id)["status"] not in ("queued", "in_progress"), 60)
        job = self.look(job_id)
        assert job["status"] == status, job
        return job

    def look(self, job_id):
        return self.client.get(f"/v1/videos/{job_id}").json()


class Postgres:
    """A PostgreSQL of the tests' own, from Debian's package, that listens on a socket in its folder alone."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        # It refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self.run("initdb", "--username=videopoet", "--auth=trust", "--no-sync", "-D", folder / "data")
        self.start()

    def run(self, program, *arguments):
        command = [self.programs / program, *arguments]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=120, **self.user)

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self.run("pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options)

    def stop(self):
        self.run("pg_ctl", "stop", "-m", "fast", "-D", self.folder / "data")

    def restart(self):
        self.stop()
        self.start()

    def address(self, database):
        return f"postgresql://videopoet@/{database}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres():
    """Skipped where PostgreSQL is not installed; `tests/serving/with_postgres.sh` installs it and runs these tests."""
    pytest.importorskip("psycopg_pool")
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(places[-1], folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def new_database(postgres):
    """Makes empty databases, and says their addresses."""
    import psycopg

    def make():
        name = f"queue_{secrets.token_hex(8)}"
        with psycopg.connect(postgres.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres.address(name)

    return make


def wait_for(condition, seconds):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it was not so within {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def poet():
    return make_poet()


@pytest.fixture(scope="session", name="Browser")
def _browse():
    """Pages of headless Chromium."""
    if _browser.CHROMIUM is None:
        pytest.skip("needs Chromium")
    return _browser.Browser


@pytest.fixture(scope="session", name="Running")
def _running():
    return Running


@pytest.fixture(scope="module")
def running(poet, tmp_path_factory):
    """A server with a worker, shared by the tests of a module."""
    server = Running(tmp_path_factory.mktemp("server"), poet)
    yield server
    server.close()


@pytest.fixture
def start(poet, tmp_path):
    """Servers of a test's own."""
    started = []

    def begin(folder=None, **how):
        started.append(Running(folder or tmp_path / "server", poet, **how))
        return started[-1]

    yield begin
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def png(tmp_path_factory):
    """The bytes of a picture."""
    import torch

    from videopoet.media.types import Image

    path = tmp_path_factory.mktemp("media") / "picture.png"
    Image(torch.full((3, 24, 24), 200, dtype=torch.uint8)).save(path)
    return path.read_bytes()
