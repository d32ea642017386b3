"""The walk over a trace: healthy traces pass, and every stage that is broken is the only one that is named."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.attention import Rows
from pytest_greta.checks.run import check_trace, examine
from pytest_greta.dtypes import F32
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.trace.records import Key, Tap, Trace
from tests.checks.tiny_trace import CHECKED, HEADS, STEPS, Break, N, Tiny

f32 = np.float32
DTYPES = [("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("f32", "bf16"), ("bf16", "f16")]


def checks_of(tiny: Tiny, trace: Trace | None = None, numerics: Numerics | None = None):
    declared = {"prefill": Numerics(), "decode": numerics or Numerics()}
    return check_trace(trace or tiny.trace(), tiny.source, tiny.stages, declared)


def flagged(checks) -> set[tuple[str, int, str]]:
    return {(c.path, c.layer, c.stage) for c in checks if c.rho > 1}


@pytest.mark.parametrize(("act", "kv"), DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_a_healthy_trace_is_within_every_bound(act, kv, seed):
    tiny = Tiny(seed, act, kv)
    result = examine(tiny.trace(), tiny.source, tiny.stages, {})
    assert not result.missing
    assert max(c.rho for c in result.checks) <= 1
    runs = {(c.path, c.layer, c.stage) for c in result.checks}
    assert runs == {(p, s.layer, s.stage) for p in ("full", "prefix", "decode") for s in tiny.stages} | {
        ("aligned", layer, stage) for layer in range(3) for stage in ("lse", "attn_out")
    }


def test_scaled_caches_are_within_their_bounds():
    tiny = Tiny(0, "f32", "fp8_e4m3fn", k_scale=(0.5, 0.3), v_scale=(1.0, 2.7))
    assert max(c.rho for c in checks_of(tiny)) <= 1
    missing = replace(tiny.source.config.layers[0], v_scale=None)
    config = replace(tiny.source.config, layers=(missing,) * 3)
    found = check_trace(tiny.trace(), replace(tiny.source, config=config), tiny.stages, {})
    assert ("full", 0, "kv_write") in flagged(found)


def test_rows_and_elements_are_those_of_the_trace():
    by = {(c.path, c.stage): c for c in checks_of(Tiny()) if c.layer == 1}
    assert by["full", "k_rope"].rows == N + STEPS  # all rows
    assert by["full", "attn_out"].rows == len(CHECKED) + STEPS
    assert by["full", "attn_out"].elements == (len(CHECKED) + STEPS) * HEADS * 8
    assert by["decode", "kv_read"].rows == N + STEPS
    assert by["decode", "kv_read"].elements == 4 * (N + STEPS) * 2 * 8
    assert by["decode", "kv_write"].rows == STEPS
    assert by["aligned", "lse"].rows == 1


STAGES = [s.stage for s in Tiny().stages if s.layer == 1]


@pytest.mark.parametrize("stage", ["embed_out", *STAGES, "final_norm", "logits"])
@pytest.mark.parametrize("path", ["full", "prefix", "decode"])
def test_every_stage_that_is_broken_is_the_only_one_named(path, stage):
    """One element of one row is off by a half: no other stage of no other path takes the blame."""
    layer = -1 if stage in ("embed_out", "final_norm", "logits") else 1
    row = {"full": 4, "prefix": 4, "decode": 0}[path]

    def spoil(p, key, values):
        if (p, key.layer, key.stage) != (path, layer, stage) or key.part not in ("", "v"):
            return values
        at = (min(row, len(values) - 1), *(1,) * (values.ndim - 1))
        values = values.copy()
        values[at] = values[at] * values.dtype.type(1.5) + values.dtype.type(0.5)
        return values

    checks = checks_of(Tiny(3, spoil=spoil))
    # the written cache row of a prefill is what the other calls then really read; only the write itself is wrong
    assert flagged(checks) == {(path, layer, stage)}
    (check,) = (c for c in checks if c.rho > 1)
    assert check.grade == "definite"
    # decode has two one-row calls, and each writes its row into the same place of the spoiler's view
    assert check.positions in (((row,),) if path != "decode" or stage == "kv_read" else ((N,), (N, N + 1)))
    assert check.heads == (
        (1,) if check.stage in ("lse", "attn_out", *(s for s in STAGES if s[:2] in ("q_", "k_", "v_", "kv"))) else ()
    )
    assert check.worst.position in check.positions


@pytest.mark.parametrize("part", ["k", "v"])
def test_one_bit_of_either_half_of_a_written_row_is_found(part):
    def spoil(path, key, values):
        if (path, key) == ("prefix", Key(1, "kv_write", part)):
            values.view(np.uint32)[3, 1, 2] ^= 1
        return values

    written = [c for c in checks_of(Tiny(spoil=spoil)) if c.rho > 1 and c.stage == "kv_write"]
    assert [(c.path, c.layer, c.positions, c.heads, c.note) for c in written] == [
        ("prefix", 1, (3,), (1,), f"part {part}")
    ]


@pytest.mark.parametrize("part", ["k", "v", "k_after", "v_after"])
def test_one_bit_of_one_byte_read_back_is_found(part):
    def spoil(path, key, values):
        if (path, key) == ("decode", Key(1, "kv_read", part)):
            values.view(np.uint32)[3, 1, 2] ^= 1
        return values

    (check,) = (c for c in checks_of(Tiny(spoil=spoil)) if c.rho > 1)
    assert (check.path, check.stage, check.rho2, check.positions, check.heads) == (
        "decode",
        "kv_read",
        np.inf,
        (3,),
        (1,),
    )
    assert part in check.note


def test_decode_attends_over_the_prefix_runs_rows_and_its_own():
    """A prefix cache that differs from the full run's: the decode path must be judged by the former."""

    def spoil(path, key, values):
        if path == "prefix" and key.stage == "kv_write" and key.layer == 1:
            values = values.copy()
            values[2] *= 3
        return values

    found = flagged(checks_of(Tiny(spoil=spoil)))
    assert found == {("prefix", 1, "kv_write")}


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Break(positions=1), {("decode", 1, "q_rope"), ("decode", 1, "k_rope")}),
        (Break(token=1), {("decode", -1, "embed_out")}),
        (Break(weight="q"), {("decode", 1, "q_proj")}),
        (Break(weight="down"), {("decode", 1, "down_proj")}),
        (Break("prefix", weight="v"), {("prefix", 1, "v_proj")}),
        (Break(length=-1), {("decode", 1, "lse"), ("decode", 1, "attn_out")}),
        (Break("full", length=-1), {("full", 1, "lse"), ("full", 1, "attn_out")}),
        (Break("aligned", scale=1.01), {("aligned", 1, "lse"), ("aligned", 1, "attn_out")}),
        (Break(heads=(0, 1, 0, 1)), {("decode", 1, "lse"), ("decode", 1, "attn_out")}),
    ],
    ids=["position", "token", "q", "down", "v", "length", "full length", "aligned scale", "heads"],
)
@pytest.mark.parametrize("act", ["f32", "bf16"])
def test_faults_are_found_where_they_are(broken, expected, act):
    assert flagged(checks_of(Tiny(1, act, act, broken=broken))) == expected


