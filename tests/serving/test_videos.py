"""The addresses of jobs, over HTTP, with a tiny poet behind them."""

import base64
import io
import json
import weakref

import PIL.Image
import pytest
import torch

from videopoet.sequence.tasks import TASKS

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)


def events(text):
    """Names and data of server-sent events."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


@pytest.fixture(scope="module")
def clip(running):
    """A finished clip to go on from."""
    return running.made(prompt="a red ball", seed=1)


def test_a_worker_whose_device_failed_ends_and_leaves_its_job_to_another(start, poet, monkeypatch):
    from videopoet.serving.worker import STUCK_STATUS, Worker

    class Ended(BaseException):
        pass

    def end(status):
        assert status == STUCK_STATUS
        raise Ended

    def fail(*_, **__):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(poet, "generate_batch", fail)
    monkeypatch.setattr("videopoet.serving.worker.os._exit", end)
    running = start(with_worker=False)
    made = running.post(prompt="a red ball").json()
    worker = Worker(poet, running.jobs, running.storage, "worker")
    with pytest.raises(Ended):
        worker.run()
    assert running.look(made["id"])["status"] == "in_progress"  # until its lease ends, as after a crash


def test_jobs_that_do_not_fit_together_are_made_one_by_one_once_their_memory_is_free(start, poet, monkeypatch):
    from videopoet.serving.worker import Worker

    make, held = poet.generate_batch, []

    class Cache:
        pass

    def generate(requests, **how):
        if len(requests) > 1:
            cache = Cache()
            held.append(weakref.ref(cache))
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        assert held[0]() is None
        return make(requests, **how)

    monkeypatch.setattr(poet, "generate_batch", generate)
    running = start(with_worker=False)
    worker = Worker(poet, running.jobs, running.storage, "worker")
    made = [running.post(prompt="a red ball").json() for _ in range(2)]
    worker.work(running.jobs.claim("worker", 2))
    assert [running.look(job["id"])["status"] for job in made] == ["completed"] * 2
    monkeypatch.setattr(poet, "generate_batch", lambda requests, **how: generate([*requests] * 2))
    made = running.post(prompt="a red ball").json()
    worker.work(running.jobs.claim("worker", 1))
    assert running.look(made["id"])["error"]["code"] == "out_of_memory"
    assert "the server's device" in running.look(made["id"])["error"]["message"]


def test_a_clip_is_made_looked_at_downloaded_and_deleted(running):
    job = running.made(prompt="a red ball bounces", seed=3)
    assert (job["object"], job["progress"], job["kind"], job["size"]) == ("video", 100, "video", "16x16")
    assert job["seed"] == 3 and job["metadata"]["prompt"] == "a red ball bounces"
    assert job["seconds"] == "2.125" and job["completed_at"] >= job["created_at"]
    content = running.client.get(f"/v1/videos/{job['id']}/content")
    assert content.headers["content-type"] == "video/mp4" and content.content[4:8] == b"ftyp"
    for variant in ("thumbnail", "spritesheet"):
        picture = running.client.get(f"/v1/videos/{job['id']}/content", params={"variant": variant})
        assert picture.content.startswith(b"\x89PNG")
    deleted = running.client.delete(f"/v1/videos/{job['id']}").json()
    assert deleted == {"id": job["id"], "object": "video.deleted", "deleted": True}
    assert running.client.get(f"/v1/videos/{job['id']}").status_code == 404
    assert running.client.delete(f"/v1/videos/{job['id']}").status_code == 404
    assert not running.storage.of_job(job["id"]).exists()


@pytest.mark.parametrize("task", [name for name in TASKS if name != "stylization"])
def test_every_task_can_be_asked_for_by_what_the_table_says(running, clip, png, task):
    row = TASKS[task]
    fields = {"task": task, "seed": 1}
    fields |= {"prompt": "a blue star"} if "prompt" in row.requires else {}
    fields |= {name: {"id": clip["id"]} for name in ("image", "video", "audio") if name in row.requires}
    job = running.made(**fields)
    content = running.client.get(f"/v1/videos/{job['id']}/content")
    starts = {"video": b"ftyp", "image": b"\x89PNG", "audio": b"RIFF"}
    if job["kind"] == "text":
        assert content.text.strip() == job["text"].strip()
    else:
        assert starts[job["kind"]] in content.content[:8]
    assert job["parent_id"] == (clip["id"] if set(row.requires) - {"prompt"} else None)


def test_the_same_seed_gives_the_same_bytes(running, clip):
    again = running.made(prompt="a red ball", seed=1)
    first, second = (running.client.get(f"/v1/videos/{job['id']}/content").content for job in (clip, again))
    assert first == second


def test_an_upload_is_taken_as_form_and_as_data_url(running, png):
    form = running.client.post("/v1/videos", data={"seed": "5"}, files={"input_reference": ("../x.html", png)})
    url = running.post(image={"url": "data:image/png;base64," + base64.b64encode(png).decode()}, seed=5)
    made = [running.ended(answer.json()["id"]) for answer in (form, url)]
    assert {job["task"] for job in made} == {"image_to_video"}
    first, second = (running.client.get(f"/v1/videos/{job['id']}/content").content for job in made)
    assert first == second
    assert [file.name for file in running.storage.of_job(made[0]["id"]).joinpath("inputs").iterdir()] == ["image"]


def test_an_extension_is_the_clip_and_its_continuation(running, clip):
    job = running.made("/v1/videos/extensions", video={"id": clip["id"]}, prompt="a blue star", seconds="1", seed=1)
    assert job["task"] == "video_continuation" and job["parent_id"] == clip["id"]
    assert float(job["seconds"]) > float(clip["seconds"])


def test_a_clip_is_used_from_the_time_asked_for_on(running, clip):
    job = running.made(task="inpainting", video={"id": clip["id"]}, start=1.0, seed=1)
    assert (job["seconds"], job["settings"]["start"], job["metadata"]["start"]) == ("1.125", 1.0, 1.0)


def test_an_edit_fills_the_region_that_is_named(running, clip):
    job = running.made("/v1/videos/edits", video={"id": clip["id"]}, mask="central", seed=1)
    assert job["task"] == "inpainting"
    assert running.post("/v1/videos/edits", prompt="a star").json()["error"]["param"] == "video"


def test_a_remix_asks_again_with_other_words(running, clip):
    job = running.made(f"/v1/videos/{clip['id']}/remix", prompt="a blue star")
    assert (job["remixed_from_video_id"], job["prompt"], job["seed"]) == (clip["id"], "a blue star", 1)


def test_a_remix_keeps_what_its_source_was_given(running, png):
    source = running.client.post("/v1/videos", files={"image": ("x.png", png)}, data={"seed": "1"}).json()
    again = running.post(f"/v1/videos/{source['id']}/remix", seed=2).json()
    assert again["task"] == "image_to_video" and again["inputs"] == ["image"] and again["seed"] == 2
    kept = running.storage.input(again["id"], "image").read_bytes()
    for job in (source, again):
        running.client.delete(f"/v1/videos/{job['id']}")
    assert kept == png


def test_a_remix_of_what_is_deleted_meanwhile_is_refused_and_leaves_nothing(running, png, monkeypatch):
    source = running.client.post("/v1/videos", files={"image": ("x.png", png)}, data={"seed": "1"}).json()
    again = running.service.intake.again

    def late(owner, job, body):
        running.client.delete(f"/v1/videos/{source['id']}")
        return again(owner, job, body)

    monkeypatch.setattr(running.service.intake, "again", late)
    answer = running.post(f"/v1/videos/{source['id']}/remix", seed=2)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_unknown")
    assert list(running.storage.incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "task"), [("mp4", "text_to_video"), ("png", "text_to_image"), ("wav", "text_to_audio")]
)
def test_how_a_result_was_made_stays_out_of_its_file_where_that_is_asked_for(running, tmp_path, kind, task):
    def told(job):
        path = tmp_path / f"{job['id']}.{kind}"
        path.write_bytes(running.client.get(f"/v1/videos/{job['id']}/content").content)
        return path.read_bytes().count(b"a red ball")

    usual = running.made(task=task, prompt="a red ball", seed=1)
    asked = running.client.post("/v1/videos", data={"task": task, "prompt": "a red ball", "metadata": "false"}).json()
    without = running.ended(asked["id"])
    remixed = running.made(f"/v1/videos/{without['id']}/remix", seed=2)
    with_again = running.made(f"/v1/videos/{without['id']}/remix", metadata=True)
    assert [told(job) for job in (usual, without, remixed, with_again)] == [1, 0, 0, 1]
    assert without["metadata"]["prompt"] == "a red ball" and without["settings"]["metadata"] is False
    assert "metadata" not in usual["settings"]


def test_jobs_are_listed_page_by_page(running, clip):
    made = [running.made(prompt="a star", seed=seed)["id"] for seed in (1, 2)]
    page = running.client.get("/v1/videos", params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == made[::-1] and page["has_more"]
    rest = running.client.get("/v1/videos", params={"limit": 100, "after": page["last_id"]}).json()
    assert clip["id"] in [job["id"] for job in rest["data"]] and not rest["has_more"]


def test_events_follow_a_job_to_its_end(running):
    job = running.post(prompt="a red ball", seconds=4, seed=1).json()
    heard = events(running.client.get(f"/v1/videos/{job['id']}/events").text)
    assert [name for name, _ in heard][-1] == "completed"
    assert {name for name, _ in heard[:-1]} <= {"progress", "frames"}
    progress = [data["progress"] for name, data in heard if name != "frames"]
    assert progress == sorted(progress) and progress[-1] == 100


def test_one_stream_follows_all_jobs(running):
    heard = []
    with running.client.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        job = running.post(prompt="a red ball", seed=1).json()
        for line in lines:
            about = json.loads(line[6:]) if line.startswith("data: ") else {}
            if about.get("id") == job["id"] and "image" not in about:
                heard.append(about.get("status", "deleted"))
                if heard[-1] == "completed":
                    running.client.delete(f"/v1/videos/{job['id']}")
                if heard[-1] == "deleted":
                    break
    assert heard[-2:] == ["completed", "deleted"]


def test_a_clip_that_is_waited_for_is_the_answer(running):
    answer = running.post("/v1/videos/sync", prompt="a red ball", seed=1)
    assert answer.status_code == 200 and answer.content[4:8] == b"ftyp"
    assert running.look(answer.headers["x-video-id"])["status"] == "completed"


def test_pictures_are_made_as_many_as_are_asked_for(running):
    made = running.post("/v1/images/generations", prompt="a red ball", n=2, seed=7).json()["data"]
    assert all(base64.b64decode(picture["b64_json"]).startswith(b"\x89PNG") for picture in made)
    assert [running.look(picture["id"])["seed"] for picture in made] == [7, 8]


@pytest.mark.parametrize("seed", ["7", " +7 ", 7.0])
def test_each_picture_has_a_seed_of_its_own_however_the_first_is_given(running, seed):
    how = {"data": {"prompt": "a ball", "n": "2", "seed": seed}} if isinstance(seed, str) else {}
    made = running.client.post(
        "/v1/images/generations", **(how or {"json": {"prompt": "a ball", "n": 2, "seed": seed}})
    )
    assert [running.look(picture["id"])["seed"] for picture in made.json()["data"]] == [7, 8]


@pytest.mark.parametrize("seed", [True, "seven", -1])
def test_a_seed_that_is_none_is_refused_for_several_pictures_too(running, seed):
    answer = running.post("/v1/images/generations", prompt="a ball", n=2, seed=seed)
    assert answer.status_code in (400, 422) and answer.json()["error"]["param"] == "seed"


def test_a_sound_is_made_from_words_and_of_a_clip(running, clip):
    for fields in ({"prompt": "a red ball"}, {"video": {"id": clip["id"]}}):
        answer = running.post("/v1/audio/generations", **fields)
        assert answer.headers["content-type"] == "audio/wav" and answer.content.startswith(b"RIFF")


def test_tasks_say_what_forms_need(running):
    tasks = {task["name"]: task for task in running.client.get("/v1/tasks").json()["data"]}
    assert tasks.keys() == TASKS.keys()
    names = {task: {setting["name"] for setting in tasks[task]["settings"]} for task in tasks}
    assert {"seconds", "camera", "size", "sound", "seed", "guidance_scale", "metadata"} <= names["text_to_video"]
    assert not {"seconds", "camera", "sound"} & names["text_to_image"]
    assert not {"guidance_scale", "size", "metadata"} & names["video_captioning"]
    seconds = next(one for one in tasks["text_to_video"]["settings"] if one["name"] == "seconds")
    assert (seconds["default"], seconds["most"]) == (2.125, 60)
    mask = next(one for one in tasks["inpainting"]["inputs"] if one["name"] == "mask")
    assert "central" in mask["choices"] and not mask["required"]


def test_every_setting_that_tasks_offer_is_taken(running, clip, monkeypatch):
    monkeypatch.setattr("videopoet.serving.intake.examine", lambda *_: None)  # what is given is the same each time
    values = {"number": 1, "whole": 3, "switch": False, "text": "a star"}
    for task in running.client.get("/v1/tasks").json()["data"]:
        if task["name"] in ("stylization", "unconditional"):
            continue
        given = {"prompt": "a ball"} if "prompt" in [one["name"] for one in task["inputs"]] else {}
        given |= {need: {"id": clip["id"]} for need in task["requires"] if need != "prompt"}
        for setting in task["settings"]:
            value = setting["choices"][0] if setting["kind"] == "choice" else values[setting["kind"]]
            answer = running.post(task=task["name"], **given, **{setting["name"]: value})
            refused = answer.json().get("error") or {}
            # One value may contradict another's default; it is never unknown to the task.
            assert refused.get("code") not in ("unknown_field", "type", "internal"), (task["name"], setting, refused)
            assert answer.status_code == 200, (task["name"], setting, refused)
            running.client.delete(f"/v1/videos/{answer.json()['id']}")


def test_models_name_the_model_and_the_server_says_how_it_is(running):
    (model,) = running.client.get("/v1/models").json()["data"]
    assert model["id"] == "videopoet" and model["sizes"] == [[16, 16]]
    assert running.client.get("/v1/models/videopoet").json()["id"] == "videopoet"
    assert running.client.get("/health").json()["status"] == "ok"
    assert running.client.get("/ready").status_code == 200
    metrics = running.client.get("/metrics").text
    assert 'videopoet_jobs{status="completed"}' in metrics and 'videopoet_workers{state="ready"} 1.0' in metrics


def test_a_range_of_a_file_is_answered(running, clip):
    answer = running.client.get(f"/v1/videos/{clip['id']}/content", headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")


@pytest.fixture(scope="module")
def files(tmp_path_factory, random_clip, random_sound):
    """The bytes of uploads, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    random_clip(num_frames=20, audio=random_sound(2.5)).save(folder / "clip.mp4")
    random_clip(num_frames=4).save(folder / "short.mp4")
    random_sound(0.2).save(folder / "blip.wav")
    clip = (folder / "clip.mp4").read_bytes()
    picture = io.BytesIO()
    pictures = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(picture, "WEBP", save_all=True, append_images=pictures[1:], lossless=True)
    wide = io.BytesIO()
    PIL.Image.new("L", (64, 8), 255).save(wide, "PNG")
    return {
        "clip": clip,
        "cut clip": clip[:-406],
        "short clip": (folder / "short.mp4").read_bytes(),
        "blip": (folder / "blip.wav").read_bytes(),
        "moving picture": picture.getvalue(),
        "wide mask": wide.getvalue(),
    }


