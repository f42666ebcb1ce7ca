"""What a server survives: faults F15 to F26 and loads L01 to L04, each as often as it is to hold, printed as N of N.

    python benchmarks/serving_faults.py                 # all, at their counts
    python benchmarks/serving_faults.py F16 L02 --share 0.1

Processes are killed for real; the model is a stand-in (`serving_stand`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from report import report
from serving_crowds import l01_submits, l02_mixed, l03_polls, l04_listeners
from serving_stand import Stand, stand, together

from videopoet.errors import DataError, MediaError
from videopoet.media import files, sandbox
from videopoet.media.types import Image
from videopoet.serving.intake import Ceilings
from videopoet.serving.jobs import Jobs, new_id
from videopoet.serving.storage import QUEUE

LONG = "steps 2000"


def f15_server_killed(count: int) -> int:
    """Server and worker die with one job running and 20 waiting, and are begun again: all are there, in their order."""
    passed = 0
    with stand() as place:
        for number in range(count):
            running = place.ask(LONG, seed=1)
            place.reach(running, "in_progress")
            waiting = [place.ask(seed=seed) for seed in range(20)]
            place.kill()
            place.start()
            order = place.client.get("/v1/videos", params={"order": "asc", "limit": 100}).json()["data"]
            fits = [job["id"] for job in order] == [running, *waiting]
            fits &= order[0]["status"] in ("queued", "in_progress")
            fits &= {job["status"] for job in order[1:]} == {"queued"}
            if number < count - 1:
                place.clear()
                place.start_workers()
            else:  # its lease runs out, and then it is made again; the others do not wait for that
                place.start_workers()
                fits &= all(_is_clip(place, job) for job in waiting)
                place.wait(lambda job=running: _attempts(place, job) == 2)
            passed += fits
    return passed


def f16_worker_killed(count: int) -> int:
    """A worker dies at one of many positions of a job: the next one makes the same file."""
    passed = 0
    with stand() as place:
        unbroken = place.ask("steps 60", seed=7)
        place.ended(unbroken)
        for number in range(count):
            job = place.ask("steps 60", seed=7)
            place.wait(lambda job=job, at=90 * number // count: place.look(job)["progress"] >= at)
            place.reach(job, "in_progress")
            for pid in place.supervisor.pids:
                os.kill(pid, signal.SIGKILL)
            fits = place.ended(job)["status"] == "completed"
            passed += fits and place.content(job) == place.content(unbroken)
    return passed


def f17_out_of_memory(count: int) -> int:
    """A job that needs too much memory fails by that name; the server is ready, and the next job is made."""
    passed = 0
    with stand() as place:
        for _ in range(count):
            failed, following = place.ask("memory"), place.ask()
            fits = place.ended(failed)["error"]["code"] == "out_of_memory"
            passed += fits and _is_clip(place, following) and place.client.get("/ready").status_code == 200
    return passed


def f18_clients_drop(count: int) -> int:
    """Clients hang up while they send, listen or download, or read a byte at a time: no descriptor is kept."""
    passed = 0
    with stand() as place:
        clip = place.ask(seed=1)
        place.ended(clip)
        follows = place.ask(LONG)
        url = httpx.URL(str(place.client.base_url))
        server = place.server.pid
        assert server is not None
        before = _held(server)
        requests = (
            "POST /v1/videos HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 999",
            f"GET /v1/videos/{follows}/events HTTP/1.1",
            f"GET /v1/videos/{clip}/content HTTP/1.1",
        )
        for number in range(count):
            kind = number % 4
            with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
                body = "" if kind else "{"
                client.sendall(f"{requests[min(kind, 2)]}\r\nHost: localhost\r\n\r\n{body}".encode())
                if kind == 3:
                    for _ in range(20):
                        client.recv(1)
                elif kind:
                    client.recv(100)
            passed += place.client.get(f"/v1/videos/{clip}").status_code == 200
        place.wait(lambda: _held(server) <= before)
        place.client.delete(f"/v1/videos/{follows}")
    return passed


def _held(process: int) -> int:
    """Descriptors that a process holds, but for the queue's own: each of its threads opens that when it first asks."""
    held = 0
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held += not Path(os.readlink(descriptor)).name.startswith(QUEUE)
    return held


