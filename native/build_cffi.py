"""Writes cffi's out-of-line ABI module from the C headers, at build time: ``build_cffi.py OUT.py HEADER...``.

The declarations are what stands between ``/* cdef begin */`` and ``/* cdef end */`` in each header, so there is one
text for C, C++ and Python. Nothing is compiled.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cffi import FFI

MODULE = "_greta_native._abi"


def declarations(header: Path) -> str:
    found = re.search(r"/\* cdef begin \*/(.*?)/\* cdef end \*/", header.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise SystemExit(f"{header}: no '/* cdef begin */ ... /* cdef end */' block")
    return found.group(1)


def build(out: Path, headers: list[Path]) -> None:
    ffi = FFI()
    for header in headers:
        ffi.cdef(declarations(header))
    ffi.set_source(MODULE, None)
    ffi.emit_python_code(str(out))


if __name__ == "__main__":
    build(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
