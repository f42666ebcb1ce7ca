"""Reading a file as it is decoded."""

import pytest

from videopoet.errors import MediaError
from videopoet.media.protocol import BEGIN, END, FRAME, SOUND, Limits
from videopoet.media.sandbox import decode, stream


def wanted(**more):
    return {"what": "video", "limits": Limits(), **more}


def test_a_stream_holds_what_is_read_at_once(clip_path):
    whole = decode(clip_path, **wanted(frame_rate=4.0))
    messages = list(stream(clip_path, **wanted(frame_rate=4.0)))
    assert [content for kind, content in messages if kind == FRAME] == whole.frames
    assert [content for kind, content in messages if kind == SOUND] == whole.sound
    assert messages[-1] == (END, whole.facts)


def test_what_is_needed_to_read_frames_and_sound_comes_before_them(clip_path):
    known = {}
    for kind, content in stream(clip_path, **wanted()):
        if kind == BEGIN:
            known |= content
        elif kind == FRAME:
            assert len(content[1]) == known["height"] * known["width"] * known["pixel_channels"]
        elif kind == SOUND:
            assert (known["sample_rate"], known["channels"]) == (16_000, 1)


def test_of_several_sizes_the_one_nearest_in_shape_is_taken(clip_path):
    sizes = ((32, 32), (32, 40), (40, 32))
    facts = decode(clip_path, **wanted(sizes=sizes)).facts
    assert (facts["height"], facts["width"]) == (32, 40)


def test_who_stops_reading_ends_the_child(clip_path):
    messages = stream(clip_path, **wanted())
    next(messages)
    child = messages.gi_frame.f_locals["child"]
    messages.close()
    assert child.poll() is not None


def test_a_file_that_is_no_clip_is_refused_before_anything_comes(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 8 + b"nothing")
    with pytest.raises(MediaError, match="no kind of media"):
        next(stream(broken, **wanted()))


def test_a_child_that_sends_nothing_is_killed_at_the_deadline(clip_path, monkeypatch):
    from videopoet.media import sandbox

    monkeypatch.setattr(sandbox, "CHILD", ("-c", "import time; time.sleep(60)"))
    with pytest.raises(MediaError, match="did not end within") as caught:
        next(stream(clip_path, **wanted(limits=Limits(deadline_seconds=0.3))))
    assert caught.value.code == "media_timeout"