@pytest.mark.parametrize(
    ("broken", "cause", "words"),
    [
        (Break(length=-1), "kv_len", "without the last key"),
        (Break(length=1), "kv_len", ""),
        (Break("full", length=1), "kv_len", "one key after the end"),
        (Break(heads=(1, 1, 0, 0)), "kv_head", "kv head 1 in place of 0"),
        (Break(heads=(0, 0, 1, 0)), "kv_head", "kv head 0 in place of 1"),
        (Break(scale=8**0.5), "qk_scale", "softmax scale 1"),
        (Break(scale=2.0), "qk_scale", "doubled"),
        (Break(scale=8**-0.5), "qk_scale", "twice"),
        (Break(scale=1.1), "qk_scale", "times 1.1"),
        (Break(scale=0.7), "qk_scale", "times 0.7"),
        (Break("prefix", length=-1), "kv_len", "without the last key"),
    ],
)
@pytest.mark.parametrize("act", ["f32", "bf16"])
def test_provenance_names_the_cause(broken, cause, words, act):
    wrong = [c for c in checks_of(Tiny(2, act, act, broken=broken)) if c.rho > 1]
    assert {c.stage for c in wrong} == {"lse", "attn_out"}
    for check in wrong:
        assert check.cause == cause, check
        assert words in check.note


def test_a_fitted_scale_never_reads_times_1():
    """As many digits as show how far it is from 1."""
    wrong = [c for c in checks_of(Tiny(2, "f32", "f32", broken=Break(scale=1.0 + 1e-4))) if c.rho > 1]
    assert {c.stage for c in wrong} == {"lse", "attn_out"}
    for check in wrong:
        said = re.fullmatch(r"fits softmax scale times (\S+)", check.note)
        assert said, check.note
        assert float(said[1]) - 1.0 == pytest.approx(1e-4, rel=0.1)


