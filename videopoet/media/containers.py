"""Clips and sound by FFmpeg, inside the decoding child: which tracks, which frames, upright and in square pixels."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.subtitles.stream  # PyAV imports it only when it needs it, but a confined child can open no module.
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition
from av.video.stream import VideoStream

from videopoet.media.protocol import FRAME, SOUND, TIME, Channel, Refusal, Request, too_much_output
from videopoet.media.selection import Placement, Sampler, check_pixels, num_ticks, place, too_long

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
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these ignore transparency."""
MOST_THREADS = 4
"""Of a decoder, where a request names no number; more gain little."""
LOOKAHEAD = 32
"""Packets of video that are read before one is decoded: by then all frames shown before it ends have been seen, since
codecs put frames at most 16 places out of order."""
SAYS_WHEN_SHOWN = ("mov", "matroska")
"""Containers whose packets say when their frames are shown; of others it is known once they are decoded."""
ROUNDING = 1e-6
"""Seconds by which a time may be rounded; frames so near to a tick are decoded in any case."""
SOUND_AT_ONCE = 0.2
"""Seconds of sound that are sent together."""

DECLARES_LENGTH = ("mov", "matroska", "avi", "flac")
MAX_LOST_PACKETS = 0.02
"""The share of its packets that sound may lose, as MP3 files joined by hand do, before it counts as broken."""
BT709_HEIGHT = 720
"""Rows from which colours of no stated kind are taken as BT.709, and below as BT.601, as players do."""
SCALING = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
UNSTATED = 2
"""The number of an unstated colour space, as in ITU-T H.273."""

TOLERANT: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Lets a container with unreadable metadata open; from PyAV 19 on it does so by itself."""


def read(file: BinaryIO, request: Request, channel: Channel) -> dict[str, Any]:
    """Send what is asked for, and give the facts about it.

    Raises:
        Refusal: The file is broken, of a kind that is not read, or exceeds a limit.
    """
    av.logging.set_level(None)
    names = ",".join(sorted(CODECS["video"] | CODECS["audio"]))
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "codec_whitelist": names}
    try:
        with av.open(file, "r", request.demuxer, container_options=options, **TOLERANT) as container:
            return Reader(container, request, channel).read()
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise broken("it cannot be decoded") from error


def broken(found: str) -> Refusal:
    return Refusal("media_corrupt", f"{found}; a whole file is needed; copy or export it again")


class Reader:
    """One pass through a container for the tracks that a request wants."""

    def __init__(self, container: InputContainer, request: Request, channel: Channel):
        self.container, self.request, self.channel = container, request, channel
        self.packets = Packets(container)
        self.video = next((s for s in container.streams.video if s.disposition != Disposition.attached_pic), None)
        self.audio = next(iter(container.streams.audio), None)

    def read(self) -> dict[str, Any]:
        match self.request.what:
            case "facts":
                return self._describe()
            case "audio":
                facts = self._send_sound(self._audio_track())
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
        sampler = Sampler(self.request)
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
        return VideoTrack(self.video, self.request)

    def _audio_track(self) -> AudioTrack:
        if self.audio is None:
            raise self._without("sound", "no_audio_stream")
        self._check(self.audio)
        return AudioTrack(self.audio, self.channel, self.request)

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
        wanted = min(num_ticks(num_frames / video.rate, rate), request.max_frames or num_frames)
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
        self.position: float | None = None
        self.longest_step = 0.0
        self.ended = False
        self.iterator = self._iterate()

    def __iter__(self) -> Iterator[av.Packet]:
        return self.iterator

    def _iterate(self) -> Iterator[av.Packet]:
        seconds: dict[int, float] = {}  # of a tick, by stream: fractions are slow
        for packet in self.container.demux():
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

    A rate of 8 frames a second leaves out most of a clip's frames; those among them that no other frame is made from
    need no decoding.
    """

    def __init__(self, video: VideoTrack, sampler: Sampler | None):
        has_times = video.request.demuxer in SAYS_WHEN_SHOWN
        can_skip = sampler is not None and sampler.frame_rate is not None and has_times
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
        # Until the first frame is there, nobody knows where the ticks are.
        while len(self._waiting) > (LOOKAHEAD if self.sampler.origin is not None else 0):
            earlier = self._waiting.popleft()
            yield earlier, self._is_wanted(earlier)

    def rest(self) -> Iterator[tuple[av.Packet, bool]]:
        """The packets that wait, at the end of the file."""
        while self._waiting:
            yield self._waiting.popleft(), True

    def _is_wanted(self, packet: av.Packet) -> bool:
        sampler, time = self.sampler, packet.pts
        if sampler is None or sampler.origin is None or time is None or self.video.is_interlaced:
            return True
        place = bisect_right(self._times, time)
        if place == len(self._times):
            return True
        start, end = time * self.tick - sampler.origin, self._times[place] * self.tick - sampler.origin
        return sampler.shows(start - ROUNDING, end + ROUNDING)


