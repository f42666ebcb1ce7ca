"""Servers and workers as replicas of Ray Serve."""

import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

for name in ("ray.serve", "fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(name)
httpx = pytest.importorskip("httpx")

SECONDS = 400
# Ray gives its processes the lowest priority, and Serve waits 5 seconds for its proxy: too little where others compute.
PATIENT = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VIDEOPOET_API_KEYS": "",
    "VIDEOPOET_DATABASE": "",
}


@pytest.fixture(scope="module")
def cluster():
    """A Ray of the tests' own with Serve; the port that it listens on."""
    import ray
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray")  # a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in PATIENT.items():
            patch.setenv(variable, value)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            serve.start(proxy_location="HeadOnly", http_options={"port": port})
        except TimeoutError:  # of a minute; what was begun goes on
            serve.start()
        yield port
        serve.shutdown()
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"it was not so within {SECONDS} s"
        time.sleep(0.1)
    return value


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it starts a dozen processes, four of which import torch
@pytest.mark.skipif(sys.platform != "linux", reason="kills processes by their ids")
def test_two_servers_and_two_workers_make_what_is_asked_and_one_may_die(cluster, poet, tmp_path):
    from ray import serve

    from videopoet.media.files import read_video
    from videopoet.serving.jobs import Jobs
    from videopoet.serving.ray_serve import app

    poet.save_pretrained(tmp_path / "poet")
    told = {"folder": str(tmp_path / "server"), "model": str(tmp_path / "poet"), "batch": 1, "insecure": True}
    serve.run(app({**told, "servers": 2, "workers": 2}), name="videopoet")
    deployed = serve.status().applications["videopoet"].deployments
    assert {name: one.replica_states["RUNNING"] for name, one in deployed.items()} == {"Servers": 2, "Workers": 2}

    jobs = Jobs(tmp_path / "server" / "queue.sqlite")
    wait_for(lambda: jobs.workers().get("ready") == 2)
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster}", timeout=60) as client:

        def ask(**fields):
            answer = client.post("/v1/videos", json={"prompt": "a red ball", **fields})
            assert answer.status_code == 200, answer.text
            return answer.json()["id"]

        def begun(job_id):
            job = jobs.get(job_id, "")
            return job if job.status == "in_progress" and job.progress > 0 else None

        def made(job_id):
            status = wait_for(lambda: (found := jobs.get(job_id, "")) is not None and found.ended and found.status)
            assert status == "completed"
            return client.get(f"/v1/videos/{job_id}/content").content

        asked = [ask(seconds=2, seed=number // 2) for number in range(6)]
        clips = [made(job_id) for job_id in asked]
        assert clips[0] == clips[1] and clips[2] == clips[3] and clips[4] == clips[5]
        assert len({hashlib.sha256(clip).digest() for clip in clips}) == 3
        (tmp_path / "clip.mp4").write_bytes(clips[0])
        assert read_video(tmp_path / "clip.mp4").frames.shape[1] > 1
        with client.stream("GET", f"/v1/videos/{asked[0]}/events") as events:
            assert "completed" in events.read().decode()

        whole = made(ask(seconds=10, seed=9))
        broken = ask(seconds=10, seed=9)
        held = wait_for(lambda: begun(broken))
        os.kill(int(held.worker.rsplit("-", 2)[1]), signal.SIGKILL)
        assert made(broken) == whole
        after = jobs.get(broken, "")
        assert (after.attempts, after.worker != held.worker) == (2, True)

        wait_for(lambda: jobs.workers().get("ready") == 2)  # Serve has begun another
        left = [ask(seconds=30, seed=seed) for seed in range(10, 22)]
        wait_for(lambda: begun(left[1]))
    serve.delete("videopoet")
    ended = {(job.status, job.attempts) for job in (jobs.get(job_id, "") for job_id in left)}
    assert ("queued", 0) in ended and ended <= {("queued", 0), ("completed", 1)}  # none is held, none has failed
    jobs.close()


@pytest.mark.parametrize(
    ("counted", "wanted"),
    [({}, 3), ({"one": 0.0}, 0), ({"one": 1.0}, 1), ({"one": 7.5, "two": 9.0}, 3), ({"one": 40.0}, 10)],
)
def test_there_are_as_many_workers_as_the_queue_needs(counted, wanted):
    from videopoet.serving.ray_serve import workers_for_queue

    assert workers_for_queue(queue_of(counted)) == (wanted, {})


def queue_of(counted):
    """What Serve tells a policy, where replicas have counted so many jobs and there are 3 of them."""
    from videopoet.serving.ray_serve import JOBS

    return SimpleNamespace(
        aggregated_metrics={JOBS: counted} if counted else None,
        target_num_replicas=3,
        config=SimpleNamespace(target_ongoing_requests=4),
    )


def test_the_number_of_workers_is_fixed_or_follows_the_queue_between_bounds():
    from ray.serve.config import AutoscalingConfig

    from videopoet.serving.ray_serve import number_of_workers
    from videopoet.serving.settings import Settings

    folder = Path("/shared")
    assert number_of_workers(Settings(folder=folder, workers=3)) == {"num_replicas": 3}
    options = number_of_workers(Settings(folder=folder, workers=2, most_workers=5))
    scaling = AutoscalingConfig(**options["autoscaling_config"])
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 5)
    assert scaling.policy.get_policy()(queue_of({"one": 40.0})) == (10, {})  # as Serve's controller reads it


def test_a_queue_in_a_file_is_refused_where_there_are_several_machines(monkeypatch):
    import ray

    from videopoet.errors import ConfigError
    from videopoet.serving.ray_serve import check_queue
    from videopoet.serving.settings import Settings

    monkeypatch.delenv("VIDEOPOET_DATABASE", raising=False)
    nodes = [{"Alive": True}, {"Alive": False}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    settings = Settings(folder=Path("/shared"))
    check_queue(settings)
    nodes[1]["Alive"] = True
    with pytest.raises(ConfigError, match="2 machines"):
        check_queue(settings)
    check_queue(Settings(folder=Path("/shared"), database="postgresql://db/videopoet"))


def test_the_deployment_files_are_what_serve_and_the_application_take(root):
    import importlib

    import yaml
    from ray.serve.schema import ServeDeploySchema

    from videopoet.serving import ray_serve

    own = yaml.safe_load((root / "deploy" / "ray_serve.yaml").read_text())
    kubernetes = yaml.safe_load((root / "deploy" / "kuberay.yaml").read_text())
    assert yaml.safe_load(kubernetes["spec"]["serveConfigV2"]) == own
    (application,) = ServeDeploySchema.model_validate(own).applications
    module, _, function = application.import_path.partition(":")
    assert getattr(importlib.import_module(module), function) is ray_serve.app
    ray_serve.app(application.args)
