"""Declarations are held to, priced and, where a case says so, refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.backends.base import Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.checks.price import roundings, smallest_gain
from pytest_greta.dtypes import DTYPES
from pytest_greta.report.failure import failure_text
from pytest_greta.report.markdown import final_report
from pytest_greta.report.terminal import summary
from pytest_greta.settings import RunSettings
from tests.support.plain import PlainBackend

COARSE = Numerics(acc_bits=8, p_dtype="fp8_e4m3fn", p_scale=256.0)
IDS = [7, 91, 33, 4, 250, 61, 9, 12, 80, 81, 17]


def probe(says: Numerics, **keys: Any) -> greta.Run:
    """A healthy float32 library that declares ``says`` of its decode."""
    backend = PlainBackend(numerics={"prefill": Numerics(), "decode": says})
    return greta.probe("synthetic", IDS, backend=backend, settings=RunSettings(canary="off"), **keys)


@pytest.fixture(scope="module")
def coarse() -> greta.Run:
    return probe(COARSE)


def test_what_differs_from_plain_float32():
    assert roundings(Numerics(tile=64, splits=4, direction="reverse", angle="f64")) == []
    assert [names[0] for names in roundings(COARSE)] == ["p_dtype", "acc_bits"]


def test_a_coarse_declaration_has_its_price(coarse):
    assert coarse.verdict.status == "PASS"
    prices = {(p.stage, p.name): p for p in coarse.result.prices}
    assert {p.phase for p in prices.values()} == {"decode"}
    assert set(prices) == {("lse", "acc_bits"), ("attn_out", "acc_bits"), ("attn_out", "p_dtype")}
    assert prices["attn_out", "p_dtype"].value == "fp8_e4m3fn, 256"
    # its u is 2^16 times as coarse, and the terms that do not sum are not
    assert 2**13 < prices["lse", "acc_bits"].median < 2**16
    assert prices["attn_out", "p_dtype"].median > 1.0
    assert all(p.median >= 1.0 and p.worst >= 1.0 for p in prices.values())


def test_p_alone_costs_what_its_envelope_adds():
    """Half an ulp of fp8 e4m3, 2^-4, of sum p |v|, over a bound of some u = 2^-24 of it."""
    (price,) = probe(Numerics(p_dtype="fp8_e4m3fn", p_scale=256.0)).result.prices
    assert (price.stage, price.name) == ("attn_out", "p_dtype")
    assert 2**8 < price.median < 2**20


def test_plain_float32_has_no_price():
    assert probe(Numerics(tile=16)).result.prices == ()


def test_in_f32_the_activation_type_costs_nothing():
    """Rounding a float32 value to float32 changes nothing; in bf16 the same words have their price."""
    kept = Numerics(score_dtype="act", split_partials="act")
    assert probe(kept).result.prices == ()
    assert {price.name for price in probe(kept, dtype="bf16").result.prices} == {"score_dtype", "split_partials"}


def test_both_languages_say_it(coarse):
    text = " ".join(summary([coarse.result], lang="en").split())
    assert "plain declares acc_bits 8 in decode: bounds up to" in text
    assert "plain declara acc_bits 8 en decode: cotas hasta" in " ".join(summary([coarse.result], lang="es").split())
    failed = " ".join(failure_text(replace(coarse.result, outcome="failed"), "en").split())
    assert "decode declares p_dtype fp8_e4m3fn, 256: the bound of attn_out is" in failed
    assert "smallest gain that would be seen: q_proj" in failed
    report = final_report([coarse.result], suite="s", date="2026-01-01", lang="en")
    assert "| plain | decode | acc_bits | 8 | lse |" in report
    assert "### Smallest gain seen" in report


# -- refused by a case -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "breaches"),
    [
        ({"min_acc_bits": 24}, [("min_acc_bits", 8)]),
        ({"min_acc_bits": 8}, []),
        ({"min_p_bits": 11}, [("min_p_bits", 4)]),
        ({"min_p_bits": 4, "min_dot_bits": 24}, []),
        ({"min_acc_bits": 9, "min_p_bits": 8}, [("min_acc_bits", 8), ("min_p_bits", 4)]),
    ],
)
def test_a_case_can_ask_for_more(wanted, breaches):
    run = probe(COARSE, numerics=wanted)
    assert run.verdict.status == ("INCONCLUSIVE" if breaches else "PASS")
    found = [b.values for b in run.verdict.evidence.breaches]
    assert [(b["name"], b["declared"]) for b in found] == breaches
    assert {(b["phase"], b["library"]) for b in found} <= {("decode", "plain")}
    if breaches:
        assert run.verdict.reason == "declares_less"
        assert run.result.outcome == "failed"
        words = " ".join(failure_text(run.result, "en").split())
        assert f"plain declares {breaches[0][1]} bits in decode, and the case asks for {breaches[0][0]}:" in words


def test_an_exp_of_two_digits_is_believed_priced_and_refused_where_a_case_says_so():
    says = Numerics(exp_rel=0.01, tanh_rel=1e-3)
    believed = probe(says)
    assert believed.verdict.status == "PASS"
    assert {p.name for p in believed.result.prices} == {"exp_rel"}  # no layer has a soft cap
    text = " ".join(summary([believed.result], lang="both", width=200).split())
    assert "plain declares exp_rel 0.01 in decode: bounds up to" in text
    assert "plain declara exp_rel 0.01 en decode: cotas hasta" in text
    assert probe(says, numerics={"max_exp_rel": 0.01, "max_tanh_rel": 0.01}).verdict.status == "PASS"
    refused = probe(says, numerics={"max_exp_rel": 1e-6, "max_tanh_rel": 1e-4, "min_acc_bits": 24})
    assert (refused.verdict.status, refused.verdict.reason) == ("INCONCLUSIVE", "declares_coarser")
    found = [(b.key, b.values["says"], b.values["phase"]) for b in refused.verdict.evidence.breaches]
    assert found == [("declares_coarser", "exp_rel", "decode"), ("declares_coarser", "tanh_rel", "decode")]
    words = " ".join(failure_text(refused.result, "both").split())
    assert "plain declares exp_rel 0.01 in decode, and the case asks for max_exp_rel: 1e-06 at most" in words
    assert "plain declara exp_rel 0.01 en decode, y el caso pide max_exp_rel: 1e-06 como máximo" in words


def test_as_designed_is_refused_too():
    assert probe(COARSE, mode="as_designed", numerics={"min_acc_bits": 24}).verdict.reason == "declares_less"


# -- the smallest gain -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_the_smallest_gain_is_seen_19_times_of_20_and_a_third_of_it_is_not(dtype):
    """Simulated: exact values with a gain, rounded once. Oracle: the check itself, over fresh draws."""
    t, w = DTYPES[dtype], np.random.default_rng(1).standard_normal((160, 96)).astype(np.float32)
    place, groups = Place(0, "o_proj"), [Group("full", np.arange(5))]
    found = {1.0: 0, 0.3: 0}
    runs = 60
    for seed in range(runs):
        x = np.random.default_rng([2, seed]).standard_normal((5, 96)).astype(np.float32)
        reference = ref.linear(x, w, None, Numerics())
        g = smallest_gain(reference, t)
        for share in found:
            (check,) = judge(reference, (reference.y * (1 + share * g)).astype(t.numpy), groups, place)
            found[share] += check.rho > 1.0
    assert found[1.0] >= 0.85 * runs
    assert found[0.3] <= 0.5 * runs


def test_the_smallest_gain_of_one_known_element():
    """One element of y = 1 in float32: half of it is asked for, so g = b + ulp / 2."""
    reference = Reference(np.array([[1.0]]), np.array([[1e-4]]))
    assert smallest_gain(reference, DTYPES["f32"]) == pytest.approx(1e-4 + 2.0**-24, rel=1e-6)
    assert smallest_gain(Reference(np.zeros((1, 3)), np.ones((1, 3))), DTYPES["f32"]) == np.inf


def test_a_coarser_declaration_sees_less(coarse):
    plain = {(s.stage, s.phase): s.gain for s in probe(Numerics()).result.sees}
    loose = {(s.stage, s.phase): s.gain for s in coarse.result.sees}
    assert loose["attn_out", "decode"] > 100 * plain["attn_out", "decode"]
    assert loose["lse", "decode"] > 1000 * plain["lse", "decode"]
    assert loose["o_proj", "both"] == pytest.approx(plain["o_proj", "both"], rel=0.5)