def f19_cancelled(count: int) -> int:
    """Jobs are cancelled in every state, deleted twice, and leave nothing; the worker goes on with the next."""
    passed = 0
    with stand() as place:
        for number in range(count):
            state = number % 5
            busy = place.ask(LONG) if state == 0 else None
            job = place.ask("a ball" if state == 4 else "steps 400")
            if state in (1, 2, 3):
                place.reach(job, "in_progress")
            if state == 2:
                place.wait(lambda job=job: place.look(job)["progress"] > 0)
            if state == 4:
                place.ended(job)
            if state == 3:  # deleted without having been cancelled
                fits = True
            else:
                answer = place.client.post(f"/v1/videos/{job}/cancel")
                fits = answer.status_code == (409 if state == 4 else 200)
                fits &= place.look(job)["status"] == ("completed" if state == 4 else "cancelled")
            fits &= place.client.delete(f"/v1/videos/{job}").status_code == 200
            fits &= place.client.delete(f"/v1/videos/{job}").status_code == 404
            if busy is not None:
                place.client.delete(f"/v1/videos/{busy}")
            fits &= _is_clip(place, place.ask())
            passed += fits and not place.storage.of_job(job).exists()
    return passed


def f20_queue_overflows(count: int) -> int:
    """42 jobs for a queue of 32: exactly 32 are taken, and 10 told to come again."""
    passed = 0
    with stand(0, Ceilings(most_queued=32)) as place:
        for _ in range(count):
            answers = together(42, lambda _: place.client.post("/v1/videos", json={"prompt": "a ball"}))
            refused = [answer for answer in answers if answer.status_code == 429 and "retry-after" in answer.headers]
            accepted = [answer for answer in answers if answer.status_code == 200]
            passed += (len(accepted), len(refused)) == (32, 10) and place.jobs.counts()["queued"] == 32
            place.clear()
    return passed


def f21_told_to_end(count: int) -> int:
    """Server and worker are told to end while a job runs: they end well, and the job waits as if it never began."""
    passed = 0
    with stand() as place:
        for _ in range(count):
            job = place.ask(LONG)
            place.reach(job, "in_progress")
            place.supervisor.end()
            assert place.server.pid is not None
            os.kill(place.server.pid, signal.SIGTERM)
            place.server.join(60)
            row = place.jobs.get(job, "")
            passed += place.server.exitcode == 0 and row is not None and (row.status, row.attempts) == ("queued", 0)
            place.client.close()
            place.start()
            place.clear()
            place.start_workers()
    return passed


