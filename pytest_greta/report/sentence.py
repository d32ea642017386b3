"""The verdict of one probe in one sentence."""

from __future__ import annotations

from pytest_greta.report.beside import worse_text
from pytest_greta.report.messages import known, translate
from pytest_greta.report.notes import note_text
from pytest_greta.report.pick import is_regression, layer_text
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import DRIFT_REGRESSION, INCONCLUSIVE, FirstFailure, Verdict


def sentence(result: ProbeResult, language: str) -> str:
    """One line in one language, without the verdict's name."""
    verdict = result.verdict
    if verdict is None:
        return translate("verdict.not_run", language, reason=result.not_run_text.map(clean) if result.not_run else "?")
    if verdict.status == INCONCLUSIVE or verdict.scenario is None:
        return translate("verdict.INCONCLUSIVE", language, reason="; ".join(reasons(verdict, language)) or "?")
    failure = verdict.first_failure
    regression = is_regression(result)
    return translate(
        f"verdict.{DRIFT_REGRESSION}" if regression else f"verdict.{verdict.scenario}",
        language,
        **({"worse": worse_text(result, language)} if regression else {}),
        layer=layer_text(failure.layer) if failure else "?",
        stage=clean(failure.stage) if failure else "?",
        phase=phase_text(failure.phase, language) if failure else "?",
    )


def phase_text(phase: str, language: str) -> str:
    return translate("word.both_phases", language) if phase == "both" else clean(phase)


def _plain(value: object) -> str:
    """Sequences as words, not as Python writes them."""
    return ", ".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)


def reasons(verdict: Verdict, language: str) -> list[str]:
    """Why nothing could be concluded, one entry each: the breaches, or free words (a crash, an exception)."""
    said = []
    for breach in verdict.evidence.breaches:
        key = f"breach.{breach.key}"
        values = {name: clean(_plain(value)) for name, value in breach.values.items()}
        said.append(translate(key, language, **values) if known(key) else clean(f"{breach.key} {values or ''}").strip())
    words = (verdict.reason_es if language == "es" else "") or verdict.reason
    return list(dict.fromkeys(said)) or ([clean(words)] if words else [])


def pattern_text(failure: FirstFailure, language: str) -> str:
    """Which elements are wrong, in one line and language; "" where nothing can be said of it."""
    said = (f"pattern.{p.key}" for p in failure.pattern)
    return "; ".join(
        translate(key, language, **p.values) for key, p in zip(said, failure.pattern, strict=True) if known(key)
    )


def located_text(failure: FirstFailure, language: str) -> str:
    """Between which taps, in which pattern, what fits and the likeliest cause, in one line; "" where there is none."""
    if not failure.after:
        return ""
    taps = {"after": clean(" + ".join(failure.after)), "stage": clean(failure.stage)}
    between = f"{translate('word.between', language)} {translate('failure.between', language, **taps)}"
    cause = next((translate(key, language) for key in failure.causes if known(key)), "")
    said = (between, pattern_text(failure, language), clean(note_text(failure.detail, language)), cause)
    return "; ".join(part for part in said if part)