def test_provenance_says_nothing_where_nothing_fits():
    """Noise on the output and the lse is no other reading of the cache."""

    def noise(path, key, values):
        if path in ("decode", "full") and key.layer == 1 and key.stage in ("lse", "attn_out"):
            return (values + np.random.default_rng(0).standard_normal(values.shape) * 0.05).astype(values.dtype)
        return values

    wrong = [c for c in checks_of(Tiny(2, spoil=noise)) if c.rho > 1]
    assert {(c.path, c.cause) for c in wrong} == {("decode", ""), ("full", "")}


def test_only_the_layers_asked_for_are_judged():
    tiny = Tiny(layers=(1,))
    result = examine(tiny.trace(), tiny.source, tiny.stages, {})
    assert not result.missing
    assert {c.layer for c in result.checks} == {-1, 1}
    # x_in has no x_out before it and final_norm none at all: skipped, not failed
    assert not {c.stage for c in result.checks} & {"x_in", "final_norm"}


def test_what_is_not_in_the_trace_is_reported_and_not_judged():
    tiny = Tiny()
    trace = tiny.trace()
    taps = dict(trace.paths["decode"].taps)
    del taps[Key(1, "gate_proj")]
    taps[Key(2, "up_proj")] = Tap(np.array([3]), taps[Key(2, "up_proj")].values[:1])
    paths = {**trace.paths, "decode": replace(trace.paths["decode"], taps=taps)}
    result = examine(replace(trace, paths=paths), tiny.source, tiny.stages, {})
    assert max(c.rho for c in result.checks) <= 1
    gone = {(m.path, m.layer, m.stage) for m in result.missing}
    assert gone == {("decode", 1, "gate_proj"), ("decode", 2, "up_proj"), ("decode", 2, "ffn_act")}
    judged = {(c.path, c.layer, c.stage) for c in result.checks}
    assert not judged & {("decode", 1, "gate_proj"), ("decode", 1, "ffn_act"), ("decode", 2, "up_proj")}


def test_a_shape_that_cannot_be_is_one_clear_message():
    tiny = Tiny()
    trace = tiny.trace()
    taps = dict(trace.paths["decode"].taps)
    key = Key(1, "gate_proj")
    for path in ("full", "prefix", "decode"):
        taps = dict(trace.paths[path].taps)
        taps[key] = Tap(taps[key].positions, taps[key].values[:, :-1])
        trace = replace(trace, paths={**trace.paths, path: replace(trace.paths[path], taps=taps)})
    with pytest.raises(ValueError, match=r"layer 1 gate_proj: traced rows have shape \(23,\); expected \(24,\)"):
        checks_of(tiny, trace)


def test_declared_numerics_apply_to_their_phase():
    """A decode kernel that computes in bf16 passes when it says so, and says nothing for the prefill."""

    def spoil(path, key, values):
        if path == "decode" and key.stage in ("lse", "attn_out"):
            values = (values * np.float32(1 + 2**-9)).astype(values.dtype)
        return values

    tiny = Tiny(spoil=spoil)
    assert {s for _, _, s in flagged(checks_of(tiny))} == {"lse", "attn_out"}
    assert flagged(checks_of(tiny, numerics=Numerics(acc_bits=8))) == set()
    wrong = check_trace(tiny.trace(), tiny.source, tiny.stages, {"prefill": Numerics(acc_bits=8)})
    assert {p for p, _, _ in flagged(wrong)} == {"decode"}


def test_p_values_are_given_where_the_bound_is_statistical():
    with_p = {c.stage for c in checks_of(Tiny()) if c.p_value is not None}
    norms = {"attn_norm", "q_norm", "k_norm", "ffn_norm", "final_norm"}
    matmuls = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "logits"}
    assert with_p == norms | matmuls | {"lse", "attn_out"}
    assert all(c.p_value > 1e-6 for c in checks_of(Tiny()) if c.p_value is not None)
    fp8 = checks_of(Tiny(), numerics=Numerics(p_dtype="fp8_e4m3fn"))
    assert all(c.p_value is None for c in fp8 if c.stage == "attn_out" and c.path == "decode")


def test_nan_travels_and_the_first_stage_is_named():
    """A NaN is definite where it is born; what only carries it on is an overflow, not a second culprit."""

    def spoil(path, key, values):
        if (path, key.layer, key.stage) == ("decode", 1, "up_proj"):
            values = values.copy()
            values[0, 3] = np.nan
        return values

    checks = checks_of(Tiny(act="bf16", kv="bf16", spoil=spoil))
    assert {(c.path, c.layer, c.stage) for c in checks if c.rho2 == np.inf} == {("decode", 1, "up_proj")}
    assert ("decode", 1, "ffn_act") in {(c.path, c.layer, c.stage) for c in checks if c.overflow}


