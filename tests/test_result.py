"""One gate: nothing but plain values leaves a probe, and what left comes back the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pytest_greta.checks.result import ByteCheck, StageCheck, Worst
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.result import AttentionStat, ProbeResult
from pytest_greta.verdict import Breach, Drift, Evidence, FirstFailure, Indicators, Verdict

RESULT = ProbeResult(
    "b3_66",
    "p0",
    "kv_aligned-bf16",
    "kv_aligned",
    "bf16",
    "cases/a.greta.yaml::p0::kv_aligned-bf16",
    "cases/a.greta.yaml:7",
    "failed",
    "PASS",
    Verdict(
        "KV_MISMATCH",
        "REAL_MISMATCH",
        first_failure=FirstFailure(3, "q_proj", "both", (1, 2), (0,), float("inf"), ("cause.row",), ("aa", "bb")),
        indicators=Indicators(True, False, None),
        evidence=Evidence(1, 2, 3, ({"path": "full", "calls": 6},), breaches=(Breach("harness", {"layer": 1}),)),
        drift=Drift(1e-3, 1e-4, True, 0.5, 1e-9),
    ),
    stages=(StageCheck("full", 3, "q_proj", 2.0, 1.5, 4, 99, (1,), (0,), Worst(1, 0, 5, 1.0, 1.1, 0.1, 0.05)),),
    bytes=(ByteCheck(3, "q_proj", "", "full", "decode", "aa", "bb", 1, (9,), 0.1),),
    stats=(AttentionStat(0, "probs", "full", 0.0, 1.0, 0.1),),
    settings={"dtype": "bf16", "layers": [0, 1]},
)


def test_a_result_survives_the_way_to_plain_values_and_back():
    assert from_plain(ProbeResult, to_plain(RESULT)) == RESULT


def test_a_result_survives_json_too():
    # JSON has no infinity: Python writes Infinity, our files write strings
    text = json.dumps(to_plain(RESULT)).replace("Infinity", '"inf"')
    assert from_plain(ProbeResult, json.loads(text)) == RESULT


@pytest.mark.parametrize("value", [np.float32(1.5), np.float64(1.5), np.int64(3), np.bool_(True), np.array(2.0)])
def test_numpy_scalars_become_plain(value):
    plain = to_plain({"x": [value]})["x"][0]
    assert type(plain) in (float, int, bool)
    assert plain == value.item()


@pytest.mark.parametrize("value", [np.zeros(3), object(), b"bytes", 1j])
def test_nothing_else_leaves(value):
    with pytest.raises(TypeError):
        to_plain({"x": value})


def test_keys_of_a_newer_version_are_ignored():
    assert from_plain(ProbeResult, {**to_plain(RESULT), "not_known_yet": 1}) == RESULT
