"""How far the work is: counted in tokens, for a bar on a terminal and for a listener."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from videopoet import runtime
from videopoet.generation.composition import Composition


class Steps:
    """Counts the steps of compositions, for a bar and for a listener; the bar appears with the first of them."""

    def __init__(
        self,
        compositions: Sequence[Composition],
        name: str,
        progress: bool,
        on_step: Callable[[int, int], None] | None,
        stack: contextlib.ExitStack,
    ):
        self.compositions, self.on_step = compositions, on_step
        self.num_done = 0
        self.later = 0
        """Steps that follow those of the compositions."""
        self._show: Callable[..., None] | None = None
        self._begin = lambda total: stack.enter_context(
            runtime.progress(total, name.replace("_", " "), enabled=progress)
        )

    def advance(self, num_rows: int) -> None:
        """One more token in so many rows."""
        known = [composition.num_steps for composition in self.compositions if composition.num_steps]
        # Those that have not begun are taken to be like those that have.
        total = round(sum(known) / len(known) * len(self.compositions)) + self.later
        if self._show is None:
            self._show = self._begin(total)
        self.num_done += num_rows
        self._show(num_rows)
        if self.on_step is not None:
            self.on_step(self.num_done, total)