def test_attention_statistics_are_those_of_the_checked_rows():
    tiny = Tiny(5)
    trace = tiny.trace()
    stats = {(s.layer, s.stage, s.path): s for s in examine(trace, tiny.source, tiny.stages, {}).stats}
    assert len(stats) == 3 * 2 * 4
    q, k = trace.tap("decode", 2, "q_rope"), trace.tap("decode", 2, "kv_read", "k")
    scores, probs = [], []
    for r, row in enumerate(q.positions):
        for h in range(HEADS):
            s = k.values[: row + 1, h // 2].astype(float) @ q.values[r, h].astype(float) / 8**0.5
            scores += list(s)
            probs += list(np.exp(s - s.max()) / np.exp(s - s.max()).sum())
    for stage, values in (("scores", scores), ("probs", probs)):
        got = stats[2, stage, "decode"]
        assert (got.min, got.max, got.mean) == pytest.approx((min(values), max(values), np.mean(values)), rel=1e-9)
        assert got.source == "derived"


def test_a_rope_check_that_has_lost_its_power_says_so():
    """Planned positions near a million: a float32 angle is off by more than a radian; a float64 table is not."""
    tiny = Tiny()
    trace = tiny.trace()
    far = {p: replace(t, rope_positions=t.rope_positions + 10**6) for p, t in trace.paths.items()}
    for angle, noted in (("f32", True), ("f64", False)):
        declared = dict.fromkeys(("prefill", "decode"), Numerics(angle=angle))
        checks = check_trace(replace(trace, paths=far), tiny.source, tiny.stages, declared)
        assert {bool(c.note) for c in checks if c.stage in ("q_rope", "k_rope")} == {noted}
    assert not any(c.note for c in checks_of(tiny))


def test_a_rope_without_rotation_is_a_copy():
    """rope_style none: q_rope must be q_norm, byte for byte."""
    tiny = Tiny()
    still = replace(tiny.source.config.layers[0], rope_style="none")
    source = replace(tiny.source, config=replace(tiny.source.config, layers=(still,) * 3))
    found = flagged(check_trace(tiny.trace(), source, decoder_stages(source.config), {}))
    assert ("full", 0, "q_rope") in found
    assert all(stage in ("q_rope", "k_rope") for _, _, stage in found)


@pytest.mark.parametrize("mistake", ["corner", "pairing", "scale", "eps"])
def test_a_wrong_reference_finds_a_healthy_run_guilty(mistake, monkeypatch):
    """The oracle is verified too: a reference with a bug of its own does not agree with what plain loops computed."""
    tiny, stage = Tiny(seed=3), {"corner": "lse", "pairing": "q_rope", "scale": "lse", "eps": "attn_norm"}[mistake]
    trace, source = tiny.trace(), tiny.source
    assert all(c.grade == "ok" for c in check_trace(trace, source, tiny.stages, {}))
    if mistake == "corner":
        monkeypatch.setattr(
            Rows, "causal", classmethod(lambda cls, slots, window=0: cls(np.zeros_like(slots), slots.copy(), slots))
        )
    else:
        layers = tuple(replace(layer, rope_style="interleaved") for layer in source.config.layers)
        changes = {
            "pairing": {"layers": layers},
            "scale": {"softmax_scale": source.config.softmax_scale * 1.01},
            "eps": {"rms_eps": 1e-2},
        }[mistake]
        source = replace(source, config=replace(source.config, **changes))
    wrong = [c for c in check_trace(trace, source, tiny.stages, {}) if c.grade == "definite"]
    assert wrong
    assert (wrong[0].layer, wrong[0].stage) == (0, stage)


def test_rope_over_many_rows_is_rope_over_each():
    """Rows are turned block by block; rotary_dim short of the head, both styles."""
    rng = np.random.default_rng(0)
    x, positions = rng.standard_normal((700, 3, 24)).astype(f32), np.arange(700)
    for style in ("half", "interleaved"):
        layer = LayerConfig(rope_base=1e4, rope_style=style, rotary_dim=16)
        whole = ref.rope(x, ref.rope_angles(positions, layer, 24, Numerics()), layer, F32, Numerics())
        for r in (0, 1, 454, 455, 699):
            angles = ref.rope_angles(positions[r : r + 1], layer, 24, Numerics())
            one = ref.rope(x[r : r + 1], angles, layer, F32, Numerics())
            assert np.array_equal(whole.y[r], one.y[0])
            assert np.array_equal(whole.b_det[r], one.b_det[0])
