"""Frames of a job while it is made: on disk, and as events."""

import base64
import io
import json

import pytest
import torch

from videopoet.generation.early_frames import Frames

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)


def grey(first, *values, side=16, **others):
    """Frames that are each of one grey, from the index `first` on."""
    frames = torch.tensor(values, dtype=torch.uint8)[None, :, None, None].expand(3, len(values), side, side)
    return Frames(first, frames, 8.0, **others)


def greys(event):
    """The grey of each frame in the strip of an event."""
    from PIL import Image

    kind, data = event["image"].split(",")
    assert kind == "data:image/jpeg;base64"
    strip = Image.open(io.BytesIO(base64.b64decode(data)))
    assert strip.size == (event["num_frames"] * event["width"], event["height"])
    middles = (event["width"] // 2 + number * event["width"] for number in range(event["num_frames"]))
    return [strip.getpixel((x, event["height"] // 2))[0] for x in middles]


def events(lines, count):
    """The next so many events of a stream, as names and data."""
    found = []
    name = None
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        if line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {found}")


@pytest.fixture
def storage(tmp_path):
    from videopoet.serving.storage import Storage

    return Storage(tmp_path)


@pytest.fixture
def claimed(storage):
    """A queue, and a job of it that a worker has taken."""
    from videopoet.serving.jobs import Jobs, new_id

    jobs = Jobs(storage.queue)
    jobs.add(new_id(), "", "text_to_video", {"fields": {}, "inputs": []}, most_queued=9)
    yield jobs, jobs.claim("worker")[0]
    jobs.close()


def early(storage, job):
    from videopoet.serving.previews import EARLY

    return storage.result(job.id, job.attempts, EARLY)


def told(news, job):
    return [json.loads(event.split("data: ")[1]) for event in news.of(job)]


def test_a_listener_is_told_of_each_strip_once_and_another_of_all(storage, claimed):
    from videopoet.serving.previews import News, write_early

    _, job = claimed
    news = News(storage)
    assert news.of(job) == []
    write_early(grey(0, 10), early(storage, job))
    write_early(grey(1, 60, 110, 160, 210), early(storage, job))
    first, second = told(news, job)
    assert (first["id"], first["first"], first["frame_rate"]) == (job.id, 0, 8.0)
    assert greys(first) == pytest.approx([10], abs=3)
    assert second["first"] == 1 and greys(second) == pytest.approx([60, 110, 160, 210], abs=3)
    assert news.of(job) == []
    write_early(grey(5, 30), early(storage, job))
    assert [event["first"] for event in told(news, job)] == [5]
    assert [event["first"] for event in told(News(storage), job)] == [0, 1, 5]


def test_frames_that_are_made_anew_are_told_of_again(storage, claimed):
    from videopoet.serving.previews import News, write_early

    jobs, job = claimed
    news = News(storage)
    write_early(grey(0, 10), early(storage, job))
    told(news, job)
    write_early(grey(0, 200), early(storage, job))
    assert greys(told(news, job)[0]) == pytest.approx([200], abs=3)
    jobs.release("worker")
    (again,) = jobs.claim("other")
    assert again.attempts == 2 and news.of(again) == []
    write_early(grey(0, 100), early(storage, again))
    assert greys(told(news, again)[0]) == pytest.approx([100], abs=3)


def test_of_a_long_given_clip_the_end_is_shown_in_strips_of_a_size(storage, claimed):
    from videopoet.serving.previews import News, write_early

    _, job = claimed
    write_early(grey(0, *range(100), side=512), early(storage, job))
    shown = told(News(storage), job)
    assert [(event["first"], event["num_frames"], event["width"]) for event in shown] == [(68, 16, 256), (84, 16, 256)]
    assert greys(shown[1]) == pytest.approx(range(84, 100), abs=3)


def test_nothing_is_left_when_a_job_ends(storage, claimed):
    from videopoet.serving.previews import News, remove_early, write_early

    jobs, job = claimed
    write_early(grey(0, 10), early(storage, job))
    remove_early(early(storage, job))
    assert not storage.of_job(job.id).exists()
    write_early(grey(0, 10), early(storage, job))
    storage.result(job.id, job.attempts, "video.mp4").touch()
    remove_early(early(storage, job))
    assert [file.name for file in storage.of_job(job.id).rglob("*")] == ["1", "video.mp4"]
    jobs.complete(job, {})
    assert News(storage).of(jobs.get(job.id, "")) == []


@pytest.mark.parametrize("address", ["/v1/events", "/v1/videos/{id}/events"])
def test_frames_are_events_while_a_job_is_made(start, address):
    from videopoet.serving.previews import write_early

    running = start(with_worker=False)
    made = running.post(prompt="a red ball").json()
    (job,) = running.jobs.claim("worker", lease_seconds=600)
    with running.client.stream("GET", address.format(id=made["id"])) as answer:
        lines = answer.iter_lines()
        assert [(name, data["status"]) for name, data in events(lines, 1)] == [("progress", "in_progress")]
        for piece in (grey(0, 10), grey(1, 60, 110)):
            write_early(piece, early(running.storage, job))
            ((name, data),) = events(lines, 1)
            assert (name, data["id"], data["first"]) == ("frames", made["id"], piece.first)
        assert greys(data) == pytest.approx([60, 110], abs=3)
        running.jobs.fail(job, "internal", "it was a test")
        assert [name for name, _ in events(lines, 1)] == ["failed"]


def test_a_worker_shows_the_frames_of_its_jobs_and_takes_them_away(running, monkeypatch):
    from videopoet.serving import previews

    shown, plain = {}, previews.write_early

    def write_early(frames, folder):
        shown.setdefault(folder, []).append((frames.first, frames.frames.shape[1]))
        plain(frames, folder)
        assert any(folder.glob("*.json"))

    monkeypatch.setattr(previews, "write_early", write_early)
    clip = running.made(prompt="a red ball", seed=1)
    running.made(task="text_to_audio", prompt="a red ball", seed=1)
    running.made(task="video_to_audio", video={"id": clip["id"]}, seed=1)
    ((folder, pieces),) = shown.items()
    assert pieces == [(0, 1), (1, 4), (5, 4), (9, 4), (13, 4)]
    assert folder == running.storage.result(clip["id"], 1, previews.EARLY) and not folder.exists()
