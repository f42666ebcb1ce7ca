"""A result in the making: its frames while it is made, and then the whole."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Protocol

from videopoet.errors import TaskError
from videopoet.generation.early_frames import Frames
from videopoet.generation.result import Result


class Making(Protocol):
    """What makes a result, and calls these while it does; what they raise ends the work."""

    def __call__(self, *, on_step: Callable[[int, int], None], on_frames: Callable[[Frames], None]) -> Result: ...


class Stream(Iterator[Frames]):
    """Frames of a result as soon as they are known, in their order, and the result.

        stream = poet.stream("text_to_video", prompt="a red ball bounces on the grass")
        for frames in stream:
            show(frames.first, frames.frames)
        stream.result.save("ball.mp4")

    The work goes on in a thread of its own, whether or not somebody iterates. It ends early by `close`, at the end of a
    `with` block, and when nobody holds the stream any more.

    Args:
        make: Makes the result.
        on_step: Called with how many of the steps are done, and how many there are; what it raises ends the work, and
            comes out of the iteration.
    """

    def __init__(self, make: Making, on_step: Callable[[int, int], None] | None = None):
        self._arrivals: SimpleQueue[Frames | Result | BaseException] = SimpleQueue()
        self._end: Result | BaseException | None = None
        stopping = threading.Event()
        # The thread must not hold the stream, which could then never be let go of.
        self._thread = threading.Thread(
            target=_work, args=(make, on_step, self._arrivals, stopping), name="stream", daemon=True
        )
        self._stop = weakref.finalize(self, _stop, stopping, self._thread)
        self._thread.start()

    def __next__(self) -> Frames:
        if self._end is None:
            try:
                arrived = self._arrivals.get()
            except BaseException:  # an interrupt, which is meant for the work too
                self.close()
                raise
            if isinstance(arrived, Frames):
                return arrived
            self._end = arrived
        if isinstance(self._end, Result):
            raise StopIteration
        raise self._end

    @property
    def result(self) -> Result:
        """The whole, once it is made; frames that nobody has taken until then are passed over.

        Raises:
            TaskError: The stream was closed before.
        """
        for _ in self:
            pass
        assert isinstance(self._end, Result)
        return self._end

    def close(self) -> None:
        """End the work, if it has not ended; returns when it has, which is at the next token."""
        self._stop()
        if self._end is None:
            closed = TaskError(
                "the stream was closed before its end; a result is there only at the end; ask for it again",
                code="stream_closed",
            )
            while not self._arrivals.empty():
                if isinstance(arrived := self._arrivals.get(), Result):
                    self._end = arrived
            self._end = self._end or closed

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class _Stopped(BaseException):
    """Nobody waits for the result any more."""


def _work(
    make: Making,
    on_step: Callable[[int, int], None] | None,
    arrivals: SimpleQueue[Frames | Result | BaseException],
    stopping: threading.Event,
) -> None:
    def check(num_done: int, num_steps: int) -> None:
        if stopping.is_set():
            raise _Stopped
        if on_step is not None:
            on_step(num_done, num_steps)

    try:
        arrivals.put(make(on_step=check, on_frames=arrivals.put))
    except BaseException as error:  # whatever it is, it is raised where somebody waits
        arrivals.put(error)


def _stop(stopping: threading.Event, thread: threading.Thread) -> None:
    stopping.set()
    if thread is not threading.current_thread():  # where a collector's pass may find the stream let go of
        thread.join()
