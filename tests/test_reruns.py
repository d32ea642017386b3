"""A suspect is run again: with which tokens, how often, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_greta import probing
from pytest_greta.backends.registry import open_backends
from pytest_greta.checks.run import Examination
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan

PLAN = RunPlan((7, 91, 33, 4, 250, 61, 9), threads=1, seed=5)


def judged(monkeypatch: pytest.MonkeyPatch, *suspect_in: int) -> tuple[list[tuple[int, ...]], probing.Judged]:
    """The tokens of each run, and the end of it, where the runs ``suspect_in`` (0 is the case's own) have a suspect."""
    seen: list[tuple[int, ...]] = []
    real = probing.examine

    def examine(trace, *args) -> Examination:
        found = real(trace, *args)
        number = len(seen)
        seen.append(tuple(trace.paths["full"].tokens.tolist()))

        def spoilt(check):
            here = (check.path, check.layer, check.stage) == ("decode", 4, "o_proj") and number in suspect_in
            return replace(check, rho=1.3, rho2=0.4, positions=(6,)) if here else check

        return replace(found, checks=tuple(map(spoilt, found.checks)))

    monkeypatch.setattr(probing, "examine", examine)
    backends = open_backends("cpu", extra={}, base=Path())
    return seen, probing.judge(load_source("synthetic"), PLAN, backends, "kv_aligned")


def test_a_clean_case_is_run_once(monkeypatch):
    seen, found = judged(monkeypatch)
    assert seen == [PLAN.tokens]
    assert found.verdict.evidence.reruns == ()


def test_a_suspect_is_run_twice_again_with_as_many_random_tokens(monkeypatch):
    seen, found = judged(monkeypatch, 0)
    assert [len(tokens) for tokens in seen] == [len(PLAN.tokens)] * 3
    assert len(set(seen)) == 3
    assert (found.verdict.status, found.verdict.finding) == ("PASS", "SUSPECT")
    assert [rerun.said for rerun in found.verdict.evidence.reruns] == ["ok", "ok"]
    assert [rerun.seed for rerun in found.verdict.evidence.reruns] == [(5, 3, 0), (5, 3, 1)]
    monkeypatch.undo()
    assert judged(monkeypatch, 0)[0] == seen, "the same tokens every time"


@pytest.mark.parametrize("again", [1, 2])
def test_a_suspect_that_comes_again_fails(monkeypatch, again):
    _, found = judged(monkeypatch, 0, again)
    assert (found.verdict.status, found.verdict.scenario, found.verdict.finding) == (
        "KV_MISMATCH",
        "REAL_MISMATCH",
        "SUSPECT",
    )
    assert found.verdict.first_failure is not None
    assert (found.verdict.first_failure.layer, found.verdict.first_failure.stage) == (4, "o_proj")