def f22_many_workers(count: int) -> int:
    """Three workers on one queue, one killed at random again and again: each job ends once, as its own result says."""
    with stand(3) as place:
        ids = [place.ask("steps 3", task="text_to_image", seed=number) for number in range(count)]
        chance, killing = random.Random(0), threading.Event()

        def kill() -> None:
            while not killing.wait(1.0):
                if pids := place.supervisor.pids:
                    os.kill(chance.choice(pids), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        place.wait(lambda: place.jobs.counts()["queued"] + place.jobs.counts()["in_progress"] <= count // 4)
        killing.set()
        killer.join()
        passed = 0
        for job_id in ids:
            place.ended(job_id)
            job = place.jobs.get(job_id, "")
            assert job is not None
            if job.status == "completed":
                assert job.result is not None
                whole = place.storage.result(job_id, job.result["attempt"], "image.png")
                passed += job.result["attempt"] == job.attempts <= 2 and files.probe(whole).width == 16
            else:  # two workers were killed over it
                passed += (job.error or {}).get("code") == "worker_lost" and job.attempts == 2
    return passed


def f23_instant_jobs(count: int) -> int:
    """Jobs that take no time end, all of them."""
    with stand() as place:
        ids = [place.ask(task="text_to_image", seed=number) for number in range(count)]
        return sum(place.ended(job)["status"] == "completed" for job in ids)


def f24_poison(count: int) -> int:
    """A job that kills its worker each time fails after two, and takes no other with it."""
    passed = 0
    with stand() as place:
        for _ in range(count):
            before, poison, after = place.ask(), place.ask("poison"), place.ask()
            fits = place.ended(poison)["error"]["code"] == "worker_lost" and _attempts(place, poison) == 2
            passed += fits and _is_clip(place, before) and _is_clip(place, after)
    return passed


def f25_queue_damaged(count: int) -> int:
    """A queue file without its head, its end or its middle, or of a newer version, is refused and left as it is."""
    passed = 0
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "queue.sqlite"
            jobs = Jobs(path)
            for _ in range(50):
                jobs.add(new_id(), "", "text_to_video", {"fields": {"prompt": "x" * 500}, "inputs": []}, most_queued=99)
            jobs.close()
            data = bytearray(path.read_bytes())
            kind = number % 4
            if kind == 0:
                data[:100] = b"?" * 100
            elif kind == 1:
                del data[len(data) // 2 :]
            elif kind == 2:
                data[4096:-4096] = bytes(len(data) - 8192)
            if kind < 3:
                path.write_bytes(data)
            else:
                with sqlite3.connect(path) as connection:
                    connection.execute("PRAGMA user_version = 99")
                connection.close()
            before = path.read_bytes()
            try:
                Jobs(path)
            except DataError as error:
                wanted = "queue_version" if kind == 3 else "queue_corrupt"
                passed += error.code == wanted and path.read_bytes() == before
    return passed


def f26_decoder_broken(count: int) -> int:
    """The decoding process lacks its library, dies or hangs: an error in a sentence, and the next file is read."""
    import torch

    passed, usual = 0, sandbox.CHILD
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        Image(torch.zeros(3, 16, 16, dtype=torch.uint8)).save(path)
        lacking = "import sys; sys.modules['PIL'] = None; from videopoet.media.decoder import main; main()"
        dying = "import os; os.kill(os.getpid(), 11)"
        hanging = "import time; time.sleep(600)"
        for code in itertools.islice(itertools.cycle((lacking, dying, hanging)), count):
            sandbox.CHILD = ("-c", code)
            try:
                files.read_image(path, limits=files.Limits(deadline_seconds=2.0))
            except MediaError as error:
                sandbox.CHILD = usual
                named = "PIL" in str(error) if code is lacking else True
                passed += named and files.read_image(path).width == 16
            finally:
                sandbox.CHILD = usual
    return passed


def _attempts(place: Stand, job: str) -> int:
    row = place.jobs.get(job, "")
    assert row is not None
    return row.attempts


def _is_clip(place: Stand, job: str) -> bool:
    return place.ended(job)["status"] == "completed" and place.content(job)[4:8] == b"ftyp"


Case = Callable[[int, dict[str, Any]], int]


def _plain(case: Callable[[int], int]) -> Case:
    return lambda count, _: case(count)


CASES: dict[str, tuple[int, Case]] = {
    "F15": (50, _plain(f15_server_killed)),
    "F16": (20, _plain(f16_worker_killed)),
    "F17": (20, _plain(f17_out_of_memory)),
    "F18": (40, _plain(f18_clients_drop)),
    "F19": (100, _plain(f19_cancelled)),
    "F20": (20, _plain(f20_queue_overflows)),
    "F21": (20, _plain(f21_told_to_end)),
    "F22": (500, _plain(f22_many_workers)),
    "F23": (200, _plain(f23_instant_jobs)),
    "F24": (10, _plain(f24_poison)),
    "F25": (4, _plain(f25_queue_damaged)),
    "F26": (3, _plain(f26_decoder_broken)),
    "L01": (50, l01_submits),
    "L02": (200, l02_mixed),
    "L03": (1000, l03_polls),
    "L04": (100, l04_listeners),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all where none is named")
    parser.add_argument("--share", type=float, default=1.0, help="of the counts, for a short run")
    given = parser.parse_args()
    if unknown := set(given.cases) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    found: dict[str, Any] = {}
    for name in given.cases or CASES:
        most, case = CASES[name]
        count, figures, began = max(1, round(most * given.share)), {}, time.monotonic()
        passed = case(count, figures)
        found[name] = {"passed": passed, "of": count, **figures}
        more = "".join(f", {key} {value}" for key, value in figures.items())
        print(f"{name}  {passed} of {count}{more}  ({time.monotonic() - began:.0f} s)", flush=True)
    report("serving_faults", cases=found)
    return 0 if all(one["passed"] == one["of"] for one in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
