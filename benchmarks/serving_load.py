"""What a server bears: submissions while its worker is busy, how soon a cancelled job frees it, and its memory at rest.

The server is `videopoet serve` in processes of its own, on a free port, with a folder that is deleted afterwards. Each
client is a thread with a connection of its own, which stays open; a submission is timed from its first byte sent to the
answer read. All clients submit without a pause, so that each waits for all the others: its time is about
the number of clients times what one costs the server, which is given too, as processor time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from report import report

PROMPT = "a red ball bounces on the grass"


def started(folder: str, model: str | None, most_queued: int) -> tuple[subprocess.Popen[str], str]:
    """A server that is ready, and its address.

    Raises:
        SystemExit: It ended before it was.
    """
    command = [sys.executable, "-m", "videopoet.cli", "serve", "--port", "0", "--folder", folder]
    command += ["--most-queued", str(most_queued), *(["--model", model] if model else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    if found is None:
        raise SystemExit("the server did not start")
    while True:
        if process.poll() is not None:
            raise SystemExit("the server ended before it was ready")
        try:
            if httpx.get(f"{found[0]}/ready").status_code == 200:
                return process, found[0]
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def resident_bytes(process: subprocess.Popen[str]) -> list[int]:
    """Memory of the server's process, and of each of its workers."""
    pids = [process.pid]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"PPid:\t{process.pid}\n" in status.read_text():
                pids.append(int(status.parent.name))
        except OSError:
            continue  # a process that has just ended
    page = os.sysconf("SC_PAGE_SIZE")
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids]


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """What the server's own process has computed so far, without its workers."""
    values = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def busy(client: httpx.Client) -> str:
    """The id of a long job that is being made."""
    job = client.post("/v1/videos", json={"prompt": PROMPT, "seconds": 20, "seed": 1}).json()["id"]
    while client.get(f"/v1/videos/{job}").json()["status"] != "in_progress":
        time.sleep(0.02)
    return job


def submissions(address: str, num_clients: int, each: int) -> list[float]:
    """Seconds that each of the submissions of clients who all send at once took."""
    taken: list[float] = []
    together = threading.Barrier(num_clients)
    body = json.dumps({"prompt": PROMPT, "seconds": 1})

    def submit() -> None:
        # Not httpx: fifty of its clients in one process take longer than the server, and would be timed instead of it.
        client = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        client.request("GET", "/health")
        client.getresponse().read()
        together.wait()
        for _ in range(each):
            began = time.perf_counter()
            client.request("POST", "/v1/videos", body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            answer.read()
            taken.append(time.perf_counter() - began)
            assert answer.status == 200
        client.close()

    threads = [threading.Thread(target=submit) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(taken)


def freed(client: httpx.Client) -> float:
    """Seconds from deleting a job that is being made until the next one begins."""
    running = busy(client)
    following = client.post("/v1/videos", json={"prompt": PROMPT, "seconds": 20, "seed": 2}).json()["id"]
    began = time.perf_counter()
    client.delete(f"/v1/videos/{running}")
    while client.get(f"/v1/videos/{following}").json()["status"] != "in_progress":
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    client.delete(f"/v1/videos/{following}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the model to serve; without it, the one that ships")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--each", type=int, default=4, help="how many jobs a client submits, one after the other")
    parser.add_argument("--deletions", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address = started(folder, given.model, given.clients * given.each + 10)
        try:
            figures: dict[str, Any] = {"idle_memory_mb": [round(size / 1e6) for size in resident_bytes(process)]}
            with httpx.Client(base_url=address, timeout=60) as client:
                gaps = sorted(freed(client) for _ in range(given.deletions))
                busy(client)
                began = processor_seconds(process)
                taken = submissions(address, given.clients, given.each)
                figures["submit_processor_ms"] = round(1000 * (processor_seconds(process) - began) / len(taken), 2)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    figures |= {
        "submissions": len(taken),
        "submit_ms_median": round(1000 * taken[len(taken) // 2], 1),
        "submit_ms_p99": round(1000 * taken[min(len(taken) - 1, int(0.99 * len(taken)))], 1),
        "submit_ms_most": round(1000 * taken[-1], 1),
        "delete_frees_seconds_most": round(gaps[-1], 3),
        "delete_frees_seconds_median": round(gaps[len(gaps) // 2], 3),
    }
    report("serving_load", **figures, clients=given.clients, model=given.model or "bundled")


if __name__ == "__main__":
    main()
