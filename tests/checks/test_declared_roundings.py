"""Every declared rounding: a kernel that rounds so is beyond its bound undeclared, and within it declared.

The kernels are plain loops in float32, each with one rounding more than float32 arithmetic has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.attention import Call, Options, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.dtypes import BF16, DTYPES
from tests.checks.flash import TYPES

f32 = np.float32
Array = np.ndarray
Round = Callable[[Array], Array]


def plain(x: Array) -> Array:
    return x


def to(name: str) -> Round:
    return lambda x: np.asarray(x, dtype=f32).astype(TYPES[name]).astype(f32)


def bits(p: int) -> Round:
    """To ``p`` bits, nearest even, in float32's range."""

    def rounded(x: Array) -> Array:
        fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
        return np.ldexp(np.rint(fraction * 2.0**p), exponent - p).astype(f32)

    return rounded


def towards_zero(x: Array) -> Array:
    """A float64 sum cut to float32, as tensor cores do."""
    y = np.asarray(x, dtype=np.float64)
    near = y.astype(f32)
    return np.where(np.abs(near.astype(np.float64)) > np.abs(y), np.nextafter(near, f32(0)), near)


def dot(a: Array, b: Array, operand: Round = plain, store: Round | None = None, step: int = 1) -> Array:
    """a [m, n] times b [n, o], ``step`` products an accumulator step, each stored through ``store``."""
    a, b = operand(a).astype(f32), operand(b).astype(f32)
    if store is None:
        return a @ b
    total = np.zeros((len(a), b.shape[1]), f32)
    for i in range(0, a.shape[1], step):
        part = a[:, i : i + step].astype(np.float64) @ b[i : i + step].astype(np.float64)
        total = store(total.astype(np.float64) + part)
    return total


def rho(reference: Reference, stored: Array) -> float:
    (check,) = judge(reference, stored, [Group("full", np.arange(len(stored)))], Place(0, "x", stored.ndim == 3))
    return check.rho


def holds(make: Callable[[Numerics], Reference], stored: Array, plain: Numerics = Numerics(), **declared) -> None:  # noqa: B008
    """Beyond the bound of ``plain``, within it with ``declared``."""
    undeclared, said = rho(make(plain), stored), rho(make(replace(plain, **declared)), stored)
    assert undeclared > 1.0
    assert said <= 1.0, (declared, said)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- outside attention -------------------------------------------------------------------------------------------------


def test_a_norm_that_is_cast_before_its_weight():
    x = rng_of(0).standard_normal((6, 64)).astype(TYPES["bf16"])
    w = rng_of(1).standard_normal(64).astype(f32)
    x32 = x.astype(f32)
    unit = to("bf16")(x32 / np.sqrt(np.mean(x32 * x32, axis=-1, keepdims=True) + f32(1e-5)))
    holds(lambda n: ref.norm(x, w, 1e-5, BF16, n), (unit * w).astype(TYPES["bf16"]), norm_cast="act")


def test_rope_with_tables_in_the_activation_type():
    x, positions = rng_of(0).standard_normal((5, 2, 32)).astype(TYPES["bf16"]), np.arange(5) * 31
    layer = LayerConfig(rope_base=1e4)
    theta = positions[:, None] * 1e4 ** (-2.0 * np.arange(16) / 32)
    c, s = (to("bf16")(f(theta))[:, None] for f in (np.cos, np.sin))
    a, b = x[..., :16].astype(f32), x[..., 16:].astype(f32)
    turned = np.concatenate([a * c - b * s, b * c + a * s], -1).astype(TYPES["bf16"])

    def make(n: Numerics) -> Reference:
        return ref.rope(x, ref.rope_angles(positions, layer, 32, n), layer, BF16, n)

    holds(make, turned, rope_dtype="act")


