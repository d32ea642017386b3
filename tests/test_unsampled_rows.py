"""A prefill kernel that is wrong only in rows which nobody samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_greta.engine import rows
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.probing import judge
from tests.support.plain import PlainBackend

WRONG = range(37, 40)
PLAN = RunPlan(tuple(range(1, 62)), further=())


def wrong_rows(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
    """Head 1 of three rows of every prefill, 1 % too large."""
    if phase == "prefill":
        out[WRONG.start : WRONG.stop, 1] *= np.float32(1.01)


def verdict(spoil=wrong_rows, plan=PLAN):
    backend = PlainBackend(spoil)
    return judge(load_source("synthetic"), plan, {"prefill": backend, "decode": backend}, "kv_aligned").verdict


def test_three_wrong_rows_of_every_layer_are_found_in_rows_that_were_dealt_to_it():
    found = verdict()
    assert (found.status, found.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
    assert found.first_failure is not None
    assert (found.first_failure.stage, found.first_failure.phase) == ("attn_out", "prefill")
    assert set(found.first_failure.positions) <= set(WRONG)
    assert found.first_failure.heads == (1,)


def test_the_rows_of_every_stage_alone_do_not_show_them(monkeypatch: pytest.MonkeyPatch):
    assert not rows.checked_rows(60, 1, 1, [])[0] & set(WRONG)
    monkeypatch.setattr("pytest_greta.engine.run.dealt_rows", lambda *_: {})
    assert verdict().status == "PASS"


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_a_case_of_one_layer_has_all_the_rows_dealt_to_it(layer: int):
    found = verdict(plan=replace(PLAN, layers=(layer,))).first_failure
    assert found is not None
    assert (found.layer, found.positions) == (layer, tuple(WRONG))


def test_a_healthy_library_passes_with_all_of_its_rows():
    assert verdict(None).status == "PASS"
