"""A library that calls ``exit(0)`` inside a case must not end pytest as if all were well.

Python's ``atexit`` does not run for C's ``exit``, so the check is one of libc's own exit handlers. What calls ``_exit``
runs no handler and cannot be caught inside the process.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

EXIT_CODE = 70
"""``EX_SOFTWARE``: none of pytest's own."""


@contextmanager
def guarded(fd: int, last_words: Callable[[], str]) -> Iterator[None]:
    """Inside the block C's ``exit`` writes ``last_words`` to ``fd`` and ends the process with ``EXIT_CODE``."""
    if platform.libc_ver()[0] != "glibc":  # elsewhere a handler cannot be taken back, and would outlive Python
        yield
        return
    ffi, libc = _libc()
    opened, owner = [True], os.getpid()

    def left(_: Any) -> None:
        if opened and os.getpid() == owner:  # a forked child may exit as it likes
            from pytest_greta.watchdog import say

            try:
                say(fd, last_words())
            finally:
                os._exit(EXIT_CODE)

    handler = ffi.callback("void(void *)", left)
    mine = ffi.new("char *")  # an address of our own, by which libc knows whose handler to take back
    libc.__cxa_atexit(handler, ffi.NULL, mine)
    try:
        yield
    finally:
        opened.clear()
        libc.__cxa_finalize(mine)  # calls the handler, which now does nothing, and forgets it


@cache
def _libc() -> tuple[Any, Any]:
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("int __cxa_atexit(void (*f)(void *), void *arg, void *dso); void __cxa_finalize(void *dso);")
    return ffi, ffi.dlopen(None)
