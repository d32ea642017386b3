"""How far a long run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

_WIDTH = 20
_EVERY_TTY, _EVERY = 0.2, 30.0
"""Seconds between two pictures."""


class Bar:
    """``now``: seconds of any clock that only goes forward."""

    def __init__(self, stream: TextIO, now: float) -> None:
        self._stream, self._shown = stream, now
        self._tty = stream.isatty()

    def due(self, now: float) -> bool:
        return now - self._shown >= (_EVERY_TTY if self._tty else _EVERY)

    def show(self, now: float, done: int, planned: int, words: str, last: bool = False) -> None:
        self._shown = now
        if self._tty:
            full = _WIDTH * done // max(planned, 1)
            line = f"[{'#' * full}{'.' * (_WIDTH - full)}] {words}"
            columns = shutil.get_terminal_size().columns - 1
            self._stream.write("\r" + line[:columns].ljust(columns) + ("\n" if last else ""))
        else:
            self._stream.write(words + "\n")
        self._stream.flush()


def to_go(seconds: float, made: int, left: int) -> str:
    """``m:ss`` at the pace so far, ``made`` in ``seconds``; "?" while nothing is made."""
    if not made:
        return "?"
    rest = round(seconds / made * left)
    return f"{rest // 60}:{rest % 60:02d}"
