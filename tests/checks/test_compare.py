"""Byte comparison of the paths, logits drift, hashes and liveness: each with a break that shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xxhash

from pytest_greta.checks.compare import compare_paths, logits_drift
from pytest_greta.checks.liveness import liveness
from pytest_greta.trace.hashing import HASH_ALGO, digest
from pytest_greta.trace.records import Key, Tap, Trace
from tests.checks.tiny_trace import STEPS, N, Tiny


def with_tap(trace: Trace, path: str, key: Key, values: np.ndarray) -> Trace:
    old = trace.paths[path]
    tap = Tap(old.taps[key].positions, values)
    return replace(trace, paths={**trace.paths, path: replace(old, taps={**old.taps, key: tap})})


def level(trace: Trace) -> Trace:
    """The decode and prefix rows replaced by the full run's: a trace of equal bytes."""
    for path in ("prefix", "decode"):
        for key, tap in trace.paths[path].taps.items():
            mine = trace.paths["full"].taps[key]
            values = np.stack([mine.row(int(p)) for p in tap.positions])
            trace = with_tap(trace, path, key, values)
    return trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return level(Tiny().trace())


def test_equal_traces_are_equal_in_every_stage(trace):
    checks = compare_paths(trace)
    assert all(c.equal for c in checks)
    stages = {(c.right, c.stage) for c in checks}
    assert {s for r, s in stages if r == "prefix"} == {"k_proj", "v_proj", "k_rope", "kv_write"}
    assert {s for r, s in stages if r == "decode"} == {k.stage for k in trace.paths["decode"].taps}
    assert {c.rows for c in checks if c.right == "decode"} == {STEPS}
    assert {c.rows for c in checks if c.right == "prefix"} == {N}
    assert all(c.left_hash == c.right_hash for c in checks)
    drift = logits_drift(trace)
    assert (drift.max_abs, drift.p99_abs, drift.top1_agrees, drift.kl) == (0, 0, True, 0)


def test_order_is_that_of_the_stages(trace):
    stages = [c.stage for c in compare_paths(trace) if c.layer == 1 and c.right == "decode" and c.part in ("", "k")]
    expected = "x_in attn_norm q_proj k_proj v_proj q_norm k_norm q_rope k_rope kv_write kv_read lse attn_out o_proj"
    assert stages[: len(expected.split())] == expected.split()
    layers = [c.layer for c in compare_paths(trace)]
    assert layers[0] == -1  # embed_out
    assert layers[-1] == -1  # logits
    assert layers[1:-2] == sorted(layers[1:-2])


def test_one_low_bit_is_found_and_hashed(trace):
    key = Key(2, "ffn_act")
    values = trace.paths["decode"].taps[key].values.copy()
    values.view(np.uint32)[1, 5] ^= 1
    (found,) = [c for c in compare_paths(with_tap(trace, "decode", key, values)) if not c.equal]
    assert (found.layer, found.stage, found.left, found.right) == (2, "ffn_act", "full", "decode")
    assert found.differs == (N + 1,)
    mine = trace.paths["full"].taps[key].row(N + 1)
    assert found.left_hash == xxhash.xxh3_64(mine.tobytes()).hexdigest()
    assert found.right_hash == xxhash.xxh3_64(values[1].tobytes()).hexdigest()
    assert found.max_abs == abs(float(mine[5]) - float(values[1, 5])) > 0


def test_a_differing_prefix_row_is_found(trace):
    key = Key(0, "kv_write", "v")
    values = trace.paths["prefix"].taps[key].values.copy()
    values[[3, 6]] += 1
    (found,) = [c for c in compare_paths(with_tap(trace, "prefix", key, values)) if not c.equal]
    assert (found.right, found.part, found.differs, found.max_abs) == (
        "prefix",
        "v",
        (3, 6),
        pytest.approx(1, abs=1e-6),
    )


def test_signed_zero_and_nan_are_compared_by_bytes(trace):
    key = Key(0, "x_in")
    base = np.zeros((STEPS, 16), np.float32)
    full = trace.paths["full"].taps[key].values.copy()
    full[-STEPS:] = 0
    zeros = with_tap(trace, "full", key, full)
    other = base.copy()
    other[0, 0] = -0.0
    (found,) = [c for c in compare_paths(with_tap(zeros, "decode", key, other)) if not c.equal]
    assert (found.differs, found.max_abs) == ((N,), 0)
    other[1, 1] = np.nan
    (found,) = [c for c in compare_paths(with_tap(zeros, "decode", key, other)) if not c.equal]
    assert (found.differs, found.max_abs) == ((N, N + 1), np.inf)


