"""The outcome of one probe: all that a report needs, nothing that a report does not.

``to_plain`` is the one gate through which anything leaves a test item: under xdist a single NumPy scalar in a report
ends the worker. Only str, int, float, bool, None, list and dict come out.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.texts import Text
from pytest_greta.verdict import Verdict

RESULT_SCHEMA = 1

NOT_REACHED = "not_reached"
"""The ``not_run_kind`` of a probe that an interrupted session never came to."""

T = TypeVar("T")


@dataclass(frozen=True)
class AttentionStat:
    """min / max / mean of one layer's scores (before softmax) or probs (after), over the checked rows of one path."""

    layer: int
    stage: Literal["scores", "probs"]
    path: str
    min: float
    max: float
    mean: float
    source: str = "derived"


@dataclass(frozen=True)
class ProbeResult:
    """One probe. ``verdict`` is None where it was not run; then ``not_run`` says why and ``mend`` what would change
    it."""

    suite: str
    case: str
    probe: str
    mode: str
    variant: str
    nodeid: str
    where: str
    """file:line of the case."""
    outcome: Literal["passed", "failed", "not_run"]
    expected: str
    """What the case expects, in the words of its YAML."""
    verdict: Verdict | None = None
    not_run: str = ""
    not_run_kind: str = ""
    """model, library, device, extra, feature, not_reached."""
    mend: str = ""
    not_run_es: str = ""
    mend_es: str = ""
    """``not_run`` and ``mend`` in Spanish."""
    prompt: str = ""
    n_tokens: int = 0
    fault: str = ""
    reproduce: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[StageCheck, ...] = ()
    bytes: tuple[ByteCheck, ...] = ()
    stats: tuple[AttentionStat, ...] = ()
    roundings: Mapping[str, Any] = field(default_factory=dict)
    """What the library declares of its arithmetic, by phase."""
    prices: tuple[Price, ...] = ()
    sees: tuple[Sees, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    worker: str = ""
    shard: str = ""
    """``2/3`` where the run was one of several parts (``merge.SHARD``)."""
    seconds: float = 0.0
    schema: int = RESULT_SCHEMA

    @property
    def not_run_text(self) -> Text:
        return Text(self.not_run, self.not_run_es or self.not_run)

    @property
    def mend_text(self) -> Text:
        return Text(self.mend, self.mend_es or self.mend)


def to_plain(value: Any) -> Any:
    """Dataclasses, mappings, sequences and NumPy scalars to str, int, float, bool, None, list and dict.

    Raises ``TypeError`` for anything else, an array included: an array in a report is a mistake.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain in (str, int, float):  # subclasses too: numpy.float64 is a float, and must not leave as one
        if isinstance(value, plain):
            return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        return to_plain(item())
    raise TypeError(f"{type(value).__name__} cannot leave a probe; convert it first")


def from_plain(cls: type[T], data: Mapping[str, Any]) -> T:
    """The inverse of ``to_plain`` for a dataclass. Unknown keys are ignored, so that old readers read new files."""
    hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: _build(hints[k], v) for k, v in data.items() if k in known})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        return _build(inner[0], value)
    if origin is tuple:
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], v) for v in value)
        return tuple(_build(h, v) for h, v in zip(args, value, strict=True))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_plain(hint, value)
    if hint is float and isinstance(value, str):
        return float(value)  # nan and inf travel as strings in JSON
    return value
