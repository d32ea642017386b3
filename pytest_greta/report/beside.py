"""What results say of a baseline, in lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_greta.report import pick
from pytest_greta.report.text import clean, shorten
from pytest_greta.result import ProbeResult

_NAMED = 5


def beside_lines(results: Sequence[ProbeResult]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys of the catalogue and their values: of a run that compared; none of one that did not."""
    known = [(result, result.baseline) for result in results if result.baseline is not None]
    compared = [(r, b) for r, b in known if b.state in ("same", "worse", "better")]
    if compared:
        counts = Counter(b.state for _, b in compared)
        yield "summary.baseline", {"compared": len(compared), "worse": counts["worse"], "better": counts["better"]}
    kinds = Counter((b.alien, ", ".join(map(clean, b.differs))) for _, b in compared if b.differs)
    for (alien, differs), count in kinds.most_common(_NAMED):
        yield "summary.baseline_alien" if alien else "summary.baseline_changed", {"count": count, "differs": differs}
    for state in ("better", "new"):
        names = [_name(r) for r, b in known if b.state == state]
        if names:
            more = f" (+{len(names) - _NAMED})" if len(names) > _NAMED else ""
            yield f"summary.baseline_{state}", {"count": len(names), "names": ", ".join(names[:_NAMED]) + more}


def _name(result: ProbeResult) -> str:
    return f"{shorten(result.case, 40)} {shorten(pick.mode_text(result), 40)}"


def worse_text(result: ProbeResult, language: str) -> str:
    """What got worse, in one line and language."""
    worse = result.baseline.worse if result.baseline else ()
    return clean("; ".join(said.es if language == "es" else said.en for said in worse)) or "?"
