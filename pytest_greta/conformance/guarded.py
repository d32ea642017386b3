"""Memory with a guard page on both sides and a known pattern in whatever slack alignment leaves.

What goes past the pages ends the process at once; what stays in the slack is found by looking.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cache
from typing import Any

PAGE = mmap.PAGESIZE
ALIGN = 64
"""Bytes. A cache line, which is more than any caller promises: a kernel that needs as much is not accused for it."""
CANARY = 0x7A
"""Of every byte of the slack: as int32 2 054 847 098, as float32 3.2e35, so that what reads it shows too."""

_PROT_NONE, _PROT_RW = 0, mmap.PROT_READ | mmap.PROT_WRITE


@dataclass(frozen=True)
class Damage:
    """``side`` is before or after; ``offset`` is the distance of the furthest byte from the buffer, 1 for its
    neighbour; ``side`` inside is an input that was written into."""

    buffer: str
    side: str
    offset: int


class Buffer:
    """``size`` bytes at ``address``; an ``output`` may be written to. ``guards`` False: the guard pages can be, too."""

    def __init__(
        self, name: str, size: int, *, output: bool = False, at_start: bool = False, guards: bool = True
    ) -> None:
        self.name, self.size, self.output = name, size, output
        inner = max(1, -(-size // PAGE)) * PAGE
        self._total = inner + 2 * PAGE
        ffi, c = libc()
        self._base = c.mmap(ffi.NULL, self._total, _PROT_RW, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if int(ffi.cast("intptr_t", self._base)) == -1:
            raise MemoryError(f"mmap of {self._total} bytes")
        self._all = ffi.buffer(self._base, self._total)
        self._all[:] = bytes([CANARY]) * self._total
        self._first = PAGE if at_start else PAGE + inner - -(-size // ALIGN) * ALIGN
        self._lost = False
        self._before: bytes | None = None
        self._fences = ((0, PAGE), (PAGE + inner, PAGE)) if guards else ()
        for start, length in self._fences:
            self._protect(start, length, _PROT_NONE)
        self._seen = (PAGE if guards else 0, PAGE + inner if guards else self._total)

    @property
    def address(self) -> Any:
        """A ``char *``."""
        return libc()[0].cast("char *", self._base) + self._first

    @property
    def view(self) -> Any:
        """The bytes, writable."""
        return memoryview(self._all)[self._first : self._first + self.size]

    def freeze(self) -> None:
        """From here on it is an input: its bytes must stay as they are now."""
        if not self.output and not self._lost:
            self._before = bytes(self.view)

    def lose(self) -> None:
        """Whoever looks at it from now on dies: what was to be copied was not."""
        self._protect(0, self._total, _PROT_NONE)
        self._lost = True

    def damage(self) -> Damage | None:
        """What should not have been written to, and was."""
        if self._lost:
            return None
        low, high = self._seen
        before = bytes(self._all[low : self._first])
        if _spoilt(before):
            return Damage(self.name, "before", len(before) - min(i for i, byte in enumerate(before) if byte != CANARY))
        after = bytes(self._all[self._first + self.size : high])
        if _spoilt(after):
            return Damage(self.name, "after", max(i for i, byte in enumerate(after) if byte != CANARY) + 1)
        if self._before is not None and bytes(self.view) != self._before:
            return Damage(self.name, "inside", 0)
        return None

    def _protect(self, start: int, length: int, prot: int) -> None:
        ffi, c = libc()
        if c.mprotect(ffi.cast("char *", self._base) + start, length, prot) != 0:
            raise MemoryError("mprotect")


def _spoilt(slack: bytes) -> bool:
    return slack.count(CANARY) != len(slack)


@cache
def libc() -> tuple[Any, Any]:
    """cffi's ``ffi`` and libc."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(
        "void *mmap(void *, size_t, int, int, int, long); int mprotect(void *, size_t, int);"
        " int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long); int fflush(void *);"
    )
    return ffi, ffi.dlopen(None)
