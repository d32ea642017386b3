"""The emulated HIP library's faulty twin; the shipped one has nothing of it. What a fault is that is another argument
of a call, the shipped library tells, which is called with that argument: to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from attention_cases import Array, batch, config, randn
from hip_cases import TILE, emulated

from pytest_greta.backends import native
from pytest_greta.backends.base import (
    AttentionSession,
    BackendError,
    BackendMissing,
    LayerConfig,
    Phase,
    Schedule,
    Unsupported,
)

ROWS, QUERIES, PAGE = 130, 3, 16
PAGES = -(-ROWS // PAGE)
NO_ROPE = LayerConfig(rope_style="none")
TABLE = np.random.default_rng(3).permutation(PAGES)[None]


@dataclass(frozen=True)
class Call:
    """One attention call over two layers of ``ROWS`` rows, whose bytes are loaded whatever the scales are."""

    own: LayerConfig = NO_ROPE
    layer: int = 1
    kv_len: int = ROWS
    scale: float = 0.25
    paged: bool = False
    table: Any = None
    """Of the pages in the attention call, where it is another than that of the rows."""
    splits: int = 2
    lag: int = 0
    """Tiles by which V lags."""
    newest: bool = True

    def settings(self, **changes: Any) -> Call:
        return replace(self, own=replace(self.own, **changes))


def open_with_rows(library: native.NativeBackend, call: Call) -> AttentionSession:
    rng = np.random.default_rng(5)
    c = config(
        n_layers=2, layers=(call.own, call.own), max_len=ROWS, softmax_scale=call.scale, max_seqs=1,
        page_size=PAGE * call.paged, n_pages=PAGES * call.paged, schedule={"decode": Schedule(splits=call.splits)},
    )  # fmt: skip
    session = library.open(c)
    zeros = np.zeros((ROWS, 2, 16), np.float32)
    for layer in range(2):
        k, v = (2 * randn(rng, (ROWS, 2, 16), "f32") for _ in range(2))
        if call.lag:
            rows = np.arange(ROWS)
            v = v[rows - np.minimum(call.lag, rows // TILE) * TILE]
        if not call.newest:
            k[-1], v[-1] = 0, 0
        session.kv_write(layer, batch([ROWS], [ROWS], table=TABLE if call.paged else None), zeros, zeros)
        session.kv_load(layer, 0, 0, k, v)
    return session


def attend(session: AttentionSession, call: Call, phase: Phase) -> Array:
    """out and, last, lse: [queries][heads][17]."""
    q = 2 * randn(np.random.default_rng(7), (QUERIES, 4, 16), "f32")
    table = TABLE if call.table is None else call.table
    b = batch([QUERIES], [call.kv_len], table=table if call.paged else None)
    out, lse = session.attend(call.layer, phase, b, q)
    assert lse is not None
    return np.concatenate([out, lse[..., None]], axis=2)


def result(library: native.NativeBackend, call: Call, phase: Phase) -> Array:
    with open_with_rows(library, call) as session:
        return attend(session, call, phase)


@pytest.fixture
def twin() -> Iterator[native.NativeBackend]:
    twin = emulated(faulty=True)
    yield twin
    twin.clear_fault()


PLAIN = Call()
WINDOW = PLAIN.settings(window=70)
SCALES = PLAIN.settings(k_scale=(0.2, 0.3), v_scale=(0.5, 0.7))
SINKS = PLAIN.settings(sinks=(0.5, 1.0, 1.5, 2.0), softcap=4.0, alibi=(0.1, 0.2, 0.3, 0.4))
PAGED = replace(PLAIN, paged=True)


def grown(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(np.float32(float(np.float32(x)) * (1 + 1e-3))) for x in values)


KINDS = [
    ("window", 1, WINDOW, WINDOW.settings(window=71)),
    ("window", -70, WINDOW, PLAIN),
    ("causal_align", 1, PLAIN, replace(PLAIN, kv_len=QUERIES)),
    ("page_addr", 1, PAGED, replace(PAGED, table=(TABLE + 1) % PAGES)),
    ("page_addr", -2, PAGED, replace(PAGED, table=TABLE & 3)),
    ("layer_base", -1, PLAIN, replace(PLAIN, layer=0)),
    ("score_mod", 1, SINKS, PLAIN),
    ("score_mod", 2, SINKS, SINKS.settings(sinks=(1.0, 1.5, 2.0, 0.5), softcap=8.0, alibi=(0.2, 0.3, 0.4, 0.1))),
    ("kv_scale_lse", 1, SCALES, SCALES.settings(k_scale=None)),
    ("kv_scale_lse", 2, SCALES, SCALES.settings(k_scale=SCALES.own.v_scale)),
    ("kv_scale_attn_out", 1, SCALES, SCALES.settings(v_scale=None)),
    ("kv_scale_attn_out", 2, SCALES, SCALES.settings(v_scale=SCALES.own.k_scale)),
    ("gain_lse", 1e-3, PLAIN, replace(PLAIN, scale=float(np.float32(0.25 * (1 + 1e-3))))),
    ("gain_kv_read", 1e-3, SCALES, SCALES.settings(k_scale=grown((0.2, 0.3)))),
    ("gain_attn_out", 1e-3, SCALES, SCALES.settings(v_scale=grown((0.5, 0.7)))),
    ("tile_walk", 1, PLAIN, replace(PLAIN, lag=1)),
    ("tile_walk", 1, PAGED, replace(PAGED, lag=1)),
]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(("kind", "magnitude", "right", "wrong"), KINDS)
def test_each_kind_is_the_call_with_the_wrong_argument(
    twin: native.NativeBackend, kind: str, magnitude: float, right: Call, wrong: Call, phase: Phase
) -> None:
    expected = result(emulated(), right, phase), result(emulated(), wrong, phase)
    assert expected[0].tobytes() != expected[1].tobytes()
    assert result(twin, right, phase).tobytes() == expected[0].tobytes()
    twin.set_fault(kind, layer=1, magnitude=magnitude)
    assert result(twin, right, phase).tobytes() == expected[1].tobytes()
    assert twin.fault_fired() == 1
    twin.set_fault(kind, layer=1, head=2, position=ROWS - 2, magnitude=magnitude)
    expected[0][1, 2] = expected[1][1, 2]
    assert result(twin, right, phase).tobytes() == expected[0].tobytes()


@pytest.mark.parametrize(
    ("kind", "magnitude", "call"),
    [
        ("kv_stale", 1, replace(PLAIN, layer=0)),  # of another layer than the fault's
        ("kv_scale_lse", 1, PLAIN),  # every scale is 1
        ("page_addr", 1, PLAIN),  # no pages
        ("window", 1, PLAIN),
        ("score_mod", 1, PLAIN),
        ("split_merge", 1, replace(PLAIN, splits=1)),
        ("race", 1, PLAIN),  # nothing is repeated
        ("race", 2, PLAIN),
        ("tail_nan", 1, replace(PAGED, kv_len=8 * PAGE)),
    ],
)
def test_without_its_fixture_a_kind_changes_nothing_and_says_so(
    twin: native.NativeBackend, kind: str, magnitude: float, call: Call
) -> None:
    twin.set_fault(kind, layer=1, magnitude=magnitude)
    assert result(twin, call, "decode").tobytes() == result(emulated(), call, "decode").tobytes()
    assert twin.fault_fired() == 0


def test_split_merge_is_visible_where_it_was_asked_for_and_nowhere_else(twin: native.NativeBackend) -> None:
    right = result(emulated(), PLAIN, "decode")
    twin.set_fault("split_merge", phase=1, layer=1, head=2, position=ROWS - 1)
    wrong = np.zeros((QUERIES, 4), bool)
    wrong[2, 2] = True
    assert ((np.abs(result(twin, PLAIN, "decode") - right).max(axis=2) > 1e-3) == wrong).all()
    assert twin.fault_fired() == 1
    assert result(twin, PLAIN, "prefill").tobytes() == result(emulated(), PLAIN, "prefill").tobytes()
    twin.clear_fault()
    assert result(twin, PLAIN, "decode").tobytes() == right.tobytes()


@pytest.mark.parametrize("call", [PLAIN, PAGED])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_stale_rows_are_those_before_the_last_writing(twin: native.NativeBackend, phase: Phase, call: Call) -> None:
    """Ten rows are written again; the others were written once, and are what they are."""
    rng = np.random.default_rng(9)
    table = TABLE if call.paged else None
    rows = [randn(rng, (n, 2, 16), "f32") for n in (ROWS, ROWS, 10, 10)]
    paged = {"page_size": PAGE, "n_pages": PAGES} if call.paged else {}
    results = []
    twin.set_fault("kv_stale", layer=0, magnitude=1)
    for library in (emulated(), twin):
        with library.open(config(max_len=ROWS, softmax_scale=0.25, max_seqs=1, **paged)) as session:
            session.kv_write(0, batch([ROWS], [ROWS], table=table), *rows[:2])
            results.append(attend(session, replace(call, layer=0), phase).tobytes())
            session.kv_write(0, batch([10], [30], table=table), *rows[2:])
            results.append(attend(session, replace(call, layer=0), phase).tobytes())
    first, second, nothing_stale, stale = results
    assert first == nothing_stale == stale != second
    assert twin.fault_fired() == 1


def test_a_tail_is_nan_where_it_is_added(twin: native.NativeBackend) -> None:
    """130 keys fill two tiles of 64 and two rows of a third: in it lie rows that nobody wrote."""
    c = config(max_len=200)
    rng = np.random.default_rng(5)
    nothing = np.full((200, 2, 16), np.nan, np.float32)
    twin.set_fault("tail_nan", head=1)
    with twin.open(c) as session:
        session.kv_load(0, 0, 0, nothing, nothing)
        session.kv_write(0, batch([130], [130]), *(randn(rng, (130, 2, 16), "f32") for _ in range(2)))
        q = randn(rng, (2, 4, 16), "f32")
        for phase, rows, tail in (("prefill", 130, True), ("decode", 130, True), ("decode", 128, False)):
            out, lse = session.attend(0, phase, batch([2], [rows]), q)  # type: ignore[arg-type]
            assert np.isnan(out[:, 1]).all() == tail
            assert np.isfinite(np.delete(out, 1, axis=1)).all()
            assert lse is not None
            assert np.isfinite(lse).all()
    assert twin.fault_fired() == 2


def test_a_race_shows_when_a_call_is_repeated(twin: native.NativeBackend) -> None:
    """Another order of the splits: right again, and not the same."""
    twin.set_fault("race", magnitude=1)
    with open_with_rows(twin, replace(PLAIN, splits=3)) as session:
        first, again, third = (attend(session, PLAIN, "decode") for _ in range(3))
    assert first.tobytes() == third.tobytes() != again.tobytes()
    assert np.abs(first - again).max() < 1e-5
    assert twin.fault_fired() == 1


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("call", [PLAIN, PAGED])
def test_a_race_for_the_newest_row(twin: native.NativeBackend, phase: Phase, call: Call) -> None:
    twin.set_fault("race", magnitude=2)
    with open_with_rows(twin, call) as session:
        first, again = (attend(session, call, phase) for _ in range(2))
    assert first.tobytes() == result(emulated(), call, phase).tobytes()
    assert again.tobytes() == result(emulated(), replace(call, newest=False), phase).tobytes()


@pytest.mark.parametrize(
    ("kind", "phase", "message"),
    [
        ("tile_quant", -1, "fault: kind 'tile_quant'; these kernels have tiles of 64 keys and no others"),
        ("race", 0, "fault: kind 'race' of another order in prefill"),
    ],
)
def test_a_kind_without_a_place_in_these_kernels_is_not_run(twin: native.NativeBackend, kind, phase, message) -> None:
    with pytest.raises(Unsupported, match=message):
        twin.set_fault(kind, phase=phase, magnitude=1)


def test_unknown_kinds_and_ranges_are_named(twin: native.NativeBackend) -> None:
    with pytest.raises(BackendError, match=r"kind is 'typo', expected one of kv_stale, .*split_merge"):
        twin.set_fault("typo")
    with pytest.raises(BackendError, match=r"layer is -2, expected -1"):
        twin.set_fault("window", layer=-2)


def test_the_twin_is_refused_as_a_library_and_the_shipped_one_has_no_fault(twin: native.NativeBackend) -> None:
    with pytest.raises(BackendMissing, match="is a faulty twin"):
        native.load(twin.path)
    for word in (b"greta_fault", b"split_merge", b"tile_walk"):
        assert word not in emulated().path.read_bytes()
        assert word in twin.path.read_bytes()
