"""The references outside attention against plain loops at 50 digits; each op broken and found; healthy ones within."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.bounds import Reference, sum_tiers
from pytest_greta.checks.judge import Group, Place, judge, judge_bytes, merge
from pytest_greta.dtypes import BF16, DTYPES, F16, F32, FP8_E4M3FN
from tests.checks.flash import TYPES

f32, mp = np.float32, mpmath.mp
U = 2.0**-24


def rho(reference: Reference, stored: np.ndarray, statistical=False):
    (check,) = judge(
        reference,
        stored,
        [Group("full", np.arange(len(stored)))],
        Place(0, "x", stored.ndim == 3),
        statistical=statistical,
    )
    return check


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- values and bounds, to the letter ------------------------------------------------------------------------------


def test_norm_to_the_letter():
    x, w = rng_of(0).standard_normal((2, 3, 10)).astype(f32), rng_of(1).standard_normal(10).astype(f32)
    got = ref.norm(x, w, 1e-5, BF16, Numerics(norm_cast="act"))
    with mpmath.workdps(50):
        for r in range(2):
            for h in range(3):
                row = [mp.mpf(float(a)) for a in x[r, h]]
                scale = mp.sqrt(sum(a * a for a in row) / 10 + mp.mpf(1e-5))
                for i in range(10):
                    y = row[i] / scale * mp.mpf(float(w[i]))
                    assert float(y) == pytest.approx(got.y[r, h, i], rel=1e-14)
                    b1 = U * (5 * np.sqrt(10) / 2 + 6) * abs(float(y)) + 2**-8 * abs(float(y)) + 2**-140
                    b2 = U * (10 / (1 - 10 * U) / 2 + 6) * abs(float(y)) + 2**-8 * abs(float(y)) + 2**-140
                    assert got.b1[r, h, i] == pytest.approx(b1, rel=1e-12)
                    assert got.b2[r, h, i] == pytest.approx(b2, rel=1e-12)


def test_linear_to_the_letter(monkeypatch):
    monkeypatch.setattr(ref, "_BLOCK", 30)  # several blocks, the last one short
    x, w, bias = (rng_of(i).standard_normal(s).astype(f32) for i, s in enumerate([(3, 9), (7, 9), (7,)]))
    got = ref.linear(x, w, bias, Numerics())
    with mpmath.workdps(50):
        for r in range(3):
            for o in range(7):
                terms = [mp.mpf(float(a)) * mp.mpf(float(b)) for a, b in zip(x[r], w[o], strict=True)]
                y, size = sum(terms) + mp.mpf(float(bias[o])), float(sum(abs(t) for t in terms))
                assert float(y) == pytest.approx(got.y[r, o], rel=1e-13)
                assert got.b1[r, o] == pytest.approx(5 * 3 * U * size + U * abs(bias[o]), rel=2e-6)
                assert got.b2[r, o] == pytest.approx(9 * U / (1 - 9 * U) * size + U * abs(bias[o]), rel=2e-6)
                assert got.b_sqrt[r, o] >= 5 * 3 * U * size  # never narrower than the formula


def test_a_sum_that_overflows_float32_is_still_bounded():
    x, w = np.full((1, 4), 3e38, f32), np.array([[1, -1, 1, -1.0]], f32)
    got = ref.linear(x, w, None, Numerics())
    assert np.isfinite(got.b1).all()
    assert rho(got, np.array([[1e38]], f32)).grade == "definite"


@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("angle", ["f32", "f64"])
def test_rope_to_the_letter(style, angle):
    """rotary_dim 6 of 8, a factor on every pair."""
    factors = (1.0, 2.0, 4.0)
    layer = LayerConfig(rope_base=1e4, rope_style=style, rotary_dim=6, rope_factors=factors)
    x, positions = rng_of(0).standard_normal((3, 2, 8)).astype(f32), np.array([0, 5, 900])
    numerics = Numerics(angle=angle)
    got = ref.rope(x, ref.rope_angles(positions, layer, 8, numerics), layer, F32, numerics)
    u = 2.0**-53 if angle == "f64" else U
    with mpmath.workdps(50):
        for r, position in enumerate(positions):
            for i in range(3):
                a, b = (2 * i, 2 * i + 1) if style == "interleaved" else (i, i + 3)
                theta = mp.mpf(int(position)) * mp.mpf(10000) ** (mp.mpf(-2 * i) / 6) / mp.mpf(factors[i])
                c, s = mp.cos(theta), mp.sin(theta)
                for h in range(2):
                    x0, x1 = mp.mpf(float(x[r, h, a])), mp.mpf(float(x[r, h, b]))
                    turn = u * ((2 * mp.log(10000) + 4) * theta + 2) * (abs(x0) + abs(x1)) + mp.mpf(2) ** -140
                    for at, y, size in (
                        (a, x0 * c - x1 * s, abs(x0 * c) + abs(x1 * s)),
                        (b, x1 * c + x0 * s, abs(x1 * c) + abs(x0 * s)),
                    ):
                        assert float(y) == pytest.approx(got.y[r, h, at], rel=1e-10, abs=1e-12)
                        assert float(3 * U * size + turn) == pytest.approx(got.b1[r, h, at], rel=1e-6)
    assert np.array_equal(got.y[..., 6:], x[..., 6:])
    assert (got.b1[..., 6:] == 0).all()


def test_swiglu_add_and_cache_to_the_letter():
    g, up = (rng_of(i).standard_normal((2, 5)).astype(f32) * 3 for i in range(2))
    act, total = ref.swiglu(g, up, BF16, Numerics(act_round="act")), ref.add(g, up, Numerics())
    with mpmath.workdps(50):
        for i in np.ndindex(2, 5):
            a, b = mp.mpf(float(g[i])), mp.mpf(float(up[i]))
            y = a / (1 + mp.exp(-a)) * b
            assert float(y) == pytest.approx(act.y[i], rel=1e-14)
            assert act.b1[i] == pytest.approx(float((U * (2 * abs(a) + 8) + 2**-8) * abs(y)), rel=1e-12)
            assert total.y[i] == float(a + b)
            assert total.b1[i] == pytest.approx(float(U * abs(a + b)), rel=1e-12)
    row = rng_of(3).standard_normal((2, 2, 4)).astype(f32)
    got = ref.cache(row, (1.0, 0.3), Numerics())
    assert (got.b1[:, 0] == 0).all()
    assert np.array_equal(got.y[:, 0], row[:, 0])
    assert got.y[:, 1] == pytest.approx(row[:, 1].astype(float) / float(f32(0.3)), rel=1e-15)
    assert got.b1[:, 1] == pytest.approx(2 * U * np.abs(got.y[:, 1]), rel=1e-9)


def test_tiers_of_a_sum():
    plain = sum_tiers(100, Numerics())
    assert plain.first == 50 * U
    assert plain.second == pytest.approx(100 * U / (1 - 100 * U))
    coarse = sum_tiers(100, Numerics(acc_bits=10))
    assert coarse.first == 50 * 2**-10
    assert sum_tiers(2000, Numerics(acc_bits=10)).second == np.inf
    cut = sum_tiers(np.array([4, 1000]), Numerics(acc_round="rz", k_step=4))
    assert list(cut.first) == [5 * 2 * U, 500 * U]
    assert list(cut.second) == pytest.approx([8 * U / (1 - 8 * U), 2000 * U / (1 - 2000 * U)])


# -- benign float32 stays within, whatever the order ---------------------------------------------------------------


def benign_linear(x, w, order):
    if order == "blas":
        return x.astype(f32) @ w.T
    total = np.zeros((len(x), len(w)), f32)
    for i in range(x.shape[1]) if order == "serial" else reversed(range(x.shape[1])):
        total += x[:, i : i + 1].astype(f32) * w[:, i]
    return total


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_benign_stages_stay_within_their_bounds(act):
    """Ordinary float32 arithmetic, outlier channels among it: rho <= 1 for every op, on the first tier."""
    dtype, t = DTYPES[act], TYPES[act]
    top = 0.0
    for seed in range(40):
        rng = rng_of(seed)
        d, out, n = int(rng.choice([8, 64, 576])), 40, 5
        x = rng.standard_normal((n, d)) * 2.0 ** rng.integers(-6, 5)
        x[:, rng.integers(d)] *= 200
        x, w = x.astype(t), rng.standard_normal((out, d)).astype(f32)
        order = ("blas", "serial", "reverse")[seed % 3]
        checks = [rho(ref.linear(x, w, None, Numerics()), benign_linear(x, w, order).astype(t))]
        x32, gain = x.astype(f32), rng.standard_normal(d).astype(f32)
        scale = f32(1) / np.sqrt(np.mean(x32 * x32, axis=-1, keepdims=True, dtype=f32) + f32(1e-5))
        checks.append(rho(ref.norm(x, gain, 1e-5, dtype, Numerics()), (x32 * scale * gain).astype(t)))
        a, b = x, (rng.standard_normal((n, d)) * 30).astype(t)
        checks.append(rho(ref.add(a, b, Numerics()), (a.astype(f32) + b.astype(f32)).astype(t)))
        b32 = b.astype(f32)
        with np.errstate(over="ignore"):
            silu = x32 / (f32(1) + np.exp(-x32))
            checks.append(rho(ref.swiglu(a, b, dtype, Numerics()), (silu * b32).astype(t)))
        head = x[:, :8].reshape(n, 1, 8)
        layer = LayerConfig(rope_base=float(rng.choice([1e4, 1e5, 1e6])), rope_style="half")
        positions = rng.integers(0, 4000, n)
        inverse = f32(1) / f32(layer.rope_base) ** (np.arange(4, dtype=f32) * f32(2 / 8))
        angle = (positions[:, None].astype(f32) * inverse)[:, None]
        h32, c, s = head.astype(f32), np.cos(angle), np.sin(angle)
        turned = np.concatenate([h32[..., :4] * c - h32[..., 4:] * s, h32[..., 4:] * c + h32[..., :4] * s], -1)
        angles = ref.rope_angles(positions, layer, 8, Numerics())
        checks.append(rho(ref.rope(head, angles, layer, dtype, Numerics()), turned.astype(t)))
        for i, check in enumerate(checks):
            assert check.rho <= 1.0, (seed, i, check)
            top = max(top, check.rho)
    assert top > (0.1 if act == "f32" else 0.0)


def test_silu_of_a_very_negative_gate_may_be_zero():
    """exp(-gate) overflows float32 there: a healthy kernel gives 0, and nothing else passes."""
    gate, up = np.array([[-95.0, -89.0, -88.0]], f32), np.array([[1e3, 1.0, 1.0]], f32)
    got = ref.swiglu(gate, up, F32, Numerics())
    with np.errstate(over="ignore"):
        assert rho(got, gate / (f32(1) + np.exp(-gate)) * up).rho <= 1
    assert rho(got, np.array([[1e-30, 0, 0]], f32)).grade == "definite"


# -- every op broken -----------------------------------------------------------------------------------------------


def test_a_gain_in_a_projection_is_found():
    x, w = rng_of(0).standard_normal((4, 576)).astype(f32), rng_of(1).standard_normal((64, 576)).astype(f32)
    got = ref.linear(x, w, None, Numerics())
    assert rho(got, x @ w.T).rho <= 1
    assert rho(got, (x @ w.T) * f32(1 + 1e-3)).grade == "definite"
    assert rho(got, x @ (w.T * f32(1 + 1e-4))).grade == "suspect"  # at this width, by the first tier alone
    assert rho(got, x @ w[::-1].T).rho2 > 1e3
    low = (x.astype(TYPES["bf16"]).astype(f32)) @ w.T  # operands in bf16
    assert rho(got, low).grade == "definite"
    assert rho(ref.linear(x, w, None, Numerics(dot_bits=8)), low).rho <= 1


def test_a_forgotten_eps_shows_on_a_tiny_row():
    x, w = (rng_of(0).standard_normal((1, 64)) * 2e-3).astype(f32), np.ones(64, f32)
    healthy = x / np.sqrt(np.mean(x * x, dtype=f32) + f32(1e-5))
    assert rho(ref.norm(x, w, 1e-5, F32, Numerics()), healthy).rho <= 1
    assert rho(ref.norm(x, w, 1e-5, F32, Numerics()), x / np.sqrt(np.mean(x * x, dtype=f32))).rho > 1e3
    assert rho(ref.norm(x, w, 1e-6, F32, Numerics()), healthy).rho > 1e3


@pytest.mark.parametrize("mistake", ["pairing", "position", "base", "skipped", "doubled"])
def test_rope_mistakes_are_found(mistake):
    layer = LayerConfig(rope_base=1e5, rope_style="half")
    x, positions = rng_of(0).standard_normal((1, 2, 64)).astype(f32), np.array([77])

    def turned(layer, positions, x=x):
        angles = ref.rope_angles(positions, layer, 64, Numerics())
        return ref.rope(x, angles, layer, F32, Numerics()).y.astype(f32)

    healthy = ref.rope(x, ref.rope_angles(positions, layer, 64, Numerics()), layer, F32, Numerics())
    assert rho(healthy, turned(layer, positions)).rho <= 1
    wrong = {
        "pairing": turned(LayerConfig(rope_base=1e5, rope_style="interleaved"), positions),
        "position": turned(layer, positions + 1),
        "base": turned(LayerConfig(rope_base=1e4), positions),
        "skipped": x,
        "doubled": turned(layer, positions, turned(layer, positions)),
    }[mistake]
    assert rho(healthy, wrong).rho > 100


@pytest.mark.parametrize("kv", ["f32", "bf16", "f16", "fp8_e4m3fn"])
def test_every_single_bit_flip_in_the_cache_is_found(kv):
    """One low bit of one element of one row: the bound of the conversion is 0."""
    dtype = DTYPES[kv]
    row = rng_of(0).standard_normal((3, 2, 8)).astype(f32)
    stored = row.astype(dtype.numpy)
    got = ref.cache(row, None, Numerics())
    assert rho(got, stored).rho == 0
    for at in np.ndindex(row.shape):
        flipped = stored.copy()
        flipped.view(f"u{dtype.itemsize}")[at] ^= 1
        check = rho(got, flipped)
        assert check.rho == check.rho2 == np.inf
        assert (check.positions, check.heads) == ((at[0],), (at[1],))
        assert (check.worst.position, check.worst.head, check.worst.index) == at


def test_a_missing_cache_scale_is_found_and_a_scaled_row_is_within():
    row = rng_of(0).standard_normal((4, 2, 16)).astype(f32)
    scales = (0.7, 1.9)
    got = ref.cache(row, scales, Numerics())
    healthy = (row * (f32(1) / np.array(scales, f32))[:, None]).astype(TYPES["fp8_e4m3fn"])
    assert rho(got, healthy).rho <= 1
    assert rho(got, row.astype(TYPES["fp8_e4m3fn"])).grade == "definite"
    assert rho(
        ref.cache(row * 1e4, None, Numerics()), np.full(row.shape, FP8_E4M3FN.max).astype(TYPES["fp8_e4m3fn"])
    ).heads


def test_wrong_additions_and_activations_are_found():
    a, b = (rng_of(i).standard_normal((3, 20)).astype(f32) for i in range(2))
    assert rho(ref.add(a, b, Numerics()), a + b).rho <= 1
    assert rho(ref.add(a, b, Numerics()), a).rho > 1e3
    assert rho(ref.add(a, b, Numerics()), (a + b) * f32(1 + 2.0**-21)).rho > 1
    healthy = a / (f32(1) + np.exp(-a)) * b
    got = ref.swiglu(a, b, F32, Numerics())
    assert rho(got, healthy).rho <= 1
    assert rho(got, a / (f32(1) + np.exp(-f32(1.702) * a)) * b).rho > 1e3  # a GELU
    assert rho(got, b / (f32(1) + np.exp(-b)) * a).rho > 1e3  # gate and up exchanged


# -- judgement -----------------------------------------------------------------------------------------------------


def test_groups_are_judged_apart_and_the_worst_is_named():
    y = np.arange(12.0).reshape(6, 2) + 1
    stored = y.astype(f32)
    stored[4, 1] += 1
    groups = [Group("full", np.array([0, 3])), Group("prefix", np.array([0])), Group("decode", np.array([7, 8, 9]))]
    full, prefix, decode = judge(Reference(y, np.full_like(y, 0.25)), stored, groups, Place(2, "o_proj"))
    assert (full.rho, prefix.rho, full.rows, full.elements, prefix.rows) == (0, 0, 2, 4, 1)
    assert (decode.path, decode.layer, decode.stage, decode.positions) == ("decode", 2, "o_proj", (8,))
    assert decode.grade == "definite"
    assert decode.rho == pytest.approx(4, rel=1e-6)
    assert (decode.worst.position, decode.worst.head, decode.worst.index, decode.worst.stored) == (8, None, 1, 11)


def test_first_tier_alone_is_suspect():
    y = np.ones((1, 1))
    check = rho(Reference(y, y * 1e-9, y * 1e-3, y * 1e-1), np.array([[1.01]], f32))
    assert check.rho == pytest.approx(10, rel=1e-3)
    assert check.rho2 == pytest.approx(0.1, rel=1e-3)
    assert check.grade == "suspect"


def test_overflow_of_the_reference_too_is_no_mismatch():
    y = np.array([[7e4, 1.0]])
    check = rho(Reference(y, np.full_like(y, 1e-3)), np.array([[np.inf, 1.0]], np.float16))
    assert check.overflow
    assert check.grade == "ok"
    alone = rho(Reference(np.ones((1, 2)), np.full((1, 2), 1e-3)), np.array([[np.inf, 1.0]], np.float16))
    assert not alone.overflow
    assert alone.rho2 == np.inf
    near = rho(Reference(np.array([[65519.0]]), np.array([[8.0]])), np.array([[np.inf]], np.float16))
    assert near.overflow  # within its bound of the threshold
    assert near.grade == "ok"


def test_bytes_are_judged_by_bytes():
    a = np.array([[1.0, 0.0], [2.0, 3.0]], f32)
    group = [Group("decode", np.array([4, 9]))]
    (clean,) = judge_bytes(a, a.copy(), group, Place(1, "x_in"))
    assert (clean.rho, clean.elements, clean.rows) == (0, 4, 2)
    b = a.copy()
    b[0, 1] = -0.0
    (other,) = judge_bytes(a, b, group, Place(1, "x_in"))
    assert (other.rho, other.rho2, other.positions) == (np.inf, np.inf, (4,))
    both = merge([clean, other])
    assert (both.rho, both.elements, both.positions) == (np.inf, 8, (4,))


def test_p_value_is_the_formula():
    """p = min(1, 2 M exp(-1.5 (c rho')^2)) over what the deterministic terms leave."""
    y = np.zeros((1, 1000))
    stored = np.zeros((1, 1000), f32)
    stored[0, 17] = 1.7
    det, root = np.full_like(y, 0.5), np.full_like(y, 2.0)
    check = rho(Reference(y, det, root, root), stored, statistical=True)
    left = (float(f32(1.7)) - 2**-24 - 0.5) / 2.0
    assert check.p_value == pytest.approx(2000 * np.exp(-1.5 * (5 * left) ** 2), rel=1e-4)
    assert rho(Reference(y, det, root, root), np.zeros((1, 1000), f32), statistical=True).p_value == 1.0
    assert rho(Reference(y, det), stored, statistical=True).p_value is None


def test_benign_sums_do_not_reject_h0_and_a_gain_does():
    x, w = rng_of(0).standard_normal((4, 576)).astype(f32), rng_of(1).standard_normal((64, 576)).astype(f32)
    got = ref.linear(x, w, None, Numerics())
    assert rho(got, x @ w.T, statistical=True).p_value > 1e-6
    assert rho(got, x @ (w.T * f32(1 + 1e-4)), statistical=True).p_value < 1e-6


def test_an_f16_overflow_in_the_cache_is_an_overflow():
    row = np.array([[[1e5, 1.0]]], f32)
    with np.errstate(over="ignore"):
        stored = row.astype(F16.numpy)
    assert rho(ref.cache(row, None, Numerics()), stored).overflow
