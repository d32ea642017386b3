"""Does a GGUF file hold what its header promises? Asked before the package ``gguf`` reads it.

That reader maps the file and slices: past the end a slice is short or empty, not an error, and an array length that a
flipped bit made 2**60 keeps it busy for ever. So every length is walked here first, against the size of the file.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_greta.engine.store import ModelError
from pytest_greta.texts import Text, join
from pytest_greta.texts import text as say

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALAR_SIZE = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MAX_DIMS = 4
_MAX_STRINGS = 1 << 22
"""Entries of one array of strings. The largest vocabularies have 2**18 tokens and twice as many merges."""


class _Walker:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def truncated(self, what: str | Text, end: int) -> ModelError:
        message = say("gguf.truncated", path=self.path, what=what, end=end, size=len(self.data))
        return ModelError("truncated", message, say("mend.truncated"))

    def damaged(self, what: Text) -> ModelError:
        return ModelError("foreign", join(": ", str(self.path), what), say("mend.not_gguf"))

    def skip(self, size: int, what: str | Text) -> None:
        if self.at + size > len(self.data):
            raise self.truncated(what, self.at + size)
        self.at += size

    def number(self, code: str, what: str | Text) -> int:
        start = self.at
        self.skip(struct.calcsize(code), what)
        return int(struct.unpack_from(f"<{code}", self.data, start)[0])

    def text(self, what: Text) -> str:
        start = self.at + 8
        self.skip(self.number("Q", what), what)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            raise self.damaged(say("gguf.not_utf8", what=what)) from None

    def value(self, kind: int, key: str) -> None:
        if kind == _STRING:
            self.skip(self.number("Q", key), key)
        elif kind == _ARRAY:
            item, count = self.number("I", key), self.number("Q", key)
            if item in _SCALAR_SIZE:
                self.skip(_SCALAR_SIZE[item] * count, key)
            elif item != _STRING or count > _MAX_STRINGS:
                raise self.damaged(say("gguf.array", key=key, count=count, type=item))
            else:
                for _ in range(count):
                    self.skip(self.number("Q", key), key)
        elif kind in _SCALAR_SIZE:
            self.skip(_SCALAR_SIZE[kind], key)
        else:
            raise self.damaged(say("gguf.field_type", key=key, type=kind))


def check_layout(path: Path, block_sizes: Mapping[int, tuple[int, int]]) -> None:
    """Raises ``ModelError`` (truncated, foreign) where the header or a tensor would reach past the end of the file.

    ``block_sizes``: elements and bytes of a block, by tensor type (``gguf.GGML_QUANT_SIZES``).
    """
    if path.stat().st_size == 0:
        raise ModelError("foreign", say("gguf.empty", path=path), say("mend.fetch"))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk(_Walker(path, data), block_sizes)


def _walk(w: _Walker, block_sizes: Mapping[int, tuple[int, int]]) -> None:
    magic = bytes(w.data[:4])
    if magic != b"GGUF":
        raise ModelError("foreign", say("gguf.magic", path=w.path, magic=magic), say("mend.gguf"))
    w.at = 4
    version = w.number("I", say("gguf.the_version"))
    if version not in _VERSIONS:
        raise w.damaged(say("gguf.version", version=version, versions=_VERSIONS))
    n_tensors, n_fields = w.number("Q", say("gguf.the_tensor_count")), w.number("Q", say("gguf.the_field_count"))
    alignment = 32
    for i in range(n_fields):
        key = w.text(say("gguf.the_field_name", index=i))
        kind, start = w.number("I", key), w.at
        w.value(kind, key)
        if key == "general.alignment" and kind == 4:
            alignment = struct.unpack_from("<I", w.data, start)[0]
    if alignment == 0 or alignment & (alignment - 1):
        raise w.damaged(say("gguf.alignment", alignment=alignment))
    ends = []
    for i in range(n_tensors):
        name = w.text(say("gguf.the_tensor_name", index=i))
        n_dims = w.number("I", name)
        if not 0 < n_dims <= _MAX_DIMS:
            raise w.damaged(say("gguf.dims", name=name, count=n_dims, most=_MAX_DIMS))
        elements = 1
        dims = [w.number("Q", name) for _ in range(n_dims)]
        for dim in dims:
            elements *= dim
        kind, offset = w.number("I", name), w.number("Q", name)
        if kind not in block_sizes:
            raise w.damaged(say("gguf.tensor_type", name=name, type=kind))
        block, size = block_sizes[kind]
        if elements == 0 or dims[0] % block or offset % alignment:
            raise w.damaged(say("gguf.blocks", name=name, shape=dims, offset=offset, block=block))
        ends.append((name, offset + elements // block * size))
    base = -(-w.at // alignment) * alignment
    for name, end in ends:
        if base + end > len(w.data):
            raise w.truncated(say("gguf.the_tensor", name=name), base + end)
