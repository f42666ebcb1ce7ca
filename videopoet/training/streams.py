"""Which batch is whose: a step takes one batch from each of several streams, however many processes read them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from videopoet import ranks

T = TypeVar("T")


class Streams(Generic[T]):
    """The batches of a run whose sources make several at a time, such as pools of clips that are tokenized together.

    Each stream has a source with a seed of its own, which makes what this process reads and nothing else. Two processes
    read the same streams as one with twice the accumulation.

    Args:
        source: Gives the source of a seed, a function of a batch's number within its stream.
        seed: The run's.
        accumulation: Batches that each process takes in a step.
    """

    def __init__(self, source: Callable[[int | str], Callable[[int], T]], seed: int, accumulation: int):
        self.source, self.seed = source, seed
        self.num_streams = accumulation * ranks.count()
        self._sources: dict[int, Callable[[int], T]] = {}
        self._lock = threading.Lock()  # threads may make batches side by side

    def __call__(self, index: int) -> T:
        number, stream = divmod(index, self.num_streams)
        with self._lock:
            if stream not in self._sources:
                self._sources[stream] = self.source(f"{self.seed}, stream {stream}" if stream else self.seed)
            source = self._sources[stream]
        return source(number)
