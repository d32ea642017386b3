"""A library whose kernel addresses the cache wrongly, over the real engine: its read function shows nothing, and yet
the verdict names what it read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_greta.backends.base import Batch
from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.probing import judge, judge_trace
from pytest_greta.trace.sidecar import load_sidecar, save_sidecar

LAYER = 3
PROMPT = "The quick brown fox jumps over the lazy dog."
Wrong = Callable[[Any, int, Batch, Any], tuple[int, Batch]]
"""(session, layer, batch, q) -> the layer and batch that the kernel works with."""


class Library:
    """The CPU library, whose decode kernel of layer 3 is given something else."""

    def __init__(self, wrong: Wrong) -> None:
        self.inner = open_backends("cpu", extra={}, base=Path())["prefill"]
        self.wrong = wrong

    def describe(self):
        return self.inner.describe()

    def device_count(self) -> int:
        return self.inner.device_count()

    def open(self, config):
        return Session(self.inner.open(config), self.wrong)


class Session:
    def __init__(self, inner: Any, wrong: Wrong) -> None:
        self.inner, self.wrong = inner, wrong

    def attend(self, layer, phase, batch, q, k_new=None, v_new=None):
        asked = layer
        if phase == "decode" and layer == LAYER:
            asked, batch = self.wrong(self.inner, layer, batch, q)
        return self.inner.attend(asked, phase, batch, q, k_new, v_new)

    def __getattr__(self, name: str):
        return getattr(self.inner, name)


def last(values, new):
    values = values.copy()
    values[-1] = new
    return values


def another_layer(session, layer, batch, q):
    return 1, batch


def another_sequence(session, layer, batch, q):
    return layer, replace(batch, seq_ids=last(batch.seq_ids, 0)) if len(batch.seq_ids) > 1 else batch


def no_table(session, layer, batch, q):
    return layer, replace(batch, block_table=last(batch.block_table, np.arange(batch.block_table.shape[1])))


def ids_off_by_one(session, layer, batch, q):
    return layer, replace(batch, block_table=last(batch.block_table, (batch.block_table[-1] + 1) % 6))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    ("wrong", "settings", "cause"),
    [
        (another_layer, {}, "cause.layer"),
        (another_sequence, {"ways": Ways(companions=(50,))}, "cause.sequence"),
        (no_table, {"page_size": 16, "ways": Ways(companions=(20,))}, "cause.page"),
        (no_table, {"page_size": 16, "ways": Ways(left_pad=5)}, "cause.page"),
        (ids_off_by_one, {"page_size": 16}, "cause.page"),
    ],
)
def test_what_the_kernel_read_is_named(wrong, settings, cause, dtype):
    source = load_source("synthetic")
    plan = RunPlan(tuple(source.tokenizer.encode(PROMPT)), act_dtype=dtype, kv_dtype=dtype, **settings)
    library = Library(wrong)
    verdict = judge(source, plan, {"prefill": library, "decode": library}, "kv_aligned").verdict
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", "REAL_MISMATCH")
    failure = verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase) == (LAYER, "lse", "decode")
    assert failure.causes[0] == cause, failure.detail


def test_a_stored_trace_names_it_too(tmp_path):
    """What lay beside the rows goes into the sidecar."""
    source = load_source("synthetic")
    plan = RunPlan(tuple(source.tokenizer.encode(PROMPT)), ways=Ways(companions=(50,), left_pad=3))
    library = Library(another_sequence)
    judged = judge(source, plan, {"prefill": library, "decode": library}, "kv_aligned")
    save_sidecar(tmp_path / "x.safetensors", judged.trace)
    trace = load_sidecar(tmp_path / "x.safetensors")
    for path, found in judged.trace.paths.items():
        assert trace.paths[path].beside.keys() == found.beside.keys()
        for key, tap in found.beside.items():
            assert tap.values.tobytes() == trace.paths[path].beside[key].values.tobytes()
    kept = {key.part for key in trace.paths["decode"].beside if key.stage == "kv_read"}
    assert kept == {"k.seq0", "v.seq0", "k.pad", "v.pad"}
    described = {phase: library.describe() for phase in ("prefill", "decode")}
    again = judge_trace(trace, source, described, judged.numerics, "kv_aligned").verdict.first_failure
    assert again == judged.verdict.first_failure
    assert again is not None
    assert again.causes[0] == "cause.sequence"


def test_rows_that_were_rolled_back_are_kept_and_named():
    """The kernel sees the rows of other tokens that a rollback should have made it forget."""
    kept: dict[str, Any] = {}

    def left_behind(session, layer, batch, q):
        kept["now"] = session.kv_read(layer, 0, 20, 4)
        session.kv_load(layer, 0, 20, *kept["before"])
        return layer, batch

    class Forgetful(Library):
        def open(self, config):
            return ForgetfulSession(self.inner.open(config), self.wrong)

    class ForgetfulSession(Session):
        def kv_trim(self, seq, length):
            kept.setdefault("before", self.inner.kv_read(LAYER, seq, length, 4))
            self.inner.kv_trim(seq, length)

        def attend(self, layer, phase, batch, q, k_new=None, v_new=None):
            result = (
                super().attend(layer, phase, batch, q, k_new, v_new)
                if "before" in kept or layer != LAYER
                else (self.inner.attend(layer, phase, batch, q, k_new, v_new))
            )
            if "now" in kept:  # its read function shows nothing of it
                self.inner.kv_load(layer, 0, 20, *kept.pop("now"))
            return result

    source = load_source("synthetic")
    ways = Ways(reuse=Reuse(prefix=20, rollback=4))
    plan = RunPlan(tuple(source.tokenizer.encode(PROMPT)), ways=ways)
    library = Forgetful(left_behind)
    judged = judge(source, plan, {"prefill": library, "decode": library}, "kv_aligned")
    failure = judged.verdict.first_failure
    assert failure is not None
    assert judged.verdict.scenario == "REAL_MISMATCH"
    assert (failure.layer, failure.stage, failure.causes[0]) == (LAYER, "lse", "cause.stale"), failure.detail
