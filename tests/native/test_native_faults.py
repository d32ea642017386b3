"""The faulty twin does wrong on request and only there; the shipped library has nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, config, randn

from pytest_greta.backends import native
from pytest_greta.backends.base import BackendError, BackendMissing, LayerConfig, Phase, Schedule


@pytest.fixture
def twin() -> Iterator[native.NativeBackend]:
    twin = native.load(faulty=True)
    yield twin
    twin.clear_fault()


def attend(
    library: native.NativeBackend, phase: Phase = "decode", layer: int = 1, splits: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    c = config(n_layers=2, schedule={p: Schedule(tile=8, splits=splits) for p in ("prefill", "decode")})
    with library.open(c) as session:
        k = 2 * randn(rng, (40, 2, 16), "f32")
        for i in range(2):
            session.kv_write(i, batch([40], [40]), k, k)
        out, lse = session.attend(layer, phase, batch([2], [40]), 2 * randn(rng, (2, 4, 16), "f32"))
    assert lse is not None
    return out, lse


def test_without_a_fault_the_twin_is_the_library(twin: native.NativeBackend) -> None:
    for phase in ("prefill", "decode"):
        for ours, theirs in zip(attend(backend(), phase), attend(twin, phase), strict=True):
            assert ours.tobytes() == theirs.tobytes()


def test_split_merge_is_visible_where_it_was_asked_for_and_nowhere_else(twin: native.NativeBackend) -> None:
    right_out, right_lse = attend(twin)
    twin.set_fault("split_merge", phase=1, layer=1, head=2, position=39)
    out, lse = attend(twin)
    wrong = np.zeros((2, 4), bool)
    wrong[1, 2] = True
    assert ((np.abs(out - right_out).max(axis=2) > 1e-3) == wrong).all()
    assert ((np.abs(lse - right_lse) > 1e-3) == wrong).all()
    assert np.isfinite(out).all()
    for elsewhere in (attend(twin, layer=0), attend(twin, phase="prefill")):
        assert np.abs(elsewhere[0] - right_out).max() < 1e-5
    twin.clear_fault()
    assert attend(twin)[0].tobytes() == right_out.tobytes()


def test_split_merge_needs_two_splits(twin: native.NativeBackend) -> None:
    right = attend(twin, splits=1)[0]
    twin.set_fault("split_merge")
    assert attend(twin, splits=1)[0].tobytes() == right.tobytes()
    assert attend(twin, splits=2)[0].tobytes() != right.tobytes()


def spoiled(
    twin: native.NativeBackend,
    kind: str,
    magnitude: float = 1,
    rows: int = 40,
    rewrite: bool = False,
    **more: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """out and lse of one decode call of 3 queries without and with the fault, and how often it changed anything."""
    c = config(n_layers=2, max_len=64, **{"schedule": {"decode": Schedule(tile=8, splits=1)}, **more})
    results = []
    for planted in (False, True):
        rng = np.random.default_rng(5)
        if planted:
            twin.set_fault(kind, layer=1, magnitude=magnitude)
        else:
            twin.clear_fault()
            twin.set_fault("race", layer=1)  # nothing is repeated
        with twin.open(c) as session:
            pages = {"table": np.array([[5, 2, 7, 0, 3, 1, 4, 6]])} if c.page_size else {}
            for i in range(2):
                if rewrite:
                    session.kv_write(i, batch([rows], [rows], **pages), *randn_kv(rng, rows, c.act_dtype))
                session.kv_write(i, batch([rows], [rows], **pages), *randn_kv(rng, rows, c.act_dtype))
            tail = batch([2], [rows + 2], **pages)
            nothing = np.full((2, 2, 16), np.nan, np.float32)
            session.kv_write(1, tail, np.zeros_like(nothing), nothing)
            q = 2 * randn(rng, (3, 4, 16), "f32")
            results += session.attend(1, "decode", batch([3], [rows], **pages), q)
    return (*results, twin.fault_fired())


def randn_kv(rng: np.random.Generator, rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    return randn(rng, (rows, 2, 16), dtype), randn(rng, (rows, 2, 16), dtype)


WINDOW, SINKS = LayerConfig(window=6), LayerConfig(sinks=(0.5, 1.0, 1.5, 2.0))
SCALES = LayerConfig(k_scale=(0.2, 0.3), v_scale=(0.5, 0.7))


@pytest.mark.parametrize(
    ("kind", "magnitude", "settings", "moves_lse"),
    [
        ("kv_stale", 1, {"rewrite": True}, True),
        ("kv_scale_lse", 1, {"layers": (SCALES, SCALES)}, True),
        ("kv_scale_attn_out", 2, {"layers": (SCALES, SCALES)}, False),
        ("layer_base", -1, {}, True),
        ("page_addr", 1, {"page_size": 8, "n_pages": 8}, True),
        ("page_addr", -2, {"page_size": 8, "n_pages": 8}, True),
        ("tile_walk", 1, {}, False),
        ("causal_align", 1, {}, True),
        ("window", 1, {"layers": (WINDOW, WINDOW)}, True),
        ("window", -6, {"layers": (WINDOW, WINDOW)}, True),
        ("score_mod", 1, {"layers": (SINKS, SINKS)}, True),
        ("score_mod", 2, {"layers": (SINKS, SINKS)}, True),
        ("tail_nan", 1, {"rows": 39}, False),
        ("gain_lse", 1e-3, {}, True),
        ("gain_kv_read", 1e-3, {}, True),
        ("gain_attn_out", 1e-3, {}, False),
    ],
)
def test_each_kind_changes_the_result(twin, kind, magnitude, settings, moves_lse) -> None:
    out, lse, wrong, wrong_lse, fired = spoiled(twin, kind, magnitude, **settings)
    assert out.tobytes() != wrong.tobytes()
    assert (lse.tobytes() != wrong_lse.tobytes()) == moves_lse
    assert fired == 1


@pytest.mark.parametrize(
    ("kind", "magnitude", "settings"),
    [
        ("kv_stale", 1, {}),  # rows written once
        ("kv_scale_lse", 1, {}),  # every scale is 1
        ("page_addr", 1, {}),  # no pages
        ("tile_walk", 1, {"schedule": {"decode": Schedule(tile=64, splits=1)}}),
        ("window", 1, {}),
        ("score_mod", 1, {}),
        ("tail_nan", 1, {}),  # 40 keys fill five tiles of 8
        ("tile_quant", 8, {"schedule": {"decode": Schedule(tile=48, splits=1)}}),
        ("race", 1, {}),
    ],
)
def test_without_its_fixture_a_kind_changes_nothing_and_says_so(twin, kind, magnitude, settings) -> None:
    out, lse, wrong, wrong_lse, fired = spoiled(twin, kind, magnitude, **settings)
    assert out.tobytes() == wrong.tobytes()
    assert lse.tobytes() == wrong_lse.tobytes()
    assert fired == 0


def test_a_tail_is_nan_where_it_is_added(twin) -> None:
    assert np.isnan(spoiled(twin, "tail_nan", rows=39)[2]).all()


def test_a_race_shows_when_a_call_is_repeated(twin) -> None:
    twin.set_fault("race", magnitude=1)
    rng = np.random.default_rng(5)
    with twin.open(config(schedule={"decode": Schedule(tile=8, splits=1)})) as session:
        session.kv_write(0, batch([40], [40]), *randn_kv(rng, 40, "f32"))
        q = 2 * randn(rng, (2, 4, 16), "f32")
        first, again, third = (session.attend(0, "decode", batch([2], [40]), q)[0] for _ in range(3))
    assert first.tobytes() != again.tobytes()
    assert first.tobytes() == third.tobytes()
    assert np.abs(first - again).max() < 1e-5
    assert twin.fault_fired() == 1


def test_a_race_for_the_newest_row(twin) -> None:
    twin.set_fault("race", magnitude=2)
    rng = np.random.default_rng(5)
    with twin.open(config()) as session:
        session.kv_write(0, batch([40], [40]), *randn_kv(rng, 40, "f32"))
        q = 2 * randn(rng, (1, 4, 16), "f32")
        first, again = (session.attend(0, "decode", batch([1], [40]), q)[0] for _ in range(2))
        session.kv_write(0, batch([1], [40]), *(np.zeros((1, 2, 16), np.float32) for _ in range(2)))
        twin.clear_fault()
        missing = session.attend(0, "decode", batch([1], [40]), q)[0]
    assert np.abs(first - again).max() > 1e-3
    assert again.tobytes() == missing.tobytes()


def test_tile_quant_rounds_on_the_other_tile(twin) -> None:
    """To the byte what the library does that is asked for that tile."""
    rounded = {"p_dtype": "bf16", "splits": 1}
    asked = spoiled(twin, "race", schedule={"decode": Schedule(tile=24, **rounded)})[0]
    planted = spoiled(twin, "tile_quant", 16, schedule={"decode": Schedule(tile=8, **rounded)})
    assert planted[2].tobytes() == asked.tobytes()
    assert planted[0].tobytes() != asked.tobytes()


def test_unknown_kinds_and_ranges_are_named(twin: native.NativeBackend) -> None:
    with pytest.raises(BackendError, match=r"kind is 'typo', expected one of kv_stale, .*split_merge"):
        twin.set_fault("typo")
    with pytest.raises(BackendError, match=r"phase is 2, expected -1 .. 1"):
        twin.set_fault("split_merge", phase=2)
    with pytest.raises(BackendError, match="layer is -2, expected -1"):
        twin.set_fault("split_merge", layer=-2)


def test_the_twin_says_what_it_is_and_is_refused_as_a_library(twin: native.NativeBackend) -> None:
    described = twin.describe()
    assert described.name == "greta-cpu-faulty"
    assert described.raw["faulty"] is True
    assert backend().describe().raw["faulty"] is False
    with pytest.raises(BackendMissing, match="is a faulty twin, which only `inject:` may load"):
        native.load(Path(described.path))


def test_the_shipped_library_has_no_fault_in_it(twin: native.NativeBackend) -> None:
    """Neither symbol nor text; that the twin has both shows that the search can find them."""
    for word in (b"greta_fault", b"split_merge", b"tile_walk", b"faults.cpp"):
        assert word not in backend().path.read_bytes()
        if word != b"faults.cpp":
            assert word in twin.path.read_bytes()
    with pytest.raises(BackendError, match="is no faulty twin"):
        backend().set_fault("split_merge")


def test_only_the_abi_is_exported(twin: native.NativeBackend) -> None:
    header = (Path(__file__).parents[2] / "native/include/greta_attn.h").read_text(encoding="utf-8")
    exported = exported_symbols(backend().path)
    assert exported == {name for name in exported if f" {name}(" in header or f"*{name}(" in header}
    assert "greta_attend" in exported
    assert exported_symbols(twin.path) == exported | {"greta_fault_set", "greta_fault_clear", "greta_fault_fired"}


def exported_symbols(path: Path) -> set[str]:
    """Defined, global dynamic symbols of a 64-bit little-endian ELF file."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    sections = [number(0x28, 8) + i * number(0x3A, 2) for i in range(number(0x3C, 2))]
    table = next(s for s in sections if number(s + 4, 4) == 11)  # SHT_DYNSYM
    strings = number(sections[number(table + 0x28, 4)] + 0x18, 8)
    start, size = number(table + 0x18, 8), number(table + 0x20, 8)
    names = set()
    for symbol in range(start, start + size, 24):
        if number(symbol + 6, 2) != 0 and data[symbol + 4] >> 4 in (1, 2):  # defined; STB_GLOBAL or STB_WEAK
            name = strings + number(symbol, 4)
            names.add(data[name : data.index(b"\0", name)].decode())
    return names
