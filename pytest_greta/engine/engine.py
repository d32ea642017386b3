"""What runs a plan, and what is known of it before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_greta.backends.base import Description, Numerics
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource, StageSpec
from pytest_greta.trace.records import Trace


@dataclass(frozen=True)
class Engine:
    """Our decoder around attention libraries, or a model that runs itself.

    ``descriptions`` and ``numerics`` by phase: what computes attention, and what it declares. ``model_numerics``: of
    everything else. ``trace`` makes the runs of a plan. ``identity``: two engines of one identity find the same.
    """

    source: ModelSource
    stages: tuple[StageSpec, ...]
    descriptions: Mapping[str, Description]
    numerics: Mapping[str, Numerics]
    model_numerics: Numerics
    trace: Callable[[RunPlan], Trace]
    identity: tuple[Any, ...]
    declared: Callable[[RunPlan], Mapping[str, Numerics]] | None = None
    """``numerics`` of another plan, where they depend on it (its lengths choose the kernel); None: the same."""


OwnEngine = Callable[[Any, RunPlan], Engine]
"""Of a model that runs itself: from what a case says of its ``backend``, and a plan. Raises ``Unsupported`` for what
the plan asks of it in vain."""
