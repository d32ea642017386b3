"""One library on the bench: its functions, called with arguments that all lie in guarded memory.

Runs in a case's own process only (see ``apart``): what the library does to it costs that case.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from pytest_greta.backends.base import PHASES, Array, LayerConfig, Phase, SessionConfig
from pytest_greta.backends.native_config import greta_config
from pytest_greta.backends.native_description import description
from pytest_greta.backends.native_library import STATUS, Library
from pytest_greta.conformance.attended import Attend, Tensor, look_at
from pytest_greta.conformance.finding import Finding
from pytest_greta.conformance.guarded import Buffer
from pytest_greta.dtypes import DTYPES, DType
from pytest_greta.texts import text

HEADS, KV_HEADS, DIM, MAX_SEQS, MAX_LEN, PAGE_SIZE, LAYERS = 4, 2, 16, 2, 48, 16, 2
UNWRITTEN = {"f32": 0x7FC0DEAD, "bf16": 0x7FDE, "f16": 0x7EDE}
"""By type of an output: a NaN that no arithmetic makes."""

_SILENT = text("native.no_reason")
NO_REASON = {"en": _SILENT.en, "es": _SILENT.es}


class Bench:
    """``tell`` is given the name of each function before it is called. ``guards`` False: see ``Buffer``."""

    def __init__(
        self, library: Library, tell: Callable[[str], None], *, guards: bool = True, at_start: bool = False
    ) -> None:
        self.library, self.ffi, self.lib = library, library.ffi, library.lib
        self.guards, self.at_start = guards, at_start
        self._tell = tell
        self._pid = os.getpid()
        self._buffers: list[Buffer] = []
        self._keep: list[Any] = []
        self._random = np.random.default_rng(1)
        self.null = self.ffi.NULL

    @cached_property
    def said(self) -> Any:
        """The ``Description``."""
        return description(self.library.describe(), self.library.optional, str(self.library.path))

    # -- memory

    def buffer(self, name: str, content: bytes | int, output: bool = False) -> Buffer:
        size = content if isinstance(content, int) else len(content)
        made = Buffer(name, size, output=output, at_start=self.at_start, guards=self.guards)
        if isinstance(content, bytes):
            made.view[:] = content
        self._buffers.append(made)
        return made

    def struct(self, name: str, value: Any, output: bool = False) -> Any:
        """A guarded copy of a cffi struct, as a pointer of the same type."""
        made = self.buffer(name, bytes(self.ffi.buffer(value)), output)
        return self.ffi.cast(self.ffi.typeof(value), made.address)

    def ints(self, name: str, values: Sequence[int]) -> Any:
        made = self.buffer(name, np.array(values, np.int32).tobytes())
        return self.ffi.cast("int32_t *", made.address)

    def tensor(self, name: str, rows: Array, dtype: DType, *, output: bool = False, gap: int = 0) -> Tensor:
        """``rows`` [tokens, heads, dim] with ``gap`` elements behind each head and each token; an ``output`` is filled
        with what no result can be."""
        tokens, heads, dim = rows.shape
        head_stride = dim + gap
        token_stride = heads * head_stride + gap
        count = max(0, (tokens - 1) * token_stride + (heads - 1) * head_stride + dim)
        data = self.buffer(name, count * dtype.itemsize, output)
        flat = np.frombuffer(data.view, np.uint8).view(dtype.numpy)
        strides = tuple(n * dtype.itemsize for n in (token_stride, head_stride, 1))
        inside = np.lib.stride_tricks.as_strided(flat, rows.shape, strides)
        fill = UNWRITTEN.get(dtype.name, 0xFF)
        if output:
            flat.view(f"u{dtype.itemsize}")[:] = fill
        else:
            inside[...] = rows.astype(dtype.numpy)
        value = self.ffi.new("greta_tensor *")
        value.data = self.ffi.cast("void *", data.address)
        value.dtype, value.token_stride, value.head_stride = dtype.abi, token_stride, head_stride
        return Tensor(self.struct(f"{name} (greta_tensor)", value), inside, data, fill)

    def unwritten(self, output: Tensor) -> None:
        """Filled again with what no result can be."""
        output.bits()[...] = output.fill

    def drawn(self, tokens: int, heads: int, dtype: DType) -> Array:
        return self._random.standard_normal((tokens, heads, DIM), np.float32).astype(dtype.numpy)

    # -- calls

    def call(self, function: str, *args: Any) -> Any:
        """What the function returns. Raises ``Finding`` for a byte that it should not have written."""
        self._tell(function)
        for buffer in self._buffers:
            buffer.freeze()
        result = getattr(self.lib, function)(*args)
        if os.getpid() != self._pid:
            os._exit(0)  # the library forked, and this is the copy
        for buffer in self._buffers:
            if (damage := buffer.damage()) is not None:
                raise Finding(
                    "input" if damage.side == "inside" else "overrun",
                    function=function,
                    buffer=damage.buffer,
                    side=damage.side,
                    offset=damage.offset,
                )
        return result

    def has(self, feature: str) -> bool:
        return feature in self.said.features

    def status(self, function: str, *args: Any) -> str:
        """The name of the status that it returns."""
        number = int(self.call(function, *args))
        if not 0 <= number < len(STATUS):
            raise Finding("status", function=function, number=number)
        return STATUS[number]

    def accept(self, function: str, *args: Any) -> None:
        if (status := self.status(function, *args)) != STATUS[0]:
            raise Finding("refused", function=function, status=status, words=self.last_error() or NO_REASON)
        if self.has("sync") and function not in ("greta_open", "greta_device_count", "greta_sync"):
            self.accept("greta_sync", args[0])

    def refuse(self, function: str, *args: Any) -> str:
        """Its status, which is an error, with a line of ``greta_last_error`` where that is exported."""
        status = self.status(function, *args)
        if status == STATUS[0] and self.has("sync") and args[0] != self.null and function != "greta_open":
            status = self.status("greta_sync", args[0])  # a call may be asynchronous, and its error late
        if status == STATUS[0]:
            raise Finding("accepted", function=function)
        words = self.last_error()
        if words is not None and (not words.strip() or "\n" in words):
            raise Finding("words", function=function, words=words)
        return status

    def last_error(self) -> str | None:
        """None where the function is not exported."""
        if not self.library.exports("greta_last_error"):
            return None
        words = self.call("greta_last_error")
        return "" if words == self.null else self.ffi.string(words).decode(errors="replace")

    # -- sessions

    @cached_property
    def act(self) -> DType:
        return DTYPES[self.said.act_dtypes[0]]

    def kv_of(self, act: DType) -> DType:
        """The cache type that goes with an activation type: the same where there is one."""
        names = self.said.kv_dtypes
        return act if act.name in names else DTYPES[names[0]]

    def config(self, layer: LayerConfig | None = None, **changes: Any) -> Any:
        """A guarded ``greta_config *`` and all that it points at."""
        base = SessionConfig(
            n_layers=LAYERS, n_heads=HEADS, n_kv_heads=KV_HEADS if self.has("gqa") else HEADS, head_dim_qk=DIM,
            head_dim_v=DIM, max_seqs=MAX_SEQS, max_len=MAX_LEN, act_dtype=self.act.name,
            kv_dtype=self.kv_of(self.act).name, softmax_scale=0.25, threads=1,
            layers=(layer or LayerConfig(),) * LAYERS,
        )  # fmt: skip
        own = replace(base, **changes)
        made = greta_config(self.ffi, own, self._keep)
        for index in range(LAYERS):
            each = made.layers[index]
            for name, count in (("k_scale", own.n_kv_heads), ("v_scale", own.n_kv_heads), ("sinks", HEADS),
                                ("alibi", HEADS)):  # fmt: skip
                if (pointer := getattr(each, name)) != self.null:
                    content = bytes(self.ffi.buffer(pointer, 4 * count))
                    guarded = self.buffer(f"config.layers[{index}].{name}", content)
                    setattr(each, name, self.ffi.cast("float *", guarded.address))
        layers = self.buffer(
            "config.layers", bytes(self.ffi.buffer(made.layers, LAYERS * self.ffi.sizeof("greta_layer_config")))
        )
        made.layers = self.ffi.cast("greta_layer_config *", layers.address)
        return self.struct("config", made)

    def open(self, config: Any = None) -> Any:
        """A session that ``greta_open`` must give."""
        config = self.config() if config is None else config
        handle = self.struct("session", self.ffi.new("greta_session **"), output=True)
        self.accept("greta_open", config, handle)
        if handle[0] == self.null:
            raise Finding("no_session", function="greta_open")
        return handle[0]

    def forget(self, name: str) -> None:
        """What was given as an argument is gone: a caller need not keep it."""
        for buffer in self._buffers:
            if buffer.name == name or buffer.name.startswith(f"{name}."):
                buffer.lose()

    # -- a call of attend

    def batch(self, sequences: Sequence[tuple[int, int, int]], block_table: Sequence[int] | None = None) -> Any:
        """A guarded ``greta_batch *`` of (q_len, kv_len, kv_start)."""
        rows = [max(0, kv - q + i) for q, kv, _ in sequences for i in range(q)]
        cu_q = np.cumsum([0, *(q for q, _, _ in sequences)]).tolist()
        value = self.ffi.new("greta_batch *")
        value.struct_size = self.ffi.sizeof("greta_batch")
        value.n_seqs, value.n_tokens = len(sequences), len(rows)
        value.max_q_len, value.max_kv_len = (max(s[i] for s in sequences) for i in (0, 1))
        value.cu_q = self.ints("batch.cu_q", cu_q)
        value.kv_len = self.ints("batch.kv_len", [kv for _, kv, _ in sequences])
        if any(start for _, _, start in sequences):
            value.kv_start = self.ints("batch.kv_start", [start for _, _, start in sequences])
        value.positions = self.ints("batch.positions", rows)
        value.slots = self.ints("batch.slots", rows)
        value.seq_ids = self.ints("batch.seq_ids", range(len(sequences)))
        if block_table is not None:
            value.block_table = self.ints("batch.block_table", block_table)
        return self.struct("batch", value)

    def attend(
        self,
        session: Any,
        phase: Phase,
        *sequences: tuple[int, int, int],
        act: DType | None = None,
        gap: int = 0,
        with_lse: bool = True,
        block_table: Sequence[int] | None = None,
    ) -> Attend:
        """The arguments for sequences of (q_len, kv_len, kv_start); a library with a cache has been given the rows."""
        act = act or self.act
        kv = self.kv_of(act)
        heads = KV_HEADS if self.has("gqa") else HEADS
        keys = [self.drawn(n, heads, kv).astype(act.numpy) for _, n, _ in sequences]
        values = [self.drawn(n, heads, kv).astype(act.numpy) for _, n, _ in sequences]
        given: tuple[Sequence[Array], Sequence[Array]] | None = None
        dtype = kv
        if self.said.kv == "stateless":
            given = keys, values
        else:
            self.write(session, 0, keys, values, act, block_table)
            if self.said.prefill_kv == "fresh" and phase == "prefill":
                given = self._last(keys, sequences), self._last(values, sequences)
                dtype = act
        tokens = sum(q for q, _, _ in sequences)
        new = [None, None] if given is None else [
            self.tensor(name, np.concatenate(rows), dtype, gap=gap)
            for name, rows in zip(("k_new", "v_new"), given, strict=True)
        ]  # fmt: skip
        empty = np.empty((tokens, HEADS, DIM))
        lse = self.tensor("lse", np.empty((tokens, HEADS, 1)), DTYPES["f32"], output=True, gap=gap)
        return Attend(
            session=session,
            layer=0,
            phase=PHASES.index(phase),
            batch=self.batch(sequences, block_table),
            q=self.tensor("q", self.drawn(tokens, HEADS, act), act, gap=gap),
            k_new=new[0],
            v_new=new[1],
            out=self.tensor("out", empty, act, output=True, gap=gap),
            lse=lse if with_lse else None,
            sequences=sequences,
            values=[x.astype(kv.numpy) for x in values],
        )

    def write(
        self,
        session: Any,
        layer: int,
        keys: Sequence[Array],
        values: Sequence[Array],
        act: DType,
        block_table: Sequence[int] | None = None,
    ) -> None:
        """Gives the library its rows, of each sequence from slot 0 on."""
        batch = self.batch([(len(k), len(k), 0) for k in keys], block_table)
        k, v = (self.tensor(n, np.concatenate(x), act) for n, x in (("k", keys), ("v", values)))
        self.accept("greta_kv_write", session, layer, batch, k.struct, v.struct)

    def arguments(self, call: Attend) -> tuple[Any, ...]:
        tensors = (
            t.struct if t is not None else self.null for t in (call.q, call.k_new, call.v_new, call.out, call.lse)
        )
        return call.session, call.layer, call.phase, call.batch, *tensors

    def attended(self, call: Attend) -> None:
        """Makes a good call and looks at what it wrote."""
        self.accept("greta_attend", *self.arguments(call))
        look_at(call)

    @staticmethod
    def _last(rows: Sequence[Array], sequences: Sequence[tuple[int, int, int]]) -> list[Array]:
        """Of each sequence the rows of this call."""
        return [x[-q_len:] for x, (q_len, _, _) in zip(rows, sequences, strict=True)]
