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

    def truncated(self, what: str, end: int) -> ModelError:
        message = f"{self.path}: {what} would reach byte {end}, the file has {len(self.data)}"
        return ModelError("truncated", message, "the file is truncated or damaged: fetch it again")

    def damaged(self, what: str) -> ModelError:
        return ModelError("foreign", f"{self.path}: {what}", "the file is damaged or no GGUF 2 or 3: fetch it again")

    def skip(self, size: int, what: str) -> None:
        if self.at + size > len(self.data):
            raise self.truncated(what, self.at + size)
        self.at += size

    def number(self, code: str, what: str) -> int:
        start = self.at
        self.skip(struct.calcsize(code), what)
        return int(struct.unpack_from(f"<{code}", self.data, start)[0])

    def text(self, what: str) -> str:
        start = self.at + 8
        self.skip(self.number("Q", what), what)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            raise self.damaged(f"{what} is not UTF-8") from None

    def value(self, kind: int, key: str) -> None:
        if kind == _STRING:
            self.skip(self.number("Q", key), key)
        elif kind == _ARRAY:
            item, count = self.number("I", key), self.number("Q", key)
            if item in _SCALAR_SIZE:
                self.skip(_SCALAR_SIZE[item] * count, key)
            elif item != _STRING or count > _MAX_STRINGS:
                raise self.damaged(f"array {key} of {count} values of type {item}")
            else:
                for _ in range(count):
                    self.skip(self.number("Q", key), key)
        elif kind in _SCALAR_SIZE:
            self.skip(_SCALAR_SIZE[kind], key)
        else:
            raise self.damaged(f"metadata {key} of unknown type {kind}")


def check_layout(path: Path, block_sizes: Mapping[int, tuple[int, int]]) -> None:
    """Raises ``ModelError`` (truncated, foreign) where the header or a tensor would reach past the end of the file.

    ``block_sizes``: elements and bytes of a block, by tensor type (``gguf.GGML_QUANT_SIZES``).
    """
    if path.stat().st_size == 0:
        raise ModelError("foreign", f"{path} is empty, expected a GGUF file", "fetch it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk(_Walker(path, data), block_sizes)


def _walk(w: _Walker, block_sizes: Mapping[int, tuple[int, int]]) -> None:
    magic = bytes(w.data[:4])
    if magic != b"GGUF":
        raise ModelError("foreign", f"{w.path} starts with {magic!r}, expected b'GGUF'", "give a GGUF file")
    w.at = 4
    version = w.number("I", "the version")
    if version not in _VERSIONS:
        raise w.damaged(f"GGUF version {version}, expected one of {_VERSIONS} (little-endian)")
    n_tensors, n_fields = w.number("Q", "the tensor count"), w.number("Q", "the metadata count")
    alignment = 32
    for i in range(n_fields):
        key = w.text(f"the name of metadata {i}")
        kind, start = w.number("I", key), w.at
        w.value(kind, key)
        if key == "general.alignment" and kind == 4:
            alignment = struct.unpack_from("<I", w.data, start)[0]
    if alignment == 0 or alignment & (alignment - 1):
        raise w.damaged(f"general.alignment {alignment}, expected a power of two")
    ends = []
    for i in range(n_tensors):
        name = w.text(f"the name of tensor {i}")
        n_dims = w.number("I", name)
        if not 0 < n_dims <= _MAX_DIMS:
            raise w.damaged(f"tensor {name} with {n_dims} dimensions, expected 1 to {_MAX_DIMS}")
        elements = 1
        dims = [w.number("Q", name) for _ in range(n_dims)]
        for dim in dims:
            elements *= dim
        kind, offset = w.number("I", name), w.number("Q", name)
        if kind not in block_sizes:
            raise w.damaged(f"tensor {name} of unknown type {kind}")
        block, size = block_sizes[kind]
        if elements == 0 or dims[0] % block or offset % alignment:
            raise w.damaged(f"tensor {name} of shape {dims} at offset {offset} does not fit blocks of {block}")
        ends.append((name, offset + elements // block * size))
    base = -(-w.at // alignment) * alignment
    for name, end in ends:
        if base + end > len(w.data):
            raise w.truncated(f"tensor {name}", base + end)
