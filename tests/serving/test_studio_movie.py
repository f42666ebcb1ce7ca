"""The movie's page of the studio in a real browser: a story written, edited along its timeline, made, and changed."""

import json

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def page(running, Browser, tmp_path_factory):
    from videopoet.generation import movie as movies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movies, "SHAPES", {"portrait": (64, 36), "square": (48, 48), "landscape": (36, 64)})
        browser = Browser(tmp_path_factory.mktemp("profile"), running.address)
        browser.wait(
            "document.querySelector('#state')?.dataset.state === 'ready' && document.querySelector('#form textarea')"
        )
        browser.press("movie", "#tasks")
        yield browser
        browser.close()


def type_into(page, selector, text):
    page.run(f"(() => {{ const one = document.querySelector('{selector}'); one.focus(); one.select(); }})()")
    page.call("Input.insertText", text=text)


def choose(page, selector, value):
    page.run(
        f"(() => {{ const one = document.querySelector('{selector}'); one.value = '{value}';"
        " one.dispatchEvent(new Event('change')); })()"
    )


def prompts(page):
    return page.run("[...document.querySelectorAll('.scene textarea')].map(one => one.value)")


def newest(running):
    return running.client.get("/v1/videos").json()["data"][0]


def made(page, running, count):
    page.wait(f"document.querySelectorAll('.card[data-status=completed]').length >= {count}")
    return newest(running)


def scene(number):
    return f".scene:nth-child({number})"


def test_an_idea_becomes_scenes_on_a_timeline(page):
    type_into(page, ".idea textarea", "a red ball travels to the sea with a wizard")
    choose(page, ".idea select", "3")
    page.press("Write the story")
    page.wait("document.querySelectorAll('.scene').length === 3")
    said = prompts(page)
    assert all("red ball" in prompt for prompt in said) and {"sea", "water"} & set(said[-1].split())
    assert (
        page.run("document.querySelector('input[name=title]').value") == "A Red Ball Travels to the Sea with a Wizard"
    )
    assert "'wizard'" in page.run("document.querySelector('#form .warning').textContent")
    assert page.run("document.querySelectorAll('.timeline button').length") == 3


def test_scenes_are_edited_moved_removed_and_added(page):
    before = prompts(page)
    page.run(f"document.querySelector('{scene(1)} [aria-label=\"Move down scene 1\"]').click()")
    assert prompts(page) == [before[1], before[0], before[2]]
    page.run(f"document.querySelector('{scene(3)} [aria-label=\"Remove scene 3\"]').click()")
    assert prompts(page) == [before[1], before[0]]
    page.press("Add a scene")
    type_into(page, f"{scene(3)} textarea", "a blue star flies")
    assert prompts(page)[2] == "a blue star flies"
    assert page.run("document.activeElement.ariaLabel") == "Words of scene 3"


def test_the_timeline_shows_how_long_scenes_are_and_how_they_begin(page):
    for number in (1, 2, 3):
        type_into(page, f"{scene(number)} input[type=number]", "1.25")
    type_into(page, f"{scene(2)} input[type=number]", "2.5")
    choose(page, f"{scene(3)} .head select", "continue")
    widths = page.run("[...document.querySelectorAll('.timeline button')].map(one => one.offsetWidth)")
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.15)
    joins = page.run("[...document.querySelectorAll('.timeline button')].map(one => one.dataset.join)")
    assert joins == ["", "fade", "continue"]
    assert page.run("document.querySelector('.length').textContent").startswith("5.0 of at most 120")
    page.run("document.querySelectorAll('.timeline button')[1].click()")
    assert page.run("document.activeElement.ariaLabel") == "Words of scene 2"


def test_the_movie_is_made_and_plays(page, running):
    page.press("Make the movie")
    job = made(page, running, 1)
    assert job["task"] == "movie" and job["size"] == "36x64"
    board = job["settings"]["storyboard"]
    assert [one["seconds"] for one in board["scenes"]] == [1.25, 2.5, 1.25]
    assert board["scenes"][2]["transition"] == "continue"
    page.run("document.querySelector('.card .caption').click()")
    page.wait("document.querySelector('#detail video')?.currentTime > 0")
    assert page.run("document.querySelector('#detail video').videoHeight") == 64
    page.wait("[...document.querySelectorAll('#detail button')].some(one => one.textContent === 'Download')")


def test_a_movie_is_changed_from_its_result_and_keeps_its_other_scenes(page, running):
    first = newest(running)
    page.press("Edit the storyboard", "#detail")
    page.wait("document.querySelectorAll('.scene').length === 3")
    type_into(page, f"{scene(1)} textarea", "a blue ball")
    page.press("Make the movie")
    job = made(page, running, 2)
    assert job["parent_id"] == first["id"] and job["settings"]["storyboard"]["scenes"][0]["prompt"] == "a blue ball"
    takes = [
        {file.name for file in (running.storage.of_job(one["id"]) / "1" / "scenes").iterdir()} for one in (first, job)
    ]
    assert len(takes[0] & takes[1]) == 1  # the two that go on from one another


def test_another_take_of_a_scene_has_another_seed(page, running):
    before = newest(running)["settings"]["storyboard"]["scenes"]
    page.run(f"document.querySelector('{scene(1)} [aria-label=\"Another take of scene 1\"]').click()")
    page.press("Make the movie")
    after = made(page, running, 3)["settings"]["storyboard"]["scenes"]
    assert after[0]["seed"] != before[0]["seed"] and after[1:] == before[1:]


def test_what_is_edited_outlives_the_page(page):
    before = prompts(page)
    page.call("Page.reload")
    page.wait("document.querySelector('#form textarea') && !document.querySelector('.scene')")
    page.press("movie", "#tasks")
    page.wait("document.querySelectorAll('.scene').length === 3")
    assert prompts(page) == before


def test_mistakes_are_sentences(page):
    page.press("Add a scene")
    type_into(page, f"{scene(4)} textarea", " ")
    page.press("Make the movie")
    page.wait("document.querySelector('#notes').innerText.includes('Scene 4 has no words')")
    type_into(page, f"{scene(4)} textarea", "a ball")
    type_into(page, f"{scene(4)} input[type=number]", "0.5")
    page.press("Make the movie")
    page.wait("document.querySelector('#notes').innerText.includes('scene 4 lasts 0.5 seconds and fades')")


def test_the_page_fits_a_phone(page):
    page.call("Emulation.setDeviceMetricsOverride", width=375, height=800, deviceScaleFactor=1, mobile=True)
    assert page.wait("document.documentElement.scrollWidth <= 375")
    boxes = page.run(
        "JSON.stringify([...document.querySelectorAll('.scene select, .scene input, .scene button')]"
        ".map(one => one.getBoundingClientRect().right))"
    )
    assert max(json.loads(boxes)) <= 375
