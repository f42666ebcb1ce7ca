import pytest

from videopoet.media.protocol import Limits, Refusal, Request
from videopoet.media.selection import Sampler, constant_rate, on_screen, place


def request(**wanted) -> Request:
    return Request(what="video", limits=wanted.pop("limits", Limits()), **wanted)


def kept(times: list[float], end: float, **wanted) -> list[int]:
    """Which of the frames that come at these times are shown, at the rate asked for or at their own."""
    frames = zip(times, [*times[1:], end], range(len(times)), strict=True)
    sampler = Sampler(request(**wanted))
    sent = list(sampler.keep(frames))
    starts = [time for time, _ in sent]
    if wanted.get("frame_rate"):
        indices = on_screen(starts, sampler.end, wanted["frame_rate"])
    else:
        _, indices = constant_rate(starts, sampler.end, None)
    return [sent[index][1] for index in indices[: wanted.get("max_frames")]]


THIRTY = [10 + k / 30 for k in range(60)]


def test_thirty_frames_a_second_become_eight():
    assert kept(THIRTY, 12.0, frame_rate=8.0) == [k * 30 // 8 for k in range(16)]


def test_times_rounded_to_milliseconds_lose_no_frame():
    rounded = [round(k / 24, 3) for k in range(48)]
    assert kept(rounded, 2.0, frame_rate=24.0) == list(range(48))
    assert kept(rounded, 2.0) == list(range(48))


def test_a_slow_clip_repeats_its_frames():
    assert kept([0.0, 1.0], 2.0, frame_rate=3.0) == [0, 0, 0, 1, 1, 1]


def test_a_variable_rate_becomes_its_most_usual_one():
    assert kept([0.0, 0.1, 0.2, 0.5, 0.6], 0.7) == [0, 1, 2, 2, 2, 3, 4]


@pytest.mark.parametrize("frame_rate", [8.0, 30.0, None])
def test_reading_stops_once_there_are_enough_frames(frame_rate):
    pulled = []
    frames = ((time, time + 1 / 30, pulled.append(time)) for time in THIRTY)
    sampler = Sampler(request(frame_rate=frame_rate, max_frames=4))
    sent = list(sampler.keep(frames))
    assert len(sent) == 4
    assert len(pulled) <= 4 * 30 / (frame_rate or 30) + 2
    assert kept(THIRTY, 12.0, frame_rate=frame_rate, max_frames=4) == [
        k * 30 // int(frame_rate or 30) for k in range(4)
    ]


def test_reading_stops_after_the_seconds_asked_for():
    assert len(kept(THIRTY, 12.0, frame_rate=8.0, max_seconds=1.0)) == 8
    assert len(kept(THIRTY, 12.0, max_seconds=1.0)) == 30


def test_what_is_gone_before_the_beginning_is_left_out_and_what_is_still_there_comes_first():
    frames = [(time, time + 1 / 30, number) for number, time in enumerate(THIRTY)]
    for frame_rate, expected in ((None, [31, 32, 33]), (10.0, [31, 34, 37])):
        sampler = Sampler(request(start=1.05, frame_rate=frame_rate, max_frames=3), begin=11.05)
        times, numbers = zip(*sampler.keep(iter(frames)), strict=True)
        assert list(numbers) == expected and -1 / 30 < times[0] < 0 < times[1]


@pytest.mark.parametrize("limits", [Limits(seconds=1.0), Limits(frames=10)])
def test_what_exceeds_the_limits_is_refused_and_not_cut(limits):
    with pytest.raises(Refusal) as caught:
        kept(THIRTY, 12.0, frame_rate=8.0, limits=limits)
    assert caught.value.code == "video_too_long"
    assert len(kept(THIRTY, 12.0, frame_rate=8.0, max_seconds=0.3, limits=limits)) == 3


@pytest.mark.parametrize(
    ("size", "wanted", "scaled", "final"),
    [
        ((80, 64), {}, (80, 64), (80, 64)),
        ((80, 64), {"height": 32, "width": 32}, (40, 32), (32, 32)),
        ((80, 64), {"height": 32, "width": 32, "fit": "pad"}, (32, 26), (32, 32)),
        ((80, 64), {"height": 32}, (40, 32), (40, 32)),
        ((80, 64), {"width": 160}, (160, 128), (160, 128)),
    ],
)
def test_a_picture_is_scaled_then_cut_or_framed(size, wanted, scaled, final):
    placement = place(*size, request(**wanted))
    assert (placement.scaled_width, placement.scaled_height) == scaled
    assert (placement.width, placement.height) == final


@pytest.mark.parametrize(("size", "code"), [((7, 100), "video_too_small"), ((8, 1_000_000), "aspect_too_extreme")])
def test_slivers_are_refused(size, code):
    with pytest.raises(Refusal) as caught:
        place(*size, request(height=512, width=512))
    assert caught.value.code == code
