"""LayerNorm, GELU and biases: values against mpmath, healthy kernels within their bounds, mistakes beyond."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.bounds import Reference
from pytest_greta.dtypes import DTYPES, F32
from tests.checks.flash import TYPES
from tests.checks.test_reference import benign_linear, rho, rng_of

f32, mp = np.float32, mpmath.mp
U = 2.0**-24


# -- to the letter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_layer_norm_to_the_letter(shift):
    d, eps = 7, 1e-5
    x, w, b = (rng_of(i).standard_normal(s).astype(f32) for i, s in enumerate(((2, d), d, d)))
    x = x + f32(shift)
    got = ref.layer_norm(x, w, b, eps, F32, Numerics())
    with mpmath.workdps(50):
        for row in range(2):
            v = [mp.mpf(float(a)) for a in x[row]]
            mean, size = sum(v) / d, sum(abs(a) for a in v) / d
            r = 1 / mp.sqrt(sum((a - mean) ** 2 for a in v) / d + eps)
            kappa = mp.sqrt(sum(a * a for a in v) / d + eps) * r
            for i, a in enumerate(v):
                gain = r * abs(mp.mpf(float(w[i])))
                part = abs(a - mean) * gain
                y = (a - mean) * r * mp.mpf(float(w[i])) + mp.mpf(float(b[i]))
                assert got.y[row, i] == pytest.approx(float(y), rel=1e-11, abs=1e-13)
                for tier, t in ((got.b1, 5 * mp.sqrt(d) * U), (got.b2, d * U / (1 - d * U))):
                    bound = gain * (t * size + 2 * U * (abs(a) + abs(mean))) + U * abs(y)
                    bound += part * (t * kappa / 2 + ((t * size + U * abs(mean)) * r) ** 2 / 2 + 8 * U)
                    assert tier[row, i] == pytest.approx(float(bound), rel=1e-9)


def test_gelu_to_the_letter():
    x = np.concatenate([rng_of(0).standard_normal(60) * 3, [0, -1e-30, 12, -12, -5.5]]).astype(f32)[None]
    by_erf, by_tanh = ref.gelu(x, "erf", Numerics()), ref.gelu(x, "tanh", Numerics())
    with mpmath.workdps(200):
        for i, value in enumerate(x[0]):
            a = mp.mpf(float(value))
            t = a / mp.sqrt(2)
            y = a / 2 * (1 + mp.erf(t))
            assert by_erf.y[0, i] == pytest.approx(float(y), rel=1e-13, abs=1e-300)
            bound = abs(a) / 2 * (2.0**-22 * abs(mp.erf(t)) + 2 * U * abs(t) * 2 / mp.sqrt(mp.pi) * mp.exp(-t * t))
            assert by_erf.b1[0, i] == pytest.approx(float(bound + 3 * U * abs(y)), rel=1e-9, abs=2e-42)
            inner = mp.sqrt(2 / mp.pi) * (a + mp.mpf("0.044715") * a**3)
            y = a / 2 * (1 + mp.tanh(inner))
            assert by_tanh.y[0, i] == pytest.approx(float(y), rel=1e-12, abs=1e-300)
            bound = abs(a) / 2 * (2.0**-23 * abs(mp.tanh(inner)) + 8 * U * abs(inner) / mp.cosh(inner) ** 2)
            assert by_tanh.b1[0, i] == pytest.approx(float(bound + (3 * U + 2.0**-23) * abs(y)), rel=1e-6, abs=2e-42)


def test_capped_logits_to_the_letter():
    """With an input that is off by all of its bound, the result stays within the capped one's; the slope is used."""
    rng = rng_of(3)
    y = np.concatenate([rng.standard_normal(40) * 20, [0, 1e-20, 300, -300]])[None]
    inner = Reference(y, 1e-3 * np.abs(y) + 1e-9, 2e-3 * np.abs(y), 5e-3 * np.abs(y))
    got, cap, plain = ref.capped(inner, 30.0, Numerics()), mp.mpf(30), Numerics()
    assert got.b2 is not None
    assert inner.b2 is not None
    with mpmath.workdps(60):
        for i, value in enumerate(y[0]):
            exact = cap * mp.tanh(mp.mpf(float(value)) / cap)
            assert got.y[0, i] == pytest.approx(float(exact), rel=1e-14, abs=1e-300)
            slope, own = 1 - (exact / cap) ** 2, (4 * U + plain.tanh_rel) * abs(exact)
            for bound, b in ((got.b1, inner.b1), (got.b2, inner.b2)):
                assert bound[0, i] >= float(slope * b[0, i] + own)
                for sign in (-1, 1):
                    off = cap * mp.tanh((mp.mpf(float(value)) + sign * b[0, i]) / cap)
                    assert abs(off - exact) <= bound[0, i]
        saturated = list(y[0]).index(300.0)
        assert got.b1[0, saturated] < inner.b1[0, saturated] / 10


