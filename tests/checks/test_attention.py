"""The attention reference against mpmath and an einsum; healthy kernels stay within its bounds, faults do not."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks.attention import AttentionReference, Call, Options, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.dtypes import DTYPES
from tests.checks.flash import TYPES, Kernel, attend, inputs

f32 = np.float32


def call_of(q, k, v, act="f32", *, window=0, numerics=None, slots=None, **options) -> Call:
    slots = np.arange(len(k) - len(q), len(k)) if slots is None else np.asarray(slots)
    opts = Options(options.pop("scale", q.shape[-1] ** -0.5), **options)
    return Call(slots, q, k, v, Rows.causal(slots, window), opts, DTYPES[act], numerics or Numerics())


def run_kernel(call: Call, kernel: Kernel, act: str, head_map=None, **changes):
    """The emulation over all rows and heads -> lse float32 [R, H], out [R, H, dv] in the activation type."""
    q, k, v = (x.astype(f32) for x in (call.q, call.k, call.v))
    R, H, _ = q.shape
    group = H // k.shape[1]
    lse, out = np.empty((R, H), f32), np.empty((R, H, v.shape[-1]), f32)
    scale = changes.pop("scale", call.options.scale)
    extra = changes.pop("extra", 0)
    for r in range(R):
        a, b = int(call.rows.start[r]), int(call.rows.stop[r]) + extra
        for h in range(H):
            g = (head_map or (lambda h: h // group))(h)
            bias = None
            if call.options.alibi is not None:
                bias = f32(call.options.alibi[h]) * (np.arange(a, b) - call.rows.slot[r]).astype(f32)
            sink = None if call.options.sinks is None else call.options.sinks[h]
            out[r, h], lse[r, h] = attend(
                q[r, h], k[a:b, g], v[a:b, g], scale, kernel, cap=call.options.softcap, bias=bias, sink=sink
            )
    return lse, out.astype(TYPES[act])


def rhos(call: Call, lse, out, reference: AttentionReference | None = None) -> dict[str, tuple[float, float]]:
    both = reference or call.reference()
    groups = [Group("full", call.positions)]
    checks = judge(both.lse, lse, groups, Place(0, "lse", True)) + judge(
        both.out, out, groups, Place(0, "attn_out", True)
    )
    return {c.stage: (c.rho, c.rho2) for c in checks}


# -- the values ----------------------------------------------------------------------------------------------------


def exact(call: Call, r: int, h: int) -> tuple[mpmath.mpf, list[mpmath.mpf], dict[str, mpmath.mpf]]:
    """lse, out and both bounds by plain loops at 50 digits, from the formulas of numerics.md as they are written."""
    mp = mpmath.mp
    u, c = mpmath.mpf(2) ** -24, 5
    g = h // (call.q.shape[1] // call.k.shape[1])
    q = [mp.mpf(float(x)) for x in call.q[r, h]]
    keys = range(int(call.rows.start[r]), int(call.rows.stop[r]))
    k = [[mp.mpf(float(x)) for x in call.k[j, g]] for j in keys]
    v = [[mp.mpf(float(x)) for x in call.v[j, g]] for j in keys]
    d, n, sigma = len(q), len(k), mp.mpf(float(call.options.scale))
    s = [sigma * sum(a * b for a, b in zip(q, kj, strict=True)) for kj in k]
    A = [sigma * sum(abs(a * b) for a, b in zip(q, kj, strict=True)) for kj in k]
    m = max(s)
    total = sum(mp.exp(x - m) for x in s)
    p = [mp.exp(x - m) / total for x in s]
    lse = m + mp.log(total)
    o = [sum(pj * vj[i] for pj, vj in zip(p, v, strict=True)) for i in range(len(v[0]))]
    T = -(-n // call.numerics.tile) + call.numerics.splits if call.numerics.tile else -(-n // 16) + 8

    def root(x):
        return c * mp.sqrt(x)

    def worst(x):
        return x / (1 - x * u)

    bounds = {}
    for tier, f in (("1", root), ("2", worst)):
        ds = [u * (f(d) * A[j] + 3 * abs(s[j])) for j in range(n)]
        eps = [
            ds[j] + u * (2 * abs(s[j] - m) + (2 * max(abs(m), abs(s[j])) + 4) * (1 + f(T))) + 2 * u for j in range(n)
        ]  # + 2u: exp_rel
        bounds["lse" + tier] = sum(pj * e for pj, e in zip(p, eps, strict=True)) + f(n) * u + 2 * u * abs(lse) + 4 * u
        bounds["out" + tier] = [
            sum(p[j] * eps[j] * abs(v[j][i] - o[i]) for j in range(n))
            + 4 * u * abs(o[i])
            + f(n) * u * (sum(p[j] * abs(v[j][i]) for j in range(n)) + abs(o[i]))
            + sum(max(u * p[j], min(p[j], mp.mpf(2) ** -150 / total)) * abs(v[j][i]) for j in range(n))
            for i in range(len(o))
        ]
    return lse, o, bounds


@pytest.mark.parametrize("numerics", [Numerics(), Numerics(tile=4, splits=3)], ids=["undeclared", "declared"])
@pytest.mark.parametrize("kind", ["plain", "hot", "outlier"])
def test_values_and_bounds_to_the_letter(kind, numerics):
    rng = np.random.default_rng(11)
    call = call_of(*inputs(rng, (3, 11, 4, 2, 6), "f32", kind), numerics=numerics)
    ref = call.reference()
    with mpmath.workdps(50):
        for r in range(3):
            for h in range(4):
                lse, out, bounds = exact(call, r, h)
                assert abs(ref.lse.y[r, h] - lse) <= 1e-13 * max(1, abs(lse))
                for i, (o, b1, b2) in enumerate(zip(out, bounds["out1"], bounds["out2"], strict=True)):
                    assert abs(ref.out.y[r, h, i] - o) <= 1e-12 * max(abs(x) for x in out)
                    assert float(b1) == pytest.approx(ref.out.b1[r, h, i], rel=1e-9)
                    assert float(b2) == pytest.approx(ref.out.b2[r, h, i], rel=1e-9)
                assert float(bounds["lse1"]) == pytest.approx(ref.lse.b1[r, h], rel=1e-9)
                assert float(bounds["lse2"]) == pytest.approx(ref.lse.b2[r, h], rel=1e-9)


def test_vectorised_reference_equals_einsum():
    """Softcap, ALiBi, sink and window too; every row and head by one einsum over repeated kv heads."""
    rng = np.random.default_rng(5)
    q, k, v = inputs(rng, (9, 23, 6, 3, 16), "f32", "plain")
    sinks, alibi = rng.standard_normal(6), -rng.random(6)
    call = call_of(q, k, v, window=7, softcap=3.0, sinks=sinks, alibi=alibi)
    ref = call.reference()
    kk, vv = (np.repeat(x.astype(np.float64), 2, axis=1) for x in (k, v))
    s = np.einsum("rhd,nhd->rhn", q.astype(np.float64), kk) / 4.0
    s = 3.0 * np.tanh(s / 3.0)
    slot, key = np.arange(14, 23)[:, None], np.arange(23)[None]
    s = s + alibi[None, :, None] * (key - slot)[:, None]
    s = np.where(((key <= slot) & (key > slot - 7))[:, None], s, -np.inf)
    s = np.concatenate([s, np.broadcast_to(sinks[None, :, None], (9, 6, 1))], axis=-1)
    lse = np.log(np.exp(s).sum(-1))
    p = np.exp(s - lse[..., None])[..., :-1]
    assert np.allclose(ref.lse.y, lse, rtol=1e-13, atol=1e-13)
    assert np.allclose(ref.out.y, np.einsum("rhn,nhd->rhd", p, vv), rtol=1e-12, atol=1e-13)


def test_chunks_and_single_head_calls_give_the_same(monkeypatch):
    rng = np.random.default_rng(6)
    call = call_of(*inputs(rng, (12, 40, 4, 2, 8), "f32", "plain"))
    whole = call.reference()
    monkeypatch.setattr("pytest_greta.checks.attention._SCORES", 300)
    monkeypatch.setattr("pytest_greta.checks.attention._DEVIATIONS", 70)
    parts = call.reference()
    one = call.one(5, 3, 1).reference()
    for name in ("lse", "out"):
        a, b, c = (getattr(x, name) for x in (whole, parts, one))
        for field in ("y", "b_det", "b_sqrt", "b_sqrt2"):
            rtol = 1e-12 if field == "y" else 1e-5
            assert np.allclose(getattr(a, field), getattr(b, field), rtol=rtol)
            assert np.allclose(getattr(a, field)[5, 3], getattr(c, field)[0, 0], rtol=rtol)


def test_a_row_that_sees_nothing_is_empty():
    call = call_of(*inputs(np.random.default_rng(0), (2, 4, 2, 1, 8), "f32", "plain"))
    call = replace(call, rows=Rows(np.array([2, 0]), np.array([2, 4]), call.rows.slot))
    ref = call.reference()
    assert np.isneginf(ref.lse.y[0]).all()
    assert (ref.out.y[0] == 0).all()
    healthy = np.full((2, 2), -np.inf, f32), np.zeros((2, 2, 8), f32)
    full_lse, full_out = run_kernel(call.one(1, 0, 0), Kernel(), "f32")
    healthy[0][1], healthy[1][1] = full_lse[0, 0], full_out[0, 0]
    rho = rhos(call.one(0, 0, 0), healthy[0][:1, :1], healthy[1][:1, :1])
    assert rho == {"lse": (0, 0), "attn_out": (0, 0)}
    assert rhos(call.one(0, 0, 0), np.zeros((1, 1), f32), healthy[1][:1, :1])["lse"][1] == np.inf


# -- benign kernels ------------------------------------------------------------------------------------------------


def benign(seed: int) -> tuple[Call, Kernel, str]:
    rng = np.random.default_rng(seed)
    act = ["f32", "bf16", "f16"][seed % 3]
    kind = ["plain", "hot", "sink", "outlier", "equal", "tiny"][seed // 3 % 6]
    keys, d = int(rng.choice([1, 2, 3, 17, 63, 64, 65, 130, 300])), int(rng.choice([8, 64, 80]))
    p_dtype = "f32" if rng.random() < 0.5 else str(rng.choice(["bf16", "f16", "fp8_e4m3fn"]))
    kernel = Kernel(
        tile=int(rng.choice([8, 16, 32, 96, 128])),
        splits=int(rng.choice([1, 1, 2, 4, 7])),
        reverse=bool(rng.random() < 0.3),
        p_dtype=p_dtype,
        order=str(rng.choice(["blas", "blas", "serial", "reverse"])),
        prescale=bool(rng.random() < 0.5),
        exp2=bool(rng.random() < 0.5),
        l_after=bool(rng.random() < 0.2),
        partials=act if rng.random() < 0.15 else "f32",
    )
    declared = Numerics(
        p_dtype=p_dtype,
        l_from="after" if kernel.l_after else "before",
        split_partials="f32" if kernel.partials == "f32" else "act",
        **({"tile": kernel.tile, "splits": kernel.splits} if rng.random() < 0.5 else {}),
    )
    q, k, v = inputs(rng, (min(2, keys), keys, 2, int(rng.choice([1, 2])), d), act, kind)
    options = {}
    if rng.random() < 0.25:
        options["sinks"] = rng.standard_normal(2).astype(f32).astype(np.float64)
    if rng.random() < 0.2:
        options["softcap"] = float(rng.choice([5.0, 50.0]))
    if rng.random() < 0.2:
        options["alibi"] = -rng.random(2).astype(f32).astype(np.float64)
    window = int(rng.choice([0, 0, 1, 5, 64]))
    return call_of(q, k, v, act, window=window, numerics=declared, **options), kernel, act


def test_benign_kernels_stay_within_their_bounds():
    """240 random kernels and inputs, hot logits, sinks and outliers among them: not one above 1 on either tier."""
    worst = {"lse": 0.0, "attn_out": 0.0}
    with np.errstate(under="ignore"):
        for seed in range(240):
            call, kernel, act = benign(seed)
            rho = rhos(call, *run_kernel(call, kernel, act))
            for stage, (first, _) in rho.items():
                assert first <= 1.0, (seed, stage, first, kernel, act)
                worst[stage] = max(worst[stage], first)
    assert worst["lse"] > 0.01  # the bounds are of the size of the errors, not of the sky
    assert worst["attn_out"] > 0.05


@pytest.mark.parametrize(
    ("kernel", "honest", "hidden", "stage"),
    [
        (Kernel(p_dtype="bf16"), Numerics(p_dtype="bf16"), {"p_dtype": "f32"}, "attn_out"),
        (
            Kernel(p_dtype="bf16", l_after=True),
            Numerics(p_dtype="bf16", l_from="after"),
            {"l_from": "before"},
            "lse",
        ),
        (Kernel(splits=3, partials="bf16"), Numerics(split_partials="act"), {"split_partials": "f32"}, "attn_out"),
    ],
    ids=["p_dtype", "l_from", "split_partials"],
)
def test_an_undeclared_rounding_is_found(kernel, honest, hidden, stage):
    """The same kernel, honest and not: what is declared passes and what is hidden does not."""
    q, k, v = inputs(np.random.default_rng(1), (4, 120, 2, 1, 64), "f32", "plain")
    # partials are rounded to bf16, so the declared activation type is bf16 although the output is stored as float32
    call = call_of(q, k, v, "bf16", numerics=honest)
    lse, out = run_kernel(call, kernel, "f32")
    assert max(rhos(call, lse, out)[stage]) <= 1
    assert rhos(replace(call, numerics=replace(honest, **hidden)), lse, out)[stage][1] > 1


# -- planted mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
@pytest.mark.parametrize(
    ("mistake", "stages"),
    [
        ({"extra": -1}, ("lse", "attn_out")),
        ({"extra": 1}, ("lse", "attn_out")),
        ({"scale": 1.0}, ("lse", "attn_out")),
        ({"scale": 64**-0.5 * 2}, ("lse", "attn_out")),
        ({"head_map": lambda h: h % 2}, ("lse", "attn_out")),
        ({"head_map": lambda h: 1 - h // 2}, ("lse", "attn_out")),
    ],
    ids=["one key too few", "one key too many", "scale 1", "scale doubled", "interleaved kv heads", "swapped kv heads"],
)
def test_planted_mistakes_are_definite(act, mistake, stages):
    q, k, v = inputs(np.random.default_rng(2), (3, 70, 4, 2, 64), act, "plain")
    call = call_of(q, k, v, act, slots=[40, 55, 68])
    rho = rhos(call, *run_kernel(call, Kernel(), act, **mistake))
    for stage in stages:
        assert rho[stage][1] > 1.5, (stage, rho)


def test_a_mask_aligned_to_the_wrong_corner_is_found():
    """Three queries at the end of 20 keys that see keys 0..i in place of 0..17+i."""
    q, k, v = inputs(np.random.default_rng(3), (3, 20, 4, 2, 16), "f32", "plain")
    call = call_of(q, k, v)
    wrong = replace(call, rows=Rows.causal(np.arange(3)))
    rho = rhos(call, *run_kernel(wrong, Kernel(), "f32"))
    assert rho["lse"][1] > 1e3
    assert rho["attn_out"][1] > 1e3


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gain_of_one_part_in_a_thousand_is_found_in_f32(sign):
    call = call_of(*inputs(np.random.default_rng(4), (4, 64, 2, 2, 64), "f32", "plain"))
    lse, out = run_kernel(call, Kernel(), "f32")
    assert rhos(call, lse, out)["attn_out"][0] <= 1
    assert rhos(call, lse, (out * f32(1 + sign * 1e-3)).astype(f32))["attn_out"][1] > 1


def test_nan_out_is_infinite_and_definite():
    call = call_of(*inputs(np.random.default_rng(4), (2, 8, 2, 1, 8), "f32", "plain"))
    lse, out = run_kernel(call, Kernel(), "f32")
    out[1, 0, 3] = np.nan
    assert rhos(call, lse, out)["attn_out"] == (np.inf, np.inf)


def test_options_of_a_layer():
    layer = LayerConfig(softcap=30.0, sinks=(1.0, 2.0), alibi=None)
    options = Options.of(layer, 0.0, 64)
    assert options.scale == 0.125
    assert options.softcap == 30.0
    assert list(options.sinks) == [1.0, 2.0]
    assert options.alibi is None


def test_acc_bits_and_truncation_widen_both_tiers():
    call = call_of(*inputs(np.random.default_rng(8), (2, 64, 2, 2, 64), "f32", "plain"))
    plain = call.reference().out
    for numerics in (Numerics(acc_bits=14), Numerics(acc_round="rz")):
        wide: Reference = replace(call, numerics=numerics).reference().out
        assert (wide.b1 > plain.b1).all()
        assert (wide.b2 > plain.b2).all()
    exact_scales = {
        name: replace(call, numerics=Numerics(**{name: value})).reference().out.b1.mean() / plain.b1.mean()
        for name, value in (("dot_bits", 11), ("exp_rel", 1e-4))
    }
    assert all(ratio > 1.1 for ratio in exact_scales.values()), exact_scales
    for name in ("q_prescale", "kv_dequant"):
        wide = replace(call, act=DTYPES["bf16"], numerics=Numerics(**{name: "act"})).reference().out
        assert (wide.b1 > plain.b1).all()
