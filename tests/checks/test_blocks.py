"""Products over 8-bit blocks: against loops at 50 digits, against kernels written anew, healthy and with mistakes."""

from __future__ import annotations

from fractions import Fraction

import gguf
import mpmath
import numpy as np
import pytest

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import blocks
from pytest_greta.checks import reference as ref
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import F32
from pytest_greta.engine.spec import BlockDot

f32, f16, mp = np.float32, np.float16, mpmath.mp
U = 2.0**-24
DECLARED = Numerics(dot_blocks=True)
KINDS = ("q8_0", "q8_1", "q8_K")


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(rng, rows, n):
    """Rows with outliers, as activations have, and blocks that are nothing but zeros."""
    x = (rng.standard_normal((rows, n)) * rng.choice([1e-3, 1, 1, 40], size=n)).astype(f32)
    x[:, rng.integers(n // 32) * 32 :][:, :32] *= rng.choice([0, 1])
    return x


def weights(rng, out, n, group=0):
    """Steps of a scale, in f32 as a file's are dequantised: (matrix, minima). ``group``: elements a minimum is of."""
    scale = np.repeat(rng.uniform(0.01, 0.1, (out, n // 32)).astype(f16).astype(f32), 32, axis=1)
    if not group:
        return scale * rng.integers(-127, 128, (out, n)).astype(f32), None
    least = -rng.uniform(0.05, 1, (out, n // group)).astype(f16).astype(f32)
    return scale * rng.integers(0, 16, (out, n)).astype(f32) + np.repeat(least, group, axis=1), least


def half_away(x):
    return np.copysign(np.floor(np.abs(x) + f32(0.5)), x)


# -- to the letter ---------------------------------------------------------------------------------------------------


def by_hand(row, kind):
    """(step, whole steps, kept sum) of each block by definition: quotients exact, ties to even, steps in f16 or f32."""
    size = {"q8_0": 32, "q8_1": 32, "q8_K": 256}[kind]
    found = []
    for start in range(0, len(row), size):
        block = [Fraction(float(v)) for v in row[start : start + size]]
        most = max(abs(v) for v in block)
        step = f32(float(most)) / f32(127)
        kept = float(f32(1) / (f32(127) / f32(float(most)))) if kind == "q8_K" else float(f16(step))
        whole = [round(v * 127 / most) for v in block]
        found.append((kept, whole, float(f16(step * f32(sum(whole))))))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [0, 32, 16])
def test_to_the_letter(kind, group):
    n, rng = 512, rng_of(1)
    x = rng.standard_normal((3, n)).astype(f32)
    bias = rng.standard_normal(5).astype(f32)
    matrix, minima = weights(rng, 5, n, 32 if kind == "q8_1" and group else group)
    got = blocks.linear(x, matrix, BlockDot(kind, minima), bias, DECLARED)
    assert not blocks.rounded(x, kind).undecided.any()
    for r in range(3):
        kept = by_hand(x[r], kind)
        read = [Fraction(step) * q for step, whole, _ in kept for q in whole]
        for o in range(5):
            w = [Fraction(float(v)) for v in matrix[o]]
            y = sum(a * b for a, b in zip(read, w, strict=True)) + Fraction(float(bias[o]))
            terms = sum(abs(a * b) for a, b in zip(read, w, strict=True))
            if minima is not None:
                per = n // minima.shape[1]
                for i, least in enumerate(minima[o]):
                    part = read[i * per : (i + 1) * per]
                    given = Fraction(kept[i][2]) if kind == "q8_1" else sum(part)
                    y += Fraction(float(least)) * (given - sum(part))
                    terms += abs(Fraction(float(least))) * (sum(abs(a) for a in part) + abs(given))
            with mpmath.workdps(50):
                exact, terms = mp.mpf(y.numerator) / y.denominator, float(terms)
                assert float(exact) == pytest.approx(got.y[r, o], rel=1e-11, abs=1e-11 * terms)
            det = 13 * U * terms + U * abs(bias[o])
            assert got.b_det[r, o] == pytest.approx(det, rel=1e-4)
            assert got.b1[r, o] == pytest.approx(det + 5 * np.sqrt(n / 4) * U * terms, rel=1e-4)
            assert got.b2[r, o] == pytest.approx(det + (n / 4) * U / (1 - n / 4 * U) * terms, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_blocks_are_those_of_the_package_gguf(seed):
    """Its quantiser has its own quotient and rounds halves away: another step only where it was left undecided."""
    x = draw(rng_of(seed), 40, 256)
    found = blocks.rounded(x, "q8_0")
    raw = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0).reshape(len(x), -1, 34)
    steps = np.ascontiguousarray(raw[..., :2]).view(f16)[..., 0].astype(float)
    assert np.array_equal(steps, found.step)
    differ = raw[..., 2:].view(np.int8) != found.whole
    assert not (differ & ~found.undecided).any()


def test_an_element_in_the_middle_is_undecided():
    x = np.zeros((1, 32), f32)
    x[0, :5] = 127, 0.5, 1.5, -2.5, np.nextafter(f32(3.5), f32(4))
    found = blocks.rounded(x, "q8_0")
    assert found.undecided[0, 0].tolist() == [False, True, True, True, True, *[False] * 27]
    x[0, 4] = 3.5001
    assert not blocks.rounded(x, "q8_0").undecided[0, 0, 4]


# -- kernels -----------------------------------------------------------------------------------------------------------


def kernel(x, matrix, kind, minima, bias, rng, *, mistake=""):
    """float32 throughout, as ggml's kernels are: whole numbers within a block exactly, blocks in an order of chance.

    ``mistake``: one of those below.
    """
    size = 256 if kind == "q8_K" else 32
    xb = x.reshape(len(x), -1, size)
    most = np.abs(xb).max(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = most / f32(127)
        inverse = np.where(most > 0, f32(127) / most if rng.integers(2) else f32(1) / step, f32(0))
        if kind == "q8_K":
            kept = np.where(most > 0, f32(1) / (f32(127) / most) if rng.integers(2) else step, f32(0))
        else:
            kept = step.astype(f16).astype(f32)
    whole = (np.rint if rng.integers(2) else half_away)(xb * inverse[..., None])
    if mistake == "step_in_f32":
        kept = step
    if mistake == "other_block":
        kept = np.roll(kept, 1, axis=1)
    if mistake == "truncated":
        whole = np.trunc(xb * inverse[..., None])
    if mistake == "one_step":
        whole[:, 1, 3] += 1
    chunk = int(rng.choice([4, 8, 32])) if kind != "q8_K" else int(rng.choice([4, 32, 256]))
    plain = matrix if minima is None else matrix - np.repeat(minima, x.shape[1] // minima.shape[1], axis=1)
    terms = []
    for start in range(0, x.shape[1], chunk):
        b, at = divmod(start, size)
        whole_part = whole[:, b, at : at + chunk].astype(np.float64)
        # what is a whole number in a kernel is exact there: a step of the weight's, times whole numbers
        product = (whole_part @ plain[:, start : start + chunk].T.astype(np.float64)).astype(f32)
        terms.append(product * kept[:, b, None])
    if minima is not None:
        per = x.shape[1] // minima.shape[1]
        for i in range(minima.shape[1]):
            b, at = divmod(i * per, size)
            total = whole[:, b, at : at + per].sum(-1)
            given = total * kept[:, b]
            if kind == "q8_1":
                given = step[:, b] * total
                given = given if mistake == "sum_in_f32" else given.astype(f16).astype(f32)
            if mistake == "no_minimum" and i == 1:
                given = 0 * given
            terms.append(given[:, None] * minima[:, i])
    y = np.zeros((len(x), len(matrix)), f32)
    for i in rng.permutation(len(terms)):
        y = y + terms[i]
    return y + bias if mistake != "no_bias" else y


def rho(x, matrix, minima, kind, y, bias):
    reference = blocks.linear(x, matrix, BlockDot(kind, minima), bias, DECLARED)
    wrong, _ = error(reference.y, y, F32)
    return wrong / reference.b1


@pytest.mark.parametrize(("kind", "group"), [("q8_0", 0), ("q8_1", 32), ("q8_K", 0), ("q8_K", 32), ("q8_K", 16)])
def test_healthy_kernels_are_within(kind, group):
    rng, worst, flipped = rng_of(7), 0.0, 0
    for _ in range(60):
        n = int(rng.choice([256, 512, 1536]))
        x, bias = draw(rng, 6, n), rng.standard_normal(24).astype(f32)
        matrix, minima = weights(rng, 24, n, group)
        x.ravel()[rng.integers(x.size, size=40)] = 0  # and some elements in the middle between two steps
        for row, at in zip(range(6), rng.integers(n, size=6), strict=True):
            size = blocks.SIZES[kind]
            most = np.abs(x[row].reshape(-1, size)[at // size]).max()
            x[row, at] = most * f32(rng.integers(126) + 0.5) / f32(127)
        flipped += int(blocks.rounded(x, kind).undecided.sum())
        worst = max(worst, float(rho(x, matrix, minima, kind, kernel(x, matrix, kind, minima, bias, rng), bias).max()))
    print(f"{kind}, minima of {group}: worst {worst:.3f}, {flipped} undecided")
    assert flipped > 100
    assert worst <= 1.0


@pytest.mark.parametrize(
    ("mistake", "kind", "group"),
    [
        *[("other_block", kind, 0) for kind in KINDS],
        *[("truncated", kind, 0) for kind in KINDS],
        *[("one_step", kind, 0) for kind in KINDS],
        *[("no_bias", kind, 0) for kind in KINDS],
        ("step_in_f32", "q8_0", 0),
        ("step_in_f32", "q8_1", 32),
        ("sum_in_f32", "q8_1", 32),
        ("no_minimum", "q8_1", 32),
        ("no_minimum", "q8_K", 32),
        ("no_minimum", "q8_K", 16),
    ],
)
def test_mistakes_are_beyond(mistake, kind, group):
    rng = rng_of(3)
    x, bias = rng.standard_normal((4, 512)).astype(f32), rng.standard_normal(24).astype(f32)
    matrix, minima = weights(rng, 24, 512, group)
    assert rho(x, matrix, minima, kind, kernel(x, matrix, kind, minima, bias, rng), bias).max() <= 1.0
    spoilt = kernel(x, matrix, kind, minima, bias, rng, mistake=mistake)
    found = rho(x, matrix, minima, kind, spoilt, bias)
    print(f"{mistake} in {kind}: {found.max():.0f}")
    assert found.max() > 1.0


def test_a_wrong_weight_is_seen_as_in_float32():
    """A gain of 1e-4 in one row of the matrix, which a bound of half a step of every element would hide."""
    rng = rng_of(5)
    x = rng.standard_normal((4, 576)).astype(f32)
    matrix, _ = weights(rng, 24, 576)
    spoilt = matrix.copy()
    spoilt[5] *= f32(1 + 1e-4)
    y = kernel(x, spoilt, "q8_0", None, np.zeros(24, f32), rng)
    found = rho(x, matrix, None, "q8_0", y, np.zeros(24, f32))
    assert found.max(axis=0).argmax() == 5
    assert found[:, 5].max() > 1.0
    assert np.delete(found, 5, axis=1).max() <= 1.0
    step = np.abs(x.reshape(4, -1, 32)).max(-1) / 127
    plain = ref.linear(x, matrix, None, Numerics())
    half = np.repeat(step / 2, 32, axis=1) @ np.abs(matrix).T.astype(float)
    assert (np.abs(y - plain.y) <= half).all()
    sharp = blocks.linear(x, matrix, BlockDot("q8_0"), None, DECLARED).b1
    print(f"half a step is {np.median(half / sharp):.0f} times the bound, float32's {np.median(plain.b1 / sharp):.2f}")
    assert np.median(half / sharp) > 500