# -- healthy kernels -----------------------------------------------------------------------------------------------


def mean_of(x: np.ndarray, order: str) -> np.ndarray:
    if order == "vector":
        return np.mean(x, axis=-1, keepdims=True, dtype=f32)
    total = np.zeros((*x.shape[:-1], 1), f32)
    for i in range(x.shape[-1]):
        total += x[..., i : i + 1]
    return total / f32(x.shape[-1])


def layer_norm(x, w, b, eps, order, folded=False):
    """In float32: two passes, or Welford's update."""
    x = x.astype(f32)
    if order == "welford":
        mean, m2 = np.zeros((len(x), 1), f32), np.zeros((len(x), 1), f32)
        for i in range(x.shape[-1]):
            value = x[:, i : i + 1]
            delta = value - mean
            mean = mean + delta / f32(i + 1)
            m2 = m2 + delta * (value - mean)
        variance = m2 / f32(x.shape[-1])
    else:
        mean = mean_of(x, order)
        variance = mean_of((x - mean) * (x - mean), order)
    r = f32(1) / np.sqrt(variance + f32(eps))
    part = x * r - mean * r if folded else (x - mean) * r
    return part * w + b


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_healthy_layer_norms_stay_within(act):
    """3,000 rows: outliers, means far from 0, tiny rows; serial and vector sums, Welford, a folded shift."""
    top = 0.0
    for seed in range(250):
        rng = rng_of(seed)
        d = int(rng.choice([8, 64, 256]))
        x = (
            rng.standard_normal((12, d)) * 2.0 ** rng.integers(-9, 5)
            + rng.choice([0, 0, 1, 30]) * rng.standard_normal()
        )
        x[:, rng.integers(d)] *= rng.choice([1, 200])
        x = x.astype(TYPES[act])
        w, b = rng.standard_normal(d).astype(f32), (rng.standard_normal(d) * rng.choice([0, 0.1, 3])).astype(f32)
        order = ("vector", "serial", "welford")[seed % 3]
        stored = layer_norm(x, w, b, 1e-5, order, folded=seed % 2 == 1).astype(TYPES[act])
        check = rho(ref.layer_norm(x, w, b, 1e-5, DTYPES[act], Numerics()), stored)
        assert check.rho <= 1.0, (seed, order, check)
        top = max(top, check.rho)
    assert top > (0.05 if act == "f32" else 0.0)


def gelu(x, form, fast=0.0, rng=None):
    """In float32. ``fast``: the relative error of its erf or tanh."""
    x = x.astype(f32)
    if form == "erf":
        t = x * f32(0.5**0.5)
        value = np.array([math.erf(float(a)) for a in t.ravel()]).reshape(x.shape).astype(f32)
    elif form == "sigmoid":
        a = f32((2 / np.pi) ** 0.5) * (x + f32(0.044715) * x * x * x)
        with np.errstate(over="ignore"):
            return x / (f32(1) + np.exp(f32(-2) * a))
    else:
        value = np.tanh(f32((2 / np.pi) ** 0.5) * (x + f32(0.044715) * x * x * x))
    if fast:
        value = np.clip(value * (1 + fast * rng.uniform(-0.99, 0.99, x.shape)), -1, 1).astype(f32)
    return f32(0.5) * x * (f32(1) + value)


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("form", ["erf", "tanh", "sigmoid"])
def test_healthy_gelus_stay_within(form, act):
    top = 0.0
    for seed in range(25):
        rng = rng_of(seed)
        x = (rng.standard_normal((4, 500)) * 2.0 ** rng.integers(-6, 4)).astype(TYPES[act])
        up = rng.standard_normal(x.shape).astype(TYPES[act])
        name = "erf" if form == "erf" else "tanh"
        value = gelu(x, form)
        check = rho(ref.gelu(x, name, Numerics()), value.astype(TYPES[act]))
        gated = rho(ref.geglu(x, up, name, DTYPES[act], Numerics()), (value * up.astype(f32)).astype(TYPES[act]))
        assert max(check.rho, gated.rho) <= 1.0, (seed, check, gated)
        top = max(top, check.rho)
    assert top > (0.1 if act == "f32" else 0.0)


