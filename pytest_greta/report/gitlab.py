"""GitLab: the failures as a code quality report, which a merge request shows at the YAML line.

Format: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pytest_greta.report.messages import Lang
from pytest_greta.report.pick import mode_text, title, worst_first
from pytest_greta.report.sentence import sentence
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.texts import languages
from pytest_greta.verdict import INCONCLUSIVE

FILE = "gl-code-quality-report.json"
PROJECT = "CI_PROJECT_DIR"
"""Environment: what paths in the report are relative to."""


def code_quality(results: Sequence[ProbeResult], lang: Lang, base: Path, project: Path | None) -> bytes:
    """JSON of the failures, worst first; an empty list where there are none, which clears what an earlier run said."""
    failed = [r for r in worst_first(results) if r.outcome == "failed"]
    return orjson.dumps([_issue(r, lang, base, project) for r in failed], option=orjson.OPT_INDENT_2) + b"\n"


def _identity(result: ProbeResult) -> bytes:
    """One test with the fixture may hold several probes, each by a name of its own."""
    return "\n".join((result.nodeid, result.case, result.probe)).encode("utf-8", "backslashreplace")


def _issue(result: ProbeResult, lang: Lang, base: Path, project: Path | None) -> dict[str, Any]:
    file, _, line = result.where.rpartition(":")
    words = " / ".join(dict.fromkeys(clean(sentence(result, language)) for language in languages(lang)))
    inconclusive = result.verdict is None or result.verdict.status == INCONCLUSIVE
    return {
        "description": f"{title(result)}: {clean(result.case)} {clean(mode_text(result))}: {words}",
        "check_name": f"greta.{result.mode}",
        "fingerprint": hashlib.sha256(_identity(result)).hexdigest(),
        "severity": "major" if inconclusive else "critical",
        "location": {
            "path": clean(os.path.relpath(base / file, project) if project is not None else file),
            "lines": {"begin": int(line) if line.isdecimal() else 1},
        },
    }
