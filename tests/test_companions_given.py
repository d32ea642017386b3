"""What a library makes of a companion's own rows: RoPE and the cache are judged from what they were given there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.backends.registry import open_backends
from pytest_greta.engine import beside
from pytest_greta.report.markdown import final_report
from pytest_greta.report.notes import note_text
from pytest_greta.report.terminal import summary
from pytest_greta.report.ways import way_texts
from pytest_greta.settings import RunSettings
from tests.support.plain import PlainBackend

LAYER, IDS = 2, list(range(1, 14))
COMPANIONS = (9, 4)
DTYPES = ("f32", "bf16", "f16")
NO_CANARY = RunSettings(canary="off")
Wrong = Callable[[str, slice, np.ndarray, np.ndarray], None]
"""(phase, tokens of companion 0 in the call, q or k, k or v) -> spoiled in place."""


class Library:
    """The CPU library, whose RoPE or cache is wrong in layer 2, in companion 0 of the batch alone."""

    def __init__(self, rope: Wrong | None = None, write: Wrong | None = None) -> None:
        self.inner, self.rope, self.write = open_backends("cpu", extra={}, base=Path())["prefill"], rope, write

    def open(self, config: Any) -> Session:
        return Session(self.inner.open(config), self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Session:
    def __init__(self, inner: Any, library: Library) -> None:
        self.inner, self.library = inner, library

    def rope(self, layer: int, phase: str, batch: Any, q: Any, k: Any) -> None:
        self.inner.rope(layer, phase, batch, q, k)
        if self.library.rope and layer == LAYER and len(batch.seq_ids) > 1:
            self.library.rope(phase, slice(0, int(batch.cu_q[1])), q, k)

    def kv_write(self, layer: int, batch: Any, k: Any, v: Any) -> None:
        if self.library.write and layer == LAYER and len(batch.seq_ids) > 1:
            k, v = k.copy(), v.copy()
            phase = "prefill" if int(batch.slots[0]) == 0 else "decode"
            self.library.write(phase, slice(0, int(batch.cu_q[1])), k, v)
        self.inner.kv_write(layer, batch, k, v)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def probed(backend: Any, **keys: Any) -> Any:
    return greta.probe("synthetic", IDS, backend=backend, **{"batch": list(COMPANIONS), "settings": NO_CANARY, **keys})


def of_q(phase: str, own: slice, q: np.ndarray, k: np.ndarray) -> None:
    if phase == "prefill":
        q[own] = np.roll(q[own], 1, axis=-1)


def of_q_in_decode(phase: str, own: slice, q: np.ndarray, k: np.ndarray) -> None:
    if phase == "decode":
        q[own][..., 0] += q.dtype.type(0.5)


def of_one_k(phase: str, own: slice, q: np.ndarray, k: np.ndarray) -> None:
    if phase == "prefill":
        k[own][3] = -k[own][3]


def low_bit_of_k(phase: str, own: slice, k: np.ndarray, v: np.ndarray) -> None:
    if phase == "prefill":
        k[own][3].view(f"u{k.itemsize}")[0, 5] ^= 1


def another_row_s_v(phase: str, own: slice, k: np.ndarray, v: np.ndarray) -> None:
    if phase == "prefill":
        v[own][[1, 6]] = v[own][[6, 1]]


def v_in_decode(phase: str, own: slice, k: np.ndarray, v: np.ndarray) -> None:
    if phase == "decode":
        v[own] += v.dtype.type(0.25)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("wrong", "stage", "phase", "positions", "scenario"),
    [
        ({"rope": of_q}, "q_rope", "prefill", None, "KV_MISALIGNMENT"),
        ({"rope": of_q_in_decode}, "q_rope", "decode", (9,), "KV_MISALIGNMENT"),
        ({"rope": of_one_k}, "k_rope", "prefill", (3,), "KV_MISALIGNMENT"),
        ({"write": low_bit_of_k}, "kv_read", "prefill", (3,), "REAL_MISMATCH"),
        ({"write": another_row_s_v}, "kv_read", "prefill", (1, 6), "REAL_MISMATCH"),
        ({"write": v_in_decode}, "kv_read", "decode", (9,), "REAL_MISMATCH"),
    ],
)
def test_what_is_wrong_in_a_companion_alone_is_found(
    wrong: dict[str, Wrong], stage: str, phase: str, positions: tuple[int, ...] | None, scenario: str, dtype: str
) -> None:
    run = probed(Library(**wrong), dtype=dtype)
    assert (run.verdict.status, run.verdict.scenario) == ("KV_MISMATCH", scenario)
    failure = run.verdict.first_failure
    assert (failure.layer, failure.stage, failure.phase) == (LAYER, stage, phase)
    assert positions is None or failure.positions == positions
    assert note_text(failure.detail, "en").startswith("in companion 0 of the batch")
    assert note_text(failure.detail, "es").startswith("en la secuencia acompañante 0")
    if stage == "kv_read":
        assert run.verdict.indicators.kv_aligned is False


def test_rows_that_decode_no_longer_finds_are_charged_to_decode() -> None:
    """The first row of companion 0 is overwritten by its decoded one: what the prefix run read was right."""

    class Overwriting(Library):
        def open(self, config: Any) -> Session:
            return OverwritingSession(self.inner.open(config), self)

    class OverwritingSession(Session):
        def kv_write(self, layer: int, batch: Any, k: Any, v: Any) -> None:
            super().kv_write(layer, batch, k, v)
            if layer == LAYER and int(batch.slots[0]) == COMPANIONS[0]:
                self.inner.kv_load(layer, 0, 0, k[:1], v[:1])

    failure = probed(Overwriting()).verdict.first_failure
    assert (failure.layer, failure.stage, failure.phase, failure.positions) == (LAYER, "kv_read", "decode", (0,))


def test_attention_in_the_prefix_run_is_judged_over_its_own_rows() -> None:
    """They share what the full run asked alike, and no more."""

    class OnlyThere(Library):
        opened = 0

        def open(self, config: Any) -> Session:
            self.opened += 1
            self.rope = of_one_k if self.opened == 2 else None
            return super().open(config)

    run = probed(OnlyThere())
    assert {(c.path, c.stage) for c in run.result.stages if c.rho > 1.0} == {("prefix", "k_rope")}


@pytest.mark.parametrize("keys", [{}, {"kv_dtype": "fp8_e4m3"}, {"kv_dtype": "bf16"}, {"page_size": 8}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", ["synthetic", "synthetic:qwen3", "synthetic:gemma2", "synthetic:bloom"])
def test_a_healthy_library_passes(model: str, dtype: str, keys: dict[str, Any]) -> None:
    ways = {"batch": [30, 5], "left_pad": 2, "steps": 3, "q_len": 2, "chunk": 6}
    run = greta.probe(model, IDS, backend="cpu", dtype=dtype, settings=NO_CANARY, **ways, **keys)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    judged = {(c.path, c.stage, c.part) for c in run.result.stages if c.layer == LAYER}
    stages = {"q_rope", "k_rope", "kv_read", "attn_out"}
    assert {(p, s, f"seq{i}") for p in ("full", "prefix", "decode") for s in stages for i in (0, 1)} <= judged
    assert not {row["way"] for row in run.verdict.evidence.ways} & {"beside"}


@pytest.mark.parametrize("row", range(7))
def test_every_row_of_a_short_companion_is_looked_at_in_some_layer(row: int) -> None:
    """Six layers deal all rows but the last, which is looked at in each."""

    def spoil(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
        if phase == "prefill" and len(out) > 7 + 4:
            out[row] += np.float32(0.01)

    run = probed(PlainBackend(spoil), batch=[7])
    failure = run.verdict.first_failure
    assert (run.verdict.status, failure.stage, failure.positions) == ("KV_MISMATCH", "attn_out", (row,))


def test_the_rows_are_those_of_the_seed() -> None:
    def rows(seed: int) -> dict[int, tuple[int, ...]]:
        run = probed("cpu", batch=[60], seed=seed)
        taps = run.trace.paths["prefix"].beside
        return {key.layer: tuple(tap.positions) for key, tap in taps.items() if key.stage == "attn_out"}

    first = rows(1)
    assert {at[-1] for at in first.values()} == {59}
    assert len({at[0] for at in first.values()}) == len(first) == 6
    assert first == rows(1)
    assert first != rows(2)


def kept(run: Any, path: str) -> dict[int, int]:
    """By layer, the bytes of what was kept of a path beside its rows: of the cache, and what was written to it."""
    of_layer: dict[int, int] = {}
    for key, tap in run.trace.paths[path].beside.items():
        if key.stage in ("kv_read", "k_proj", "k_rope", "v_proj"):
            of_layer[key.layer] = of_layer.get(key.layer, 0) + tap.values.nbytes
    return of_layer


@pytest.mark.parametrize("keys", [{"batch": [50, 4]}, {"left_pad": 40}], ids=str)
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_what_is_too_long_to_be_kept_is_said_not_to_be_judged(
    share: float, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**more: Any) -> Any:
        return greta.probe("synthetic", IDS, backend="cpu", settings=NO_CANARY, **keys, **more)

    whole = kept(run(), "full")
    assert len(whole) == 6
    monkeypatch.setattr(beside, "MOST", int(share * sum(whole.values())))
    part = run()
    assert part.verdict.status == "PASS"
    layers = sorted(kept(part, "full"))
    assert 2 <= len(layers) <= 3 if share else not layers
    assert all(sum(kept(part, path).values()) <= beside.MOST for path in ("full", "prefix", "decode"))
    judged = {c.layer for c in part.result.stages if c.part in ("seq0", "pad") and c.stage == "attn_out"}
    assert sorted(judged) == layers
    (said,) = (row for row in part.verdict.evidence.ways if row["way"] == "beside")
    assert said == {"way": "beside", "layers": len(layers), "of": 6}
    for lang, words, note in (
        ("en", f"companions and pad rows are judged in {len(layers)} of 6 layers only", "not judged in every layer"),
        ("es", f"se juzgan solo en {len(layers)} de 6 capas", "no se juzgan en todas las capas"),
    ):
        assert words in "; ".join(way_texts(part.verdict, lang))
        assert words in final_report([part.result], suite="s", date="2026-01-01", lang=lang)
        assert note in " ".join(summary([part.result], lang=lang).split())
    assert not {row["way"] for row in run(mode="as_designed").verdict.evidence.ways} & {"beside"}


def test_of_what_is_judged_in_every_layer_nothing_is_said() -> None:
    said = " ".join(summary([probed("cpu", left_pad=3).result], lang="both").split())
    assert "companions" not in said
    assert "acompañantes" not in said
