"""What a failing probe prints. The first and the last line each carry the verdict: other tools quote one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_greta.report import pick
from pytest_greta.report.messages import Lang, Term, known, languages, prose, say, truth
from pytest_greta.report.sentence import reasons, sentence
from pytest_greta.report.text import clean, number
from pytest_greta.result import ProbeResult

_LISTED = 8
"""Positions and heads shown before "and N more"."""


def failure_text(result: ProbeResult, lang: Lang = "both") -> str:
    """Plain text of several lines; the first names status, scenario, ``path:line``, case, mode, layer, stage, phase."""
    lines = [headline(result)]

    def field(label: str, value: str) -> None:
        lines.append(f"  {_label(label, lang)} {value}")

    verdict = result.verdict
    if verdict is None:
        for reason in result.not_run_text.map(clean).lines(lang):
            field("word.reason", reason)
        if result.mend:
            lines += [f"  {text}" for text in prose("summary.mend", lang, command=result.mend_text.map(clean))]
        return "\n".join([*lines, _last(result, lang)])

    finding = f", {say('word.finding', lang)}: {verdict.finding}" if verdict.finding != "NONE" else ""
    expected = f" ({say('word.expected', lang)})" if pick.is_expected(result) else ""
    field("word.verdict", pick.title(result) + expected + finding)
    if result.expected:
        lines += [f"  {text}" for text in prose("failure.expected", lang, expected=clean(result.expected))]
    if pick.is_unexpected(result):
        lines += [f"  {text}" for text in prose("failure.missed", lang)]
    for reason in dict.fromkeys(reason for language in languages(lang) for reason in reasons(verdict, language)):
        field("word.reason", reason)
    if result.fault:
        field("word.fault", clean(result.fault))
    if verdict.first_failure is not None:
        lines += _first_failure(result, lang)
    if verdict.drift is not None:
        drift = verdict.drift
        top1 = say("word.true" if drift.top1_agrees else "word.false", lang)
        field(
            "word.dlogit",
            f"max {number(drift.max_abs)}, p99 {number(drift.p99_abs)}, KL {number(drift.kl)}; "
            f"{say('word.top1', lang)}: {top1}; {say('word.margin', lang)}: {number(drift.margin)}",
        )
    found = verdict.indicators
    values = (("k", found.k_hash_consistent), ("v", found.v_hash_consistent), ("kv", found.kv_aligned))
    lines.append(f"  {say('word.indicators', lang)}")
    lines += [f"    {say(f'indicator.{key}', lang)}: {truth(value, lang)}" for key, value in values]
    field("word.hypothesis", verdict.hypothesis)
    lines += _evidence(result, lang)
    if result.reproduce:
        field("word.reproduce", clean(result.reproduce))
    lines.append(_last(result, lang))
    return "\n".join(lines)


def _width(lang: Lang) -> int:
    return 29 if lang == "both" else 18


def _label(key: str, lang: Lang) -> str:
    return say(key, lang).ljust(_width(lang))


def headline(result: ProbeResult) -> str:
    """``<STATUS> <SCENARIO> path:line case mode: layer L stage S phase``"""
    failure = result.verdict.first_failure if result.verdict else None
    text = f"{pick.title(result)} {clean(result.where)} {clean(result.case)} {clean(pick.mode_text(result))}"
    if failure is None:
        return text
    layer = "" if failure.layer < 0 else f"layer {failure.layer} "
    return f"{text}: {layer}stage {clean(failure.stage)} {clean(failure.phase)}"


def _first_failure(result: ProbeResult, lang: Lang) -> list[str]:
    assert result.verdict is not None
    failure = result.verdict.first_failure
    assert failure is not None
    check = pick.guilty_check(result)
    worst = check.worst if check is not None else None
    rows: list[tuple[str, str]] = [
        ("word.layer", say("failure.where_model", lang) if failure.layer < 0 else str(failure.layer)),
        ("word.stage", clean(failure.stage)),
        ("word.phase", clean(failure.phase)),
        ("word.position", _some(failure.positions, lang) or (str(worst.position) if worst else "")),
        ("word.head", _some(failure.heads, lang)),
    ]
    out = [f"  {_label(label, lang)} {value or say('word.none', lang)}" for label, value in rows]
    if failure.rho or check is not None:
        limit = say("failure.limit", lang, rho=number(failure.rho))
        out.append(f"  {'rho':<{_width(lang)}} {limit}")
    if worst is not None:
        at = f"{say('word.position', lang)} {worst.position}"
        if worst.head is not None:
            at += f", {say('word.head', lang)} {worst.head}"
        if worst.index is not None:
            at += f", [{worst.index}]"
        out.append(f"  {_label('word.worst', lang)} {at}")
        for label in ("stored", "reference", "error", "bound"):
            out.append(f"    {say('word.' + label, lang):<{_width(lang) - 2}} {getattr(worst, label):.9g}")
    out.append(f"  {_label('word.hashes', lang)} {_hashes(result, lang)}")
    if failure.detail:
        out.append(f"  {_label('word.detail', lang)} {clean(failure.detail)}")
    if check is not None and check.note and check.note != failure.detail:
        out.append(f"  {_label('word.detail', lang)} {clean(check.note)}")
    causes = [c for c in failure.causes if known(c)]
    if causes:
        out.append(f"  {say('word.causes', lang)}")
        for cause in causes:
            first, *more = prose(cause, lang)
            out += [f"    - {first}", *(f"      {text}" for text in more)]
    return out


def _hashes(result: ProbeResult, lang: Lang) -> str:
    """Of the first failure, else of the byte comparison of its stage."""
    assert result.verdict is not None
    failure = result.verdict.first_failure
    assert failure is not None
    for check in result.bytes:
        if (check.layer, check.stage) == (failure.layer, failure.stage):
            left, right = failure.hashes or (check.left_hash, check.right_hash)
            return f"{clean(check.left)} {clean(left)}, {clean(check.right)} {clean(right)}"
    if failure.hashes:
        return f"full {clean(failure.hashes[0])}, {clean(failure.phase)} {clean(failure.hashes[1])}"
    return say("word.not_measured", lang)


def _evidence(result: ProbeResult, lang: Lang) -> list[str]:
    assert result.verdict is not None
    evidence = result.verdict.evidence
    out = [f"  {say('word.evidence', lang)}"]
    out += [
        f"    {text}"
        for text in prose(
            "failure.compared",
            lang,
            stages=evidence.stages,
            rows=evidence.rows,
            elements=evidence.elements,
            weights=clean(evidence.weights) or Term("word.not_measured"),
        )
    ]
    out += [
        f"    {t}" for t in prose("failure.canary", lang, canary=clean(evidence.canary), cache=clean(evidence.cache))
    ]
    if not evidence.kernels:
        out += [f"    {text}" for text in prose("failure.no_kernels", lang)]
    out += [f"    {kernel_text(row, lang)}" for row in evidence.kernels]
    return out


def kernel_text(row: Mapping[str, Any], lang: Lang) -> str:
    """One row of ``Evidence.kernels``."""
    source = "word.library_source" if row.get("source", "library") == "library" else "word.declared_source"
    values = {k: clean(str(row.get(k, "?"))) for k in ("path", "phase", "library", "kernel", "calls")}
    return prose("failure.path", "en" if lang == "both" else lang, source=Term(source), **values)[0]


def _some(values: Iterable[int], lang: Lang) -> str:
    values = list(values)
    text = ", ".join(str(v) for v in values[:_LISTED])
    if len(values) > _LISTED:
        text += " " + say("failure.more", lang, count=len(values) - _LISTED)
    return text


def _last(result: ProbeResult, lang: Lang) -> str:
    title = pick.title(result)
    return f"{title}: " + " / ".join(dict.fromkeys(sentence(result, language) for language in languages(lang)))
