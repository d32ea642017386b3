"""``<run>/prefill|decode/logits.jsonl[.gz]``: the logits of one run, two files walked side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.compare import drift_of
from pytest_greta.checks.result import ByteCheck
from pytest_greta.decide import inconclusive
from pytest_greta.lineage import metadata
from pytest_greta.lineage.parsing import LineError, parse
from pytest_greta.result import ProbeResult
from pytest_greta.trace.lines import lines
from pytest_greta.trace.stages import MODEL
from pytest_greta.verdict import (
    ALIGNED,
    ATTENTION_COMPUTATION_MISMATCH,
    KV_MISMATCH,
    PASS,
    REAL_MISMATCH,
    Breach,
    Drift,
    Evidence,
    FirstFailure,
    Verdict,
)

NAMES = ("logits.jsonl.gz", "logits.jsonl")
PHASES = ("prefill", "decode")
_SHOWN = 3


class Token(NamedTuple):
    position: int
    token: int
    logits: NDArray[np.float64]


def runs(folder: Path) -> list[Path]:
    """Folders below ``folder`` with logits, or a ``metadata.json``, in ``prefill`` or ``decode``."""
    wanted = (*NAMES, metadata.FILE)
    found = {p.parent.parent for name in wanted for p in folder.rglob(name) if p.parent.name in PHASES}
    return sorted(found | {p for p in folder.rglob("seed_*") if p.is_dir()})


def judge_run(run: Path, folder: Path, mode: str, suite: str) -> ProbeResult:
    breaches: list[Breach] = []
    files = {phase: next((run / phase / n for n in NAMES if (run / phase / n).is_file()), None) for phase in PHASES}
    for phase, path in files.items():
        if path is None:
            breaches.append(Breach("logits_missing", {"path": str(run / phase / NAMES[0])}))
    said = {phase: metadata.read(run / phase / metadata.FILE) for phase in PHASES}
    breaches += [breach for _, unread in said.values() for breach in unread]
    about = {phase: values for phase, (values, _) in said.items() if values}
    breaches += metadata.apart(about) if len(about) == len(PHASES) else []
    left, right = (_tokens(path, breaches) if path else iter(()) for path in files.values())
    name = run.relative_to(folder).as_posix()
    verdict, check = _walk(left, right, mode, breaches)
    if verdict.status == PASS and _same_lines(*(path for path in files.values() if path)):
        same = Breach("same_run")
        evidence = replace(verdict.evidence, breaches=(*verdict.evidence.breaches, same))
        verdict = inconclusive(replace(verdict, evidence=evidence), (same,))
    where = str(files["decode"] or files["prefill"] or run)
    outcome: Any = "passed" if verdict.status == PASS else "failed"
    result = ProbeResult(suite, name, mode, mode, "", f"{suite}::{name}::{mode}", where, outcome, "", verdict)
    return replace(result, bytes=(check,) if check.rows else (), environment=about)


def _same_lines(left: Path, right: Path) -> bool:
    """Both files hold the same bytes, packed or not: a decode that gives the prefill's file shows nothing."""
    both = zip_longest(lines(left), lines(right))
    return all(one is not None and other is not None and one[1] == other[1] for one, other in both)


def _walk(
    left: Iterator[Token], right: Iterator[Token], mode: str, breaches: list[Breach]
) -> tuple[Verdict, ByteCheck]:
    full, decode = next(left, None), next(right, None)
    rows = elements = unpaired = 0
    differs: list[int] = []
    failure: FirstFailure | None = None
    drift: Drift | None = None
    while decode is not None:
        if full is not None and full.position < decode.position:
            full = next(left, None)
            continue
        if full is None or full.position > decode.position:
            unpaired += 1
            if unpaired == 1:
                where = {"position": decode.position, "other": "-" if full is None else full.position}
                breaches.append(Breach("logits_unpaired", where))
            decode = next(right, None)
            continue
        rows, elements = rows + 1, elements + len(decode.logits)
        phase, cause = _broken(full, decode)
        if cause:
            failure = failure or FirstFailure(MODEL, "logits", phase, (decode.position,), causes=(cause,))
        elif not np.array_equal(full.logits, decode.logits):
            if len(differs) < 10_000:
                differs.append(decode.position)
            here = drift_of(full.logits, decode.logits)
            drift = here if drift is None or here.max_abs > drift.max_abs else drift
        full, decode = next(left, None), next(right, None)
    for _ in left:  # what is wrong with the rest of the file is said too
        pass
    apart = drift.max_abs if drift else 0.0
    check = ByteCheck(MODEL, "logits", "", "full", "decode", "", "", rows, tuple(differs), apart)
    if not rows:
        breaches.append(Breach("nothing_compared"))
    evidence = Evidence(stages=min(rows, 1), rows=rows, elements=elements, breaches=tuple(breaches))
    base = Verdict(PASS, ALIGNED, mode=mode, evidence=evidence, drift=drift)
    if failure:
        mismatch = replace(base, status=KV_MISMATCH, scenario=REAL_MISMATCH, hypothesis="H1")
        return replace(mismatch, first_failure=failure), check
    if differs and mode == "as_designed":
        first = FirstFailure(MODEL, "logits", "decode", tuple(differs), causes=("cause.as_designed",))
        return replace(base, status=KV_MISMATCH, scenario=ATTENTION_COMPUTATION_MISMATCH, first_failure=first), check
    if differs:
        where = {"stage": "logits", "layer": MODEL, "position": differs[0], "apart": f"{apart:.3g}"}
        breaches.insert(0, Breach("no_reference", where))
    return (inconclusive(base, tuple(breaches)) if breaches else base), check


def _broken(full: Token, decode: Token) -> tuple[str, str]:
    if full.token != decode.token:
        return "decode", "cause.other_token"
    if len(full.logits) != len(decode.logits):
        return "decode", "cause.shape"
    for phase, row in (("prefill", full.logits), ("decode", decode.logits)):
        if not np.isfinite(row).all():
            return phase, "cause.not_finite"
        if row.min() == row.max():
            return phase, "cause.constant_row" if row[0] else "cause.dead_row"
    return "", ""


def _tokens(path: Path, breaches: list[Breach]) -> Iterator[Token]:
    """The records of a file, ascending; what is wrong goes into ``breaches``."""
    bad = 0
    last = -1
    count = 0
    for number, line in lines(path):
        where = f"{path}:{number}"
        try:
            if isinstance(line, Breach):
                raise LineError(line.key, **line.values)
            token = _token(parse(line), last)
        except LineError as error:
            bad += 1
            if bad <= _SHOWN:
                breaches.append(Breach(error.breach.key, {"where": where, **error.breach.values}))
            continue
        last, count = token.position, count + 1
        yield token
    if not count:
        breaches.append(Breach("logits_empty", {"path": str(path)}))


def _token(record: dict[str, Any], last: int) -> Token:
    for name in ("token_idx", "token_id"):
        if type(record.get(name)) is not int or (name == "token_idx" and record[name] <= last):
            raise LineError("line_whole", name=name, found=repr(record.get(name))[:80])
    values = record.get("logits")
    try:
        row = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        row = np.zeros(0)
    if type(values) is not list or row.ndim != 1 or not row.size or any(type(v) is str for v in values):
        raise LineError("line_numbers", name="logits", found=repr(values)[:80])
    return Token(record["token_idx"], record["token_id"], row)
