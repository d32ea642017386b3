"""A library that calls ``exit(0)`` or ``quick_exit(0)`` inside a case must not end pytest as if all were well.

Python's ``atexit`` runs for neither, so the check is one of libc's own exit handlers, of which each of the two has a
list. What calls ``_exit`` runs no handler and cannot be caught inside the process.
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
    """Inside the block C's ``exit`` and ``quick_exit`` write ``last_words`` to ``fd`` and end the process with
    ``EXIT_CODE``."""
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
    libc.__cxa_at_quick_exit(handler, mine)
    try:
        yield
    finally:
        opened.clear()
        libc.__cxa_finalize(mine)  # calls the first handler, which now does nothing, and forgets both


@cache
def _libc() -> tuple[Any, Any]:
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(
        "int __cxa_atexit(void (*f)(void *), void *arg, void *dso);"
        "int __cxa_at_quick_exit(void (*f)(void *), void *dso);"
        "void __cxa_finalize(void *dso);"
    )
    return ffi, ffi.dlopen(None)
