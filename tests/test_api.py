"""The public API: what ``probe`` takes and refuses, and that it runs what it was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.api import WatchedRun
from pytest_greta.backends.base import AttentionSession, Description, SessionConfig
from pytest_greta.backends.native import load
from pytest_greta.cases.model import CaseError
from pytest_greta.settings import RunSettings


class Mine:
    """A library of the user's own that calls itself as the built-in one is called in case files."""

    def __init__(self) -> None:
        self.opened = 0

    def describe(self) -> Description:
        return replace(load().describe(), name="cpu")

    def device_count(self) -> int:
        return 1

    def open(self, config: SessionConfig) -> AttentionSession:
        self.opened += 1
        return load().open(config)


def test_a_library_that_is_handed_over_is_the_one_that_runs() -> None:
    mine = Mine()
    run = greta.probe("synthetic", "Hi there", backend=mine, layers=[0])
    assert mine.opened == 4, "two sessions of the case, two of the canary"
    greta.probe("synthetic", "Hi there", backend=mine, layers=[0], settings=RunSettings(canary="off"))
    assert mine.opened == 6
    assert run.verdict.status == "PASS"
    assert {row["library"] for row in run.verdict.evidence.kernels} == {"cpu"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"page_sze": 16}, "page_size"),
        ({"gemm": "fast"}, "rowwise"),
        ({"mode": "kv_alinged"}, "kv_aligned"),
        ({"steps": 0}, "steps"),
        ({"layers": "3"}, "layers"),
        ({"schedule": {"prefil": {"tile": 16}}}, "prefill"),
        ({"page_size": "16"}, "page_size"),
        ({"dtype": ["f32", "bf16"]}, "one of each"),
        ({"inject": {"fault": "kv_lenn"}}, "kv_len"),
        ({"inject": {"fault": "kv_len", "layer": 2}, "layers": [0]}, "layer 2 is not among"),
    ],
)
def test_a_wrong_key_or_value_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(CaseError) as error:
        greta.probe("synthetic", "Hi there", **keys)
    assert said in str(error.value)
    assert error.value.where.path == Path(__file__)


def test_a_path_given_as_a_name_is_told_where_it_stands() -> None:
    for given in ("../mine/libmine.so", "libmine.so"):
        with pytest.raises(CaseError) as error:
            greta.probe("synthetic", "Hi", backend=given)
        assert f"did you mean {{library: {given}}}?" in error.value.text("en")
        assert f"¿quiso decir {{library: {given}}}?" in error.value.text("es")
    with pytest.raises(CaseError) as error:
        greta.probe("synthetic", "Hi", backend="cpuu")
    assert "{library: cpuu}" not in str(error.value)


def test_a_fault_is_planted_as_in_a_case_file() -> None:
    run = greta.probe("synthetic", "Hi there", inject={"fault": "rope_pos", "layer": 3, "magnitude": 1})
    assert run.verdict.first_failure is not None
    assert (run.verdict.first_failure.layer, run.verdict.first_failure.stage) == (3, "q_rope")
    with pytest.raises(AssertionError, match="KV_MISALIGNMENT"):
        run.assert_aligned()


def test_numpy_values_paths_and_none_are_taken() -> None:
    ids = np.arange(5)
    run = greta.probe("synthetic", list(ids), seed=np.int64(3), layers=(0, 2), context=None)
    assert run.trace.layers == (0, 2)
    assert run.result.settings["seed"] == 3


def test_a_broken_contract_is_not_aligned_although_the_verdict_is_a_pass() -> None:
    run = greta.probe("synthetic", "Hi there", layers=[0], contract={"bitwise": True})
    assert run.verdict.status == "PASS"
    with pytest.raises(AssertionError, match="contract bitwise broken"):
        run.assert_aligned()
    assert WatchedRun(run.verdict, run.trace, run.result).overlooked
    greta.probe("synthetic", "Hi there", layers=[0]).assert_aligned()


def test_nor_is_an_expected_mismatch_that_was_not_found_looked_at() -> None:
    run = greta.probe("synthetic", "Hi there", layers=[0], expect="KV_MISMATCH")
    assert run.verdict.status == "PASS"
    watched = WatchedRun(run.verdict, run.trace, run.result)
    assert "PASS" not in repr(watched)
    assert watched.overlooked
