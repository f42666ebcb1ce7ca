"""Loads L01 to L04 of `serving_faults`: crowds that submit, ask for mixed tasks, look at a job, or listen to it."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import httpx
from serving_stand import Stand, stand, together

from videopoet.media import files

LONG = "steps 2000"


def l01_submits(count: int, figures: dict[str, Any]) -> int:
    """Clients submit at once: all are taken, in an order that the list keeps."""
    with stand(0) as place:
        taken: list[float] = []

        def submit(number: int) -> str:
            with httpx.Client(base_url=place.client.base_url, timeout=60) as client:
                client.get("/health")
                began = time.perf_counter()
                answer = client.post("/v1/videos", json={"prompt": "a ball", "seed": number})
                taken.append(time.perf_counter() - began)
                return answer.json()["id"]

        ids = together(count, submit)
        figures["p99_ms"] = round(1000 * sorted(taken)[int(0.99 * (count - 1))], 1)
        listed = [job.id for job in place.jobs.list("", limit=count, newest_first=False)]
        return len(ids) if sorted(ids) == sorted(listed) else 0


def l02_mixed(count: int, figures: dict[str, Any]) -> int:
    """16 clients ask for 8 tasks, each seed twice: every result is whole, and the same seed gives the same bytes."""
    with stand(2) as place:
        clip = place.ask(seed=0)
        place.ended(clip)
        reference = {"id": clip}
        kinds: list[dict[str, Any]] = [
            {"task": "text_to_video", "prompt": "a ball"},
            {"task": "text_to_image", "prompt": "a ball"},
            {"task": "unconditional"},
            {"task": "image_to_video", "image": reference},
            {"task": "video_continuation", "video": reference},
            {"task": "inpainting", "video": reference},
            {"task": "video_to_audio", "video": reference},
            {"task": "text_to_audio", "prompt": "a ball"},
        ]
        numbers, found, lock = iter(range(count)), {}, threading.Lock()

        def work(_: int) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                fields = {**kinds[number // 2 % 8], "seed": number // 2}
                # A connection of its own: one that waits for a job is closed by the server after some seconds.
                answer = httpx.post(place.client.base_url.join("/v1/videos"), json=fields, timeout=120)
                ended = place.ended(answer.json()["id"])
                found[number] = ended["status"] == "completed" and _digest(place, ended)

        together(16, work)
        figures["same_seed_same_bytes"] = sum(found[n] == found[n + 1] for n in range(0, count - 1, 2))
        return sum(bool(digest) for digest in found.values())


def l03_polls(count: int, figures: dict[str, Any]) -> int:
    """Clients look at a job that is being made, 500 times a second in all."""
    with stand() as place:
        job = place.ask(LONG)
        place.reach(job, "in_progress")
        taken, began = [], time.perf_counter()

        def poll(client_number: int) -> int:
            answered = 0
            with httpx.Client(base_url=place.client.base_url, timeout=60) as client:
                for number in range(client_number, count, 10):
                    time.sleep(max(0.0, began + number / 500 - time.perf_counter()))
                    start = time.perf_counter()
                    answered += client.get(f"/v1/videos/{job}").status_code == 200
                    taken.append(time.perf_counter() - start)
            return answered

        answered = sum(together(10, poll))
        figures["p99_ms"] = round(1000 * sorted(taken)[int(0.99 * (count - 1))], 1)
        figures["polls_per_second"] = round(count / (time.perf_counter() - began), 1)
        return answered


def l04_listeners(count: int, figures: dict[str, Any]) -> int:
    """Many follow one job: all hear its end."""
    with stand() as place:
        job = place.ask("steps 100")

        def listen(_: int) -> bool:
            with httpx.Client(base_url=place.client.base_url, timeout=60) as client:
                return "event: completed" in client.get(f"/v1/videos/{job}/events").text

        return sum(together(count, listen))


def _digest(place: Stand, job: dict[str, Any]) -> str:
    """Of a result that is whole; empty where it is not."""
    row = place.jobs.get(job["id"], "")
    assert row is not None and row.result is not None
    path = place.storage.result(row.id, row.result["attempt"], row.result["files"][job["kind"]])
    facts = files.probe(path)
    whole = facts.kind == job["kind"] and (job["kind"] != "video" or facts.num_frames == row.result["num_frames"])
    return hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