def test_other_types_are_refused(trace):
    key = Key(0, "x_in")
    half = trace.paths["decode"].taps[key].values.astype(np.float16)
    with pytest.raises(TypeError, match="cannot compare"):
        compare_paths(with_tap(trace, "decode", key, half))


def test_drift_of_the_logits(trace):
    key = Key(-1, "logits")
    full, mine = trace.paths["full"].taps[key], trace.paths["decode"].taps[key].values.copy()
    best, second = np.argsort(full.row(N + 1))[::-1][:2]
    mine[1, second] = mine[1, best] + np.float32(0.5)
    drift = logits_drift(with_tap(trace, "decode", key, mine))
    a, b = full.row(N + 1).astype(float), mine[1].astype(float)
    assert drift.max_abs == pytest.approx(np.abs(a - b).max())
    assert drift.p99_abs == pytest.approx(np.quantile(np.abs(a - b), 0.99))
    assert not drift.top1_agrees
    assert drift.margin == pytest.approx(a[best] - a[second])
    p, q = (np.exp(x) / np.exp(x).sum() for x in (a, b))
    assert drift.kl == pytest.approx((p * np.log(p / q)).sum())
    assert logits_drift(replace(trace, paths={"full": trace.paths["full"]})) is None


def test_digest_is_of_the_raw_bytes():
    assert HASH_ALGO == "xxh3_64"
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest(a) == xxhash.xxh3_64(a.tobytes()).hexdigest() == digest(a.ravel())
    assert digest(a.T) == digest(np.ascontiguousarray(a.T)) != digest(a)
    assert digest(a[1]) == digest(a[1].copy())
    assert digest(np.array(2.0)) == xxhash.xxh3_64(np.array(2.0).tobytes()).hexdigest()


# -- liveness ------------------------------------------------------------------------------------------------------


def keys(trace: Trace) -> set[str]:
    return {b.key for b in liveness(trace)}


def test_a_live_trace_has_no_breach():
    assert liveness(Tiny(act="bf16", kv="bf16").trace()) == ()


def test_a_dead_tap_is_found_and_a_dead_layer_is_left_to_the_checks():
    trace = Tiny().trace()
    for layer in range(3):
        key = Key(layer, "gate_proj")
        trace = with_tap(trace, "decode", key, np.zeros_like(trace.paths["decode"].taps[key].values))
        assert keys(trace) == ({"dead_tap"} if layer == 2 else set())


@pytest.mark.parametrize(
    ("path", "key", "other_path", "other"),
    [
        ("decode", Key(1, "o_proj"), "full", Key(1, "o_proj")),
        ("decode", Key(1, "kv_read", "k"), "decode", Key(1, "kv_write", "k")),
        ("full", Key(1, "kv_read", "v_after"), "full", Key(1, "kv_read", "v")),
        ("prefix", Key(2, "x_in"), "prefix", Key(1, "x_out")),
        ("full", Key(0, "x_in"), "full", Key(-1, "embed_out")),
    ],
)
def test_a_buffer_compared_with_itself_is_found(path, key, other_path, other):
    trace = Tiny().trace()
    mine = trace.paths[path].taps[key].values
    shared = trace.paths[other_path].taps[other].values
    view = shared[-len(mine) :] if len(mine) <= len(shared) else shared
    tap = Tap(trace.paths[path].taps[key].positions[-len(view) :], view)
    old = trace.paths[path]
    trace = replace(trace, paths={**trace.paths, path: replace(old, taps={**old.taps, key: tap})})
    breaches = [b for b in liveness(trace) if b.key == "same_buffer"]
    assert (key.stage, path, other_path) in {(b.values["stage"], b.values["path"], b.values["other"]) for b in breaches}


def test_an_empty_tap_is_found():
    trace = Tiny().trace()
    old = trace.paths["decode"]
    taps = {**old.taps, Key(1, "lse"): Tap(np.empty(0, np.int64), np.empty((0, 4), np.float32))}
    assert keys(replace(trace, paths={**trace.paths, "decode": replace(old, taps=taps)})) == {"stage_missing"}
