"""What is tried: one entry a row of the table, in the order of the header.

``tried`` is a notation of the header's own names where that says it all, and otherwise words in both languages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_greta.backends.base import LayerConfig, Phase
from pytest_greta.backends.native_library import STATUS
from pytest_greta.conformance.attended import Attend
from pytest_greta.conformance.bench import DIM, HEADS, LAYERS, MAX_LEN, MAX_SEQS, PAGE_SIZE, Bench
from pytest_greta.conformance.finding import Finding
from pytest_greta.dtypes import DTYPES
from pytest_greta.texts import Text, as_text, text

Run = Callable[[Bench], str | None]
"""Raises ``Finding``; returns the status that it ended with, for the table, or None for an ordinary OK."""


@dataclass(frozen=True)
class Case:
    function: str
    id: str
    tried: Text
    run: Run
    needs: tuple[str, ...] = ()
    """Features that the library must have, or the row is not there."""
    at_start: bool = False
    """Buffers end, or with this begin, at a guard page."""


# -- what every library has --------------------------------------------------------------------------------------------


def _version(bench: Bench) -> None:
    version, ours = int(bench.call("greta_abi_version")), bench.ffi.integer_const("GRETA_ABI_VERSION")
    if version != ours:
        raise Finding("version", function="greta_abi_version", theirs=version, ours=ours)


def _describe(bench: Bench) -> None:
    first = bench.call("greta_describe")
    said = bench.ffi.string(first) if first != bench.null else b""
    assert bench.said  # raises what ``description`` has to say
    bench.call("greta_close", bench.open())
    second = bench.call("greta_describe")
    for pointer in (first, second):
        if bench.ffi.string(pointer) != said:
            raise Finding("describe_moves", function="greta_describe")
    for name in ("act_dtypes", "kv_dtypes"):
        if not getattr(bench.said, name):
            raise Finding("describe_empty", function="greta_describe", key=name)
    if bench.said.kv == "cached":
        for name in ("kv_write", "kv_read"):
            if not bench.has(name):
                raise Finding("keeps_cache", function="greta_describe", lacks=f"greta_{name}")


def _open_close(bench: Bench) -> None:
    for _ in range(20):
        bench.call("greta_close", bench.open())


def _two_sessions(bench: Bench) -> None:
    first, second = bench.open(), bench.open()
    bench.call("greta_close", first)
    bench.attended(bench.attend(second, "prefill", (5, 5, 0)))
    bench.call("greta_close", second)


def _two_caches(bench: Bench) -> None:
    """What was written to one session is there when another, still open, has been given other rows."""
    sessions = bench.open(), bench.open()
    calls = [bench.attend(session, "decode", (1, 1, 0)) for session in sessions]  # writes a row to each
    for call in calls:
        bench.attended(call)
    if not bench.has("kv_read"):
        return
    rows = [_kv_rows(bench, session, 9) for session in sessions]
    for session, written in zip(sessions, rows, strict=True):
        _same("greta_kv_read", _read(bench, session, 0, 9), written)


def _copied(bench: Bench) -> None:
    session = bench.open()
    bench.forget("config")
    bench.attended(bench.attend(session, "prefill", (5, 5, 0)))
    bench.call("greta_close", session)


def _open_feature(**changes: Any) -> Run:
    """A feature that is declared opens; one that is not is refused, and never ignored."""
    (feature,) = changes

    def run(bench: Bench) -> str | None:
        value = changes[feature]
        if feature == "kv_scale":
            layer = LayerConfig(k_scale=value[: bench.config().n_kv_heads])
        else:
            layer = LayerConfig(**changes)
        config = bench.config(layer)
        if bench.has(feature):
            bench.call("greta_close", bench.open(config))
            return None
        return bench.refuse("greta_open", config, bench.ffi.new("greta_session **"))

    return run


def _bad_open(change: Callable[[Bench, Any], None]) -> Run:
    def run(bench: Bench) -> str | None:
        config = bench.config()
        change(bench, config)
        status = bench.refuse("greta_open", config, bench.ffi.new("greta_session **"))
        bench.call("greta_close", bench.open())
        return status

    return run


def _set(name: str, value: Any) -> Run:
    return _bad_open(lambda _, config: setattr(config, name, value))


def _null_open(which: int) -> Run:
    def run(bench: Bench) -> str | None:
        arguments = [bench.config(), bench.ffi.new("greta_session **")]
        arguments[which] = bench.null
        return bench.refuse("greta_open", *arguments)

    return run


# -- greta_attend ------------------------------------------------------------------------------------------------------


def _attend(phase: Any, *sequences: tuple[int, int, int], **options: Any) -> Run:
    def run(bench: Bench) -> None:
        session = bench.open()
        bench.attended(bench.attend(session, phase, *sequences, **options))
        bench.call("greta_close", session)

    return run


def _attend_dtypes(bench: Bench) -> None:
    for name in bench.said.act_dtypes:
        act = DTYPES[name]
        session = bench.open(bench.config(act_dtype=name, kv_dtype=bench.kv_of(act).name))
        bench.attended(bench.attend(session, "prefill", (5, 5, 0), act=act))
        bench.attended(bench.attend(session, "decode", (1, 9, 0), act=act))
        bench.call("greta_close", session)


def _attend_paged(bench: Bench) -> None:
    blocks = MAX_LEN // PAGE_SIZE
    table = list(reversed(range(MAX_SEQS * blocks)))
    session = bench.open(bench.config(page_size=PAGE_SIZE, n_pages=len(table)))
    bench.attended(bench.attend(session, "prefill", (20, 20, 0), block_table=table[:blocks]))
    bench.call("greta_close", session)


def _table_of_the_call(bench: Bench) -> None:
    """Rows lie where this call's table says, whatever sequence was given those pages before, in whatever order: so a
    prefix is shared. A library that goes by the sequence alone is right as long as nobody does."""
    blocks = MAX_LEN // PAGE_SIZE
    pages = list(range(MAX_SEQS * blocks - blocks, MAX_SEQS * blocks))
    session = bench.open(bench.config(page_size=PAGE_SIZE, n_pages=MAX_SEQS * blocks))
    phases: list[Phase] = ["decode"] if bench.said.prefill_kv == "fresh" else ["prefill", "decode"]
    for phase in phases:
        written = bench.attend(session, phase, (1, MAX_LEN, 0), block_table=pages)
        for first in range(blocks):
            table = [*pages[first:], *pages[:first]]
            bench.unwritten(written.out)
            values = [written.values[0][first * PAGE_SIZE :]]
            one = bench.batch([(1, 1, 0)], table)
            bench.attended(replace(written, batch=one, sequences=[(1, 1, 0)], values=values))


def _bad_attend(change: Callable[[Bench, Attend], Any]) -> Run:
    """Refused, and the session goes on. ``change`` may return another argument list."""

    def run(bench: Bench) -> str:
        session = bench.open()
        call = bench.attend(session, "decode", (1, 9, 0))
        change(bench, call)
        status = bench.refuse("greta_attend", *bench.arguments(call))
        bench.attended(bench.attend(session, "decode", (1, 9, 0)))
        return status

    return run


def _put(name: str, value: Any) -> Run:
    return _bad_attend(lambda _, call: setattr(call, name, value))


def _in_batch(name: str, values: list[int]) -> Run:
    """One of the batch's arrays, or a number of it."""

    def change(bench: Bench, call: Attend) -> None:
        number = isinstance(getattr(call.batch, name), int)
        setattr(call.batch, name, values[0] if number else bench.ints(f"batch.{name}", values))

    return _bad_attend(change)


