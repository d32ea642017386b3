"""What a failing probe prints, in 80 columns. The first and the last line each carry the verdict, whatever their
length: other tools quote one of them. So does the command to reproduce it: wrapped, it could not be pasted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_greta.checks.result import StageCheck, Worst
from pytest_greta.report import pick
from pytest_greta.report.beside import worse_text
from pytest_greta.report.declared import price_lines
from pytest_greta.report.messages import Lang, Term, each, known, languages, prose, say, translate, truth
from pytest_greta.report.notes import note_text
from pytest_greta.report.proof import canary_text, p_text, rerun_text
from pytest_greta.report.sentence import pattern_text, reasons, sentence
from pytest_greta.report.text import clean, number, short_sums, shorten, wrap
from pytest_greta.report.unmet import Unmet, contract, unmet
from pytest_greta.report.ways import way_texts
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import ATTENTION_STAGES
from pytest_greta.verdict import FirstFailure

_LISTED = 8
"""Positions and heads shown before "and N more"."""
_COLUMNS = 80
_QUOTED = 100
"""Columns of a reason in the last line."""
_LIBRARY_STAGES = ("kv_read", *ATTENTION_STAGES)


def failure_text(result: ProbeResult, lang: Lang = "both") -> str:
    """Plain text of several lines; the first names status, scenario, ``path:line``, case, mode, layer, stage, phase."""
    verdict = result.verdict
    lines = [headline(result, lang)]
    if verdict is None or (not verdict.evidence.stages and not verdict.evidence.kernels and not result.stages):
        lines += _nothing_ran(result, lang)
    else:
        lines += [*_unmet(result, lang), *_verdict(result, lang)]
    if result.reproduce:
        lines += [f"  {say('word.reproduce', lang)}", f"    {clean(result.reproduce)}"]
    return "\n".join([*lines, _last(result, lang)])


def headline(result: ProbeResult, lang: Lang = "both") -> str:
    """``<STATUS> <SCENARIO> path:line case mode: layer L stage S phase``; of a PASS that is none, what is wrong."""
    language: Lang = "es" if lang == "es" else "en"
    title = pick.title(result)
    if broken := contract(result):
        title = f"{say('failure.contract_head', language, contract=broken)} ({title})"
    elif pick.is_unexpected(result):
        title = f"{say('word.unexpected', language).upper()} {title}"
    text = f"{title} {clean(result.where)} {clean(result.case)} {clean(pick.mode_text(result))}"
    failure = result.verdict.first_failure if result.verdict else None
    if failure is None:
        return text
    layer = "" if failure.layer < 0 else say("failure.head_layer", language, layer=failure.layer) + " "
    stage = say("failure.head_stage", language, stage=clean(failure.stage))
    return f"{text}: {layer}{stage} {_phase(failure.phase, language)}"


def _nothing_ran(result: ProbeResult, lang: Lang) -> list[str]:
    """Why, and what would change that. There is no measurement to show."""
    verdict = result.verdict
    if result.not_run:
        said = result.not_run_text.map(clean).lines(lang)
    else:
        said = each(lambda language: "; ".join(reasons(verdict, language)) if verdict else "", lang)
    lines = [line for text in said if text for line in _wrapped(f"{say('word.reason', lang)}: {short_sums(text)}")]
    if result.mend:
        mends = result.mend_text.map(clean).lines(lang)
        lines += [line for text in mends for line in _wrapped(f"{say('word.mend', lang)}: {text}")]
    return lines


def _unmet(result: ProbeResult, lang: Lang) -> list[str]:
    """What the case expects and did not get, and the contract that was broken."""
    lines: list[str] = []
    for language in languages(lang):
        for missed in unmet(result):
            lines += _wrapped(translate("failure.unmet", language, **_words(missed, language)))
        if broken := contract(result):
            lines += _wrapped(_contract(result, broken, language))
        if result.baseline is not None and result.baseline.worse:
            values = {"file": clean(result.baseline.file), "worse": worse_text(result, language)}
            lines += _wrapped(translate("failure.baseline", language, **values))
    if not lines and pick.is_unexpected(result):
        lines = [line for text in prose("failure.missed", lang) for line in _wrapped(text)]
    return lines


def _words(missed: Unmet, language: str) -> dict[str, str]:
    key = f"word.{missed.name.removesuffix('s') if missed.name in ('positions', 'heads') else missed.name}"
    name = f"{translate(key, language)} " if missed.name else ""
    between = ", " if missed.name in ("positions", "heads") else f" {translate('word.or', language)} "
    found = clean(missed.found).replace(", ", " ") if not missed.name else clean(missed.found)
    wanted = name + between.join(map(clean, missed.wanted))
    return {"wanted": wanted, "found": found or translate("word.nothing", language)}


def _contract(result: ProbeResult, broken: str, language: str) -> str:
    if broken != "bitwise":
        return translate(f"failure.contract_{broken}", language, contract=broken)
    differing = [check for check in result.bytes if not check.equal]
    if not differing:
        return translate("failure.contract", language, contract=broken)
    first = min(differing, key=pick.in_order)
    values = {"stage": clean(first.stage), "layer": pick.layer_text(first.layer), "position": first.differs[0]}
    sides = {"left": clean(first.left), "right": clean(first.right)}
    return translate("failure.contract_at", language, contract=broken, **values, **sides)


def _verdict(result: ProbeResult, lang: Lang) -> list[str]:
    verdict = result.verdict
    assert verdict is not None
    lines: list[str] = []

    told = verdict.finding == "NONE" or pick.is_regression(result)  # the title names a regression
    finding = "" if told else f", {say('word.finding', lang)}: {verdict.finding}"
    mark = next((f" ({say(word, lang)})" for word in pick.marks(result) if word != "word.unexpected"), "")
    lines += _field("word.verdict", pick.title(result) + mark + finding, lang)
    for reason in dict.fromkeys(reason for language in languages(lang) for reason in reasons(verdict, language)):
        lines += _field("word.reason", short_sums(reason), lang)
    if result.fault:
        lines += _field("word.fault", clean(result.fault), lang)
    if verdict.first_failure is not None:
        lines += _first_failure(result, verdict.first_failure, lang)
    if verdict.drift is not None:
        drift = verdict.drift
        top1 = say("word.true" if drift.top1_agrees else "word.false", lang)
        lines += _field(
            "word.dlogit",
            f"max {number(drift.max_abs)}, p99 {number(drift.p99_abs)}, KL {number(drift.kl)}; "
            f"{say('word.top1', lang)}: {top1}; {say('word.margin', lang)}: {number(drift.margin)}",
            lang,
        )
    lines.append(f"  {say('word.indicators', lang)}")
    for key, value in verdict.indicators.by_key.items():
        lines += _wrapped(f"{say(f'indicator.{key}', lang)}: {truth(value, lang)}", "    ")
    hypothesis = say("word.open", lang) if verdict.hypothesis == "open" else clean(verdict.hypothesis)
    p = "" if verdict.p_value is None else f" (p {p_text(verdict.p_value)})"
    lines += _field("word.hypothesis", hypothesis + p, lang)
    return [*lines, *_evidence(result, lang)]


def _place(failure: FirstFailure, worst: Worst | None, lang: Lang) -> list[str]:
    """Layer, stage, between which taps, phase, rows, heads, pages, and the pattern that they make."""
    lines: list[str] = []

    lines += _field("word.layer", say("failure.where_model", lang) if failure.layer < 0 else str(failure.layer), lang)
    lines += _field("word.stage", clean(failure.stage), lang)
    if failure.after:
        taps = {"after": clean(" + ".join(failure.after)), "stage": clean(failure.stage)}
        for text in prose("failure.between", lang, **taps):
            lines += _field("word.between", text, lang)
    lines += _field("word.phase", _phase(failure.phase, lang), lang)
    place = _some(failure.positions, lang) or (str(worst.position) if worst and worst.position >= 0 else "")
    lines += _field("word.position", place or say("word.no_head", lang), lang)
    lines += _field("word.head", _some(failure.heads, lang) or say("word.no_head", lang), lang)
    if failure.pages:
        lines += _field("word.page", _some((f"{block}: {page}" for block, page in failure.pages), lang), lang)
    if failure.pattern:
        for text in each(lambda language: pattern_text(failure, language), lang):
            lines += _field("word.pattern", text, lang)
    return lines


def _first_failure(result: ProbeResult, failure: FirstFailure, lang: Lang) -> list[str]:
    check = pick.guilty_check(result)
    worst = check.worst if check is not None else None
    lines = _place(failure, worst, lang)

    if failure.rho or check is not None:
        # of the table's column "max rho" this is only one: that of the first stage that fails
        lines += _labelled(f"rho ({say('word.rho_first', lang)})", _limit(failure.rho, lang), lang)
    if worst is not None:
        at = f"{say('word.position', lang)} {worst.position}" if worst.position >= 0 else say("word.tiny_row", lang)
        if worst.head is not None:
            at += f", {say('word.head', lang)} {worst.head}"
        if worst.index is not None:
            at += f", [{worst.index}]"
        lines += _field("word.worst", at, lang)
        for label in ("stored", "reference", "error", "bound"):
            lines.append(f"    {say('word.' + label, lang):<{_width(lang) - 2}} {getattr(worst, label):.9g}")
    for label, value in zip(("word.hashes", ""), _hashes(result, failure, lang), strict=False):
        lines += _labelled(say(label, lang) if label else "", value, lang)
    for note in dict.fromkeys(note for note in (failure.detail, check.note if check else "") if note):
        for text in each(lambda language, note=note: clean(note_text(note, language)), lang):
            lines += _field("word.detail", text, lang)
    causes = [cause for cause in _causes(failure, check) if known(cause)]
    if causes:
        lines.append(f"  {say('word.causes', lang)}")
        for cause in causes:
            first, *more = prose(cause, lang)
            lines += wrap(first, _COLUMNS, "    - ", "      ")
            for text in more:
                lines += _wrapped(text, "      ")
    return lines


def _limit(rho: float, lang: Lang) -> str:
    return say("failure.limit", lang, rho=number(rho))


def _causes(failure: FirstFailure, check: StageCheck | None) -> tuple[str, ...]:
    """The likely causes; where what was stored is not even a number, that comes before any guess."""
    worst = check.worst if check is not None else None
    if worst is None or math.isfinite(worst.stored) or not math.isfinite(worst.reference):
        return failure.causes
    first = "cause.library_not_finite" if failure.stage in _LIBRARY_STAGES else "cause.not_finite"
    return (first, *(cause for cause in failure.causes if cause.startswith("who.")))


def _hashes(result: ProbeResult, failure: FirstFailure, lang: Lang) -> list[str]:
    """The byte comparison of the failing stage in the failing phase; without one, what the verdict holds."""
    check = pick.differing(result.bytes, failure.layer, failure.stage, failure.phase)
    if check is not None:
        return [f"{clean(check.left)} {clean(check.left_hash)}", f"{clean(check.right)} {clean(check.right_hash)}"]
    if failure.hashes:
        return [f"full {clean(failure.hashes[0])}", f"{clean(failure.phase)} {clean(failure.hashes[1])}"]
    return [say("word.not_measured", lang)]


def _evidence(result: ProbeResult, lang: Lang) -> list[str]:
    assert result.verdict is not None
    evidence = result.verdict.evidence
    weights = short_sums(clean(evidence.weights)) or Term("word.not_measured")
    canary = canary_text(evidence)
    keepers = {"library": Term("word.library_source"), "engine": Term("word.engine")}
    cache = keepers.get(evidence.cache, clean(evidence.cache))
    counts = {"stages": evidence.stages, "rows": evidence.rows, "elements": evidence.elements}
    said = prose("failure.compared", lang, weights=weights, **counts)
    said += prose("failure.canary", lang, canary=canary, cache=cache)
    if evidence.repeats or evidence.zeros:
        said += prose("failure.further", lang, repeats=evidence.repeats, zeros=evidence.zeros)
    if not evidence.kernels:
        said += prose("failure.no_kernels", lang)
    said += [kernel_text(row, lang) for row in evidence.kernels]
    said += price_lines(result, lang)
    for texts in zip(*(way_texts(result.verdict, language) for language in languages(lang)), strict=True):
        said += dict.fromkeys(texts)
    said += [line for rerun in evidence.reruns for line in rerun_text(rerun).lines(lang)]
    return [
        f"  {say('word.evidence', lang)}",
        *(line for text in said for line in wrap(text, _COLUMNS, "    ", " " * 6)),
    ]


def kernel_text(row: Mapping[str, Any], lang: Lang) -> str:
    """One row of ``Evidence.kernels``."""
    source = "word.library_source" if row.get("source", "library") == "library" else "word.declared_source"
    values = {k: clean(str(row.get(k, "?"))) for k in ("path", "phase", "library", "kernel", "calls")}
    place = "{path} ({phase}): {library} / {kernel}, {calls}".format(**values)
    return f"{place} {say('word.calls', lang)}, {say(source, lang)}"


def _phase(phase: str, lang: Lang) -> str:
    return say("word.both_phases", lang) if phase == "both" else clean(phase)


def _some(values: Iterable[object], lang: Lang) -> str:
    values = list(values)
    text = ", ".join(str(v) for v in values[:_LISTED])
    if len(values) > _LISTED:
        text += " " + say("failure.more", lang, count=len(values) - _LISTED)
    return text


def _last(result: ProbeResult, lang: Lang) -> str:
    title = pick.title(result)
    verdict = result.verdict
    if verdict is None or verdict.scenario is None:  # the title says already that there is no verdict
        words = result.not_run_text.map(clean).lines(lang) if result.not_run else []
        if verdict is not None and not words:
            words = each(lambda language: "; ".join(reasons(verdict, language)), lang)
        return f"{title}: " + " / ".join(shorten(word, _QUOTED) for word in words or ["?"])
    said = " / ".join(each(lambda language: sentence(result, language), lang))
    if broken := contract(result):
        title = f"{say('failure.contract_head', 'es' if lang == 'es' else 'en', contract=broken)} ({title})"
    return f"{title}: {said}"


def _width(lang: Lang) -> int:
    return 35 if lang == "both" else 20


def _field(key: str, value: str, lang: Lang) -> list[str]:
    return _labelled(say(key, lang), value, lang)


def _labelled(label: str, value: str, lang: Lang) -> list[str]:
    """``label value``, the values below each other; what is too long goes on below the value."""
    start = f"  {label.ljust(_width(lang))} "
    if not value:
        return [start.rstrip()]
    return wrap(value, _COLUMNS, start, " " * len(start))


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return wrap(text, _COLUMNS, indent, indent + "  ")
