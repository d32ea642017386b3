"""Float32 weights in a file keyed by the checkpoint's checksum, memory-mapped so that processes share their pages.

A safetensors file; its header carries, beside the offsets, what else a start needs (``facts``: hyper-parameters,
tokenizer) so that the checkpoint is not parsed again, and an XXH3 of everything, checked at every start (0.5 GB: 25 to
100 ms): these weights are what the checks hold the engine to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pytest_greta.engine.store import cache_dir
from pytest_greta.texts import Text, text

_FORMAT = "1"
"""Part of the file name: a change of meaning leaves old files alone."""
_FACTS, _DIGEST = "greta.facts", "greta.xxh3"
Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class CachedWeights:
    """Implements ``spec.Weights``. Arrays are read-only. ``path`` is None where they are in this process alone."""

    tensors: Tensors
    facts: dict[str, Any]
    path: Path | None
    note: Text | None = None
    """Why there is no cache file, where there is none."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors


def cache_path(sha256: str) -> Path:
    return cache_dir() / "weights" / f"{sha256}.v{_FORMAT}.safetensors"


def load_or_build(sha256: str, build: Callable[[], tuple[Tensors, dict[str, Any]]]) -> CachedWeights:
    """The weights of the checkpoint ``sha256``, from the cache or from ``build`` (tensors, JSON-able facts).

    One process builds, the others wait for it. A damaged cache file is built anew. Where the folder cannot be written
    the weights stay in memory and ``note`` says why.
    """
    path = cache_path(sha256)
    if cached := _open(path):
        return cached
    built: tuple[Tensors, dict[str, Any]] | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if cached := _open(path):
                return cached
            built = build()
            _write(path, *built)
    except (OSError, SafetensorError) as error:
        reason = text("weights.not_cached", folder=path.parent, error=error)
    else:
        if cached := _open(path):
            return cached
        reason = text("weights.not_read_back", path=path)
    tensors, facts = built or build()
    for array in tensors.values():
        array.setflags(write=False)
    return CachedWeights(tensors, facts, None, reason)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever left these died holding the lock.
        for left in path.parent.glob(f"{path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        yield


def _write(path: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    text = orjson.dumps(facts).decode()
    temp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(dict(tensors), temp, {_FACTS: text, _DIGEST: _digest(tensors, text)})
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


def _open(path: Path) -> CachedWeights | None:
    """None where the file is absent or does not hold, to the bit, what was written.

    File layout: header length (u64), JSON header, data: https://github.com/huggingface/safetensors#format. Mapped here
    because the library's own reader copies.
    """
    try:
        data = np.asarray(np.memmap(path, mode="r"))
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = orjson.loads(data[8:start].tobytes())
        meta = header.pop("__metadata__")
        tensors = {}
        for name, entry in header.items():
            first, last = (start + offset for offset in entry["data_offsets"])
            tensors[name] = data[first:last].view(np.float32).reshape(entry["shape"])
        if _digest(tensors, meta[_FACTS]) != meta[_DIGEST]:
            return None
        return CachedWeights(tensors, orjson.loads(meta[_FACTS]), path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(tensors: Tensors, facts: str) -> str:
    digest = xxhash.xxh3_128(facts.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()
