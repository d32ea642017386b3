"""A probe case as its YAML file states it, with the line of every key for the messages.

Nothing here imports NumPy: collection must stay cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_greta.texts import SaidError, Text, join

MODES: tuple[str, ...] = ("as_designed", "kv_aligned")


@dataclass(frozen=True)
class Where:
    """A place in a case file; line and column count from 1."""

    path: Path
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class OptionError(SaidError):
    """An option asks for what the model of a case does not have."""


class CaseError(SaidError):
    """A case file is wrong. The text is complete: place, key, what was expected, the nearest valid name.

    ``message`` is the English text without the place.
    """

    def __init__(self, where: Where, problem: Text) -> None:
        super().__init__(join(": ", str(where), problem))
        self.where = where
        self.problem = problem
        self.message = problem.en


@dataclass(frozen=True)
class Prompt:
    """Exactly one of the four is set."""

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    random_tokens: int | None = None
    file: Path | None = None
    """Where ``text`` came from, for ``prompt_file``."""

    @property
    def known_length(self) -> int | None:
        """Its tokens, where no model is needed to count them."""
        return self.random_tokens if self.token_ids is None else len(self.token_ids)


@dataclass(frozen=True)
class Inject:
    """A fault to plant. ``phase``: prefill, decode or both. What a kind does not use stays None."""

    fault: str
    phase: str = "decode"
    layer: int | None = None
    stage: str | None = None
    head: int | None = None
    position: int | None = None
    magnitude: float | None = None


@dataclass(frozen=True)
class Expect:
    """What the verdict must be. Every field that is not None must match; a tuple means "one of".

    ``accept``: statuses or scenarios, any of which will do (``expect: PASS`` or a list).
    """

    accept: tuple[str, ...] = ()
    status: tuple[str, ...] | None = None
    scenario: tuple[str, ...] | None = None
    finding: tuple[str, ...] | None = None
    first_failure: Mapping[str, Any] | None = None
    reason: str | None = None
    """Required where INCONCLUSIVE is expected: a part of the reason."""


@dataclass(frozen=True)
class Case:
    """One case, before its matrix is expanded.

    ``settings`` are the scalar keys after ``defaults`` were merged in (model, backend, dtype, kv_dtype, page_size,
    seed, layers, steps, gemm, schedule, context, timeout, contract ...), ``matrix`` the keys with a list of values,
    ``mode`` included, ``expect`` by mode.
    """

    id: str
    suite: str
    where: Where
    prompt: Prompt
    modes: tuple[str, ...]
    settings: Mapping[str, Any]
    matrix: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    inject: Inject | None = None
    expect: Mapping[str, Expect] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    name: str
    path: Path
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Probe:
    """One cell of a case's matrix: what one pytest item runs.

    ``id`` is stable and has no brackets: ``kv_aligned`` or ``kv_aligned-bf16-page_size=16``. ``variant`` is what
    follows the mode. ``settings`` hold every key of the schema with its value or default.
    """

    id: str
    mode: str
    variant: str
    case: Case
    settings: Mapping[str, Any]
    expect: Expect
