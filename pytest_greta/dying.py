"""What native code says when it is about to end the process reaches whoever tells people what became of a case.

A library that is used inside a case calls ``speak`` from its own hook for that, and goes on to ``abort()``; nothing can
stop it there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_greta.texts import Text

_LISTENING: list[Callable[[Text], None]] = []


@contextmanager
def heard(listen: Callable[[Text], None]) -> Iterator[None]:
    """Within the block ``listen`` is given what is said; it must not raise, and write to no buffer."""
    _LISTENING.append(listen)
    try:
        yield
    finally:
        _LISTENING.remove(listen)


def speak(said: Text) -> None:
    """To the innermost listener; to stderr where nobody listens, as in a script."""
    if _LISTENING:
        _LISTENING[-1](said)
    else:
        os.write(2, f"{said.en}\n".encode(errors="backslashreplace"))
