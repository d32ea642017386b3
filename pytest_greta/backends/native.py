"""An attention library behind the C ABI of ``greta_attn.h``, called through cffi.

The declarations are cffi's out-of-line ABI module, written from the header when the package is built and installed
beside the two built-in libraries in ``_greta_native``. Any other library is opened by its path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import (
    PHASES,
    Array,
    BackendError,
    BackendMissing,
    Batch,
    Description,
    LayerConfig,
    Numerics,
    Phase,
    Schedule,
    SessionConfig,
    Unsupported,
)
from pytest_greta.dtypes import DTYPES, DType

INSTALL = "install it with `pip install .` in the checkout, or `pip install pytest-greta`"
BUILT_IN = "libgreta_attn.so"
FAULTY_TWIN = "libgreta_attn_faulty.so"
REQUIRED = ("greta_abi_version", "greta_describe", "greta_open", "greta_close", "greta_attend")
OPTIONAL = ("rope", "kv_write", "kv_read", "kv_load", "kv_trim", "counters", "sync", "device_count")
STATUS = (
    "GRETA_OK",
    "GRETA_INVALID_ARGUMENT",
    "GRETA_UNSUPPORTED",
    "GRETA_OUT_OF_MEMORY",
    "GRETA_NO_DEVICE",
    "GRETA_DEVICE_ERROR",
    "GRETA_INTERNAL",
)
ROPE_STYLES = {"none": 0, "half": 1, "interleaved": 2}
DIRECTIONS = {"": 0, "forward": 1, "reverse": 2}
TILE_ORIGINS = {"": 0, "zero": 1, "window": 2}
MAX_UPDATES = {"": 0, "every_tile": 1, "lazy": 2, "none": 3}
MOST_COUNTERS = 64
UNWRITTEN = np.uint32(0x7FC0DEAD)
"""A NaN that no arithmetic makes: what lse holds until the library fills it."""
_NEVER_CLOSED: dict[str, Any] = {}
"""By path. cffi closes a library with its last reference, but a runtime that it brought (OpenMP, HIP) may have threads
waiting in the code that would be unmapped."""


def _ffi() -> Any:
    """The declarations; without them the package is installed only in part."""
    try:
        from _greta_native._abi import ffi
    except ImportError as error:
        raise BackendMissing("library", "the native library of pytest-greta is not installed", INSTALL) from error
    return ffi


def _built_in(name: str) -> Path:
    import _greta_native

    return Path(next(iter(_greta_native.__path__))) / name


def load(path: Path | None = None, *, faulty: bool = False) -> NativeBackend:
    """The library at ``path``, or the built-in one; with ``faulty`` the built-in one's twin, for ``inject`` only.

    Raises ``BackendMissing`` when there is none, when it is no shared library, speaks another ABI or lacks a required
    function; ``BackendError`` when what it says of itself cannot be read.
    """
    ffi = _ffi()
    if path is None:
        path = _built_in(FAULTY_TWIN if faulty else BUILT_IN)
        if not path.is_file():
            raise BackendMissing("library", f"{path} does not exist", INSTALL)
    backend = NativeBackend(ffi, _open(ffi, path), path)
    if backend.faulty and not faulty:
        raise BackendMissing(
            "library", f"{path} is a faulty twin, which only `inject:` may load", "name the library itself"
        )
    return backend


def _open(ffi: Any, path: Path) -> Any:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise BackendMissing("library", f"attention library {path} {what}", "give the path of a shared library (.so)")
    try:
        lib = ffi.dlopen(str(path.resolve()))
    except OSError as error:
        raise BackendMissing(
            "library", f"{path} cannot be loaded: {error}", "give a shared library built for this machine"
        ) from error
    missing = [name for name in REQUIRED if not _has(ffi, lib, name)]
    if missing:
        raise BackendMissing(
            "library", f"{path} lacks {', '.join(missing)}", "export what greta_attn.h marks as required, as extern C"
        )
    _NEVER_CLOSED[str(path.resolve())] = lib
    ours, theirs = ffi.integer_const("GRETA_ABI_VERSION"), lib.greta_abi_version()
    if ours != theirs:
        raise BackendMissing(
            "library",
            f"{path} speaks version {theirs} of the ABI, this pytest-greta version {ours}",
            "rebuild it with the greta_attn.h of this pytest-greta",
        )
    return lib


def _has(ffi: Any, lib: Any, name: str) -> bool:
    """cffi looks a symbol up when it is first used."""
    try:
        getattr(lib, name)
    except ffi.error:
        return False
    return True


class NativeBackend:
    """An opened library. ``load`` makes one."""

    def __init__(self, ffi: Any, lib: Any, path: Path) -> None:
        self._ffi = ffi
        self._lib = lib
        self.path = path
        self._present = frozenset(name for name in OPTIONAL if _has(ffi, lib, f"greta_{name}"))
        self._has_last_error = _has(ffi, lib, "greta_last_error")
        self.faulty = bool(self._raw().get("faulty", False)) or _has(ffi, lib, "greta_fault_set")

    def describe(self) -> Description:
        return description(self._raw(), self._present, str(self.path))

    def device_count(self) -> int:
        """1 where the library does not tell."""
        if "device_count" not in self._present:
            return 1
        count = self._ffi.new("int32_t *")
        self.check(self._lib.greta_device_count(count))
        return int(count[0])

    def open(self, config: SessionConfig) -> NativeSession:
        keep: list[Any] = []
        try:
            c_config = _c_config(self._ffi, config, keep)
        except OverflowError as error:
            raise ValueError(f"a number of the configuration does not fit the ABI: {error}") from error
        handle = self._ffi.new("greta_session **")
        self.check(self._lib.greta_open(c_config, handle))
        if handle[0] == self._ffi.NULL:
            raise BackendError("GRETA_INTERNAL", f"greta_open of {self.path} says GRETA_OK and gives no session")
        return NativeSession(self, handle[0], config)

    def set_fault(
        self, kind: str, phase: int = -1, layer: int = -1, head: int = -1, position: int = -1, magnitude: float = 0.0
    ) -> None:
        """Plants an in-kernel fault; -1 stands for all. Only a faulty twin has this."""
        self._require_twin()
        self.check(self._lib.greta_fault_set(kind.encode(), phase, layer, head, position, magnitude))

    def clear_fault(self) -> None:
        self._require_twin()
        self.check(self._lib.greta_fault_clear())

    def _require_twin(self) -> None:
        if not _has(self._ffi, self._lib, "greta_fault_set"):
            raise BackendError("GRETA_UNSUPPORTED", f"{self.path} is no faulty twin: it has no greta_fault_set")

    def check(self, status: int) -> None:
        """Raises what a status means, in the library's own words."""
        if status == 0:
            return
        name = STATUS[status] if 0 <= status < len(STATUS) else f"status {status}"
        message = ""
        if self._has_last_error:
            text = self._lib.greta_last_error()
            message = "" if text == self._ffi.NULL else self._ffi.string(text).decode(errors="replace")
        if name == "GRETA_UNSUPPORTED":
            feature = re.match(r"([a-z0-9_]+): ", message)
            raise Unsupported(feature.group(1) if feature else message or "unknown", message)
        raise BackendError(name, message or "the library gives no reason")

    def _raw(self) -> dict[str, Any]:
        text = self._lib.greta_describe()
        if text == self._ffi.NULL:
            raise BackendError("GRETA_INTERNAL", f"greta_describe of {self.path} returned NULL, expected a JSON object")
        try:
            raw = json.loads(self._ffi.string(text).decode())
        except ValueError as error:
            raise BackendError("GRETA_INTERNAL", f"greta_describe of {self.path} is not JSON: {error}") from error
        if not isinstance(raw, dict):
            raise BackendError("GRETA_INTERNAL", f"greta_describe of {self.path} is no JSON object")
        return raw