def _null_argument(index: int) -> Run:
    def run(bench: Bench) -> str:
        session = bench.open()
        arguments = list(bench.arguments(bench.attend(session, "decode", (1, 9, 0))))
        arguments[index] = bench.null
        return bench.refuse("greta_attend", *arguments)

    return run


def _null_rows(bench: Bench) -> str:
    session = bench.open()
    arguments = list(bench.arguments(bench.attend(session, "decode", (1, 9, 0))))
    arguments[5] = arguments[6] = bench.null
    return bench.refuse("greta_attend", *arguments)


def _q_dtype(bench: Bench, call: Attend) -> None:
    wrong = bench.ffi.new("greta_tensor *", {"data": call.q.struct.data, "dtype": 99,
                                             "token_stride": HEADS * DIM, "head_stride": DIM})  # fmt: skip
    call.q = replace(call.q, struct=bench.struct("q (greta_tensor)", wrong))


# -- capabilities ------------------------------------------------------------------------------------------------------


def _device_count(bench: Bench) -> None:
    count = bench.struct("count", bench.ffi.new("int32_t *", -1), output=True)
    bench.accept("greta_device_count", count)
    if count[0] < 0 or (bench.said.device_kind == "cpu" and count[0] < 1):
        raise Finding("devices", function="greta_device_count", count=int(count[0]))