class VideoTrack:
    """Decodes one track of video into upright frames of the asked size."""

    def __init__(self, stream: VideoStream, request: Request):
        self.stream, self.request = stream, request
        self.rate = float(stream.average_rate or 0) or None
        self.decoder: Any = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1" and self.decoder.name in ALPHA_DECODERS:
            self.decoder = av.CodecContext.create(ALPHA_DECODERS[self.decoder.name], "r")
        self.decoder.thread_count = request.threads or min(MOST_THREADS, num_processors())
        self.base: Fraction | None = None  # of the frames' times; to make it anew for each of them is slow
        self.clock = 0.0
        self.begun = self.damaged = self.is_interlaced = self.skips = False
        self.view: View | None = None

    def decode(self, packet: av.Packet, is_wanted: bool = True) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Frames with the times they come and go, in the file's own time.

        What is not wanted is decoded none the less where other frames are made from it.
        """
        if self.skips == is_wanted:
            self.skips = not is_wanted
            self.decoder.skip_frame = "NONREF" if self.skips else "DEFAULT"
        try:
            frames = self.decoder.decode(opened(packet))
        except MemoryError:
            raise
        except av.FFmpegError:
            raise broken(f"its video cannot be decoded from {self.clock:.1f} s on") from None
        for frame in frames:
            # A recording may begin and end between two key frames; there, and only there, damage is left out.
            if frame.is_corrupt:
                self.damaged = self.begun
                continue
            if self.damaged:
                raise broken(f"its video is damaged at {self.clock:.1f} s")
            self.begun = True
            self.is_interlaced |= frame.interlaced_frame
            if self.base is None:
                self.base = frame.time_base or self.stream.time_base or Fraction(0)
            above, below = self.base.numerator, self.base.denominator
            start = frame.pts * above / below if frame.pts is not None else self.clock
            end = start + (frame.duration * above / below or 1 / (self.rate or 25.0))
            self.clock = end
            yield start, end, frame

    def picture(self, frame: av.VideoFrame) -> bytes:
        """The picture upright, in square pixels and at the asked size, as RGB or RGBA bytes, (H, W, C)."""
        view = self.view
        if view is None or view.kind != kind_of(frame):
            check_pixels(frame.width, frame.height, self.request.limits.frame_pixels, "video")
            self.view = view = View(frame, float(self.stream.sample_aspect_ratio or 1), self.request, view)
        return view.of(frame)

    def facts(self) -> dict[str, Any]:
        view = self.view
        if view is None:
            raise broken("its video holds no frame that can be decoded")
        return {"height": view.height, "width": view.width, "pixel_channels": view.channels, "frame_rate": self.rate}


class View:
    """The filters that make frames of one kind upright, in square pixels and of the asked size.

    Args:
        frame: The first frame of the kind.
        pixel_aspect: How much wider than high a pixel is.
        request: The size that is asked for.
        before: The view of the frames that came before and were of another kind: these will look like those.
    """

    def __init__(self, frame: av.VideoFrame, pixel_aspect: float, request: Request, before: View | None):
        self.kind = kind_of(frame)
        if before is not None:
            request = request.at(before.height, before.width)
            self.channels = before.channels
        else:
            transparent = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
            self.channels = 4 if transparent else 3

        turn = turning(display_matrix(frame))
        turned = any(step.startswith("transpose") for step in turn)
        width, height = frame.width * max(pixel_aspect, 1.0), frame.height / min(pixel_aspect, 1.0)
        placement = place(height, width, request) if turned else place(width, height, request)
        self.height, self.width = placement.height, placement.width
        steps = self._steps(frame, placement.turned if turned else placement)

        self.graph = Graph()
        self.graph.threads = 1
        source = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
            f":colorspace={frame.colorspace:d}:range={frame.color_range:d}"
        )
        nodes = [self.graph.add("buffer", source)]
        for step in (*steps, *turn):
            name, _, arguments = step.partition("=")
            nodes.append(self.graph.add(name, arguments or None))
        nodes.append(self.graph.add("buffersink"))
        self.graph.link_nodes(*nodes).configure()

    def of(self, frame: av.VideoFrame) -> bytes:
        """The picture as RGB or RGBA bytes, (H, W, C)."""
        self.graph.push(frame)
        plane: Any = self.graph.pull().planes[0]
        data, stride, row = memoryview(plane), plane.line_size, self.width * self.channels
        if stride == row:
            return bytes(data[: row * self.height])
        return b"".join([data[start : start + row] for start in range(0, stride * self.height, stride)])

    def _steps(self, frame: av.VideoFrame, placement: Placement) -> list[str]:
        scale = f"scale={placement.scaled_width}:{placement.scaled_height}:flags={SCALING}"
        if frame.colorspace == UNSTATED and not frame.format.is_rgb and frame.height >= BT709_HEIGHT:
            scale += ":in_color_matrix=bt709"
        steps = [scale, "format=rgba" if self.channels == 4 else "format=rgb24"]
        if frame.interlaced_frame:
            # The lines of one moment only, so that nothing that moves becomes a comb.
            steps.insert(0, "field=top")
        left, top = placement.left, placement.top
        if placement.scaled_width > placement.width or placement.scaled_height > placement.height:
            steps.append(f"crop={placement.width}:{placement.height}:{left}:{top}")
        elif (placement.scaled_width, placement.scaled_height) != (placement.width, placement.height):
            steps.append(f"pad={placement.width}:{placement.height}:{-left}:{-top}:black")
        return steps


def num_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def opened(packet: av.Packet) -> av.Packet | None:
    """What a decoder is given: the packet, or None at the end of the file.

    Raises:
        Refusal: The packet is encrypted.
    """
    if packet.has_sidedata("encryption_info"):
        raise Refusal(
            "media_encrypted",
            f"its {packet.stream.type} is encrypted; only open files are read; export it without protection",
        )
    return packet if packet.size or packet.dts is not None else None


def kind_of(frame: av.VideoFrame) -> tuple[Any, ...]:
    """All that decides how a frame must be filtered."""
    layout = (frame.width, frame.height, frame.format.name, frame.interlaced_frame)
    return (*layout, frame.colorspace, frame.color_range, *display_matrix(frame))


class AudioTrack:
    """Decodes one track of sound into float32 samples, with one channel or two."""

    def __init__(self, stream: AudioStream, channel: Channel, request: Request):
        self.stream, self.channel, self.request = stream, channel, request
        self.resampler = AudioResampler("flt")
        self.source: Any = None
        self.rate = self.channels = 0
        self.start: float | None = None
        self.num_packets = self.num_lost = 0
        self.end = float("inf")
        """When sound is no longer wanted, in the file's own time."""
        self._held: list[bytes] = []
        self._held_from = 0.0
        self._num_held = 0

    def send(self, packet: av.Packet) -> bool:
        """Send the packet's sound; false once there is enough."""
        self.num_packets += 1
        try:
            frames = self.stream.codec_context.decode(opened(packet))
        except MemoryError:
            raise
        except av.FFmpegError:
            self.num_lost += 1
            return True
        for frame in frames:
            if not self._send_frame(frame):
                return False
        return True

    def facts(self) -> dict[str, Any]:
        """The sound's rate and channels, once all is heard.

        Raises:
            Refusal: There was none, or too much of it was lost.
        """
        self._flush()
        if self.num_lost > MAX_LOST_PACKETS * self.num_packets:
            raise broken(f"of its sound {self.num_lost} of {self.num_packets} packets cannot be decoded")
        return {"sample_rate": self.rate, "channels": self.channels}

    def _send_frame(self, frame: av.AudioFrame) -> bool:
        time = frame.time if frame.time is not None else (self.start or 0.0)
        if self.start is None:
            self.start, self.channels = time, min(2, frame.layout.nb_channels)
            self.rate = self.request.sample_rate or frame.sample_rate
            self.channel.begin(sample_rate=self.rate, channels=self.channels)
            if self.request.what == "audio" and self.request.max_seconds:
                self.end = time + self.request.max_seconds
        if time >= self.end:
            return False
        if time - self.start > self.request.limits.seconds:
            raise too_long(self.request.limits)
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self.source:
            layout = "mono" if self.channels == 1 else "stereo"
            self.source, self.resampler = source, AudioResampler("flt", layout, self.rate)
        for block in self.resampler.resample(frame):
            # Pieces that follow one another go together; after a gap, a message of its own says when it ends.
            if self._held and abs(time - self._held_from - self._num_held / self.rate) > SOUND_AT_ONCE / 4:
                self._flush()
            if not self._held:
                self._held_from = time
            self._held.append(bytes(memoryview(block.planes[0])[: block.samples * self.channels * 4]))
            self._num_held += block.samples
            if self._num_held >= SOUND_AT_ONCE * self.rate:
                self._flush()
        return True

    def _flush(self) -> None:
        """Send the sound that waits."""
        if self._held:
            self.channel.send(SOUND, TIME.pack(self._held_from), b"".join(self._held))
            self._held, self._num_held = [], 0


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...]:
    """The four numbers that turn and mirror the picture for display."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    return a, b, c, d


def turning(matrix: tuple[int, ...]) -> list[str]:
    """The filters that bring a picture upright: quarter turns and mirrors; other angles are not turned."""
    a, b, c, d = matrix
    if a == d == 0 and b and c:
        across = "clock" if b > 0 else "cclock"
        return [f"transpose={across}"] if (b > 0) != (c > 0) else [f"transpose={'cclock' if b > 0 else 'clock'}_flip"]
    return ["hflip"] * (a < 0) + ["vflip"] * (d < 0)
