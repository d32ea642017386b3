"""Bad arguments: each gets a status and one line that names the field, its value and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, config, int32

from pytest_greta.backends.base import BackendError, BackendMissing, LayerConfig, Schedule, Unsupported
from pytest_greta.dtypes import DTYPES

ROWS = np.ones((1, 2, 16), np.float32)
NO_ROPE = LayerConfig(rope_style="none")


def layer(**changes: Any) -> tuple[LayerConfig, ...]:
    return (replace(NO_ROPE, **changes),)


def schedule(**changes: Any) -> dict[str, Schedule]:
    return {"decode": Schedule(**changes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 0, "layers": ()}, "config.n_layers is 0, expected 1 or more"),
        ({"n_heads": 0}, "config.n_heads is 0, expected 1 or more"),
        ({"n_heads": 5}, "config.n_heads is 5, expected a multiple of n_kv_heads 2"),
        ({"n_kv_heads": -2}, "config.n_kv_heads is -2, expected 1 or more"),
        ({"head_dim_qk": 0}, "config.head_dim_qk is 0, expected 1 or more"),
        ({"head_dim_v": -1}, "config.head_dim_v is -1, expected 1 or more"),
        ({"max_seqs": 0}, "config.max_seqs is 0, expected 1 or more"),
        ({"max_len": 0}, "config.max_len is 0, expected 1 or more"),
        ({"page_size": -1}, "config.page_size is -1, expected 0 or more"),
        ({"page_size": 4, "n_pages": 0}, "config.n_pages is 0, expected 1 or more"),
        ({"softmax_scale": float("nan")}, "config.softmax_scale is not finite"),
        ({"threads": -1}, "config.threads is -1, expected 0 .. 1024"),
        ({"layers": layer(window=-1)}, "layers[0].window is -1, expected 0 or more"),
        ({"layers": layer(softcap=-1.0)}, "layers[0].softcap is -1, expected 0 or more"),
        ({"layers": layer(softcap=math.inf)}, "layers[0].softcap is inf, expected 0 or more"),
        ({"layers": layer(k_scale=(1.0, 0.0))}, "layers[0].k_scale[1] is 0, expected a positive number"),
        ({"layers": layer(v_scale=(math.nan, 1.0))}, "layers[0].v_scale[0] is nan, expected a positive number"),
        ({"layers": layer(v_scale=(math.inf, 1.0))}, "layers[0].v_scale[0] is inf, expected a positive number"),
        ({"layers": layer(sinks=(0.0, math.inf, 0, 0))}, "layers[0].sinks[1] is inf, expected a number, or -inf"),
        ({"layers": layer(sinks=(math.nan, 0, 0, 0))}, "layers[0].sinks[0] is nan, expected a number"),
        ({"layers": layer(alibi=(0.0, 0, 0, math.inf))}, "layers[0].alibi[3] is inf, expected a number"),
        ({"layers": layer(rope_style="half", rope_base=0.0)}, "layers[0].rope.base is 0, expected a positive number"),
        ({"layers": layer(rope_style="half", rotary_dim=7)}, "layers[0].rope.rotary_dim is 7, expected an even number"),
        ({"layers": layer(rope_style="half", rotary_dim=18)}, "rotary_dim is 18, expected an even number up to"),
        (
            {"layers": layer(rope_style="half", rotary_dim=4, rope_factors=(1.0, 0.0))},
            "layers[0].rope.factors[1] is 0, expected a positive number",
        ),
        ({"schedule": schedule(tile=-1)}, "schedule[decode].tile is -1, expected 0 or more"),
        ({"schedule": schedule(splits=-2)}, "schedule[decode].splits is -2, expected 0 or more"),
        ({"schedule": schedule(max_update="lazy:-1")}, "schedule[decode].max_threshold is -1, expected 0 or more"),
        ({"schedule": schedule(max_update="lazy:inf")}, "schedule[decode].max_threshold is inf, expected 0 or more"),
        ({"schedule": schedule(p_scale=-1.0)}, "schedule[decode].p_scale is -1, expected 0 (for 1) .. 3.40282e+38"),
        (
            {"schedule": schedule(p_scale=449.0, p_dtype="fp8_e4m3fn")},
            "schedule[decode].p_scale is 449, expected 0 (for 1) .. 448, the largest fp8_e4m3fn",
        ),
    ],
)  # fmt: skip
def test_open_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError) as caught:
        backend().open(config(**changes))
    assert caught.value.status == "GRETA_INVALID_ARGUMENT"
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "feature"),
    [
        ({"act_dtype": "fp8_e4m3fn"}, "fp8_e4m3fn"),
        ({"act_dtype": "fp8_e4m3fnuz"}, "fp8_e4m3fnuz"),
        ({"head_dim_qk": 257}, "head_dim"),
        ({"schedule": schedule(splits=65)}, "schedule"),
    ],
)
def test_what_is_not_there_is_unsupported_and_not_declared(changes: dict[str, Any], feature: str) -> None:
    with pytest.raises(Unsupported) as caught:
        backend().open(config(**changes))
    assert caught.value.feature == feature
    assert caught.value.message.startswith(f"{feature}: ")
    if feature != "schedule":
        assert feature not in backend().describe().features


def test_what_a_layer_and_a_schedule_may_ask_for_is_declared() -> None:
    """Each of these opens, and is a feature; what it does is tested in test_native_score and test_native_schedule."""
    asked: dict[str, list[dict[str, Any]]] = {
        "window": [{"layers": layer(window=4)}],
        "softcap": [{"layers": layer(softcap=30.0)}],
        "kv_scale": [{"layers": layer(k_scale=(1.0, 2.0))}, {"layers": layer(v_scale=(1.0, 2.0))}],
        "sinks": [{"layers": layer(sinks=(0.0, -math.inf, 1.0, 2.0))}],
        "alibi": [{"layers": layer(alibi=(0.5,) * 4)}],
        "direction": [{"schedule": schedule(direction="reverse")}],
        "tile_origin": [{"schedule": schedule(tile_origin="window")}],
        "max_update": [{"schedule": schedule(max_update="lazy:8")}, {"schedule": schedule(max_update="none")}],
        "p_dtype": [{"schedule": schedule(p_dtype=name)} for name in ("bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz")],
        "p_scale": [{"schedule": schedule(p_scale=256.0)}],
    }
    described = backend().describe()
    for feature, changes in asked.items():
        assert feature in described.features
        for change in changes:
            backend().open(config(**change)).close()
    for name in described.kv_dtypes:
        backend().open(config(kv_dtype=name)).close()
    assert described.kv_dtypes == described.p_dtypes == tuple(DTYPES)
    assert described.act_dtypes == ("f32", "bf16", "f16")


def test_more_queries_than_rows_a_sequence_can_hold() -> None:
    b = batch([49], [48])
    with (
        backend().open(config()) as session,
        pytest.raises(BackendError, match=r"batch.cu_q gives sequence 0 49 queries, expected up to max_len 48"),
    ):
        session.attend(0, "decode", b, np.ones((49, 4, 16), np.float32))


def test_another_device_is_no_device() -> None:
    with pytest.raises(BackendMissing, match=r"GRETA_NO_DEVICE: config\.device is 3; this library has one") as caught:
        backend().open(config(device=3))
    assert caught.value.kind == "device"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_len": [49]}, "batch.kv_len[0] is 49, expected 0 .. max_len 48"),
        ({"kv_len": [-1]}, "batch.kv_len[0] is -1, expected 0 .. max_len 48"),
        ({"kv_start": [-1]}, "batch.kv_start[0] is -1, expected 0 .. kv_len 5"),
        ({"kv_start": [6]}, "batch.kv_start[0] is 6, expected 0 .. kv_len 5"),
        ({"seq_ids": [2]}, "batch.seq_ids[0] is 2, expected 0 .. 1"),
        ({"seq_ids": [-1]}, "batch.seq_ids[0] is -1, expected 0 .. 1"),
        ({"cu_q": [1, 2]}, "batch.cu_q[0] is 1, expected 0"),
        ({"cu_q": [0, 1]}, "batch.cu_q[1] is 1, expected n_tokens 2"),
        ({"cu_q": [0, 3]}, "batch.cu_q[1] is 3 after 0, expected ascending values up to n_tokens 2"),
        ({"cu_q": [0, -1]}, "batch.cu_q[1] is -1 after 0, expected ascending values"),
    ],
)
@pytest.mark.parametrize("call", ["attend", "rope", "kv_write"])
def test_calls_refuse_a_bad_batch(call: str, changes: dict[str, list[int]], message: str) -> None:
    b = replace(batch([2], [5]), **{name: int32(values) for name, values in changes.items()})
    q, k = np.ones((2, 4, 16), np.float32), np.ones((2, 2, 16), np.float32)
    with backend().open(config()) as session:
        calls: dict[str, Callable[[], Any]] = {
            "attend": lambda: session.attend(0, "decode", b, q),
            "rope": lambda: session.rope(0, "decode", b, q, k),
            "kv_write": lambda: session.kv_write(0, b, k, k),
        }
        with pytest.raises(BackendError) as caught:
            calls[call]()
    assert caught.value.status == "GRETA_INVALID_ARGUMENT"
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.attend(1, "decode", batch([1], [1]), ROWS.repeat(2, axis=1)), "layer is 1, expected 0 .. 0"),
        (lambda s: s.kv_read(-1, 0, 0, 1), "layer is -1, expected 0 .. 0"),
        (lambda s: s.kv_read(0, 2, 0, 1), "seq is 2, expected 0 .. 1"),
        (lambda s: s.kv_read(0, 0, -1, 1), "start is -1, expected 0 .. max_len 48"),
        (lambda s: s.kv_read(0, 0, 40, 9), "count is 9 from row 40, expected 0 .. 8"),
        (lambda s: s.kv_read(0, 0, 0, -1), "count is -1"),
        (lambda s: s.kv_load(0, 0, 48, ROWS, ROWS), "count is 1 from row 48, expected 0 .. 0"),
        (lambda s: s.kv_trim(5, 0), "seq is 5, expected 0 .. 1"),
        (lambda s: s.kv_trim(0, 49), "len is 49, expected 0 .. max_len 48"),
    ],
)  # fmt: skip
def test_calls_refuse_what_is_out_of_range(call: Callable[[Any], Any], message: str) -> None:
    with backend().open(config()) as session, pytest.raises(BackendError) as caught:
        call(session)
    assert message in caught.value.message


def test_page_ids_are_checked_before_they_are_followed() -> None:
    k, q = np.ones((5, 2, 16), np.float32), np.ones((1, 4, 16), np.float32)
    with backend().open(config(max_len=8, page_size=4, n_pages=4)) as session:
        for bad in (4, -1, 2**30):
            b = batch([5], [5], table=np.array([[1, bad]]))
            with pytest.raises(BackendError, match=rf"block_table\[0\]\[1\] is page {bad}, expected 0 .. 3"):
                session.kv_write(0, b, k, k)
            with pytest.raises(BackendError, match=rf"block_table\[0\]\[1\] is page {bad}, expected 0 .. 3"):
                session.attend(0, "decode", batch([1], [5], table=np.array([[1, bad]])), q)
            session.attend(0, "decode", batch([1], [4], table=np.array([[1, bad]])), q)  # the block is not needed
        with pytest.raises(BackendError, match=r"batch\.block_table is NULL"):
            session.attend(0, "decode", batch([1], [5]), q)


def test_a_table_remembered_with_a_hole_is_refused_on_reading() -> None:
    k = np.ones((1, 2, 16), np.float32)
    with backend().open(config(max_len=8, page_size=4, n_pages=4)) as session:
        session.kv_write(0, batch([1], [1], table=np.array([[1, 99]])), k, k)
        session.kv_read(0, 0, 0, 4)
        with pytest.raises(BackendError, match="row 4 of sequence 0 lies in block 1, whose page is 99, expected 0"):
            session.kv_read(0, 0, 0, 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((1, 4, 16), np.float64), "q has dtype float64, expected float32"),
        (np.ones((1, 4, 15), np.float32), r"q has shape \(1, 4, 15\), expected \(1, 4, 16\)"),
        (np.ones((1, 16, 4), np.float32).swapaxes(1, 2), "q is not C-contiguous"),
        ([[[1.0]]], "q is a list, expected a NumPy array"),
    ],
)
def test_arrays_that_do_not_fit_never_reach_the_library(array: Any, message: str) -> None:
    with backend().open(config()) as session, pytest.raises(ValueError, match=message):
        session.attend(0, "decode", batch([1], [1]), array)


def test_batch_arrays_are_checked_too() -> None:
    q = np.ones((1, 4, 16), np.float32)
    b = batch([1], [1])
    with backend().open(config()) as session:
        with pytest.raises(ValueError, match=r"batch.kv_len has dtype int64, expected int32"):
            session.attend(0, "decode", replace(b, kv_len=b.kv_len.astype(np.int64)), q)
        with pytest.raises(ValueError, match=r"batch.cu_q has shape \(1,\), expected \(2,\)"):
            session.attend(0, "decode", replace(b, cu_q=b.cu_q[:1].copy()), q)
        q.flags.writeable = False
        with pytest.raises(ValueError, match="q is changed in place, but the array is read-only"):
            session.rope(0, "decode", b, q, np.ones((1, 2, 16), np.float32))


def test_the_words_of_a_configuration_are_checked() -> None:
    for changes, message in (
        ({"act_dtype": "float"}, "act_dtype is 'float', expected one of f32, bf16, f16"),
        ({"schedule": schedule(direction="up")}, "schedule.decode.direction is 'up', expected forward or reverse"),
        ({"schedule": schedule(max_update="lazy:x")}, "schedule.decode.max_update is 'lazy:x', expected lazy:NUMBER"),
        ({"layers": ()}, "0 layer configurations for 1 layers"),
        ({"layers": layer(sinks=(1.0,))}, r"layers\[0\].sinks has 1 values, expected 4"),
    ):
        with pytest.raises(ValueError, match=message):
            backend().open(config(**changes))  # type: ignore[arg-type]


def test_numbers_that_do_not_fit_the_abi() -> None:
    with pytest.raises(ValueError, match="a number of the configuration does not fit the ABI"):
        backend().open(config(max_len=2**40))
    with (
        backend().open(config()) as session,
        pytest.raises(ValueError, match=r"count is 49, expected 0 \.\. max_len 48"),
    ):
        session.kv_read(0, 0, 0, 49)


def test_a_closed_session_says_so() -> None:
    session = backend().open(config())
    session.close()
    session.close()
    with pytest.raises(BackendError, match="kv_trim: the session is closed"):
        session.kv_trim(0, 0)
