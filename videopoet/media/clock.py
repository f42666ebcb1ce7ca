"""The times of packets in files whose clock begins again on the way, as where files were joined byte by byte."""

from __future__ import annotations

import math
from dataclasses import dataclass

import av

from videopoet.media.protocol import Refusal

TIMED = ("video", "audio")
"""Kinds of tracks whose times count."""
STEP_BACK = 1.0
"""Seconds that a track's times step back by, at least, where the clock begins again."""
APART = 3.0
"""Seconds that tracks are stored apart at most: program streams of few bytes have a second of one before the other."""


@dataclass
class Stretch:
    """What lies between two places of a file where its clock begins again."""

    position: int
    """Of its first byte."""
    offset: float
    """Seconds that are added to its times."""
    time: float
    """How far its packets have come, by the clock."""


@dataclass
class TrackClock:
    """How far the packets of a track have come."""

    tick: float
    time: float | None = None
    """By the clock; None before the first packet."""
    position: int = 0
    """In the file."""
    stretch: int = 0


class Clock:
    """Lets the times of packets go on where those of the file begin again: all tracks have the same offset from there.

    So sound stays with its picture. Which track goes over first is chance, since packets lie among each other.
    """

    def __init__(self) -> None:
        self._stretches = [Stretch(0, 0.0, 0.0)]
        self._tracks: dict[int, TrackClock | None] = {}
        self._end = -math.inf  # of what came so far

    def correct(self, packet: av.Packet) -> None:
        """Put a packet in its place.

        Raises:
            Refusal: The times of one track begin again and those of another go on.
        """
        ticks = packet.dts if packet.dts is not None else packet.pts
        if packet.stream_index not in self._tracks:
            is_timed = packet.stream.type in TIMED and bool(packet.time_base)
            self._tracks[packet.stream_index] = TrackClock(float(packet.time_base or 0)) if is_timed else None
        track = self._tracks[packet.stream_index]
        if ticks is None or track is None:
            return
        track.position = packet.pos or track.position  # not every packet says where it lies
        stretch = self._stretch(track, ticks * track.tick)
        if stretch.offset:
            shift = round(stretch.offset / track.tick)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        self._end = max(self._end, (ticks + (packet.duration or 0)) * track.tick + stretch.offset)

    def _stretch(self, track: TrackClock, time: float) -> Stretch:
        """Where the packet of a track belongs that comes at a time, by the clock."""
        newest = self._stretches[-1]
        is_first, is_behind = track.time is None, track.stretch < len(self._stretches) - 1
        steps_back = track.time is not None and time < track.time - STEP_BACK
        # A track without a packet for a while, or before, may have nothing to step back from.
        goes_over = is_behind and (steps_back or is_first or track.position > newest.position)
        if (steps_back and not is_behind) or (goes_over and time < newest.time - APART):
            self._stretches.append(Stretch(track.position, self._end - time, time))
            track.stretch = len(self._stretches) - 1
        elif goes_over:
            if time > newest.time + APART and not steps_back:
                raise Refusal(
                    "times_begin_again",
                    f"the times of one of its tracks begin again after {self._end:.1f} s and those of another go on; "
                    "sound and picture need one clock; convert it to mp4",
                )
            track.stretch = len(self._stretches) - 1
        track.time = time
        stretch = self._stretches[track.stretch]
        stretch.time = max(stretch.time, time)
        return stretch
