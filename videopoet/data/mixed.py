"""Batches of two worlds: those of a run's clips and, in a share of them by lot, those of footage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from videopoet import runtime
from videopoet.data.world import World

T = TypeVar("T")


class Mixed(Generic[T]):
    """The batches of one source and, in a share of them by lot, those of another."""

    def __init__(self, own: Callable[[int], T], other: Callable[[int], T], share: float, seed: int | str):
        self.own, self.other, self.share, self.seed = own, other, share, seed

    def __call__(self, index: int) -> T:
        takes_other = float(torch.rand((), generator=runtime.generator(self.seed, "source", index))) < self.share
        return self.other(index) if takes_other else self.own(index)


def mixed(
    batches_of: Callable[[World, int | str], Callable[[int], T]], world: World, footage: World | None, share: float
) -> Callable[[int | str], Callable[[int], T]]:
    """For a seed, the batches of the world, mixed with those of footage where there is some."""

    def source(seed: int | str) -> Callable[[int], T]:
        own = batches_of(world, seed)
        return own if footage is None else Mixed(own, batches_of(footage, seed), share, seed)

    return source
