"""A library that forks inside a call must not leave a second pytest behind.

Both processes come back from such a call. The copy ends here, before it writes, reports or forks once more; the caller
learns of it from libc's own fork handlers, and only of what its own thread did.
"""

from __future__ import annotations

import atexit
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import BackendError
from pytest_greta.exit_guard import EXIT_CODE
from pytest_greta.texts import text

_FORKS: Counter[int] = Counter()
"""By thread, since ``_watch``."""


def called(path: Path, name: str, function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, a call into the library at ``path``. Raises ``BackendError`` where it forked; never returns
    in the copy."""
    _watch()
    thread, owner = threading.get_ident(), os.getpid()
    before = _FORKS[thread]
    result = function(*args)
    if os.getpid() != owner:
        os._exit(EXIT_CODE)
    if _FORKS[thread] != before:
        raise BackendError("GRETA_INTERNAL", text("native.forked", path=path, name=name))
    return result


@cache
def _watch() -> None:
    """Counts forks from here on. Where libc is not glibc the copies end all the same, and nobody is told."""
    if platform.libc_ver()[0] != "glibc":
        return
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("int __register_atfork(void (*prepare)(void), void *, void *, void *dso); void __cxa_finalize(void *dso);")
    libc: Any = ffi.dlopen(None)

    def prepare() -> None:
        _FORKS[threading.get_ident()] += 1

    handler = ffi.callback("void(void)", prepare)
    mine = ffi.new("char *")  # an address of our own, by which libc knows whose handler to take back
    libc.__register_atfork(handler, ffi.NULL, ffi.NULL, mine)

    def forget() -> None:
        """Before Python ends, of which ``handler`` is part."""
        libc.__cxa_finalize(mine)
        _KEPT.clear()

    _KEPT.extend((handler, mine, libc))
    atexit.register(forget)


_KEPT: list[Any] = []
"""What libc points at."""
