"""The studio in a real browser: from words to a clip that plays, a painted mask, takes, and errors as sentences."""

import json

import pytest

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