def gelu_in_steps(x, *, rounded_constants=True, cube_at_once=False, fast=0.0, rng=None):
    """By tanh, every operation in float32 and then rounded to x's type."""
    act = x.dtype

    def kept(value):
        return value.astype(act).astype(f32)

    def constant(value):
        return kept(f32(value)) if rounded_constants else f32(value)

    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(f32)
        cube = kept(x * x * x) if cube_at_once else kept(kept(x * x) * x)
        a = kept(constant((2 / np.pi) ** 0.5) * kept(x + kept(constant(0.044715) * cube)))
        value = np.tanh(a)
        if fast:
            value = np.clip(value * (1 + fast * rng.uniform(-0.99, 0.99, x.shape)), -1, 1).astype(f32)
        return (kept(f32(0.5) * x) * kept(f32(1) + kept(value))).astype(act)


def every_value(act):
    """All finite values of a type of 16 bits: [1, 63488] or so."""
    values = np.arange(1 << 16, dtype=np.uint16).view(TYPES[act])
    return values[np.isfinite(values.astype(f32))][None]


@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_every_gelu_in_steps_stays_within(act):
    x, declared, fast = every_value(act), Numerics(act_round="act"), 2.0**-11
    tops = []
    for rounded in (True, False):
        for at_once in (True, False):
            stored = gelu_in_steps(x, rounded_constants=rounded, cube_at_once=at_once)
            assert rho(ref.gelu(x, "tanh", declared), stored).rho > 10  # without the term of the steps
            tops.append(rho(ref.gelu_in_steps(x, DTYPES[act], declared), stored).rho)
    stored = gelu_in_steps(x, fast=fast, rng=rng_of(0))
    tops.append(rho(ref.gelu_in_steps(x, DTYPES[act], Numerics(tanh_rel=fast)), stored).rho)
    assert max(tops) <= 1.0
    assert min(tops) > 0.3  # not wider than it must be


@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_gelu_in_steps_to_the_letter(act):
    chosen = rng_of(0).standard_normal(60) * 3
    x = np.concatenate([chosen, [0, 1e-5, -3e-7, 12, -12, -5.5, 60, -60]]).astype(TYPES[act])[None]
    got = ref.gelu_in_steps(x, DTYPES[act], Numerics())
    u, s = {"bf16": (2.0**-8, 2.0**-133), "f16": (2.0**-11, 2.0**-24)}[act]
    with mpmath.workdps(200):
        for i, value in enumerate(x[0]):
            v = mp.mpf(float(value))
            a = mp.sqrt(2 / mp.pi) * (v + mp.mpf("0.044715") * v**3)
            t, e = mp.tanh(a), (1 + mp.mpf(u)) ** 8 - 1
            y = v / 2 * (1 + t)
            assert got.y[0, i] == pytest.approx(float(y), rel=1e-12, abs=1e-300)
            moved = e * abs(a) / mp.cosh((1 - e) * abs(a)) ** 2 + s
            of_tanh = moved + (u + mp.mpf(2) ** -23) * (abs(t) + moved) + s / 2
            of_sum = of_tanh + u * (1 + t + of_tanh)
            bound = abs(v) / 2 * of_sum + s / 2 * (1 + t + of_sum) + 3 * U * (abs(y) + abs(v) / 2 * of_sum)
            assert got.b1[0, i] == pytest.approx(float(bound), rel=1e-6, abs=2e-42)


@pytest.mark.parametrize(("form", "name"), [("erf", "erf_rel"), ("tanh", "tanh_rel")])
def test_a_fast_function_passes_where_it_is_declared(form, name):
    rng = rng_of(0)
    x = (rng.standard_normal((20, 500)) * 2).astype(f32)
    stored = gelu(x, form, 2.0**-11, rng)
    assert rho(ref.gelu(x, form, Numerics()), stored).rho > 10
    assert rho(ref.gelu(x, form, Numerics(**{name: 2.0**-11})), stored).rho <= 1


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_healthy_biases_stay_within(act):
    for seed in range(60):
        rng = rng_of(seed)
        n = int(rng.choice([1, 8, 64, 256]))
        x, w = rng.standard_normal((6, n)).astype(TYPES[act]), rng.standard_normal((30, n)).astype(f32)
        bias = (rng.standard_normal(30) * 10.0 ** rng.integers(-3, 4)).astype(f32)
        y = (benign_linear(x, w, ("blas", "serial", "reverse")[seed % 3]) + bias).astype(TYPES[act])
        assert rho(ref.linear(x, w, bias, Numerics()), y).rho <= 1.0, seed