def _last_error(bench: Bench) -> None:
    bench.refuse("greta_open", bench.null, bench.null)  # looks at the words
    if bench.last_error() is None:
        raise Finding("words", function="greta_last_error", words="")


def _rope(bench: Bench) -> None:
    """At position 0 nothing turns; at another one something does, and each pair keeps its length."""
    session = bench.open()
    heads = bench.config().n_kv_heads
    q, k = (bench.tensor(n, bench.drawn(3, h, bench.act), bench.act) for n, h in (("q", HEADS), ("k", heads)))
    before = [t.rows.astype(np.float32).copy() for t in (q, k)]
    for tensor in (q, k):
        tensor.data.output = True
    bench.accept("greta_rope", session, 0, 0, bench.batch([(3, 3, 0)]), q.struct, k.struct)
    for name, tensor, old in zip(("q", "k"), (q, k), before, strict=True):
        new = tensor.rows.astype(np.float32)
        if np.isnan(new).any():
            raise Finding("nan", function="greta_rope", array=name, count=int(np.isnan(new).sum()), token=0, head=0)
        if (new[0] != old[0]).any():
            raise Finding("rope_zero", function="greta_rope", array=name)
        if (new[1:] == old[1:]).all():
            raise Finding("rope_still", function="greta_rope", array=name)


def _kv_rows(bench: Bench, session: Any, rows: int) -> tuple[Any, Any]:
    heads, kv = bench.config().n_kv_heads, bench.kv_of(bench.act)
    keys, values = (bench.drawn(rows, heads, kv).astype(bench.act.numpy) for _ in range(2))
    bench.write(session, 1, [keys], [values], bench.act)
    return keys.astype(kv.numpy), values.astype(kv.numpy)


def _read(bench: Bench, session: Any, start: int, count: int, function: str = "greta_kv_read") -> tuple[bytes, bytes]:
    heads, kv = bench.config().n_kv_heads, bench.kv_of(bench.act)
    size = count * heads * DIM * kv.itemsize
    k, v = (bench.buffer(name, size, output=True) for name in ("k", "v"))
    bench.accept(function, session, 1, 0, start, count, k.address, v.address)
    return bytes(k.view), bytes(v.view)


def _same(function: str, read: tuple[bytes, bytes], wanted: tuple[Any, Any]) -> None:
    for name, got, rows in zip("kv", read, wanted, strict=True):
        if got != rows.tobytes():
            wrong = np.frombuffer(got, np.uint8) != np.frombuffer(rows.tobytes(), np.uint8)
            row = int(np.argwhere(wrong)[0][0]) * len(rows) // wrong.size
            raise Finding("rows", function=function, array=name, row=row)


def _write_read(bench: Bench) -> None:
    session = bench.open()
    k, v = _kv_rows(bench, session, 9)
    _same("greta_kv_write", _read(bench, session, 0, 9), (k, v))
    _same("greta_kv_read", _read(bench, session, 3, 4), (k[3:7], v[3:7]))
    _read(bench, session, 9, 0)


def _load(bench: Bench) -> None:
    session = bench.open()
    k, v = _kv_rows(bench, session, 9)
    k[4], v[4] = v[5].copy(), k[6].copy()
    held = [bench.buffer(name, x[2:6].tobytes()) for name, x in (("k", k), ("v", v))]
    bench.accept("greta_kv_load", session, 1, 0, 2, 4, held[0].address, held[1].address)
    _same("greta_kv_load", _read(bench, session, 0, 9), (k, v))


def _trim(bench: Bench) -> None:
    session = bench.open()
    k, v = _kv_rows(bench, session, 9)
    bench.accept("greta_kv_trim", session, 0, 4)
    _same("greta_kv_trim", _read(bench, session, 0, 4), (k[:4], v[:4]))


