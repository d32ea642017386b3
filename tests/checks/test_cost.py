"""What the checks of a case cost, in forwards of its prompt; rows which two prefills made alike count twice."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from pytest_greta.backends.registry import open_backends
from pytest_greta.checks.compare import compare_paths, logits_drift
from pytest_greta.checks.run import examine
from pytest_greta.checks.stack import stack
from pytest_greta.checks.view import Gathered
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, declared, last_logits, trace_probe
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.probing import blas_threads


def cost(n: int, dtype: str) -> tuple[float, float]:
    """(one forward of the prompt, all checks of its kv_aligned case): CPU seconds of one thread, so that whatever else
    runs on the machine changes them least. The better of two."""
    source = load_source("smollm2-135m")
    library = Library(open_backends("cpu", extra={}, base=Path())["prefill"])
    tokens = tuple(int(t) for t in np.random.default_rng(1).integers(source.config.vocab, size=n))
    plan = RunPlan(tokens, act_dtype=dtype, kv_dtype=dtype, threads=1)
    with blas_threads(1):
        trace = trace_probe(source, plan, {"prefill": library, "decode": library})
        numerics = {phase: declared(library, phase, plan) for phase in ("prefill", "decode")}
        seconds: dict[str, list[float]] = {"forward": [], "checks": []}
        for _ in range(2):
            started = time.process_time()
            last_logits(source, plan, library)
            seconds["forward"].append(time.process_time() - started)
            started = time.process_time()
            examine(trace, source, decoder_stages(source.config), numerics)
            compare_paths(trace)
            logits_drift(trace)
            seconds["checks"].append(time.process_time() - started)
    return min(seconds["forward"]), min(seconds["checks"])


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_the_checks_cost_less_than_a_forward(dtype: str, capsys: pytest.CaptureFixture[str]):
    forward, checks = cost(512, dtype)
    with capsys.disabled():
        print(f"\n512 tokens, {dtype}: forward {forward:.2f} s, checks {checks:.2f} s, ratio {checks / forward:.2f}")
    assert checks < forward


@pytest.mark.slow
@pytest.mark.model
def test_the_checks_of_a_short_prompt_end_within_a_second(capsys: pytest.CaptureFixture[str]):
    _, checks = cost(16, "bf16")
    with capsys.disabled():
        print(f"\n16 tokens: checks {checks:.2f} s")
    assert checks < 1.0


def gathered(path: str, positions: list[int], stored: np.ndarray, x: np.ndarray) -> Gathered:
    return Gathered(path, np.array(positions), stored, (x,))


def test_rows_that_are_alike_are_stacked_once_and_counted_on_both_paths():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)
    full = gathered("full", [0, 2, 5, 9], y, x)
    same = gathered("prefix", [0, 2, 5], y[:3].copy(), x[:3].copy())
    decode = gathered("decode", [9], y[3:].copy(), x[3:].copy())
    found = stack([full, same, decode])
    assert [list(g.at) for g in found.groups] == [[0, 1, 2, 3], [0, 1, 2], [4]]
    assert len(found.stored) == len(found.inputs[0]) == 5
    assert [(p, list(r)) for p, r in found.rows] == [("full", [0, 2, 5, 9]), ("decode", [9])]


@pytest.mark.parametrize("what", ["stored", "input", "position", "zero"])
def test_one_bit_or_another_position_is_a_row_of_its_own(what: str):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 3)).astype(np.float32), rng.standard_normal((3, 2)).astype(np.float32)
    x[1, 1] = 0.0
    mine_x, mine_y, positions = x.copy(), y.copy(), [0, 2, 5]
    if what == "stored":
        mine_y.view(np.uint32)[1, 0] ^= 1
    elif what == "input":
        mine_x.view(np.uint32)[1, 2] ^= 1
    elif what == "zero":
        mine_x[1, 1] = -0.0
    else:
        positions = [0, 3, 5]
    found = stack([gathered("full", [0, 2, 5], y, x), gathered("prefix", positions, mine_y, mine_x)])
    assert [list(g.at) for g in found.groups] == [[0, 1, 2], [0, 3, 2]]
    assert np.array_equal(found.stored[3], mine_y[1])
    assert np.array_equal(found.inputs[0][3], mine_x[1])
