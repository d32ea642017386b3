"""The summary at the end of a run: worst first, 80 columns, in the languages asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_greta.report import pick
from pytest_greta.report.failure import failure_text
from pytest_greta.report.messages import Lang, Term, languages, prose, say, translate
from pytest_greta.report.sentence import reasons
from pytest_greta.report.text import Style, clean, number, plain, shorten, table, wrap, wrap_name
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import ATTENTION_COMPUTATION_MISMATCH, INCONCLUSIVE, PASS

SHOWN = 20
"""Rows of the table; the rest is counted."""

_COLUMNS = {"case": 15, "mode": 11, "verdict": 21, "first": 14, "rho": 7, "dlogit": 7}  # 75 and five spaces


def summary(results: Sequence[ProbeResult], *, lang: Lang, width: int = 80, style: Style = plain) -> str:
    """The whole summary, no line longer than ``width`` columns (80 at least); "" for no results."""
    if not results:
        return ""
    width = max(width, 80)
    judged = [r for r in pick.worst_first(results) if r.outcome != "not_run"]
    shown, folded = judged[:SHOWN], judged[SHOWN:]
    lines: list[str] = []
    for suite, rows in _by_suite(shown).items():
        lines += wrap(f"{say('word.suite', lang)} {suite}", width)
        lines += [*_verdicts(rows, lang, width, style), ""]

    def add(key: str, *, indent: str = "", **values: object) -> None:
        for text in prose(key, lang, **values):
            lines.extend(wrap(text, width, indent, indent + "  "))

    if folded:
        passed = sum(r.outcome == "passed" for r in folded)
        add("summary.folded", count=len(folded), passed=passed, failed=len(folded) - passed)
    _notes(results, add)
    for result in shown:
        if result.verdict is not None and result.verdict.status == INCONCLUSIVE:
            lines += _inconclusive(result, lang, width)
    lines += _indicators(results, lang, width, style)
    session = pick.hypothesis(results)
    add(f"hypothesis.{session.state}", judged=session.judged, rejecting=len(session.rejecting))
    if session.faults:
        add("hypothesis.faults")
    _not_run(results, add)
    counts = Counter(r.outcome for r in results)
    add(
        "summary.counts",
        total=len(results),
        passed=counts["passed"],
        failed=counts["failed"],
        not_run=counts["not_run"],
    )
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def _by_suite(results: Sequence[ProbeResult]) -> dict[str, list[ProbeResult]]:
    groups: dict[str, list[ProbeResult]] = {}
    for result in results:
        groups.setdefault(result.suite, []).append(result)
    return groups


def _verdicts(results: Sequence[ProbeResult], lang: Lang, width: int, style: Style) -> list[str]:
    columns = dict(_COLUMNS)
    spare = width - 80
    wanted = max((len(text) for r in results for text in (r.case, r.variant)), default=0)
    columns["case"] += min(spare, max(0, wanted - columns["case"]))
    keys = ("case", "mode", "verdict", "first_failure", "max_rho", "dlogit")
    headers = []
    for key, column in zip(keys, columns.values(), strict=True):
        order = ("en", "es") if lang == "both" else (lang,)
        words = dict.fromkeys(translate(f"word.{key}", language) for language in order)
        headers.append("\n".join(shorten(word, column) for word in words))
    rows = [_row(result, columns, lang, style) for result in results]
    return table(headers, rows, ("left", "left", "left", "left", "right", "right"))


def _row(result: ProbeResult, columns: dict[str, int], lang: Lang, style: Style) -> list[str]:
    verdict = result.verdict
    case = [shorten(result.case, columns["case"])]
    if result.variant:
        case.append(style(shorten(result.variant, columns["case"]), "dim"))
    role = "bad" if result.outcome == "failed" else "good"
    if verdict is None:
        return ["\n".join(case), result.mode, style(say("word.not_run", lang), role), "", "", ""]
    if pick.is_expected(result) or (verdict.finding == "SUSPECT" and role == "good"):
        role = "warn"
    failure = verdict.first_failure
    first = []
    if failure is not None:
        where = pick.place(failure)
        first = [shorten(where, columns["first"]), clean(failure.phase)]
    return [
        "\n".join(case),
        shorten(result.mode, columns["mode"]),
        "\n".join(style(line, role) for line in _verdict_lines(result, columns["verdict"], lang)),
        "\n".join(first),
        pick.rho_text(verdict),
        number(verdict.drift.max_abs) if verdict.drift else "-",
    ]


def _verdict_lines(result: ProbeResult, columns: int, lang: Lang) -> list[str]:
    verdict = result.verdict
    assert verdict is not None
    scenario = verdict.scenario or ""
    expected = pick.is_expected(result)
    if verdict.status == PASS and len(scenario) + 5 <= columns:
        lines = [f"{verdict.status} {scenario}".rstrip()]
    else:
        lines = [verdict.status]
        if scenario and not (expected and scenario == ATTENTION_COMPUTATION_MISMATCH):
            lines += wrap_name(scenario, columns)
    if verdict.finding != "NONE":
        lines.append(shorten(verdict.finding, columns))
    if expected:
        lines.append(say("word.expected", lang))
    elif pick.is_unexpected(result):
        words = [say("word.unexpected", lang)]
        if lang == "both":
            words = [translate("word.unexpected", language) for language in ("en", "es")]
        lines += words
    return lines


def _notes(results: Sequence[ProbeResult], add: Callable[..., None]) -> None:
    expected = pick.expected_mismatches(results)
    if expected:
        add("summary.expected", count=len(expected), scenario=ATTENTION_COMPUTATION_MISMATCH)
    found = sum(1 for r in results if r.fault and pick.is_expected(r))
    if found:
        add("summary.expected_faults", count=found)
    suspects = sum(1 for r in results if r.verdict is not None and r.verdict.finding == "SUSPECT")
    if suspects:
        add("summary.suspect", count=suspects)


def _inconclusive(result: ProbeResult, lang: Lang, width: int) -> list[str]:
    assert result.verdict is not None
    case, mode = shorten(result.case, 40), shorten(pick.mode_text(result), 40)
    lines = []
    for language in languages(lang):
        reason = shorten("; ".join(reasons(result.verdict, language)) or "?", 400)
        lines += wrap(translate("summary.inconclusive", language, case=case, mode=mode, reason=reason), width, "", "  ")
    return lines


def _indicators(results: Sequence[ProbeResult], lang: Lang, width: int, style: Style) -> list[str]:
    measured = [r.verdict.indicators for r in results if r.verdict is not None and not r.fault]
    if not measured:
        return []
    rows = []
    for key, field in (("k", "k_hash_consistent"), ("v", "v_hash_consistent"), ("kv", "kv_aligned")):
        seen = Counter(getattr(i, field) for i in measured)
        false = str(seen[False])
        rows.append(
            [
                say(f"indicator.{key}", lang),
                str(seen[True]),
                style(false, "bad") if key == "kv" and seen[False] else false,
                str(seen[None]),
            ]
        )
    labels = ("word.indicator", "word.true", "word.false", "word.not_measured")
    headers = [say(label, lang).replace(" / ", "\n") for label in labels]
    lines = ["", *wrap(say("summary.indicators", lang), width, hang="  ")]
    lines += table(headers, rows, ("left", "right", "right", "right"))
    for text in prose("summary.indicators_note", lang):
        lines += wrap(text, width, "", "  ")
    return [*lines, ""]


def _not_run(results: Sequence[ProbeResult], add: Callable[..., None]) -> None:
    groups = Counter((r.not_run_text, r.mend_text) for r in results if r.outcome == "not_run")
    for (reason, mend), count in groups.most_common():
        add("summary.not_run", count=count, reason=reason.map(_short) if reason.en else Term("word.none"))
        if mend.en:
            add("summary.mend", indent="  ", command=mend.map(clean))


def _short(words: str) -> str:
    return shorten(words, 300)


__all__ = ["SHOWN", "failure_text", "summary"]
