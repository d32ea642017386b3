"""How far a study is, and how many of its runs are not as they should be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from pytest_greta.progress import Bar, to_go
from pytest_greta.texts import text


class Progress:
    """``all``: planned runs; ``done``: those that an earlier start left."""

    def __init__(
        self, stream: TextIO, lang: str, planned: int, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lang, self._clock = "en" if lang == "both" else lang, clock
        self._all, self._before, self._done, self._odd = planned, done, done, 0
        self._started = clock()
        self._bar = Bar(stream, self._started)

    def add(self, odd: bool) -> None:
        self._done += 1
        self._odd += odd
        self.show()

    def show(self, last: bool = False) -> None:
        now = self._clock()
        if not last and not self._bar.due(now):
            return
        # at the pace so far; runs of one part cost alike, so that it is close enough
        left = to_go(now - self._started, self._done - self._before, self._all - self._done)
        (words,) = text("selftest.progress", done=self._done, all=self._all, odd=self._odd, left=left).lines(self._lang)
        self._bar.show(now, self._done, self._all, words, last)