def test_rope_in_float64_tables_is_held_to_them():
    """``angle: f64`` narrows: a float32 angle far out is beyond it."""
    x, positions = np.ones((1, 1, 32), f32), np.array([60_001])
    layer = LayerConfig(rope_base=1e4)
    inverse = (f32(1e4) ** (np.arange(16, dtype=f32) * f32(-2 / 32))).astype(f32)
    angle = (positions.astype(f32)[:, None] * inverse)[:, None]
    c, s = np.cos(angle), np.sin(angle)
    turned = np.concatenate([x[..., :16] * c - x[..., 16:] * s, x[..., 16:] * c + x[..., :16] * s], -1)

    def of(n: Numerics) -> Reference:
        return ref.rope(x, ref.rope_angles(positions, layer, 32, n), layer, DTYPES["f32"], n)

    assert rho(of(Numerics(angle="f64")), turned) > 1.0
    assert rho(of(Numerics()), turned) <= 1.0


def test_an_activation_rounded_before_the_product():
    gate, up = (rng_of(i).standard_normal((6, 64)).astype(TYPES["bf16"]) for i in range(2))
    g = gate.astype(f32)
    stored = (to("bf16")(g / (1 + np.exp(-g))) * up.astype(f32)).astype(TYPES["bf16"])
    holds(lambda n: ref.swiglu(gate, up, BF16, n), stored, act_round="act")


def linear_inputs(seed: int, n: int = 192) -> tuple[Array, Array]:
    return rng_of(seed).standard_normal((4, n)).astype(f32), rng_of(seed + 1).standard_normal((40, n)).astype(f32)


@pytest.mark.parametrize("p", [8, 11])
def test_a_product_of_short_operands(p: int):
    x, w = linear_inputs(0)
    holds(lambda n: ref.linear(x, w, None, n), dot(x, w.T, bits(p)), dot_bits=p)


def test_split_k_partials_in_the_activation_type():
    x, w = linear_inputs(2)
    parts = [to("bf16")(x[:, i : i + 48] @ w[:, i : i + 48].T) for i in range(0, 192, 48)]
    stored = sum(parts[1:], parts[0]).astype(TYPES["bf16"])
    holds(lambda n: ref.linear(x, w, None, n, BF16), stored, split_partials="act")


@pytest.mark.parametrize("p", [10, 14])
def test_a_short_accumulator(p: int):
    x, w = linear_inputs(4)
    holds(lambda n: ref.linear(x, w, None, n), dot(x, w.T, store=bits(p)), acc_bits=p)


@pytest.mark.parametrize("step", [1, 4])
def test_an_accumulator_that_truncates(step: int):
    """Positive terms, so that every cut goes the same way."""
    x, w = (np.abs(a) for a in linear_inputs(6, n=2048))
    stored = dot(x, w.T, store=towards_zero, step=step)
    plain = rho(ref.linear(x, w, None, Numerics()), stored)
    said = rho(ref.linear(x, w, None, Numerics(acc_round="rz", k_step=step)), stored)
    assert said <= 1.0
    assert plain > said
    assert plain > 1.0 or step > 1


# -- attention ---------------------------------------------------------------------------------------------------------


def attend(  # one query of one head: q [d], k [n, d], v [n, dv]
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    *,
    q_round: Round = plain,
    kv: Round = plain,
    operand: Round = plain,
    store: Round | None = None,
    fast: float = 0.0,
    fast_tanh: float = 0.0,
    cap: float = 0.0,
    p: Round = plain,
    after: bool = False,
    partials: Round = plain,
    splits: int = 1,
) -> tuple[Array, f32]:
    """Float32 but for the one rounding that is asked for. ``fast``: the relative error of its exp."""
    k, v = kv(k.astype(f32)), kv(v.astype(f32))
    scaled = q_round(q.astype(f32) * f32(scale))
    s = dot(scaled[None], k.T, operand, store)[0]
    if cap:
        s = f32(cap) * (np.tanh(s / f32(cap)) * f32(1 + fast_tanh)).astype(f32)
    parts = []
    for rows in np.array_split(np.arange(len(k)), splits):
        m = s[rows].max()
        weights = (np.exp(s[rows] - m) * f32(1) * np.where(rows % 2, f32(1 + fast), f32(1 - fast))).astype(f32)
        stored = p(weights)
        total = (stored if after else weights).sum(dtype=f32)
        out = dot(stored[None], v[rows], operand, store)[0]
        parts.append((m, total, partials(out / total)))
    top = max(m for m, _, _ in parts)
    shares = [t * np.exp(m - top) for m, t, _ in parts]
    total = f32(sum(shares))
    return sum(o * f32(w) for w, (_, _, o) in zip(shares, parts, strict=True)) / total, f32(top + np.log(total))


