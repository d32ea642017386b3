"""``<SUITE>_FINAL_REPORT.md``: the seed's report, every line of it measured. What was not measured says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_greta.hypotheses import RunTest, over_run
from pytest_greta.report import pick
from pytest_greta.report.beside import beside_lines, worse_text
from pytest_greta.report.declared import declared
from pytest_greta.report.hypotheses import hypotheses
from pytest_greta.report.md import block, code, escape, paragraph, table
from pytest_greta.report.measured import LISTED, attention, environment, hashes, indicators
from pytest_greta.report.messages import Lang, each, languages, prose, say, translate
from pytest_greta.report.modes import modes_compared
from pytest_greta.report.proof import rerun_text
from pytest_greta.report.sentence import located_text, reasons, sentence
from pytest_greta.report.text import number, shorten
from pytest_greta.report.ways import way_texts
from pytest_greta.result import NOT_REACHED, PREPARED, ProbeResult
from pytest_greta.verdict import ATTENTION_COMPUTATION_MISMATCH, DRIFT_REGRESSION, INCONCLUSIVE, SCENARIOS, Verdict

Section = Callable[[Sequence[ProbeResult], Lang], list[str]]

_STATES = {"failed": "FAIL", "passed": "PASS", "xfailed": "XFAIL"}
"""Of a suite, by the outcomes of its probes: the first of these that there is."""


def final_report(
    results: Sequence[ProbeResult],
    *,
    suite: str,
    date: str,
    author: str = "",
    lang: Lang = "both",
    analysis_file: str = "",
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> str:
    """The whole report of one suite.

    ``date`` ISO; ``author`` free text; ``analysis_file``: where rows that are left out here can be read; ``notes``:
    sentences for the summary, what the results could not say; ``files``: what the run wrote.
    """
    ordered = pick.worst_first(results)
    modes = ", ".join(sorted({r.mode for r in results})) or "-"
    lines = [f"# {say('report.title', lang, suite=escape(suite))}", ""]
    for label, value in (
        ("word.date", escape(date)),
        ("word.author", escape(author) or "-"),
        ("word.mode", escape(modes)),
        ("word.status", _overall(results, lang)),
        ("word.run", ", ".join(sorted({code(r.run_id) for r in results if r.run_id})) or "-"),
    ):
        title = " / ".join(word.capitalize() for word in say(label, lang).split(" / "))
        lines.append(f"**{title}**: {value}  ")
    lines += ["", "---", ""]
    test = over_run(results)
    sections: tuple[Section, ...] = (
        lambda r, la: _executive(r, la, test, notes),
        modes_compared,
        lambda r, la: _by_mode(r, la, analysis_file),
        _side_by_side,
        indicators,
        lambda r, la: hashes(r, la, analysis_file),
        attention,
        _interpretation,
        lambda r, la: hypotheses(r, la, test),
        lambda r, la: _conclusion(r, la, test),
        _recommendation,
        lambda r, la: _reproduce(r, la, files),
        lambda r, la: environment(r, la) + declared(r, la),
    )
    for index, section in enumerate(sections, 1):
        lines += [f"## {index}. {say(f'report.{index}', lang)}", ""]
        lines += section(ordered, lang) or paragraph("report.not_measured", lang)
    lines += ["---", "", f"**{say('report.signed', lang)}**: {escape(author) or '-'}, {escape(date)}", ""]
    return "\n".join(line for i, line in enumerate(lines) if line or not i or lines[i - 1])


def is_prepared(results: Sequence[ProbeResult]) -> bool:
    """Nothing was to be run: what would be is listed (``--collect-only``)."""
    return bool(results) and all(result.not_run_kind == PREPARED for result in results)


def _overall(results: Sequence[ProbeResult], lang: Lang) -> str:
    if is_prepared(results):
        return f"PREPARED_FOR_EXECUTION (0 / {len(results)})"
    counts: Counter[str] = Counter(r.outcome for r in results)
    ran = [word for outcome, word in _STATES.items() if counts[outcome]]
    state = ran[0] if ran else say("word.not_run", lang)
    if ran and state != "FAIL" and any(r.not_run_kind == NOT_REACHED for r in results):
        state = "INTERRUPTED"  # what was not reached may have failed
    xfailed = f", {say('word.xfailed', lang)}: {counts['xfailed']}" if counts["xfailed"] else ""
    return f"{state} ({counts['passed']} / {len(results)}){xfailed}"


def _executive(results: Sequence[ProbeResult], lang: Lang, session: RunTest, notes: Sequence[str]) -> list[str]:
    if is_prepared(results):
        return paragraph("prepared.summary", lang, count=len(results))
    key, counts = pick.counts(results)
    lines = paragraph(key, lang, **counts)
    lines += paragraph(f"hypothesis.{session.state}", lang, judged=session.judged, rejecting=len(session.rejecting))
    unasserted = sum(map(pick.is_unasserted, results))
    if unasserted:
        lines += paragraph("summary.unasserted", lang, count=unasserted)
    for key, values in beside_lines(results):
        lines += paragraph(key, lang, **{name: escape(str(value)) for name, value in values.items()})
    for note in notes:
        lines += [f"- {escape(note)}"]
    return [*lines, ""] if notes else lines


def _by_mode(results: Sequence[ProbeResult], lang: Lang, analysis_file: str) -> list[str]:
    lines = []
    labels = ("case", "variant", "verdict", "finding", "first_failure", "max_rho", "dlogit", "outcome")
    headers = [say(f"word.{label}", lang) for label in labels]
    for number_, mode in enumerate(sorted({r.mode for r in results}), 1):
        of_mode = [r for r in results if r.mode == mode]
        lines += [f"### 3.{number_} {say('word.mode', lang)}: {escape(mode)}", ""]
        lines += table(headers, (_row(r, lang) for r in of_mode[:LISTED]))
        if len(of_mode) > LISTED:
            lines += paragraph(
                "report.folded", lang, count=len(of_mode) - LISTED, file=analysis_file or "results.jsonl"
            )
        for result in of_mode[:LISTED]:
            lines += _explained(result, lang)
        lines.append("")
    return lines


def _row(result: ProbeResult, lang: Lang) -> list[str]:
    verdict, failure = result.verdict, result.verdict.first_failure if result.verdict else None
    outcome = say((pick.marks(result) or [f"word.{result.outcome}"])[0], lang)
    if result.fault:
        outcome += f" ({say('word.fault', lang)}: {escape(result.fault)})"
    return [
        escape(result.case),
        escape(result.variant),
        escape(pick.title(result)) if verdict else say("word.not_run", lang),
        verdict.finding if verdict else "",
        f"{escape(pick.place(failure))} {escape(failure.phase)}" if failure else "",
        pick.rho_text(verdict) if verdict else "",
        number(verdict.drift.max_abs) if verdict and verdict.drift else say("word.not_measured", lang),
        outcome,
    ]


def _explained(result: ProbeResult, lang: Lang) -> list[str]:
    """Lines for what the table has no column for: why inconclusive or not run, where it fails, how it was reached."""
    verdict = result.verdict
    name = f"{escape(result.case)} {escape(pick.mode_text(result))}"
    way = each(lambda language: "; ".join(way_texts(verdict, language)), lang)
    failure = verdict.first_failure if verdict else None
    located = each(lambda language: located_text(failure, language), lang) if failure else []
    return _why(result, name, lang) + [f"- {name}: {escape(text)}" for text in (*located, *way) if text]


def _why(result: ProbeResult, name: str, lang: Lang) -> list[str]:
    verdict = result.verdict
    if verdict is not None and verdict.status == INCONCLUSIVE:
        said = each(lambda language: "; ".join(reasons(verdict, language)), lang)
        return [f"- {name}: {escape(text)}" for text in said]
    if verdict is not None and verdict.evidence.reruns:
        said = list(dict.fromkeys(t for rerun in verdict.evidence.reruns for t in rerun_text(rerun).lines(lang)))
        return [f"- {name}: {escape(text)}" for text in said]
    if result.baseline is not None and result.baseline.worse:
        said = each(lambda language: worse_text(result, language), lang)
        return [f"- {name}: {escape(text)}" for text in said]
    if result.outcome == "not_run" and result.not_run_kind != PREPARED:
        mend = (
            [f"  {escape(text)}" for text in prose("summary.mend", lang, command=result.mend_text)]
            if result.mend
            else []
        )
        return [f"- {name}: {escape(' / '.join(result.not_run_text.lines(lang)))}", *mend]
    return []


def _side_by_side(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    cases: dict[tuple[str, str], dict[str, ProbeResult]] = {}
    for result in results:
        cases.setdefault((result.case, result.variant), {})[result.mode] = result
    both = {key: modes for key, modes in cases.items() if {"as_designed", "kv_aligned"} <= modes.keys()}
    if not both:
        return []
    labels = ("case", "variant", "prompt", "tokens")
    headers = [say(f"word.{w}", lang) for w in labels] + ["as_designed", "kv_aligned", say("word.max_rho", lang)]

    def cell(result: ProbeResult) -> str:
        failure = result.verdict.first_failure if result.verdict else None
        where = f" ({escape(pick.place(failure))})" if failure else ""
        expected = "".join(f", {say(mark, lang)}" for mark in pick.marks(result))
        return escape(pick.title(result)) + where + expected

    rows = []
    for (case, variant), modes in list(both.items())[:LISTED]:
        aligned = modes["kv_aligned"]
        rho = pick.rho_text(aligned.verdict) if aligned.verdict else say("word.not_measured", lang)
        prompt = [code(shorten(aligned.prompt, 40)), str(aligned.n_tokens or "")]
        rows.append([escape(case), escape(variant), *prompt, cell(modes["as_designed"]), cell(aligned), rho])
    return paragraph("report.side_note", lang) + table(headers, rows)


def _interpretation(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Structural or real, one sentence a probe that is not simply aligned; equal sentences are counted."""
    lines = []
    for language in languages(lang):
        said = Counter(f"{escape(pick.title(r))}: {escape(sentence(r, language))}" for r in results if r.verdict)
        lines += [f"**{language.upper()}**", ""] if len(languages(lang)) > 1 else []
        shown = said.most_common(LISTED)
        lines += [f"- {text}" + (f" ({count})" if count > 1 else "") for text, count in shown]
        lines.append("")
    return lines if any(r.verdict for r in results) else []


