"""Movies over HTTP: storyboards written and refused, movies as jobs of the queue, scenes that are not made again."""

import errno
import re

import pytest

from videopoet.generation import movie as movies
from videopoet.media.files import probe, read_image

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)

SCENES = [
    {"prompt": "a red ball", "seconds": 1.25},
    {"prompt": "a blue star flies", "seconds": 1.25, "transition": "cut"},
]
BOARD = {"title": "A Ball", "title_seconds": 1.0, "scenes": SCENES, "seed": 7}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(movies, "SHAPES", {"portrait": (64, 36), "square": (48, 48), "landscape": (36, 64)})


def ask(running, board=BOARD, **more):
    answer = running.post("/v1/movies", storyboard=board, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def takes(running, job):
    return {file.name for file in (running.storage.of_job(job["id"]) / "1" / "scenes").iterdir()}


def test_a_movie_is_a_job_whose_result_is_a_clip(running, tmp_path):
    asked = ask(running)
    assert (asked["task"], asked["kind"], asked["prompt"]) == ("movie", "video", "A Ball")
    job = running.ended(asked["id"])
    assert job["size"] == "36x64" and float(job["seconds"]) == pytest.approx((24 + 30 + 30 - 10) / 24, abs=1e-4)
    assert job["settings"]["storyboard"]["scenes"][0]["prompt"] == "a red ball"
    assert set(job["variants"]) == {"video", "thumbnail", "spritesheet", "audio"}
    (tmp_path / "movie.mp4").write_bytes(running.client.get(f"/v1/videos/{job['id']}/content").content)
    facts = probe(tmp_path / "movie.mp4")
    assert (facts.num_frames, facts.frame_rate, facts.audio_codec) == (74, 24.0, "aac")
    sheet = running.client.get(f"/v1/videos/{job['id']}/content?variant=spritesheet")
    (tmp_path / "sheet.png").write_bytes(sheet.content)
    assert read_image(tmp_path / "sheet.png").width == 5 * 90
    listed = running.client.get("/v1/videos").json()["data"]
    assert job["id"] in [one["id"] for one in listed]


def test_a_movie_s_file_does_not_say_how_it_was_made_where_that_is_asked_for(running, tmp_path):
    kept = []
    for how in ({}, {"metadata": False}):
        job = running.ended(ask(running, **how)["id"])
        (tmp_path / "movie.mp4").write_bytes(running.client.get(f"/v1/videos/{job['id']}/content").content)
        kept.append(bool(probe(tmp_path / "movie.mp4").metadata))
        assert job["metadata"]["storyboard"]["title"] == "A Ball"
    assert kept == [True, False]


def test_unchanged_scenes_come_from_the_movie_before(running):
    first = running.ended(ask(running)["id"])
    board = {**BOARD, "scenes": [SCENES[0], {**SCENES[1], "prompt": "a blue ball"}], "title": ""}
    second = running.ended(ask(running, board, takes_of=first["id"])["id"])
    assert second["parent_id"] == first["id"]
    assert len(takes(running, first) & takes(running, second)) == 1
    assert len(takes(running, second)) == 2
    shared = next(iter(takes(running, first) & takes(running, second)))
    files = [running.storage.of_job(job["id"]) / "1" / "scenes" / shared for job in (first, second)]
    assert files[0].samefile(files[1])


def test_the_same_storyboard_gives_the_same_bytes(running):
    contents = []
    for _ in range(2):
        job = running.ended(ask(running)["id"])
        contents.append(running.client.get(f"/v1/videos/{job['id']}/content").content)
    assert contents[0] == contents[1]


def test_an_idea_becomes_a_storyboard_that_is_accepted(running):
    answer = running.post("/v1/storyboards", idea="a wizard sees a red ball", scenes=2, seconds=4, seed=3).json()
    board = answer["storyboard"]
    assert board["title"] == "A Wizard Sees a Red Ball" and "'wizard'" in answer["warnings"][0]
    assert [scene["seconds"] for scene in board["scenes"]] == [2.0, 2.0]
    assert running.client.post("/v1/movies", json={"storyboard": board}).status_code == 200
    choices = running.client.get("/v1/storyboards").json()
    assert "zoom in" in choices["cameras"] and choices["transitions"] == ["cut", "fade", "continue"]
    assert choices["most_seconds"] == 120 and choices["defaults"]["shape"] == "portrait"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"storyboard": {"scenes": []}}, 400, "scenes of the storyboard are 0"),
        ({"storyboard": {"scenes": [{"prompt": "a"}, {}]}}, 400, "scene 2 lacks 'prompt'"),
        ({"storyboard": {"scenes": [{"prompt": "a", "seconds": 60}] * 3}}, 400, "180 seconds .* makes 120 at once"),
        ({"storyboard": BOARD, "takes_of": "../../etc"}, 404, "takes_of names no movie"),
        ({"storyboard": BOARD, "takes_of": "video_" + "a" * 32}, 404, "takes_of names no movie"),
        ({"storyboard": BOARD, "font": "/etc/passwd"}, 422, "font"),
        ({}, 422, "storyboard"),
    ],
)
def test_a_movie_that_cannot_be_made_is_refused(running, body, status, said):
    answer = running.client.post("/v1/movies", json=body)
    assert answer.status_code == status, answer.text
    assert re.search(said, answer.json()["error"]["message"])


@pytest.mark.parametrize("body", [{"idea": ""}, {"idea": "x" * 501}, {"idea": "a ball", "scenes": 101}, {}])
def test_an_idea_that_does_not_fit_is_refused(running, body):
    assert running.client.post("/v1/storyboards", json=body).status_code == 422


def test_a_scene_that_the_model_cannot_make_fails_by_its_number(running):
    board = {**BOARD, "scenes": [SCENES[0], {**SCENES[1], "prompt": "a " * 70}]}
    job = running.ended(ask(running, board)["id"], "failed")
    assert job["error"]["message"].startswith("scene 2: the prompt has 70 tokens")


def test_a_movie_whose_disk_is_full_says_so_and_the_worker_goes_on(running, monkeypatch):
    def full(path, tensors):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("videopoet.checkpoint.save_tensors", full)
        job = running.ended(ask(running)["id"], "failed")
    assert job["error"]["code"] == "disk_full" and str(running.storage.folder) not in job["error"]["message"]
    running.ended(ask(running)["id"])


def test_a_movie_is_cancelled_and_the_worker_goes_on(running):
    long = {**BOARD, "scenes": [{"prompt": "a red ball", "seconds": 30}] * 2}
    job = ask(running, long)
    running.client.post(f"/v1/videos/{job['id']}/cancel")
    running.ended(job["id"], "cancelled")
    running.ended(ask(running)["id"])


def test_a_movie_is_remixed_by_its_storyboard_alone(running):
    job = running.ended(ask(running)["id"])
    answer = running.post(f"/v1/videos/{job['id']}/remix", prompt="a ball")
    assert answer.status_code == 400 and "POST /v1/movies takes one" in answer.json()["error"]["message"]


def test_a_movie_goes_on_as_any_clip(running):
    job = running.ended(ask(running)["id"])
    running.made(task="video_continuation", video={"id": job["id"]}, seconds=1, seed=1)