def inputs(seed: int, keys: int, d: int, hot: float = 1.0) -> tuple[Array, Array, Array]:
    rng = rng_of(seed)
    q = (rng.standard_normal((1, 2, d)) * hot).astype(f32)
    return q, rng.standard_normal((keys, 1, d)).astype(f32), (rng.standard_normal((keys, 1, d)) + 1).astype(f32)


CASES: dict[str, tuple[dict, dict, dict]] = {
    # what is declared: (the declaration, the kernel's rounding, the inputs)
    "q_prescale": ({"q_prescale": "act"}, {"q_round": to("bf16")}, {"hot": 4.0}),
    "kv_dequant": ({"kv_dequant": "act"}, {"kv": to("bf16")}, {}),
    "dot_bits": ({"dot_bits": 11}, {"operand": bits(11)}, {}),
    "acc_bits": ({"acc_bits": 12}, {"store": bits(12)}, {"keys": 60}),
    "exp_rel": ({"exp_rel": 2.0**-9}, {"fast": 2.0**-9}, {}),
    "tanh_rel": ({"tanh_rel": 2.0**-9}, {"cap": 5.0, "fast_tanh": 2.0**-9}, {"hot": 4.0}),
    "l_from": ({"l_from": "after", "p_dtype": "bf16"}, {"p": to("bf16"), "after": True}, {"keys": 40}),
    "split_partials": ({"split_partials": "act"}, {"partials": to("bf16"), "splits": 4}, {}),
    "p_dtype": ({"p_dtype": "bf16"}, {"p": to("bf16")}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rounding_of_attention(name: str):
    """In f32 activations where the output's own rounding hides nothing; bf16's u for what is kept in its type."""
    declared, kernel, given = CASES[name]
    keys, d = given.get("keys", 130), 32
    q, k, v = inputs(3, keys, d, given.get("hot", 1.0))
    options = Options(d**-0.5, kernel.get("cap", 0.0))
    own = np.array([keys - 1])

    def call(numerics: Numerics) -> Call:
        return Call(own, q, k, v, Rows.causal(own), options, BF16, numerics)

    outs = [attend(q[0, h], k[:, 0], v[:, 0], d**-0.5, **kernel) for h in range(2)]
    out, lse = np.stack([o for o, _ in outs])[None].astype(f32), np.array([[x for _, x in outs]], f32)
    undeclared = {x: declared[x] for x in ("p_dtype",) if name == "l_from"}  # where l sums is judged beside P's type
    both = {n: call(Numerics(**said)).reference() for n, said in (("no", undeclared), ("yes", declared))}
    before = max(rho(both["no"].lse, lse), rho(both["no"].out, out))
    said = max(rho(both["yes"].lse, lse), rho(both["yes"].out, out))
    assert before > 1.0
    assert said <= 1.0, (name, said)


@pytest.mark.parametrize("seed", range(4))
def test_l_that_sums_weights_which_vanish(seed: int):
    """P in e4m3, l after: of 3000 weights most are subnormal, so that l is off by far more than u_P of itself."""
    keys, d = 3000, 32
    q, k, v = inputs(seed, keys, d)
    k[0] = np.sign(q[0].mean(0)) * 3
    own = np.array([keys - 1])
    outs = [attend(q[0, h], k[:, 0], v[:, 0], d**-0.5, p=to("fp8_e4m3fn"), after=True) for h in range(2)]
    out, lse = np.stack([o for o, _ in outs])[None].astype(f32), np.array([[x for _, x in outs]], f32)

    def of(l_from: str) -> tuple[float, float]:
        said = Numerics(p_dtype="fp8_e4m3fn", l_from=l_from)
        both = Call(own, q, k, v, Rows.causal(own), Options(d**-0.5), BF16, said).reference()
        return rho(both.lse, lse), rho(both.out, out)

    assert max(of("after")) <= 1.0
    assert of("before")[0] > 1.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kept", ["f16", "bf16"])
@pytest.mark.parametrize(("keys", "hot"), [(1, 1.0), (40, 1.0), (300, 0.1), (300, 4.0), (900, 1.0)])
def test_an_output_that_is_kept_in_half_precision(kept: str, keys: int, hot: float, seed: int):
    """Key by key with a running maximum, each new one a rescale: as llama.cpp's flash attention over an f16 cache. The
    sum of weights and the scores are float32."""
    d, half = 32, to(kept)
    q, k, v = inputs(seed, keys, d, hot)
    out, lse = np.zeros((1, 2, d), f32), np.zeros((1, 2), f32)
    for h in range(2):
        m, total, o = f32(-np.inf), f32(0), np.zeros(d, f32)
        for s, value in zip(f32(d**-0.5) * (k[:, 0] @ q[0, h]), v[:, 0], strict=True):
            if s > m:
                scale, m, weight = np.exp(m - s), s, f32(1)
                o = half(o * scale)
            else:
                scale, weight = f32(1), np.exp(s - m)
            o, total = half(o + value * weight), total * scale + weight
        out[0, h], lse[0, h] = o / total, m + np.log(total)
    own = np.array([keys - 1])

    def of(**said) -> tuple[float, float]:
        both = Call(own, q, k, v, Rows.causal(own), Options(d**-0.5), DTYPES["f32"], Numerics(**said)).reference()
        return rho(both.lse, lse), rho(both.out, out)

    assert max(of(o_dtype=kept)) <= 1.0
    assert of()[1] > 1.0 or keys == 1
    assert of()[0] <= 1.0


def test_attention_over_an_accumulator_that_truncates():
    q, k, v = (np.abs(x) for x in inputs(5, 9000, 32))
    own = np.array([8999])
    outs = [attend(q[0, h], k[:, 0], v[:, 0], 32**-0.5, store=towards_zero) for h in range(2)]
    out = np.stack([o for o, _ in outs])[None].astype(f32)

    def of(**said) -> float:
        return rho(Call(own, q, k, v, Rows.causal(own), Options(32**-0.5), BF16, Numerics(**said)).reference().out, out)

    assert of() > 1.0
    assert of(acc_round="rz") <= 1.0


def test_flushed_operands():
    """f16 subnormals in k and v count as zero, as MI200's f16 matrix units have it."""
    rng = rng_of(8)
    d, keys = 32, 50
    q = (rng.standard_normal((1, 2, d)) * 300).astype(np.float16)
    k, v = ((rng.standard_normal((keys, 1, d)) * size).astype(np.float16) for size in (1e-4, 1e-4))

    def flushed(x: Array) -> Array:
        return np.where(np.abs(x) < 2.0**-14, f32(0), x.astype(f32))

    own = np.array([keys - 1])
    outs = [attend(q[0, h], flushed(k[:, 0]), flushed(v[:, 0]), d**-0.5) for h in range(2)]
    out, lse = np.stack([o for o, _ in outs])[None].astype(np.float16), np.array([[x for _, x in outs]], f32)

    def of(**said) -> float:
        call = Call(own, q, k, v, Rows.causal(own), Options(d**-0.5), DTYPES["f16"], Numerics(**said))
        both = call.reference()
        return max(rho(both.lse, lse), rho(both.out, out))

    assert of() > 1.0
    assert of(flush=True) <= 1.0
