"""The studio in a real browser: from words to a clip that plays, a painted mask, takes, and errors as sentences."""

import base64
import json

import pytest
import torch

from videopoet.media.types import Video

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def page(running, Browser, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"), running.address)
    browser.wait(
        "document.querySelector('#state')?.dataset.state === 'ready' && document.querySelector('#form textarea')"
    )
    yield browser
    browser.close()


def done(page, count):
    page.wait(f"document.querySelectorAll('.card[data-status=completed]').length >= {count}")
    return page.run("document.querySelector('.card').dataset.id")


def test_words_become_a_clip_that_plays(page, running):
    page.write("a red ball bounces")
    page.press("Make it")
    job = done(page, 1)
    assert running.look(job)["prompt"] == "a red ball bounces"
    page.run("document.querySelector('.card .caption').click()")
    page.wait("document.querySelector('#detail video')?.currentTime > 0")
    assert page.run("document.querySelector('#detail video').videoWidth") == 16
    assert "a red ball bounces" in page.run("document.querySelector('#detail').innerText")


def test_a_clip_goes_on_in_takes_that_can_be_walked_back(page, running):
    first = running.client.get("/v1/videos").json()["data"][-1]["id"]
    page.press("Continue", "#detail")
    page.run("document.querySelector('.go select').value = '2'")
    page.press("Make it")
    done(page, 3)
    made = [job for job in running.client.get("/v1/videos").json()["data"] if job["parent_id"] == first]
    assert [job["task"] for job in made] == ["video_continuation"] * 2
    assert made[0]["seed"] != made[1]["seed"]
    page.run("document.querySelector('.card .caption').click()")
    page.wait("document.querySelectorAll('#detail .strip').length === 2")
    page.run("document.querySelector('#detail .take').click()")
    page.wait("[...document.querySelectorAll('#detail h3')].map(one => one.textContent).includes('Went on to')")


def test_a_painted_mask_is_what_is_replaced(page, running):
    page.press("Replace a part", "#detail")
    page.press("Paint it")
    page.wait("document.querySelector('#painter').open")
    box = page.run("JSON.stringify(document.querySelector('#painter .mask').getBoundingClientRect())")
    box = json.loads(box)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    page.press("Use it", "#painter")
    page.wait("document.querySelector('#form .preview img')")
    page.press("Make it")
    job = running.look(done(page, 4))
    assert job["task"] == "inpainting" and job["inputs"] == ["mask", "video"]


def test_the_frame_that_is_painted_on_is_that_at_start(page, tmp_path):
    frames = torch.zeros(3, 16, 64, 64, dtype=torch.uint8)
    frames[0, :8], frames[2, 8:] = 250, 250  # red for a second, then blue
    Video(frames, 8.0).save(tmp_path / "clip.mp4")
    held = base64.b64encode((tmp_path / "clip.mp4").read_bytes()).decode()
    page.run(
        "(async () => { const { paint } = await import('/studio/painter.js');"
        f" const bytes = Uint8Array.from(atob('{held}'), (one) => one.charCodeAt(0));"
        " const file = new File([bytes], 'clip.mp4', { type: 'video/mp4' });"
        " window.paintAt = (start) => { window.said = '';"
        " paint({ file }, 'Paint', start).catch((error) => (window.said = error.message)); }; })()"
    )
    for start, colour in ((0, [250, 0, 0]), (1, [0, 0, 250]), (1.5, [0, 0, 250])):
        page.run(f"window.paintAt({start})")
        page.wait("document.querySelector('#painter').open")
        context = "document.querySelector('#painter canvas').getContext('2d')"
        assert page.run(f"[...{context}.getImageData(9, 9, 1, 1).data].slice(0, 3)") == pytest.approx(colour, abs=25)
        page.press("Cancel", "#painter")
    page.run("window.paintAt(5)")
    page.wait("window.said.startsWith('The clip ends after 2.00 seconds and is to begin at 5')")


def test_an_error_is_a_sentence(page):
    page.press("text to video", "#tasks")
    page.run("document.querySelector('#form details').open = true")
    page.run(
        "(() => { const seed = document.querySelector('#form input[placeholder=any]'); seed.value = '-1';"
        " seed.removeAttribute('min'); seed.dispatchEvent(new Event('input')); })()"
    )
    page.write("a ball")
    page.press("Make it")
    page.wait("document.querySelector('.note')?.innerText.includes('seed is -1; it must be from 0')")
    page.run("document.querySelector('#form input[placeholder=any]').value = ''")


def test_what_a_prompt_says_is_never_run(page, running):
    running.ended(running.post(prompt='a ball "><img src=x onerror=window.hit=1>', seed=1).json()["id"])
    page.call("Page.reload")
    page.wait("document.querySelectorAll('.card').length >= 5 && document.querySelector('#form textarea')")
    page.run("document.querySelector('.card .caption').click()")
    page.wait("document.querySelector('#detail').open && document.querySelector('#detail h2')")
    assert "<img src=x" in page.run("document.querySelector('#detail').innerText")
    page.run("document.querySelector('#detail').close()")
    page.write("a ball <script>window.hit=1</script>")  # like a special token, which the error repeats
    page.press("Make it")
    page.wait("document.querySelector('.note')?.innerText.includes('<script>')")
    assert not page.run("window.hit")


def test_nothing_is_asked_of_another_host(page, running):
    assert page.requested
    assert all(url.startswith((running.address, "blob:", "data:", "about:")) for url in page.requested)


def test_the_page_fits_a_phone(page):
    page.run("document.querySelector('#detail').close()")
    page.call("Emulation.setDeviceMetricsOverride", width=375, height=800, deviceScaleFactor=1, mobile=True)
    assert page.wait("document.documentElement.scrollWidth <= 375")
