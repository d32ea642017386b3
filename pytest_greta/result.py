"""The outcome of one probe: all that a report needs, nothing that a report does not.

``to_plain`` is the one gate through which anything leaves a test item: under xdist a single NumPy scalar in a report
ends the worker. Only str, int, float, bool, None, list and dict come out.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.texts import Text
from pytest_greta.verdict import Verdict

if TYPE_CHECKING:
    from pytest_greta.digest import Digest

RESULT_SCHEMA = 2

NOT_REACHED = "not_reached"
"""The ``not_run_kind`` of a probe that an interrupted session never came to."""

PREPARED = "prepared"
"""That of a probe that ``--collect-only`` only names."""

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
        from pytest_greta.digest import digest

        return digest(self)

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
    found = {}
    for name, convert in converters(cls):
        if name in data:
            value = data[name]
            found[name] = value if convert is None or value is None else convert(value)
    return cls(**found)


Convert = Callable[[Any], Any]


def converters(cls: Any) -> tuple[tuple[str, Convert | None], ...]:
    """Of each field of a dataclass, what makes its value from a plain one; None where the plain one is it."""
    return _converters(cls)


@cache
def _converters(cls: Any) -> tuple[tuple[str, Convert | None], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, _converter(hints[field.name])) for field in dataclasses.fields(cls))


@cache
def _converter(hint: Any) -> Convert | None:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _converter(next(h for h in args if h is not type(None)))
    if origin is Sequence or (origin is tuple and args[1:] == (Ellipsis,)):
        return partial(_tuple, _converter(args[0]))
    if origin is tuple:
        return partial(_fixed, tuple(map(_converter, args)))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return partial(_dataclass, hint)
    if hint is float:
        return _float
    if origin is Mapping and args[1] is float:
        return _numbers
    return None


def _tuple(convert: Convert | None, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value  # rows that are read later
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return tuple(value if convert is None else [x if x is None else convert(x) for x in value])


def _fixed(converts: tuple[Convert | None, ...], value: Any) -> tuple[Any, ...]:
    return tuple(x if c is None or x is None else c(x) for c, x in zip(converts, value, strict=True))


def _dataclass(cls: type[Any], value: Any) -> Any:
    """From a mapping by names, or in a table a list of the fields' values in their order; one that is built stays."""
    if isinstance(value, cls):
        return value
    if not isinstance(value, list):
        return from_plain(cls, value)
    return cls(*(x if c is None or x is None else c(x) for x, (_, c) in zip(value, converters(cls), strict=False)))


def _numbers(value: Any) -> Any:
    return {name: float(number) for name, number in value.items()}


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value  # nan and inf travel as strings in JSON
