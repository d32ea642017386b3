"""The outcome of one probe: all that a report needs, nothing that a report does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.digest import Digest, digest
from pytest_greta.texts import Text
from pytest_greta.verdict import Verdict

RESULT_SCHEMA = 2

NOT_REACHED = "not_reached"
"""The ``not_run_kind`` of a probe that an interrupted session never came to."""

PREPARED = "prepared"
"""That of a probe that ``--collect-only`` only names."""


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
class Beside:
    """A result beside its entry in the baseline."""

    file: str
    state: Literal["same", "worse", "better", "new", "recorded"]
    """``new``: there is no entry. ``recorded``: it is to be written, as ``entry`` has it."""
    was: str = ""
    """The entry's verdict."""
    worse: tuple[Text, ...] = ()
    """What got worse, the first in stage order first."""
    differs: tuple[str, ...] = ()
    """``version: 0.1 -> 0.2``: what the entry was made with otherwise."""
    alien: bool = False
    """What differs forbids to compare more than right with wrong."""
    entry: Mapping[str, Any] = field(default_factory=dict)


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
    outcome: Literal["passed", "failed", "not_run", "xfailed"]
    """``xfailed``: failed, as its mark ``xfail`` says."""
    expected: str
    """What the case expects, in the words of its YAML."""
    verdict: Verdict | None = None
    not_run: str = ""
    not_run_kind: str = ""
    """model, library, device, extra, feature, mark, not_reached."""
    mend: str = ""
    not_run_es: str = ""
    mend_es: str = ""
    """``not_run`` and ``mend`` in Spanish."""
    prompt: str = ""
    n_tokens: int = 0
    fault: str = ""
    reproduce: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[StageCheck] = ()
    bytes: Sequence[ByteCheck] = ()
    stats: Sequence[AttentionStat] = ()
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
    baseline: Beside | None = None
    """None where no baseline was given, or none of its business: not run, no verdict, a planted fault."""
    schema: int = RESULT_SCHEMA

    @cached_property
    def digest(self) -> Digest:
        """What reports over many results ask of the rows; made once, since the rows may have to be read again."""
        return digest(self.stages, self.bytes, self.stats)

    @property
    def not_run_text(self) -> Text:
        return Text(self.not_run, self.not_run_es or self.not_run)

    @property
    def mend_text(self) -> Text:
        return Text(self.mend, self.mend_es or self.mend)
