"""Clips and sound by FFmpeg, inside the decoding child: which tracks, which packets; `tracks` decodes them."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

import av
import av.subtitles.stream  # PyAV imports it only when it needs it, but a confined child can open no module.
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from videopoet.media.clock import Clock
from videopoet.media.protocol import FRAME, TIME, Channel, Refusal, Request, too_much_output
from videopoet.media.selection import Sampler, beyond_end, check_pixels, num_ticks, too_long
from videopoet.media.tracks import AudioTrack, VideoTrack, broken

DEMUXERS = "mov,matroska,avi,mpeg,mpegts,ogg,flac,mp3,wav"
CODECS = {
    "video": frozenset(
        "h264 hevc vp8 libvpx vp9 libvpx-vp9 libdav1d mpeg1video mpeg2video mpeg4 msmpeg4v2 msmpeg4v3 h263 mjpeg "
        "prores dnxhd ffv1 theora png qtrle rawvideo".split()
    ),
    "audio": frozenset(
        "aac mp3 mp3float mp2 mp2float opus vorbis flac alac ac3 eac3 amrnb pcm_u8 pcm_s16le pcm_s16be pcm_s24le "
        "pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_mulaw pcm_alaw adpcm_ms "
        "adpcm_ima_wav".split()
    ),
}
"""FFmpeg's decoders that may run. It has hundreds, and the rare ones are where the holes are."""
CODEC_NAMES = {
    "video": "H.264, HEVC, VP8, VP9, AV1, MPEG-1, MPEG-2, MPEG-4, MJPEG, ProRes, DNxHD, FFV1 and Theora",
    "audio": "AAC, MP3, Opus, Vorbis, FLAC, ALAC, AC-3 and PCM",
}
LOOKAHEAD = 32
"""Packets of video that are read before one is decoded: by then all frames shown before it ends have been seen, since
codecs put frames at most 16 places out of order."""
SAYS_WHEN_SHOWN = ("mov", "matroska")
"""Containers whose packets say when their frames are shown; of others it is known once they are decoded."""
ROUNDING = 1e-6
"""Seconds by which a time may be rounded; frames so near to a tick are decoded in any case."""
RUN_UPS = (1.0, 8.0, 40.0)
"""Seconds before what is asked for at which decoding begins, the next where a container finds no key frame in time.
Sound needs some, for the state of its decoder, and because containers store it up to a second beside its picture."""
SOUND_MARGIN = 0.25
"""Seconds of sound that are sent from before where reading begins, where the rate of the frames is not known: the frame
on screen there may have come so long before."""
BEGINS_AGAIN = ("mpegts", "mpeg")
"""Containers whose clock may begin again on the way, as in files that were joined byte by byte."""
DECLARES_LENGTH = ("mov", "matroska", "avi", "flac")
TOLERANT: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Lets a container with unreadable metadata open; from PyAV 19 on it does so by itself."""


def read(file: BinaryIO, request: Request, channel: Channel) -> dict[str, Any]:
    """Send what is asked for, and give the facts about it.

    Raises:
        Refusal: The file is broken, of a kind that is not read, or exceeds a limit.
    """
    av.logging.set_level(None)
    try:
        begin = None
        if request.start is not None:
            with _opened(file, request) as container:
                begin = Reader(container, request, channel).origin() + request.start
        with _opened(file, request) as container:
            reader = Reader(container, request, channel, begin)
            if begin is None or reader.go_to(begin):
                return reader.read()
        with _opened(file, request) as container:
            return Reader(container, request, channel, begin).read()
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise broken("it cannot be decoded") from error


def _opened(file: BinaryIO, request: Request) -> InputContainer:
    """The container, at its beginning."""
    names = ",".join(sorted(CODECS["video"] | CODECS["audio"]))
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "codec_whitelist": names}
    file.seek(0)
    return av.open(file, "r", request.demuxer, container_options=options, **TOLERANT)


class Reader:
    """One pass through a container for the tracks that a request wants.

    Args:
        container: The container.
        request: What is asked for.
        channel: Where it goes.
        begin: Where reading begins, in the file's own time: what comes earlier is left out. None is at the first frame
            or sample.
    """

    def __init__(self, container: InputContainer, request: Request, channel: Channel, begin: float | None = None):
        self.container, self.request, self.channel, self.begin = container, request, channel, begin
        self.packets = Packets(container)
        self.video = next((s for s in container.streams.video if s.disposition != Disposition.attached_pic), None)
        self.audio = next(iter(container.streams.audio), None)

    def origin(self) -> float:
        """When the first frame comes, or of sound alone the first sample, in the file's own time."""
        if self.request.what == "audio":
            sound = self._audio_track()
            packets = (packet for packet in self.packets if packet.stream is sound.stream)
            return next((time for packet in packets for time, _ in sound.decode(packet)), 0.0)
        return next((time for time, _, _ in self._frames(self._video_track(), None)), 0.0)

    def go_to(self, begin: float) -> bool:
        """Go on in the container to where decoding must begin; false where that cannot be found."""
        sought = self.video or self.audio
        needed = self.audio if self.request.what == "audio" else self.video
        if sought is None or needed is None:
            return True
        return any(self.packets.go_to(begin, begin - run_up, sought, needed) for run_up in RUN_UPS)

    def read(self) -> dict[str, Any]:
        match self.request.what:
            case "facts":
                return self._describe()
            case "audio":
                sound = self._audio_track()
                facts = self._send_sound(sound)
                if self.begin is not None and sound.start is None:
                    start = self.request.start or 0.0
                    raise beyond_end(start, start + sound.clock - self.begin)
                facts["origin"] = sound.start if self.begin is None else self.begin
            case "image":
                facts, _ = self._send_frames(self._video_track(), None)
            case "video":
                sound = self._audio_track() if self.audio is not None else None
                facts, end = self._send_frames(self._video_track(), sound)
                if sound is not None:
                    sound.end = end
                    facts |= self._send_sound(sound)
        self.packets.check_whole()
        return facts

    def _send_frames(self, video: VideoTrack, sound: AudioTrack | None) -> tuple[dict[str, Any], float]:
        """Send frames, and sound that comes between them; give the facts, and when in the file the last frame goes."""
        self._refuse_early(video)
        sampler = Sampler(self.request, self.begin)
        for time, frame in sampler.keep(self._frames(video, sound, sampler)):
            first, picture = video.view is None, video.picture(frame)
            if first:
                self.channel.begin(**video.facts(), origin=sampler.origin, has_sound=sound is not None)
            self.channel.send(FRAME, TIME.pack(time), picture)
        facts = {**video.facts(), "origin": sampler.origin, "end": sampler.end}
        return facts, (sampler.origin or 0.0) + sampler.end

    def _send_sound(self, sound: AudioTrack) -> dict[str, Any]:
        """Send the rest of the sound."""
        for packet in self.packets:
            if packet.stream is sound.stream and not sound.send(packet):
                break
        return sound.facts()

    def _frames(
        self, video: VideoTrack, sound: AudioTrack | None, sampler: Sampler | None = None
    ) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Frames in order; without those that the sampler does not keep, where nothing else depends on them."""
        ahead = Lookahead(video, sampler)
        for packet in self.packets:
            if packet.stream is video.stream:
                for earlier, is_wanted in ahead.push(packet):
                    yield from video.decode(earlier, is_wanted)
            elif sound is not None and packet.stream is sound.stream:
                sound.send(packet)
        for packet, is_wanted in ahead.rest():
            yield from video.decode(packet, is_wanted)

    def _video_track(self) -> VideoTrack:
        if self.video is None:
            raise self._without("video", "no_video_stream")
        self._check(self.video)
        return VideoTrack(self.video, self.request, self.packets.begin)

    def _audio_track(self) -> AudioTrack:
        if self.audio is None:
            raise self._without("sound", "no_audio_stream")
        self._check(self.audio)
        begin = self.begin
        if begin is not None and self.request.what == "video":
            rate = self.video and self.video.average_rate
            begin -= float(1 / rate) if rate else SOUND_MARGIN
        return AudioTrack(self.audio, self.channel, self.request, begin, self.packets.begin)

    def _without(self, needed: str, code: str) -> Refusal:
        found = "video only" if self.video is not None else "sound only" if self.audio is not None else "no track"
        return Refusal(code, f"it holds {found}; a track of {needed} is needed; use another file")

    def _check(self, stream: VideoStream | AudioStream) -> None:
        context = stream.codec_context
        if context is None or context.name not in CODECS[stream.type]:
            codec = f"codec '{context.name}'" if context is not None else "an unknown codec"
            raise Refusal(
                "codec_unsupported",
                f"its {stream.type} is of {codec}; {CODEC_NAMES[stream.type]} are read; convert it to mp4 with H.264 "
                "and AAC",
            )
        if isinstance(stream, VideoStream):
            check_pixels(stream.width, stream.height, self.request.limits.frame_pixels, "video")

    def _refuse_early(self, video: VideoTrack) -> None:
        """Spare the decoding where an index says that what is asked for exceeds the limits."""
        request, limits, num_frames = self.request, self.request.limits, video.stream.frames
        if request.demuxer != "mov" or num_frames == 0 or video.rate is None:
            return
        rate = request.frame_rate or video.rate
        seconds = max(0.0, num_frames / video.rate - (request.start or 0.0))
        wanted = min(num_ticks(seconds, rate), request.max_frames or num_frames)
        if request.max_seconds:
            wanted = min(wanted, num_ticks(request.max_seconds, rate))
        needed = wanted / rate * video.rate
        if needed > limits.frames:
            raise too_long(limits)
        height, width = request.height or video.stream.height, request.width or video.stream.width
        if request.sizes:
            height, width = max(request.sizes, key=lambda size: size[0] * size[1])
        if 3 * height * width * min(wanted, needed) > limits.output_bytes:
            raise too_much_output(limits.output_bytes)

    def _describe(self) -> dict[str, Any]:
        container, video = self.container, None
        if self.video is not None:
            video = self._video_track()
        elif self.audio is None:
            raise self._without("video or sound", "no_video_stream")
        facts: dict[str, Any] = {
            "kind": "video" if video is not None else "audio",
            "seconds": container.duration / av.time_base if container.duration else None,
            "comment": container.metadata.get("comment") or container.metadata.get("COMMENT"),
        }
        if video is not None:
            for _, _, frame in self._frames(video, None):
                video.picture(frame)
                break
            facts |= {**video.facts(), "num_frames": video.stream.frames or None}
            facts["video_codec"] = video.stream.codec_context.name
        if self.audio is not None:
            self._check(self.audio)
            context = self.audio.codec_context
            facts |= {"audio_codec": context.name, "sample_rate": context.rate, "channels": context.channels}
        return facts


class Packets:
    """A container's packets, with an eye on how far they reach."""

    def __init__(self, container: InputContainer):
        self.container = container
        self.begin = 0.0
        """When the first of the packets that are needed comes, where they do not begin at the beginning."""
        self.position: float | None = None
        self.longest_step = 0.0
        self.ended = False
        self.iterator = self._iterate(container.demux())

    def __iter__(self) -> Iterator[av.Packet]:
        return self.iterator

    def go_to(self, begin: float, target: float, sought: Stream, needed: Stream) -> bool:
        """Begin at a time before a target, of video at a key frame; false where that comes after what is to be read.

        Args:
            begin: What is to be read, in the file's own time.
            target: Where to look for it.
            sought: The stream whose places in the file are known.
            needed: The stream that must begin in time.
        """
        tick = float(sought.time_base or 0)
        if tick <= 0 or self.container.format.name in BEGINS_AGAIN:  # a place is sought by the file's clock alone
            return False
        try:
            self.container.seek(math.floor(target / tick), stream=sought)
        except (av.FFmpegError, OverflowError):
            return False
        packets = self.container.demux()
        before: list[av.Packet] = []
        for packet in packets:
            if packet.stream is needed and (packet.is_keyframe or not isinstance(needed, VideoStream)):
                time = packet.pts if packet.pts is not None else packet.dts
                if time is None or packet.time_base is None or time * packet.time_base > begin:
                    return False
                self.begin = float(time * packet.time_base)
                self.iterator = self._iterate(chain(before, [packet], packets))
                return True
            if packet.stream is not needed:
                before.append(packet)
        return False

    def _iterate(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        seconds: dict[int, float] = {}  # of a tick, by stream: fractions are slow
        clock = Clock() if self.container.format.name in BEGINS_AGAIN else None
        for packet in packets:
            if clock is not None:
                clock.correct(packet)
            if packet.pts is not None:
                tick = seconds.get(packet.stream_index)
                if tick is None:
                    tick = seconds[packet.stream_index] = float(packet.time_base or 0)
                time = (packet.pts + (packet.duration or 0)) * tick
                if self.position is None:
                    self.position = time
                elif time > self.position:
                    self.longest_step = max(self.longest_step, time - self.position)
                    self.position = time
            yield packet
        self.ended = True

    def check_whole(self) -> None:
        """Refuse a file that was read to its end and promised much more than a still picture at the end explains."""
        container = self.container
        if not self.ended or self.position is None or not container.duration or self.longest_step == 0:
            return
        seconds = container.duration / av.time_base
        missing = seconds - self.position
        if container.format.name.split(",")[0] in DECLARES_LENGTH and missing > max(
            0.5, seconds / 10, 5 * self.longest_step
        ):
            raise broken(f"it breaks off {missing:.1f} s before its end at {seconds:.1f} s")


class Lookahead:
    """Packets of video, each with whether its frame is wanted, once the frames that come after it are known.

    A rate of 8 frames a second leaves out most of a clip's frames, and so does beginning in the middle; those among
    them that no other frame is made from need no decoding.
    """

    def __init__(self, video: VideoTrack, sampler: Sampler | None):
        has_times = video.request.demuxer in SAYS_WHEN_SHOWN
        leaves_out = sampler is not None and (sampler.frame_rate is not None or sampler.origin is not None)
        can_skip = has_times and leaves_out
        self.video, self.sampler = video, sampler if can_skip else None
        self.tick = float(video.stream.time_base or 0)
        self._waiting: deque[av.Packet] = deque()
        self._times: list[int] = []
        """When the frames of the packets that wait, and of a few before them, are shown; in order."""

    def push(self, packet: av.Packet) -> Iterator[tuple[av.Packet, bool]]:
        """Take a packet, and give those whose turn it is."""
        if self.sampler is None:
            yield packet, True
            return
        self._waiting.append(packet)
        if packet.pts is not None:
            insort(self._times, packet.pts)
            del self._times[: -4 * LOOKAHEAD]
        # Until the first frame is there, nobody knows where the ticks are, and whether it is interlaced.
        while len(self._waiting) > (LOOKAHEAD if self.video.begun else 0):
            earlier = self._waiting.popleft()
            yield earlier, self._is_wanted(earlier)

    def rest(self) -> Iterator[tuple[av.Packet, bool]]:
        """The packets that wait, at the end of the file."""
        while self._waiting:
            yield self._waiting.popleft(), True

    def _is_wanted(self, packet: av.Packet) -> bool:
        sampler, time = self.sampler, packet.pts
        if sampler is None or sampler.origin is None or time is None:
            return True
        if self.video.is_interlaced or not self.video.begun:
            return True
        place = bisect_right(self._times, time)
        if place == len(self._times):
            return True
        start, end = time * self.tick - sampler.origin, self._times[place] * self.tick - sampler.origin
        return sampler.shows(start - ROUNDING, end + ROUNDING)
