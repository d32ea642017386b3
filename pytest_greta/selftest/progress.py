"""How far a study is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from pytest_greta.texts import text

_WIDTH = 20
_EVERY_TTY, _EVERY = 0.2, 30.0
"""Seconds between two pictures."""


class Progress:
    """``all``: planned runs; ``done``: those that an earlier start left."""

    def __init__(
        self, stream: TextIO, lang: str, planned: int, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._lang, self._clock = stream, "en" if lang == "both" else lang, clock
        self._all, self._before, self._done, self._odd = planned, done, done, 0
        self._started = self._shown = clock()
        self._tty = stream.isatty()

    def add(self, odd: bool) -> None:
        self._done += 1
        self._odd += odd
        self.show()

    def show(self, last: bool = False) -> None:
        now = self._clock()
        if not last and now - self._shown < (_EVERY_TTY if self._tty else _EVERY):
            return
        self._shown = now
        (words,) = text("selftest.progress", done=self._done, all=self._all, odd=self._odd, left=self._left(now)).lines(
            self._lang
        )
        if self._tty:
            full = _WIDTH * self._done // max(self._all, 1)
            line = f"[{'#' * full}{'.' * (_WIDTH - full)}] {words}"
            columns = shutil.get_terminal_size().columns - 1
            self._stream.write("\r" + line[:columns].ljust(columns) + ("\n" if last else ""))
        else:
            self._stream.write(words + "\n")
        self._stream.flush()

    def _left(self, now: float) -> str:
        """At the pace so far; runs of one part cost alike, so that it is close enough."""
        made = self._done - self._before
        if not made:
            return "?"
        seconds = round((now - self._started) / made * (self._all - self._done))
        return f"{seconds // 60}:{seconds % 60:02d}"
