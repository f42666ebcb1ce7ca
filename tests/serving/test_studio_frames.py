"""Frames in the studio's cards while clips are made, in a real browser."""

import pytest
import torch

from videopoet.generation.early_frames import Frames

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)


@pytest.fixture
def idle(start):
    """A server that knows its model, and whose jobs nobody makes."""
    server = start()
    server.stop_worker()
    return server


@pytest.fixture
def page(idle, Browser, tmp_path):
    browser = Browser(tmp_path / "profile", idle.address)
    browser.wait("document.querySelector('#form textarea')")
    yield browser
    browser.close()


def coloured(first, num_frames, red, blue):
    frames = torch.zeros(3, num_frames, 64, 64, dtype=torch.uint8)
    frames[0], frames[2] = red, blue
    return Frames(first, frames, 24.0)


def pixel(page):
    """Red, green and blue in the middle of the card's frames."""
    script = "[...document.querySelector('.card canvas').getContext('2d').getImageData(32, 32, 1, 1).data].slice(0, 3)"
    return page.run(script)


def test_frames_are_seen_as_they_are_made_and_give_way_to_the_end(page, idle):
    from videopoet.serving.previews import EARLY, write_early

    made = idle.post(prompt="a red ball").json()
    page.wait("document.querySelector('.card[data-status=queued]')")
    (job,) = idle.jobs.claim("worker", lease_seconds=600)
    early = idle.storage.result(job.id, job.attempts, EARLY)
    page.wait("document.querySelector('.card[data-status=in_progress] .share')")
    assert not page.run("Boolean(document.querySelector('.card canvas'))")

    write_early(coloured(0, 1, red=250, blue=0), early)
    page.wait("document.querySelector('.card canvas')?.dataset.frames === '1'")
    assert pixel(page) == pytest.approx([250, 0, 0], abs=12)

    write_early(coloured(1, 4, red=0, blue=250), early)
    page.wait("document.querySelector('.card canvas').dataset.shown === '4'")
    assert page.run("document.querySelector('.card canvas').dataset.frames") == "5"
    page.wait("document.querySelector('.card canvas').dataset.shown === '0'")  # it plays in a loop

    idle.jobs.keep([job], 40, lease_seconds=600)
    page.wait("document.querySelector('.card .share').textContent === '40%'")
    assert page.run("Boolean(document.querySelector('.card canvas'))")
    idle.client.post(f"/v1/videos/{made['id']}/cancel")
    page.wait("document.querySelector('.card[data-status=cancelled]')")
    assert not page.run("Boolean(document.querySelector('.card canvas'))")


def test_who_wants_no_motion_sees_the_latest_frame(page, idle):
    from videopoet.serving.previews import EARLY, write_early

    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    idle.post(prompt="a red ball")
    (job,) = idle.jobs.claim("worker", lease_seconds=600)
    early = idle.storage.result(job.id, job.attempts, EARLY)
    for first, count in ((0, 1), (1, 4), (5, 4)):
        write_early(coloured(first, count, red=200, blue=0), early)
    page.wait("document.querySelector('.card canvas')?.dataset.shown === '8'")
    shown = page.run(
        "new Promise(done => { const seen = new Set(); let left = 30; const look = () => {"
        " seen.add(document.querySelector('.card canvas').dataset.shown);"
        " left-- ? requestAnimationFrame(look) : done([...seen]); }; look(); })"
    )
    assert shown == ["8"]


def test_a_page_that_is_opened_late_sees_the_frames_there_are(page, idle):
    from videopoet.serving.previews import EARLY, write_early

    idle.post(prompt="a red ball")
    (job,) = idle.jobs.claim("worker", lease_seconds=600)
    for first, count in ((0, 1), (1, 4)):
        write_early(coloured(first, count, red=0, blue=200), idle.storage.result(job.id, job.attempts, EARLY))
    page.call("Page.reload")
    page.wait("document.querySelector('.card canvas')?.dataset.frames === '5'")
    assert pixel(page) == pytest.approx([0, 0, 200], abs=12)
