"""The official client of the open videos API, unchanged, against this server."""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx", "openai"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def client(running):
    import openai

    with openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_it_creates_polls_downloads_and_deletes(client):
    video = client.videos.create(prompt="a red ball bounces", seconds="2", size="16x16", extra_body={"seed": 3})
    assert video.status in ("queued", "in_progress") and video.prompt == "a red ball bounces"
    done = client.videos.poll(video.id, poll_interval_ms=50)
    assert (done.status, done.progress, done.size) == ("completed", 100, "16x16")
    assert client.videos.download_content(done.id).read()[4:8] == b"ftyp"
    assert client.videos.download_content(done.id, variant="thumbnail").read().startswith(b"\x89PNG")
    assert done.id in [one.id for one in client.videos.list(limit=5)]
    assert client.videos.delete(done.id).deleted
    assert done.id not in [one.id for one in client.videos.list(limit=5)]


def test_it_sends_a_picture_and_goes_on_from_the_result(client, png):
    first = client.videos.create_and_poll(
        prompt="a red ball", input_reference=("picture.png", png, "image/png"), poll_interval_ms=50
    )
    assert first.status == "completed"
    clip = client.videos.download_content(first.id).read()
    longer = client.videos.extend(video=("clip.mp4", clip, "video/mp4"), prompt="a blue star", seconds="4")
    remixed = client.videos.remix(first.id, prompt="a blue star")
    longer, remixed = (client.videos.poll(one.id, poll_interval_ms=50) for one in (longer, remixed))
    assert longer.status == remixed.status == "completed"
    assert float(longer.seconds) > float(first.seconds)
    assert remixed.remixed_from_video_id == first.id


def test_it_makes_a_picture(client):
    made = client.images.generate(prompt="a red ball", size="16x16", n=1)
    assert made.data[0].b64_json


def test_an_error_is_one_of_its_own(client):
    import openai

    with pytest.raises(openai.BadRequestError, match="7x7") as raised:
        client.videos.create(prompt="a red ball", size="7x7")
    assert raised.value.code == "size_invalid"
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_" + "0" * 32)
