"""Ends the process when a case hangs in native code, and puts the case's own line into every stack that is dumped.

A signal's Python handler waits for the native call to return, so it cannot end a hang. Two things can: another thread,
where the call released the GIL, and ``faulthandler``'s timer in C, where it did not.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

GRACE = 3.0
"""Seconds that the thread has before the timer in C ends the process without its message."""

EXIT_CODE = 1


class Watchdog:
    """One a process. ``fd`` is a copy of stderr made before pytest began to capture it."""

    def __init__(self, fd: int, backstop: bool = True) -> None:
        self.fd = fd
        self.backstop = backstop
        """False where pytest's ``faulthandler_timeout`` is set: a process has one timer, and it is the user's."""
        self._ended: threading.Event | None = None

    @contextmanager
    def watch(self, seconds: float, last_words: Callable[[], str]) -> Iterator[None]:
        """Ends the process unless the block is left within ``seconds``; ``last_words`` and stacks go to stderr."""
        ended = self._ended = threading.Event()

        def wait() -> None:
            if not ended.wait(seconds):
                self._end(last_words)

        thread = threading.Thread(target=wait, name="greta-watchdog", daemon=True)
        thread.start()
        if self.backstop:
            faulthandler.dump_traceback_later(seconds + GRACE, file=self.fd, exit=True)
        try:
            yield
        finally:
            self.cancel()
            thread.join()

    def cancel(self) -> None:
        """Also when a debugger is entered: a person thinks longer than any timeout."""
        if self._ended is not None:
            self._ended.set()
            self._ended = None
            if self.backstop:
                faulthandler.cancel_dump_traceback_later()

    def _end(self, last_words: Callable[[], str]) -> None:
        try:
            say(self.fd, last_words())
            faulthandler.dump_traceback(file=self.fd, all_threads=True)
        finally:
            os._exit(EXIT_CODE)


def say(fd: int, text: str) -> None:
    """Straight to the file descriptor: nothing buffered survives ``os._exit``."""
    data = f"\n{text}\n".encode(errors="backslashreplace")
    while data:
        data = data[os.write(fd, data) :]


def as_line_of(path: Path, line: int, name: str, function: Callable[[], T]) -> T:
    """Calls ``function`` from a stack frame that stands at ``path:line`` and is called ``name``.

    Whatever dumps stacks then names the case: faulthandler after a segmentation fault, its timer in C, py-spy.
    """

    def frame(function: Callable[[], T]) -> T:
        return function()

    code = frame.__code__
    # The call stands one line below the "def", and line numbers of code are relative to its first line.
    changes: dict[str, object] = {"co_filename": str(path), "co_firstlineno": line - 1, "co_name": name}
    if hasattr(code, "co_qualname"):
        changes["co_qualname"] = name
    frame.__code__ = code.replace(**changes)  # type: ignore[arg-type]
    return frame(function)
