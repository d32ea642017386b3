"""``greta_session`` from Python: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import PHASES, Array, BackendError, Batch, Phase, SessionConfig, Unsupported
from pytest_greta.backends.fence import fenced, is_broken
from pytest_greta.backends.native_description import OPTIONAL
from pytest_greta.backends.native_library import Library
from pytest_greta.dtypes import DTYPES, DType
from pytest_greta.texts import text

FIRST_COUNTERS, MOST_COUNTERS = 64, 65536
"""Room for kernels at the first call; of a library that says it has more than the last nothing is believed."""
UNWRITTEN = np.uint32(0x7FC0DEAD)
"""A NaN that no arithmetic makes: what lse holds until the library fills it."""


class NativeSession:
    """``greta_session``. Its calls are synchronised, so that what they return is final.

    Arrays are checked here, because a library sees only addresses. Shapes as in ``base.AttentionSession``. Every call
    raises ``ValueError`` for an array that does not fit and ``BackendError`` for what the library refuses.
    """

    def __init__(self, library: Library, handle: Any, config: SessionConfig) -> None:
        self._library = library
        self._ffi = library.ffi
        self._lib = library.lib
        self._handle = self._ffi.gc(handle, self._lib.greta_close)
        self.config = config
        self._act = DTYPES[config.act_dtype]
        self._kv = DTYPES[config.kv_dtype]

    def __enter__(self) -> NativeSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._ffi.gc(handle, None)
            self._library.call("greta_close", handle)

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        c = self.config
        held = Held()
        query = self._tensor("q", q, (batch.n_tokens, c.n_heads, c.head_dim_qk), self._act, held)
        new = [
            self._ffi.NULL
            if rows is None
            # rows of this call come in the activation type, all rows of a stateless library in the cache's
            else self._tensor(
                name,
                rows,
                (len(rows), c.n_kv_heads, dim),
                self._kv if rows.dtype == self._kv.numpy else self._act,
                held,
            )
            for name, rows, dim in (("k_new", k_new, c.head_dim_qk), ("v_new", v_new, c.head_dim_v))
        ]
        out, lse = self._results(batch, q)
        self._call(
            "attend",
            layer,
            PHASES.index(phase),
            self._batch(batch, held),
            query,
            *new,
            self._tensor("out", out, out.shape, self._act, held, writable=True),
            self._tensor("lse", lse, lse.shape, DTYPES["f32"], held, writable=True),
        )
        self._finish("attend", held, out=out, lse=lse)
        return out, None if self._unwritten(lse) else lse[:, :, 0]

    def _results(self, batch: Batch, q: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """Room for out and lse. NaN, not 0: a row that the library forgets must not look like an empty one."""
        c = self.config
        out = fenced((batch.n_tokens, c.n_heads, c.head_dim_v), self._act.numpy, np.nan)
        lse = fenced((batch.n_tokens, c.n_heads, 1), np.float32, 0.0)
        lse.view(np.uint32)[...] = UNWRITTEN
        return out, lse

    def _unwritten(self, lse: Array) -> bool:
        return bool((lse.view(np.uint32) == UNWRITTEN).all())

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        c = self.config
        held = Held()
        query = self._tensor("q", q, (batch.n_tokens, c.n_heads, c.head_dim_qk), self._act, held, writable=True)
        key = self._tensor("k", k, (batch.n_tokens, c.n_kv_heads, c.head_dim_qk), self._act, held, writable=True)
        self._call("rope", layer, PHASES.index(phase), self._batch(batch, held), query, key)
        self._finish("rope", held, q=q, k=k)

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        c = self.config
        held = Held()
        key = self._tensor("k", k, (batch.n_tokens, c.n_kv_heads, c.head_dim_qk), self._act, held)
        value = self._tensor("v", v, (batch.n_tokens, c.n_kv_heads, c.head_dim_v), self._act, held)
        self._call("kv_write", layer, self._batch(batch, held), key, value)
        self._finish("kv_write", held)

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        c = self.config
        if count > c.max_len:
            raise ValueError(f"count is {count}, expected 0 .. max_len {c.max_len}")
        k = fenced((max(count, 0), c.n_kv_heads, c.head_dim_qk), self._kv.numpy, 0)
        v = fenced((max(count, 0), c.n_kv_heads, c.head_dim_v), self._kv.numpy, 0)
        self._call("kv_read", layer, seq, start, count, self._buffer(k), self._buffer(v))
        self._finish("kv_read", Held(), k=k, v=v)
        return k, v

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        c = self.config
        _check("k", k, (len(k), c.n_kv_heads, c.head_dim_qk), self._kv)
        _check("v", v, (len(k), c.n_kv_heads, c.head_dim_v), self._kv)
        held = Held()
        held.input("k", k)
        held.input("v", v)
        self._call("kv_load", layer, seq, start, len(k), self._buffer(k), self._buffer(v))
        self._finish("kv_load", held)

    def kv_trim(self, seq: int, length: int) -> None:
        self._call("kv_trim", seq, length)

    def counters(self) -> Mapping[tuple[str, str], int]:
        room, count = FIRST_COUNTERS, self._ffi.new("int32_t *")
        entries: Any = ()
        for _ in range(2):  # once more where there are more kernels than room
            entries = self._ffi.new("greta_counter[]", room)
            self._call("counters", entries, room, count)
            if count[0] <= room:
                break
            room = min(int(count[0]), MOST_COUNTERS)
        if not 0 <= count[0] <= len(entries):
            raise BackendError("GRETA_INTERNAL", text("native.counters", count=int(count[0]), most=MOST_COUNTERS))
        calls: dict[tuple[str, str], int] = {}
        for entry in entries[0 : int(count[0])]:
            if not 0 <= entry.phase < len(PHASES):
                raise BackendError("GRETA_INTERNAL", text("native.counter_phase", phase=entry.phase))
            key = (PHASES[entry.phase], self._ffi.string(entry.kernel).decode(errors="replace"))
            calls[key] = calls.get(key, 0) + int(entry.calls)
        return calls

    def sync(self) -> None:
        """Waits, and raises errors that were found late. A library without ``greta_sync`` finishes within its calls."""
        if "sync" in self._library.optional:
            self._call("sync")

    def _call(self, name: str, *args: Any) -> None:
        if self._handle is None:
            raise BackendError("GRETA_INVALID_ARGUMENT", text("native.closed", name=name))
        if name in OPTIONAL and name not in self._library.optional:
            raise Unsupported(name, text("native.not_exported", name=name, path=self._library.path))
        self._library.check(self._library.call(f"greta_{name}", self._handle, *args))

    def _finish(self, name: str, held: Held, **outputs: Array) -> None:
        """Waits, brings the outputs home, and looks whether the inputs are what they were: a later stage, or another
        path, may read them too. What lies beside an output is anything of this process."""
        self.sync()
        self._home(*outputs.values())
        if beyond := next((output for output, array in outputs.items() if is_broken(array)), ""):
            what = text("native.beyond", name=f"greta_{name}", path=self._library.path, output=beyond)
            raise BackendError("GRETA_INTERNAL", what)
        if argument := held.changed():
            what = text("native.scribbled", name=f"greta_{name}", path=self._library.path, argument=argument)
            raise BackendError("GRETA_INTERNAL", what)

    def _tensor(
        self,
        name: str,
        array: Array,
        shape: tuple[int, ...],
        dtype: DType,
        held: Held,
        writable: bool = False,
    ) -> Any:
        _check(name, array, shape, dtype)
        if writable and not array.flags.writeable:
            raise ValueError(f"{name} is changed in place, but the array is read-only")
        tensor = self._ffi.new("greta_tensor *")
        tensor.data = self._buffer(array)
        tensor.dtype = dtype.abi
        tensor.token_stride = shape[1] * shape[2]
        tensor.head_stride = shape[2]
        held.alive += [tensor, array]
        if not writable:
            held.input(name, array)
        return tensor

    def _buffer(self, array: Array) -> Any:
        """The array's address; the caller holds the array. (``from_buffer`` refuses bf16, so the bytes are viewed.)"""
        return self._ffi.cast("void *", self._address(array))

    def _address(self, array: Array) -> int:
        """Where the library finds the array, in the session's memory space."""
        return int(array.ctypes.data)

    def _home(self, *arrays: Array) -> None:
        """A call is over: brings what the library wrote into these arrays, where it wrote elsewhere."""

    def _batch(self, batch: Batch, held: Held) -> Any:
        c, n_seqs = self.config, batch.n_seqs
        expected = {
            "cu_q": (n_seqs + 1,),
            "kv_len": (n_seqs,),
            "kv_start": (n_seqs,),
            "positions": (batch.n_tokens,),
            "slots": (batch.n_tokens,),
            "seq_ids": (n_seqs,),
            "block_table": (n_seqs, c.blocks_per_seq),
        }
        b = self._ffi.new("greta_batch *")
        b.struct_size = self._ffi.sizeof("greta_batch")
        b.n_seqs, b.n_tokens = n_seqs, batch.n_tokens
        for name, shape in expected.items():
            array = getattr(batch, name)
            if array is None and name in ("kv_start", "block_table"):
                continue
            _check(f"batch.{name}", array, shape, None)
            setattr(b, name, self._ffi.cast("int32_t *", self._address(array)))
            held.input(f"batch.{name}", array)
        b.max_q_len = int(np.diff(batch.cu_q).max(initial=0))
        b.max_kv_len = int(batch.kv_len.max(initial=0))
        held.alive.append(b)
        return b


class Held:
    """What the arguments of one call point at, and what its inputs held before it."""

    def __init__(self) -> None:
        self.alive: list[Any] = []
        self._inputs: list[tuple[str, Array, bytes]] = []

    def input(self, name: str, array: Array) -> None:
        self._inputs.append((name, array, array.tobytes()))

    def changed(self) -> str:
        """The name of an input that is no longer what it was, or ""."""
        return next((name for name, array, before in self._inputs if array.tobytes() != before), "")


def _check(name: str, array: Array, shape: tuple[int, ...], dtype: DType | None) -> None:
    """``dtype`` None means int32."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is a {type(array).__name__}, expected a NumPy array")
    expected = np.dtype(np.int32) if dtype is None else dtype.numpy
    if array.dtype != expected:
        raise ValueError(f"{name} has dtype {array.dtype}, expected {expected}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous")
