"""The faulty twin does wrong on request and only there; the shipped library has nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from attention_cases import backend, batch, config, randn

from pytest_greta.backends import native
from pytest_greta.backends.base import BackendError, BackendMissing, Phase, Schedule


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


def test_unknown_kinds_and_ranges_are_named(twin: native.NativeBackend) -> None:
    with pytest.raises(BackendError, match="kind is 'typo', expected one of split_merge"):
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
    for word in (b"greta_fault", b"split_merge", b"faults.cpp"):
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
    assert exported_symbols(twin.path) == exported | {"greta_fault_set", "greta_fault_clear"}


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