@pytest.mark.parametrize(
    ("task", "uploads", "fields", "expected"),
    [
        ("text_to_video", {}, {"num_frames": "8"}, "frames_not_on_grid"),
        ("text_to_video", {}, {"prompt": "a ball " * 40}, "prompt_too_long"),
        ("text_to_video", {}, {"prompt": "a <bov> ball"}, "prompt_special_token"),
        ("text_to_audio", {}, {"seconds": "30"}, "range"),
        ("image_to_video", {"image": "cut picture"}, {}, "media_corrupt"),
        ("image_to_video", {"image": "moving picture"}, {}, "image_animated"),
        ("image_to_video", {"image": "clip"}, {}, "image_animated"),
        ("video_continuation", {"video": "cut clip"}, {}, "media_corrupt"),
        ("video_continuation", {"video": "short clip"}, {}, "video_too_short"),
        ("video_continuation", {"video": "clip"}, {"num_frames": "9"}, "frames_not_on_grid"),
        ("video_captioning", {"video": "clip"}, {"start": "3"}, "start_beyond_end"),
        ("text_to_video", {}, {"start": "3"}, "input_unexpected"),
        ("video_captioning", {"video": "blip"}, {}, "no_video_stream"),
        ("video_to_audio", {"video": "cut clip"}, {}, "media_corrupt"),
        ("audio_to_video", {"audio": "picture"}, {}, "no_audio_stream"),
        ("audio_video_continuation", {"image": "picture", "audio": "blip"}, {}, "audio_too_short"),
        ("inpainting", {"video": "clip", "mask": "wide mask"}, {}, "mask_shape"),
        ("inpainting", {"video": "clip", "mask": "cut picture"}, {}, "media_corrupt"),
        ("inpainting", {"video": "clip"}, {"box": "4,4,40,8"}, "box_invalid"),
        ("inpainting", {"video": "clip"}, {"num_frames": "21"}, "range"),
        ("outpainting", {"video": "clip"}, {"box": "0,0,1,1"}, "mask_empty"),
        ("stylization", {"video": "clip", "depth": "wide mask"}, {"prompt": "a ball"}, "depth_shape"),
    ],
)
def test_what_could_only_fail_is_refused_at_once(running, files, png, task, uploads, fields, expected):
    given = files | {"picture": png, "cut picture": png[:60]}
    before = running.jobs.counts()
    answer = running.client.post(
        "/v1/videos",
        data={"task": task, **({"prompt": "a red ball"} if task.startswith("text") else {}), **fields},
        files={name: ("x", given[which]) for name, which in uploads.items()},
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, expected), error
    assert "/" not in error["message"].replace("25,0.25", "") and running.jobs.counts() == before


def test_the_openapi_document_names_every_address(running):
    document = running.client.get("/openapi.json").json()
    for path in ("/v1/videos", "/v1/videos/{video_id}/content", "/v1/videos/sync", "/v1/tasks", "/metrics"):
        assert path in document["paths"]
    body = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert body.keys() == {"application/json", "multipart/form-data"}


def test_servers_on_one_database_make_and_see_the_same_jobs(start, new_database, tmp_path):
    address, folder = new_database(), tmp_path / "shared"
    first = start(folder=folder, database=address)
    second = start(folder=folder, database=address, with_worker=False)
    job = second.made(prompt="a red ball", seed=1)  # by the worker of the first
    content = [server.client.get(f"/v1/videos/{job['id']}/content").content for server in (first, second)]
    assert content[0] == content[1] and content[0][4:8] == b"ftyp"
    assert first.client.delete(f"/v1/videos/{job['id']}").status_code == 200
    assert second.client.get(f"/v1/videos/{job['id']}").status_code == 404
    assert not (folder / "queue.sqlite").exists()