def _counters(bench: Bench) -> None:
    session = bench.open()
    for phase, call in (("prefill", (5, 5, 0)), ("decode", (1, 9, 0))):
        bench.attended(bench.attend(session, phase, call))  # type: ignore[arg-type]
    count = bench.struct("count", bench.ffi.new("int32_t *", -1), output=True)
    nothing = bench.ffi.cast("greta_counter *", bench.buffer("counters", 0).address)
    bench.accept("greta_counters", session, nothing, 0, count)
    if not 0 < count[0] <= 64:
        raise Finding("counted", function="greta_counters", count=int(count[0]))
    size = count[0] * bench.ffi.sizeof("greta_counter")
    entries = bench.ffi.cast("greta_counter *", bench.buffer("counters", size, output=True).address)
    bench.accept("greta_counters", session, entries, count[0], count)
    found = {(e.phase, bench.ffi.string(e.kernel).decode(errors="replace")): e.calls for e in entries[0 : count[0]]}
    for index, phase in enumerate(("prefill", "decode")):
        if found.get((index, bench.said.kernels[phase]), 0) < 1:
            raise Finding("kernel", function="greta_counters", kernel=bench.said.kernels[phase], phase=phase)


def _refused(function: str, *arguments: Any) -> Run:
    """A call with a session in which something is wrong. ``arguments``: values, or functions of the bench."""

    def run(bench: Bench) -> str:
        session = bench.open()
        given = [a(bench, session) if callable(a) else a for a in arguments]
        return bench.refuse(function, *given)

    return run


def _session(_: Bench, session: Any) -> Any:
    return session


def _null(bench: Bench, _: Any) -> Any:
    return bench.null


def _room(bench: Bench, _: Any) -> Any:
    size = 4 * bench.config().n_kv_heads * DIM * DTYPES[bench.said.kv_dtypes[0]].itemsize
    return bench.buffer("rows", size, output=True).address


def _some_batch(bench: Bench, _: Any) -> Any:
    return bench.batch([(3, 3, 0)])


def _bad_slots(slot: int) -> Callable[[Bench, Any], Any]:
    def made(bench: Bench, _: Any) -> Any:
        batch = bench.batch([(3, 3, 0)])
        batch.slots = bench.ints("batch.slots", [0, 1, slot])
        return batch

    return made


def _rows_for(heads: str) -> Callable[[Bench, Any], Any]:
    def made(bench: Bench, _: Any) -> Any:
        count = HEADS if heads == "q" else bench.config().n_kv_heads
        return bench.tensor(heads, bench.drawn(3, count, bench.act), bench.act).struct

    return made


def _neutral(function: str, id: str, tried: str, run: Run, *needs: str) -> Case:
    return Case(function, id, as_text(tried), run, needs)


def _worded(function: str, id: str, run: Run, *needs: str, at_start: bool = False) -> Case:
    return Case(function, id, text(f"conform.tried_{id}"), run, needs, at_start)


ALIBI = SINKS = (0.5,) * HEADS
LAYER, SEQ, KV = LAYERS, MAX_SEQS, MAX_LEN
"""One too many."""