def description(raw: Mapping[str, Any], present: frozenset[str], path: str) -> Description:
    """``greta_describe``'s object, checked. A function that is declared and not exported is no feature."""

    def get(key: str, kind: type, default: Any = None) -> Any:
        value = raw.get(key, default)
        if not isinstance(value, kind):
            raise BackendError(
                "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' is {value!r}, expected a JSON {JSON_NAMES[kind]}"
            )
        return value

    def choice(key: str, allowed: tuple[str, ...]) -> Any:
        value = raw.get(key, allowed[0])
        if value not in allowed:
            raise BackendError(
                "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' is {value!r}, expected {' or '.join(allowed)}"
            )
        return value

    def names(key: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        values = get(key, list, [])
        for value in values:
            if not isinstance(value, str) or (allowed and value not in allowed):
                expected = f"one of {', '.join(allowed)}" if allowed else "a string"
                raise BackendError(
                    "GRETA_INTERNAL", f"greta_describe of {path}: '{key}' holds {value!r}, expected {expected}"
                )
        return tuple(values)

    kernels = get("kernels", dict)
    for phase in PHASES:
        if not isinstance(kernels.get(phase), str):
            raise BackendError("GRETA_INTERNAL", f"greta_describe of {path}: 'kernels' names none for {phase}")
    declared = get("numerics", dict, {})
    dtypes = tuple(DTYPES)
    return Description(
        name=get("name", str),
        version=str(raw.get("version", "")),
        device_kind=get("device_kind", str, "cpu"),
        features=(frozenset(names("features")) - frozenset(OPTIONAL)) | present,
        act_dtypes=names("act_dtypes", dtypes),
        kv_dtypes=names("kv_dtypes", dtypes),
        p_dtypes=names("p_dtypes", dtypes),
        kernels={phase: kernels[phase] for phase in PHASES},
        numerics={phase: _numerics(declared.get(phase, {}), phase, path) for phase in PHASES},
        kv=choice("kv", ("cached", "stateless")),
        prefill_kv=choice("prefill_kv", ("cache", "fresh")),
        one_kernel=get("one_kernel", bool, False),
        path=path,
        raw=dict(raw),
    )


JSON_NAMES: dict[type, str] = {str: "string", dict: "object", list: "array", bool: "boolean"}


def _numerics(declared: Any, phase: str, path: str) -> Numerics:
    known = {field.name: type(field.default) for field in fields(Numerics)}
    where = f"greta_describe of {path}: numerics.{phase}"
    if not isinstance(declared, dict):
        raise BackendError("GRETA_INTERNAL", f"{where} is {declared!r}, expected a JSON object")
    values: dict[str, Any] = {}
    for key, value in declared.items():
        if key not in known:
            raise BackendError("GRETA_INTERNAL", f"{where}.{key} is unknown; known: {', '.join(known)}")
        kind = known[key]
        fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise BackendError("GRETA_INTERNAL", f"{where}.{key} is {value!r}, expected {kind.__name__}")
        values[key] = float(value) if kind is float else value
    return Numerics(**values)


def _c_config(ffi: Any, config: SessionConfig, keep: list[Any]) -> Any:
    """A ``greta_config``; what it points at is put into ``keep``."""
    if len(config.layers) != config.n_layers:
        raise ValueError(f"{len(config.layers)} layer configurations for {config.n_layers} layers")
    layers = ffi.new("greta_layer_config[]", max(1, config.n_layers))
    keep.append(layers)
    for index, layer in enumerate(config.layers):
        _fill_layer(ffi, layers[index], layer, config, f"layers[{index}]", keep)
    c = ffi.new("greta_config *")
    c.struct_size = ffi.sizeof("greta_config")
    c.abi = ffi.integer_const("GRETA_ABI_VERSION")
    for name in ("n_layers", "n_heads", "n_kv_heads", "head_dim_qk", "head_dim_v", "max_seqs", "max_len"):
        setattr(c, name, getattr(config, name))
    c.page_size, c.n_pages, c.device, c.threads = config.page_size, config.n_pages, config.device, config.threads
    c.act_dtype = _dtype(config.act_dtype, "act_dtype").abi
    c.kv_dtype = _dtype(config.kv_dtype, "kv_dtype").abi
    c.softmax_scale = config.softmax_scale
    for index, phase in enumerate(PHASES):
        _fill_schedule(c.schedule[index], config.schedule.get(phase, Schedule()), phase)
    c.layers = layers
    return c


def _dtype(name: str, where: str) -> DType:
    if name not in DTYPES:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _fill_layer(ffi: Any, c: Any, layer: LayerConfig, config: SessionConfig, where: str, keep: list[Any]) -> None:
    c.rope.base = layer.rope_base
    c.rope.style = _choice(ROPE_STYLES, layer.rope_style, f"{where}.rope_style")
    c.rope.rotary_dim = layer.rotary_dim
    c.window, c.softcap = layer.window, layer.softcap

    def array(kind: str, values: tuple[float, ...] | None, count: int, name: str) -> Any:
        if values is None:
            return ffi.NULL
        if len(values) != count:
            raise ValueError(f"{where}.{name} has {len(values)} values, expected {count}")
        keep.append(ffi.new(f"{kind}[]", list(values)))
        return keep[-1]

    c.rope.factors = array("double", layer.rope_factors, (layer.rotary_dim or config.head_dim_qk) // 2, "rope_factors")
    c.k_scale = array("float", layer.k_scale, config.n_kv_heads, "k_scale")
    c.v_scale = array("float", layer.v_scale, config.n_kv_heads, "v_scale")
    c.sinks = array("float", layer.sinks, config.n_heads, "sinks")
    c.alibi = array("float", layer.alibi, config.n_heads, "alibi")


def _fill_schedule(c: Any, schedule: Schedule, phase: str) -> None:
    where = f"schedule.{phase}"
    c.tile, c.splits = schedule.tile, schedule.splits
    c.direction = _choice(DIRECTIONS, schedule.direction, f"{where}.direction")
    c.tile_origin = _choice(TILE_ORIGINS, schedule.tile_origin, f"{where}.tile_origin")
    update, _, threshold = schedule.max_update.partition(":")
    c.max_update = _choice(MAX_UPDATES, update, f"{where}.max_update")
    if update == "lazy":
        try:
            c.max_threshold = float(threshold)
        except ValueError:
            raise ValueError(f"{where}.max_update is {schedule.max_update!r}, expected lazy:NUMBER") from None
    c.p_dtype = _dtype(schedule.p_dtype or "f32", f"{where}.p_dtype").abi
    c.p_scale = schedule.p_scale


def _choice(allowed: Mapping[str, int], value: str, where: str) -> int:
    if value not in allowed:
        raise ValueError(f"{where} is {value!r}, expected {' or '.join(name for name in allowed if name)}")
    return allowed[value]


class NativeSession:
    """``greta_session``. Its calls are synchronised, so that what they return is final.

    Arrays are checked here, because a library sees only addresses. Shapes as in ``base.AttentionSession``. Every call
    raises ``ValueError`` for an array that does not fit and ``BackendError`` for what the library refuses.
    """

    def __init__(self, backend: NativeBackend, handle: Any, config: SessionConfig) -> None:
        self._backend = backend
        self._ffi = backend._ffi
        self._lib = backend._lib
        self._present = backend._present
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
            self._ffi.release(self._handle)
            self._handle = None

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        c = self.config
        keep: list[Any] = []
        query = self._tensor("q", q, (batch.n_tokens, c.n_heads, c.head_dim_qk), self._act, keep)
        new = [
            self._ffi.NULL
            if rows is None
            else self._tensor(name, rows, (len(rows), c.n_kv_heads, dim), self._act, keep)
            for name, rows, dim in (("k_new", k_new, c.head_dim_qk), ("v_new", v_new, c.head_dim_v))
        ]
        # NaN, not 0: a row that the library forgets must not look like an empty one
        out = np.full((batch.n_tokens, c.n_heads, c.head_dim_v), np.nan, self._act.numpy)
        lse = np.full((batch.n_tokens, c.n_heads, 1), UNWRITTEN).view(np.float32)
        self._call(
            "attend",
            layer,
            PHASES.index(phase),
            self._batch(batch, keep),
            query,
            *new,
            self._tensor("out", out, out.shape, self._act, keep),
            self._tensor("lse", lse, lse.shape, DTYPES["f32"], keep),
        )
        self.sync()
        return out, None if (lse.view(np.uint32) == UNWRITTEN).all() else lse[:, :, 0]

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        c = self.config
        keep: list[Any] = []
        query = self._tensor("q", q, (batch.n_tokens, c.n_heads, c.head_dim_qk), self._act, keep, writable=True)
        key = self._tensor("k", k, (batch.n_tokens, c.n_kv_heads, c.head_dim_qk), self._act, keep, writable=True)
        self._call("rope", layer, PHASES.index(phase), self._batch(batch, keep), query, key)
        self.sync()

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        c = self.config
        keep: list[Any] = []
        key = self._tensor("k", k, (batch.n_tokens, c.n_kv_heads, c.head_dim_qk), self._act, keep)
        value = self._tensor("v", v, (batch.n_tokens, c.n_kv_heads, c.head_dim_v), self._act, keep)
        self._call("kv_write", layer, self._batch(batch, keep), key, value)
        self.sync()

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        c = self.config
        if count > c.max_len:
            raise ValueError(f"count is {count}, expected 0 .. max_len {c.max_len}")
        k = np.zeros((max(count, 0), c.n_kv_heads, c.head_dim_qk), self._kv.numpy)
        v = np.zeros((max(count, 0), c.n_kv_heads, c.head_dim_v), self._kv.numpy)
        self._call("kv_read", layer, seq, start, count, self._buffer(k), self._buffer(v))
        self.sync()
        return k, v

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        c = self.config
        _check("k", k, (len(k), c.n_kv_heads, c.head_dim_qk), self._kv)
        _check("v", v, (len(k), c.n_kv_heads, c.head_dim_v), self._kv)
        self._call("kv_load", layer, seq, start, len(k), self._buffer(k), self._buffer(v))
        self.sync()

    def kv_trim(self, seq: int, length: int) -> None:
        self._call("kv_trim", seq, length)

    def counters(self) -> Mapping[tuple[str, str], int]:
        entries = self._ffi.new("greta_counter[]", MOST_COUNTERS)
        count = self._ffi.new("int32_t *")
        self._call("counters", entries, MOST_COUNTERS, count)
        calls: dict[tuple[str, str], int] = {}
        for entry in entries[0 : min(int(count[0]), MOST_COUNTERS)]:
            if not 0 <= entry.phase < len(PHASES):
                raise BackendError("GRETA_INTERNAL", f"greta_counters names phase {entry.phase}, expected 0 or 1")
            key = (PHASES[entry.phase], self._ffi.string(entry.kernel).decode(errors="replace"))
            calls[key] = calls.get(key, 0) + int(entry.calls)
        return calls

    def sync(self) -> None:
        """Waits, and raises errors that were found late. A library without ``greta_sync`` finishes within its calls."""
        if "sync" in self._present:
            self._call("sync")

    def _call(self, name: str, *args: Any) -> None:
        if self._handle is None:
            raise BackendError("GRETA_INVALID_ARGUMENT", f"{name}: the session is closed")
        if name in OPTIONAL and name not in self._present:
            raise Unsupported(name, f"{name}: {self._backend.path} does not export greta_{name}")
        self._backend.check(getattr(self._lib, f"greta_{name}")(self._handle, *args))

    def _tensor(
        self,
        name: str,
        array: Array,
        shape: tuple[int, ...],
        dtype: DType,
        keep: list[Any],
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
        keep += [tensor, array]
        return tensor

    def _buffer(self, array: Array) -> Any:
        """The array's address; the caller holds the array. (``from_buffer`` refuses bf16, so the bytes are viewed.)"""
        return self._ffi.cast("void *", array.ctypes.data)

    def _batch(self, batch: Batch, keep: list[Any]) -> Any:
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
            setattr(b, name, self._ffi.cast("int32_t *", array.ctypes.data))
            keep.append(array)
        b.max_q_len = int(np.diff(batch.cu_q).max(initial=0))
        b.max_kv_len = int(batch.kv_len.max(initial=0))
        keep.append(b)
        return b


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
