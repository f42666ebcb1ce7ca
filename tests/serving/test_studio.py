"""The studio in a real browser: from words to a clip that plays, a painted mask, takes, and errors as sentences."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class Browser:
    """A page of headless Chromium, driven by its own protocol over pipes."""

    def __init__(self, profile, address):
        to_read, self.writing = os.pipe()
        self.reading, to_write = os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--mute-audio",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        flags += ["--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{to_read} 4>&{to_write}',
                "bash",
                CHROMIUM,
                *flags,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.answers = os.fdopen(self.reading, "rb")
        self.number, self.session, self.requested = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self):
        data = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser is gone"
            data += byte
        return data

    def run(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=60):
        """Wait until an expression is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"Boolean({script})")):
            assert time.monotonic() < deadline, f"never so: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def press(self, text, inside="body"):
        """Click the button of that text."""
        self.wait(
            f"(() => {{ const found = [...document.querySelectorAll('{inside} button')]"
            f".find(one => one.textContent === {json.dumps(text)} && !one.disabled);"
            " found?.click(); return Boolean(found); })()"
        )

    def write(self, text):
        """Type into the prompt."""
        self.run(
            "document.querySelector('#form textarea').focus(); document.querySelector('#form textarea').value = ''"
        )
        self.call("Input.insertText", text=text)

    def shot(self, path, width=1400, height=1000, dark=False):
        """A picture of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        time.sleep(0.3)
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self):
        try:
            os.write(self.writing, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.writing)
        self.answers.close()


@pytest.fixture(scope="module")
def page(running, tmp_path_factory):
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
    for prompt, status in (
        ('a ball "><img src=x onerror=window.hit=1>', "completed"),
        ("a ball <script>window.hit=1</script>", "failed"),  # like a special token, which the error repeats
    ):
        running.ended(running.post(prompt=prompt, seed=1).json()["id"], status)
    page.call("Page.reload")
    page.wait("document.querySelectorAll('.card').length >= 6")
    page.run("document.querySelector('.card .caption').click()")
    page.wait("document.querySelector('#detail').open")
    assert not page.run("window.hit")
    assert "<script>" in page.run("document.querySelector('#detail').innerText")


def test_nothing_is_asked_of_another_host(page, running):
    assert page.requested
    assert all(url.startswith((running.address, "blob:", "data:", "about:")) for url in page.requested)


def test_the_page_fits_a_phone(page):
    page.run("document.querySelector('#detail').close()")
    page.call("Emulation.setDeviceMetricsOverride", width=375, height=800, deviceScaleFactor=1, mobile=True)
    assert page.wait("document.documentElement.scrollWidth <= 375")
