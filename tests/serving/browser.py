"""A page in headless Chromium, driven by its own protocol over pipes."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