# -- planted mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["f32", "bf16", "f16"])
def test_wrong_layer_norms_are_found(act):
    x, w, b = (rng_of(i).standard_normal(s).astype(f32) for i, s in enumerate(((4, 256), 256, 256)))
    x = (x + f32(0.5)).astype(TYPES[act])
    got = ref.layer_norm(x, w, b, 1e-5, DTYPES[act], Numerics())

    def wrong(value):
        return rho(got, np.asarray(value, f32).astype(TYPES[act]))

    assert wrong(layer_norm(x, w, b, 1e-5, "vector")).rho <= 1
    x32 = x.astype(f32)
    assert wrong(x32 / np.sqrt(np.mean(x32 * x32, -1, keepdims=True) + f32(1e-5)) * w + b).rho2 > 10  # an RMS norm
    assert wrong(layer_norm(x, w, 0 * b, 1e-5, "vector")).rho2 > 10
    unbiased = layer_norm(x, w, 0 * b, 1e-5, "vector") * f32((255 / 256) ** 0.5) + b  # Bessel's correction
    assert wrong(unbiased).rho2 > (10 if act != "bf16" else 1)
    if act == "f32":
        assert wrong((layer_norm(x, w, b, 1e-5, "vector")) * f32(1 + 3e-5)).grade != "ok"
    tiny = (x32 * f32(2e-3)).astype(TYPES[act])
    of_tiny = ref.layer_norm(tiny, w, b, 1e-5, DTYPES[act], Numerics())
    assert rho(of_tiny, layer_norm(tiny, w, b, 1e-5, "vector").astype(TYPES[act])).rho <= 1
    assert rho(of_tiny, layer_norm(tiny, w, b, 1e-6, "vector").astype(TYPES[act])).rho2 > 10


def test_one_pass_variances_are_beyond_the_bound_where_they_cancel():
    """mean(x^2) - mean(x)^2 is healthy around 0 and loses everything where the mean is far larger than the spread."""
    x = (rng_of(0).standard_normal((4, 256)) + 300).astype(f32)
    w, b = np.ones(256, f32), np.zeros(256, f32)
    mean = np.mean(x, -1, keepdims=True, dtype=f32)
    once = (x - mean) / np.sqrt(np.mean(x * x, -1, keepdims=True, dtype=f32) - mean * mean + f32(1e-5))
    assert rho(ref.layer_norm(x, w, b, 1e-5, F32, Numerics()), once).rho > 1
    assert rho(ref.layer_norm(x, w, b, 1e-5, F32, Numerics()), layer_norm(x, w, b, 1e-5, "welford")).rho <= 1


def test_wrong_gelus_are_found():
    x = (rng_of(0).standard_normal((4, 400)) * 2).astype(f32)
    by_erf, by_tanh = ref.gelu(x, "erf", Numerics()), ref.gelu(x, "tanh", Numerics())
    assert rho(by_erf, gelu(x, "tanh")).rho > 100  # the other form
    assert rho(by_tanh, gelu(x, "erf")).rho > 100
    assert rho(by_tanh, x / (f32(1) + np.exp(f32(-1.702) * x))).rho > 100  # the quick one
    assert rho(by_tanh, x / (f32(1) + np.exp(-x))).rho > 100  # SiLU
    for reference, form in ((by_erf, "erf"), (by_tanh, "tanh")):
        assert rho(reference, gelu(x, form) * f32(1 + 1e-6)).rho > 1
        low = gelu(x.astype(TYPES["bf16"]), form)
        assert rho(reference, low).rho > 100


@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_wrong_gelus_in_steps_are_found(act):
    x = (rng_of(0).standard_normal((4, 400)) * 2).astype(TYPES[act])
    x32, reference = x.astype(f32), ref.gelu_in_steps(x, DTYPES[act], Numerics(act_round="act"))

    def wrong(value):
        return rho(reference, value.astype(TYPES[act])).rho

    assert wrong(x32 / (f32(1) + np.exp(-x32))) > 3  # SiLU
    assert wrong(np.maximum(x32, 0)) > 3
    assert wrong(gelu(x, "tanh") * f32(1.05)) > 3
    assert wrong(x32 / (f32(1) + np.exp(f32(-1.702) * x32))) > 2  # the quick one
    assert wrong(gelu(x, "tanh")) <= 1  # rounded once: within


def test_a_missing_or_halved_bias_is_found():
    x, w = rng_of(0).standard_normal((4, 64)).astype(f32), rng_of(1).standard_normal((30, 64)).astype(f32)
    bias = rng_of(2).standard_normal(30).astype(f32)
    got = ref.linear(x, w, bias, Numerics())
    assert rho(got, x @ w.T).rho2 > 100
    assert rho(got, x @ w.T + bias * f32(1.001)).rho > 1
