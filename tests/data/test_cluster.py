"""The stages on a Ray cluster: what it makes is what one machine makes, to the byte, whoever dies on the way."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

import videopoet
from videopoet.cli import run
from videopoet.data import cluster, token_cache, tokenize
from videopoet.data import prepare as preparation
from videopoet.data.clips import Config
from videopoet.data.prepare import prepare
from videopoet.data.prepared import Dataset
from videopoet.errors import DataError, MediaError

SMALL = Config(height=32, width=32, num_frames=9)
VIEWS = token_cache.Views(sizes=((32, 32),), num_frames=9)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def machines():
    """A cluster of this machine alone, with room for two workers."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def busy_workers():
    """Workers of this process's cluster that have a decoder, or had one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it ended
            continue

    def is_ours(process):
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    with_children = set(parents.values())
    return [one for one, name in names.items() if name.startswith("ray::") and one in with_children and is_ours(one)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_dataset_is_the_same_though_a_worker_is_killed(machines, footage, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "LARGEST_PART", 1)
    monkeypatch.setattr(cluster, "WINDOW", 8)
    output, killed, ended = tmp_path / "cluster", [], threading.Event()

    def kill():
        while not killed and not ended.wait(0.01):
            if list(output.glob("parts/[!.]*")) and (busy := busy_workers()):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        counts = prepare(footage, output, SMALL, workers=2, engine="ray")
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 1
    assert prepare(footage, tmp_path / "here", SMALL, workers=2) == counts
    assert files_of(output) == files_of(tmp_path / "here") and counts["clips"]["rejected"] >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_codes_are_the_same_whoever_makes_them(machines, dataset, tokenizers, tmp_path):
    data = Dataset(dataset[0])
    for engine in ("local", "ray"):
        tokenize.tokenize(data, VIEWS, *tokenizers, tmp_path / engine, engine=engine, device="cpu")
        tokenize.finish(data, VIEWS, tmp_path / engine)
    assert files_of(tmp_path / "local") == files_of(tmp_path / "ray")
    assert token_cache.TokenCache(data, tmp_path / "ray").counts["clips"] == len(data)


class Length:
    """A stage that writes nothing."""

    def __call__(self, item):
        if not item:
            raise MediaError("nothing is in it", code="media_empty")
        return len(item)


def worker(folder, version=videopoet.__version__, source=None):
    return cluster._Worker(Length, folder, source or folder, version)


def test_a_worker_gives_what_its_stage_returns_and_raises(tmp_path):
    one = worker(tmp_path)
    assert one({"number": 0, "item": "four"}) == {"result": 4, "error": None}
    assert one({"number": 1, "item": ""})["error"].code == "media_empty"


@pytest.mark.parametrize("missing", ["output", "source"])
def test_a_machine_that_does_not_see_the_storage_is_refused(tmp_path, missing):
    places = {"output": tmp_path, "source": tmp_path, missing: tmp_path / "elsewhere"}
    error = worker(places["output"], source=places["source"])({"number": 0, "item": "four"})["error"]
    assert error.code == "cluster_storage" and "elsewhere" in str(error) and "mount" in str(error)


def test_a_machine_with_another_version_is_refused(tmp_path):
    error = worker(tmp_path, version="0.0.1")({"number": 0, "item": "four"})["error"]
    assert error.code == "cluster_version" and "0.0.1" in str(error) and videopoet.__version__ in str(error)


def test_work_that_kills_each_worker_ends_the_run(tmp_path):
    class Death(BaseException):
        pass

    def die(item):
        raise Death

    one = cluster._Worker(lambda: die, tmp_path, tmp_path, videopoet.__version__)
    for _ in range(cluster.MOST_DEATHS):
        with pytest.raises(Death):
            one({"number": 3, "item": "four"})
    error = one({"number": 3, "item": "four"})["error"]
    assert isinstance(error, DataError) and error.code == "cluster_failed"
    assert worker(tmp_path)({"number": 4, "item": "four"})["result"] == 4


def test_without_ray_the_command_says_what_to_install(tmp_path, footage, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["prepare", str(footage), "-o", str(tmp_path / "data"), "--engine", "ray"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'videopoet[cluster]'" in error and error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_an_address_where_no_cluster_is_is_refused_at_once(tmp_path, footage, monkeypatch, capsys):
    pytest.importorskip("ray.data")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        assert run(["prepare", str(footage), "-o", str(tmp_path / "data"), "--engine", "ray"]) == 2
    error = capsys.readouterr().err
    assert "refused" in error and "RAY_ADDRESS" in error and not (tmp_path / "data").exists()


def test_an_engine_that_there_is_none_of_is_refused(tmp_path, footage, capsys):
    assert run(["prepare", str(footage), "-o", str(tmp_path / "data"), "--engine", "spark"]) == 2
    assert "spark" in capsys.readouterr().err
