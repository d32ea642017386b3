"""Faults inside the kernel: told to the faulty twin of our library, which is loaded for nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol, cast, runtime_checkable

from pytest_greta.backends.base import AttentionBackend, Unsupported
from pytest_greta.cases.model import Inject
from pytest_greta.faults.kinds import BY_NAME, magnitude, planted_in, stage_of
from pytest_greta.texts import text

PHASES = {"prefill": 0, "decode": 1, "both": -1}
"""``greta_phase``; -1 is both."""


@runtime_checkable
class FaultyTwin(Protocol):
    """``greta_faults.h``: -1 stands for all."""

    def set_fault(self, kind: str, phase: int, layer: int, head: int, position: int, magnitude: float) -> None: ...

    def clear_fault(self) -> None: ...

    def fault_fired(self) -> int: ...


def plants_kernel(fault: Inject) -> bool:
    return planted_in(fault) == "kernel"


def name_in_twin(fault: Inject) -> str:
    """The twin has one name for each stage of a kind: ``gain_lse``."""
    return f"{fault.fault}_{stage_of(fault)}" if BY_NAME[fault.fault].stages else fault.fault


def fired(backends: Iterable[AttentionBackend]) -> bool:
    """Whether the fault that is set changed a byte of any result."""
    return any(isinstance(backend, FaultyTwin) and backend.fault_fired() > 0 for backend in backends)


@contextlib.contextmanager
def armed(backends: Iterable[AttentionBackend], fault: Inject | None) -> Iterator[None]:
    """Set a fault inside the kernel in each twin; clear it whatever happens, because the twin stays loaded. Any other
    fault, or none, is not planted here."""
    if fault is None or not plants_kernel(fault):
        yield
        return
    twins: list[FaultyTwin] = []
    for backend in {id(b): b for b in backends}.values():
        if not isinstance(backend, FaultyTwin):
            what = text("backend.library_no_twin", library=backend.describe().name)
            raise Unsupported(f"fault {fault.fault}", what)
        twins.append(cast(FaultyTwin, backend))

    def number(value: int | None) -> int:
        return -1 if value is None else value

    try:
        for twin in twins:
            twin.set_fault(
                name_in_twin(fault),
                PHASES[fault.phase],
                number(fault.layer),
                number(fault.head),
                number(fault.position),
                magnitude(fault),
            )
        yield
    finally:
        for twin in twins:
            twin.clear_fault()
