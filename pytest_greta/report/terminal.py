"""The summary at the end of a run: worst first, 80 columns, in the languages asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_greta.hypotheses import over_run
from pytest_greta.report import pick
from pytest_greta.report.beside import beside_lines
from pytest_greta.report.declared import widest
from pytest_greta.report.messages import Lang, languages, prose, say, translate
from pytest_greta.report.notes import note_text
from pytest_greta.report.proof import canary_lines, figures, rerun_text
from pytest_greta.report.sentence import reasons
from pytest_greta.report.text import Style, clean, number, plain, short_sums, shorten, table, wrap, wrap_name
from pytest_greta.report.text import width as columns_of
from pytest_greta.result import ProbeResult
from pytest_greta.texts import Text
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

    def add(key: str, **values: object) -> None:
        for text in prose(key, lang, **values):
            lines.extend(wrap(text, width, "", "  "))

    if folded:
        _, values = pick.counts(folded)
        add("summary.folded", count=len(folded), **values)
    _notes(results, add)
    lines += _reruns(shown, lang, width)
    for alike in _open(judged):
        if any(alike[0] is result for result in shown):
            lines += _inconclusive(alike, lang, width)
    lines += _indicators(results, lang, width, style)
    test = over_run(results)
    add(f"hypothesis.{test.state}", judged=test.judged, rejecting=len(test.rejecting))
    if test.faults and test.state != "none":
        add("hypothesis.faults")
    for key, values in figures(test):
        add(key, **values)
    for priced in widest(results)[:SHOWN]:
        add("declared.widest", **priced)
    for key, values in canary_lines(results):
        add(key, **values)
    lines += _not_run(results, lang, width)
    key, values = pick.counts(results)
    add(key, **values)
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def _by_suite(results: Sequence[ProbeResult]) -> dict[str, list[ProbeResult]]:
    groups: dict[str, list[ProbeResult]] = {}
    for result in results:
        groups.setdefault(result.suite, []).append(result)
    return groups


def _verdicts(results: Sequence[ProbeResult], lang: Lang, width: int, style: Style) -> list[str]:
    """The names get what the other columns leave of the line."""
    columns = dict(_COLUMNS)
    room = width - max(map(columns_of, _table(results, columns, lang, plain)))
    wanted = max((columns_of(text) for r in results for text in (clean(r.case), clean(r.variant))), default=0)
    used = max((columns_of(shorten(text, columns["case"])) for r in results for text in (r.case, r.variant)), default=0)
    columns["case"] = max(columns["case"], min(wanted, used + room))
    return _table(results, columns, lang, style)


def _table(results: Sequence[ProbeResult], columns: dict[str, int], lang: Lang, style: Style) -> list[str]:
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
    if pick.is_expected(result) or result.outcome == "xfailed" or (verdict.finding == "SUSPECT" and role == "good"):
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
    for mark in pick.marks(result):
        word = say(mark, lang)
        lines += [word] if columns_of(word) <= columns else word.split(" / ")
    return lines


def _notes(results: Sequence[ProbeResult], add: Callable[..., None]) -> None:
    expected = pick.expected_mismatches(results)
    if expected:
        add("summary.expected", count=len(expected), scenario=ATTENTION_COMPUTATION_MISMATCH)
    unasserted = sum(map(pick.is_unasserted, results))
    if unasserted:
        add("summary.unasserted", count=unasserted)
    found = sum(1 for r in results if r.fault and pick.is_expected(r))
    if found:
        add("summary.expected_faults", count=found)
    suspects = sum(1 for r in results if r.verdict is not None and r.verdict.finding == "SUSPECT")
    if suspects:
        add("summary.suspect", count=suspects)
    races = sum(1 for r in results if r.verdict is not None and r.verdict.finding == "NONDETERMINISTIC")
    if races:
        add("summary.nondeterministic", count=races)
    details = Counter(
        r.verdict.first_failure.detail
        for r in results
        if r.verdict is not None and r.verdict.finding == "SCHEDULE" and r.verdict.first_failure is not None
    )
    partly = sum(any(row.get("way") == "beside" for row in r.verdict.evidence.ways) for r in results if r.verdict)
    if partly:
        add("summary.companions", count=partly)
    for key, values in beside_lines(results):
        add(key, **values)
    for detail, count in details.items():
        add("summary.schedule", count=count, detail=Text(note_text(detail, "en"), note_text(detail, "es")))


def _reruns(results: Sequence[ProbeResult], lang: Lang, width: int) -> list[str]:
    """What the reruns of suspects said."""
    lines = []
    for result in results:
        name = f"{shorten(result.case, 40)} {shorten(pick.mode_text(result), 40)}"
        for rerun in result.verdict.evidence.reruns if result.verdict else ():
            for said in rerun_text(rerun).lines(lang):
                lines += wrap(f"{name}: {said}", width, "  ", "    ")
    return lines


def _open(results: Sequence[ProbeResult]) -> list[list[ProbeResult]]:
    """The inconclusive ones, those of one reason together."""
    groups: dict[tuple[str, ...], list[ProbeResult]] = {}
    for result in results:
        if result.verdict is not None and result.verdict.status == INCONCLUSIVE:
            groups.setdefault(tuple(reasons(result.verdict, "en")), []).append(result)
    return list(groups.values())


def _inconclusive(alike: Sequence[ProbeResult], lang: Lang, width: int) -> list[str]:
    """Why, once for all ``alike``."""
    result, *others = alike
    assert result.verdict is not None
    case, mode = shorten(result.case, 40), shorten(pick.mode_text(result), 40)
    lines = []
    said = {language: short_sums("; ".join(reasons(result.verdict, language)) or "?") for language in languages(lang)}
    if len(set(said.values())) < len(said):  # words of a library, an exception: the same in both, so said once
        label = say("word.inconclusive", lang)
        named = f"{label}: {len(alike)}" if others else f"{label}: {case} {mode}"
        return wrap(f"{named}: {shorten(said['en'], 400)}", width, "", "  ")
    for language, words in said.items():
        values = {"case": case, "mode": mode, "reason": shorten(words, 400)}
        key = "summary.inconclusive_alike" if others else "summary.inconclusive"
        lines += wrap(translate(key, language, count=len(alike), **values), width, "", "  ")
    return lines


def _indicators(results: Sequence[ProbeResult], lang: Lang, width: int, style: Style) -> list[str]:
    measured = [r.verdict.indicators.by_key for r in results if r.verdict is not None and not r.fault]
    if all(value is None for found in measured for value in found.values()):
        return []
    rows = []
    for key in measured[0]:
        seen = Counter(found[key] for found in measured)
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


def _not_run(results: Sequence[ProbeResult], lang: Lang, width: int) -> list[str]:
    """A line a reason, and the command that mends it; said once where both languages would say the same words."""
    groups = Counter((r.not_run_text, r.mend_text) for r in results if r.outcome == "not_run")
    lines = []
    for (reason, mend), count in groups.most_common():
        words = (
            reason.map(_short) if reason.en else Text(*(translate("word.none", language) for language in ("en", "es")))
        )
        if words.en == words.es:
            said = [f"{say('word.not_run', lang)}: {count}, {words.en}"]
        else:
            said = prose("summary.not_run", lang, count=count, reason=words)
        lines += [line for text in said for line in wrap(text, width, "", "  ")]
        if mend.en:
            command = mend.map(clean)
            once = [f"{say('word.mend', lang)}: {command.en}"] if command.en == command.es else []
            said = once or prose("summary.mend", lang, command=command)
            lines += [line for text in said for line in wrap(text, width, "  ", "    ")]
    return lines


def _short(words: str) -> str:
    return shorten(words, 300)
