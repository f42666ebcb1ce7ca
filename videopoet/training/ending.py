"""Ending a run before its last step: a signal or a time limit lets the step in hand finish, and its state is saved."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from videopoet import ranks

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEATED_SECONDS = 10.0
"""So soon after the first a SIGTERM says nothing new."""


class Ended(Exception):
    """A run that was told to end before its last step; it goes on with `resume`.

    Attributes:
        signal: What told it, or None where its time was up.
    """

    def __init__(self, message: str, signal: signal.Signals | None):
        super().__init__(message)
        self.signal = signal


class Ending:
    """Whether a run ends after the step in hand.

    Args:
        minutes: How long from now it may take; None sets no limit.
    """

    def __init__(self, minutes: float | None = None):
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._signal: signal.Signals | None = None

    @contextlib.contextmanager
    def told_by_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run; a second one does what it did before. Only the main thread hears them.

        A second SIGTERM right after the first is one and the same: what manages jobs sends it to every process, and
        `torchrun` passes it on.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        came = -math.inf

        def note(number: int, frame: FrameType | None) -> None:
            nonlocal came
            if self._signal is None:
                self._signal, came = signal.Signals(number), time.monotonic()
                log.warning("%s came: training ends after this step; a second one ends it at once", self._signal.name)
            elif number != signal.SIGTERM or time.monotonic() - came > REPEATED_SECONDS:
                put_back()
                signal.raise_signal(number)

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            put_back()

    def is_due(self) -> bool:
        """Whether it ends now: what the first process says."""
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        return ranks.as_first_rank(is_late or self._signal is not None)

    def error(self, num_done: int, num_steps: int) -> Ended:
        """What to raise once the state after so many steps is saved."""
        why = "its time is up" if self._signal is None else f"{self._signal.name} came"
        return Ended(
            f"training ended after step {num_done} of {num_steps} because {why}; nothing is lost; go on with --resume",
            self._signal,
        )