def _conclusion(results: Sequence[ProbeResult], lang: Lang, session: RunTest) -> list[str]:
    inconclusive = sum(1 for r in results if r.verdict and r.verdict.status == INCONCLUSIVE)
    lines: list[str] = []
    for language in languages(lang):
        values: dict[str, object] = {"judged": session.judged, "rejecting": len(session.rejecting)}
        if session.rejecting:
            first = session.rejecting[0]
            values |= {"case": escape(first.case), "mode": escape(pick.mode_text(first))}
            values["sentence"] = escape(sentence(first, language))
        said = [translate(f"report.conclusion.{session.state}", language, **values)]
        expected = pick.expected_mismatches(results)
        if expected:
            about = {"count": len(expected), "scenario": escape(ATTENTION_COMPUTATION_MISMATCH)}
            said.append(translate("report.conclusion.expected", language, **about))
        if inconclusive:
            said.append(translate("report.conclusion.inconclusive", language, count=inconclusive))
        mark = f"**{language.upper()}** " if len(languages(lang)) > 1 else ""
        lines += [mark + " ".join(said), ""]
    return lines


def _recommendation(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    counts = Counter(_recommended(r.verdict, r) for r in results if r.verdict and not r.fault)
    lines = []
    for name in (*SCENARIOS, DRIFT_REGRESSION, INCONCLUSIVE):
        if counts[name]:
            lines += paragraph(f"recommend.{name}", lang, count=counts[name])
    if is_prepared(results):
        return paragraph("prepared.recommend", lang)
    not_run = sum(r.outcome == "not_run" for r in results)
    if not_run:
        lines += paragraph("recommend.not_run", lang, count=not_run)
    return lines


def _recommended(verdict: Verdict, result: ProbeResult) -> str:
    return DRIFT_REGRESSION if pick.is_regression(result) else verdict.scenario or verdict.status


def _reproduce(results: Sequence[ProbeResult], lang: Lang, files: Sequence[str]) -> list[str]:
    commands = dict.fromkeys(r.reproduce for r in results if r.reproduce)
    if not commands:
        return paragraph("report.no_reproduce", lang)
    lines = block("\n".join(list(commands)[:LISTED]))
    if files:
        lines += [f"### {say('report.files', lang)}", "", *block("\n".join(files[:LISTED]))]
    return lines
