"""A device library called as an engine calls it: pointers to tensors, a stream, nothing waited for.

``pytest_greta.backends`` waits after every call and copies the batch, which probing wants and neither a clock nor a
graph can have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_greta.backends import native
from pytest_greta.backends.base import PHASES, Phase, SessionConfig
from pytest_greta.backends.native_config import greta_config
from pytest_greta.backends.native_device import TORCH_NAMES
from pytest_greta.dtypes import DTYPES

SHORTEST_S = 0.05
"""A sample repeats its call until it lasts this long: launches are then queued, and the clock's step is small."""
MOST_CALLS = 10_000

Call = Callable[[], Any]


class Place:
    """A device (``index``) with a stream of ours and its clock; None: the emulation's, which is this processor."""

    def __init__(self, torch: Any, index: int | None) -> None:
        self.torch = torch
        self.emulated = index is None
        self.device = torch.device("cpu") if index is None else torch.device("cuda", index)
        self.stream = None if index is None else torch.cuda.Stream(self.device)

    @property
    def handle(self) -> int:
        return 0 if self.stream is None else int(self.stream.cuda_stream)

    def on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.stream is None else self.torch.cuda.stream(self.stream)

    def wait(self) -> None:
        if self.stream is not None:
            self.torch.cuda.synchronize(self.device)

    def seconds(self, call: Call) -> float:
        """Of one call, by the device's own clock, over as many as last ``SHORTEST_S``."""
        count = 1
        while True:
            lasted = self._lasted(call, count)
            if lasted >= SHORTEST_S or count >= MOST_CALLS:
                return lasted / count
            count = min(MOST_CALLS, math.ceil(count * min(10.0, 1.5 * SHORTEST_S / max(lasted, 1e-9))))

    def _lasted(self, call: Call, count: int) -> float:
        if self.stream is None:
            start = time.perf_counter()
            for _ in range(count):
                call()
            return time.perf_counter() - start
        first, last = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.on_stream():
            first.record(self.stream)
            for _ in range(count):
                call()
            last.record(self.stream)
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3

    def int32(self, values: Any) -> Any:
        return self.torch.tensor(values, dtype=self.torch.int32, device=self.device)

    def randn(self, *shape: int, dtype: str) -> Any:
        return self.torch.randn(*shape, device=self.device).to(getattr(self.torch, TORCH_NAMES[dtype]))

    def zeros(self, *shape: int, dtype: str) -> Any:
        return self.torch.zeros(*shape, dtype=getattr(self.torch, TORCH_NAMES[dtype]), device=self.device)


class Arrays:
    """A batch whose every sequence has ``q_len`` queries at its end, on the device. ``lengths`` may change between
    calls: kernels read it there."""

    def __init__(self, place: Place, config: SessionConfig, lengths: list[int], q_len: int) -> None:
        n, blocks = len(lengths), config.blocks_per_seq
        self.lengths = place.int32(lengths)
        self.q_len, self.n_seqs, self.max_len = q_len, n, config.max_len
        rows = [kv - q_len + i for kv in lengths for i in range(q_len)]
        self.named = {
            "cu_q": place.int32([q_len * i for i in range(n + 1)]),
            "kv_len": self.lengths,
            "positions": place.int32(rows),
            "slots": place.int32(rows),
            "seq_ids": place.int32(list(range(n))),
        }
        if blocks:  # the pages that kv_load fills
            self.named["block_table"] = place.int32([[i * blocks + j for j in range(blocks)] for i in range(n)])


class Session:
    """One session over device memory. What it points at is held by the caller until ``place.wait()``."""

    def __init__(self, path: Path, place: Place, config: SessionConfig) -> None:
        self._ffi = native.declarations()
        self._library, self.config = native.open_library(self._ffi, path), config
        keep: list[Any] = []
        place.wait()  # the tensors that will be handed over were made on PyTorch's own stream
        own = greta_config(self._ffi, replace(config, memory="device", stream=place.handle), keep)
        handle = self._ffi.new("greta_session **")
        self._library.check(self._library.call("greta_open", own, handle))
        self._handle = handle[0]

    def load(self, layer: int, seq: int, k: Any, v: Any) -> None:
        """k, v [rows, kv heads, dim], dense, in the cache's type."""
        self._do("greta_kv_load", layer, seq, 0, len(k), self._pointer(k), self._pointer(v))
        self.sync()

    def attention(self, layer: int, phase: Phase, arrays: Arrays, q: Any, out: Any) -> Call:
        """A call ready to be made any number of times: nothing is prepared in it."""
        ffi, act = self._ffi, DTYPES[self.config.act_dtype].abi
        batch = ffi.new("greta_batch *")
        batch.struct_size = ffi.sizeof("greta_batch")
        batch.n_seqs, batch.n_tokens = arrays.n_seqs, len(q)
        batch.max_q_len, batch.max_kv_len = arrays.q_len, arrays.max_len
        for name, tensor in arrays.named.items():
            setattr(batch, name, ffi.cast("int32_t *", tensor.data_ptr()))
        tensors = []
        for x in (q, out):
            own = ffi.new("greta_tensor *")
            own.data, own.dtype = self._pointer(x), act
            own.token_stride, own.head_stride = x.stride(0), x.stride(1)
            tensors.append(own)
        none, number = ffi.NULL, PHASES.index(phase)

        def call() -> None:
            self._do("greta_attend", layer, number, batch, tensors[0], none, none, tensors[1], none)

        return call

    def sync(self) -> None:
        """Waits; what the kernels complained of is raised here."""
        self._do("greta_sync")

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.call("greta_close", handle)

    def _do(self, name: str, *args: Any) -> None:
        self._library.check(self._library.call(name, self._handle, *args))

    def _pointer(self, tensor: Any) -> Any:
        return self._ffi.cast("void *", tensor.data_ptr())
