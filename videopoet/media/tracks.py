"""Tracks of a container, decoded inside the child: frames upright and in square pixels, and sound."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.stream import VideoStream

from videopoet.media.protocol import SOUND, TIME, Channel, Refusal, Request
from videopoet.media.selection import Placement, check_pixels, place, too_long

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these ignore transparency."""
MOST_THREADS = 4
"""Of a decoder, where a request names no number; more gain little."""
SOUND_AT_ONCE = 0.2
"""Seconds of sound that are sent together."""
MAX_LOST_PACKETS = 0.02
"""The share of its packets that sound may lose, as MP3 files joined by hand do, before it counts as broken."""
BT709_HEIGHT = 720
"""Rows from which colours of no stated kind are taken as BT.709, and below as BT.601, as players do."""
SCALING = "accurate_rnd+full_chroma_int+full_chroma_inp"
AVERAGED_FROM = 3.0
"""How much a picture must shrink to be averaged by area; what shrinks less is scaled by bicubic. The cost of bicubic
grows with how much it shrinks: here averaging takes a third of the time, and the pictures are 40 to 52 dB alike."""
UNSTATED = 2
"""The number of an unstated colour space, as in ITU-T H.273."""
UNREAD_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 of constant luminance",
    11: "SMPTE ST 2085",
    12: "derived from its primaries",
    13: "derived from its primaries, of constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
"""Matrices of colours, by their number there, that FFmpeg's scaler does not know, or not yet."""


class VideoTrack:
    """Decodes one track of video into upright frames of the asked size.

    Args:
        stream: The track.
        request: What is asked for.
        clock: When the first frame comes, in the file's own time, where the container does not say.
    """

    def __init__(self, stream: VideoStream, request: Request, clock: float = 0.0):
        self.stream, self.request = stream, request
        self.rate = float(stream.average_rate or 0) or None
        self.decoder: Any = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1" and self.decoder.name in ALPHA_DECODERS:
            self.decoder = av.CodecContext.create(ALPHA_DECODERS[self.decoder.name], "r")
        self.decoder.thread_count = request.threads or min(MOST_THREADS, num_processors())
        self.base: Fraction | None = None  # of the frames' times; to make it anew for each of them is slow
        self.clock = clock
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
            base = self.base = self.base or frame.time_base or self.stream.time_base or Fraction(0)
            above, below = base.numerator, base.denominator
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
        try:
            self.graph.link_nodes(*nodes).configure()
        except av.FFmpegError as error:
            if (matrix := UNREAD_MATRICES.get(int(frame.colorspace))) is None:
                raise
            raise Refusal(
                "colours_unsupported",
                f"the matrix of its colours is {matrix}; BT.601, BT.709 and BT.2020 are read; convert it to BT.709",
            ) from error
        self.source, self.sink = nodes[0], cast(Any, nodes[-1])
        self.rows = struct.Struct("")
        """Rows of pixels as they lie in a filtered frame, without what pads them."""

    def of(self, frame: av.VideoFrame) -> bytes:
        """The picture as RGB or RGBA bytes, (H, W, C)."""
        self.source.push(frame)
        plane: Any = self.sink.pull().planes[0]
        row = self.width * self.channels
        if plane.line_size == row:
            return bytes(memoryview(plane)[: row * self.height])
        if self.rows.size != plane.line_size * (self.height - 1) + row:
            self.rows = struct.Struct(f"{row}s{plane.line_size - row}x" * (self.height - 1) + f"{row}s")
        return b"".join(self.rows.unpack_from(plane))

    def _steps(self, frame: av.VideoFrame, placement: Placement) -> list[str]:
        height = frame.height // 2 if frame.interlaced_frame else frame.height
        shrinks = min(frame.width / placement.scaled_width, height / placement.scaled_height)
        kernel = "area" if shrinks >= AVERAGED_FROM else "bicubic"
        scale = f"scale={placement.scaled_width}:{placement.scaled_height}:flags={kernel}+{SCALING}"
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
    # To ask for one kind is slow, and hardly any packet has side data of any.
    if next(packet.iter_sidedata(), None) is not None and packet.has_sidedata("encryption_info"):
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
    """Decodes one track of sound into float32 samples, with one channel or two.

    Args:
        stream: The track.
        channel: Where the samples go.
        request: What is asked for.
        begin: When sound begins to be wanted, in the file's own time; None is at its first sample.
        clock: When the first frame comes, where the container does not say.
    """

    def __init__(
        self, stream: AudioStream, channel: Channel, request: Request, begin: float | None = None, clock: float = 0.0
    ):
        self.stream, self.channel, self.request = stream, channel, request
        self.resampler = AudioResampler("flt")
        self.source: Any = None
        self.rate = self.channels = 0
        self.begin = begin
        self.start: float | None = None
        """When what is sent begins."""
        self.clock = clock
        """When what was decoded last ends."""
        self.num_packets = self.num_lost = 0
        self.end = float("inf")
        """When sound is no longer wanted, in the file's own time."""
        self._held: list[bytes] = []
        self._held_from = 0.0
        self._num_held = 0

    def send(self, packet: av.Packet) -> bool:
        """Send the packet's sound; false once there is enough."""
        return all(self._send_frame(time, frame) for time, frame in self.decode(packet))

    def decode(self, packet: av.Packet) -> Iterator[tuple[float, av.AudioFrame]]:
        """The packet's frames with the times they come, in the file's own time; none where it is broken."""
        self.num_packets += 1
        try:
            frames = self.stream.codec_context.decode(opened(packet))
        except MemoryError:
            raise
        except av.FFmpegError:
            self.num_lost += 1
            return
        for frame in frames:
            time = frame.time if frame.time is not None else self.clock
            self.clock = time + frame.samples / frame.sample_rate
            yield time, frame

    def facts(self) -> dict[str, Any]:
        """The sound's rate and channels, once all is heard.

        Raises:
            Refusal: There was none, or too much of it was lost.
        """
        self._flush()
        if self.num_lost > MAX_LOST_PACKETS * self.num_packets:
            raise broken(f"of its sound {self.num_lost} of {self.num_packets} packets cannot be decoded")
        return {"sample_rate": self.rate, "channels": self.channels}

    def _send_frame(self, time: float, frame: av.AudioFrame) -> bool:
        if self.begin is not None and self.clock <= self.begin + 0.5 / frame.sample_rate:
            return True
        if self.start is None:
            self.start, self.channels = time, min(2, frame.layout.nb_channels)
            self.rate = self.request.sample_rate or frame.sample_rate
            self.channel.begin(sample_rate=self.rate, channels=self.channels)
            if self.request.what == "audio" and self.request.max_seconds:
                self.end = (time if self.begin is None else self.begin) + self.request.max_seconds
        if time >= self.end:
            return False
        # Of a clip the frames say whether it is too long: sound may be stored ahead of those that are read last.
        if self.request.what == "audio" and time - self.start > self.request.limits.seconds:
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
    # Most frames have no side data of any kind, and to ask for one kind is slow.
    data = frame.side_data.get("DISPLAYMATRIX") if len(frame.side_data) else None
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


def broken(found: str) -> Refusal:
    return Refusal("media_corrupt", f"{found}; a whole file is needed; copy or export it again")