CASES: tuple[Case, ...] = (
    _neutral("greta_abi_version", "version", "= GRETA_ABI_VERSION", _version),
    _worded("greta_describe", "describe", _describe),
    _worded("greta_open", "open_close", _open_close),
    _worded("greta_open", "two_sessions", _two_sessions),
    _worded("greta_open", "two_caches", _two_caches, "cached", "kv_write"),
    _worded("greta_open", "copied", _copied),
    _neutral("greta_open", "window", "layer.window = 4", _open_feature(window=4)),
    _neutral("greta_open", "softcap", "layer.softcap = 30", _open_feature(softcap=30.0)),
    _neutral("greta_open", "sinks", "layer.sinks", _open_feature(sinks=SINKS)),
    _neutral("greta_open", "alibi", "layer.alibi", _open_feature(alibi=ALIBI)),
    _neutral("greta_open", "kv_scale", "layer.k_scale", _open_feature(kv_scale=(2.0,) * HEADS)),
    _neutral("greta_open", "config_null", "config = NULL", _null_open(0)),
    _neutral("greta_open", "session_null", "session = NULL", _null_open(1)),
    _neutral("greta_open", "struct_size", "struct_size = 0", _set("struct_size", 0)),
    _neutral("greta_open", "abi", "abi = 2", _set("abi", 2)),
    _neutral("greta_open", "n_layers", "n_layers = 0", _set("n_layers", 0)),
    _neutral("greta_open", "n_heads", "n_heads = -1", _set("n_heads", -1)),
    _neutral("greta_open", "n_kv_heads", "n_kv_heads = 0", _set("n_kv_heads", 0)),
    _neutral("greta_open", "head_group", "n_kv_heads = 3, n_heads = 4", _set("n_kv_heads", 3)),
    _neutral("greta_open", "head_dim_qk", "head_dim_qk = 0", _set("head_dim_qk", 0)),
    _neutral("greta_open", "head_dim_v", "head_dim_v = -16", _set("head_dim_v", -DIM)),
    _neutral("greta_open", "max_seqs", "max_seqs = 0", _set("max_seqs", 0)),
    _neutral("greta_open", "max_len", "max_len = -1", _set("max_len", -1)),
    _neutral("greta_open", "act_dtype", "act_dtype = 99", _set("act_dtype", 99)),
    _neutral("greta_open", "kv_dtype", "kv_dtype = 99", _set("kv_dtype", 99)),
    _neutral("greta_open", "softmax_scale", "softmax_scale = NaN", _set("softmax_scale", float("nan"))),
    _neutral("greta_open", "memory", "memory = 99", _set("memory", 99)),
    _neutral("greta_open", "layers_null", "layers = NULL", _bad_open(lambda b, c: setattr(c, "layers", b.null))),
    _neutral("greta_attend", "prefill", "prefill, q 5, kv 5", _attend("prefill", (5, 5, 0))),
    _worded("greta_attend", "prefill_start", _attend("prefill", (5, 5, 0)), at_start=True),
    _neutral("greta_attend", "decode", "decode, q 1, kv 9", _attend("decode", (1, 9, 0))),
    _neutral("greta_attend", "one_row", "decode, q 1, kv 1", _attend("decode", (1, 1, 0))),
    _neutral("greta_attend", "full", "prefill, q = kv = max_len", _attend("prefill", (MAX_LEN, MAX_LEN, 0))),
    _neutral("greta_attend", "full_decode", "decode, kv = max_len", _attend("decode", (1, MAX_LEN, 0))),
    _worded("greta_attend", "dtypes", _attend_dtypes),
    _worded("greta_attend", "gaps", _attend("prefill", (5, 5, 0), gap=16)),
    _neutral("greta_attend", "no_lse", "lse = NULL", _attend("prefill", (5, 5, 0), with_lse=False)),
    _worded("greta_attend", "unseen", _attend("prefill", (5, 3, 0))),
    _neutral("greta_attend", "chunk", "prefill, q 3, kv 9", _attend("prefill", (3, 9, 0))),
    _neutral("greta_attend", "q_len", "decode, q 3, kv 9", _attend("decode", (3, 9, 0)), "q_len"),
    _neutral("greta_attend", "kv_start", "kv_start = 2, kv 7", _attend("prefill", (7, 7, 2)), "kv_start"),
    _neutral("greta_attend", "ragged", "prefill, kv 5 + 7", _attend("prefill", (5, 5, 0), (7, 7, 0)), "ragged"),
    _neutral("greta_attend", "ragged_decode", "decode, kv 9 + 2", _attend("decode", (1, 9, 0), (1, 2, 0)), "ragged"),
    _neutral("greta_attend", "paged", "page_size = 16", _attend_paged, "paged", "cached"),
    _worded("greta_attend", "call_table", _table_of_the_call, "paged", "cached"),
    _neutral("greta_attend", "no_session", "session = NULL", _null_argument(0)),
    _neutral("greta_attend", "no_batch", "batch = NULL", _null_argument(3)),
    _neutral("greta_attend", "no_q", "q = NULL", _null_argument(4)),
    _neutral("greta_attend", "no_out", "out = NULL", _null_argument(7)),
    _neutral("greta_attend", "null_rows", "k_new = v_new = NULL", _null_rows, "stateless"),
    _neutral("greta_attend", "layer_beyond", "layer = n_layers", _put("layer", LAYER)),
    _neutral("greta_attend", "layer_negative", "layer = -1", _put("layer", -1)),
    _neutral("greta_attend", "phase", "phase = 2", _put("phase", 2)),
    _neutral("greta_attend", "batch_size", "batch.struct_size = 0", _in_batch("struct_size", [0])),
    _neutral("greta_attend", "n_seqs", "batch.n_seqs = -1", _in_batch("n_seqs", [-1])),
    _neutral("greta_attend", "n_tokens", "batch.n_tokens = -1", _in_batch("n_tokens", [-1])),
    _worded("greta_attend", "cu_q_beyond", _in_batch("cu_q", [0, 2])),
    _worded("greta_attend", "cu_q_descends", _in_batch("cu_q", [1, 0])),
    _neutral("greta_attend", "kv_len_beyond", "batch.kv_len = max_len + 1", _in_batch("kv_len", [KV + 1])),
    _neutral("greta_attend", "kv_len_negative", "batch.kv_len = -1", _in_batch("kv_len", [-1])),
    _neutral("greta_attend", "seq_beyond", "batch.seq_ids = max_seqs", _in_batch("seq_ids", [SEQ])),
    _neutral("greta_attend", "q_dtype", "q.dtype = 99", _bad_attend(_q_dtype)),
    _worded("greta_last_error", "last_error", _last_error, "last_error"),
    _neutral("greta_device_count", "device_count", "count", _device_count, "device_count"),
    _neutral("greta_device_count", "count_null", "count = NULL", _refused("greta_device_count", _null), "device_count"),
    _worded("greta_rope", "rope", _rope, "rope"),
    _neutral("greta_rope", "rope_layer", "layer = n_layers",
             _refused("greta_rope", _session, LAYER, 0, _some_batch, _rows_for("q"), _rows_for("k")), "rope"),
    _neutral("greta_rope", "rope_q_null", "q = NULL",
             _refused("greta_rope", _session, 0, 0, _some_batch, _null, _rows_for("k")), "rope"),
    _worded("greta_kv_write", "write_read", _write_read, "kv_write", "kv_read"),
    _neutral("greta_kv_write", "slot_beyond", "batch.slots = max_len",
             _refused("greta_kv_write", _session, 0, _bad_slots(KV), _rows_for("k"), _rows_for("k")), "kv_write"),
    _neutral("greta_kv_write", "slot_negative", "batch.slots = -1",
             _refused("greta_kv_write", _session, 0, _bad_slots(-1), _rows_for("k"), _rows_for("k")), "kv_write"),
    _neutral("greta_kv_write", "write_null", "k = NULL",
             _refused("greta_kv_write", _session, 0, _some_batch, _null, _rows_for("k")), "kv_write"),
    _neutral("greta_kv_read", "read_beyond", "start + count > max_len",
             _refused("greta_kv_read", _session, 0, 0, KV - 1, 2, _room, _room), "kv_read"),
    _neutral("greta_kv_read", "read_negative", "start = -1",
             _refused("greta_kv_read", _session, 0, 0, -1, 1, _room, _room), "kv_read"),
    _neutral("greta_kv_read", "read_seq", "seq = max_seqs",
             _refused("greta_kv_read", _session, 0, SEQ, 0, 1, _room, _room), "kv_read"),
    _neutral("greta_kv_read", "read_null", "k = NULL",
             _refused("greta_kv_read", _session, 0, 0, 0, 1, _null, _room), "kv_read"),
    _worded("greta_kv_load", "load", _load, "kv_load", "kv_write", "kv_read"),
    _neutral("greta_kv_load", "load_beyond", "start + count > max_len",
             _refused("greta_kv_load", _session, 0, 0, KV - 1, 2, _room, _room), "kv_load"),
    _worded("greta_kv_trim", "trim", _trim, "kv_trim", "kv_write", "kv_read"),
    _neutral("greta_kv_trim", "trim_negative", "len = -1",
             _refused("greta_kv_trim", _session, 0, -1), "kv_trim"),
    _neutral("greta_kv_trim", "trim_seq", "seq = max_seqs",
             _refused("greta_kv_trim", _session, SEQ, 0), "kv_trim"),
    _worded("greta_counters", "counters", _counters, "counters"),
    _neutral("greta_counters", "counters_null", "count = NULL",
             _refused("greta_counters", _session, _null, 0, _null), "counters"),
    _neutral("greta_sync", "sync_null", "session = NULL", _refused("greta_sync", _null), "sync"),
)  # fmt: skip

FUNCTIONS = tuple(dict.fromkeys(case.function for case in CASES))
"""Of the ABI. ``greta_close`` has no row of its own: others call it, and it returns nothing that could be wrong."""


def find(id: str) -> Case:
    return next(case for case in CASES if case.id == id)


__all__ = ["CASES", "FUNCTIONS", "STATUS", "Case", "find"]
