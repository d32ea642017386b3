"""Section 8 of the report: H0 or H1, and the seed's evidence tables, every cell of them measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_greta.checks.constants import GAIN_ZERO
from pytest_greta.hypotheses import RunTest
from pytest_greta.report.md import escape, paragraph, table
from pytest_greta.report.messages import Lang, Term, prose, say, truth
from pytest_greta.report.proof import canary_lines, figures, p_text
from pytest_greta.report.text import number
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import SCENARIOS


def hypotheses(results: Sequence[ProbeResult], lang: Lang, test: RunTest) -> list[str]:
    """``test``: that of the whole run."""
    lines = paragraph(f"hypothesis.{test.state}", lang, judged=test.judged, rejecting=len(test.rejecting))
    if test.faults and test.state != "none":
        lines += paragraph("hypothesis.faults", lang)
    for key, values in (*figures(test), *canary_lines(results)):
        lines += paragraph(key, lang, **values)
    kernels: Counter[tuple[str, ...]] = Counter()
    stages = rows = elements = 0
    weights: dict[str, None] = {}
    for result in results:
        if result.verdict is None:
            continue
        evidence = result.verdict.evidence
        stages, rows, elements = stages + evidence.stages, rows + evidence.rows, elements + evidence.elements
        weights |= {evidence.weights: None} if evidence.weights else {}
        for run in evidence.kernels:
            names = ("path", "phase", "library", "kernel", "source")
            kernels[tuple(str(run.get(name, "?")) for name in names)] += int(run.get("calls", 0))
    lines += paragraph(
        "failure.compared",
        lang,
        stages=stages,
        rows=rows,
        elements=elements,
        weights=", ".join(weights) or Term("word.not_measured"),
    )
    if kernels:
        headers = [say(f"word.{w}", lang) for w in ("path", "phase", "library", "kernel", "source", "calls")]
        words = {"library": "word.library_source", "derived": "word.derived"}
        rows_ = (
            [*map(escape, key[:-1]), say(words.get(key[-1], "word.declared_source"), lang), str(calls)]
            for key, calls in sorted(kernels.items())
        )
        lines += table(headers, rows_)
    else:
        lines += paragraph("failure.no_kernels", lang)
    lines += _collected(results, lang)
    if test.judged or test.state == "bytes":
        lines += [*_indicators(results, lang), *_scenarios(results, lang), *_gains(test, lang)]
    return lines


def _gains(test: RunTest, lang: Lang) -> list[str]:
    if not test.gains:
        return []
    zero, zero_attention = GAIN_ZERO
    labels = ("stage", "larger", "smaller", "zero", "median")
    headers = [*(say(f"word.{label}", lang) for label in labels), "p", say("word.after_holm", lang)]
    rows = (
        [g.stage, str(g.positive), str(g.negative), str(g.zero), number(g.median), p_text(g.p), p_text(g.holm)]
        for g in test.gains
    )
    note = paragraph("report.gain_note", lang, zero=f"{zero:g}", zero_attention=f"{zero_attention:g}")
    return [f"### {say('report.gains', lang)}", "", *note, *table(headers, rows)]


def _indicators(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Of the probes without an injected fault, as the summary counts them."""
    found = [r.verdict.indicators.by_key for r in results if r.verdict is not None and not r.fault]
    headers = [say(f"word.{label}", lang) for label in ("indicator", "if_structural", "if_bug", "measured")]
    words = {value: truth(value, lang) for value in (True, False, None)}
    rows = []
    for key in found[0]:
        seen = Counter(indicators[key] for indicators in found)
        measured = ", ".join(f"{word}: {seen[value]}" for value, word in words.items())
        cells = (f"indicator.{key}", f"expected.{key}", f"expected.{key}_bug")
        rows.append([*(say(cell, lang) for cell in cells), measured])
    return [f"### {say('report.indicators_measured', lang)}", "", *table(headers, rows)]


def _scenarios(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    counts = Counter(r.verdict.scenario for r in results if r.verdict is not None and not r.fault)
    headers = [say(f"word.{label}", lang) for label in ("scenario", "evidence", "probes", "interpretation")]
    rows = (
        [escape(name), say(f"scenario.{name}", lang), str(counts[name]), say(f"interpret.{name}", lang)]
        for name in SCENARIOS
    )
    return [f"### {say('report.scenarios_measured', lang)}", "", *table(headers, rows)]


def _collected(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """The three kinds of evidence that the seed's report asks for, and the fourth that decides."""
    own = [r for r in results if r.verdict is not None and not r.fault]
    lines: list[str] = []

    def item(key: str, **values: object) -> None:
        lines.extend(f"- {escape(text)}" for text in prose(f"collected.{key}", lang, **values))

    digests = [r.digest for r in own]
    layers = frozenset[int]().union(*(d.hash_layers for d in digests))
    if hashes := sum(d.hashes for d in digests):
        item("hashes", equal=sum(d.equal for d in digests), compared=hashes, layers=len(layers))
    scores = [d.scores for d in digests if d.scores is not None]
    if scores:
        with_scores = frozenset[int]().union(*(d.score_layers for d in digests))
        item(
            "stats",
            count=len(with_scores),
            layers=len(layers | with_scores),
            low=number(min(low for low, _ in scores)),
            high=number(max(high for _, high in scores)),
            prob=number(max(d.prob for d in digests if d.prob is not None)),
        )
    measured = [r for r in own if r.verdict and r.verdict.indicators.kv_aligned is not None]
    if measured:
        true = sum(bool(r.verdict and r.verdict.indicators.kv_aligned) for r in measured)
        item("kv", true=true, measured=len(measured), prompts=len({r.prompt for r in measured}))
    judged = [r for r in own if r.stages]
    if judged:
        rho = max(r.verdict.rho for r in judged if r.verdict)
        item("rho", rho=number(rho), elements=sum(r.digest.elements for r in judged))
    return [f"### {say('report.evidence_measured', lang)}", "", *lines, ""] if lines else []
